"""Transitions in memory, in arrays that grow by a share of their size: a robot may move for days."""

import numpy as np

from mbrl_ros.types import Transitions

SMALLEST = 1024  # rows that there is room for at the start
GROWTH = 1.25  # what room grows by: at most a fifth of it is empty, and each row is copied five times at most


class TransitionBuffer:
    """Rows of transitions, each of one source (robot of a fleet); 8 bytes a number and 12 bytes a row."""

    def __init__(self, data: Transitions) -> None:
        """Begin with `data`, of source 0; it is taken over."""
        self._size = len(data)
        self._columns = [data.x, data.u, data.x_next, data.trajectory]
        self._source = np.zeros(self._size, dtype=np.int32)

    def __len__(self) -> int:
        return self._size

    def append(self, x: np.ndarray, u: np.ndarray, x_next: np.ndarray, trajectory: int, source: int = 0) -> None:
        """Add a row: x (nx,), u (nu,), x_next (nx,)."""
        if self._size == len(self._source):
            self._grow()
        for column, value in zip(self._columns, (x, u, x_next, trajectory), strict=True):
            column[self._size] = value
        self._source[self._size] = source
        self._size += 1

    def since(self, start: int = 0, source: int | None = None) -> Transitions:
        """Rows from `start` on, of one source or of all, each trajectory in one piece.

        Where the rows are in that order as they are, which those of a single robot always are, nothing is copied: a row
        that is there never changes.
        """
        rows = slice(start, self._size)
        trajectory = self._columns[3][rows]
        mine = np.full(len(trajectory), True) if source is None else self._source[rows] == source
        if mine.all() and np.all(np.diff(trajectory) >= 0):
            return Transitions(*(column[rows] for column in self._columns))
        index = start + np.flatnonzero(mine)
        index = index[np.argsort(self._columns[3][index], kind="stable")]
        return Transitions(*(column[index] for column in self._columns))

    def has(self, source: int, start: int) -> bool:
        """Whether a row from `start` on is of that source."""
        return bool(np.any(self._source[start : self._size] == source))

    def _grow(self) -> None:
        """Make room; what was handed out stays as it is, in the old arrays."""
        room = max(SMALLEST, int(GROWTH * self._size))
        self._columns = [self._larger(column, room) for column in self._columns]
        self._source = self._larger(self._source, room)

    def _larger(self, column: np.ndarray, room: int) -> np.ndarray:
        """The column with room for `room` rows."""
        new = np.empty((room, *column.shape[1:]), dtype=column.dtype)
        new[: self._size] = column[: self._size]
        return new
