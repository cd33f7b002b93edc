"""Lets the horizon of a planner change between two ticks: what it remembers is cut, or its end is held."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from mbrl_ros.planners.base import Deadline, Plan, Planner, Problem


@dataclass(frozen=True)
class HorizonState:
    """What the planner remembers, and the horizon it remembers it for."""

    inner: Any
    horizon: int


class ChangingHorizon:
    """A planner around another one; while the horizon stays as it is, the other one alone counts."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> HorizonState:
        """See `Planner.initial_state`."""
        return HorizonState(self.planner.initial_state(problem, guess), problem.horizon)

    def plan(
        self, problem: Problem, x0: np.ndarray, state: HorizonState, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, HorizonState]:
        """See `Planner.plan`. A memory that is no sequence of periods, such as a tree, begins anew."""
        inner = state.inner
        if state.horizon != problem.horizon:
            inner = resized(inner, state.horizon, problem.horizon)
            inner = self.planner.initial_state(problem) if inner is None else inner
        plan, inner = self.planner.plan(problem, x0, inner, rng, deadline)
        return plan, HorizonState(inner, problem.horizon)


def resized(memory: Any, old: int, new: int) -> Any | None:
    """What a planner remembers, for another horizon; None where it is no sequence of periods.

    Arrays (..., H, n), or (..., H + 1, n) of states, lose their end or repeat their last entry.
    """
    if isinstance(memory, np.ndarray):
        return along_horizon(memory, old, new)
    if not is_dataclass(memory) or isinstance(memory, type):
        return None
    arrays = {f.name: getattr(memory, f.name) for f in fields(memory)}
    kept = {n: along_horizon(a, old, new) for n, a in arrays.items() if isinstance(a, np.ndarray) and a.ndim > 1}
    return replace(memory, **kept) if kept else None


def along_horizon(array: np.ndarray, old: int, new: int) -> np.ndarray:
    """An array (..., T, n) of a horizon `old` for the horizon `new`: T is changed by as much."""
    length = array.shape[-2] + new - old
    ahead = np.minimum(np.arange(length), array.shape[-2] - 1)
    return array[..., ahead, :]
