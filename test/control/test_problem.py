"""The controller's parameters reach the control problem."""

import numpy as np
import pytest

from mbrl_ros.control.problem import make_problem
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NODES, configure
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")


def problem(**values):
    config, groups = configure(NODES["mpc_controller"], values)
    return make_problem(config, groups, ROBOT)


def at(p):
    return np.array([p, 0.0, 0.0, 0.0])


def cost(problem, p):
    return float(problem.task.running_cost(at(p), np.zeros(1)))


def test_numbers_are_passed_on():
    made = problem(horizon=7, particles=3, sample_noise=True, replan_every=2, propagation="ts1")
    assert (made.horizon, made.particles, made.sample_noise, made.replan_every) == (7, 3, True, 2)
    assert (made.u_min.tolist(), made.u_max.tolist()) == ([-10.0], [10.0])


def test_the_risk_measure_is_the_one_that_is_named():
    costs = np.array([[0.0], [1.0], [5.0]])
    assert problem().risk(costs) == pytest.approx(2.0)
    particles = {"propagation": "ts_inf"}
    assert problem(**particles, **{"risk.measure": "worst_case"}).risk(costs) == 5.0
    assert problem(**particles, **{"risk.measure": "cvar", "risk.alpha": 2 / 3}).risk(costs) == pytest.approx(3.0)


def test_the_mean_is_one_particle():
    assert problem(particles=3).particles == 1
    assert problem(particles=3, propagation="ts_inf").particles == 3


@pytest.mark.parametrize("values", [{"risk.measure": "cvar"}, {"sample_noise": True}])
def test_what_needs_particles_is_refused_where_the_plan_follows_the_mean(values):
    name, value = next(iter(values.items()))
    with pytest.raises(ConfigError, match=f"{name}: {value} .* propagation 'mean'.*moment_matching, ts1, ts_inf"):
        problem(propagation="mean", **values)


@pytest.mark.parametrize("model", ["physics", "physics_residual_gp"])
def test_a_model_without_a_last_layer_is_not_adapted_in_silence(model):
    with pytest.raises(ConfigError, match=f"adaptation.memory: 1.0 .*'{model}'.*choose model .*gaussian_process"):
        problem(model=model, **{"adaptation.memory": 1.0})
    assert problem(model=model).horizon == 16
    assert problem(model="linear_gaussian", **{"adaptation.memory": 1.0}).horizon == 16


def test_without_state_limits_there_are_none():
    assert problem().x_max is None
    assert cost(problem(), 1.9) < 2.5


@pytest.mark.parametrize("kind", ["penalty", "barrier"])
def test_state_limits_are_a_share_of_the_robots_and_cost_beyond_it(kind):
    off, on = problem(), problem(state_limits=kind, limit_share=0.4)
    assert on.x_max.tolist() == [1.0, np.inf, np.inf, np.inf]
    assert on.x_min.tolist() == [-1.0, -np.inf, -np.inf, -np.inf]
    assert cost(on, 0.5) == pytest.approx(cost(off, 0.5))
    assert cost(on, 1.2) > cost(off, 1.2) + 1.0
    assert cost(on, -1.2) > cost(off, -1.2) + 1.0
    assert cost(problem(state_limits=kind, limit_share=0.9), 1.2) == pytest.approx(cost(off, 1.2))


def test_what_is_planned_is_within_the_robots_range_and_what_is_stated():
    robot = load_robot("cartpole")
    assert (problem().u_min, problem().u_max) == (robot.u_min, robot.u_max)
    narrower = problem(command_low=[-3.0], command_high=[4.0])
    assert (narrower.u_min, narrower.u_max) == (-3.0, 4.0)
    assert problem(command_low=[-99.0], command_high=[99.0]).u_max == robot.u_max, "never beyond the robot's own"
    with pytest.raises(ConfigError, match=r"command_low, command_high: they leave 3 to 2 for cart_slider"):
        problem(command_low=[3.0], command_high=[2.0])
    with pytest.raises(ConfigError, match=r"command_high: \[1.0, 2.0\] .* one for each of \['cart_slider'\]"):
        problem(command_high=[1.0, 2.0])
