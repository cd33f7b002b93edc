"""Damaged copies of a message: each field in turn gets what it must not have. Knows no message type.

Messages tell their fields (`get_fields_and_field_types`), so whatever a node listens to can be damaged. The kinds:
``nan`` and ``infinity`` in every float, ``sizes`` of every sequence, ``names`` in every text, ``numbers`` at the ends
of every whole number's range (stamps, versions, bytes).
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

KINDS = ("nan", "infinity", "sizes", "names", "numbers")
FLOATS = {"nan": (float("nan"),), "infinity": (float("inf"), float("-inf"))}
NAMES = ("", "nobody", "x" * 5000, "\u00e9\u4e2d\n/../")
LONG = 1000  # entries of a sequence that is much too long
RANGES = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
WHERE_FLOAT = ("double", "float")
Steps = tuple[str | int, ...]


def damaged(message: Any, kind: str) -> list[Any]:
    """Copies of a message, each with one field damaged; none where it has no field for this kind of damage."""
    return [with_value(message, steps, value) for steps, value in damages(message, kind)]


def damages(message: Any, kind: str, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Which field is damaged (names and indices that lead to it), and what it gets."""
    for name, type_name in message.get_fields_and_field_types().items():
        yield from of_value(getattr(message, name), type_name, kind, (*steps, name))


def of_value(value: Any, type_name: str, kind: str, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    """Damages of one value."""
    if hasattr(value, "get_fields_and_field_types"):
        yield from damages(value, kind, steps)
    elif "sequence<" in type_name or "[" in type_name:
        yield from of_sequence(list(value), type_name, kind, steps)
    else:
        yield from ((steps, wrong) for wrong in wrong_values(type_name, kind) if wrong != value)


def of_sequence(values: list[Any], type_name: str, kind: str, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    """Damages of a sequence: its size, or its first and its last entry."""
    element = type_name.removeprefix("sequence<").removesuffix(">").split("[")[0].split(",")[0]
    if kind == "sizes" and "[" not in type_name:
        more = values[-1:] or [default(element)]
        if more != [None]:
            sizes: tuple[list[Any], ...] = ([], values[:-1], values + more, (values + more) * LONG)
            yield from ((steps, wrong) for wrong in sizes if len(wrong) != len(values))
    for index in sorted({0, len(values) - 1} if values else set()):
        yield from of_value(values[index], element, kind, (*steps, index))
    if not values:
        yield from ((steps, [wrong]) for wrong in wrong_values(element, kind))


def default(type_name: str) -> Any:
    """An entry of a sequence that has none; None for messages, which are left out."""
    if type_name in WHERE_FLOAT:
        return 0.0
    return "nobody" if type_name.startswith("string") else 0 if type_name in RANGES else None


def wrong_values(type_name: str, kind: str) -> Sequence[Any]:
    """What a field of a simple type must not have."""
    if type_name in WHERE_FLOAT:
        return FLOATS.get(kind, ())
    if type_name.startswith("string"):
        return NAMES if kind == "names" else ()
    return RANGES.get(type_name, ()) if kind == "numbers" else ()


def with_value(message: Any, steps: Steps, value: Any) -> Any:
    """A copy of the message with another value at the end of the steps."""
    result = copy.deepcopy(message)
    target = result
    for step in steps[:-1]:
        target = target[step] if isinstance(step, int) else getattr(target, step)
    last = steps[-1]
    if isinstance(last, int):
        target[last] = value
    else:
        setattr(target, last, value)
    return result
