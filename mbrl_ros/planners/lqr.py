"""Linear-quadratic regulators, in the notation of CS285 (Levine, optimal control and planning).

    x' = F [x; u] + f (+ noise of covariance Sigma),    cost = 1/2 [x; u]' C [x; u] + [x; u]' c

The planner `LQR` plans as if the world were like that: dynamics linearised and cost expanded at one point.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_discrete_are

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.cost_expansion import convex, expand_running, expand_terminal
from mbrl_ros.planners.ilqr_solver import require, rollout_feedback, trajectory_costs
from mbrl_ros.planners.riccati_kernel import lqr_backward

LEAST_CURVATURE = 1e-9  # added by the planner, so that an action that is not charged for still has a minimum


@dataclass(frozen=True)
class LQRSolution:
    """Policy ``u = K x + k`` and cost to go ``1/2 x' V x + x' v + constant``.

    Attributes:
        K: gains (H, nu, nx).
        k: offsets (H, nu).
        V: (H + 1, nx, nx), symmetric.
        v: (H + 1, nx).
        constant: (H + 1,), with what the noise costs.
        noise_cost: (H + 1,), what the noise from each period on costs, ``sum 1/2 tr(V_{t+1} Sigma)``.
    """

    K: np.ndarray
    k: np.ndarray
    V: np.ndarray
    v: np.ndarray
    constant: np.ndarray
    noise_cost: np.ndarray

    def cost_to_go(self, x: np.ndarray, t: int = 0) -> float:
        """Expected cost from x (nx,) at period t to the end."""
        return float(0.5 * x @ self.V[t] @ x + x @ self.v[t] + self.constant[t])


def solve(
    F: np.ndarray,
    f: np.ndarray,
    C: np.ndarray,
    c: np.ndarray,
    terminal: tuple[np.ndarray, np.ndarray],
    noise: np.ndarray | None = None,
) -> LQRSolution:
    """Finite horizon, everything varying with time.

    Args:
        F: dynamics (H, nx, nx + nu).
        f: affine part (H, nx).
        C: Hessians of the cost (H, nx + nu, nx + nu), symmetric, cross terms included.
        c: linear terms of the cost (H, nx + nu).
        terminal: Hessian V (nx, nx) and gradient v (nx,) of the terminal cost.
        noise: covariance Sigma (nx, nx) of additive Gaussian noise. It leaves the policy as it is (certainty
            equivalence) and is charged in `constant`.

    Raises:
        ConfigError: the cost of some action is not positive definite, so there is no minimum.
    """
    F, f, c, C = (np.ascontiguousarray(a, np.float64) for a in (F, f, c, C))
    horizon, nx, n = F.shape
    K, k, drift = np.empty((horizon, n - nx, nx)), np.empty((horizon, n - nx)), np.empty(horizon)
    V, v = np.empty((horizon + 1, nx, nx)), np.empty((horizon + 1, nx))
    V[-1], v[-1] = terminal
    failed = lqr_backward(F, f, c, C, V, v, K, k, drift)
    if failed >= 0:
        raise ConfigError(f"period {failed}: the cost of the action is not positive definite; there is no minimum")
    noise_cost = np.zeros(horizon + 1) if noise is None else to_the_end(0.5 * np.einsum("tij,ji->t", V[1:], noise))
    constant = to_the_end(drift) + noise_cost
    return LQRSolution(K, k, V, v, constant, noise_cost)


def to_the_end(stages: np.ndarray) -> np.ndarray:
    """Sums (H + 1,) of the stages' costs (H,) from each period on."""
    return np.append(np.cumsum(stages[::-1])[::-1], 0.0)


def solve_infinite(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Infinite horizon, ``u = K x``: gains K (nu, nx) and V (nx, nx) by the algebraic Riccati equation.

    Args:
        A: (nx, nx).
        B: (nx, nu), (A, B) stabilisable.
        C: Hessian of the cost (nx + nu, nx + nu), symmetric, cross terms included.

    Raises:
        ConfigError: the equation has no stabilising solution.
    """
    nx = len(A)
    S = C[:nx, nx:]
    try:
        V = solve_discrete_are(A, B, C[:nx, :nx], C[nx:, nx:], s=S)
    except np.linalg.LinAlgError as error:
        raise ConfigError(f"no stabilising solution: {error}") from None
    return -np.linalg.solve(C[nx:, nx:] + B.T @ V @ B, B.T @ V @ A + S.T), V


@dataclass(frozen=True)
class LQRConfig:
    """Settings of the LQR planner."""

    reference: str = option("goal", "point of linearisation", choices=("goal", "current"))
    goal: tuple[float, ...] = option((), "the state to regulate to, an equilibrium; empty for the origin")

    def __post_init__(self) -> None:
        validate(self)


class LQR:
    """One backward pass about the goal (or the current state), its policy rolled out within the limits.

    Good near the goal only. The state between ticks is None: nothing is carried over.
    """

    config_class = LQRConfig

    def __init__(self, config: LQRConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> None:
        """Nothing to remember."""

    def plan(
        self, problem: Problem, x0: np.ndarray, state: None, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, None]:
        """See `Planner.plan`; one round, through the mean of the dynamics."""
        require(problem.dynamics, "step", "linearize")
        x_ref, u_ref = self._reference(problem, np.asarray(x0, float))
        solution = linearised(problem, x_ref, u_ref)
        horizon = problem.horizon
        start = np.concatenate([np.asarray(x0, float)[None], np.tile(x_ref, (horizon, 1))])
        k = solution.k.copy()
        k[0] += solution.K[0] @ (x0 - x_ref)  # the rollout measures its deviation from `start`
        nominal, limits = (start, np.tile(u_ref, (horizon, 1))), (problem.u_min, problem.u_max)
        states, actions = rollout_feedback(problem.dynamics, nominal, (k, solution.K), np.ones(1), limits)
        cost = float(trajectory_costs(problem.task, states, actions)[0])
        cost = cost if np.isfinite(cost) else np.inf
        return Plan(actions[0], cost, rounds=1, gains=solution.K, states=states[0]), None

    def _reference(self, problem: Problem, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Point of linearisation: state (nx,), and the action (nu,) in the middle of the limits."""
        nx, goal = problem.dynamics.nx, self.config.goal
        if len(goal) not in (0, nx):
            raise ConfigError(f"goal: {len(goal)} entries; expected none or one for each of the {nx} state entries")
        at_goal = np.array(goal, float) if goal else np.zeros(nx)
        return x0 if self.config.reference == "current" else at_goal, 0.5 * (problem.u_min + problem.u_max)


def linearised(problem: Problem, x_ref: np.ndarray, u_ref: np.ndarray) -> LQRSolution:
    """The LQR problem in deviations from one point, x_ref (nx,) and u_ref (nu,), solved over the horizon."""
    dynamics, task, horizon = problem.dynamics, problem.task, problem.horizon
    x, u = x_ref[None], u_ref[None]
    F = np.concatenate(dynamics.linearize(x, u), axis=2)  # type: ignore[attr-defined]
    f = dynamics.step(x, u) - x  # type: ignore[attr-defined]
    c, C = expand_running(task, x, u)
    v, V = expand_terminal(task, x_ref)
    nx, nu = dynamics.nx, dynamics.nu
    C = convex(C) + np.diag([0.0] * nx + [LEAST_CURVATURE] * nu)
    F, f, C, c = (np.repeat(a, horizon, axis=0) for a in (F, f, C, c))
    return solve(F, f, C, c, (convex(V), v))
