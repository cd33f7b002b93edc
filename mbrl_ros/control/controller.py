"""Control at one tick: predict to the moment the command acts, plan or follow the last plan, return an action."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbrl_ros.planners.base import Deadline, Plan, Planner, Problem
from mbrl_ros.planners.rollout import reachable

LONGEST_GAP = 1.0  # s between two observations that count as time; more is a clock that was set
MODES = {
    "mpc": "plan again and again; between two plans follow the last one, with its feedback gains where it has any",
    "open_loop": "plan once, at the first tick, and play the actions back",
    "closed_loop": "plan once and follow the plan with its feedback gains",
}


@dataclass(frozen=True)
class Tick:
    """What one tick of control produced.

    Attributes:
        action: (nu,), finite and within the limits.
        plan: the plan that is followed.
        states: predicted states of the rest of the plan (H' + 1, nx), mean over particles.
        actions: its actions (H', nu).
        spread: standard deviation over particles, root mean square over entries, at the end of the plan.
        seconds: time taken.
        missed: whether the time budget cut the planning short or was overrun.
        allowed: rounds that the deadline allowed, those that refine the plan at the end included.
    """

    action: np.ndarray
    plan: Plan
    states: np.ndarray
    actions: np.ndarray
    spread: float
    seconds: float
    missed: bool
    allowed: int


class Controller:
    """Control with a planner of the library, in one of MODES.

    Attributes:
        problem: the control problem; its dynamics is exchanged between two ticks by `use`.
    """

    def __init__(self, planner: Planner, problem: Problem, delay_ticks: int, budget: float, mode: str = "mpc") -> None:
        """Set the controller up; `reset` begins a trial.

        Args:
            planner: a planner.
            problem: the control problem; `problem.replan_every` is how often `mpc` plans.
            delay_ticks: periods between an observation and the moment its command acts.
            budget: planning time in s, inf for none.
            mode: a key of MODES.
        """
        self.planner = planner
        self.problem = problem
        self.use(problem.dynamics)
        self.delay_ticks = delay_ticks
        self.budget = budget
        self.mode = mode
        self._opening: list[np.ndarray] = []  # first actions of the trial
        self._guess: np.ndarray | None = None  # those of the last one (H, nu)
        self.reset()

    def use(self, dynamics: Any) -> None:
        """Plan through another model from the next tick on; what the planner remembers stays.

        A learned model that plans see by its mean still tells how far its members go apart.
        """
        self.problem = replace(self.problem, dynamics=dynamics)
        by_mean = getattr(dynamics, "propagation", "") == "mean"
        self._spreading = dynamics.with_propagation("ts_inf") if by_mean else dynamics
        self._futures = dynamics.members if by_mean else self.problem.particles

    def reset(self, anew: bool = False) -> None:
        """Forget the last trial, but for the actions it began with: the next one may begin alike.

        Args:
            anew: forget these, too, as at the beginning of a run.
        """
        if anew:
            self._guess = None
        elif len(self._opening) == self.problem.horizon:
            self._guess = np.array(self._opening)
        self._opening = []
        self._state: Any = None
        self._plan: Plan | None = None
        self._age = 0  # periods since the plan was made
        self._sent: list[np.ndarray] = []  # newest last; as many as have yet to act, at least one

    def note_sent(self, action: np.ndarray) -> None:
        """Take down an action (nu,) that was sent."""
        self._sent = [*self._sent, action][-max(1, self.delay_ticks) :]

    def pass_over(self, periods: int) -> None:
        """Take down periods without a tick: what was sent last goes on acting in them, and the plan grows older."""
        for _ in range(min(periods, self.delay_ticks) if self._sent else 0):
            self.note_sent(self._sent[-1])
        self._age += max(periods, 0)

    def tick(self, x: np.ndarray, rng: np.random.Generator) -> Tick:
        """Action for the observation x (nx,), within the time budget.

        A plan that is not finite is replaced by rest, so that what leaves here is always a command.
        """
        deadline = Deadline(self.budget)
        start = self._predict_delay(x)
        self.problem = replace(self.problem, u_last=self._sent[-1] if self._sent else self._rest(x))
        planned = self._plan is None or (self.mode == "mpc" and self._age + 1 >= self.problem.replan_every)
        plan = self._new_plan(start, rng, deadline) if planned or self._plan is None else self._plan
        self._age = 0 if planned else self._age + 1
        actions = self._rest_of(plan, start)
        states = self.problem.dynamics.rollout(start, actions[None], None, self.problem.particles)[:, 0].mean(axis=0)
        futures = self._spreading.rollout(start, actions[None], None, self._futures)[:, 0]
        self.note_sent(actions[0])
        self._opening = [*self._opening, actions[0]][: self.problem.horizon]
        spread = float(np.sqrt(np.mean(futures[:, -1].var(axis=0))))
        missed = planned and (not plan.complete or deadline.elapsed > self.budget)
        return Tick(actions[0], plan, states, actions, spread, deadline.elapsed, missed, deadline.allowed)

    def _new_plan(self, start: np.ndarray, rng: np.random.Generator, deadline: Deadline) -> Plan:
        if self._state is None:
            guess = self._guess if self._guess is not None and len(self._guess) == self.problem.horizon else None
            self._state = self.planner.initial_state(self.problem, guess)
        self._plan, self._state = self.planner.plan(self.problem, start, self._state, rng, deadline)
        return self._plan

    def _rest_of(self, plan: Plan, start: np.ndarray) -> np.ndarray:
        """Actions from now on (H', nu): ``u = u_hat + K (x - x_hat)`` first; rest once the plan is used up."""
        actions, rest = np.array(plan.actions[self._age :], dtype=float), self._rest(start)
        if len(actions) == 0:
            return rest[None]
        if self.mode != "open_loop" and plan.gains is not None and plan.states is not None:
            actions[0] += plan.gains[self._age] @ (start - plan.states[self._age])
        wished = np.where(np.isnan(actions), rest, actions)
        return reachable(self.problem, np.clip(wished, self.problem.u_min, self.problem.u_max))

    def _rest(self, x: np.ndarray) -> np.ndarray:
        """Action (nu,) that keeps the robot in a state x (nx,): no effort, or where it is."""
        targets, none = self.problem.targets, np.zeros_like(self.problem.u_max)
        return none if targets is None else np.clip(x[targets], self.problem.u_min, self.problem.u_max)

    def _predict_delay(self, x: np.ndarray) -> np.ndarray:
        """State (nx,) at the moment the command will act: replay what was sent and has yet to act.

        Where a model predicts what is no number, it is the state now: from that a plan, or rest, can begin.
        """
        if self.delay_ticks == 0:
            return x
        before = [self._rest(x)] * (self.delay_ticks - len(self._sent))
        actions = np.array([*before, *self._sent])[None]
        futures = self.problem.dynamics.rollout(x, actions, None, self.problem.particles)
        predicted = futures[:, 0, -1].mean(axis=0).astype(float)
        return predicted if np.all(np.isfinite(predicted)) else x


def periods_missed(before_ns: int | None, now_ns: int, dt_ns: int) -> int:
    """Control periods without a tick between two stamps; none where there is no first one, or a clock was set."""
    gap = 0 if before_ns is None else now_ns - before_ns
    return max(round(gap / dt_ns) - 1, 0) if gap <= 1e9 * LONGEST_GAP else 0
