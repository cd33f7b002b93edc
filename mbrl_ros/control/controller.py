"""Model-predictive control at one tick: predict to the moment the command acts, plan, return the first action."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbrl_ros.planners.base import Deadline, Plan, Planner, Problem


@dataclass(frozen=True)
class Tick:
    """What one tick of control produced.

    Attributes:
        action: (nu,), finite and within the limits.
        plan: the plan it is the first action of; None where the planner found none.
        states: predicted states of the plan (H + 1, nx), mean over particles.
        spread: standard deviation over particles, root mean square over entries, at the end of the plan.
        seconds: time taken.
        missed: whether the time budget cut the planning short or was overrun.
    """

    action: np.ndarray
    plan: Plan
    states: np.ndarray
    spread: float
    seconds: float
    missed: bool


class Controller:
    """Receding-horizon control with a planner of the library.

    Attributes:
        problem: the control problem; its dynamics is exchanged between two ticks by `use`.
    """

    def __init__(self, planner: Planner, problem: Problem, delay_ticks: int, budget: float) -> None:
        """Set the controller up.

        Args:
            planner: a planner.
            problem: the control problem.
            delay_ticks: periods between an observation and the moment its command acts.
            budget: planning time in s, inf for none.
        """
        self.planner = planner
        self.problem = problem
        self.delay_ticks = delay_ticks
        self.budget = budget
        self._state: Any = None
        self._sent: list[np.ndarray] = []

    def use(self, dynamics: Any) -> None:
        """Plan through another model from the next tick on; what the planner remembers stays."""
        self.problem = replace(self.problem, dynamics=dynamics)

    def reset(self) -> None:
        """Forget the last trial."""
        self._state = None
        self._sent = [np.zeros_like(self.problem.u_max)] * self.delay_ticks

    def note_sent(self, action: np.ndarray) -> None:
        """Take down an action (nu,) that was sent and has yet to act."""
        self._sent = [*self._sent, action][-self.delay_ticks :] if self.delay_ticks else []

    def tick(self, x: np.ndarray, rng: np.random.Generator) -> Tick:
        """Plan for the observation x (nx,) within the time budget.

        A plan that is not finite is replaced by no effort, so that what leaves here is always a command.
        """
        deadline = Deadline(self.budget)
        start = self._predict_delay(x)
        if self._state is None:
            self._state = self.planner.initial_state(self.problem)
        plan, self._state = self.planner.plan(self.problem, start, self._state, rng, deadline)
        actions = np.clip(np.nan_to_num(plan.actions), self.problem.u_min, self.problem.u_max)
        action = actions[0]
        futures = self.problem.dynamics.rollout(start, actions[None], None, self.problem.particles)[:, 0]
        self.note_sent(action)
        spread = float(np.sqrt(np.mean(futures[:, -1].var(axis=0))))
        missed = not plan.complete or deadline.elapsed > self.budget
        return Tick(action, plan, futures.mean(axis=0), spread, deadline.elapsed, missed)

    def _predict_delay(self, x: np.ndarray) -> np.ndarray:
        """State (nx,) at the moment the command will act: replay what was sent and has yet to act."""
        if not self._sent:
            return x
        actions = np.array(self._sent)[None]
        futures = self.problem.dynamics.rollout(x, actions, None, self.problem.particles)
        return futures[:, 0, -1].mean(axis=0).astype(float)
