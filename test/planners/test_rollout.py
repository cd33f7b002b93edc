"""The one evaluation of candidates against an explicit loop."""

import numpy as np

from mbrl_ros.planners.base import Problem
from mbrl_ros.planners.rollout import evaluate


class Doubling:
    """``x' = 2 x + u`` plus the particle's number; remembers the generator it was given."""

    nx = nu = 1
    given = None

    def rollout(self, x0, actions, rng, particles):
        self.given = rng
        states = np.empty((particles, len(actions), actions.shape[1] + 1, 1))
        states[:, :, 0] = x0
        for t in range(actions.shape[1]):
            states[:, :, t + 1] = 2.0 * states[:, :, t] + actions[:, t] + np.arange(particles)[:, None, None]
        return states


class Costs:
    """Running ``x^2 + u``, terminal ``10 x``."""

    def running_cost(self, x, u):
        return x[..., 0] ** 2 + u[..., 0]

    def terminal_cost(self, x):
        return 10.0 * x[..., 0]


def problem(**changes) -> Problem:
    return Problem(Doubling(), Costs(), np.array([-1.0]), np.array([1.0]), 3, **changes)


def test_cost_is_the_sum_over_time_and_the_mean_over_particles():
    actions = np.random.default_rng(0).standard_normal((5, 3, 1))
    costs = evaluate(problem(particles=2), np.array([0.5]), actions, None)
    for n in range(5):
        totals = []
        for p in range(2):
            x, total = 0.5, 0.0
            for u in actions[n, :, 0]:
                total += x**2 + u
                x = 2.0 * x + u + p
            totals.append(total + 10.0 * x)
        np.testing.assert_allclose(costs[n], np.mean(totals))


def test_risk_sums_up_the_particles():
    actions = np.zeros((2, 3, 1))
    worst = evaluate(problem(particles=3, risk=lambda costs: costs.max(axis=0)), np.array([0.5]), actions, None)
    mean = evaluate(problem(particles=3), np.array([0.5]), actions, None)
    assert (worst > mean).all()


def test_costs_that_are_no_numbers_become_infinite():
    actions = np.zeros((4, 3, 1))
    actions[:3, 0, 0] = [np.nan, np.inf, 1e300]
    with np.errstate(all="ignore"):
        costs = evaluate(problem(), np.array([0.5]), actions, None)
    np.testing.assert_array_equal(np.isposinf(costs), [True, True, True, False])


def test_the_generator_reaches_the_dynamics_only_where_noise_is_sampled():
    rng = np.random.default_rng(0)
    for sample_noise in (False, True):
        prob = problem(sample_noise=sample_noise)
        evaluate(prob, np.array([0.5]), np.zeros((1, 3, 1)), rng)
        assert prob.dynamics.given is (rng if sample_noise else None)
