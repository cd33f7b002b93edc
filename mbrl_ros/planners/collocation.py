"""Direct transcription as a planner: states and actions are unknowns, the model's steps are constraints.

For discrete-time dynamics, known or learned, collocation has the defects ``x_{t+1} - f(x_t, u_t)`` (Betts 2010,
chapter 3; multiple shooting with one period a segment). The states of the last tick's plan start the next one, so
an unstable motion is not rolled out blindly. Continuous-time problems with ends and free duration:
`collocation_solver`. The plan is through the dynamics' mean; `particles`, `sample_noise` and `risk` of the problem only
enter the cost by which the new plan is compared with the last one.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, DifferentiableDynamics, Plan, Problem
from mbrl_ros.planners.cem import shift
from mbrl_ros.planners.collocation_solver import block_diagonal
from mbrl_ros.planners.cost_expansion import convex, expand_running, expand_terminal
from mbrl_ros.planners.interior_point import minimise
from mbrl_ros.planners.rollout import evaluate

OUTSIDE = 0.01  # share of the width of the limits that a state outside them may go further before it returns


@dataclass(frozen=True)
class CollocationConfig:
    """Settings of the collocation planner."""

    iterations: int = option(30, "most iterations of the solver a tick", low=1, high=10_000, dynamic=True)
    tolerance: float = option(
        1e-3, "violation of the optimality conditions at which the solver stops", low=1e-12, high=1.0, dynamic=True
    )
    barrier: float = option(
        1e-2, "first barrier parameter of a tick, low to stay near the last plan", low=1e-9, high=10.0
    )
    initial_std: float = option(
        0.1, "spread of the very first guess as a share of half the control range", low=0.0, high=10.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class CollocationState:
    """The last plan, already shifted: actions (H, nu) and states (H + 1, nx); None: nothing yet."""

    actions: np.ndarray
    states: np.ndarray


class DirectTranscription:
    """The `NonlinearProgram` of a tick: unknowns v = (x_0, u_0, x_1, u_1, ..., x_H), x_0 given."""

    def __init__(self, problem: Problem, x0: np.ndarray) -> None:
        """Lay out the unknowns.

        Raises:
            ConfigError: dynamics without derivatives.
        """
        if not isinstance(problem.dynamics, DifferentiableDynamics):
            raise ConfigError(f"{type(problem.dynamics).__name__} has no step and linearize, which collocation needs")
        self.dynamics, self.task, self.horizon = problem.dynamics, problem.task, problem.horizon
        self.nx, self.nu = problem.dynamics.nx, problem.dynamics.nu
        x_low, x_high = state_limits(problem, x0)
        self.low = np.concatenate([np.tile([*x_low, *problem.u_min], self.horizon), x_low])
        self.high = np.concatenate([np.tile([*x_high, *problem.u_max], self.horizon), x_high])
        self.low[: self.nx] = self.high[: self.nx] = x0
        size = self.horizon * self.nx
        column = np.arange(self.horizon + 1)[1:, None] * (self.nx + self.nu) + np.arange(self.nx)
        self.next_states = sp.csr_array(
            (np.ones(size), (np.arange(size), column.ravel())), shape=(size, len(self.low))
        )  # picks x_1 ... x_H out of v

    def join(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """States (H + 1, nx), actions (H, nu) -> unknowns."""
        return np.append(np.concatenate([states[:-1], actions], axis=1).ravel(), states[-1])

    def start(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """First unknowns; states that are not finite (a model that diverged) are taken to be x_0 instead."""
        standing = np.where(np.isfinite(states), states, self.low[: self.nx])
        return self.join(standing, actions)

    def split(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unknowns -> states (H + 1, nx), actions (H, nu)."""
        z = v[: -self.nx].reshape(self.horizon, -1)
        return np.vstack([z[:, : self.nx], v[-self.nx :]]), z[:, self.nx :]

    def cost(self, v: np.ndarray) -> float:
        """Predicted cost."""
        x, u = self.split(v)
        return float(self.task.running_cost(x[:-1], u).sum() + self.task.terminal_cost(x[-1]))

    def gradient(self, v: np.ndarray) -> np.ndarray:
        """Gradient of the cost; the curvature found on the way is kept for `hessian`, which is asked there too."""
        x, u = self.split(v)
        slope, self._curvature = expand_running(self.task, x[:-1], u)
        end_slope, self._end_curvature = expand_terminal(self.task, x[-1])
        return np.append(slope.ravel(), end_slope)

    def constraints(self, v: np.ndarray) -> np.ndarray:
        """Defects ``x_{t+1} - f(x_t, u_t)`` (H nx,)."""
        x, u = self.split(v)
        return (x[1:] - self.dynamics.step(x[:-1], u)).ravel()

    def jacobian(self, v: np.ndarray) -> sp.csr_array:
        """Jacobian of the defects."""
        x, u = self.split(v)
        moved = block_diagonal(np.concatenate(self.dynamics.linearize(x[:-1], u), axis=2))
        empty = sp.csr_array((moved.shape[0], self.nx))
        return self.next_states - sp.hstack([moved, empty], format="csr")

    def hessian(self, v: np.ndarray, multipliers: np.ndarray) -> sp.csr_array:
        """Gauss-Newton: the cost's curvature, negative parts cut off, without the dynamics'."""
        running, end = block_diagonal(convex(self._curvature)), convex(self._end_curvature)
        return sp.block_diag([running, end], format="csr")


