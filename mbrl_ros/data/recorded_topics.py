"""What a recording of a run holds: everything that estimator, learner and planner have heard and said.

The robot's own command topic is not among it: playing a bag must not move a robot. `applied_command` says the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.interfaces import FLOATS, JOINT_STATE, TRAJECTORY, TWIST, TWIST_STAMPED
from mbrl_ros.robots.sensors import estimator_config

ESTIMATOR = "state_estimator"
JOINTS, STATUS, MODEL = (
    "sensor_msgs/msg/JointState",
    "diagnostic_msgs/msg/DiagnosticStatus",
    "std_msgs/msg/UInt8MultiArray",
)
OBSERVATION, COMMAND, APPLIED, TRIAL = "observation", "command", "applied_command", "trial"
LAST_TRIAL = 999_999
PLAN, DESCRIPTION, EVENTS = "plan", "robot_description", "/parameter_events"
TICKS, JUDGED, SCORED = "mpc_controller/telemetry", "model_learner/telemetry", "trial_manager/telemetry"
DESCRIPTION_TYPE, EVENT_TYPE = "std_msgs/msg/String", "rcl_interfaces/msg/ParameterEvent"
LINKS = {  # between nodes of the graph: transient local in lockstep, so that nothing is lost
    OBSERVATION: JOINTS,
    COMMAND: JOINTS,
    APPLIED: JOINTS,
    TICKS: JOINTS,
    JUDGED: JOINTS,
}
LATCHED = {
    TRIAL: STATUS,
    DESCRIPTION: DESCRIPTION_TYPE,
    "mpc_controller/model_version": "std_msgs/msg/UInt64",
    "mpc_controller/goal": JOINTS,
}
PLAIN = {
    PLAN: "trajectory_msgs/msg/JointTrajectory",
    "mpc_controller/plan_uncertainty": "std_msgs/msg/Float64MultiArray",
    SCORED: JOINTS,
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    EVENTS: EVENT_TYPE,
}
COMMAND_TYPES = {  # of robots' own command topics, which the bags of others have
    FLOATS: "std_msgs/msg/Float64MultiArray",
    JOINT_STATE: JOINTS,
    TRAJECTORY: "trajectory_msgs/msg/JointTrajectory",
    TWIST: "geometry_msgs/msg/Twist",
    TWIST_STAMPED: "geometry_msgs/msg/TwistStamped",
}


@dataclass(frozen=True)
class RecordedTopic:
    """A topic and how it is subscribed to.

    Attributes:
        name: full name, with the namespace.
        type: such as ``sensor_msgs/msg/JointState``.
        reliable: whether every message is asked for; sensors may be published as best effort.
        latched: whether what was sent before the recording began is asked for, too (transient local).
    """

    name: str
    type: str
    reliable: bool = True
    latched: bool = False


def recorded_topics(
    robot: RobotDescription, config: FilterConfig, model_topic: str, namespace: str, lockstep: bool
) -> list[RecordedTopic]:
    """Everything that is needed to replay a run of this robot, each topic once.

    Args:
        robot: its sensors are used.
        config: the estimator's parameters ``filter``.
        model_topic: where models come from.
        namespace: of the graph.
        lockstep: in which nothing is lost.
    """
    found = [
        RecordedTopic(name, kind, reliable=lockstep, latched=lockstep)
        for name, kind in sensor_topics(robot, config).items()
    ]
    found += [RecordedTopic(name, kind, latched=lockstep) for name, kind in LINKS.items()]
    found += [RecordedTopic(name, kind, latched=True) for name, kind in (LATCHED | {model_topic: MODEL}).items()]
    found += [RecordedTopic(name, kind) for name, kind in PLAIN.items()]
    named = {full_name(t.name, namespace): t for t in reversed(found)}
    return [RecordedTopic(name, t.type, t.reliable, t.latched) for name, t in reversed(named.items())]


def sensor_topics(robot: RobotDescription, config: FilterConfig) -> dict[str, str]:
    """Topics that the estimator listens to, by name as configured, with their types."""
    cfg = estimator_config(config, robot)
    joints = dict.fromkeys(cfg.joints_sources if robot.joints else (), JOINTS)
    return joints | {topic: kind for topic, kind in base_topics(cfg) if topic}


def base_topics(cfg: Any) -> Iterator[tuple[str, str]]:
    """Topics of a base, empty where there is none."""
    yield cfg.odometry_topic, "nav_msgs/msg/Odometry"
    yield cfg.pose_topic, "geometry_msgs/msg/PoseStamped"
    yield cfg.imu_topic, "sensor_msgs/msg/Imu"


def full_name(name: str, namespace: str) -> str:
    """Name of a topic of the graph as ROS resolves it; ``~/`` is only used for sensors, so by the estimator."""
    if name.startswith("/"):
        return name
    words = [namespace.strip("/"), ESTIMATOR if name.startswith("~/") else "", name.removeprefix("~/")]
    return "/" + "/".join(filter(None, words))


def trial_index(text: str) -> int | None:
    """Index of a trial from its text; None where it is no whole number in [0, LAST_TRIAL]."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(LAST_TRIAL)) else None
