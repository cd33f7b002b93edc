"""Which task was in force when: a trial whose goal was moved is scored by what was asked for at each tick."""

from typing import Any

import numpy as np


class TaskHistory:
    """The tasks of a trial, from which stamp on each was in force."""

    def __init__(self, task: Any) -> None:
        """Begin with a task, in force from the start."""
        self._from: list[int] = [-(2**63)]
        self._tasks: list[Any] = [task]

    def change(self, stamp_ns: int, task: Any) -> None:
        """Another task is in force from `stamp_ns` on."""
        while self._from[-1] >= stamp_ns:  # overtaken before it counted
            self._from.pop()
            self._tasks.pop()
        self._from.append(stamp_ns)
        self._tasks.append(task)

    def over(self, stamps: list[int]) -> "TaskOverTime":
        """The costs of ticks that began at the stamps (T,), ascending."""
        index = np.searchsorted(self._from, stamps, side="right") - 1
        return TaskOverTime(self._tasks, index)


class TaskOverTime:
    """Scores rows of a trial, each by the task of its tick; as many rows as ticks, or the first of them."""

    def __init__(self, tasks: list[Any], index: np.ndarray) -> None:
        self._tasks, self._index = tasks, index

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Cost of each period: x (T', nx), u (T', nu) -> (T',)."""
        return self._by_task(lambda task, rows: task.running_cost(x[rows], u[rows]), len(x), float)

    def on_target(self, x: np.ndarray) -> np.ndarray:
        """Whether each state is on the target of its tick: (T', nx) -> (T',) bool."""
        return self._by_task(lambda task, rows: task.on_target(x[rows]), len(x), bool)

    def _by_task(self, score: Any, count: int, kind: type) -> np.ndarray:
        found: np.ndarray = np.zeros(count, dtype=kind)
        index = self._index[:count]
        for i in np.unique(index):
            rows = index == i
            found[rows] = score(self._tasks[i], rows)
        return found
