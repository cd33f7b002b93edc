"""Knobs: which parameters are, and what their sliders reach."""

import dataclasses

from mbrl_ros.config import option
from mbrl_ros.graph import ViewConfig
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingupConfig
from mbrl_ros.visualisation.knobs import STEPS, knobs_of


@dataclasses.dataclass(frozen=True)
class Sample:
    fixed: float = option(1.0, "fixed")
    weight: float = option(0.4, "a weight", unit="1/m", low=0.0, high=100.0, dynamic=True)
    narrow: float = option(0.5, "a share", low=0.1, high=0.9, dynamic=True)
    nothing: float = option(0.0, "off", dynamic=True)
    count: int = option(3, "how many", low=1, high=1000, dynamic=True)
    kind: str = option("a", "which", choices=("a", "b"), dynamic=True)


VALUES = {"s.fixed": 1.0, "s.weight": 0.8, "s.narrow": 0.5, "s.nothing": 0.0, "s.count": 3, "s.kind": "b"}


def test_dynamic_parameters_and_no_others_are_knobs():
    knobs = {knob.name: knob for knob in knobs_of("node", {"s": Sample}, VALUES)}
    assert set(knobs) == set(VALUES) - {"s.fixed"}
    weight = knobs["s.weight"]
    assert (weight.low, weight.high, weight.step, weight.value) == (0.0, 5 * 0.8, 4.0 / STEPS, 0.8)
    assert (knobs["s.narrow"].low, knobs["s.narrow"].high) == (0.1, 0.9), "never beyond what is allowed"
    assert knobs["s.nothing"].high > 0.0
    count = knobs["s.count"]
    assert (count.low, count.high, count.step) == (1, 15, 1) and isinstance(count.high, int)
    assert knobs["s.kind"].choices == ("a", "b") and knobs["s.kind"].low is None
    assert weight.about == "a weight; float in [0, 100] 1/m"


def test_a_nodes_own_parameters_and_missing_values():
    assert [k.name for k in knobs_of("viewer", {"": ViewConfig}, {"rate": 10.0, "link": ""})] == ["rate"]
    names = [
        k.name for k in knobs_of("c", {"task": CartpoleSwingupConfig}, {"task.width": 0.25, "task.pole_length": 0.5})
    ]
    assert names == ["task.width"]
