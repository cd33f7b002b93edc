"""Constrained tasks: nothing inside, steep outside, exact derivatives, and a planner that keeps a limit."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.cem import CEM, CEMConfig
from mbrl_ros.planners.constraints import ConstrainedTask, barrier, penalty
from mbrl_ros.planners.mppi import MPPI, MPPIConfig

INF = np.inf


class DoubleIntegrator:
    """Exact discretisation with dt = 0.1 s: x = (position, velocity), u = acceleration."""

    nx, nu = 2, 1

    def rollout(self, x0, actions, rng, particles):
        states = [np.broadcast_to(x0, (particles, len(actions), 2)).astype(float)]
        for t in range(actions.shape[1]):
            p, v, a = states[-1][..., 0], states[-1][..., 1], actions[:, t, 0]
            states.append(np.stack([p + 0.1 * v + 0.005 * a, v + 0.1 * a], axis=-1))
        return np.stack(states, axis=2)


class ReachOne:
    """Go to position 1 as fast as possible."""

    def running_cost(self, x, u):
        return (x[..., 0] - 1.0) ** 2 + 0.001 * u[..., 0] ** 2

    def terminal_cost(self, x):
        return self.running_cost(x, np.zeros(1))


def constrained(kind, low=(-INF, -1.0), high=(INF, 0.5), **kw):
    return ConstrainedTask(ReachOne(), np.array(low), np.array(high), kind, **kw)


def test_penalty_is_exactly_zero_inside_and_quadratic_outside():
    task, base, u = constrained("penalty", weight=7.0), ReachOne(), np.zeros(1)
    inside = np.array([[100.0, -1.0], [-100.0, 0.5], [0.0, 0.0]])
    np.testing.assert_array_equal(task.running_cost(inside, u), base.running_cost(inside, u))
    outside = np.array([[0.0, 0.8], [0.0, -1.3]])  # 0.3 outside, the margin is 0.2 * 0.75
    np.testing.assert_allclose(task.running_cost(outside, u) - base.running_cost(outside, u), 7.0 * (0.3 / 0.15) ** 2)
    np.testing.assert_allclose(task.terminal_cost(outside) - base.terminal_cost(outside), 7.0 * (0.3 / 0.15) ** 2)


def test_one_sided_limits_are_measured_in_units_of_the_state():
    task = constrained("penalty", low=(-INF, -INF), high=(2.0, INF), weight=3.0, margin=2.0)
    x = np.array([2.5, 1e6])
    assert np.isclose(task.terminal_cost(x) - ReachOne().terminal_cost(x), 3.0 * 0.25**2)


def test_barrier_is_the_recentred_logarithm_inside():
    slack = np.array([0.02, 0.3, 0.9])
    np.testing.assert_allclose(barrier(slack), -np.log(slack) + slack - 1.0)
    np.testing.assert_array_equal(barrier(np.array([1.0, 5.0])), 0.0)


def test_barrier_is_smooth_where_the_quadratic_takes_over_and_steep_outside():
    r, h = 0.01, 1e-6
    for order in (0, 1, 2):  # value, slope and curvature agree from both sides
        stencil = {0: [1], 1: [-1, 1], 2: [1, -2, 1]}[order]
        left = sum(c * barrier(np.array(r - (order - i) * h)) for i, c in enumerate(stencil)) / h**order
        right = sum(c * barrier(np.array(r + i * h)) for i, c in enumerate(stencil)) / h**order
        np.testing.assert_allclose(left, right, rtol=2e-3)
    outside = barrier(np.array([0.0, -0.1, -0.2, -1.0]))
    assert np.all(np.diff(outside) > 0) and np.all(np.isfinite(outside))
    assert outside[1] > 10 * outside[0] > 50 * barrier(np.array(0.5))
    assert barrier(np.array(-0.1), relaxation=0.001) > 50 * outside[1]


@pytest.mark.parametrize("shape", [penalty, barrier])
def test_complex_step_gives_the_slope(shape):
    slack = np.array([-0.3, 0.005, 0.2, 0.7, 1.5])
    exact = shape(slack + 1e-30j).imag / 1e-30
    difference = (shape(slack + 1e-6) - shape(slack - 1e-6)) / 2e-6
    np.testing.assert_allclose(exact, difference, rtol=1e-5, atol=1e-9)
    assert np.all(exact <= 0.0)  # more slack never costs more


@pytest.mark.parametrize("kind", ["penalty", "barrier"])
@pytest.mark.parametrize("planner", [CEM(CEMConfig()), MPPI(MPPIConfig())])
def test_a_planner_keeps_a_limit_that_it_would_break(planner, kind):
    """Unconstrained the velocity passes 0.5 m/s by far; constrained by at most 0.05 (penalty) or not at all."""
    top = {}
    for name, task in (("free", ReachOne()), ("kept", constrained(kind))):
        problem = Problem(DoubleIntegrator(), task, np.array([-3.0]), np.array([3.0]), horizon=15)
        x, state, rng, fastest = np.zeros(2), planner.initial_state(problem), np.random.default_rng(0), 0.0
        for _ in range(20):
            plan, state = planner.plan(problem, x, state, rng, Deadline())
            x = problem.dynamics.rollout(x, plan.actions[None, :1], None, 1)[0, 0, 1]
            fastest = max(fastest, x[1])
        top[name] = fastest
        assert x[0] > 0.5
    assert top["free"] > 0.8
    assert top["kept"] < (0.55 if kind == "penalty" else 0.5)


def test_a_planner_finds_the_way_back_from_outside_the_barrier():
    problem = Problem(DoubleIntegrator(), constrained("barrier"), np.array([-3.0]), np.array([3.0]), horizon=15)
    planner = CEM(CEMConfig())
    plan, _ = planner.plan(
        problem, np.array([0.0, 0.9]), planner.initial_state(problem), np.random.default_rng(0), Deadline()
    )
    velocity = problem.dynamics.rollout(np.array([0.0, 0.9]), plan.actions[None], None, 1)[0, 0, :, 1]
    assert plan.actions[0, 0] < -1.0 and velocity[4:].max() < 0.5


def test_weight_margin_and_kind_change_the_cost():
    x = np.array([0.0, 0.6])
    assert constrained("penalty", margin=0.1).terminal_cost(x) > constrained("penalty", margin=0.2).terminal_cost(x)
    assert constrained("penalty", weight=2.0).terminal_cost(x) > constrained("penalty", weight=1.0).terminal_cost(x)
    x = np.array([0.0, 0.4])
    assert constrained("barrier", margin=0.5).terminal_cost(x) > constrained("barrier", margin=0.2).terminal_cost(x)
    assert constrained("barrier").terminal_cost(x) > constrained("penalty").terminal_cost(x)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="barrier, penalty"):
        constrained("wall")
    with pytest.raises(ConfigError, match="x_low"):
        constrained("penalty", low=(0.0, 1.0), high=(1.0, 0.5))
    with pytest.raises(ConfigError, match="weight"):
        constrained("penalty", weight=0.0)
    with pytest.raises(ConfigError, match="margin"):
        constrained("penalty", margin=-1.0)
