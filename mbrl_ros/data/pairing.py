"""Pairs observations with the commands that were really applied, by stamp."""

from dataclasses import dataclass
from typing import Any

import numpy as np

KEPT = 100  # observations and commands remembered, in periods
STEPPED_BACK = 3  # observations in a row that are older than that: the clock was set back
USABLE = ("ok", "limited", "plan", "hold")  # guard flags of commands that acted for their whole period


@dataclass(frozen=True)
class Pair:
    """One transition: x and u at `stamp_ns`, x_next a period later; `trajectory` counts unbroken stretches.

    `flag` is what the guard said of u.
    """

    stamp_ns: int
    x: np.ndarray
    u: np.ndarray
    x_next: np.ndarray
    trajectory: int
    flag: str = "ok"


class TransitionPairer:
    """Turns two streams that may arrive interleaved in any way into transitions in order.

    A transition needs the observation at t, the command applied at t, usable by its flag, and the observation
    at exactly t + dt. Whatever is missing leaves a gap, and after a gap a new trajectory begins.
    """

    def __init__(self, dt_ns: int, first_trajectory: int) -> None:
        """Start with nothing seen.

        Args:
            dt_ns: control period in ns.
            first_trajectory: number of the first trajectory.
        """
        self._dt_ns = dt_ns
        self._observed: dict[int, np.ndarray] = {}
        self._applied: dict[int, tuple[np.ndarray, str]] = {}
        self._last: int | None = None
        self._trajectory = first_trajectory - 1
        self._older = 0  # observations in a row that are older than all that is remembered

    def observe(self, stamp_ns: int, x: np.ndarray) -> list[Pair]:
        """Take an observation (nx,) and return what it completes."""
        if self._is_older(stamp_ns):
            return []
        self._observed[stamp_ns] = x
        return self._complete(stamp_ns - self._dt_ns, stamp_ns)

    def apply(self, stamp_ns: int, u: np.ndarray, flag: str) -> list[Pair]:
        """Take an applied command (nu,) with the guard's flag and return what it completes.

        One that is not usable ends the command before it early, where it comes within that one's period.
        """
        if flag not in USABLE or not np.all(np.isfinite(u)):
            for stamp in [s for s in self._applied if s > stamp_ns - self._dt_ns]:
                del self._applied[stamp]
            return []
        self._applied[stamp_ns] = (u, flag)
        return self._complete(stamp_ns)

    def _is_older(self, stamp_ns: int) -> bool:
        """Whether an observation is too old to be of use; a few in a row say that the clock was set back: a new start.

        Otherwise nothing would be paired until the clock had reached again what it once showed.
        """
        newest = max(self._observed, default=stamp_ns)
        self._older = self._older + 1 if stamp_ns < newest - KEPT * self._dt_ns else 0
        if self._older < STEPPED_BACK:
            return self._older > 0
        self._observed.clear()
        self._applied.clear()
        self._last, self._older = None, 0
        return False

    def _complete(self, *stamps: int) -> list[Pair]:
        """Transitions that start at one of the stamps and are whole by now."""
        pairs = [self._pair(stamp) for stamp in stamps if self._whole(stamp)]
        seen: dict[int, Any]
        for seen in (self._observed, self._applied):
            while len(seen) > KEPT:
                del seen[min(seen)]
        return pairs

    def _whole(self, stamp: int) -> bool:
        newer = self._last is None or stamp > self._last
        return newer and stamp in self._observed and stamp in self._applied and stamp + self._dt_ns in self._observed

    def _pair(self, stamp: int) -> Pair:
        if self._last is None or stamp != self._last + self._dt_ns:
            self._trajectory += 1
        self._last = stamp
        x_next = self._observed[stamp + self._dt_ns]
        u, flag = self._applied[stamp]
        return Pair(stamp, self._observed[stamp], u, x_next, self._trajectory, flag)
