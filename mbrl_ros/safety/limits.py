"""What a robot may be told and where it may be: from its YAML and URDF, less the margins."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.safety.guard_config import LimitConfig

INTERFACES = ("effort", "velocity", "position", "twist")


@dataclass(frozen=True)
class Limits:
    """Limits of the observed state (n joints) and of the command (nu actuators).

    Attributes:
        interface: one of INTERFACES.
        joints: names of the joints, in the order of an observation; the base's entries follow them.
        actuators: names of those that take a command.
        position_low: (n,) m or rad, -inf where there is none.
        position_high: (n,) m or rad, inf where there is none.
        velocity: (n,) m/s or rad/s either way, inf where there is none.
        command_low: (nu,) in the interface's unit.
        command_high: (nu,) in the interface's unit.
        command_rate: (nu,) largest change of the command per s, inf where there is none.
        command_jerk: (nu,) largest change of its rate per s, inf where there is none.
    """

    interface: str
    joints: tuple[str, ...]
    actuators: tuple[str, ...]
    position_low: np.ndarray
    position_high: np.ndarray
    velocity: np.ndarray
    command_low: np.ndarray
    command_high: np.ndarray
    command_rate: np.ndarray
    command_jerk: np.ndarray

    def __post_init__(self) -> None:
        if self.interface not in INTERFACES:
            raise ConfigError(
                f"command_interface: '{self.interface}' is not allowed; expected one of: {', '.join(INTERFACES)}"
            )
        for field, names in (("position_low", self.joints), ("position_high", self.joints), ("velocity", self.joints)):
            self._check(field, names, positive=field == "velocity")
        for field in ("command_low", "command_high", "command_rate", "command_jerk"):
            self._check(field, self.actuators, positive=field in ("command_rate", "command_jerk"))
        for kind in ("position", "command"):
            low, high = getattr(self, f"{kind}_low"), getattr(self, f"{kind}_high")
            if not np.all(low < high):
                raise ConfigError(
                    f"{kind} limits: {low.tolist()} to {high.tolist()} leave no room; expected low < high after margins"
                )
        if self.interface != "position" and not np.all((self.command_low <= 0) & (self.command_high >= 0)):
            raise ConfigError(f"{self.interface} limits: 0 must be allowed, it is the safe action")
        twist = self.interface == "twist"  # of the base, not of joints
        if not twist and (unknown := [name for name in self.actuators if name not in self.joints]):
            raise ConfigError(f"actuators: '{unknown[0]}' is not a joint; choose from: {', '.join(self.joints)}")

    def _check(self, field: str, names: Sequence[str], positive: bool) -> None:
        """One number a name, none of them NaN."""
        value = np.asarray(getattr(self, field), dtype=float)
        if value.shape != (len(names),) or np.isnan(value).any() or (positive and not np.all(value > 0)):
            expected = "positive number" if positive else "number"
            raise ConfigError(
                f"{field}: {value.tolist()} is not allowed; expected one {expected} for each of {[*names]}"
            )
        object.__setattr__(self, field, value)

    @property
    def columns(self) -> np.ndarray:
        """(nu,) places of the actuators among the joints; none for a twist."""
        if self.interface == "twist":
            return np.zeros(0, dtype=int)
        return np.array([self.joints.index(name) for name in self.actuators], dtype=int)

    def beyond(self, position: np.ndarray, velocity: np.ndarray) -> str:
        """Every limit that positions (n,) and velocities (n,) are beyond, in words; empty where none."""
        found, low, high = [], self.position_low, self.position_high
        for i in np.flatnonzero((position < low) | (position > high)):
            found.append(f"{self.joints[i]} at {position[i]:.4g}, beyond {low[i]:.4g} to {high[i]:.4g}")
        for i in np.flatnonzero(np.abs(velocity) > self.velocity):
            found.append(f"{self.joints[i]} moves at {velocity[i]:.4g}, faster than {self.velocity[i]:.4g}")
        return "; ".join(found)


def limits_of(robot: RobotDescription, config: LimitConfig) -> Limits:
    """Limits of a robot: the narrower of YAML and URDF, less the margins.

    What is commanded keeps the margin; where that is a position or a velocity, the state may go up to the limit itself.

    Raises:
        ConfigError: the URDF cannot be read, a limit that the interface needs is missing, or the margins leave no room.
    """
    stated = urdf_limits(robot.urdf) if robot.urdf else {}
    found = np.array([stated.get(entry, NO_LIMITS) for entry in robot.entries])
    stated_low, stated_high = np.maximum(found[:, 0], robot.position_low), np.minimum(found[:, 1], robot.position_high)
    low, high = stated_low + config.position_margin, stated_high - config.position_margin
    stated_velocity = found[:, 2]
    n = len(robot.joints)
    stated_velocity[:n] = np.minimum(stated_velocity[:n], robot.velocity_limit)
    velocity = stated_velocity * (1 - config.velocity_margin)
    columns = [robot.joints.index(a) for a in robot.actuators if a in robot.joints]
    rate = np.minimum(
        per_actuator("command_rate", config.command_rate, robot.actuators),
        per_actuator("command_rate", robot.command_rate, robot.actuators),
    )
    if robot.command_interface == "effort":
        command_high = np.minimum(found[columns, 3], robot.u_max) * (1 - config.effort_margin)
        command_low = -command_high
    elif robot.command_interface == "position":
        command_low, command_high = low[columns], high[columns]
        rate = np.minimum(rate, velocity[columns])  # a position that moves faster asks for a velocity beyond the limit
    else:
        twist = robot.command_interface == "twist"
        command_high = robot.u_max * (1 - config.velocity_margin) if twist else velocity[columns]
        command_low = -command_high
        require_finite("velocity", robot.urdf, command_high, robot.actuators)
    if robot.command_interface == "position":  # a robot that goes where it may be sent is not beyond its limits
        low, high = stated_low, stated_high
    if robot.command_interface in ("position", "velocity"):
        velocity = stated_velocity
    return Limits(
        interface=robot.command_interface,
        joints=robot.entries,
        actuators=robot.actuators,
        position_low=low,
        position_high=high,
        velocity=velocity,
        command_low=command_low,
        command_high=command_high,
        command_rate=np.minimum(rate, relative_rate(config.rate_limit, command_low, command_high, robot.dt)),
        command_jerk=per_actuator("command_jerk", config.command_jerk, robot.actuators),
    )


NO_LIMITS = (-np.inf, np.inf, np.inf, np.inf)  # position low and high, velocity, effort


def urdf_limits(path: Path) -> dict[str, tuple[float, float, float, float]]:
    """Joint -> (position low, position high, velocity, effort) of a URDF, infinite where it states none.

    A velocity or effort of 0 counts as none: that is what files have whose author did not know it.

    Raises:
        ConfigError: the file cannot be read, or a limit is no number.
    """
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"urdf: {path} cannot be read: {error}") from None
    found = {}
    for joint in root.findall("joint"):
        limit = joint.find("limit")
        if limit is None:
            continue
        name, turns = joint.get("name", ""), joint.get("type") == "continuous"
        low, high = (-np.inf, np.inf) if turns else (number(limit, name, k, 0.0) for k in ("lower", "upper"))
        velocity, effort = (number(limit, name, k, 0.0) or np.inf for k in ("velocity", "effort"))
        found[name] = (low, high, velocity, effort)
    return found


def number(limit: ET.Element, joint: str, key: str, missing: float) -> float:
    """One attribute of a URDF's <limit>."""
    text = limit.get(key)
    try:
        value = missing if text is None else float(text)
    except ValueError:
        value = np.nan
    if np.isnan(value) or (key in ("velocity", "effort") and value < 0):
        raise ConfigError(f"urdf: joint '{joint}': limit {key}=\"{text}\" is not allowed; expected a number")
    return value


