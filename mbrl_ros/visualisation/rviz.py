"""The rviz configuration of a robot: its own, or else the cart-pole's in the robot's frame."""

from pathlib import Path

from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.kinematics import Kinematics

MODEL = "cartpole"  # whose configuration serves robots that have none
FIXED_FRAME = "    Fixed Frame: {}\n"


def rviz_file(robot: RobotDescription, folder: Path) -> Path:
    """File for ``rviz2 -d``; where it must be made for the robot, it is written into `folder`.

    Raises:
        ConfigError: the robot cannot be drawn.
    """
    ready = share_directory() / "config" / "rviz"
    own = ready / f"{robot.name}.rviz"
    if own.is_file():
        return own
    text = (ready / f"{MODEL}.rviz").read_text()
    frame = Kinematics(robot).frame
    made = folder / f"{robot.name}.rviz"
    made.write_text(text.replace(FIXED_FRAME.format("world"), FIXED_FRAME.format(frame)))
    return made
