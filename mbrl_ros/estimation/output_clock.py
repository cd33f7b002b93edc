"""Stamps of observations that a timer makes: a grid of exactly one period, so that observations can be paired."""


class OutputClock:
    """Gives each firing of a timer the stamp of the grid that is nearest to it.

    A timer jitters, its observations must not: a transition is two observations exactly one period apart.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._last_ns: int | None = None

    def stamp(self, now_ns: int) -> int | None:
        """Stamp of a firing at `now_ns`; None where its place in the grid has been used.

        Missed places are left out. A clock that was set back, or that was set forward by more than it takes to miss
        ten, starts a new grid.
        """
        if self._last_ns is None:
            self._last_ns = now_ns
            return now_ns
        periods = round((now_ns - self._last_ns) / self._period_ns)
        if periods == 0:
            return None
        new_grid = not 0 < periods <= 10
        self._last_ns = now_ns if new_grid else self._last_ns + periods * self._period_ns
        return self._last_ns
