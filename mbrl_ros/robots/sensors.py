"""A robot's sensors: their topics, message types and what is used of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation.config import BASES, TOPIC, FilterConfig

MEASURES = {  # message type -> what may be used of it, the default first
    "JointState": ("joints",),
    "Odometry": ("pose and twist", "pose", "twist"),
    "PoseStamped": ("pose",),
    "Imu": ("motion", "motion and orientation"),
}
BASE_STATES = {  # kind of base -> what the estimator tells of it, in its order
    BASES[0]: (),
    "diff_drive": ("base_x", "base_y", "base_yaw", "base_vx", "base_wz"),
    "omni": ("base_x", "base_y", "base_yaw", "base_vx", "base_vy", "base_wz"),
    "six_dof": (
        *("base_x", "base_y", "base_z", "base_roll", "base_pitch", "base_yaw"),
        *("base_vx", "base_vy", "base_vz", "base_wx", "base_wy", "base_wz"),
        *("base_qw", "base_qx", "base_qy", "base_qz"),
    ),
}


@dataclass(frozen=True)
class Sensor:
    """One topic that the robot publishes.

    Attributes:
        topic: its name.
        type: message type, a key of MEASURES.
        measures: what is used of it, one of MEASURES[type].
    """

    topic: str
    type: str
    measures: str = ""

    def __post_init__(self) -> None:
        short = self.type.rsplit("/", 1)[-1]  # sensor_msgs/msg/Imu and Imu are the same
        object.__setattr__(self, "type", short)
        if short not in MEASURES:
            raise ConfigError(f"type: '{self.type}' is not allowed; expected one of: {', '.join(MEASURES)}")
        object.__setattr__(self, "measures", self.measures or MEASURES[short][0])
        if self.measures not in MEASURES[short]:
            raise ConfigError(
                f"measures: '{self.measures}' is not allowed for {short}; expected one of: {', '.join(MEASURES[short])}"
            )
        if not TOPIC.fullmatch(self.topic):
            raise ConfigError(f"topic: '{self.topic}' is not allowed; expected a ROS topic such as joint_states")


def read_sensors(value: Any) -> tuple[Sensor, ...]:
    """Sensors from the list in a YAML.

    Raises:
        ConfigError: not a list of mappings, or an entry that is wrong; names its number.
    """
    known = [f.name for f in fields(Sensor)]
    expected = "a list of mappings, each with topic and type, and measures where you want less than all"
    if not isinstance(value, list):
        raise ConfigError(f"sensors: {value!r} is not allowed; expected {expected}")
    found = []
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict) or not all(isinstance(v, str) for v in (*entry, *entry.values())):
            raise ConfigError(f"sensors: {entry!r} is not allowed; expected {expected}")
        if unknown := [key for key in entry if key not in known]:
            raise ConfigError(f"sensors: entry {number}: unknown key '{unknown[0]}'; known keys: {', '.join(known)}")
        if missing := [key for key in known[:2] if key not in entry]:
            raise ConfigError(f"sensors: entry {number}: missing key '{missing[0]}'")
        try:
            found.append(Sensor(**entry))
        except ConfigError as error:
            raise ConfigError(f"sensors: entry {number}: {error}") from None
    return tuple(found)


def sensor_problems(sensors: Sequence[Sensor], joints: Sequence[str], base: str) -> list[str]:
    """What is wrong with the sensors of a robot with these joints and this base."""
    kinds = [sensor.type for sensor in sensors]
    problems = []
    for kind in ("Odometry", "PoseStamped", "Imu"):
        if kinds.count(kind) > 1:
            problems.append(f"sensors: {kinds.count(kind)} of type {kind}; at most one can be used")
        if kind in kinds and base == "none":
            problems.append(
                f"sensors: {kind} tells of a base, but base is none; expected base: one of {', '.join(BASES[1:])}"
            )
    if joints and "JointState" not in kinds:
        problems.append("sensors: none of type JointState, which tells where the joints are")
    if base != "none" and not {"Odometry", "PoseStamped"} & set(kinds):
        problems.append(f"sensors: base {base} needs one of type Odometry or PoseStamped")
    if base == "six_dof" and "Imu" not in kinds:
        problems.append("sensors: base six_dof needs one of type Imu")
    return problems


def estimator_config(config: FilterConfig, robot: Any) -> FilterConfig:
    """The estimator's settings with the robot's sensors where the parameters say nothing, that is, have their defaults.

    Args:
        config: the parameters ``filter`` of the estimator.
        robot: its `sensors`, `base` and `base_states` are used.
    """
    stated: dict[str, Any] = {"base": robot.base}
    for sensor in robot.sensors:
        if sensor.type == "JointState":
            stated["joint_topics"] = ",".join(filter(None, (stated.get("joint_topics", ""), sensor.topic)))
        elif sensor.type == "Odometry":
            use = {"pose and twist": "both"}.get(sensor.measures, sensor.measures)
            stated |= {"odometry_topic": sensor.topic, "odometry_use": use}
        elif sensor.type == "PoseStamped":
            stated["pose_topic"] = sensor.topic
        else:
            stated |= {"imu_topic": sensor.topic, "imu_orientation": sensor.measures == "motion and orientation"}
    if robot.base != "none":
        stated["base_states"] = ",".join(robot.base_states)
    defaults = {f.name: f.default for f in fields(FilterConfig)}
    return replace(config, **{k: v for k, v in stated.items() if getattr(config, k) == defaults[k]})
