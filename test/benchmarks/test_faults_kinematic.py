"""The stand-in of the fault matrix against closed forms: first-order drives, a circle, what rests without commands."""

import numpy as np
import pytest

from mbrl_ros.benchmarks.faults.kinematic_robot import LAG, KinematicRobot
from mbrl_ros.benchmarks.faults.live_graph import TRIAL, is_kinematic, matrix_parameters, write_robot
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import load_robot

EXAMPLES = share_directory() / "config" / "robots" / "examples"
ARM, BASE = (load_robot(str(EXAMPLES / f"{name}.yaml")) for name in ("arm", "base"))


def test_a_position_is_approached_exponentially_within_the_velocity_limit_and_then_kept():
    arm = KinematicRobot(ARM)
    start = arm.position.copy()
    arm.command = np.add(start, (0.01, -0.01))  # near enough for the velocity limit of 1 rad/s
    arm.step()
    np.testing.assert_allclose(arm.position - start, np.array([0.01, -0.01]) * (1 - np.exp(-ARM.dt / LAG)), rtol=1e-9)
    arm.command = np.add(start, (1.0, -0.1))
    before = arm.position.copy()
    arm.step()
    assert arm.position[0] - before[0] == pytest.approx(1.0 * ARM.dt), "no faster than the limit"
    assert arm.velocity[0] == pytest.approx(1.0)
    arm.rest()
    for _ in range(60):
        arm.step()
    np.testing.assert_allclose(arm.position, np.add(start, (1.0, -0.1)), atol=1e-9)
    np.testing.assert_allclose(arm.velocity, 0.0, atol=1e-6)


def test_a_base_drives_a_circle_and_rests_without_commands():
    base = KinematicRobot(BASE)
    base.command = np.array([0.4, 1.0])
    for _ in range(200):
        base.step()
    radius, yaw = 0.4, base.pose[2]
    assert yaw == pytest.approx(1.0 * (200 * BASE.dt - LAG), abs=0.02), "it lags by the time constant"
    np.testing.assert_allclose(base.pose[:2], radius * np.array([np.sin(yaw), 1 - np.cos(yaw)]), atol=0.01)
    base.rest()
    base.step()
    np.testing.assert_allclose(base.velocity, np.array([0.4, 1.0]) * np.exp(-BASE.dt / LAG), rtol=1e-6)


@pytest.mark.parametrize("robot", [ARM, BASE], ids=lambda robot: robot.name)
def test_a_halt_leaves_it_where_it_is(robot):
    moved = KinematicRobot(robot)
    moved.command = moved.command + 0.1
    moved.step()
    assert np.any(moved.velocity)
    moved.halt()
    where = np.concatenate([moved.position, moved.pose])
    moved.step()
    np.testing.assert_allclose(np.concatenate([moved.position, moved.pose]), where, atol=1e-12)
    assert not np.any(moved.velocity)


@pytest.mark.parametrize(("name", "kinematic"), [("arm", True), ("base", True), ("joint", False)])
def test_the_matrix_takes_any_robot(tmp_path, name, kinematic):
    source = load_robot(str(EXAMPLES / f"{name}.yaml"))
    robot = load_robot(str(write_robot(tmp_path, str(EXAMPLES / f"{name}.yaml"), endless=True)))
    assert (robot.trial_duration, robot.delay, is_kinematic(robot)) == (TRIAL, None, kinematic)
    assert (robot.output_topic, robot.output_message) == (source.output_topic, source.output_message)
    limited = np.isfinite(robot.position_high).any()
    assert limited == (robot.command_interface == "position"), "a fence would end trials; a position's range must stay"
    parameters = matrix_parameters(robot)
    assert parameters["trial_manager"]["base_trials"] == (10000 if kinematic else 0)
    if kinematic:
        assert not parameters["trial_manager"]["operator"]
        guard = parameters["command_guard"]
        assert guard["guard.observation_timeout"] == 2.0, "the safe defaults of a real robot"
        assert guard["guard.state_action"] == "none", "nobody is there to reset a stop"
        assert parameters["mpc_controller"]["horizon"] == 8, "and a small planner"


def test_the_ends_of_the_rail_are_out_of_reach(tmp_path):
    text = (write_robot(tmp_path, "cartpole", endless=True).parent / "cartpole.urdf").read_text()
    assert 'lower="-1000" upper="1000"' in text and "2.5" not in text.split("cart_slider")[-1].split("pole_hinge")[0]
