"""ROS parameters declared from the configuration dataclasses."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_ros.config import allowed
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NodeSpec, configure, group_classes


def descriptor(field: dataclasses.Field, managed: bool = False) -> ParameterDescriptor:
    """Descriptor of one field: description, unit, range; what is not dynamic is fixed.

    In a plain node that is read-only; in a managed one it is so only while the node is configured, see
    `managed_parameters`.
    """
    meta = field.metadata
    fixed = not meta["dynamic"]
    result = ParameterDescriptor(
        name=field.name,
        description=meta["description"] + (f" [{meta['unit']}]" if meta["unit"] else ""),
        additional_constraints=allowed(field) + ("; fixed while the node is configured" if managed and fixed else ""),
        read_only=fixed and not managed,
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
    return {name: plain(value) for name, value in values.items()}


def follow_changes(
    node: Node, spec: NodeSpec, groups: Mapping[str, Any], apply: Callable[[Any, dict[str, Any]], None]
) -> None:
    """Check every change of the node's parameters as a whole and hand the new configuration to `apply`.

    A change that is not allowed is refused with the reason, and nothing changes. Callbacks of a node are served one
    after the other, so `apply` runs between two ticks.
    """
    names = set(declared(spec, groups))

    def on_set(changes: list[Parameter]) -> SetParametersResult:
        changed = {p.name: plain(p.value) for p in changes if p.name in names}
        present = {name: plain(node.get_parameter(name).value) for name in names}
        try:
            config, groups = configure(spec, present | changed, spec.name)
            if changed:
                apply(config, groups)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


def declared(spec: NodeSpec, groups: Mapping[str, Any]) -> Iterator[str]:
    """Names of a node's own parameters and of its groups'."""
    yield from (field.name for field in dataclasses.fields(spec.config))
    for prefix, group in groups.items():
        yield from (f"{prefix}.{field.name}" for field in dataclasses.fields(group))


def plain(value: Any) -> Any:
    """A parameter's value; arrays as lists."""
    return list(value) if hasattr(value, "tolist") else value


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
