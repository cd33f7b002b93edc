"""What the stamps of commands say: too old, late, copies; and which control period comes next."""

import math

from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.guard_config import GuardConfig

CLOCK_STEP = 1.0  # periods by which wall time may move against the monotonic clock from one call to the next


class Stamps:
    """Remembers the newest control period that got a command."""

    def __init__(self, config: GuardConfig, dt_ns: int) -> None:
        """Start with nothing sent."""
        self._config, self._dt_ns = config, dt_ns
        self._newest: int | None = None
        self._offset: int | None = None  # wall time less monotonic time, ns

    def restart(self) -> None:
        """Nothing has been sent."""
        self._newest = None

    def note_sent(self, stamp_ns: int) -> None:
        """The control period that begins at `stamp_ns` has its command."""
        self._newest = stamp_ns

    def stepped(self, now: Moment) -> bool:
        """Whether wall time was set since the last call; then the stamps so far are worth nothing."""
        offset, before = now.wall_ns - now.monotonic_ns, self._offset
        self._offset = offset
        if before is None or abs(offset - before) <= CLOCK_STEP * self._dt_ns:
            return False
        self.restart()
        return True

    def old(self, now: Moment | None, stamp_ns: int) -> bool:
        """Whether this control period, or a later one, has its command already."""
        return now is not None and self._newest is not None and stamp_ns <= self._newest

    def elapsed(self, now: Moment | None, stamp_ns: int) -> float:
        """Time in s from the last command to this one, as far as rates are concerned: a period at most."""
        if now is None or self._newest is None:
            return 1e-9 * self._dt_ns
        return 1e-9 * min(max(stamp_ns - self._newest, 1), self._dt_ns)

    def stale(self, now: Moment | None, stamp_ns: int) -> str:
        """Why a stamp is too far from now; empty where it is not."""
        age = 0.0 if now is None else (now.wall_ns - stamp_ns) / self._dt_ns
        if abs(age) <= self._config.stale_after:
            return ""
        where = "old" if age > 0 else "ahead"
        return f"the command's stamp is {abs(age):.1f} periods {where}; do the clocks agree?"

    def late(self, now: Moment | None, stamp_ns: int) -> str:
        """How late a command is; empty where it is not."""
        age = -math.inf if now is None else (now.wall_ns - stamp_ns) / self._dt_ns
        return f"the command came {age:.2f} periods past its stamp" if age > self._config.late_tolerance else ""

    def next_tick(self, now: Moment) -> int:
        """Stamp of the next control period, counted from the last one that got a command: it can be learned from.

        Now where there is none. A negative late_tolerance leaves as much time for the way to the actuators.
        """
        if self._newest is None:
            return now.wall_ns
        lead = max(0.0, -self._config.late_tolerance)
        ahead = math.ceil((now.wall_ns - self._newest) / self._dt_ns + lead)
        return self._newest + max(ahead, 0) * self._dt_ns
