"""A planner that is asked again only after several periods finds what it remembers shifted by as many."""

from dataclasses import replace

import numpy as np
import pytest

from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.planners import planner_class
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.cem import shift
from mbrl_ros.robots.pendulum_equations import derivative
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig

X0 = np.array([np.pi, 0.0])
U_MAX = np.array([2.5])
DYNAMICS = AnalyticDynamics(derivative, 2, 1, 0.05)
PROBLEM = Problem(DYNAMICS, PendulumSwingup(PendulumSwingupConfig()), -U_MAX, U_MAX, horizon=12)


def state_after(name, periods):
    planner = planner_class(name)(planner_class(name).config_class())
    problem = replace(PROBLEM, replan_every=periods)
    plan, state = planner.plan(problem, X0, planner.initial_state(problem), np.random.default_rng(0), Deadline())
    return plan, state


@pytest.mark.parametrize(
    ("name", "remembered"),
    [
        ("cem", "mean"),
        ("cem", "elites"),
        ("mppi", "mean"),
        ("ilqr", "actions"),
        ("ddp", "actions"),
        ("collocation", "actions"),
    ],
)
def test_what_is_remembered_is_shifted_by_the_periods_until_the_next_plan(name, remembered):
    once, thrice = (getattr(state_after(name, periods)[1], remembered) for periods in (1, 3))
    np.testing.assert_array_equal(thrice, shift(once, 2))
    assert not np.array_equal(once, thrice)


def test_random_shooting_remembers_its_winner():
    plan, state = state_after("random_shooting", 3)
    np.testing.assert_array_equal(state, shift(plan.actions, 3))


def test_collocation_remembers_states_that_go_on_from_where_the_plan_ends():
    plan, state = state_after("collocation", 3)
    expected = DYNAMICS.rollout(X0, plan.actions[None], None, 1)[0, 0]
    np.testing.assert_allclose(state.states[: len(expected) - 3], expected[3:], atol=1e-4)
    last = state.states[-4:]
    np.testing.assert_allclose(DYNAMICS.step(last[:-1], np.repeat(plan.actions[-1:], 3, axis=0)), last[1:], atol=1e-9)


def test_the_search_tree_is_entered_as_deep_as_periods_pass():
    plan, state = state_after("mcts", 3)  # macro-actions of two periods: one is past, the second has begun
    assert state.phase == 1
    grid = np.linspace(-U_MAX[0], U_MAX[0], 5)
    np.testing.assert_allclose(grid[state.best[0]], plan.actions[2])
