"""The collocation planner against dense least squares, differences, and the pendulum swing-up."""

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.collocation import Collocation, CollocationConfig, DirectTranscription
from mbrl_ros.planners.rollout import evaluate

HORIZON = 6
STEP = 1e-30


class Smooth:
    """Rollout and complex-step derivatives around `step`, which a subclass writes for any leading dimensions."""

    nx, nu = 2, 1

    def rollout(self, x0, actions, rng, particles):
        states = [np.broadcast_to(x0, (particles, len(actions), self.nx)).astype(float)]
        for t in range(actions.shape[1]):
            states.append(self.step(states[-1], np.broadcast_to(actions[:, t], (particles, *actions[:, t].shape))))
        return np.stack(states, axis=2)

    def linearize(self, x, u):
        z = np.concatenate([x, u], axis=1) + 1j * STEP * np.eye(self.nx + self.nu)[:, None]
        J = np.moveaxis(self.step(z[..., : self.nx], z[..., self.nx :]).imag / STEP, 0, 2)
        return J[:, :, : self.nx], J[:, :, self.nx :]


class Linear(Smooth):
    """x' = A x + B u with two actions."""

    nu = 2
    A, B = np.array([[1.0, 0.2], [-0.1, 0.9]]), np.array([[0.0, 0.1], [0.3, 0.0]])

    def step(self, x, u):
        return x @ self.A.T + u @ self.B.T


class Pendulum(Smooth):
    """Unit pendulum, angle 0 upright, torque 4 u against 9.81; semi-implicit Euler with 0.05 s."""

    def step(self, x, u):
        rate = x[..., 1] + 0.05 * (9.81 * np.sin(x[..., 0]) + 4.0 * u[..., 0] - 0.1 * x[..., 1])
        return np.stack([x[..., 0] + 0.05 * rate, rate], axis=-1)


class Squares:
    """|x|^2 + 0.1 |u|^2."""

    def running_cost(self, x, u):
        return (x**2).sum(-1) + 0.1 * (u**2).sum(-1)

    def terminal_cost(self, x):
        return (x**2).sum(-1)


class Upright:
    """1 - cos(angle) and small prices of speed and torque."""

    def running_cost(self, x, u):
        return 1.0 - np.cos(x[..., 0]) + 0.01 * x[..., 1] ** 2 + 0.001 * u[..., 0] ** 2

    def terminal_cost(self, x):
        return 5.0 * self.running_cost(x, np.zeros(1))


def linear_problem(limit=100.0):
    limits = np.full(2, limit)
    return Problem(Linear(), Squares(), -limits, limits, HORIZON)


def pendulum_problem(horizon=30, **changes):
    values = {"dynamics": Pendulum(), "task": Upright()} | changes
    return Problem(u_min=np.array([-1.0]), u_max=np.array([1.0]), horizon=horizon, **values)


def run(problem, x0, state=None, seed=0, deadline=None, **config):
    planner = Collocation(CollocationConfig(**config))
    return planner.plan(problem, x0, state, np.random.default_rng(seed), deadline or Deadline())


def least_squares(x0):
    """M, t with cost |M u - t|^2 over the flattened actions."""
    rollout = linear_problem().dynamics.rollout
    free = rollout(x0, np.zeros((1, HORIZON, 2)), None, 1).ravel()
    effect = rollout(x0, np.eye(2 * HORIZON).reshape(-1, HORIZON, 2), None, 1)[0].reshape(2 * HORIZON, -1).T
    M = np.vstack([effect - free[:, None], np.sqrt(0.1) * np.eye(2 * HORIZON)])
    return M, np.append(-free, np.zeros(2 * HORIZON))


X0 = np.array([2.0, -1.0])


@pytest.mark.parametrize("limit", [100.0, 0.8])
def test_linear_quadratic_optimum(limit):
    """Scipy's bounded least squares is the oracle, with limits far away and active; threshold 1e-5."""
    exact = lsq_linear(*least_squares(X0), (-limit, limit), tol=1e-12)
    plan, _ = run(linear_problem(limit), X0, tolerance=1e-8, iterations=100)
    np.testing.assert_allclose(plan.actions.ravel(), exact.x, atol=1e-5)
    assert np.isclose(plan.cost, 2.0 * exact.cost, rtol=1e-6)
    assert np.any(np.isclose(np.abs(exact.x), limit, atol=1e-6)) == (limit < 1.0)


