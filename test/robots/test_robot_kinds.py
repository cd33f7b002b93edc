"""Robots of every kind: command interfaces, a moving base, sensors, ranges, delay, parameters."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation.base import BaseEstimator
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.robots.description import RobotDescription, from_mapping, load_robot
from mbrl_ros.robots.sensors import BASE_STATES, estimator_config
from mbrl_ros.safety.guard_config import GuardConfig
from mbrl_ros.safety.limits import limits_of

ARM = {
    "name": "arm",
    "task": "reach",
    "control_rate": 20.0,
    "trial_duration": 2.0,
    "joints": ["shoulder", "elbow"],
    "actuators": ["elbow"],
    "command_interface": "position",
    "position_limit": {"elbow": [0.2, 2.4], "shoulder": 1.5},
}
BASE = {
    "name": "base",
    "task": "reach",
    "control_rate": 10.0,
    "trial_duration": 5.0,
    "base": "diff_drive",
    "sensors": [{"topic": "odom", "type": "nav_msgs/msg/Odometry"}, {"topic": "imu", "type": "Imu"}],
    "command_interface": "twist",
    "twist_limit": [0.4, 1.2],
    "position_limit": {"base_x": 2.0},
}


def load(tmp_path, values) -> RobotDescription:
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_robot(str(path))


def test_a_position_controlled_arm(tmp_path):
    robot = load(tmp_path, ARM)
    assert (robot.u_min.tolist(), robot.u_max.tolist()) == ([0.2], [2.4])
    assert (robot.position_low.tolist(), robot.position_high.tolist()) == ([-1.5, 0.2], [1.5, 2.4])
    assert robot.layout.action == ("elbow/position",)
    assert (robot.output_topic, robot.output_message) == ("position_controller/commands", "Float64MultiArray")
    assert robot.initial_state.tolist() == [0.0, 1.3, 0.0, 0.0], "the middle of its range: no start is stated"
    assert [s.topic for s in robot.sensors] == ["joint_states"]


def test_a_velocity_controlled_joint(tmp_path):
    robot = load(tmp_path, ARM | {"command_interface": "velocity", "velocity_limit": [1.0, 3.0]})
    assert (robot.u_min.tolist(), robot.u_max.tolist()) == ([-3.0], [3.0])
    assert robot.output_topic == "velocity_controller/commands"
    limits = limits_of(robot, GuardConfig(velocity_margin=0.5))
    assert (limits.command_low.tolist(), limits.command_high.tolist()) == ([-1.5], [1.5]), (
        "no urdf: the YAML's, less the margin"
    )
    assert limits.velocity.tolist() == [1.0, 3.0], (
        "a joint that does as it is told, with noise, is not beyond its limits"
    )


def test_a_base_driven_by_twists(tmp_path):
    robot = load(tmp_path, BASE)
    layout = robot.layout
    assert layout.state == ("base_x", "base_y", "base_yaw", "base_vx", "base_wz")
    assert layout.action == ("linear_x", "angular_z")
    assert layout.angles == ("base_yaw",)
    assert layout.velocity_of == {"base_yaw": "base_wz"}, "base_vx is in the base's own frame"
    assert layout.learned.tolist() == [0, 1, 3, 4]
    assert (robot.output_topic, robot.output_message) == ("cmd_vel", "TwistStamped")
    limits = limits_of(robot, GuardConfig(position_margin=0.1))
    assert limits.joints == robot.entries and limits.position_high[0] == 1.9
    assert limits.command_high.tolist() == [0.4, 1.2]
    assert "base_x at 1.95" in limits.beyond(np.array([1.95, 9.0, 0.0, 0.0, 0.0]), np.zeros(5))


def test_a_base_that_carries_an_arm(tmp_path):
    sensors = [*BASE["sensors"], {"topic": "joint_states", "type": "JointState"}]
    robot = load(tmp_path, ARM | {"base": "omni", "base_states": ["base_vx", "base_x"], "sensors": sensors})
    assert robot.layout.state[2:] == ("shoulder/velocity", "elbow/velocity", "base_vx", "base_x")
    assert robot.entries == ("shoulder", "elbow", "base_vx", "base_x")
    assert len(robot.position_low) == 4 and len(robot.initial_state) == 6


def test_the_estimator_names_its_base_entries_as_the_description_does():
    for base, names in BASE_STATES.items():
        if base != "none":
            config = FilterConfig(base=base, odometry_topic="odom", imu_topic="imu")
            assert BaseEstimator(config).names == list(names)


def test_sensors_become_the_estimators_settings_where_the_parameters_say_nothing(tmp_path):
    robot = load(tmp_path, BASE)
    config = estimator_config(FilterConfig(rate=10.0), robot)
    assert (config.base, config.odometry_topic, config.imu_topic, config.odometry_use) == (
        "diff_drive",
        "odom",
        "imu",
        "both",
    )
    assert config.base_states == ",".join(robot.base_states) and config.rate == 10.0
    stated = FilterConfig(base="omni", odometry_topic="other", odometry_use="twist")
    assert estimator_config(stated, robot).odometry_topic == "other"
    assert estimator_config(FilterConfig(), load_robot("cartpole")) == FilterConfig()


@pytest.mark.parametrize(
    ("total", "real_time", "lockstep"), [(0.0, 1, 0), (0.01, 2, 1), (0.05, 2, 1), (0.051, 3, 2), (0.15, 4, 3)]
)
def test_the_delay_in_periods_rounds_up(tmp_path, total, real_time, lockstep):
    robot = load(tmp_path, ARM | {"delay": {"actuation_s": total / 2, "sensing_s": total / 2}})
    assert robot.delay is not None and robot.delay.total_s == total
    assert (robot.delay_ticks(lockstep=False), robot.delay_ticks(lockstep=True)) == (real_time, lockstep)


def test_a_robot_without_a_known_delay_plans_one_period_ahead():
    robot = load_robot("cartpole")
    assert robot.delay is None
    assert (robot.delay_ticks(lockstep=False), robot.delay_ticks(lockstep=True)) == (1, 0)


@pytest.mark.parametrize(
    ("robot", "change", "said"),
    [
        (ARM, {"command_message": "Twist"}, "command_message: 'Twist' is not allowed for position .*JointTrajectory"),
        (ARM, {"command_topic": "a b"}, "command_topic: 'a b'"),
        (ARM, {"position_limit": {"elbow": 1.0, "wrist": 1.0}}, "unknown name 'wrist'; choose from: shoulder, elbow"),
        (ARM, {"position_limit": [1.0, [2.0, 1.0]]}, r"\[2.0, 1.0\] is not allowed; expected \[low, high\]"),
        (ARM, {"position_limit": {"shoulder": 1.0}}, "there is none for 'elbow'"),
        (ARM, {"position_limit": "far"}, "position_limit: 'far'"),
        (ARM, {"velocity_limit": [1.0]}, "velocity_limit: expected one number for each of joints"),
        (ARM, {"command_rate": [0.0]}, "command_rate: .* must be positive"),
        (ARM, {"base": "tracked"}, "base: 'tracked' is not allowed; expected one of: none, diff_drive"),
        (ARM, {"base_states": ["base_x"]}, "base_states: 'base_x'"),
        (ARM, {"delay": {"actuation_s": -1.0}}, "delay: actuation_s: -1.0"),
        (ARM, {"delay": 0.1}, "delay: 0.1 is not allowed"),
        (ARM, {"parameters": ["x"]}, "parameters: "),
        (ARM, {"sensors": [{"topic": "odom", "type": "Odometry"}]}, "Odometry tells of a base, but base is none"),
        (ARM, {"sensors": [{"topic": "x", "type": "LaserScan"}]}, "entry 1: type: 'LaserScan'.*JointState"),
        (ARM, {"sensors": [{"type": "Imu"}]}, "entry 1: missing key 'topic'"),
        (ARM, {"sensors": "joint_states"}, "sensors: 'joint_states'"),
        (BASE, {"sensors": [{"topic": "imu", "type": "Imu"}]}, "needs one of type Odometry or PoseStamped"),
        (BASE, {"sensors": [{"topic": "o", "type": "Odometry", "measures": "speed"}]}, "measures: 'speed'"),
        (BASE, {"base": "none", "sensors": [], "position_limit": []}, "base: none is not allowed with twist"),
        (BASE, {"base": "six_dof", "sensors": [{"topic": "o", "type": "Odometry"}]}, "six_dof needs one of type Imu"),
        (BASE, {"twist_limit": [0.4]}, "twist_limit: expected one number for each of actuators"),
        (BASE, {"actuators": ["angular_z", "linear_x"]}, "actuators: .*expected .*linear_x"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, robot, change, said):
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, robot | change)


def test_every_problem_is_reported_at_once(tmp_path):
    wrong = {k: v for k, v in ARM.items() if k != "task"} | {"control_rate": "fast", "colour": "red"}
    with pytest.raises(ConfigError) as error:
        load(tmp_path, wrong)
    assert [word in str(error.value) for word in ("'task'", "control_rate", "'colour'")] == [True] * 3


@given(
    st.dictionaries(
        st.sampled_from(sorted({*ARM, *BASE, "delay", "parameters", "angles", "velocity_limit", "start_position"})),
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats()
            | st.text(max_size=5)
            | st.sampled_from(["elbow", "base_x", "omni"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
            max_leaves=4,
        ),
        max_size=4,
    ),
    st.sampled_from([ARM, BASE]),
)
def test_garbage_is_refused_with_a_message_and_never_crashes(changes, robot):
    try:
        made = from_mapping(robot | changes, Path("robot.yaml"))
    except ConfigError as error:
        assert str(error).startswith("robot.yaml: ")
    else:
        assert np.isfinite(made.u_max).all() and np.isfinite(made.initial_state).all() and made.layout.nx > 0
