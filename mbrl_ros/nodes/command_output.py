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
from mbrl_ros.nodes.conversions import to_command, to_duration, to_float_array, to_time
from mbrl_ros.robots.command_messages import command_reader
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
    writers: dict[str, tuple[type, Callable[[int, np.ndarray], Any]]] = {
        FLOATS: (Float64MultiArray, lambda _, u: to_float_array(u)),
        JOINT_STATE: (JointState, lambda stamp, u: to_command(stamp, actuators, u, interface=interface)),
        TRAJECTORY: (JointTrajectory, lambda _, u: to_joint_trajectory(actuators, u, robot.dt)),
        TWIST: (Twist, lambda _, u: to_planar_twist(u)),
        TWIST_STAMPED: (TwistStamped, to_twist_stamped),
    }
    kind, write = lookup(writers, "command_message", robot.output_message)
    return CommandOutput(robot.output_topic, kind, write, command_reader(robot))


def to_joint_trajectory(actuators: Sequence[str], position: np.ndarray, dt: float) -> JointTrajectory:
    """Positions (nu,) to be reached one period after the message comes: its stamp of 0 means at once."""
    point = JointTrajectoryPoint(positions=np.asarray(position, float).tolist(), time_from_start=to_duration(dt))
    return JointTrajectory(joint_names=list(actuators), points=[point])


def to_planar_twist(values: np.ndarray) -> Twist:
    """Linear velocity along x in m/s and turn rate about z in rad/s (2,)."""
    twist = Twist()
    twist.linear.x, twist.angular.z = np.asarray(values, float).tolist()
    return twist


def to_twist_stamped(stamp_ns: int, values: np.ndarray) -> TwistStamped:
    """A twist that was sent at `stamp_ns`."""
    message = TwistStamped(twist=to_planar_twist(values))
    message.header.stamp = to_time(stamp_ns)
    return message