class Collocation:
    """Optimises the last tick's states and actions together."""

    config_class = CollocationConfig

    def __init__(self, config: CollocationConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> CollocationState | None:
        """Nothing known."""
        return None

    def plan(
        self,
        problem: Problem,
        x0: np.ndarray,
        state: CollocationState | None,
        rng: np.random.Generator,
        deadline: Deadline,
    ) -> tuple[Plan, CollocationState]:
        """See `Planner.plan`; the deadline is looked at between iterations.

        The states of an unfinished solve do not obey the dynamics yet: its actions are returned only where they cost
        no more than the last plan's.

        Raises:
            ConfigError: dynamics without derivatives, or a cost that does not accept complex numbers.
        """
        cfg, x0 = self.config, np.asarray(x0, float)
        nlp = DirectTranscription(problem, x0)
        state = state or self._first_guess(problem, nlp, rng)
        found = minimise(
            nlp,
            nlp.start(state.states, state.actions),
            iterations=cfg.iterations,
            tolerance=cfg.tolerance,
            barrier=cfg.barrier,
            allowed=deadline.allows_round,
        )
        states, actions = nlp.split(found.v)
        tried = np.clip(np.stack([actions, state.actions]), problem.u_min, problem.u_max)
        costs = evaluate(problem, x0, tried, rng)
        if costs[0] > costs[1]:
            states, actions = rolled_out(nlp.dynamics, x0, tried[1]), tried[1]
        plan = Plan(actions, float(costs.min()), found.iterations, complete=found.status != "stopped")
        after = rolled_out(nlp.dynamics, states[-1], np.repeat(actions[-1:], problem.replan_every, axis=0))
        ahead = np.concatenate([states, after[1:]])[problem.replan_every :]
        return plan, CollocationState(shift(actions, problem.replan_every), ahead)

    def _first_guess(self, problem: Problem, nlp: DirectTranscription, rng: np.random.Generator) -> CollocationState:
        """Small random actions and what they do: in an equilibrium no action at all may well have no gradient."""
        middle, half = 0.5 * (problem.u_min + problem.u_max), 0.5 * (problem.u_max - problem.u_min)
        noise = rng.standard_normal((problem.horizon, nlp.nu))
        actions = np.clip(middle + self.config.initial_std * half * noise, problem.u_min, problem.u_max)
        return CollocationState(actions, rolled_out(nlp.dynamics, nlp.low[: nlp.nx], actions))


def state_limits(problem: Problem, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State limits (nx,) of the problem, widened to hold x0: from outside, the way back must be feasible."""
    free = np.full(problem.dynamics.nx, np.inf)
    low = -free if problem.x_min is None else np.asarray(problem.x_min, float)
    high = free if problem.x_max is None else np.asarray(problem.x_max, float)
    room = OUTSIDE * np.where(np.isfinite(high - low), high - low, 0.0)
    return np.where(x0 < low, x0 - room, low), np.where(x0 > high, x0 + room, high)


def rolled_out(dynamics: DifferentiableDynamics, x0: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Mean states (H + 1, nx) from x0 (nx,) under actions (H, nu)."""
    states = [x0]
    for u in actions:
        states.append(dynamics.step(states[-1][None], u[None])[0])
    return np.array(states)
