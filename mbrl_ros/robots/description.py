"""A robot in one YAML beside its URDF: joints and base, sensors, command interface, limits, rates, delay, task."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.models.equation_registry import EQUATIONS
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description_checks import (
    interface_problems,
    length_problems,
    limit_problems,
    name_problems,
    number_problems,
)
from mbrl_ros.robots.interfaces import COMMAND_INTERFACES, TWIST_ACTIONS
from mbrl_ros.robots.sensors import BASE_STATES, Sensor, sensor_problems
from mbrl_ros.robots.values import Delay, Range, convert

PLANAR_ANGLES = ("base_yaw", "base_roll", "base_pitch")


@dataclass(frozen=True)
class RobotDescription:
    """What the nodes know of a robot.

    Tuples over joints follow `joints`, over actuators `actuators`, over entries `entries`. docs/deploy.md explains
    each key.
    """

    name: str
    task: str
    control_rate: float  # Hz
    command_interface: str  # a key of COMMAND_INTERFACES
    trial_duration: float  # s
    joints: tuple[str, ...] = ()
    actuators: tuple[str, ...] = TWIST_ACTIONS
    urdf: Path | None = None
    angles: tuple[str, ...] = ()
    base: str = "none"
    base_states: tuple[str, ...] = ()
    sensors: tuple[Sensor, ...] = ()
    command_topic: str = ""  # empty: what the interface usually has
    command_message: str = ""  # empty: what the interface usually has
    effort_limit: tuple[float, ...] = ()  # N or N m, over actuators
    velocity_limit: tuple[float, ...] = ()  # m/s or rad/s, over joints
    twist_limit: tuple[float, ...] = ()  # m/s and rad/s, over actuators
    position_limit: tuple[Range, ...] = ()  # m or rad, over entries
    command_rate: tuple[float, ...] = ()  # 1/s of the command's unit, over actuators; .inf where there is none
    start_position: tuple[float, ...] = ()  # m or rad, over joints; empty where it is not known
    position_noise: float = 0.001  # m or rad
    velocity_noise: float = 0.01  # m/s or rad/s
    delay: Delay | None = None  # None: not known
    equation: str = ""  # package.module:object, the equation of motion of `physics`; empty where there is none
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)  # of nodes, for this robot

    def __post_init__(self) -> None:
        if self.base in BASE_STATES and not self.base_states:
            object.__setattr__(self, "base_states", BASE_STATES[self.base])
        self._fill(["position_limit"], self.entries)
        self._fill(["velocity_limit"], self.joints)
        self._fill(["command_rate"], self.actuators)
        if not self.sensors and self.joints:
            object.__setattr__(self, "sensors", (Sensor("joint_states", "JointState"),))
        problems = [*name_problems(self), *length_problems(self)]
        if not problems:
            problems = [*number_problems(self), *limit_problems(self)]
        problems += [*interface_problems(self), *sensor_problems(self.sensors, self.joints, self.base)]
        if problems:
            raise ConfigError("\n".join(problems))

    def _fill(self, names: list[str], over: tuple[str, ...]) -> None:
        """No limit where none is stated; a list over the joints leaves the base's entries without."""
        for name in names:
            given = getattr(self, name)
            if not given or (over is not self.joints and len(given) == len(self.joints) < len(over)):
                object.__setattr__(self, name, given + (np.inf,) * (len(over) - len(given)))

    @property
    def entries(self) -> tuple[str, ...]:
        """Names in an observation: the joints, then what is estimated of the base."""
        return (*self.joints, *self.base_states)

    @property
    def output_message(self) -> str:
        """Message type of the command topic."""
        return self.command_message.rsplit("/", 1)[-1] or COMMAND_INTERFACES[self.command_interface].messages[0]

    @property
    def output_topic(self) -> str:
        """The command topic."""
        return self.command_topic or COMMAND_INTERFACES[self.command_interface].topics[self.output_message]

    @property
    def dt(self) -> float:
        """Control period in s."""
        return 1.0 / self.control_rate

    @property
    def trial_steps(self) -> int:
        """Control periods of one trial."""
        return round(self.trial_duration * self.control_rate)

    @property
    def layout(self) -> StateLayout:
        """State: joint positions, joint velocities, then the base; action: one number an actuator.

        The base's velocities are in its own frame, so they are not the derivatives of its position, which is learned
        itself; a planar base's turn rate is that of its yaw.
        """
        positions = [f"{j}/position" for j in self.joints]
        velocities = [f"{j}/velocity" for j in self.joints]
        twist = self.command_interface == "twist"
        planar = self.base in ("diff_drive", "omni") and {"base_yaw", "base_wz"} <= set(self.base_states)
        return StateLayout(
            state=(*positions, *velocities, *self.base_states),
            action=tuple(a if twist else f"{a}/{self.command_interface}" for a in self.actuators),
            angles=(*(f"{j}/position" for j in self.angles), *(n for n in self.base_states if n in PLANAR_ANGLES)),
            velocity_of=dict(zip(positions, velocities, strict=True)) | ({"base_yaw": "base_wz"} if planar else {}),
            dt=self.dt,
        )

    @property
    def position_low(self) -> np.ndarray:
        """Lower limits of the entries, -inf where there is none."""
        return np.array([limit[0] if isinstance(limit, tuple) else -limit for limit in self.position_limit])

    @property
    def position_high(self) -> np.ndarray:
        """Upper limits of the entries, inf where there is none."""
        return np.array([limit[1] if isinstance(limit, tuple) else limit for limit in self.position_limit])

    @property
    def u_max(self) -> np.ndarray:
        """Upper control limits (nu,)."""
        columns = [self.joints.index(a) for a in self.actuators if a in self.joints]
        if self.command_interface == "position":
            return self.position_high[columns]
        if self.command_interface == "velocity":
            return np.array(self.velocity_limit)[columns]
        return np.array(self.twist_limit if self.command_interface == "twist" else self.effort_limit)

    @property
    def u_min(self) -> np.ndarray:
        """Lower control limits (nu,)."""
        if self.command_interface != "position":
            return -self.u_max
        return self.position_low[[self.joints.index(a) for a in self.actuators]]

    @property
    def initial_state(self) -> np.ndarray:
        """A state (nx,) at rest: in the start position, or in the middle of what is allowed where none is stated."""
        low, high = self.position_low, self.position_high
        middle = np.where(np.isfinite(high - low), 0.5 * (np.nan_to_num(low) + np.nan_to_num(high)), 0.0)
        position = np.array(self.start_position) if self.start_position else middle[: len(self.joints)]
        return np.concatenate([position, np.zeros(len(self.joints) + len(self.base_states))])

    @property
    def sensing_ns(self) -> int:
        """Known sensing delay in ns."""
        return round(1e9 * self.delay.sensing_s) if self.delay else 0

    def delay_ticks(self, lockstep: bool) -> int:
        """Control periods between an observation and the moment from which the command that follows from it acts.

        In real time one more than the delay, as planning may take a whole period.
        """
        total = self.delay.total_s if self.delay else 0.0
        return int(np.ceil(total / self.dt - 1e-9)) + (0 if lockstep else 1)


