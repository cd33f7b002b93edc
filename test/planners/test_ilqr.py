"""iLQR and DDP: against LQR, their promises (descent, limits), and closed loops on known robots."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.planners import lqr, planner_class
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.ddp import DDP
from mbrl_ros.planners.ilqr import ILQR
from mbrl_ros.planners.ilqr_solver import ILQRConfig, Regularisation, rollout_feedback
from mbrl_ros.robots import cartpole_equations, pendulum_equations
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig

BOTH = pytest.mark.parametrize("method", [ILQR, DDP])
HANGING = np.array([0.0, np.pi, 0.0, 0.0])


class Linear:
    """``x' = A x + B u + d`` in numpy, with nothing but the protocol."""

    def __init__(self, A, B, d) -> None:
        self.A, self.B, self.d = A, B, d
        self.nx, self.nu = B.shape

    def step(self, x, u):
        return x @ self.A.T + u @ self.B.T + self.d

    def linearize(self, x, u):
        return np.tile(self.A, (len(x), 1, 1)), np.tile(self.B, (len(x), 1, 1))

    def hessian(self, x, u):
        n = self.nx + self.nu
        return np.zeros((len(x), self.nx, n, n))


class Quadratic:
    """``1/2 z' C z + c' z`` with z = (x, u), and the same without u at the end."""

    def __init__(self, C, c, nx) -> None:
        self.C, self.c, self.nx = C, c, nx

    def running_cost(self, x, u):
        shape = np.broadcast_shapes(x.shape[:-1], u.shape[:-1])
        z = np.concatenate([np.broadcast_to(a, (*shape, a.shape[-1])) for a in (x, u)], axis=-1)
        return 0.5 * np.einsum("...i,ij,...j->...", z, self.C, z) + z @ self.c

    def terminal_cost(self, x):
        V = self.C[: self.nx, : self.nx]
        return 0.5 * np.einsum("...i,ij,...j->...", x, V, x) + x @ self.c[: self.nx]


def linear_quadratic(horizon: int = 30, limit: float = np.inf) -> Problem:
    rng = np.random.default_rng(0)
    M = rng.normal(size=(5, 5))
    dynamics = Linear(
        0.7 * np.eye(3) + 0.1 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), 0.1 * rng.normal(size=3)
    )
    task = Quadratic(M @ M.T + 0.1 * np.eye(5), rng.normal(size=5), 3)
    return Problem(dynamics, task, np.full(2, -limit), np.full(2, limit), horizon)


@pytest.fixture(scope="module")
def cartpole() -> Problem:
    dynamics = AnalyticDynamics(cartpole_equations.derivative, 4, 1, 0.05)
    task = CartpoleSwingup(CartpoleSwingupConfig())
    return Problem(dynamics, task, np.array([-10.0]), np.array([10.0]), horizon=30)


@pytest.fixture(scope="module")
def pendulum() -> Problem:
    dynamics = AnalyticDynamics(pendulum_equations.derivative, 2, 1, 0.05)
    task = PendulumSwingup(PendulumSwingupConfig())
    return Problem(dynamics, task, np.array([-2.5]), np.array([2.5]), horizon=40)


def first_plan(method, problem: Problem, x0, seed: int = 0, **settings):
    planner = method(ILQRConfig(**settings))
    rng = np.random.default_rng(seed)
    return planner.plan(problem, np.asarray(x0), planner.initial_state(problem), rng, Deadline())


@BOTH
def test_solves_a_linear_quadratic_problem_in_one_full_step(method):
    problem, x0 = linear_quadratic(), np.array([1.0, -2.0, 0.5])
    d, task, H = problem.dynamics, problem.task, problem.horizon
    F, f = np.tile(np.hstack([d.A, d.B]), (H, 1, 1)), np.tile(d.d, (H, 1))
    expected = lqr.solve(F, f, np.tile(task.C, (H, 1, 1)), np.tile(task.c, (H, 1)), (task.C[:3, :3], task.c[:3]))
    solution = method(ILQRConfig()).solve(problem, x0, np.ones((H, 2)))
    assert solution.report.status == "converged"
    assert solution.report.step_lengths == (1.0,)
    assert solution.report.costs[-1] == pytest.approx(expected.cost_to_go(x0), rel=1e-9)
    np.testing.assert_allclose(solution.gains, expected.K, atol=1e-8)
    x = x0
    for t in range(H):
        np.testing.assert_allclose(solution.states[t], x, atol=1e-8)
        u = expected.K[t] @ x + expected.k[t]
        np.testing.assert_allclose(solution.actions[t], u, atol=1e-8)
        x = d.step(x, u)


