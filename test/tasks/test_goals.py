"""Goals by message: what is asked for becomes the right parameters, or a refusal that names entry, value and range."""

from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.description import load_robot
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig
from mbrl_ros.tasks.goals import check_task, goal_parameters, joint_target, pose_target
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig
from mbrl_ros.tasks.reach import Reach, ReachConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "robots" / "examples"
CARTPOLE, ARM, BASE = load_robot("cartpole"), load_robot(f"{EXAMPLES}/arm.yaml"), load_robot(f"{EXAMPLES}/base.yaml")
SWINGUP = CartpoleSwingup(CartpoleSwingupConfig(goal_position=0.3))
ARM_REACH = Reach(ReachConfig(goal=(0.8, 1.2, 0.0, 0.0), weights=(1.0, 1.0, 0.05, 0.05)))
BASE_REACH = Reach(ReachConfig(goal=(1.0, 0.5, 0.0, 0.0, 0.0), weights=(1.0, 1.0, 0.0, 0.02, 0.02)))


def test_joints_are_found_by_name_and_the_others_keep_their_goal():
    target = joint_target(ARM, ["elbow"], [0.5], [])
    assert target == {"elbow/position": 0.5}
    assert goal_parameters(ARM_REACH, ARM, target) == {"goal": [0.8, 0.5, 0.0, 0.0]}
    target = joint_target(ARM, ["elbow", "shoulder"], [0.5, -0.2], [0.1, 0.3])
    assert goal_parameters(ARM_REACH, ARM, target) == {"goal": [-0.2, 0.5, 0.3, 0.1]}


def test_a_pose_moves_the_base_and_no_other_entry():
    target = pose_target(BASE_REACH, BASE, np.array([-1.5, 0.25, 7.0]), np.array([0.1, 0.2, 0.9]))
    assert goal_parameters(BASE_REACH, BASE, target) == {"goal": [-1.5, 0.25, 0.9, 0.0, 0.0]}


def test_the_angles_of_a_pose_are_roll_pitch_and_yaw_of_a_base_with_six_degrees_of_freedom(tmp_path):
    (tmp_path / "drone.yaml").write_text(
        "name: drone\ntask: reach\ncontrol_rate: 20.0\ntrial_duration: 2.0\nbase: six_dof\n"
        "sensors:\n  - {topic: odom, type: Odometry, measures: pose and twist}\n  - {topic: imu, type: Imu}\n"
        "command_interface: twist\ncommand_topic: cmd_vel\ncommand_message: TwistStamped\ntwist_limit: [1.0, 1.0]\n"
    )
    drone = load_robot(f"{tmp_path}/drone.yaml")
    target = pose_target(BASE_REACH, drone, np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))
    wanted = {"base_x": 1.0, "base_y": 2.0, "base_z": 3.0, "base_roll": 0.1, "base_pitch": 0.2, "base_yaw": 0.3}
    assert target == wanted


def test_the_carts_place_is_the_goal_of_the_swing_up():
    assert goal_parameters(SWINGUP, CARTPOLE, joint_target(CARTPOLE, ["cart_slider"], [-0.7], [])) == {
        "goal_position": -0.7
    }
    target = pose_target(SWINGUP, CARTPOLE, np.array([1.1, 9.0, 9.0]), np.zeros(3))
    assert goal_parameters(SWINGUP, CARTPOLE, target) == {"goal_position": 1.1}
    upright = joint_target(CARTPOLE, ["pole_hinge"], [0.0], [0.0])
    assert goal_parameters(SWINGUP, CARTPOLE, upright) == {"goal_position": 0.3}, "nothing is said of the cart"


@pytest.mark.parametrize(
    ("task", "robot", "target", "said"),
    [
        (ARM_REACH, ARM, {"shoulder/position": 1.6}, "shoulder/position 1.6 is not allowed; .* in \\[-1.5, 1.5\\]"),
        (ARM_REACH, ARM, {"elbow/position": 0.1}, "elbow/position 0.1 is not allowed; .* in \\[0.2, 2.4\\]"),
        (ARM_REACH, ARM, {"elbow/velocity": -1.1}, "elbow/velocity -1.1 is not allowed; .* in \\[-1, 1\\]"),
        (ARM_REACH, ARM, {"elbow/position": np.nan}, "elbow/position nan is not allowed"),
        (ARM_REACH, ARM, {"base_x": 0.0}, "unknown entry 'base_x'; choose from: shoulder/position"),
        (ARM_REACH, ARM, {}, "it is empty"),
        (BASE_REACH, BASE, {"base_yaw": np.inf}, "base_yaw inf is not allowed"),
        (SWINGUP, CARTPOLE, {"cart_slider/position": -2.6}, "in \\[-2.5, 2.5\\]"),
        (SWINGUP, CARTPOLE, {"pole_hinge/position": 1.0}, "expected 0: upright"),
        (PendulumSwingup(PendulumSwingupConfig()), CARTPOLE, {"pole_hinge/position": 0.0}, "none that can be moved"),
    ],
)
def test_what_cannot_be_a_goal_is_named(task, robot, target, said):
    with pytest.raises(ConfigError, match=said):
        goal_parameters(task, robot, target)


@pytest.mark.parametrize(
    ("names", "position", "velocity", "said"),
    [
        (["elbow"], [], [], "1 names, 0 positions"),
        (["elbow"], [1.0], [1.0, 2.0], "2 velocities"),
        (["elbov"], [1.0], [], "'elbov' is unknown or there twice; choose from: shoulder, elbow"),
        (["elbow", "elbow"], [1.0, 1.0], [], "there twice"),
    ],
)
def test_a_message_that_does_not_fit_is_named(names, position, velocity, said):
    with pytest.raises(ConfigError, match=said):
        joint_target(ARM, names, position, velocity)


def test_a_pose_is_no_goal_for_an_arm():
    with pytest.raises(ConfigError, match="no pose is taken for arm, which has no moving base"):
        pose_target(ARM_REACH, ARM, np.zeros(3), np.zeros(3))


def test_parameters_are_checked_as_a_goal_is():
    check_task(ARM_REACH, ARM)
    check_task(Reach(ReachConfig(goal=(9.0,), weights=(0.0,))), ARM)  # where nothing matters, nothing is wrong
    for config, said in (
        (ReachConfig(goal=(0.8, 1.2, 0.0)), "task.goal"),
        (ReachConfig(goal=(0.8, 0.1, 0.0, 0.0)), "elbow/position 0.1"),
        (ReachConfig(goal=(0.8, 1.0, 0.0, 0.0), weights=(1.0, 1.0)), "task.weights"),
        (ReachConfig(goal=(0.8, 1.0, 0.0, 0.0), control_rest=(0.0, 0.0, 0.0)), "task.control_rest"),
        (ReachConfig(goal=(0.8, np.inf, 0.0, 0.0)), "the cost of the start is inf"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_task(Reach(config), ARM)
    with pytest.raises(ConfigError, match="is not for 2 states"):
        check_task(CartpoleSwingup(CartpoleSwingupConfig()), load_robot(f"{EXAMPLES}/joint.yaml"))
