"""The command guard's state machine: the last word on what reaches the actuators. No ROS, no clock of its own.

    DISARMED --arm--> ARMED --disarm--> DISARMED      any --stop--> STOPPED --reset--> DISARMED

Commands pass only while ARMED; STOPPED is latched, so that nothing but a deliberate reset leaves it. Where the
controller fails, the guard goes down a ladder: the rest of its last plan, holding, the safe action, disarming. Silence
is measured by a monotonic clock, stamps (ns) are compared with wall time, see `Moment`; in lockstep the moment is None,
which leaves out all that needs a clock: lateness, staleness, order and the watchdog. Explained in docs/safety.md.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.safety.arming import Heard, Moment, heartbeat_silent, observation_silent, obstacles, periods_since
from mbrl_ros.safety.command_limiter import CommandLimiter
from mbrl_ros.safety.decision import FLAGS, PASSED, Decision, GuardState
from mbrl_ros.safety.guard_config import GuardConfig
from mbrl_ros.safety.ladder import Ladder
from mbrl_ros.safety.limits import Limits
from mbrl_ros.safety.safe_action import SafeAction
from mbrl_ros.safety.stamps import Stamps


class Guard:
    """Turns wishes into commands that may be sent.

    Attributes:
        state: the state it is in.
        counts: decisions so far by flag.
        figures: what else is counted: commands cut to the range and by rate, interventions while armed, commands
            ignored for their order, steps of the wall clock.
        reason: why it last did anything else than pass a command on.
    """

    config_class = GuardConfig

    def __init__(self, config: GuardConfig, limits: Limits, safe_action: SafeAction, dt: float) -> None:
        """Start disarmed.

        Args:
            config: settings.
            limits: of the robot, margins taken off.
            safe_action: what is sent when nothing else may be.
            dt: control period in s.

        Raises:
            ConfigError: the period is not finite and positive.
        """
        if not (np.isfinite(dt) and dt > 0):
            raise ConfigError(f"dt: {dt} s is not allowed; expected a positive number")
        self.config, self.limits, self.safe_action = config, limits, safe_action
        self.state = GuardState.DISARMED
        self.counts: Counter[str] = Counter(dict.fromkeys(FLAGS, 0))
        names = ("cut_to_range", "cut_by_rate", "interventions", "ignored", "clock_steps")
        self.figures: Counter[str] = Counter(dict.fromkeys(names, 0))
        self.reason = ""
        self.heard = Heard()
        self._dt_ns = round(1e9 * dt)
        self._limiter = CommandLimiter(limits)
        self._ladder = Ladder(config, len(limits.actuators), self._dt_ns)
        self._stop_reason = ""
        self._alive: int | None = None  # when the watchdog last heard of the controller, monotonic ns
        self._stamps = Stamps(config, self._dt_ns)
        self._held: np.ndarray | None = None  # positions to hold since the intervention began
        self._invalid_in_a_row = 0
        self._beyond = ""  # limits that the last observation was beyond

    def change_limits(self, config: GuardConfig, limits: Limits, safe_action: SafeAction) -> None:
        """Other limits from now on, in whatever state it is; what it counts and remembers stays.

        Args:
            config: settings of which only those of `LimitConfig` may differ.
            limits: of the robot, by these settings.
            safe_action: for these limits.
        """
        self.config, self.limits, self.safe_action = config, limits, safe_action
        self._limiter.change(limits)

    @property
    def stop_reason(self) -> str:
        """Why it was last stopped."""
        return self._stop_reason

    # what the operator says

    def obstacles(self, now: Moment | None) -> list[str]:
        """Everything that speaks against arming now; in lockstep only a stop does."""
        stopped = [f"stopped: {self._stop_reason}; reset first"] if self.state is GuardState.STOPPED else []
        return stopped if now is None else stopped + obstacles(self.config, self.limits, self.heard, now, self._dt_ns)

    def arm(self, now: Moment | None, missing: tuple[str, ...] = ()) -> tuple[bool, str]:
        """Let commands pass from `now` on. Returns whether it is armed, and why (not): all reasons at once.

        Args:
            now: the moment; None in lockstep.
            missing: what else speaks against it, known only to the caller.
        """
        if self.state is GuardState.ARMED:
            return True, "already armed"
        if reasons := [*missing, *self.obstacles(now)]:
            return False, "not armed: " + "; ".join(reasons)
        self.state, self._alive = GuardState.ARMED, None if now is None else now.monotonic_ns
        self._invalid_in_a_row, self._held, self._beyond = 0, None, ""
        self._stamps.restart()
        self._ladder.forget()
        nothing = np.zeros(len(self.limits.actuators))
        self._limiter.restart(self._measured(now) if self.limits.interface == "position" else nothing)
        return True, "armed"

    def disarm(self, now: Moment | None) -> Decision | None:
        """Let nothing pass any more; a stop stays latched. The decision is to be sent at once."""
        if self.state is GuardState.ARMED:
            self.state = GuardState.DISARMED
        return self._refuse_by_state(now, now.wall_ns if now else 0)

    def farewell(self, now: Moment | None) -> Decision | None:
        """What is to be sent when the guard's process ends; None where others have the actuators already."""
        if self.state is GuardState.DISARMED:
            return None
        self.state = GuardState.DISARMED
        return self._refuse_by_state(now, now.wall_ns if now else 0)

    def stop(self, now: Moment | None, reason: str) -> Decision | None:
        """Latch a stop, in any state; the first reason is kept. The decision is to be sent at once."""
        if self.state is not GuardState.STOPPED:
            self.state, self._stop_reason = GuardState.STOPPED, reason
        return self._refuse_by_state(now, now.wall_ns if now else 0)

    def reset(self) -> tuple[bool, str]:
        """Leave a stop, to DISARMED and never straight to ARMED. Returns whether there was one, and a message."""
        if self.state is not GuardState.STOPPED:
            return False, f"nothing to reset: {self.state.value}"
        self.state = GuardState.DISARMED
        self._let_go()
        return True, f"reset; was stopped: {self._stop_reason}"

    # what comes in

    def heartbeat(self, now: Moment | None) -> None:
        """The deadman's switch is held."""
        self.heard.heartbeat = None if now is None else now.monotonic_ns

    def plan(self, now: Moment | None, stamp_ns: int, actions: Any) -> bool:
        """Remember a plan: actions (H, nu) from `stamp_ns` on, a control period each. Returns whether it is of use."""
        if now is not None and abs(now.wall_ns - stamp_ns) > self.config.stale_after * self._dt_ns:
            return False
        return self._ladder.take(stamp_ns, actions)

    def observe(
        self, now: Moment | None, stamp_ns: int, position: Any, velocity: Any, measured: bool = True
    ) -> Decision | None:
        """Take an observation: positions (n,) and velocities (n,); what is not finite or of another size is ignored.

        One that is not `measured` but predicted does not end a silence.

        Returns what to send at once where the robot is beyond a limit.
        """
        n = len(self.limits.joints)
        x, v = as_finite(position, n), as_finite(velocity, n)
        if x is None or v is None:
            return None
        self.heard.state = x, v
        if now is not None and measured:
            self.heard.observation, self.heard.observation_lag = now.monotonic_ns, now.wall_ns - stamp_ns
        self._beyond = self.limits.beyond(x, v) if self.config.state_action != "none" else ""
        if not self._beyond or self.state is not GuardState.ARMED:
            return None
        if self.config.state_action == "stop":
            return self.stop(now, self._beyond)
        return self._refuse(now, stamp_ns, "state", self._beyond)

    def command(self, now: Moment | None, stamp_ns: int, command: Any) -> Decision | None:
        """Decide on one command.

        Args:
            now: the moment; None in lockstep.
            stamp_ns: the moment at which the command is to act.
            command: the wish, (nu,) in the interface's unit; anything else is refused, never raised about.

        Returns:
            What to send; None where nothing is to be: the command is a copy of or older than one that was sent.
        """
        self._watch_clock(now)
        wish = as_finite(command, len(self.limits.actuators))
        problem = f"the command is not {len(self.limits.actuators)} finite number(s)" if wish is None else ""
        stale = "" if problem else self._stamps.stale(now, stamp_ns)
        self._note(now, problem or stale)
        if self.state is not GuardState.ARMED:
            refused = self._refuse_by_state(now, stamp_ns)
            others = self.state is GuardState.DISARMED
            return replace(refused, to_actuators=False) if refused and others else refused
        if (silent := self._silent_heartbeat(now, stamp_ns)) is not None:
            return silent
        if wish is None:
            return self._refuse_invalid(now, stamp_ns, problem)
        self._invalid_in_a_row = 0
        if now is not None and stale:
            return self._fail(now, self._stamps.next_tick(now), "stale", stale)
        if self._stamps.old(now, stamp_ns):
            self.figures["ignored"] += 1
            return None
        return self._accept(now, stamp_ns, wish)

    def tick(self, now: Moment | None) -> Decision | None:
        """Watchdog, to be called several times a period. Returns what to send, or None where nothing is to be sent.

        The safe action is repeated, in case a message got lost. While disarmed nothing is, so that others may use the
        actuators.
        """
        if now is None or self.state is GuardState.DISARMED:
            return None
        self._watch_clock(now)
        if self.state is GuardState.STOPPED:
            return self._refuse_by_state(now, now.wall_ns)
        if (silent := self._silent_heartbeat(now, now.wall_ns)) is not None:
            return silent
        if self._beyond:
            return self._refuse(now, now.wall_ns, "state", self._beyond)
        if self._alive is None:
            self._alive = now.monotonic_ns
        reason = observation_silent(self.config, self.heard, now, self._dt_ns)
        silence = periods_since(self._alive, now, self._dt_ns)
        if silence > self.config.timeout:
            reason = f"no command for {silence:.1f} periods; allowed are {self.config.timeout:g}"
        return self._fail(now, self._stamps.next_tick(now), "timeout", reason) if reason else None

    # what is made of it

    def _accept(self, now: Moment | None, stamp_ns: int, wish: np.ndarray) -> Decision | None:
        """A command that is valid, fresh and new."""
        if now is not None:
            self._alive = now.monotonic_ns
            if reason := observation_silent(self.config, self.heard, now, self._dt_ns):
                return self._fail(now, stamp_ns, "timeout", reason)
        if self._beyond:
            return self._refuse(now, stamp_ns, "state", self._beyond)
        if self._limiter.sent is None and self.limits.interface == "position":
            self._limiter.restart(self._measured(now))
            if self._limiter.sent is None and now is not None:
                return self._fail(now, stamp_ns, "state", "no observation yet: where the joints are is not known")
        self._ladder.recovered()
        return self._pass(now, stamp_ns, wish, "", "")

    def _pass(self, now: Moment | None, stamp_ns: int, wish: np.ndarray, flag: str, reason: str) -> Decision:
        """Send a wish within the limits; `flag` and `reason` are given where it is not the controller's command."""
        command, cut = self._limiter.limit(wish, self._stamps.elapsed(now, stamp_ns))
        self._stamps.note_sent(stamp_ns)
        self._held = None
        if cut:
            self.figures["cut_to_range" if cut == "range" else "cut_by_rate"] += 1
        if flag:
            return self._decide(command, flag, reason, stamp_ns)
        if late := self._stamps.late(now, stamp_ns):
            return self._decide(command, "late", late, stamp_ns)
        return self._decide(command, "limited" if cut else "ok", self._explain(cut), stamp_ns)

    def _explain(self, cut: str) -> str:
        """A cut in words."""
        low, high = self.limits.command_low.tolist(), self.limits.command_high.tolist()
        reasons = {
            "range": f"the command was beyond the {self.limits.interface} limit {low} to {high}",
            "rate": "the command changed faster than its rate or jerk may be",
        }
        return reasons.get(cut, "")

    def _fail(self, now: Moment | None, stamp_ns: int, flag: str, reason: str) -> Decision | None:
        """The controller has failed: go to the rung of the ladder that the time since then says.

        What the first two rungs send acts from `stamp_ns` on, as a command would. The safe action acts at once, unless
        it is the answer to a command.
        """
        at_once = stamp_ns if now is None or flag == "invalid" else now.wall_ns
        rung = self._ladder.step(stamp_ns if now is None else now.monotonic_ns, stamp_ns)
        since = f"{reason}; for {rung.periods:.1f} periods now"
        if rung.name == "disarm":
            self.state = GuardState.DISARMED
            return self._refuse(now, at_once, "disarmed", f"disarmed: {since}")
        wish = rung.action if rung.name == "plan" else self._limiter.sent if rung.name == "hold" else None
        if wish is None or self._beyond:
            return self._refuse(now, at_once, flag, reason)
        if self._stamps.old(now, stamp_ns):
            return None  # this period has its command already
        said = "the last plan goes on" if rung.name == "plan" else "the last command is held"
        return self._pass(now, stamp_ns, wish, rung.name, f"{said}: {since}")

    def _refuse_invalid(self, now: Moment | None, stamp_ns: int, problem: str) -> Decision | None:
        """Refuse a command that is none; enough of them in a row latch a stop."""
        self._invalid_in_a_row += 1
        if self._invalid_in_a_row >= self.config.invalid_limit:
            self.state, self._stop_reason = GuardState.STOPPED, f"{self._invalid_in_a_row} invalid commands in a row"
            return self._refuse(now, stamp_ns, "invalid", f"{problem}; stopped after {self._stop_reason}")
        tick_ns = self._stamps.next_tick(now) if now is not None and self._stamps.stale(now, stamp_ns) else stamp_ns
        return self._fail(now, tick_ns, "invalid", problem)

    def _refuse_by_state(self, now: Moment | None, stamp_ns: int) -> Decision | None:
        """The safe action of a guard that is not armed."""
        reason = f"stopped: {self._stop_reason}" if self.state is GuardState.STOPPED else "not armed"
        return self._refuse(now, stamp_ns, self.state.value, reason)

    def _silent_heartbeat(self, now: Moment | None, stamp_ns: int) -> Decision | None:
        """Disarm where the heartbeat is needed and silent."""
        reason = "" if now is None else heartbeat_silent(self.config, self.heard, now)
        if not reason:
            return None
        self.state = GuardState.DISARMED
        return self._refuse(now, stamp_ns, "heartbeat", f"disarmed: {reason}")

    def _refuse(self, now: Moment | None, stamp_ns: int, flag: str, reason: str) -> Decision | None:
        """The safe action, at once, whatever the rate limit; None where a position is to be held and none is known.

        What a disarmed guard sends is its last word for a while, so it must be right for ever.
        """
        if self._held is None and self.limits.interface == "position":
            measured = self._measured(now)
            self._held = self._limiter.sent if measured is None else measured
        if self.state is GuardState.DISARMED:
            command = self.safe_action.resting(self._held)
            self._let_go()
        else:
            command = self.safe_action.action(self._fresh_state(now), self._held)
        if command is None:
            return None
        if self.state is not GuardState.DISARMED:
            self._limiter.restart(command)
        return self._decide(command, flag, reason, stamp_ns)

    def _let_go(self) -> None:
        """From now on others may move the robot: what was sent and held says nothing any more."""
        self._held = None
        self._limiter.restart(None)

    def _decide(self, command: np.ndarray, flag: str, reason: str, stamp_ns: int) -> Decision:
        """Count and hand out what is sent."""
        self.counts[flag] += 1
        self.figures["interventions"] += flag not in (*PASSED, "disarmed")
        if flag not in ("ok", "disarmed") or reason.startswith("disarmed"):
            self.reason = reason
        return Decision(command.copy(), flag, reason, stamp_ns)

    # what is known

    def _note(self, now: Moment | None, problem: str) -> None:
        """Keep count of the good commands, armed or not."""
        self.heard.command_problem = problem
        self.heard.commands = 0 if problem else self.heard.commands + 1
        if not problem and now is not None:
            self.heard.command = now.monotonic_ns

    def _watch_clock(self, now: Moment | None) -> None:
        """A step of wall time makes the stamps so far worthless: those of the order and of the plan."""
        if now is not None and self._stamps.stepped(now):
            self.figures["clock_steps"] += 1
            self._ladder.drop_plan()

    def _fresh_state(self, now: Moment | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Last observed positions and velocities, None where they are too old to act on."""
        fresh = now is None or periods_since(self.heard.observation, now, self._dt_ns) <= self.config.stale_after
        return self.heard.state if fresh else None

    def _measured(self, now: Moment | None) -> np.ndarray | None:
        """Positions (nu,) of the actuators, None where they are not known or too old."""
        state = self._fresh_state(now)
        position = None if state is None else state[0][self.limits.columns]
        return position if position is not None and np.all(np.isfinite(position)) else None


def as_finite(values: Any, count: int) -> np.ndarray | None:
    """The values as floats (count,), or None where they are not that many finite numbers."""
    try:
        array = np.array(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.shape == (count,) and np.all(np.isfinite(array)) else None
