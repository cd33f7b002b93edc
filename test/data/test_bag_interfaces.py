"""Bags of robots that something else has moved: every command interface, bases with several sensors, both storages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer

from mbrl_ros.data import bag_import
from mbrl_ros.data.bag_commands import CHANGED, RobotCommands
from mbrl_ros.data.bag_export import FORMATS, TYPES, export_bag, joint_state
from mbrl_ros.data.bag_import import import_events
from mbrl_ros.data.bag_reader import JOINT_STATE, BagError, read_events
from mbrl_ros.data.base_odometry import orientation
from mbrl_ros.data.recorded_topics import COMMAND_TYPES
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.rotation import roll_pitch_yaw
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.interfaces import COMMAND_INTERFACES

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "robots" / "examples"
ARM, BASE = (load_robot(str(EXAMPLES / f"{name}.yaml")) for name in ("arm", "base"))
MS = 1_000_000
START = 5_000 * MS  # ns; a stamp of 0 says that a message has none
COMBINATIONS = [(name, message) for name, kind in COMMAND_INTERFACES.items() for message in kind.messages]


def new(kind, **values):
    return TYPES.types[kind](**values)


def header(stamp_ns=0):
    time = new("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return new("std_msgs/msg/Header", stamp=time, frame_id="")


def vector(x=0.0, y=0.0, z=0.0):
    return new("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z))


def twist(u):
    return new("geometry_msgs/msg/Twist", linear=vector(u[0]), angular=vector(z=u[1]))


def command(robot, stamp_ns, u):
    """The message of a command as the robot's driver would get it."""
    kind, none = robot.output_message, np.zeros(0)
    if kind == "Float64MultiArray":
        layout = new("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
        return new("std_msgs/msg/Float64MultiArray", layout=layout, data=np.array(u))
    if kind == "JointState":
        return joint_state(stamp_ns, "", list(robot.actuators), **{robot.command_interface: np.array(u)})
    if kind == "JointTrajectory":
        duration = new("builtin_interfaces/msg/Duration", sec=0, nanosec=50 * MS)
        point = new(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=np.array(u), velocities=none, accelerations=none, effort=none, time_from_start=duration,
        )  # fmt: skip
        names = list(robot.actuators)
        return new("trajectory_msgs/msg/JointTrajectory", header=header(), joint_names=names, points=[point])
    if kind == "Twist":
        return twist(u)
    return new("geometry_msgs/msg/TwistStamped", header=header(stamp_ns), twist=twist(u))


def quaternion(yaw):
    return new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=np.sin(yaw / 2), w=np.cos(yaw / 2))


def odometry(stamp_ns, pose, speed):
    """Of a base at x, y, yaw with a speed forward and a turn rate."""
    small = 1e-4 * np.eye(6).ravel()
    position = new("geometry_msgs/msg/Point", x=pose[0], y=pose[1], z=0.0)
    place = new("geometry_msgs/msg/Pose", position=position, orientation=quaternion(pose[2]))
    return new(
        "nav_msgs/msg/Odometry",
        header=header(stamp_ns), child_frame_id="",
        pose=new("geometry_msgs/msg/PoseWithCovariance", pose=place, covariance=small),
        twist=new("geometry_msgs/msg/TwistWithCovariance", twist=twist(speed), covariance=small),
    )  # fmt: skip


def imu(stamp_ns, turn_rate):
    none = np.zeros(9)
    return new(
        "sensor_msgs/msg/Imu",
        header=header(stamp_ns), orientation=quaternion(0.0),
        orientation_covariance=np.r_[-1.0, none[1:]], angular_velocity=vector(z=turn_rate),
        angular_velocity_covariance=none, linear_acceleration=vector(z=9.81), linear_acceleration_covariance=none,
    )  # fmt: skip


