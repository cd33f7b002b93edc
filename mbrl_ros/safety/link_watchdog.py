"""The robot's side of the link to the guard: repeats its commands, and sends the safe action when the guard is silent.

The forward controllers of ros2_control keep the last command for ever when its sender dies. This watchdog runs on the
robot's own computer, between the guard's topic and the controller's, so that it outlives the guard, its computer and
the network. No ROS, no clock of its own; times are ns of a monotonic clock.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.config import option
from mbrl_ros.safety.guard import as_finite
from mbrl_ros.safety.guard_config import LimitConfig
from mbrl_ros.safety.limits import Limits
from mbrl_ros.safety.safe_action import SafeAction

GUARDED = "guarded_commands"  # topic of what the guard says, on the way to the robot


@dataclass(frozen=True)
class LinkConfig(LimitConfig):
    """Settings of the link watchdog."""

    timeout: float = option(
        3.0, "silence of the guard after which the safe action is sent", unit="periods", low=1.0, high=1000.0
    )
    release_after: float = option(
        0.0,
        "time of safe action after which the actuators are left to others; 0 is never",
        unit="periods",
        low=0.0,
        high=1e6,
    )


class LinkWatchdog:
    """Passes the guard's commands on, within their range; rate and jerk are the guard's, which may stop at once.

    Attributes:
        counts: messages passed on, refused, and safe actions sent.
        reason: why it last sent the safe action; empty while the guard is heard.
    """

    config_class = LinkConfig

    def __init__(self, config: LinkConfig, limits: Limits, safe_action: SafeAction, dt: float) -> None:
        """Silent until the guard is first heard.

        Args:
            config: settings.
            limits: of the robot.
            safe_action: what is sent while the guard is silent.
            dt: control period in s.
        """
        self.config = config
        self.counts: Counter[str] = Counter(passed=0, refused=0, safe=0)
        self.reason = ""
        self._limits, self._safe, self._dt_ns = limits, safe_action, 1e9 * dt
        self._heard: int | None = None
        self._state: tuple[np.ndarray, np.ndarray] | None = None
        self._observed = 0
        self._sent: np.ndarray | None = None
        self._held: np.ndarray | None = None

    def change_limits(self, config: LinkConfig, limits: Limits, safe_action: SafeAction) -> None:
        """Other limits from now on; what it counts and remembers stays. Arguments as of the constructor."""
        self.config, self._limits, self._safe = config, limits, safe_action

    def observe(self, now_ns: int, position: Any, velocity: Any) -> None:
        """Take the joints' positions (n,) and velocities (n,), for safe actions that need them."""
        n = len(self._limits.joints)
        x, v = as_finite(position, n), as_finite(velocity, n)
        if x is not None:  # some drivers give no velocities; the place to hold is known without them
            self._state, self._observed = (x, np.full(n, np.nan) if v is None else v), now_ns

    def command(self, now_ns: int, command: Any) -> np.ndarray | None:
        """What to send on a message of the guard: the command within its range.

        None where it is no command; silence it is then, and the safe action follows after the timeout.
        """
        wish = as_finite(command, len(self._limits.actuators))
        if wish is None:
            self.counts["refused"] += 1
            return None
        self.counts["passed"] += 1
        self._heard, self._held, self.reason = now_ns, None, ""
        self._sent = np.clip(wish, self._limits.command_low, self._limits.command_high)
        return self._sent.copy()

    def tick(self, now_ns: int) -> np.ndarray | None:
        """What to send on a tick, to be called several times a period: the safe action while the guard is silent."""
        if self._heard is None:
            return None
        silence = (now_ns - self._heard) / self._dt_ns
        if silence <= self.config.timeout:
            return None
        if 0 < self.config.release_after < silence - self.config.timeout:
            self._heard, self.reason = None, ""  # in charge again with the next command
            return None
        self.reason = f"the guard is silent for {silence:.1f} periods; allowed are {self.config.timeout:g}"
        return self._safe_command(now_ns)

    def farewell(self) -> np.ndarray | None:
        """What is to be sent when the watchdog's process ends; None where it is not in charge."""
        return None if self._heard is None else self._safe.resting(self._sent if self._held is None else self._held)

    def _safe_command(self, now_ns: int) -> np.ndarray | None:
        """The safe action; a position to hold is the one measured, or else sent, when the silence began."""
        fresh = (now_ns - self._observed) / self._dt_ns <= self.config.timeout
        state = self._state if fresh else None
        if self._held is None:
            self._held = self._sent if state is None else state[0][self._limits.columns]
        self.counts["safe"] += 1
        return self._safe.action(state, self._held)