def test_derivatives_against_differences():
    problem = pendulum_problem(4)
    nlp, rng, h = DirectTranscription(problem, np.array([1.0, 0.5])), np.random.default_rng(0), 1e-6
    v = rng.uniform(-1.0, 1.0, len(nlp.low))
    states, actions = nlp.split(v)
    np.testing.assert_array_equal(nlp.join(states, actions), v)
    moved = [(v + d, v - d) for d in h * np.eye(len(v))]
    difference = np.array([(nlp.cost(a) - nlp.cost(b)) / (2 * h) for a, b in moved])
    np.testing.assert_allclose(nlp.gradient(v), difference, atol=1e-7)
    difference = np.array([(nlp.constraints(a) - nlp.constraints(b)) / (2 * h) for a, b in moved]).T
    np.testing.assert_allclose(nlp.jacobian(v).toarray(), difference, atol=1e-7)
    nlp.gradient(v)
    assert np.linalg.eigvalsh(nlp.hessian(v, np.zeros(8)).toarray()).min() > -1e-9


def test_hessian_is_that_of_a_quadratic_cost():
    nlp = DirectTranscription(linear_problem(), X0)
    v = np.random.default_rng(0).standard_normal(len(nlp.low))
    nlp.gradient(v)
    diagonal = np.append(np.tile([2.0, 2.0, 0.2, 0.2], HORIZON), [2.0, 2.0])
    np.testing.assert_allclose(nlp.hessian(v, np.zeros(2 * HORIZON)).toarray(), np.diag(diagonal), atol=1e-6)


def test_swings_the_pendulum_up_and_holds_it():
    """From hanging; threshold: the last 10 of 80 periods upright within 10 degrees."""
    problem, x, state, heights = pendulum_problem(), np.array([np.pi, 0.0]), None, []
    for tick in range(80):
        plan, state = run(problem, x, state, tick)
        assert np.abs(plan.actions).max() <= 1.0
        x = problem.dynamics.step(x, plan.actions[0])
        heights.append(np.cos(x[0]))
    assert heights[0] < -0.9 and min(heights[-10:]) > np.cos(np.radians(10.0))


def test_the_plan_is_as_good_as_its_cost_says():
    x0 = np.array([np.pi, 0.5])
    plan, state = run(pendulum_problem(), x0)
    assert np.isclose(plan.cost, evaluate(pendulum_problem(), x0, plan.actions[None], None)[0])
    np.testing.assert_array_equal(state.actions[:-1], plan.actions[1:])
    assert state.states.shape == (31, 2)
    follow = pendulum_problem().dynamics.rollout(x0, plan.actions[None], None, 1)[0, 0]
    np.testing.assert_allclose(state.states[:-1], follow[1:], atol=1e-2)  # tolerance of the constraints


def test_warm_start_saves_iterations():
    x0 = np.array([0.5, 0.0])
    cold, state = run(pendulum_problem(), x0)
    after = pendulum_problem().dynamics.step(x0, cold.actions[0])
    warm, _ = run(pendulum_problem(), after, state)
    assert warm.rounds < cold.rounds


def test_deadline_stops_between_iterations():
    """A clock that ticks a second a look allows one iteration; the plan is no worse than the last one's."""
    x0 = np.array([np.pi, 0.5])
    _, state = run(pendulum_problem(), x0, iterations=3)
    clock = iter(range(100))
    cut, _ = run(pendulum_problem(), x0, state, deadline=Deadline(2.5, lambda: next(clock)))
    assert cut.rounds < 3 and not cut.complete
    assert cut.cost <= evaluate(pendulum_problem(), x0, state.actions[None], None)[0]
    assert np.isclose(cut.cost, evaluate(pendulum_problem(), x0, cut.actions[None], None)[0])
    assert run(pendulum_problem(), x0)[0].complete


@pytest.mark.parametrize("change", [{"iterations": 2}, {"tolerance": 0.5}, {"barrier": 1.0}, {"initial_std": 0.5}])
def test_every_parameter_changes_the_plan(change):
    base, other = (run(pendulum_problem(), np.array([np.pi, 0.5]), **kw)[0] for kw in ({}, change))
    assert np.any(base.actions != other.actions)


