"""A transition store that goes on when the disk does not: what cannot be written now waits in memory.

The robot keeps moving and the model keeps learning from what waits; it is stored, oldest first, once there is
room again. The queue is bounded, and full it refuses what is new: what it has taken on is never thrown away.
"""

from collections import deque
from itertools import islice

import numpy as np

from mbrl_ros.data.store_format import Row, StoreWriteError
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import StoreError
from mbrl_ros.types import Transitions

CAPACITY = 100_000  # transitions: 83 minutes at 20 Hz, some 50 MB for a small robot
CHUNK = 200  # written in one go, so that a callback stays short


class PatientStore:
    """A `TransitionStore` with a queue in front of it.

    Attributes:
        problem: why the last write failed; empty where it did not.
    """

    def __init__(self, store: TransitionStore, capacity: int = CAPACITY) -> None:
        """Put a queue of at most `capacity` transitions in front of the store."""
        self._store, self._capacity = store, capacity
        self._queue: deque[Row] = deque()
        self._stamps: set[int] = set()  # of the queue
        self._changes: list[int] = []  # of the robot that are yet to be noted
        self.problem = ""

    @property
    def waiting(self) -> int:
        """Transitions that are not on the disk yet: the end of the process would lose them."""
        return len(self._queue)

    def append(
        self,
        stamp_ns: int,
        trial: int,
        trajectory: int,
        x: np.ndarray,
        u: np.ndarray,
        x_next: np.ndarray,
        flag: str = "ok",
    ) -> None:
        """Store one transition, or keep it until it can be stored; arguments as of `TransitionStore.append`.

        Raises:
            StoreError: the transition itself is refused, or the queue is full. It is not kept then.
        """
        row = Row(stamp_ns, trial, trajectory, x, u, x_next, flag)
        self._store.encoded(row)
        if stamp_ns in self._stamps:
            raise StoreError(f"a transition of stamp {stamp_ns} ns waits to be stored already")
        if self._queue and not self.flush():
            self._keep(row)
            return
        try:
            self._store.append(stamp_ns, trial, trajectory, x, u, x_next, flag)
        except StoreWriteError as error:
            self.problem = str(error)
            self._keep(row)

    def flush(self) -> bool:
        """Try to store some of what waits; returns whether nothing waits any more."""
        if not self.problem or self._write(1):  # a disk that was full is tried with one row: that costs least
            self._write(CHUNK)
        if self._changes and not self._queue:
            self._note_changes()
        return not self._queue

    def note_change(self, before: int) -> None:
        """See `TransitionStore.note_change`; it waits for the transitions before it, and where it cannot be written."""
        self._changes.append(before)
        self.flush()

    @property
    def changes(self) -> list[int]:
        """See `TransitionStore.changes`; with what waits."""
        return self._store.changes + self._changes

    def load(self) -> Transitions:
        """See `TransitionStore.load`; without what waits."""
        return self._store.load()

    @property
    def next_trajectory(self) -> int:
        """See `TransitionStore.next_trajectory`; without what waits."""
        return self._store.next_trajectory

    def close(self) -> int:
        """Store what can be stored, close the file and return how many transitions are lost."""
        before = -1
        while self.waiting != before:  # until there is nothing left, or no more of it can be stored
            before = self.waiting
            self.flush()
        self._store.close()
        return self.waiting

    def _write(self, count: int) -> bool:
        """Store the `count` oldest of what waits; returns whether that worked."""
        rows = list(islice(self._queue, count))
        try:
            self._store.append_all(rows)
        except StoreError as error:
            self.problem = str(error)
            return False
        for row in rows:
            self._queue.popleft()
            self._stamps.discard(row.stamp_ns)
        self.problem = ""
        return True

    def _note_changes(self) -> None:
        """Try to note the changes that wait."""
        try:
            while self._changes:
                self._store.note_change(self._changes[0])
                del self._changes[0]
        except StoreError as error:
            self.problem = str(error)

    def _keep(self, row: Row) -> None:
        """Let a transition wait."""
        if len(self._queue) >= self._capacity:
            raise StoreError(f"{self._capacity} transitions wait to be stored, no more are kept: {self.problem}")
        self._queue.append(row)
        self._stamps.add(row.stamp_ns)
