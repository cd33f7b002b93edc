"""Configurations name what is wrong and what is allowed."""

from dataclasses import dataclass

import pytest

from mbrl_ros.config import build, option, validate
from mbrl_ros.errors import ConfigError


@dataclass(frozen=True)
class Example:
    """One field of each type."""

    count: int = option(3, "a count", low=1, high=10)
    gain: float = option(0.5, "a gain", unit="N", low=0.0)
    kind: str = option("a", "a kind", choices=("a", "b"))
    on: bool = option(True, "a switch")
    weights: tuple[float, ...] = option((1.0,), "weights", low=0.0)

    def __post_init__(self) -> None:
        validate(self)


def test_values_are_taken_and_a_whole_number_is_a_float_too():
    made = build(Example, {"gain": 2, "weights": [1, 2.5]})
    assert (made.gain, made.weights, made.count) == (2.0, (1.0, 2.5), 3)
    assert isinstance(made.gain, float)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 0}, "count: 0 is not allowed; expected int in [1, 10]"),
        ({"count": 2.5}, "count: 2.5"),
        ({"count": True}, "count: True"),
        ({"gain": -1.0}, "expected float in [0, inf] N"),
        ({"gain": float("nan")}, "gain: nan"),
        ({"gain": "x"}, "gain: 'x'"),
        ({"kind": "c"}, "expected one of: a, b"),
        ({"on": 1}, "on: 1"),
        ({"weights": 1.0}, "expected list of float"),
        ({"weights": [1.0, -1.0]}, "weights: [1.0, -1.0]"),
        ({"wieght": 1}, "unknown key 'wieght'; known keys: count, gain, kind, on, weights"),
    ],
)
def test_a_mistake_names_field_value_and_what_is_allowed(values, said):
    with pytest.raises(ConfigError) as error:
        build(Example, values, "file.yaml: node")
    assert said in str(error.value)
    assert str(error.value).startswith("file.yaml: node: ")


def test_every_mistake_is_reported_at_once():
    with pytest.raises(ConfigError) as error:
        build(Example, {"count": 0, "gain": -1.0, "other": 1})
    assert len(str(error.value).splitlines()) == 3


def test_direct_construction_is_checked_too():
    with pytest.raises(ConfigError, match="count"):
        Example(count=99)