def robot_names() -> list[str]:
    """Names of the robots that come with the package."""
    return sorted(p.stem for p in (share_directory() / "config" / "robots").glob("*.yaml"))


def load_robot(name_or_path: str) -> RobotDescription:
    """Load a robot by name or from a path to its YAML.

    Raises:
        UnknownNameError: no such robot; lists the known ones.
        ConfigError: a key is missing, unknown or has a bad value; names file, key and value.
    """
    path = robot_path(name_or_path)
    status = path.stat()
    return described(path, status.st_mtime_ns, status.st_size)


def robot_path(name_or_path: str) -> Path:
    """Where a robot's YAML is.

    Raises:
        UnknownNameError: no such robot; lists the known ones.
        ConfigError: no such file.
    """
    path = Path(name_or_path)
    if path.suffix == ".yml":
        raise ConfigError(f"robot: {path} is not allowed; expected a file whose name ends in .yaml")
    if (path.suffix == ".yaml" or path.name != name_or_path) and not path.is_file():
        raise ConfigError(
            f"robot: {path}: no such file; expected the path of a .yaml or one of: {', '.join(robot_names())}"
        )
    if path.suffix != ".yaml":
        path = share_directory() / "config" / "robots" / f"{name_or_path}.yaml"
    if not path.is_file():
        raise UnknownNameError("robot", name_or_path, robot_names())
    return path


@lru_cache(maxsize=8)
def described(path: Path, changed_ns: int, size: int) -> RobotDescription:
    """The robot of a file, read once as long as the file stays as it is: every check of a parameter asks for it.

    Raises:
        ConfigError: see `load_robot`.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    return from_mapping(values, path)


def from_mapping(values: Any, path: Path) -> RobotDescription:
    """Build a description from the content of the file at `path`; all problems of the values in one ConfigError."""
    known = {f.name: f for f in fields(RobotDescription)}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping with the keys {', '.join(known)}")
    problems = [
        f"unknown key '{key}'; known keys: {', '.join(known)}" for key in sorted(set(values) - set(known), key=str)
    ]
    problems += [f"missing key '{key}'" for key in missing_keys(values)]
    if values.get("start_position") == [] and values.get("joints"):
        problems.append(f"start_position: expected one number for each of joints {values['joints']}, or leave it out")
    converted = {}
    for key in [key for key in known if key in values]:
        try:
            converted[key] = convert(known[key].type, key, values[key], values)
        except ConfigError as error:
            problems.append(str(error))
    if not problems:
        try:
            if address := converted.get("equation"):
                EQUATIONS.setdefault(address, address)  # the robot's owner says so; it is imported when it is used
            return RobotDescription(**converted | ({"urdf": path.parent / values["urdf"]} if "urdf" in values else {}))
        except ConfigError as error:
            problems = str(error).splitlines()
    raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))


def missing_keys(values: Mapping[str, Any]) -> list[str]:
    """Keys that this robot needs and that are not there."""
    needed = {f.name for f in fields(RobotDescription) if f.default is MISSING and f.default_factory is MISSING}
    interface = COMMAND_INTERFACES.get(str(values.get("command_interface")))
    needed |= {interface.limit} if interface else set()
    if values.get("command_interface") != "twist":
        needed |= {"joints", "actuators"}
    return sorted(needed - set(values))
