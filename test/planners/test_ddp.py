"""DDP is Newton's method where iLQR is Gauss-Newton's."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.planners.base import Problem
from mbrl_ros.planners.ddp import DDP
from mbrl_ros.planners.ilqr import ILQR
from mbrl_ros.planners.ilqr_solver import ILQRConfig

HORIZON = 12
START = np.array([1.0, -0.5])


def swirl(x, u):
    """A strongly curved map: second derivatives by x, by u and mixed."""
    return x[0] + 0.3 * np.sin(x[1] + u[0]), x[1] + 0.3 * u[0] * np.cos(x[0]) - 0.2 * x[0] ** 2


class FarGoal:
    """A goal out of reach: the residual stays large, and with it the terms that iLQR leaves out."""

    def running_cost(self, x, u):
        return 0.2 * ((x[..., 0] - 3.0) ** 2 + (x[..., 1] + 2.0) ** 2) + 1.0 * u[..., 0] ** 2

    def terminal_cost(self, x):
        return self.running_cost(x, np.zeros(1))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(AnalyticDynamics.discrete(swirl, 2, 1), FarGoal(), np.array([-1e3]), np.array([1e3]), HORIZON)


def cost(problem: Problem, u: np.ndarray) -> float:
    x = problem.dynamics.rollout(START, u.reshape(1, HORIZON, 1), None, 1)[0, 0]
    running = problem.task.running_cost(x[:-1], u.reshape(HORIZON, 1)).sum()
    return float(running + problem.task.terminal_cost(x[-1]))


def iterates(method, problem: Problem, guess: np.ndarray, count: int) -> list[np.ndarray]:
    """Actions after 0, 1, 2, ... iterations, line search and regularisation at work."""
    runs = (method(ILQRConfig(iterations=n, tolerance=0.0)).solve(problem, START, guess) for n in range(1, count + 1))
    return [guess, *(run.actions for run in runs)]


def test_converges_quadratically_where_ilqr_converges_linearly(problem):
    optimum = DDP(ILQRConfig(iterations=200, tolerance=0.0)).solve(problem, START, np.zeros((HORIZON, 1))).actions
    start = optimum + 0.05 * np.random.default_rng(0).standard_normal(optimum.shape)
    errors = {m: [np.abs(u - optimum).max() for u in iterates(m, problem, start, 6)] for m in (DDP, ILQR)}
    ddp, ilqr = errors[DDP], errors[ILQR]
    steps = [(a, b) for a, b in pairwise(ddp) if a > 1e-5]
    assert len(steps) >= 2 and min(ddp) < 1e-7  # where rounding of the cost ends the descent
    for before, after in steps:
        assert after < 10.0 * before**2 + 1e-8  # the constant of the quadratic bound
    assert min(ilqr) > 1e-6
    ratios = [b / a for a, b in pairwise(ilqr[2:])]
    assert min(ratios) > 0.05  # each iteration takes off a fixed share only


def test_the_optimum_is_the_one_that_a_general_solver_finds(problem):
    solution = DDP(ILQRConfig(iterations=200, tolerance=0.0)).solve(problem, START, np.zeros((HORIZON, 1)))
    found = minimize(lambda u: cost(problem, u), solution.actions.ravel() + 0.02, method="BFGS", options={"gtol": 1e-7})
    assert solution.report.costs[-1] == pytest.approx(found.fun, rel=1e-9)
    np.testing.assert_allclose(solution.actions.ravel(), found.x, atol=1e-4)


def test_second_derivatives_change_the_gains(problem):
    guess = np.zeros((HORIZON, 1))
    with_them, without = (m(ILQRConfig(iterations=1)).solve(problem, START, guess).gains for m in (DDP, ILQR))
    assert np.abs(with_them - without).max() > 1e-3
