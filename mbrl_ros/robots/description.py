"""A robot in one YAML beside its URDF: joints and their order, limits, rates, noise, task."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.resources import share_directory


@dataclass(frozen=True)
class RobotDescription:
    """What the nodes know of a robot. Tuples over joints follow `joints`, over actuators `actuators`."""

    name: str
    urdf: Path
    task: str
    control_rate: float  # Hz
    joints: tuple[str, ...]
    angles: tuple[str, ...]
    actuators: tuple[str, ...]
    command_interface: str
    effort_limit: tuple[float, ...]  # N or N m
    position_limit: tuple[float, ...]  # m or rad, either way
    start_position: tuple[float, ...]  # m or rad
    position_noise: float  # m or rad
    velocity_noise: float  # m/s or rad/s
    trial_duration: float  # s

    def __post_init__(self) -> None:
        for field, count in (("effort_limit", "actuators"), ("position_limit", "joints"), ("start_position", "joints")):
            if len(getattr(self, field)) != len(getattr(self, count)):
                raise ConfigError(f"{field}: expected one number for each of {count} {list(getattr(self, count))}")
        for field in ("angles", "actuators"):
            for name in getattr(self, field):
                if name not in self.joints:
                    raise ConfigError(f"{field}: '{name}' is not a joint; choose from: {', '.join(self.joints)}")
        if len(set(self.joints)) != len(self.joints) or not self.joints:
            raise ConfigError(f"joints: {list(self.joints)} is not allowed; expected at least one, each only once")
        self._check_numbers()
        if self.command_interface != "effort":
            raise ConfigError(f"command_interface: '{self.command_interface}' is not allowed; expected one of: effort")

    def _check_numbers(self) -> None:
        """Raise ConfigError for a number out of range."""
        for field in ("control_rate", "trial_duration"):
            if not 0 < getattr(self, field) < np.inf:
                raise ConfigError(f"{field}: {getattr(self, field)} must be positive and finite")
        for field in ("position_noise", "velocity_noise"):
            if not 0 <= getattr(self, field) < np.inf:
                raise ConfigError(f"{field}: {getattr(self, field)} must not be negative, and finite")
        if not all(0 < limit < np.inf for limit in self.effort_limit):
            raise ConfigError(f"effort_limit: {list(self.effort_limit)} must be positive and finite")
        if not all(limit > 0 for limit in self.position_limit):
            raise ConfigError(f"position_limit: {list(self.position_limit)} must be positive; .inf where there is none")
        for start, limit in zip(self.start_position, self.position_limit, strict=True):
            if not (abs(start) <= limit and abs(start) < np.inf):
                raise ConfigError(f"start_position: {start} must be finite and within position_limit {limit}")

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
        """State: joint positions, then joint velocities; action: one effort an actuator."""
        positions = [f"{j}/position" for j in self.joints]
        velocities = [f"{j}/velocity" for j in self.joints]
        return StateLayout(
            state=(*positions, *velocities),
            action=tuple(f"{j}/{self.command_interface}" for j in self.actuators),
            angles=tuple(f"{j}/position" for j in self.angles),
            velocity_of=dict(zip(positions, velocities, strict=True)),
            dt=self.dt,
        )

    @property
    def u_max(self) -> np.ndarray:
        """Upper control limits (nu,); the lower ones are their negatives."""
        return np.array(self.effort_limit)


def robot_names() -> list[str]:
    """Names of the robots that come with the package."""
    return sorted(p.stem for p in (share_directory() / "config" / "robots").glob("*.yaml"))


def load_robot(name_or_path: str) -> RobotDescription:
    """Load a robot by name or from a path to its YAML.

    Raises:
        UnknownNameError: no such robot; lists the known ones.
        ConfigError: a key is missing, unknown or has a bad value; names file, key and value.
    """
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = share_directory() / "config" / "robots" / f"{name_or_path}.yaml"
    if not path.is_file():
        raise UnknownNameError("robot", name_or_path, robot_names())
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    return from_mapping(values, path)


def from_mapping(values: Any, path: Path) -> RobotDescription:
    """Build a description from the content of the file at `path`."""
    known = {f.name: f.type for f in fields(RobotDescription)}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping with the keys {', '.join(known)}")
    if unknown := sorted(set(values) - set(known), key=str):
        raise ConfigError(f"{path}: unknown key '{unknown[0]}'; known keys: {', '.join(known)}")
    if missing := sorted(set(known) - set(values)):
        raise ConfigError(f"{path}: missing key '{missing[0]}'")
    try:
        converted = {key: convert(known[key], key, value) for key, value in values.items()}
        return RobotDescription(**converted | {"urdf": path.parent / values["urdf"]})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def convert(kind: Any, key: str, value: Any) -> Any:
    """Check one value's type; numbers become float, lists tuples."""
    if kind in (str, Path) and isinstance(value, str):
        return value
    if kind is float and is_number(value):
        return float(value)
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind == tuple[float, ...] and isinstance(value, list) and all(map(is_number, value)):
        return tuple(float(v) for v in value)
    expected = {str: "a string", Path: "a path", float: "a number", tuple[str, ...]: "a list of names"}
    raise ConfigError(f"{key}: {value!r} is not allowed; expected {expected.get(kind, 'a list of numbers')}")


def is_number(value: Any) -> bool:
    """Whether YAML has read a number; its booleans are Python integers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
