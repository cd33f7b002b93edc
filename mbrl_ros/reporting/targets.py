"""Where a task wants each entry of the state, for pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

REACH = 3.0  # distance from the goal, in the units of the state, up to which the ends of the target are looked for


def goal_of(task: Any, state: Sequence[str]) -> np.ndarray:
    """The goal (nx,); zero where the task does not say."""
    entries = task.goal_entries(state) if hasattr(task, "goal_entries") else {}
    return np.array([entries.get(name, 0.0) for name in state])


def target_range(task: Any, state: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """How far each entry alone may leave the goal and still be on target.

    Args:
        task: a task.
        state: names of the nx entries.

    Returns:
        Lower and upper ends (nx,) each, found by bisection, infinite where there is none within REACH; None where
        the goal itself is not on target.
    """
    goal, nx = goal_of(task, state), len(state)
    if not task.on_target(goal):
        return None
    ends = []
    for direction in (-REACH * np.eye(nx), REACH * np.eye(nx)):
        inside, outside = np.zeros(nx), np.ones(nx)
        for _ in range(40):
            middle = 0.5 * (inside + outside)
            good = task.on_target(goal + middle[:, None] * direction)
            inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
        far = task.on_target(goal + direction)
        ends.append(goal + np.where(far, np.inf * np.sign(np.diag(direction)), inside * np.diag(direction)))
    return ends[0], ends[1]
