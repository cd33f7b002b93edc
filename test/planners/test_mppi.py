"""MPPI against its formulas, the Gaussian posterior of a quadratic cost and the least squares optimum."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.mppi import MPPI, MPPIConfig, MPPIState, path_integral_weights, squared_rate
from mbrl_ros.planners.risk import worst_case

A = np.array([[1.0, 0.2], [-0.1, 0.9]])
B = np.array([[0.0, 0.1], [0.3, 0.0]])
X0 = np.array([1.0, -0.5])
HORIZON, CONTROL = 5, 0.1


class Linear:
    """x' = A x + B u; particle p starts from x0 + p * offset."""

    nx, nu, offset = 2, 2, 0.0

    def rollout(self, x0, actions, rng, particles):
        x = np.broadcast_to(x0, (particles, len(actions), 2)) + self.offset * np.arange(particles)[:, None, None]
        states = [x]
        for t in range(actions.shape[1]):
            x = x @ A.T + actions[:, t] @ B.T
            states.append(x)
        return np.stack(states, axis=2)


class Quadratic:
    """|x|^2 + 0.1 |u|^2."""

    def running_cost(self, x, u):
        return (x**2).sum(-1) + CONTROL * (u**2).sum(-1)

    def terminal_cost(self, x):
        return (x**2).sum(-1)


class BreaksRight(Quadratic):
    """NaN as soon as any control is positive."""

    def running_cost(self, x, u):
        return np.where(np.any(u > 0.0, axis=-1), np.nan, super().running_cost(x, u))


def problem(task=None, limit=10.0, **kw):
    limits = np.full(2, limit)
    return Problem(Linear(), task or Quadratic(), -limits, limits, HORIZON, **kw)


def quadratic_form():
    """P, u_star with cost (u - u*)' P (u - u*) + const over the flattened controls (H nu,), from linearity alone."""
    free = problem().dynamics.rollout(X0, np.zeros((1, HORIZON, 2)), None, 1).ravel()
    units = np.eye(2 * HORIZON).reshape(-1, HORIZON, 2)
    effect = problem().dynamics.rollout(X0, units, None, 1)[0].reshape(2 * HORIZON, -1).T - free[:, None]
    P = effect.T @ effect + CONTROL * np.eye(2 * HORIZON)
    return P, -np.linalg.solve(P, effect.T @ free)


def run(seed=0, the_problem=None, state=None, budget=np.inf, **config):
    planner, the_problem = MPPI(MPPIConfig(**config)), the_problem or problem()
    state = state or planner.initial_state(the_problem)
    return planner.plan(the_problem, X0, state, np.random.default_rng(seed), Deadline(budget))


def test_weights_against_a_direct_computation():
    costs = np.array([3.0, 1.0, np.nan, 2.0, np.inf])
    direct = np.array([np.exp(-3.0 / 0.7), np.exp(-1.0 / 0.7), 0.0, np.exp(-2.0 / 0.7), 0.0])
    np.testing.assert_allclose(path_integral_weights(costs, 0.7), direct / direct.sum(), rtol=1e-12)


def test_weights_at_the_ends_of_the_temperature():
    costs = np.array([3.0, 1.0, 2.0])
    np.testing.assert_allclose(path_integral_weights(costs, 1e-9), [0.0, 1.0, 0.0])
    np.testing.assert_allclose(path_integral_weights(costs, 1e9), np.full(3, 1 / 3), rtol=1e-6)
    np.testing.assert_array_equal(path_integral_weights(np.full(3, np.inf), 1.0), 0.0)


@pytest.mark.parametrize("control_cost", [0.0, 0.5, 2.0])
def test_one_round_is_the_gaussian_posterior_mean(control_cost):
    """exp(-S / lambda) times N(m, Sigma) is Gaussian: 100 000 samples, threshold 0.03 of controls of order 1."""
    P, best = quadratic_form()
    temperature, start = 2.0, np.linspace(-0.3, 0.3, 2 * HORIZON)
    sigma = np.tile([1.0, 0.5], HORIZON)  # shares 0.1 and 0.05 of 10
    precision = np.diag(1.0 / sigma**2)
    pull = precision @ start + (2.0 * P @ best - control_cost * precision @ start) / temperature
    exact = np.linalg.solve(precision + 2.0 * P / temperature, pull)
    config = {"samples": 100_000, "rounds": 1, "temperature": temperature, "sigma": (0.1, 0.05), "noise_exponent": 0.0}
    plan, _ = run(state=MPPIState(start.reshape(HORIZON, 2)), control_cost=control_cost, **config)
    assert np.abs(plan.actions.ravel() - exact).max() < 0.03


def test_approaches_the_least_squares_optimum_as_samples_grow():
    """Median excess cost over 5 seeds; thresholds: falls each time, below 2 % of the free cost at last."""
    P, best = quadratic_form()
    excess = []
    for samples in (16, 128, 1024):
        plans = [
            run(seed, samples=samples, rounds=20, temperature=0.02, sigma=(0.05,), sigma_decay=1.0)[0]
            for seed in range(5)
        ]
        errors = [plan.actions.ravel() - best for plan in plans]
        excess.append(np.median([e @ P @ e for e in errors]))
    assert excess[0] > excess[1] > excess[2]
    assert excess[2] < 0.02 * best @ P @ best


