"""ROS parameters declared from the configuration dataclasses."""

import dataclasses
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node

from mbrl_ros.config import allowed
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NodeSpec, configure, group_classes


def descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    """Descriptor of one field: description, unit, range, read-only unless the field is dynamic."""
    meta = field.metadata
    result = ParameterDescriptor(
        name=field.name,
        description=meta["description"] + (f" [{meta['unit']}]" if meta["unit"] else ""),
        additional_constraints=allowed(field),
        read_only=not meta["dynamic"],
        dynamic_typing=True,  # YAML writes 1 for 1.0; `config.check` decides
    )
    if meta["low"] is not None and meta["high"] is not None and field.type in (int, float):
        add_range(result, field)
    return result


def add_range(result: ParameterDescriptor, field: dataclasses.Field) -> None:
    """Give the descriptor the range that rqt_reconfigure draws a slider from."""
    low, high = field.metadata["low"], field.metadata["high"]
    if field.type is int:
        result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
    else:
        result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]


def declare(node: Node, cls: type, prefix: str = "") -> dict[str, Any]:
    """Declare every field of a configuration class and return the values, keyed with the prefix."""
    values = {}
    for field in dataclasses.fields(cls):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        name = f"{prefix}{field.name}"
        try:
            values[name] = node.declare_parameter(name, default, descriptor(field)).value
        except InvalidParameterValueException as error:
            raise ConfigError(f"{node.get_name()}: {name}: {error}; expected {allowed(field)}") from None
    return {name: list(v) if hasattr(v, "tolist") else v for name, v in values.items()}


def load_configuration(node: Node, spec: NodeSpec) -> tuple[Any, dict[str, Any]]:
    """Declare a node's parameters and its groups' and build the configurations from their values.

    Raises:
        ConfigError: a value is not allowed; the message names field, value and what is.
    """
    values = declare(node, spec.config)
    config, _ = configure(spec, values, spec.name)
    for prefix, cls in group_classes(spec, config).items():
        values |= declare(node, cls, f"{prefix}.")
    return configure(spec, values, spec.name)
