"""Command interfaces of robots: their units, the messages that carry them and the topics those usually have."""

from dataclasses import dataclass

FLOATS, TRAJECTORY, JOINT_STATE = "Float64MultiArray", "JointTrajectory", "JointState"
TWIST_STAMPED, TWIST = "TwistStamped", "Twist"
TWIST_ACTIONS = ("linear_x", "angular_z")


@dataclass(frozen=True)
class CommandInterface:
    """What a robot takes as a command.

    Attributes:
        messages: the message types that can carry it, the usual one first.
        topics: message type -> the topic it usually has.
        limit: field of the robot's YAML that bounds the command.
    """

    messages: tuple[str, ...]
    topics: dict[str, str]
    limit: str


COMMAND_INTERFACES = {
    "effort": CommandInterface(
        (FLOATS, JOINT_STATE), {FLOATS: "effort_controller/commands", JOINT_STATE: "joint_commands"}, "effort_limit"
    ),
    "velocity": CommandInterface(
        (FLOATS, JOINT_STATE), {FLOATS: "velocity_controller/commands", JOINT_STATE: "joint_commands"}, "velocity_limit"
    ),
    "position": CommandInterface(
        (FLOATS, TRAJECTORY, JOINT_STATE),
        {
            FLOATS: "position_controller/commands",
            TRAJECTORY: "joint_trajectory_controller/joint_trajectory",
            JOINT_STATE: "joint_commands",
        },
        "position_limit",
    ),
    "twist": CommandInterface((TWIST_STAMPED, TWIST), {TWIST_STAMPED: "cmd_vel", TWIST: "cmd_vel"}, "twist_limit"),
}
