"""Every planner swings the known pendulum and the known cart-pole up and holds them, in closed loop at 20 Hz."""

import numpy as np
import pytest

from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.robots import cartpole_equations, pendulum_equations
from mbrl_ros.tasks import TASKS

DT = 0.05
REGULATORS = {"lqr"}  # linear feedback holds a robot upright; it does not swing it up
CASES = {  # task, dynamics, limit in N or N m, start hanging, a start near upright, horizon
    "pendulum": ("pendulum_swingup", pendulum_equations.derivative, 2.5, [np.pi, 0.0], [0.2, 0.0], 30),
    "cartpole": ("cartpole_swingup", cartpole_equations.derivative, 10.0, [0, np.pi, 0, 0], [0.05, 0.05, 0, 0], 16),
}
SETTINGS = {("random_shooting", "cartpole"): {"samples": 2048, "std": 0.4}}  # balancing takes more than the defaults
SWINGERS = sorted(set(PLANNERS) - REGULATORS)


def closed_loop(planner_name, case, start, periods, seed=0):
    """States (periods + 1, nx) under the planner, replanning every period, through the true dynamics."""
    task_name, derivative, limit, _, _, horizon = CASES[case]
    dynamics = AnalyticDynamics(derivative, len(start), 1, DT)
    task = TASKS[task_name](TASKS[task_name].config_class())
    problem = Problem(dynamics, task, -np.full(1, limit), np.full(1, limit), horizon)
    cls = planner_class(planner_name)
    planner = cls(cls.config_class(**SETTINGS.get((planner_name, case), {})))
    state, states = planner.initial_state(problem), [np.array(start, float)]
    for tick in range(periods):
        plan, state = planner.plan(problem, states[-1], state, np.random.default_rng([seed, tick]), Deadline())
        states.append(dynamics.step(states[-1][None], plan.actions[:1])[0])
    return np.array(states)


def upright(states, case):
    """Distance of the pole from upright in rad: (T,)."""
    angle = states[:, 0 if case == "pendulum" else 1]
    return np.abs(np.arctan2(np.sin(angle), np.cos(angle)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("planner", SWINGERS)
def test_every_planner_swings_up(planner, case):
    states = closed_loop(planner, case, CASES[case][3], periods=80)
    held = np.mean(upright(states[-15:], case) < np.radians(20.0))
    assert held >= 0.8, f"upright in {held:.0%} of the last 15 periods"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("planner", sorted(REGULATORS))
def test_a_regulator_holds_what_is_nearly_upright(planner, case):
    states = closed_loop(planner, case, CASES[case][4], periods=80)
    assert upright(states[-15:], case).max() < np.radians(1.0)
    assert np.abs(states[-1]).max() < 0.05
