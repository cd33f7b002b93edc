"""The command guard's state machine: the last word on what reaches the actuators. No ROS, no clock of its own.

    DISARMED --arm--> ARMED --disarm--> DISARMED      any --stop--> STOPPED --reset--> DISARMED

Commands pass only while ARMED; STOPPED is latched, so that nothing but a deliberate reset leaves it. The safe
action of an effort interface is zero effort. Times are in s, of one clock; in lockstep `now` is None, which
leaves out everything that needs a clock: lateness, staleness and the watchdog.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError

FLAGS = {
    "ok": "sent as wished",
    "limited": "sent, cut to a limit",
    "late": "sent, but its moment had already begun",
    "stale": "refused: its moment is too far from now",
    "invalid": "refused: not finite or of the wrong size",
    "timeout": "safe action: the controller is silent",
    "disarmed": "refused: not armed",
    "stopped": "refused: stopped until reset",
}


@dataclass(frozen=True)
class GuardConfig:
    """Settings of the guard. Periods are control periods."""

    timeout: float = option(2.0, "silence after which the safe action is sent", unit="periods", low=1.0, high=1000.0)
    late_tolerance: float = option(
        0.0,
        "how far past its stamp a command is still in time; negative leaves time for the way to the actuators",
        unit="periods",
        low=-1.0,
        high=1.0,
    )
    stale_after: float = option(
        3.0, "distance of a command's stamp from now beyond which it is refused", unit="periods", low=1.0, high=1000.0
    )
    rate_limit: float = option(
        2.0,
        "largest change from one command to the next as a multiple of the effort limit; 2 is any",
        low=1e-3,
        high=2.0,
    )
    invalid_limit: int = option(5, "invalid commands in a row that latch a stop", low=1, high=1000)

    def __post_init__(self) -> None:
        validate(self)


class GuardState(Enum):
    """What the guard lets pass."""

    DISARMED = "disarmed"
    ARMED = "armed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Decision:
    """What to send to the actuators now.

    Attributes:
        effort: (nu,) N or N m, always finite and within the limits.
        flag: a key of FLAGS.
        reason: for people; empty where the flag is 'ok'.
    """

    effort: np.ndarray
    flag: str
    reason: str


class Guard:
    """Turns wishes into efforts that may be sent.

    Attributes:
        state: the state it is in.
        counts: decisions so far by flag.
    """

    config_class = GuardConfig

    def __init__(self, config: GuardConfig, effort_limit: np.ndarray, dt: float) -> None:
        """Start disarmed.

        Args:
            config: settings.
            effort_limit: largest effort either way (nu,), N or N m.
            dt: control period in s.

        Raises:
            ConfigError: a limit or the period is not finite and positive.
        """
        self._limit = np.array(effort_limit, dtype=float)
        if self._limit.ndim != 1 or not np.all(np.isfinite(self._limit) & (self._limit > 0)):
            raise ConfigError(f"effort_limit: {effort_limit} is not allowed; expected positive numbers (nu,)")
        if not (np.isfinite(dt) and dt > 0):
            raise ConfigError(f"dt: {dt} s is not allowed; expected a positive number")
        self.config = config
        self.state = GuardState.DISARMED
        self.counts: Counter[str] = Counter(dict.fromkeys(FLAGS, 0))
        self._dt = dt
        self._stop_reason = ""
        self._sent = np.zeros_like(self._limit)  # what the actuators have, start of the next rate-limited step
        self._heard: float | None = None  # when the watchdog last heard of the controller
        self._invalid_in_a_row = 0

    def arm(self, now: float | None) -> tuple[bool, str]:
        """Let commands pass from `now` on; refused while stopped. Returns whether it is armed, and why (not)."""
        if self.state is GuardState.STOPPED:
            return False, f"stopped: {self._stop_reason}; reset first"
        if self.state is GuardState.ARMED:
            return True, "already armed"
        if now is not None and not np.isfinite(now):
            return False, f"the clock reads {now}"
        self.state, self._heard, self._invalid_in_a_row = GuardState.ARMED, now, 0
        return True, "armed"

    def disarm(self) -> Decision:
        """Let nothing pass any more; a stop stays latched. The decision is to be sent at once."""
        if self.state is GuardState.ARMED:
            self.state = GuardState.DISARMED
        return self._refuse_by_state()

    def stop(self, reason: str) -> Decision:
        """Latch a stop, in any state; the first reason is kept. The decision is to be sent at once."""
        if self.state is not GuardState.STOPPED:
            self.state, self._stop_reason = GuardState.STOPPED, reason
        return self._refuse_by_state()

    def reset(self) -> tuple[bool, str]:
        """Leave a stop, to DISARMED and never straight to ARMED. Returns whether there was one, and a message."""
        if self.state is not GuardState.STOPPED:
            return False, f"nothing to reset: {self.state.value}"
        self.state = GuardState.DISARMED
        return True, f"reset; was stopped: {self._stop_reason}"

    def command(self, now: float | None, act_stamp: float, effort: Any) -> Decision:
        """Decide on one command.

        Args:
            now: current time in s; None in lockstep.
            act_stamp: time in s at which the command is to act.
            effort: the wish, (nu,) N or N m; anything else is refused, never raised about.
        """
        if self.state is not GuardState.ARMED:
            return self._refuse_by_state()
        wish = as_effort(effort, len(self._limit))
        if wish is None:
            return self._refuse_invalid()
        self._invalid_in_a_row = 0
        if now is None:
            return self._send(wish, late="")
        age = (now - act_stamp) / self._dt
        if not abs(age) <= self.config.stale_after:  # so written, NaN is refused too
            where = "old" if age > 0 else "ahead"
            return self._refuse("stale", f"the command's stamp is {abs(age):.1f} periods {where}; do the clocks agree?")
        self._heard = now
        late = age > self.config.late_tolerance
        return self._send(wish, late=f"the command came {age:.2f} periods past its stamp" if late else "")

    def tick(self, now: float | None) -> Decision | None:
        """Watchdog, to be called every period. Returns what to send, or None where nothing is to be sent.

        A stop is repeated, in case a message got lost. While disarmed nothing is, so that others may use the
        actuators. A clock that jumps, either way, counts as silence: the time since the last command is unknown.
        """
        if now is None or self.state is GuardState.DISARMED:
            return None
        if self.state is GuardState.STOPPED:
            return self._refuse_by_state()
        if self._heard is None:
            self._heard = now
        silence = (now - self._heard) / self._dt
        if abs(silence) <= self.config.timeout:
            return None
        return self._refuse("timeout", f"no command for {silence:.1f} periods; allowed are {self.config.timeout:g}")

    def _send(self, wish: np.ndarray, late: str) -> Decision:
        """Pass on a valid wish, within limits and rate; `late` says how late it is, empty where it is not."""
        step = self.config.rate_limit * self._limit
        within = np.clip(wish, -self._limit, self._limit)
        effort = np.clip(within, self._sent - step, self._sent + step)
        self._sent = effort
        if late:
            return self._decide("late", late)
        if np.any(within != wish):
            return self._decide("limited", f"the command was beyond the effort limit {self._limit.tolist()}")
        if np.any(effort != within):
            return self._decide("limited", f"the command changed by more than {step.tolist()} at once")
        return self._decide("ok", "")

    def _refuse_invalid(self) -> Decision:
        """Refuse a command that is no effort; enough of them in a row latch a stop."""
        self._invalid_in_a_row += 1
        reason = f"the command is not {len(self._limit)} finite number(s)"
        if self._invalid_in_a_row >= self.config.invalid_limit:
            self.state, self._stop_reason = GuardState.STOPPED, f"{self._invalid_in_a_row} invalid commands in a row"
            reason += f"; stopped after {self._stop_reason}"
        return self._refuse("invalid", reason)

    def _refuse_by_state(self) -> Decision:
        """The safe action of a guard that is not armed."""
        reason = f"stopped: {self._stop_reason}" if self.state is GuardState.STOPPED else "not armed"
        return self._refuse(self.state.value, reason)

    def _refuse(self, flag: str, reason: str) -> Decision:
        """The safe action: zero effort, at once, whatever the rate limit."""
        self._sent = np.zeros_like(self._limit)
        return self._decide(flag, reason)

    def _decide(self, flag: str, reason: str) -> Decision:
        """Count and hand out what is sent."""
        self.counts[flag] += 1
        return Decision(self._sent.copy(), flag, reason)


def as_effort(effort: Any, nu: int) -> np.ndarray | None:
    """The command as floats (nu,), or None where it is not nu finite numbers."""
    try:
        wish = np.array(effort, dtype=float)
    except (TypeError, ValueError, OverflowError):
        return None
    return wish if wish.shape == (nu,) and np.all(np.isfinite(wish)) else None
