"""The iterations of iLQR and DDP (Tassa, Erez and Todorov 2012; limits: Tassa, Mansard and Todorov 2014).

Each iteration linearises the dynamics and expands the cost along the current trajectory, solves the resulting LQR
problem backwards, and rolls the new affine policy forward with a step length that really lowers the cost.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Problem, Task
from mbrl_ros.planners.cost_expansion import convex, expand_running, expand_terminal
from mbrl_ros.planners.riccati_kernel import backward

Pair = tuple[np.ndarray, np.ndarray]
LONG_STEP, SHORT_STEP = 0.5, 0.05  # from / up to these the regularisation shrinks / grows (as in Crocoddyl)
FEW_FIRST = [1, 4]  # step lengths are tried in batches, split here: most often the first one will do
ROUNDING = 1e-15  # relative changes of the cost below this cannot be told from rounding


@dataclass(frozen=True)
class ILQRConfig:
    """Settings of iLQR and DDP."""

    iterations: int = option(50, "most iterations a tick", low=1, high=10_000, dynamic=True)
    tolerance: float = option(
        1e-5, "expected decrease of the cost, relative, that is not worth a step", low=0.0, high=1.0, dynamic=True
    )
    initial_std: float = option(
        0.1, "spread of the very first guess as a share of half the control range", low=0.0, high=10.0
    )
    convex_cost: bool = option(True, "cut negative curvature off the cost's Hessians")
    line_search_steps: int = option(10, "step lengths tried, each half the last one", low=1, high=50)
    sufficient_decrease: float = option(
        0.3, "share of the expected decrease that a step must bring", low=0.0, high=0.999
    )
    initial_regularisation: float = option(0.0, "regularisation at the start of each tick", low=0.0, high=1e10)
    min_regularisation: float = option(1e-6, "smallest regularisation above zero", low=1e-12, high=1e10)
    max_regularisation: float = option(1e10, "regularisation past which the solver gives up", low=1e-12, high=1e20)
    regularisation_factor: float = option(2.0, "how fast the regularisation grows and shrinks", low=1.01, high=100.0)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class ConvergenceReport:
    """How a solve went.

    Attributes:
        status: ``converged``, ``iterations`` (all used up), ``deadline``, ``stuck`` (no step lowers the cost even at
            the largest regularisation) or ``non-finite`` (no finite trajectory or expansion to start from).
        costs: cost at the start and after each accepted step.
        step_lengths: step length of each accepted step.
        regularisations: regularisation at the end of each iteration.
        iterations: iterations begun.
    """

    status: str
    costs: tuple[float, ...]
    step_lengths: tuple[float, ...]
    regularisations: tuple[float, ...]
    iterations: int


@dataclass(frozen=True)
class Solution:
    """States (H + 1, nx), actions (H, nu), the gains (H, nu, nx) of the last backward pass, and the report."""

    states: np.ndarray
    actions: np.ndarray
    gains: np.ndarray
    report: ConvergenceReport


class Regularisation:
    """The quadratic schedule of Tassa 2012, section II-F."""

    def __init__(self, cfg: ILQRConfig) -> None:
        self.cfg, self.mu, self.delta = cfg, cfg.initial_regularisation, 1.0

    def increase(self) -> bool:
        """More caution, up to the maximum; False where that had been reached."""
        cfg, before = self.cfg, self.mu
        self.delta = max(1.0, self.delta) * cfg.regularisation_factor
        self.mu = min(max(cfg.min_regularisation, before * self.delta), cfg.max_regularisation)
        return before < cfg.max_regularisation

    def decrease(self) -> None:
        """Less caution, down to none."""
        factor = self.cfg.regularisation_factor
        self.delta = min(1.0 / factor, self.delta / factor)
        self.mu = self.mu * self.delta if self.mu * self.delta >= self.cfg.min_regularisation else 0.0


def require(dynamics: Any, *methods: str) -> None:
    """Raise ConfigError where the dynamics lack one of the methods."""
    for method in methods:
        if not hasattr(dynamics, method):
            raise ConfigError(f"these dynamics have no '{method}', which this planner needs; choose another planner")


def trajectory_costs(task: Task, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Costs (N,) of states (N, H + 1, nx) under actions (N, H, nu); NaN stays NaN, which no comparison accepts."""
    with np.errstate(over="ignore", invalid="ignore"):
        return task.running_cost(states[:, :-1], actions).sum(axis=-1) + task.terminal_cost(states[:, -1])


def rollout_feedback(dynamics: Any, nominal: Pair, policy: Pair, alphas: np.ndarray, limits: Pair) -> Pair:
    """Mean motion under ``u = clip(u_hat + alpha k + K (x - x_hat))`` for each alpha, compiled where the model can.

    Returns:
        States (N, H + 1, nx) and actions (N, H, nu), N step lengths.
    """
    if hasattr(dynamics, "rollout_feedback"):
        return dynamics.rollout_feedback(nominal, policy, alphas, limits)
    (x_hat, u_hat), (k, K) = nominal, policy
    states, actions = np.empty((len(alphas), *x_hat.shape)), np.empty((len(alphas), *u_hat.shape))
    states[:, 0] = x_hat[0]
    for t in range(len(u_hat)):
        wish = u_hat[t] + alphas[:, None] * k[t] + (states[:, t] - x_hat[t]) @ K[t].T
        actions[:, t] = np.clip(wish, *limits)
        states[:, t + 1] = dynamics.step(states[:, t], actions[:, t])
    return states, actions