@BOTH
def test_every_accepted_step_lowers_the_cost(method, cartpole):
    """On a hard problem: from hanging, saturating cost, few good steps."""
    plan, state = first_plan(method, cartpole, HANGING, iterations=60)
    costs = np.array(state.report.costs)
    assert len(costs) > 15
    assert np.all(np.diff(costs) < 0)
    assert min(state.report.step_lengths) < 1.0 and max(state.report.regularisations) > 0.0
    states = cartpole.dynamics.rollout(HANGING, plan.actions[None], None, 1)[0, 0]
    np.testing.assert_allclose(plan.states, states, atol=1e-6)
    total = cartpole.task.running_cost(plan.states[:-1], plan.actions).sum()
    assert plan.cost == pytest.approx(total + cartpole.task.terminal_cost(plan.states[-1]), rel=1e-12)


@BOTH
def test_limits_are_met_exactly_and_held_actions_have_no_gain(method):
    problem = linear_quadratic(limit=0.2)
    solution = method(ILQRConfig(tolerance=1e-12)).solve(problem, np.array([1.0, -2.0, 0.5]), np.zeros((30, 2)))
    at_limit = np.abs(solution.actions) == 0.2
    assert np.abs(solution.actions).max() == 0.2 and 3 < at_limit.sum() < 57
    assert solution.report.status == "converged"
    assert np.all(solution.gains[at_limit] == 0.0)
    assert np.all(np.abs(solution.gains[~at_limit]).max(axis=-1) > 0.0)


def test_the_limited_solution_is_optimal():
    """Projected gradient of the whole cost by the actions, by differences: zero inside, outward at the limits."""
    problem, x0, h = linear_quadratic(limit=0.2), np.array([1.0, -2.0, 0.5]), 1e-5
    u = ILQR(ILQRConfig(tolerance=1e-14)).solve(problem, x0, np.zeros((30, 2))).actions

    def cost(actions) -> float:
        x, total = x0, 0.0
        for a in actions:
            total += problem.task.running_cost(x, a)
            x = problem.dynamics.step(x, a)
        return total + problem.task.terminal_cost(x)

    for index in np.ndindex(u.shape):
        d = np.zeros_like(u)
        d[index] = h
        slope = (cost(u + d) - cost(u - d)) / (2 * h)
        if abs(u[index]) < 0.2:
            assert abs(slope) < 1e-4
        else:
            assert slope * u[index] < 0


def test_gains_equal_lqr_at_the_solution(pendulum):
    """At rest upright the expansion is the LQR problem of the linearised pendulum."""
    plan, state = first_plan(ILQR, pendulum, [0.0, 0.0], initial_std=1e-3, tolerance=0.0)
    np.testing.assert_allclose(plan.states, 0.0, atol=1e-7)
    expected = lqr.linearised(pendulum, np.zeros(2), np.zeros(1))
    np.testing.assert_allclose(plan.gains, expected.K, atol=1e-5)
    assert state.report.status in ("converged", "stuck")


def settling_time(method, problem: Problem, x0, seconds: float = 4.0, **settings) -> float:
    """Closed loop at 20 Hz: the moment in s from which on the target is never left again."""
    planner, rng = method(ILQRConfig(**settings)), np.random.default_rng(0)
    state, x, off = planner.initial_state(problem), np.asarray(x0, float), 0
    for t in range(round(seconds / 0.05)):
        plan, state = planner.plan(problem, x, state, rng, Deadline())
        x = problem.dynamics.step(x[None], plan.actions[:1])[0]
        off = off if problem.task.on_target(x) else t + 1
    return 0.05 * (off + 1)


@BOTH
def test_swings_the_cartpole_up(method, cartpole):
    assert settling_time(method, cartpole, HANGING, iterations=8) < 3.0


@BOTH
def test_swings_the_pendulum_up(method, pendulum):
    assert settling_time(method, pendulum, [np.pi, 0.0], iterations=8) < 3.0