def record(path, kind, messages):
    """A bag of messages (time in ns, topic, type, message)."""
    with Writer(path, version=8, storage_plugin=FORMATS[kind]) as writer:
        connections = {}
        for time, topic, msgtype, message in sorted(messages, key=lambda m: m[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=TYPES)
            writer.write(connections[topic], time, TYPES.serialize_cdr(message, msgtype))
    return path


def load(path, robot, config=None, namespace=""):
    return import_events(read_events(path, robot, config or FilterConfig(), namespace), round(1e9 * robot.dt))


def robot_with(interface, message):
    """A robot of two actuators with this interface and message."""
    if interface == "twist":
        return replace(BASE, command_message=message, command_topic="robot/commands")
    limits = {"effort_limit": (1.0, 1.0), "position_limit": (1.5, 2.4), "start_position": (0.0, 0.6)}
    kind = {"command_interface": interface, "command_message": message, "command_topic": "robot/commands"}
    return replace(ARM, **kind, **limits)


def moving(robot, periods, jitter=0, namespace=""):
    """Messages of a robot that is moved by something that sends a command a period, each a little early or late.

    The arm's joints move evenly and are measured five times a period. The base drives a circle: its odometry comes
    every 20 ms, its gyroscope every 10 ms, with stamps that are never those of the commands.
    """
    dt = round(1e9 * robot.dt)
    rng = np.random.default_rng(0)
    kind, topic = COMMAND_TYPES[robot.output_message], f"{namespace}/{robot.output_topic}"
    for k in range(periods):
        at = START + k * dt + int(rng.integers(-jitter, jitter + 1))
        yield at, topic, kind, command(robot, START + k * dt, [0.1 + 0.01 * k, 0.5 - 0.01 * k])
    end = START + (periods + 1) * dt
    if robot.joints:
        for at in range(START - 5 * dt, end, dt // 5):
            p = np.array([0.2, 0.4]) * 1e-9 * (at - START)
            message = joint_state(at, "", list(robot.joints), position=p, velocity=np.array([0.2, 0.4]))
            yield at, f"{namespace}/joint_states", JOINT_STATE, message
        return
    for at in range(START - 5 * dt + 3 * MS, end, 20 * MS):
        message = odometry(at, pose_at(at), (0.3, 0.4))
        yield at + 5 * MS, f"{namespace}/diff_drive_controller/odom", "nav_msgs/msg/Odometry", message
    for at in range(START - 5 * dt + 1 * MS, end, 10 * MS):
        yield at + 1 * MS, f"{namespace}/imu/data", "sensor_msgs/msg/Imu", imu(at, 0.4)


def pose_at(stamp_ns):
    """Closed form of the circle: 0.3 m/s forward, 0.4 rad/s."""
    t = 1e-9 * (stamp_ns - START)
    return 0.75 * np.sin(0.4 * t), 0.75 * (1 - np.cos(0.4 * t)), 0.4 * t


@pytest.mark.parametrize("storage", FORMATS)
@pytest.mark.parametrize(("interface", "message"), COMBINATIONS)
def test_every_command_interface(tmp_path, interface, message, storage):
    robot = robot_with(interface, message)
    dt = round(1e9 * robot.dt)
    found = load(record(tmp_path / "bag", storage, moving(robot, 12)), robot)
    assert [row.stamp_ns for row in found.rows] == [START + k * dt for k in range(12)]
    assert {row.trajectory for row in found.rows} == {0} and {row.flag for row in found.rows} == {"ok"}
    np.testing.assert_allclose([r.u for r in found.rows], [[0.1 + 0.01 * k, 0.5 - 0.01 * k] for k in range(12)])
    for a, b in zip(found.rows, found.rows[1:], strict=False):
        np.testing.assert_array_equal(a.x_next, b.x)


def test_a_bases_sensors_give_its_state_at_the_commands_stamps(tmp_path):
    found = load(record(tmp_path / "bag", "mcap", moving(BASE, 20)), BASE)
    names = list(BASE.layout.state)
    assert names == ["base_x", "base_y", "base_yaw", "base_vx", "base_wz"] and len(found.rows) == 20
    truth = [[*pose_at(row.stamp_ns), 0.3, 0.4] for row in found.rows]
    np.testing.assert_allclose([row.x for row in found.rows], truth, atol=0.01)


def test_an_arms_joints_are_estimated_at_the_commands_stamps(tmp_path):
    """Commands come 7 ms after the grid of the measurements begins: nothing is measured at their stamps."""
    moved = [(t + 7 * MS * ("commands" in topic), topic, *rest) for t, topic, *rest in moving(ARM, 12)]
    found = load(record(tmp_path / "bag", "mcap", moved), ARM)
    assert [row.stamp_ns for row in found.rows] == [START + 7 * MS + 50 * MS * k for k in range(12)]
    truth = [np.array([0.2, 0.4, 0.0, 0.0]) * 1e-9 * (r.stamp_ns - START) + [0, 0, 0.2, 0.4] for r in found.rows]
    np.testing.assert_allclose([row.x for row in found.rows], truth, atol=2e-3)


def test_jitter_of_the_commands_does_not_break_a_trajectory(tmp_path):
    found = load(record(tmp_path / "bag", "mcap", moving(ARM, 30, jitter=6 * MS)), ARM)
    assert len(found.rows) == 30 and {row.trajectory for row in found.rows} == {0}
    wild = load(record(tmp_path / "wild", "mcap", moving(ARM, 30, jitter=24 * MS)), ARM)
    assert len({row.trajectory for row in wild.rows}) > 1, "what is further off its place begins a grid of its own"


def test_a_command_that_changes_within_its_period_is_left_out(tmp_path):
    messages = list(moving(ARM, 8))
    topic, kind = f"/{ARM.output_topic}", COMMAND_TYPES[ARM.output_message]
    messages.append((START + 3 * 50 * MS + 20 * MS, topic, kind, command(ARM, 0, [1.0, 1.0])))
    messages.append(
        (START + 5 * 50 * MS + 20 * MS, topic, kind, command(ARM, 0, [0.1 + 0.01 * 5, 0.5 - 0.01 * 5]))
    )  # again
    found = load(record(tmp_path / "bag", "mcap", messages), ARM)
    assert [(row.stamp_ns - START) // (50 * MS) for row in found.rows] == [0, 1, 2, 4, 5, 6, 7]
    assert found.left_out[f"command '{CHANGED}'"] == 1


def test_silence_of_the_commands_is_a_gap():
    reader = RobotCommands(ARM)
    given = [
        *reader.read(START, command(ARM, 0, [0.1, 0.2])),
        *reader.read(START + 400 * MS, command(ARM, 0, [0.1, 0.2])),
    ]
    assert [a.stamp_ns for a in given] == [START, START + 400 * MS]
    assert not list(reader.read(START + 410 * MS, command(ARM, 0, [0.1, 0.2]))), "repeats what acts already"


@pytest.mark.parametrize("interface", ["position", "twist"])
def test_garbage_on_the_command_topic_is_no_command(interface):
    robot = robot_with(interface, "Float64MultiArray" if interface == "position" else "Twist")
    bad = command(robot, 0, [0.1, 0.2])
    if interface == "position":
        bad.data = np.zeros(3)
    else:
        bad.linear.y = 1.0
    (given,) = RobotCommands(robot).read(START, bad)
    assert np.isnan(given.u).all()


def test_a_namespace_and_a_rate_of_the_estimator(tmp_path):
    """With an output rate the live estimator's stamps are a timer's; here they are the commands'."""
    path = record(tmp_path / "bag", "mcap", moving(ARM, 10, namespace="/lab"))
    assert len(load(path, ARM, FilterConfig(rate=20.0), "lab").rows) == 10
    with pytest.raises(BagError, match=r"neither '/applied_command' .* nor the robot's .*; it has /lab/"):
        load(path, ARM)


@pytest.mark.parametrize("missing", ["odom", "joint_states"])
def test_without_what_tells_where_the_robot_is_the_topics_are_named(tmp_path, missing):
    robot = BASE if missing == "odom" else ARM
    messages = [m for m in moving(robot, 5) if missing not in m[1]]
    with pytest.raises(BagError, match=f"none of /observation, .*{missing} was recorded as .*; it has /"):
        load(record(tmp_path / "bag", "mcap", messages), robot)


def test_the_sensors_fall_silent(tmp_path):
    """Half a second without odometry: what the estimator only predicts is not learned from."""
    hole = range(START + 1000 * MS, START + 1500 * MS)
    messages = [m for m in moving(BASE, 30) if not ("commands" not in m[1] and "cmd_vel" not in m[1] and m[0] in hole)]
    found = load(record(tmp_path / "bag", "mcap", messages), BASE)
    times = [(row.stamp_ns - START) // (100 * MS) for row in found.rows]
    assert not set(times) & {11, 12, 13, 14} and {5, 20} <= set(times)
    assert any("observation" in reason for reason in found.left_out) and bag_import.GAP not in found.left_out


@pytest.mark.parametrize("storage", FORMATS)
def test_a_base_is_exported_with_odometry_and_comes_back_bit_for_bit(tmp_path, storage):
    """The planar pose against the closed form of the circle; nothing is on the topic that moves the robot."""
    found = load(record(tmp_path / "driven", storage, moving(BASE, 10)), BASE)
    export_bag(found.rows, BASE.layout, BASE.name, tmp_path / "bag", storage)
    with AnyReader([tmp_path / "bag"]) as reader:
        topics = {c.topic: c.msgtype for c in reader.connections}
        odom = [reader.deserialize(d, c.msgtype) for c, _, d in reader.messages() if c.topic == "/odom"]
    assert topics["/odom"] == "nav_msgs/msg/Odometry" and set(topics) == {
        "/trial", "/odom", "/observation", "/applied_command"
    }  # fmt: skip
    assert len(odom) == len(found.rows) + 1
    for message, row in zip(odom, found.rows, strict=False):
        pose, turned = message.pose.pose, message.pose.pose.orientation
        assert (pose.position.x, pose.position.y) == (row.x[0], row.x[1])
        assert 2 * np.arctan2(turned.z, turned.w) == pytest.approx(row.x[2]) and turned.x == turned.y == 0.0
        assert (message.twist.twist.linear.x, message.twist.twist.angular.z) == (row.x[3], row.x[4])
    again = load(tmp_path / "bag", BASE)
    assert [(r.stamp_ns, *(v.tobytes() for v in (r.x, r.u, r.x_next))) for r in again.rows] == [
        (r.stamp_ns, *(v.tobytes() for v in (r.x, r.u, r.x_next))) for r in found.rows
    ]


def test_an_orientation_from_angles_is_that_of_the_estimator():
    for angles in [(0.3, -0.5, 2.0), (-1.0, 0.7, -3.0)]:
        entries = dict(zip(("base_roll", "base_pitch", "base_yaw"), angles, strict=True))
        assert roll_pitch_yaw(orientation(entries)) == pytest.approx(angles)
