"""The one evaluation of candidates against an explicit loop."""

import numpy as np

from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.cem import CEM, CEMConfig
from mbrl_ros.planners.rollout import evaluate, reachable


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


def test_a_wish_is_gone_towards_as_far_as_a_period_allows():
    limited = problem(u_step=np.array([0.25]), u_last=np.array([0.5]))
    wishes = np.array([[[1.0], [1.0], [-1.0]], [[0.6], [0.1], [0.1]]])
    sent = [[[0.75], [1.0], [0.75]], [[0.6], [0.35], [0.1]]]
    np.testing.assert_allclose(reachable(limited, wishes), sent)
    np.testing.assert_array_equal(reachable(problem(u_step=np.array([0.25])), wishes), wishes, "the start is not known")
    np.testing.assert_array_equal(reachable(problem(u_last=np.array([0.5])), wishes), wishes, "any step is allowed")


def test_each_control_has_a_rate_of_its_own():
    limited = problem(u_step=np.array([0.25, np.inf]), u_last=np.zeros(2))
    np.testing.assert_allclose(reachable(limited, np.array([[1.0, -1.0], [1.0, 1.0]])), [[0.25, -1.0], [0.5, 1.0]])


def test_candidates_cost_what_can_be_sent_of_them():
    told = []
    limited = problem(
        u_step=np.array([0.25]), u_last=np.array([0.5]), on_evaluated=lambda x0, actions, costs: told.append(actions)
    )
    wishes = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 3, 1))
    x0 = np.array([0.5])
    costs = evaluate(limited, x0, wishes, None)
    np.testing.assert_array_equal(costs, evaluate(problem(), x0, reachable(limited, wishes), None))
    np.testing.assert_array_equal(told[0], reachable(limited, wishes))
    assert not np.allclose(costs, evaluate(problem(), x0, wishes, None))


class Drive:
    """A drive that is where it is told to be, ``x' = u``; it is to be at 1, and every period before counts."""

    nx = nu = 1

    def rollout(self, x0, actions, rng, particles):
        start = np.broadcast_to(x0, (particles, len(actions), 1, 1))
        return np.concatenate([start, np.broadcast_to(actions[None], (particles, *actions.shape))], axis=2)

    def running_cost(self, x, u):
        return (x[..., 0] - 1.0) ** 2

    def terminal_cost(self, x):
        return self.running_cost(x, None)


def test_a_plan_knows_that_commands_change_no_faster_than_they_may():
    """From 0, a fifth a period: 0.2, 0.4, 0.6, 0.8 is the best there is, and the plan says what it costs."""
    limited = Problem(
        Drive(), Drive(), np.array([-1.0]), np.array([1.0]), 4, u_step=np.array([0.2]), u_last=np.array([0.0])
    )
    planner = CEM(CEMConfig(refine=0))
    plan, _ = planner.plan(limited, np.zeros(1), planner.initial_state(limited), np.random.default_rng(0), Deadline())
    np.testing.assert_allclose(reachable(limited, plan.actions)[:, 0], [0.2, 0.4, 0.6, 0.8], atol=0.02)
    assert abs(plan.cost - (1.0 + 0.64 + 0.36 + 0.16 + 0.04)) < 0.05