def test_plan_cost_is_the_cost_of_the_plan():
    plan, _ = run()
    P, best = quadratic_form()
    error = plan.actions.ravel() - best
    least = Quadratic().running_cost(problem().dynamics.rollout(X0, best.reshape(1, -1, 2), None, 1)[0, 0], 0.0 * X0)
    assert np.isclose(plan.cost, error @ P @ error + least.sum() + CONTROL * best @ best)


def test_cold_follows_the_best_candidate_and_hot_the_average():
    start = MPPIState(np.full((HORIZON, 2), 3.0))
    cold, _ = run(state=start, samples=64, rounds=1, temperature=1e-9)
    hot, _ = run(state=start, samples=20_000, rounds=1, temperature=1e9, noise_exponent=0.0, sigma=(0.1,))
    assert cold.cost < run(state=start, samples=64, rounds=1, temperature=1e3)[0].cost
    np.testing.assert_allclose(hot.actions, 3.0, atol=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 50},
        {"rounds": 2},
        {"temperature": 5.0},
        {"sigma": (0.1,)},
        {"sigma_decay": 1.0},
        {"sigma": (0.05, 0.2)},
        {"control_cost": 1.0},
        {"rate_cost": 1.0},
        {"noise_exponent": 0.0},
    ],
)
def test_every_parameter_changes_the_plan(change):
    start = MPPIState(np.full((HORIZON, 2), 1.0))
    base = {"sigma": (0.05,), "temperature": 1.0}
    base, other = run(state=start, **base)[0], run(state=start, **base | change)[0]
    assert not np.allclose(base.actions, other.actions)


def test_rate_cost_smooths_from_the_last_action_on():
    candidates = np.array([[[1.0], [3.0], [2.0]]])
    assert squared_rate(candidates, None, np.array([2.0]))[0] == 1.0 + 0.25
    assert squared_rate(candidates, np.array([5.0]), np.array([2.0]))[0] == 4.0 + 1.0 + 0.25
    start, last = np.zeros((HORIZON, 2)), np.full(2, 8.0)
    config = {"samples": 512, "rounds": 20, "sigma": (0.1,), "sigma_decay": 0.9, "temperature": 1.0}
    plans = [run(state=MPPIState(start, last), rate_cost=r, **config)[0].actions for r in (0.0, 100.0)]
    rough, smooth = (squared_rate(a[None], last, np.full(2, 10.0))[0] for a in plans)
    assert smooth < 0.5 * rough


def test_sigma_of_the_wrong_length_is_named():
    with pytest.raises(ConfigError, match="expected 1 or 2"):
        run(sigma=(0.1, 0.1, 0.1))


def test_limits_hold():
    plan, state = run(the_problem=problem(limit=0.1), sigma=(5.0,))
    assert np.abs(plan.actions).max() <= 0.1 and np.abs(state.mean).max() <= 0.1
    assert np.abs(plan.actions).max() > 0.05  # the optimum lies outside, so the plan is near the limits


def test_noise_is_what_clipping_leaves():
    """At the upper limit half of the noise is cut off: the mean of min(0, N(0, 1)) is -1 / sqrt(2 pi)."""
    start = MPPIState(np.full((HORIZON, 2), 10.0))
    plan, _ = run(state=start, samples=50_000, rounds=1, temperature=1e9, noise_exponent=0.0, sigma=(0.1,))
    np.testing.assert_allclose(plan.actions, 10.0 - 1.0 / np.sqrt(2.0 * np.pi), atol=0.02)


def test_nan_never_wins():
    plan, _ = run(the_problem=problem(BreaksRight()), state=MPPIState(np.full((HORIZON, 2), -0.5)), noise_exponent=0.0)
    assert np.all(plan.actions <= 0.0) and np.isfinite(plan.cost)


def test_a_round_without_any_finite_cost_keeps_the_mean():
    start = MPPIState(np.full((HORIZON, 2), 9.0))
    plan, _ = run(the_problem=problem(BreaksRight()), state=start, sigma=(0.01,))
    np.testing.assert_array_equal(plan.actions, start.mean)
    assert plan.cost == np.inf


def test_same_seed_same_plan_and_warm_start():
    (one, state), (two, _) = run(seed=3), run(seed=3)
    np.testing.assert_array_equal(one.actions, two.actions)
    assert np.any(one.actions != run(seed=4)[0].actions)
    np.testing.assert_array_equal(state.mean, np.concatenate([one.actions[1:], one.actions[-1:]]))
    np.testing.assert_array_equal(state.last, one.actions[0])


def test_deadline_cuts_rounds():
    plan, _ = run(budget=0.0, rounds=7)
    assert plan.rounds == 1 and not plan.complete
    plan, _ = run(rounds=7)
    assert plan.rounds == 7 and plan.complete


def test_risk_over_particles_reaches_the_weights():
    """Particle 1 starts further out, so minding only the worst one moves the plan."""
    dynamics = Linear()
    dynamics.offset = 1.0
    plans = []
    for risk in ({}, {"risk": worst_case}):
        limits = np.full(2, 10.0)
        plans.append(run(the_problem=Problem(dynamics, Quadratic(), -limits, limits, HORIZON, 2, **risk))[0])
    assert plans[1].cost > plans[0].cost
    assert not np.allclose(plans[0].actions, plans[1].actions)
