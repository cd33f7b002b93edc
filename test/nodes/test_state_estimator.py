"""The estimator node: messages of every kind in, observations only while they are valid."""

import contextlib
import math
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState

from mbrl_ros.errors import ConfigError
from mbrl_ros.nodes.conversions import from_time, status_values, to_status, to_time
from mbrl_ros.nodes.state_estimator import StateEstimator

NAN = math.nan
START = 1_763_000_000_000_000_000  # ns
BASE = ["base:=diff_drive", "odometry_topic:=odom", "imu_topic:=imu", "fresh_for:=0.06"]


class Recorder:
    """Stands in for a publisher."""

    def __init__(self):
        self.messages = []

    def publish(self, message):
        self.messages.append(message)


@contextlib.contextmanager
def estimator(*filter_parameters, lockstep=False):
    """A node in a ROS domain of its own, whose observations are kept instead of sent."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    overrides = [word for p in filter_parameters for word in ("-p", f"filter.{p}")]
    arguments = ["--ros-args", "-p", f"lockstep:={str(lockstep).lower()}", *overrides]
    rclpy.init(args=arguments, domain_id=own_domain(__file__))
    node = None
    try:
        node = StateEstimator()
        node.bring_up()
        node.observations = Recorder()
        yield node
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.shutdown()


def joints(stamp_ns, position=(0.5, -0.5), velocity=(0.0, 0.0), names=("cart_slider", "pole_hinge")):
    message = JointState(name=list(names), position=list(position), velocity=list(velocity))
    message.header.stamp = to_time(stamp_ns)
    return message


def odometry(stamp_ns, x, vx):
    message = Odometry()
    message.header.stamp = to_time(stamp_ns)
    message.pose.pose.position.x, message.twist.twist.linear.x = x, vx
    return message


def tick(k):
    return START + 50_000_000 * k


def values(node):
    return status_values(to_status("n", "h", *[node.status()[0], "m", node.status()[1]]))


def test_one_observation_for_each_stamp_and_none_for_what_is_late_or_doubled():
    with estimator("late_window:=0.2") as node:
        for k in (0, 1, 3, 2, 3, 4):
            node.on_joint_states("joint_states", joints(tick(k)))
        stamps = [from_time(m.header.stamp) for m in node.observations.messages]
        assert stamps == [tick(k) for k in (0, 1, 3, 4)]
        assert [m.header.frame_id for m in node.observations.messages] == [""] * 4
        said = values(node)
        assert (said["joint_states late"], said["joint_states dropped"], said["withheld"]) == ("1", "1", "1")
        assert "second measurement" in said["joint_states last_reason"]
        assert said["valid"] == "True" and "position" in said["group_delay_ms"] and float(said["lag_mean_ms"]) > 0


def test_a_gripper_on_the_same_topic_and_at_the_same_stamps_is_passed_over():
    with estimator() as node:
        for k in range(3):
            node.on_joint_states("joint_states", joints(tick(k), (1.0,), (0.0,), ("finger",)))
            node.on_joint_states("joint_states", joints(tick(k)))
        assert len(node.observations.messages) == 3
        assert all(m.header.frame_id == "" for m in node.observations.messages[1:])
        assert values(node)["joint_states last_reason"] == "none of the robot's joints"


def test_any_order_of_names_extra_missing_and_empty():
    with estimator() as node:
        node.on_joint_states(
            "joint_states", joints(tick(0), (9.0, 1.0, 2.0), (), ("extra", "pole_hinge", "cart_slider"))
        )
        assert node.observations.messages == [], "the velocity is not known yet"
        node.on_joint_states("joint_states", joints(tick(1), (1.0, 2.0), (NAN, NAN), ("pole_hinge", "cart_slider")))
        node.on_joint_states("joint_states", joints(tick(2), (2.0,), (0.0,), ("cart_slider",)))
        node.on_joint_states("joint_states", joints(tick(3), (NAN, 1.0)))
        first, missing, nan = node.observations.messages
        assert list(first.name) == ["cart_slider", "pole_hinge"] and first.header.frame_id == ""
        np.testing.assert_allclose(first.position, [2.0, 1.0], atol=0.01)
        assert missing.header.frame_id == "position not measured: joint [1]"
        assert "position not measured: joint [0]" in nan.header.frame_id
        assert all(np.isfinite([*m.position, *m.velocity]).all() for m in (first, missing, nan))


def test_silence_and_ages_are_in_the_diagnostics():
    with estimator() as node:
        assert values(node)["joint_states age_s"] == "inf"
        node.on_joint_states("joint_states", joints(tick(0)))
        assert float(values(node)["joint_states age_s"]) < 60.0
        node.estimator.sources["joint_states"].heard_s -= 100.0
        assert node.status()[0] == b"\x01"
        assert "joint_states silent for 10" in node._doing


def test_a_base_is_appended_by_name():
    with estimator(*BASE, "base_states:='base_x,base_vx'") as node:
        for k in range(5):
            node.on_joint_states("joint_states", joints(tick(k)))
            node.on_odometry(odometry(tick(k) + 10_000_000, 0.05 * k, 1.0))
        last = node.observations.messages[-1]
        assert from_time(last.header.stamp) == tick(4) + 10_000_000
        assert list(last.name) == ["cart_slider", "pole_hinge", "base_x", "base_vx"]
        np.testing.assert_allclose(last.position, [0.5, -0.5, 0.2, 1.0], atol=0.05)
        np.testing.assert_array_equal(last.velocity[2:], 0.0)
        assert last.header.frame_id == ""


def test_a_timer_makes_observations_one_period_apart(monkeypatch):
    with estimator("rate:=100.0") as node:
        just_now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: just_now)  # however slow this machine is
        now = node.get_clock().now().nanoseconds
        for k in range(6):
            node.on_joint_states("joint_states", joints(now + 10_000_000 * k))
        assert node.observations.messages == []
        stamps = iter(now + 50_000_000 + 10_000_000 * k + 300_000 * (-1) ** k for k in range(40))
        node.output_clock.stamp, real = lambda _: real(next(stamps)), node.output_clock.stamp
        for _ in range(40):
            node.on_timer()
        observed = [from_time(m.header.stamp) for m in node.observations.messages]
        assert set(np.diff(observed)) == {10_000_000}
        assert 10 < len(observed) < 20, "max_gap is 0.15 s"
        remarks = [m.header.frame_id for m in node.observations.messages]
        assert remarks[0] == "" and "position not measured" in remarks[-1]
        assert "do the clocks agree?" in node.validity[1], "messages have come just now"


def test_a_timer_has_no_place_in_lockstep():
    with (
        pytest.raises(ConfigError, match=r"filter.rate: 20 Hz is not allowed in lockstep"),
        estimator("rate:=20.0", lockstep=True),
    ):
        pass


NUMBERS = st.one_of(st.floats(), st.sampled_from([NAN, math.inf, 1e308, 0.0, 1.0]))
TIMES = st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 2**32 - 1))
NEAR = st.integers(0, 20).map(lambda k: to_time(tick(k)))
NAMES = st.lists(st.sampled_from(["cart_slider", "pole_hinge", "", "none"]), max_size=5)


def filled(message, numbers):
    """Put numbers into every field of a pose, twist or vector, in turn."""
    numbers = iter(numbers)

    def fill(part):
        for slot, kind in part.get_fields_and_field_types().items():
            if slot in ("header", "child_frame_id"):
                continue
            if kind == "double":
                setattr(part, slot, next(numbers))
            elif kind.startswith("double["):
                setattr(part, slot, [next(numbers) for _ in getattr(part, slot)])
            else:
                fill(getattr(part, slot))

    fill(message)
    return message


@pytest.fixture(scope="module")
def any_node():
    with estimator(*BASE, "pose_topic:=pose", "imu_orientation:=true") as node:
        yield node


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([JointState, Odometry, Imu, PoseStamped]),
    stamp=st.one_of(TIMES, NEAR),
    numbers=st.lists(NUMBERS, min_size=8, max_size=8),
    names=NAMES,
    lengths=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_no_message_makes_it_raise_or_publish_what_is_no_number(any_node, kind, stamp, numbers, names, lengths):
    if kind is JointState:
        message = JointState(name=names, position=numbers[: lengths[0]], velocity=numbers[: lengths[1]])
        callback = lambda m: any_node.on_joint_states("joint_states", m)  # noqa: E731
    else:
        message = filled(kind(), (numbers[i % 8] for i in range(200)))
        callback = {Odometry: any_node.on_odometry, Imu: any_node.on_imu, PoseStamped: any_node.on_pose}[kind]
    message.header.stamp = stamp
    callback(message)
    assert isinstance(any_node.status()[1]["reason"], str)
    for observation in any_node.observations.messages:
        assert np.isfinite([*observation.position, *observation.velocity]).all()
    any_node.observations.messages.clear()
