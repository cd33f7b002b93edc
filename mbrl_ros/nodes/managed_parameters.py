"""Parameters of a managed node: open to correction while it is unconfigured, then as those of any other node."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from mbrl_ros.config import build, check
from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.graph import NodeSpec, configure, group_classes
from mbrl_ros.nodes.parameters import descriptor, plain


class Problems(list[str]):
    """Everything that is wrong, each once. ``with problems:`` takes down a user's mistake and goes on."""

    def note(self, error: MbrlError) -> None:
        """Take a mistake down; one that has several lines is several."""
        self += [line for line in str(error).splitlines() if line and line not in self]

    def __enter__(self) -> "Problems":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> bool:
        if isinstance(error, MbrlError):
            self.note(error)
        return isinstance(error, MbrlError)


class ManagedParameters:
    """Declares the parameters of a node, keeps watch over their changes and reads them with every problem at once."""

    def __init__(self, node: Node, spec: NodeSpec, apply: Callable[[Any, dict[str, Any]], None]) -> None:
        """Declare the parameters; values that are not allowed stay as they are until `read`.

        Args:
            node: whose parameters.
            spec: what it has.
            apply: takes up a change in a configured node, which has been checked as a whole.
        """
        self._node, self._spec, self._apply = node, spec, apply
        self._fields: dict[str, dataclasses.Field] = {}
        self.fixed = False  # whether the node is configured: then only dynamic parameters may change
        self.read(Problems())
        node.add_on_set_parameters_callback(self._on_set)

    def read(self, problems: Problems) -> tuple[Any, dict[str, Any]]:
        """The node's configuration and its groups; a default stands in for each value that is not allowed.

        Groups that the values name, such as those of another planner, are declared here.
        """
        spec = self._spec
        config = self._sound(spec.config, "", problems)
        groups: dict[str, Any] = {}
        for group in spec.groups:
            with problems:
                for prefix, cls in group_classes(dataclasses.replace(spec, groups=(group,)), config).items():
                    groups[prefix] = self._sound(cls, f"{prefix}.", problems)
        return config, groups

    def _sound(self, cls: type, prefix: str, problems: Problems) -> Any:
        """A configuration from the node's values; of those that are not allowed the problem is noted."""
        values = {}
        for field in dataclasses.fields(cls):
            self._declare(field, f"{prefix}{field.name}")
            values[field.name] = plain(self._node.get_parameter(f"{prefix}{field.name}").value)
        where = f"{self._spec.name} {prefix[:-1]}".strip()
        with problems:
            return build(cls, values, where)
        good = {f.name: values[f.name] for f in dataclasses.fields(cls) if is_allowed(f, values[f.name])}
        try:
            return build(cls, good)
        except ConfigError:  # single values are allowed, but not together
            return cls()

    def _declare(self, field: dataclasses.Field, name: str) -> None:
        """Declare one parameter, unless it is; where the range refuses the value given, without the range."""
        if name in self._fields:
            return
        self._fields[name] = field
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        about = descriptor(field, managed=True)
        try:
            self._node.declare_parameter(name, default, about)
        except InvalidParameterValueException:
            about.integer_range, about.floating_point_range = [], []
            self._node.declare_parameter(name, default, about)

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse what is not allowed, with the reason."""
        changed = {p.name: plain(p.value) for p in changes if p.name in self._fields}
        try:
            if self.fixed:
                self._change(changed)
            else:
                for name, value in changed.items():
                    check(self._fields[name], value)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _change(self, changed: Mapping[str, Any]) -> None:
        """Change a configured node: everything is checked together, and only dynamic parameters may change."""
        present = {name: plain(self._node.get_parameter(name).value) for name in self._fields}
        for name, value in changed.items():
            if not self._fields[name].metadata["dynamic"] and value != present[name]:
                raise ConfigError(f"{name}: read-only while the node is configured; clean it up first")
        values = present | dict(changed)
        own = {name: value for name, value in values.items() if "." not in name}
        prefixes = group_classes(self._spec, build(self._spec.config, own))
        used = {name: value for name, value in values.items() if "." not in name or name.split(".")[0] in prefixes}
        config, groups = configure(self._spec, used, self._spec.name)
        if changed:
            self._apply(config, groups)


def is_allowed(field: dataclasses.Field, value: Any) -> bool:
    """Whether the field takes the value."""
    try:
        check(field, value)
    except ConfigError:
        return False
    return True
