"""What a planner is: state in, state out, generator as argument, cost minimised, a deadline it keeps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Dynamics(Protocol):
    """What planners see of a model: known or learned, deterministic or sampled."""

    @property
    def nx(self) -> int:
        """State entries."""

    @property
    def nu(self) -> int:
        """Action entries."""

    def rollout(
        self, x0: np.ndarray, actions: np.ndarray, rng: np.random.Generator | None, particles: int
    ) -> np.ndarray:
        """Futures of candidates: x0 (nx,) or (P, nx), actions (N, H, nu) -> states (P, N, H + 1, nx).

        `rng` draws the noise of the dynamics; None asks for the mean of each particle.
        """


@runtime_checkable
class DifferentiableDynamics(Dynamics, Protocol):
    """Dynamics whose mean has derivatives.

    Two more methods are used where a model has them: ``hessian(x, u)``, the second derivatives of `step` by
    (x, u), (B, nx, nx + nu, nx + nu), which DDP needs; and ``rollout_feedback``, a compiled rollout under feedback
    (see `models/analytic.py`), which saves iLQR's line search a loop over `step`.
    """

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Mean next states: x (B, nx), u (B, nu) -> (B, nx)."""

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step`: A = dx'/dx (B, nx, nx), B = dx'/du (B, nx, nu)."""


class Task(Protocol):
    """Running and terminal cost, in numpy that accepts any leading dimensions."""

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Cost of one control period: x (..., nx), u (..., nu) -> (...)."""

    def terminal_cost(self, x: np.ndarray) -> np.ndarray:
        """Cost of where the horizon ends: x (..., nx) -> (...)."""


Risk = Callable[[np.ndarray], np.ndarray]


def risk_neutral(costs: np.ndarray) -> np.ndarray:
    """Mean over particles: costs (P, N) -> (N,)."""
    return costs.mean(axis=0)


@dataclass(frozen=True)
class Problem:
    """The control problem at one tick.

    Attributes:
        dynamics: the model to plan through.
        task: the costs.
        u_min: lower control limits (nu,).
        u_max: upper control limits (nu,).
        horizon: H, control periods.
        particles: P, sampled futures of each candidate.
        sample_noise: whether particles draw the model's aleatoric noise.
        risk: costs (P, N) -> (N,), how particles are summed up.
        x_min: lower state limits (nx,), -inf for none, kept by planners whose unknowns are states (collocation); the
            others are kept within limits by the task's cost, see `constraints.ConstrainedTask`.
        x_max: upper state limits (nx,).
        replan_every: control periods until the next plan; what a planner remembers is shifted by as many.
        u_step: largest change of the controls from one period to the next (nu,), None for any, see `rollout.reachable`.
        u_last: controls before the first ones (nu,); None where they are not known.
        targets: state entries (nu,) that the controls are targets of, as positions are; None where no control is rest.
        on_evaluated: told start (nx,), actions (N, H, nu) and costs (N,) of all that is tried; None while nobody looks.
    """

    dynamics: Dynamics
    task: Task
    u_min: np.ndarray
    u_max: np.ndarray
    horizon: int
    particles: int = 1
    sample_noise: bool = False
    risk: Risk = risk_neutral
    replan_every: int = 1
    x_min: np.ndarray | None = None
    x_max: np.ndarray | None = None
    u_step: np.ndarray | None = None
    u_last: np.ndarray | None = None
    targets: np.ndarray | None = None
    on_evaluated: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None = None


@dataclass(frozen=True)
class Plan:
    """What a planner returns.

    Attributes:
        actions: (H, nu), within the limits; the first is for the state that was planned from.
        cost: predicted cost of the plan.
        rounds: rounds (or iterations, or simulations) that were finished.
        complete: False where the deadline cut the planning short.
        gains: feedback gains (H, nu, nx) of ``u = u_hat + K (x - x_hat)``, None for open-loop plans.
        states: the states x_hat (H + 1, nx) the gains refer to, None for open-loop plans.
    """

    actions: np.ndarray
    cost: float
    rounds: int
    complete: bool = True
    gains: np.ndarray | None = None
    states: np.ndarray | None = None


class Planner(Protocol):
    """A planning method. It holds its configuration only; what it remembers between ticks is `state`."""

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> Any:
        """State for the first tick of a trial: nothing known but, where given, the actions `guess` (H, nu).

        They are those that the last trial began with. A planner that compares candidates tries them, too.
        """

    def plan(
        self, problem: Problem, x0: np.ndarray, state: Any, rng: np.random.Generator, deadline: "Deadline"
    ) -> tuple[Plan, Any]:
        """Plan from x0 (nx,) and return the plan and the state for the next tick.

        The returned state is already shifted by `problem.replan_every` periods (warm start).
        """


class Deadline:
    """The moment by which a planner must answer, and its sense of how long its rounds take.

    A planner asks `allows_round` before each further round. The first round is always allowed, so that
    there is something to return.
    """

    def __init__(self, budget: float = float("inf"), clock: Callable[[], float] = time.perf_counter) -> None:
        """Start the clock: `budget` in s; inf never cuts, as deterministic runs need."""
        self._clock = clock
        self._start = self._last = clock()
        self._budget = budget
        self._longest = 0.0
        self._rounds = 0

    def allows_round(self) -> bool:
        """Whether one more round as long as the longest so far would still end in time."""
        now = self._clock()
        if self._rounds:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        fits = now + self._longest <= self._start + self._budget
        allowed = self._rounds == 0 or fits
        self._rounds += allowed
        return allowed

    @property
    def allowed(self) -> int:
        """How many rounds were allowed."""
        return self._rounds

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start
