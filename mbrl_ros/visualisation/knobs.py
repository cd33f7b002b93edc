"""Parameters that may be turned while a node runs, as sliders: range and step. No ROS, no viewer."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mbrl_ros.config import allowed

SPAN = 5.0  # a slider reaches to this times the default: the ranges that are allowed are far wider than what is useful
STEPS = 200  # of a slider


@dataclasses.dataclass(frozen=True)
class Knob:
    """One parameter of one node.

    Attributes:
        node: name of the node.
        name: of the parameter, with its group.
        value: present value.
        low: lower end of the slider; None for what is no number.
        high: its upper end.
        step: from one value to the next.
        choices: allowed strings, where it is one of some.
        about: description and what is allowed, with its unit.
    """

    node: str
    name: str
    value: Any
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    about: str = ""


def knobs_of(node: str, groups: Mapping[str, type], values: Mapping[str, Any]) -> list[Knob]:
    """The dynamic parameters of a node.

    Args:
        node: its name.
        groups: configuration classes by prefix, ``""`` for the node's own.
        values: present values by full name; parameters without one are left out.
    """
    return [
        knob_of(node, name, field, values[name])
        for prefix, cls in groups.items()
        for field in dataclasses.fields(cls)
        if (name := f"{prefix}.{field.name}".lstrip(".")) in values and field.metadata["dynamic"]
    ]


def knob_of(node: str, name: str, field: dataclasses.Field, value: Any) -> Knob:
    """The knob of a field."""
    meta = field.metadata
    about = f"{meta['description']}; {allowed(field)}"
    if field.type not in (int, float):
        return Knob(node, name, value, choices=meta["choices"], about=about)
    low = 0.0 if meta["low"] is None else meta["low"]
    default: Any = field.default
    reach = SPAN * max(abs(value), abs(default)) or 1.0
    high = reach if meta["high"] is None else min(meta["high"], max(reach, low))
    if field.type is int:
        return Knob(node, name, value, int(low), max(int(high), int(low) + 1), 1, about=about)
    return Knob(node, name, value, low, high, (high - low) / STEPS, about=about)
