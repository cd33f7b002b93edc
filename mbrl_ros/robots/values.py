"""Values of a robot's YAML: from what YAML has read to what the description holds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.sensors import BASE_STATES, read_sensors

Range = float | tuple[float, float]  # a number is meant either way


@dataclass(frozen=True)
class Delay:
    """How late a robot is.

    Attributes:
        actuation_s: from a command's publication until it moves the robot, by the sensors' stamps.
        sensing_s: from a measurement's stamp until it arrives.
    """

    actuation_s: float = 0.0
    sensing_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("actuation_s", "sensing_s"):
            if not 0 <= getattr(self, name) <= 10.0:
                raise ConfigError(f"delay: {name}: {getattr(self, name)} is not allowed; expected 0 to 10 s")

    @property
    def total_s(self) -> float:
        """From a measurement's stamp until a command that follows from it at once moves the robot."""
        return self.actuation_s + self.sensing_s


def convert(kind: Any, key: str, value: Any, values: Mapping[str, Any] | None = None) -> Any:
    """Check one value's type; numbers become float, lists tuples.

    Args:
        kind: the field's type.
        key: its name.
        value: what the YAML holds.
        values: all of the YAML, for values by entry.
    """
    if key in SPECIAL:
        return SPECIAL[key](value)
    if kind == tuple[Range, ...]:
        return read_ranges(key, value, values or {})
    if kind in (str, Path | None) and isinstance(value, str):
        return value
    if kind is float and is_number(value):
        return float(value)
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind == tuple[float, ...] and isinstance(value, list) and all(map(is_number, value)):
        return tuple(float(v) for v in value)
    expected = {str: "a string", Path | None: "a path", float: "a number", tuple[str, ...]: "a list of names"}
    raise ConfigError(f"{key}: {value!r} is not allowed; expected {expected.get(kind, 'a list of numbers')}")


def read_ranges(key: str, value: Any, values: Mapping[str, Any]) -> tuple[Range, ...]:
    """Limits as a list over the joints, or by name: ``{base_x: 2.0, elbow: [0.0, 2.6]}``."""
    if isinstance(value, dict):
        base_states = values.get("base_states") or BASE_STATES.get(str(values.get("base", "none")), ())
        lists = [part for part in (values.get("joints"), base_states) if isinstance(part, (list, tuple))]
        names = [name for part in lists for name in part if isinstance(name, str)]
        if unknown := [name for name in value if name not in names]:
            raise ConfigError(f"{key}: unknown name '{unknown[0]}'; choose from: {', '.join(names)}")
        return tuple(read_range(key, value[name]) if name in value else np.inf for name in names)
    if not isinstance(value, list):
        raise ConfigError(
            f"{key}: {value!r} is not allowed; expected a list of numbers, or a mapping from names to them"
        )
    return tuple(read_range(key, v) for v in value)


def read_range(key: str, value: Any) -> Range:
    """A number, meant either way, or [low, high]."""
    if is_number(value):
        return float(value)
    if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
        return float(value[0]), float(value[1])
    raise ConfigError(f"{key}: {value!r} is not allowed; expected a number, which is meant either way, or [low, high]")


def read_delay(value: Any) -> Delay:
    """The delay from its mapping."""
    known = [f.name for f in fields(Delay)]
    if not isinstance(value, dict) or set(value) - set(known) or not all(map(is_number, value.values())):
        raise ConfigError(f"delay: {value!r} is not allowed; expected a mapping with the numbers {' and '.join(known)}")
    return Delay(**{key: float(number) for key, number in value.items()})


def read_parameters(value: Any) -> dict[str, dict[str, Any]]:
    """Parameters of nodes; what they may be is checked where the graph is known."""
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise ConfigError(f"parameters: {value!r} is not allowed; expected node names, each with a mapping")
    return {str(name): dict(values) for name, values in value.items()}


def is_number(value: Any) -> bool:
    """Whether YAML has read a number; its booleans are Python integers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


SPECIAL = {"sensors": read_sensors, "delay": read_delay, "parameters": read_parameters}