class Solver:
    """One solve: the trajectory so far, its cost, policy and regularisation."""

    def __init__(self, problem: Problem, config: ILQRConfig, second_order: bool) -> None:
        """Prepare; `second_order` adds the dynamics' second derivatives (DDP).

        Raises:
            ConfigError: dynamics without the derivatives that the method needs.
        """
        self.dynamics: Any = problem.dynamics
        require(problem.dynamics, *("step", "linearize", "hessian")[: 3 if second_order else 2])
        self.task, self.cfg, self.second_order = problem.task, config, second_order
        nx, nu = problem.dynamics.nx, problem.dynamics.nu
        self.limits = (
            np.broadcast_to(np.asarray(problem.u_min, float), (nu,)).copy(),
            np.broadcast_to(np.asarray(problem.u_max, float), (nu,)).copy(),
        )
        self.alphas = 0.5 ** np.arange(config.line_search_steps)
        self.policy = np.zeros((problem.horizon, nu)), np.zeros((problem.horizon, nu, nx))
        self.regularisation = Regularisation(config)
        self.expansion: tuple | None = None  # of the current trajectory, None when that has changed
        self.costs: list[float] = []
        self.step_lengths: list[float] = []

    def run(self, x0: np.ndarray, guess: np.ndarray, deadline: Deadline) -> Solution:
        """Iterate from `guess` (H, nu), clipped, at x0 (nx,) until converged, stuck or out of time."""
        status = self._start(x0, guess)
        regularisations: list[float] = []
        while not status and len(regularisations) < self.cfg.iterations:
            if not deadline.allows_round():
                status = "deadline"
                break
            status = self._iterate()
            regularisations.append(self.regularisation.mu)
        costs, lengths = tuple(self.costs), tuple(self.step_lengths)
        report = ConvergenceReport(status or "iterations", costs, lengths, tuple(regularisations), len(regularisations))
        return Solution(*self.nominal, self.policy[1], report)

    def _start(self, x0: np.ndarray, guess: np.ndarray) -> str:
        """Roll the guess out, or no action at all where the guess ends in non-finite states."""
        x_hat = np.broadcast_to(x0, (len(guess) + 1, len(x0)))
        for start in (guess, np.zeros_like(guess)):
            actions = np.clip(start, *self.limits)
            states, _ = rollout_feedback(self.dynamics, (x_hat, actions), self.policy, np.zeros(1), self.limits)
            self.nominal = states[0], actions
            cost = float(trajectory_costs(self.task, states, actions[None])[0])
            if np.isfinite(cost):
                break
        self.costs.append(cost if np.isfinite(cost) else np.inf)
        return "" if np.isfinite(cost) else "non-finite"

    def _iterate(self) -> str:
        """One iteration; returns the final status, or nothing to go on."""
        if self.expansion is None:
            self.expansion = self._expand()
        if self.expansion is None:
            return "non-finite"
        ok, linear, quadratic = self._backward()
        least = ok and self.regularisation.mu == 0.0
        while not ok:  # the smallest regularisation that works is as good as none for judging convergence
            least = True
            if not self.regularisation.increase():
                return "stuck"
            ok, linear, quadratic = self._backward()
        small = -(linear + quadratic) <= max(self.cfg.tolerance, ROUNDING) * abs(self.costs[-1])
        if small and least:
            return "converged"
        step_length = self._line_search(linear, quadratic)
        if small or step_length >= LONG_STEP:
            self.regularisation.decrease()
        elif step_length <= SHORT_STEP and not self.regularisation.increase() and step_length == 0.0:
            return "stuck"
        return ""

    def _expand(self) -> tuple | None:
        """Derivatives along the trajectory as `backward` takes them; None where one is not finite."""
        states, actions = self.nominal
        x = states[:-1]
        F = np.concatenate(self.dynamics.linearize(x, actions), axis=2)
        c, C = expand_running(self.task, x, actions)
        v, V = expand_terminal(self.task, states[-1])
        n = F.shape[2]
        fzz = self.dynamics.hessian(x, actions) if self.second_order else np.empty((len(x), 0, n, n))
        if not all(np.isfinite(a).all() for a in (F, c, C, v, V, fzz)):
            return None
        if self.cfg.convex_cost:
            C, V = convex(C), convex(V)
        F, c, C, fzz, v, V = (np.ascontiguousarray(a, np.float64) for a in (F, c, C, fzz, v, V))
        return F, c, C, fzz, (v, V)

    def _backward(self) -> tuple[bool, float, float]:
        """Backward pass into a fresh policy, kept where it succeeds."""
        k, K = np.zeros_like(self.policy[0]), np.zeros_like(self.policy[1])
        F, c, C, fzz, terminal = self.expansion  # type: ignore[misc]
        result = backward(F, c, C, fzz, terminal, self.nominal[1], self.limits, self.regularisation.mu, k, K)
        if result[0]:
            self.policy = k, K
        return result

    def _line_search(self, linear: float, quadratic: float) -> float:
        """Take the longest step that brings enough of the expected decrease; returns its length, 0 for none."""
        for alphas in np.split(self.alphas, FEW_FIRST):
            states, actions = rollout_feedback(self.dynamics, self.nominal, self.policy, alphas, self.limits)
            costs = trajectory_costs(self.task, states, actions)
            decrease = self.costs[-1] - costs
            enough = decrease >= -self.cfg.sufficient_decrease * (alphas * linear + alphas**2 * quadratic)
            accepted = np.flatnonzero((decrease > 0.0) & enough)
            if accepted.size:
                first = accepted[0]
                self.nominal = states[first], actions[first]
                self.costs.append(float(costs[first]))
                self.step_lengths.append(float(alphas[first]))
                self.expansion = None
                return self.step_lengths[-1]
        return 0.0
