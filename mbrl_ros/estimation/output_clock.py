"""When a timer makes observations, and their stamps: a grid of exactly one period, so that they can be paired.

Where a sensor comes once, twice or three times a period, the grid is moved until a measurement has just come when the
timer fires. Otherwise every observation would be predicted from a measurement that is older by what chance has chosen.
"""

import cmath
import math
from collections import deque

BLOCK = 20  # firings after which the place of the grid is judged
MARGIN = 0.15  # periods from the arrival of a measurement to the firing
TOLERANCE = 0.1  # periods that the grid may be off that
STEP = 0.3  # periods by which one firing is put off at most: nobody is to miss an observation
STEADY = 0.8  # length of the mean direction of ages around the circle of a sensor's period; 1: they are all the same
FASTEST = 3  # measurements a period; of more, the newest is young enough
ARRIVED = 0.9  # share of the measurements that have come by then


class OutputClock:
    """Gives each firing of a timer the stamp of the grid that is nearest to it, and says when the next is due.

    A timer jitters, its observations must not: a transition is two observations exactly one period apart.
    """

    def __init__(self, period_ns: int, sensing_ns: int = 0) -> None:
        """Begin without a grid.

        Args:
            period_ns: from one observation to the next.
            sensing_ns: a firing lies as much later than its stamp.
        """
        self._period_ns, self._sensing_ns = period_ns, sensing_ns
        self._last_ns: int | None = None
        self._put_off_ns = 0  # what the grid is still to be moved by
        self._lags: deque[int] = deque(maxlen=10 * BLOCK)
        self._ages: list[int] = []

    def stamp(self, now_ns: int) -> int | None:
        """Stamp of a firing at `now_ns`; None where its place in the grid has been used.

        Missed places are left out. A clock that was set back, or that was set forward by more than it takes to miss
        ten, starts a new grid.
        """
        moment_ns = now_ns - self._sensing_ns
        if self._last_ns is None:
            self._last_ns = moment_ns
            return moment_ns
        periods = round((moment_ns - self._last_ns) / self._period_ns)
        if periods == 0:
            return None
        new_grid = not 0 < periods <= 10
        self._last_ns = moment_ns if new_grid else self._last_ns + periods * self._period_ns
        return self._last_ns

    def arrived(self, stamp_ns: int, now_ns: int) -> None:
        """A new measurement has come at `now_ns`."""
        self._lags.append(now_ns - self._sensing_ns - stamp_ns)

    def used(self, age_ns: int) -> None:
        """An observation was made `age_ns` after the newest measurement's stamp; judges the grid."""
        self._ages.append(age_ns)
        if len(self._ages) == BLOCK:
            self._put_off_ns = self._misplaced_ns()
            self._ages.clear()
            self._lags.clear()

    def _misplaced_ns(self) -> int:
        """How much later the grid should be, below one period; 0 where it is well placed, or no place is better."""
        each = round(len(self._lags) / BLOCK)
        if not 1 <= each <= FASTEST:
            return 0
        circle = self._period_ns / each  # a measurement older, and all is as before
        mean = sum(cmath.exp(2j * math.pi * age / circle) for age in self._ages) / BLOCK
        if abs(mean) < STEADY:
            return 0
        usual = sorted(self._lags)[math.ceil(ARRIVED * len(self._lags)) - 1]
        wanted, is_now = usual + MARGIN * self._period_ns, cmath.phase(mean) / (2.0 * math.pi) * circle
        later, tolerance = (wanted - is_now) % circle, TOLERANCE * self._period_ns
        return round(later) if tolerance < later < circle - tolerance else 0

    def wait_ns(self, now_ns: int) -> int:
        """Time from now to the next firing: at a place of the grid, which is moved by a step where that is due."""
        assert self._last_ns is not None, "stamp() comes first"
        step = min(self._put_off_ns, round(STEP * self._period_ns))
        self._put_off_ns -= step
        self._last_ns += step
        wait = self._last_ns + self._period_ns + self._sensing_ns - now_ns
        return min(max(wait, 1), 2 * self._period_ns)
