"""The robot's command topic: what each message type looks like, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.errors import lookup
from mbrl_ros.nodes.conversions import from_command, to_command, to_duration, to_float_array, to_time
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.interfaces import FLOATS, JOINT_STATE, TRAJECTORY, TWIST, TWIST_STAMPED


@dataclass(frozen=True)
class CommandOutput:
    """How commands (nu,) become messages for the robot.

    Attributes:
        topic: of the robot.
        kind: message class.
        write: stamp in ns and commands (nu,) to a message.
        read: the commands of a message; NaN where it has none, another length where it has too few or too many.
    """

    topic: str
    kind: type
    write: Callable[[int, np.ndarray], Any]
    read: Callable[[Any], np.ndarray]


def command_output(robot: RobotDescription) -> CommandOutput:
    """The command topic of a robot, as its YAML wants it.

    Raises:
        UnknownNameError: no such message type; lists the known ones.
    """
    actuators, interface = robot.actuators, robot.command_interface
    writers: dict[str, tuple[type, Callable, Callable]] = {
        FLOATS: (Float64MultiArray, lambda _, u: to_float_array(u), lambda m: np.array(m.data, dtype=float)),
        JOINT_STATE: (
            JointState,
            lambda stamp, u: to_command(stamp, actuators, u, interface=interface),
            lambda m: from_command(m, actuators, interface),
        ),
        TRAJECTORY: (
            JointTrajectory,
            lambda _, u: to_joint_trajectory(actuators, u, robot.dt),
            lambda m: from_joint_trajectory(m, actuators),
        ),
        TWIST: (Twist, lambda _, u: to_planar_twist(u), from_planar_twist),
        TWIST_STAMPED: (TwistStamped, to_twist_stamped, lambda m: from_planar_twist(m.twist)),
    }
    kind, write, read = lookup(writers, "command_message", robot.output_message)
    return CommandOutput(robot.output_topic, kind, write, read)


def to_joint_trajectory(actuators: Sequence[str], position: np.ndarray, dt: float) -> JointTrajectory:
    """Positions (nu,) to be reached one period after the message comes: its stamp of 0 means at once."""
    point = JointTrajectoryPoint(positions=np.asarray(position, float).tolist(), time_from_start=to_duration(dt))
    return JointTrajectory(joint_names=list(actuators), points=[point])


def from_joint_trajectory(message: JointTrajectory, actuators: Sequence[str]) -> np.ndarray:
    """Positions of the first point in the order of `actuators`; NaN where there is none."""
    index = {name: i for i, name in enumerate(message.joint_names)}
    values = message.points[0].positions if message.points else []
    return np.array([values[index[a]] if a in index and index[a] < len(values) else np.nan for a in actuators])


def to_planar_twist(values: np.ndarray) -> Twist:
    """Linear velocity along x in m/s and turn rate about z in rad/s (2,)."""
    twist = Twist()
    twist.linear.x, twist.angular.z = np.asarray(values, float).tolist()
    return twist


def from_planar_twist(twist: Twist) -> np.ndarray:
    """Inverse of `to_planar_twist`; NaN for both where the twist is none of a planar base."""
    others = (twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y)
    return np.array([twist.linear.x, twist.angular.z]) if not any(others) else np.full(2, np.nan)


def to_twist_stamped(stamp_ns: int, values: np.ndarray) -> TwistStamped:
    """A twist that was sent at `stamp_ns`."""
    message = TwistStamped(twist=to_planar_twist(values))
    message.header.stamp = to_time(stamp_ns)
    return message
