"""Every planner goes on when the horizon changes between two ticks, from what it remembers where it can."""

from dataclasses import replace

import numpy as np
import pytest

from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.changing_horizon import ChangingHorizon, along_horizon, resized
from mbrl_ros.planners.mppi import MPPI, MPPIConfig, MPPIState
from mbrl_ros.robots.pendulum_equations import derivative
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig

X0 = np.array([np.pi, 0.0])
U_MAX = np.array([2.5])
DYNAMICS = AnalyticDynamics(derivative, 2, 1, 0.05)
PROBLEM = Problem(DYNAMICS, PendulumSwingup(PendulumSwingupConfig()), -U_MAX, U_MAX, horizon=12)


def tick(planner, problem, state, seed=0):
    return planner.plan(problem, X0, state, np.random.default_rng(seed), Deadline())


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_takes_another_horizon_and_the_same_one_changes_nothing(name):
    cls = planner_class(name)
    plain, planner = cls(cls.config_class()), ChangingHorizon(cls(cls.config_class()))
    state, plain_state = planner.initial_state(PROBLEM), plain.initial_state(PROBLEM)
    for k in range(2):
        plan, state = tick(planner, PROBLEM, state, k)
        expected, plain_state = tick(plain, PROBLEM, plain_state, k)
        np.testing.assert_array_equal(plan.actions, expected.actions)
    for horizon in (5, 17, 1, 12):
        plan, state = tick(planner, replace(PROBLEM, horizon=horizon), state)
        assert len(plan.actions) == horizon and np.isfinite(plan.actions).all()


def test_the_beginning_is_kept_and_the_end_is_held():
    mean = np.arange(8.0).reshape(4, 2)
    assert along_horizon(mean, 4, 2).tolist() == mean[:2].tolist()
    assert along_horizon(mean, 4, 6).tolist() == [*mean.tolist(), [6.0, 7.0], [6.0, 7.0]]
    assert along_horizon(np.arange(5.0)[:, None], 4, 6).shape == (7, 1), "states are one more than periods"
    assert along_horizon(np.zeros((0, 4, 2)), 4, 6).shape == (0, 6, 2)
    last = np.array([9.0, 9.0])
    kept = resized(MPPIState(mean, last), 4, 3)
    assert kept.mean.shape == (3, 2) and kept.last is last
    assert resized(None, 4, 3) is None and resized({"tree": 1}, 4, 3) is None


def test_what_was_found_is_of_use_for_the_next_horizon():
    """After ten ticks of a swing-up with one sample round each, a warm start plans better than a cold one."""
    planner = ChangingHorizon(MPPI(MPPIConfig(samples=32, rounds=1)))
    longer = replace(PROBLEM, horizon=16)
    state = planner.initial_state(PROBLEM)
    for k in range(10):
        _, state = tick(planner, PROBLEM, state, k)
    costs = np.array(
        [[tick(planner, longer, s, seed)[0].cost for s in (state, planner.initial_state(longer))] for seed in range(20)]
    )
    assert costs[:, 0].mean() < costs[:, 1].mean()