def test_learned_model():
    """A random ensemble of the pendulum's layout: the plan beats the first guess under the ensemble itself."""
    layout = StateLayout(("angle", "rate"), ("torque",), ("angle",), {"angle": "rate"}, 0.05)
    arrays = initial_arrays(EnsembleConfig(members=2, width=16), layout.n_features, 1, torch.Generator().manual_seed(0))
    scales = {
        "feature_mean": np.zeros(4),
        "feature_std": np.ones(4),
        "target_mean": np.zeros(1),
        "target_std": np.ones(1),
    }
    arrays |= {name: value.astype(np.float32) for name, value in scales.items()}
    problem = pendulum_problem(15, dynamics=ProbabilisticEnsemble(layout, arrays), particles=2)
    x0 = np.array([2.0, 0.0])
    plan, _ = run(problem, x0)
    lazy = evaluate(problem, x0, np.zeros((1, 15, 1)), None)[0]
    assert plan.cost < lazy and np.abs(plan.actions).max() <= 1.0


def test_diverging_costs_fall_back_to_the_last_plan():
    class Breaks(Upright):
        def running_cost(self, x, u):
            return np.where(u[..., 0].real > -2.0, np.nan, 1.0) * super().running_cost(x, u)

    plan, state = run(pendulum_problem(task=Breaks()), np.array([1.0, 0.0]))
    assert plan.cost == np.inf and np.all(np.abs(plan.actions) <= 1.0) and np.all(np.isfinite(state.states))


@pytest.mark.parametrize("x0", [[1.0, 0.0], [1.0, 2.0], [np.nan, 0.0]])
def test_diverging_dynamics_are_survived(x0):
    """NaN on the way, from the start, or in the observation: finite actions, and the next tick plans as ever."""

    class Bursts(Pendulum):
        def step(self, x, u):
            return super().step(x, u) * np.where(np.abs(x[..., 1:].real) > 0.5, np.nan, 1.0)

    plan, state = run(pendulum_problem(dynamics=Bursts()), np.array(x0))
    assert np.all(np.abs(plan.actions) <= 1.0)
    plan, state = run(pendulum_problem(), np.array([3.0, 0.0]), state)
    assert np.isfinite(plan.cost) and np.all(np.isfinite(state.states))


def test_mistakes_are_named():
    class Opaque:
        nx, nu, rollout = 2, 1, Pendulum.rollout

    class NotComplex(Upright):
        def running_cost(self, x, u):
            return np.abs(x[..., 0])

    with pytest.raises(ConfigError, match="linearize"):
        run(pendulum_problem(dynamics=Opaque()), X0)
    with pytest.raises(ConfigError, match="complex"):
        run(pendulum_problem(task=NotComplex()), X0)


class Cart(Smooth):
    """Double integrator, x = (p, v), 0.1 s."""

    def step(self, x, u):
        return np.stack([x[..., 0] + 0.1 * x[..., 1] + 0.005 * u[..., 0], x[..., 1] + 0.1 * u[..., 0]], axis=-1)


def positions(x0, **limits):
    """Positions of the plan for a cart that starts with 1 m/s and is charged for its controls only."""

    class Lazy(Squares):
        def running_cost(self, x, u):
            return 1e-3 * (x**2).sum(-1) + (u**2).sum(-1)

    problem = Problem(Cart(), Lazy(), -np.full(1, 20.0), np.full(1, 20.0), horizon=15, **limits)
    planner = Collocation(CollocationConfig(iterations=200, tolerance=1e-8))
    actions = planner.plan(problem, np.array(x0), None, np.random.default_rng(0), Deadline())[0].actions
    return problem.dynamics.rollout(np.array(x0), actions[None], None, 1)[0, 0, :, 0]


LIMIT = {"x_min": np.array([-0.3, -np.inf]), "x_max": np.array([0.3, np.inf])}


def test_state_limits_are_constraints():
    assert positions([0.0, 1.0]).max() > 0.5, "it would break the limit if it could"
    assert positions([0.0, 1.0], **LIMIT).max() <= 0.3 + 1e-6
    assert positions([0.0, -1.0], **LIMIT).min() >= -0.3 - 1e-6


def test_a_state_outside_its_limits_still_has_a_plan():
    path = positions([0.32, 0.0], **LIMIT)
    assert np.isfinite(path).all()
    assert path.max() <= 0.32 + 0.01 * 0.6 + 1e-6
