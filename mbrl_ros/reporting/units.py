"""Units of the entries of states and actions."""

from pathlib import Path
from xml.etree import ElementTree

from mbrl_ros.robots.description import RobotDescription

BASE_UNITS = {
    **dict.fromkeys(("x", "y", "z"), "m"),
    **dict.fromkeys(("roll", "pitch", "yaw"), "rad"),
    **dict.fromkeys(("vx", "vy", "vz", "linear_x"), "m/s"),
    **dict.fromkeys(("wx", "wy", "wz", "angular_z"), "rad/s"),
}


def unit_of(robot: RobotDescription, name: str) -> str:
    """Unit of a state or action entry such as ``pole_hinge/velocity``."""
    joint, _, quantity = name.rpartition("/")
    if not joint:  # of a base, or a twist
        return BASE_UNITS.get(name.removeprefix("base_"), "")
    units = {"position": ("m", "rad"), "velocity": ("m/s", "rad/s"), "effort": ("N", "N m")}
    turning = set(robot.angles) | (revolute_joints(robot.urdf) if robot.urdf else set())
    return units[quantity][joint in turning]


def with_unit(robot: RobotDescription, name: str) -> str:
    """The entry with its unit in parentheses."""
    unit = unit_of(robot, name)
    return f"{name} ({unit})" if unit else name


def revolute_joints(urdf: Path) -> set[str]:
    """Names of the joints that turn; none where the URDF cannot be read."""
    try:
        joints = ElementTree.parse(urdf).iter("joint")
    except (OSError, ElementTree.ParseError):
        return set()
    return {joint.get("name", "") for joint in joints if joint.get("type") in ("revolute", "continuous")}
