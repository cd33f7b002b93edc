"""What goes to robots of every kind, and what comes from a base: there and back, and garbage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import Twist
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.estimation import base_messages as b
from mbrl_ros.nodes import conversions as c
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.robots.command_messages import from_joint_trajectory, from_planar_twist
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.interfaces import COMMAND_INTERFACES

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "robots" / "examples"
ARM, BASE = (load_robot(str(EXAMPLES / f"{name}.yaml")) for name in ("arm", "base"))
JOINTS = ARM.joints
COMBINATIONS = [(name, message) for name, kind in COMMAND_INTERFACES.items() for message in kind.messages]
any_float = st.floats()
numbers = st.lists(any_float, max_size=4)
names = st.lists(st.sampled_from(["shoulder", "elbow", "wrist", ""]), max_size=4)


def robot_with(interface, message):
    """A robot of two actuators with this interface and message."""
    if interface == "twist":
        return replace(BASE, command_message=message)
    limits = {"effort_limit": (1.0, 1.0), "position_limit": (1.5, 2.4), "start_position": (0.0, 0.6)}
    return replace(ARM, command_interface=interface, command_message=message, **limits)


@pytest.mark.parametrize(("interface", "message"), COMBINATIONS)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_commands_round_trip_through_every_message(interface, message, values):
    output = command_output(robot_with(interface, message))
    sent = output.write(1_500_000_000, np.array(values))
    assert type(sent).__name__ == message and isinstance(sent, output.kind)
    assert np.array_equal(output.read(sent), values)


@pytest.mark.parametrize(("interface", "message"), COMBINATIONS)
def test_each_interface_has_its_field_and_no_other(interface, message):
    sent = command_output(robot_with(interface, message)).write(1_500_000_000, np.array([1.0, 2.0]))
    if message == "JointState":
        assert {f: list(getattr(sent, f)) for f in ("position", "velocity", "effort")}[interface] == [1.0, 2.0]
        assert sum(len(getattr(sent, f)) for f in ("position", "velocity", "effort")) == 2
        assert list(sent.name) == list(JOINTS) and sent.header.stamp.sec == 1
    elif message == "JointTrajectory":
        assert list(sent.points[0].positions) == [1.0, 2.0] and not sent.points[0].velocities
        assert sent.points[0].time_from_start.nanosec == 50_000_000 and sent.header.stamp.sec == 0
    elif message == "TwistStamped":
        assert (sent.twist.linear.x, sent.twist.angular.z, sent.header.stamp.nanosec) == (1.0, 2.0, 500_000_000)
    elif message == "Twist":
        assert (sent.linear.x, sent.angular.z) == (1.0, 2.0)


@pytest.mark.parametrize("interface", sorted(COMMAND_INTERFACES))
def test_internal_commands_are_in_the_interfaces_own_field(interface):
    message = c.to_command(7, JOINTS, np.array([1.0, 2.0]), "ok", interface)
    assert c.from_command(message, JOINTS, interface).tolist() == [1.0, 2.0]
    others = [o for o in COMMAND_INTERFACES if c.COMMAND_FIELDS[o] != c.COMMAND_FIELDS[interface]]
    for other in others:
        assert np.isnan(c.from_command(message, JOINTS, other)).all()


@given(
    st.builds(lambda n, p, v, e: JointState(name=n, position=p, velocity=v, effort=e), names, numbers, numbers, numbers)
)
def test_any_joint_state_gives_numbers_or_nan_in_the_right_shape(message):
    for values in (*c.from_joint_state(message, JOINTS), c.from_observation(message, JOINTS, ())[:2]):
        assert values.shape == (2,)
    for interface in COMMAND_INTERFACES:
        values = c.from_command(message, JOINTS, interface)
        assert values.shape == (2,)
        for name, value in zip(JOINTS, values, strict=True):
            there = getattr(message, c.COMMAND_FIELDS[interface])
            known = [there[i] for i, n in enumerate(message.name) if n == name and i < len(there)]
            assert np.isnan(value) or value in known, "nothing is made up"


@given(names, st.lists(numbers, max_size=2), numbers, st.lists(any_float, min_size=6, max_size=6))
def test_any_command_message_gives_what_it_has_or_nan(joint_names, points, data, six):
    message = JointTrajectory(joint_names=joint_names, points=[JointTrajectoryPoint(positions=p) for p in points])
    assert from_joint_trajectory(message, JOINTS).shape == (2,)
    floats = command_output(robot_with("effort", "Float64MultiArray")).read(Float64MultiArray(data=data))
    assert np.array_equal(floats, data, equal_nan=True)
    twist = c.to_twist(np.array(six))
    found = from_planar_twist(twist)
    assert np.isnan(found).all() or not (twist.linear.y or twist.linear.z or twist.angular.x or twist.angular.y)


def test_a_twist_that_is_none_of_a_planar_base_is_no_command():
    twist = Twist()
    twist.linear.x, twist.linear.y = 1.0, 0.2
    assert np.isnan(from_planar_twist(twist)).all()


@given(st.lists(any_float, min_size=13, max_size=13), st.integers(0, 2**31 * c.NANOSECONDS - 1))
def test_sensors_of_a_base_round_trip(values, stamp_ns):
    pose, twist = np.array(values[:7]), np.array(values[7:])
    odometry = c.to_odometry(stamp_ns, pose, twist)
    (found_pose, covariance), (found_twist, _) = b.from_odometry(odometry)
    assert np.array_equal(found_pose, pose, equal_nan=True) and np.array_equal(found_twist, twist, equal_nan=True)
    assert covariance.shape == (6, 6) and c.from_time(odometry.header.stamp) == stamp_ns
    assert np.array_equal(b.from_pose(c.to_pose_stamped(stamp_ns, pose).pose), pose, equal_nan=True)
    imu = c.to_imu(stamp_ns, twist)
    assert np.array_equal(b.from_imu(imu)[0], twist, equal_nan=True)
    assert np.isnan(b.from_imu_orientation(imu)[0]).all(), "it says that it has none"


def test_what_an_imu_says_it_does_not_measure_is_not_a_number():
    message = Imu()
    message.linear_acceleration_covariance[0] = -1.0
    message.orientation.w = 1.0
    value, _ = b.from_imu(message)
    assert np.isfinite(value[:3]).all() and np.isnan(value[3:]).all()
    assert b.from_imu_orientation(message)[0].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_covariances_come_as_squares():
    message = Odometry()
    message.pose.covariance[7] = 4.0
    assert b.from_odometry(message)[0][1][1, 1] == 4.0


def test_an_observation_with_a_base_becomes_the_state_of_the_layout():
    x = np.array([0.1, 0.2, 7.0, 8.0, 1.0, 2.0, 0.0, 0.0])  # positions and base, then velocities
    message = c.to_joint_state(5, (*JOINTS, "base_x", "base_y"), x)
    assert c.from_observation(message, JOINTS, ("base_x", "base_y")).tolist() == [0.1, 0.2, 1.0, 2.0, 7.0, 8.0]


def test_a_plan_of_a_base_has_its_entries_and_its_twist():
    states, actions = np.arange(10.0).reshape(2, 5), np.array([[0.3, -0.1]])
    plan = c.to_trajectory(0, 0.1, (), states, BASE.actuators, actions, BASE.base_states)
    assert list(plan.joint_names) == [*BASE.base_states, "linear_x", "angular_z"]
    assert list(plan.points[1].positions[:5]) == states[1].tolist()
    assert list(plan.points[0].effort[5:]) == [0.3, -0.1] and np.isnan(plan.points[1].effort).all()