def per_actuator(field: str, values: Sequence[float], actuators: Sequence[str]) -> np.ndarray:
    """One number for all or one for each, 0 as none, as (nu,) with inf for none."""
    given = one_each(field, values, actuators)
    return np.where(given == 0, np.inf, given)


def one_each(field: str, values: Sequence[float], actuators: Sequence[str]) -> np.ndarray:
    """One number for all or one for each as (nu,).

    Raises:
        ConfigError: there are more or fewer.
    """
    if len(values) not in (1, len(actuators)):
        raise ConfigError(
            f"{field}: {[*values]} is not allowed; expected one number, or one for each of {[*actuators]}"
        )
    return np.broadcast_to(np.array(values, dtype=float), len(actuators))


def relative_rate(rate_limit: float, low: np.ndarray, high: np.ndarray, dt: float) -> np.ndarray:
    """The option `rate_limit` as a change per s (nu,); 2 is the whole range and thus no limit."""
    return np.full_like(high, np.inf) if rate_limit >= 2 else rate_limit * (high - low) / (2 * dt)


def require_finite(what: str, urdf: Path | None, limits: np.ndarray, actuators: Sequence[str]) -> None:
    """Raise ConfigError where an actuator has no limit of the kind that its interface needs."""
    for name, limit in zip(actuators, limits, strict=True):
        if not np.isfinite(limit):
            raise ConfigError(f"{what} limit of '{name}': there is none in {urdf}; expected a positive number")
