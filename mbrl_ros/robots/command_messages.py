"""What a robot's command message says, as an array. No ROS: messages of rclpy and of a bag have the same fields."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mbrl_ros.errors import lookup
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.interfaces import FLOATS, JOINT_STATE, TRAJECTORY, TWIST, TWIST_STAMPED

COMMAND_FIELDS = {"effort": "effort", "position": "position", "velocity": "velocity", "twist": "velocity"}


def picked(names: Sequence[str], values: Sequence[float], wanted: Sequence[str]) -> np.ndarray:
    """Values in the order of `wanted`, NaN where the message has none."""
    index = {name: i for i, name in enumerate(names)}
    return np.array([values[index[n]] if n in index and index[n] < len(values) else np.nan for n in wanted], float)


def from_joint_trajectory(message: Any, actuators: Sequence[str]) -> np.ndarray:
    """Positions of the first point in the order of `actuators`; NaN where there is none."""
    return picked(message.joint_names, message.points[0].positions if message.points else (), actuators)


def from_planar_twist(twist: Any) -> np.ndarray:
    """Linear velocity along x and turn rate about z (2,); NaN for both where the twist is none of a planar base."""
    others = (twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y)
    return np.array([twist.linear.x, twist.angular.z]) if not any(others) else np.full(2, np.nan)


def command_reader(robot: RobotDescription) -> Callable[[Any], np.ndarray]:
    """What reads the commands (nu,) of a message on the robot's command topic.

    NaN where the message has none, another length where it has too few or too many.

    Raises:
        UnknownNameError: no such message type; lists the known ones.
    """
    field = COMMAND_FIELDS[robot.command_interface]
    readers: dict[str, Callable[[Any], np.ndarray]] = {
        FLOATS: lambda m: np.array(m.data, dtype=float),
        JOINT_STATE: lambda m: picked(m.name, getattr(m, field), robot.actuators),
        TRAJECTORY: lambda m: from_joint_trajectory(m, robot.actuators),
        TWIST: from_planar_twist,
        TWIST_STAMPED: lambda m: from_planar_twist(m.twist),
    }
    return lookup(readers, "command_message", robot.output_message)