@BOTH
def test_same_input_same_plan(method, cartpole):
    plans = [first_plan(method, cartpole, HANGING, seed=3, iterations=8)[0] for _ in range(2)]
    for name in ("actions", "states", "gains"):
        np.testing.assert_array_equal(getattr(plans[0], name), getattr(plans[1], name))
    other = first_plan(method, cartpole, HANGING, seed=4, iterations=8)[0]
    assert np.abs(other.actions - plans[0].actions).max() > 0.1


CHANGES = {
    "iterations": 3,
    "tolerance": 0.5,
    "initial_std": 0.5,
    "convex_cost": False,
    "line_search_steps": 1,
    "sufficient_decrease": 0.9,
    "initial_regularisation": 10.0,
    "min_regularisation": 0.1,
    "regularisation_factor": 5.0,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_plan(name, cartpole):
    usual = {"iterations": 25, "initial_regularisation": 0.01}
    base = first_plan(ILQR, cartpole, HANGING, **usual)[0]
    changed = first_plan(ILQR, cartpole, HANGING, **usual | {name: CHANGES[name]})[0]
    assert np.abs(base.actions - changed.actions).max() > 1e-6


def test_max_regularisation_decides_when_to_give_up():
    class Uphill(Quadratic):
        """Negative curvature in the actions, which only regularisation can make definite."""

        def __init__(self) -> None:
            super().__init__(np.diag([1.0, 1.0, 1.0, -5.0, -5.0]), np.ones(5), 3)

    problem = replace(linear_quadratic(horizon=1, limit=1.0), task=Uphill())
    patient, hasty = (
        ILQR(ILQRConfig(convex_cost=False, max_regularisation=m)).solve(problem, np.ones(3), np.zeros((1, 2)))
        for m in (1e10, 1e-3)
    )
    assert hasty.report.status == "stuck" and patient.report.costs[-1] < hasty.report.costs[-1]


def test_regularisation_schedule():
    schedule = Regularisation(ILQRConfig(min_regularisation=1e-3, max_regularisation=1.0, regularisation_factor=2.0))
    grown = []
    while schedule.increase():
        grown.append(schedule.mu)
    np.testing.assert_allclose(grown, [1e-3, 4e-3, 32e-3, 512e-3, 1.0])  # factors 2, 4, 8, 16, then the maximum
    schedule.mu, schedule.delta = 4e-3, 1.0
    schedule.decrease()
    assert schedule.mu == 2e-3
    schedule.decrease()
    assert schedule.mu == 0.0


def test_the_warm_start_is_the_last_plan_shifted(cartpole):
    plan, state = first_plan(ILQR, cartpole, HANGING, iterations=5)
    np.testing.assert_array_equal(state.actions[:-1], plan.actions[1:])
    np.testing.assert_array_equal(state.actions[-1], plan.actions[-1])
    planner = ILQR(ILQRConfig(iterations=1))
    _, following = planner.plan(cartpole, plan.states[1], state, np.random.default_rng(0), Deadline())
    x = cartpole.dynamics.rollout(plan.states[1], state.actions[None], None, 1)[0]
    start = cartpole.task.running_cost(x[:, :-1], state.actions).sum() + cartpole.task.terminal_cost(x[:, -1])[0]
    assert following.report.costs[0] == pytest.approx(float(start), rel=1e-9)


class CountingClock:
    """A clock that moves on by one second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_the_deadline_cuts_between_iterations(cartpole):
    planner = ILQR(ILQRConfig(iterations=50))
    x0, state, rng = HANGING, planner.initial_state(cartpole), np.random.default_rng(0)
    plan, state = planner.plan(cartpole, x0, state, rng, Deadline(4.5, CountingClock()))
    assert 1 <= plan.rounds < 6 and not plan.complete
    assert state.report.status == "deadline" and plan.actions.shape == (30, 1)
    spent = planner.plan(cartpole, x0, planner.initial_state(cartpole), rng, Deadline(0.0, time.perf_counter))[0]
    assert spent.rounds == 1


class Cliff(Linear):
    """Motion that is not finite beyond x = 1."""

    def step(self, x, u):
        following = super().step(x, u)
        return np.where(np.abs(following) > 1.0, np.nan, following)


def test_non_finite_motion_is_never_accepted():
    """The goal lies past the cliff: full steps end in NaN, short ones do not."""
    dynamics = Cliff(np.eye(1), np.eye(1), np.zeros(1))
    task = Quadratic(np.diag([1.0, 0.01]), np.array([-3.0, 0.0]), 1)
    problem = Problem(dynamics, task, np.array([-9.0]), np.array([9.0]), 5)
    report = ILQR(ILQRConfig()).solve(problem, np.zeros(1), np.zeros((5, 1))).report
    assert np.all(np.isfinite(report.costs)) and len(report.costs) > 1 and min(report.step_lengths) < 1.0


def test_a_non_finite_guess_falls_back_to_no_action_and_a_hopeless_start_is_reported():
    dynamics = Cliff(np.eye(1), np.eye(1), np.zeros(1))
    task = Quadratic(np.eye(2), np.zeros(2), 1)
    problem = Problem(dynamics, task, np.array([-9.0]), np.array([9.0]), 5)
    saved = ILQR(ILQRConfig()).solve(problem, np.array([0.5]), np.full((5, 1), 8.0))
    assert saved.report.status == "converged" and np.isfinite(saved.states).all()
    planner = ILQR(ILQRConfig())
    plan, state = planner.plan(
        problem, np.array([5.0]), planner.initial_state(problem), np.random.default_rng(0), Deadline()
    )
    assert state.report.status == "non-finite" and plan.cost == np.inf and not plan.complete
    assert np.isfinite(plan.actions).all()


def test_compiled_and_plain_rollouts_agree(cartpole):
    class Plain:
        step = staticmethod(cartpole.dynamics.step)

    rng = np.random.default_rng(5)
    nominal, policy = (
        (rng.normal(size=(9, 4)), rng.normal(size=(8, 1))),
        (rng.normal(size=(8, 1)), rng.normal(size=(8, 1, 4))),
    )
    args = nominal, policy, np.array([1.0, 0.5]), (np.array([-1.0]), np.array([1.0]))
    for compiled, plain in zip(
        rollout_feedback(cartpole.dynamics, *args), rollout_feedback(Plain(), *args), strict=True
    ):
        np.testing.assert_allclose(compiled, plain, rtol=1e-10, atol=1e-10)


def test_plans_through_an_ensemble():
    """Random networks: the plan's cost falls, and the plan's states are those of the ensemble's mean."""
    layout = StateLayout(("p", "theta", "v", "omega"), ("f",), ("theta",), {"p": "v", "theta": "omega"}, 0.05)
    config = EnsembleConfig(members=3, width=16)
    arrays = dict(initial_arrays(config, layout.n_features, 2, torch.Generator().manual_seed(0)))
    scale = {"feature_mean": np.zeros(6), "feature_std": np.ones(6), "target_mean": np.zeros(2)}
    arrays |= {k: v.astype(np.float32) for k, v in (scale | {"target_std": np.full(2, 2.0)}).items()}
    model = ProbabilisticEnsemble(layout, arrays)
    problem = Problem(model, CartpoleSwingup(CartpoleSwingupConfig()), np.array([-10.0]), np.array([10.0]), 20)
    plan, state = first_plan(ILQR, problem, HANGING, iterations=30)
    costs = state.report.costs
    assert len(costs) > 3 and costs[-1] < 0.9 * costs[0]
    x = HANGING
    for t in range(20):
        x = model.step(x[None], plan.actions[t][None])[0]
        np.testing.assert_allclose(plan.states[t + 1], x, atol=1e-4)  # float32 networks


def test_missing_derivatives_are_named():
    class NoHessian:
        nx = nu = 1

        def step(self, x, u):
            return x + u

    problem = Problem(NoHessian(), None, np.array([-1.0]), np.array([1.0]), 2)
    with pytest.raises(ConfigError, match="linearize"):
        ILQR(ILQRConfig()).solve(problem, np.zeros(1), np.zeros((2, 1)))
    NoHessian.linearize = lambda self, x, u: None
    with pytest.raises(ConfigError, match="hessian"):
        DDP(ILQRConfig()).solve(problem, np.zeros(1), np.zeros((2, 1)))


def test_registered():
    assert (planner_class("ilqr"), planner_class("ddp"), planner_class("lqr")) == (ILQR, DDP, lqr.LQR)
