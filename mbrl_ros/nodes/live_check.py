"""Listens to a running robot and says what does not fit its description. Nothing moves."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Imu, JointState

from mbrl_ros.estimation.base_messages import from_imu, from_odometry, from_pose
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import from_joint_state, from_time, to_command
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, RELIABLE
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.findings import FIX, OK, WARN, Finding, judged
from mbrl_ros.robots.sensors import Sensor

KINDS: dict[str, Any] = {"JointState": JointState, "Odometry": Odometry, "PoseStamped": PoseStamped, "Imu": Imu}
CLOCK_PERIODS = 3.0  # control periods that a stamp may be off; the guard's default, too
DISCOVERY = 6.0  # s until the topics of a robot are known, at most
ECHO_TIMEOUT = 1.0  # s


@dataclass
class Heard:
    """What came from one sensor."""

    sensor: Sensor
    messages: list[Any] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)

    def note(self, message: Any) -> None:
        """Keep a message and how old its stamp was when it came."""
        self.messages.append(message)
        self.ages_s.append(time.time() - 1e-9 * from_time(message.header.stamp))

    def forget(self) -> None:
        """Begin anew."""
        self.messages.clear()
        self.ages_s.clear()

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.sensor.topic} ({self.sensor.type})"


def listen_to_robot(robot: RobotDescription, namespace: str, seconds: float) -> list[Finding]:
    """Rows on the sensors' topics, the joints, the clocks, the command topic and the guard."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node("live_check", namespace=namespace, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        heard = [Heard(sensor) for sensor in robot.sensors]
        for one in heard:
            node.create_subscription(KINDS[one.sensor.type], one.sensor.topic, one.note, BEST_EFFORT)
        topics = [sensor.topic for sensor in robot.sensors]
        spin(executor, DISCOVERY, lambda: all(map(node.count_publishers, topics)) and heard_all(heard))
        for one in heard:
            one.forget()
        spin(executor, seconds)
        rows = [row for one in heard for row in sensor_findings(robot, node, one, seconds)]
        return [*rows, *command_findings(robot, node), echo_finding(robot, node, executor)]
    finally:
        node.destroy_node()
        context.try_shutdown()


def heard_all(heard: list[Heard]) -> bool:
    """Whether every sensor has spoken."""
    return all(one.messages for one in heard)


