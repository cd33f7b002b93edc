"""Configurations: frozen dataclasses whose fields carry description, unit and range.

One statement serves all: reading YAML, the ROS parameters of a node (descriptor, range, read-only or
dynamic) and the documentation. So they cannot drift apart.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from mbrl_ros.errors import ConfigError

C = TypeVar("C")


def option(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """Declare a configuration field.

    Args:
        default: value when nothing is given.
        description: one line for people.
        unit: SI unit, empty for pure numbers.
        low: smallest allowed value (inclusive), also of each element of a tuple.
        high: largest allowed value (inclusive).
        choices: allowed strings; empty for any.
        dynamic: whether the value may be changed while the node runs.
    """
    metadata = {
        "description": description,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "dynamic": dynamic,
    }
    return dataclasses.field(default=default, metadata=metadata)


def allowed(field: dataclasses.Field) -> str:
    """What a field accepts, in words."""
    meta = field.metadata
    if meta["choices"]:
        return "one of: " + ", ".join(meta["choices"])
    unit = f" {meta['unit']}" if meta["unit"] else ""
    low = "-inf" if meta["low"] is None else f"{meta['low']:g}"
    high = "inf" if meta["high"] is None else f"{meta['high']:g}"
    bounds = "" if meta["low"] is None and meta["high"] is None else f" in [{low}, {high}]{unit}"
    return f"{type_name(field.type)}{bounds}"


def type_name(kind: Any) -> str:
    """Name of a field's type as a user would say it."""
    return "list of float" if typing.get_origin(kind) is tuple else kind.__name__


def build(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Make a configuration from a mapping, every problem found at once.

    Args:
        cls: a dataclass whose fields are made with `option`.
        values: field name -> value, from YAML or the command line.
        where: prefix of messages, e.g. ``params.yaml: mpc_controller``.

    Raises:
        ConfigError: unknown key, wrong type or value out of range; names key, value and what is allowed.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems = [f"unknown key '{key}'; known keys: {', '.join(sorted(fields))}" for key in values if key not in fields]
    converted = {}
    for key, value in values.items():
        if key in fields:
            try:
                converted[key] = check(fields[key], value)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        prefix = f"{where}: " if where else ""
        raise ConfigError("\n".join(prefix + problem for problem in problems))
    return cls(**converted)


def check(field: dataclasses.Field, value: Any) -> Any:
    """Return `value` in the field's type, or raise ConfigError that names field, value and what is allowed."""
    if typing.get_origin(field.type) is not tuple:
        return check_scalar(field, field.type, value, value)
    if not isinstance(value, (list, tuple)):
        raise not_allowed(field, value)
    return tuple(check_scalar(field, float, v, value) for v in value)


def not_allowed(field: dataclasses.Field, value: Any) -> ConfigError:
    """What is wrong with a value."""
    return ConfigError(f"{field.name}: {value!r} is not allowed; expected {allowed(field)}")


def check_scalar(field: dataclasses.Field, kind: Any, value: Any, whole: Any) -> Any:
    """Check one scalar of a value against type, choices and range; an int is accepted where a float is expected."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise not_allowed(field, whole)
    meta = field.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise not_allowed(field, whole)
    if kind in (int, float):
        below = meta["low"] is not None and value < meta["low"]
        above = meta["high"] is not None and value > meta["high"]
        if math.isnan(value) or below or above:
            raise not_allowed(field, whole)
    return value


def validate(config: Any) -> None:
    """Check every field of an existing configuration; for ``__post_init__``."""
    for field in dataclasses.fields(config):
        check(field, getattr(config, field.name))
