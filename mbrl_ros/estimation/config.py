"""Parameters of the state estimator: the group ``filter`` of the node."""

import re
from dataclasses import dataclass

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError

BASES = ("none", "diff_drive", "omni", "six_dof")
ODOMETRY_USES = ("both", "pose", "twist")
TOPIC = re.compile(r"[/~]?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*|~/[A-Za-z_][A-Za-z0-9_/]*")


@dataclass(frozen=True)
class FilterConfig:
    """Settings of the filters and their sources; 'm' stands for rad where a joint turns."""

    acceleration_density: float = option(
        300.0, "spectral density of the acceleration the filter allows for", unit="m^2/s^3", low=1e-9, high=1e9
    )
    gate: float = option(0.9999, "share of honest measurements that pass the outlier gate", low=0.5, high=1 - 1e-12)
    rejections_to_restart: int = option(
        3, "outliers, or too old stamps, in a row after which they are believed", low=1, high=1000
    )
    max_gap: float = option(
        0.15, "longest time bridged without a measurement; after it a joint starts afresh", unit="s", low=0.0, high=10.0
    )
    initial_velocity_std: float = option(
        10.0, "spread of a velocity of which nothing is known", unit="m/s", low=1e-6, high=1e6
    )
    rate: float = option(0.0, "observations a second; 0: one for each new measurement", unit="Hz", low=0.0, high=1000.0)
    fresh_for: float = option(
        0.0,
        "age up to which a measurement counts as fresh; older ones make the observation a bridged one, from which "
        "nothing is learned; 0: 1.5 / rate, or with rate 0 the observation's own stamp only",
        unit="s",
        low=0.0,
        high=10.0,
    )
    late_window: float = option(
        0.1, "how much older than the newest measurement one may be and still be used", unit="s", low=0.0, high=10.0
    )
    joint_topics: str = option("joint_states", "JointState topics, with commas between them")
    base: str = option("none", "moving base: none, a planar one, or one with six degrees of freedom", choices=BASES)
    base_states: str = option(
        "", "base entries that follow the joints in the observation, with commas between them; empty: all of them"
    )
    odometry_topic: str = option("", "Odometry of the base; empty: none")
    pose_topic: str = option("", "PoseStamped of the base; empty: none")
    imu_topic: str = option("", "Imu of the base; empty: none")
    odometry_use: str = option("both", "what is used of an Odometry message", choices=ODOMETRY_USES)
    imu_orientation: bool = option(False, "use the orientation in Imu messages, which must be in the pose's frame")
    base_acceleration_density: float = option(
        1.0, "planar base: spectral density of its acceleration", unit="m^2/s^3", low=1e-9, high=1e9
    )
    base_turn_density: float = option(
        1.0, "planar base: spectral density of its angular acceleration", unit="rad^2/s^3", low=1e-9, high=1e9
    )
    base_max_gap: float = option(
        0.5, "longest time the base is bridged without pose and twist", unit="s", low=0.0, high=10.0
    )
    base_max_std: float = option(
        1.0, "spread of a measured base position above which it is not valid", unit="m", low=1e-6, high=1e6
    )
    position_std: float = option(
        0.05, "noise of base positions, where a message has no covariance", unit="m", low=1e-6, high=1e3
    )
    orientation_std: float = option(
        0.05, "noise of base orientations, where a message has no covariance", unit="rad", low=1e-6, high=10.0
    )
    twist_std: float = option(
        0.05, "noise of linear base velocities, where a message has no covariance", unit="m/s", low=1e-6, high=1e3
    )
    turn_std: float = option(
        0.02, "noise of turn rates, where a message has no covariance", unit="rad/s", low=1e-6, high=1e3
    )
    gyro_density: float = option(
        1e-6, "six_dof: spectral density of the gyroscope's noise", unit="rad^2/s", low=1e-15, high=1e3
    )
    accelerometer_density: float = option(
        1e-4, "six_dof: spectral density of the accelerometer's noise", unit="m^2/s^3", low=1e-15, high=1e3
    )
    gyro_bias_density: float = option(
        1e-9, "six_dof: spectral density of the gyroscope bias's drift", unit="rad^2/s^3", low=1e-18, high=1.0
    )
    accelerometer_bias_density: float = option(
        1e-6, "six_dof: spectral density of the accelerometer bias's drift", unit="m^2/s^5", low=1e-18, high=1.0
    )
    gyro_bias_std: float = option(0.05, "six_dof: spread of the gyroscope's bias", unit="rad/s", low=0.0, high=10.0)
    accelerometer_bias_std: float = option(
        0.2, "six_dof: spread of the accelerometer's bias", unit="m/s^2", low=0.0, high=10.0
    )

    def __post_init__(self) -> None:
        validate(self)
        for field in ("joint_topics", "odometry_topic", "pose_topic", "imu_topic"):
            for topic in names_in(getattr(self, field)):
                if not TOPIC.fullmatch(topic):
                    raise ConfigError(f"{field}: '{topic}' is not allowed; expected a ROS topic such as joint_states")
        topics = self.joints_sources
        if not topics or len(set(topics)) != len(topics) or set(topics) & set(self.base_sources):
            raise ConfigError(f"joint_topics: '{self.joint_topics}' is not allowed; expected topics, each only once")
        self._check_base()

    def _check_base(self) -> None:
        """Raise ConfigError for a base without what it needs, or for sources without a base."""
        given = [f for f in ("odometry_topic", "pose_topic", "imu_topic") if getattr(self, f)]
        if self.base == "none" and given:
            raise ConfigError(f"base: 'none' is not allowed with {given[0]}; expected one of: {', '.join(BASES[1:])}")
        if self.base != "none" and not (self.odometry_topic or self.pose_topic):
            raise ConfigError(f"base: '{self.base}' needs odometry_topic or pose_topic")
        if self.base == "six_dof" and not self.imu_topic:
            raise ConfigError("base: 'six_dof' needs imu_topic")

    @property
    def joints_sources(self) -> list[str]:
        """The JointState topics."""
        return names_in(self.joint_topics)

    @property
    def base_sources(self) -> list[str]:
        """What comes from the base's topics, see `base.SOURCES`."""
        odometry = [use for use in ("pose", "twist") if self.odometry_topic and self.odometry_use in ("both", use)]
        imu = ["imu", "imu_orientation"] if self.imu_orientation else ["imu"]
        return [f"odometry_{use}" for use in odometry] + ["pose"] * bool(self.pose_topic) + imu * bool(self.imu_topic)

    @property
    def freshness(self) -> float:
        """Age in s up to which a measurement counts as fresh."""
        return self.fresh_for or (1.5 / self.rate if self.rate else 0.0)

    @property
    def measures_pose(self) -> bool:
        """Whether some source says where the base is; else it starts at the origin and is reckoned from there."""
        return bool(self.pose_topic) or (bool(self.odometry_topic) and self.odometry_use != "twist")


def names_in(text: str) -> list[str]:
    """Names in a text with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]
