"""Messages to arrays and back."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import JointState

from mbrl_ros.errors import MessageError
from mbrl_ros.nodes import conversions as c

JOINTS = ("a", "b", "c")


@given(st.integers(0, 2**31 * c.NANOSECONDS - 1))
def test_time_round_trip(stamp_ns):
    assert c.from_time(c.to_time(stamp_ns)) == stamp_ns


def test_duration_carries_over_whole_seconds():
    duration = c.to_duration(1.25)
    assert (duration.sec, duration.nanosec) == (1, 250_000_000)


@given(st.lists(st.floats(allow_nan=False), min_size=6, max_size=6))
def test_joint_state_round_trip(values):
    position, velocity = c.from_joint_state(c.to_joint_state(12, JOINTS, np.array(values)), JOINTS)
    assert np.array_equal(np.concatenate([position, velocity]), values)


def test_joint_state_in_any_order_with_extra_and_missing_joints():
    message = JointState(name=["x", "c", "a"], position=[9.0, 3.0, 1.0], velocity=[9.0, 30.0, 10.0])
    position, velocity = c.from_joint_state(message, JOINTS)
    assert np.array_equal(position, [1.0, np.nan, 3.0], equal_nan=True)
    assert np.array_equal(velocity, [10.0, np.nan, 30.0], equal_nan=True)


def test_joint_state_without_velocities():
    position, velocity = c.from_joint_state(JointState(name=list(JOINTS), position=[1.0, 2.0, 3.0]), JOINTS)
    assert np.array_equal(position, [1.0, 2.0, 3.0])
    assert np.isnan(velocity).all()


def test_command_round_trip_keeps_stamp_and_flag():
    message = c.to_command(5_000_000_123, ("b",), np.array([-2.5]), "limited")
    assert c.from_command(message, ("b",)) == [-2.5]
    assert (c.from_time(message.header.stamp), message.header.frame_id) == (5_000_000_123, "limited")


def test_command_for_another_actuator_is_not_a_number():
    assert np.isnan(c.from_command(c.to_command(0, ("b",), np.array([1.0])), ("a",))).all()


def test_scalars_round_trip():
    values = {"planning_time": 0.012, "cost": float("inf")}
    assert c.from_scalars(c.to_scalars(1, values)) == values


def test_table_round_trip():
    columns = {"entropy": np.array([1.0, 2.0, 3.0]), "std/cart": np.array([4.0, 5.0, 6.0])}
    message = c.to_table(columns)
    assert [d.size for d in message.layout.dim] == [3, 2]
    assert list(message.data[:4]) == [1.0, 4.0, 2.0, 5.0], "row after row"
    back = c.from_table(message)
    assert list(back) == list(columns)
    np.testing.assert_array_equal(back["std/cart"], columns["std/cart"])


def test_trajectory_holds_states_actions_and_times():
    states, actions = np.arange(18.0).reshape(3, 6), np.array([[7.0], [8.0]])
    message = c.to_trajectory(0, 0.05, JOINTS, states, ("b",), actions)
    assert [list(p.positions) for p in message.points] == states[:, :3].tolist()
    assert [list(p.velocities) for p in message.points] == states[:, 3:].tolist()
    assert [p.effort[1] for p in message.points[:2]] == [7.0, 8.0]
    assert np.isnan(message.points[0].effort[0])
    assert np.isnan(message.points[2].effort[1])
    assert [p.time_from_start.nanosec for p in message.points] == [0, 50_000_000, 100_000_000]


def test_status_values_are_text():
    status = c.to_status("n", "robot", DiagnosticStatus.WARN, "why", {"count": 3})
    assert (c.status_values(status), status.level, status.message) == ({"count": "3"}, DiagnosticStatus.WARN, "why")


def test_statuses_are_those_of_the_own_namespace():
    nodes = ["/mpc_controller", "/a/mpc_controller", "/a/b/mpc_controller"]
    names = [*(c.status_name(node, c.STATE) for node in nodes), "driver: left", "mpc_controller: planning"]
    assert names[1] == "a/mpc_controller: state"
    message = DiagnosticArray(status=[DiagnosticStatus(name=name) for name in names])
    for namespace, own in (("/", names[0]), ("/a", names[1]), ("/a/b", names[2])):
        assert [(name, status.name) for name, status in c.own_statuses(message, namespace)] == [("mpc_controller", own)]


def test_a_pose_as_a_goal():
    message = PoseStamped()
    message.header.frame_id = "odom"
    message.pose = c.to_pose(np.array([1.0, -2.0, 0.5, 0.0, 0.0, 2.0 * np.sin(0.45), 2.0 * np.cos(0.45)]))
    position, angles = c.from_pose_goal(message, "odom")
    np.testing.assert_allclose(position, [1.0, -2.0, 0.5])
    np.testing.assert_allclose(angles, [0.0, 0.0, 0.9], atol=1e-12)
    with pytest.raises(MessageError, match="frame_id 'odom' is not allowed; expected 'world'"):
        c.from_pose_goal(message, "world")
    message.header.frame_id = ""
    for bad in (np.zeros(7), np.array([np.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])):
        message.pose = c.to_pose(bad)
        with pytest.raises(MessageError, match="expected finite numbers and an orientation"):
            c.from_pose_goal(message, "odom")