def spin(executor: SingleThreadedExecutor, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
    """Serve callbacks for a while, or until `done()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not done():
        executor.spin_once(timeout_sec=0.02)


def sensor_findings(robot: RobotDescription, node: Node, heard: Heard, seconds: float) -> list[Finding]:
    """Whether a sensor is there, of the right type, fast enough, with good stamps and numbers."""
    infos = node.get_publishers_info_by_topic(heard.sensor.topic)
    kinds = sorted({info.topic_type for info in infos})
    if not infos:
        return [
            Finding(heard.name, FIX, "nobody publishes it; is the driver running, in this ROS domain and namespace?")
        ]
    if wrong := [kind for kind in kinds if kind.rsplit("/", 1)[-1] != heard.sensor.type]:
        return [Finding(heard.name, FIX, f"its type is {', '.join(wrong)}")]
    if len(heard.messages) < 2:
        return [Finding(heard.name, FIX, f"{len(heard.messages)} messages in {seconds:g} s")]
    rows = [rate_finding(robot, heard), clock_finding(robot, heard)]
    if heard.sensor.type == "JointState":
        rows += joint_findings(robot, heard)
    else:
        rows.append(base_finding(heard))
    return rows


def rate_finding(robot: RobotDescription, heard: Heard) -> Finding:
    """Messages a second, by their stamps."""
    stamps = np.array([1e-9 * from_time(message.header.stamp) for message in heard.messages])
    steps = np.diff(stamps)
    what = f"{heard.name} rate"
    if not np.all(steps > 0):
        return Finding(what, FIX, f"{np.sum(steps <= 0)} of {len(steps)} stamps are not newer than the one before")
    rate = 1.0 / float(np.median(steps))
    slow = rate < 0.9 * robot.control_rate
    text = f"{rate:.1f} Hz, longest gap {1e3 * steps.max():.0f} ms"
    return (
        Finding(what, FIX, f"{text}; below the control rate {robot.control_rate:g} Hz")
        if slow
        else Finding(what, OK, text)
    )


def clock_finding(robot: RobotDescription, heard: Heard) -> Finding:
    """How old the stamps are on arrival: the clocks' difference and the sensing delay together."""
    age = float(np.median(heard.ages_s))
    text = f"stamps are {1e3 * age:.1f} ms old on arrival"
    known = robot.delay.sensing_s if robot.delay else 0.0
    if abs(age - known) > CLOCK_PERIODS * robot.dt or age < -0.5 * robot.dt:
        return Finding(f"{heard.name} clock", FIX, f"{text}; do the clocks agree, and does the driver set stamps?")
    return Finding(f"{heard.name} clock", OK, text)


def joint_findings(robot: RobotDescription, heard: Heard) -> list[Finding]:
    """Names, numbers and limits of a JointState."""
    names = {name for message in heard.messages for name in message.name}
    others = any(s.type == "JointState" and s != heard.sensor for s in robot.sensors)
    missing = [j for j in robot.joints if j not in names]
    verdict = FIX if not others or len(missing) == len(robot.joints) else WARN
    problems = [f"no {', '.join(missing)}; it has: {', '.join(sorted(names)) or 'none'}"] if missing else []
    rows = [judged(f"{heard.name} joints", problems, f"{len(robot.joints)} of {len(names)}", verdict)]
    pairs = [from_joint_state(message, robot.joints) for message in heard.messages]
    position, velocity = (np.array(values) for values in zip(*pairs, strict=True))
    there = [i for i, j in enumerate(robot.joints) if j in names]
    bad = int(np.sum(~np.isfinite(position[:, there]).all(axis=1)))
    rows.append(
        judged(f"{heard.name} positions", [f"{bad} of {len(pairs)} messages have NaN"] if bad else [], "finite")
    )
    measured = np.isfinite(velocity[:, there]).all()
    said = "measured" if measured else "not in every message; they are derived from positions"
    rows.append(Finding(f"{heard.name} velocities", OK if measured else WARN, said))
    return [*rows, range_finding(robot, heard, position)]


def range_finding(robot: RobotDescription, heard: Heard, position: np.ndarray) -> Finding:
    """Whether the robot is within the limits of its YAML: positions (T, n)."""
    beyond = []
    for i, joint in enumerate(robot.joints):
        seen = position[np.isfinite(position[:, i]), i]
        if len(seen) and (seen.min() < robot.position_low[i] or seen.max() > robot.position_high[i]):
            low, high = robot.position_low[i], robot.position_high[i]
            beyond.append(f"{joint} at {seen[-1]:.4g}, position_limit is {low:g} to {high:g}")
    return judged(f"{heard.name} range", beyond, "within position_limit")


def base_finding(heard: Heard) -> Finding:
    """Whether what is used of a base's sensor is a number."""
    bad = 0
    for message in heard.messages:
        if heard.sensor.type == "Odometry":
            pose, twist = from_odometry(message)
            uses = heard.sensor.measures
            used = [pose[0]] * ("pose" in uses) + [twist[0]] * ("twist" in uses)
        else:
            used = [from_pose(message.pose) if heard.sensor.type == "PoseStamped" else from_imu(message)[0]]
        bad += not all(np.isfinite(values).all() for values in used)
    problems = [f"{bad} of {len(heard.messages)} messages have NaN or infinity"] if bad else []
    return judged(f"{heard.name} numbers", problems, "finite")


def command_findings(robot: RobotDescription, node: Node) -> list[Finding]:
    """Who listens to the command topic, and who else speaks there."""
    output = command_output(robot)
    what = f"{output.topic} ({robot.output_message})"
    listeners = node.get_subscriptions_info_by_topic(output.topic)
    if not listeners:
        return [Finding(what, FIX, "nobody listens; is the controller active, and is command_topic right?")]
    wrong = sorted({i.topic_type for i in listeners if i.topic_type.rsplit("/", 1)[-1] != robot.output_message})
    rows = [judged(what, [f"its type is {', '.join(wrong)}"] if wrong else [], f"{len(listeners)} listening")]
    speakers = [i.node_name for i in node.get_publishers_info_by_topic(output.topic)]
    others = [name for name in speakers if name != "command_guard"]
    if others:
        rows.append(Finding("other senders", WARN, f"{', '.join(others)} can send commands, too"))
    return rows


def echo_finding(robot: RobotDescription, node: Node, executor: SingleThreadedExecutor) -> Finding:
    """Send a command of zero to a guard that is up and disarmed, which answers without moving anything.

    Sent only where `applied_command` shows no armed guard at work. Zero is no rest for a position: there it is NaN,
    which no guard passes on in any state.
    """
    what = "command echo"
    if not node.count_subscribers("command"):
        return Finding(what, OK, "left out: no command guard is running")
    if node.count_publishers("command"):
        return Finding(what, OK, "left out: a controller is running")
    answers: list[JointState] = []
    node.create_subscription(JointState, "applied_command", answers.append, RELIABLE)
    sender = node.create_publisher(JointState, "command", RELIABLE)
    spin(executor, ECHO_TIMEOUT)
    if any(message.header.frame_id != "disarmed" for message in answers):
        return Finding(what, OK, "left out: the guard is armed or stopped")
    zero = np.full(len(robot.actuators), np.nan if robot.command_interface == "position" else 0.0)
    stamp = time.time_ns()
    sender.publish(to_command(stamp, robot.actuators, zero, "", robot.command_interface))
    spin(executor, ECHO_TIMEOUT)
    if not answers:
        return Finding(what, FIX, f"the guard does not answer on applied_command within {ECHO_TIMEOUT:g} s")
    return Finding(what, OK, f"the guard answers: {answers[-1].header.frame_id}")
