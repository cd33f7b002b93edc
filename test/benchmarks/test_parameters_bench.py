"""1,000 random changes while the robot moves: every answer is right, no wrong value is taken."""

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from ros_domain import own_domain

from mbrl_ros.benchmarks import soak
from mbrl_ros.benchmarks.parameters import BEYOND, VALID, Change, another, changes, known_fields, send, wrong_values
from mbrl_ros.config import check
from mbrl_ros.errors import ConfigError


def test_a_list_is_taken_as_a_whole_or_one_by_one():
    values = {"horizon": 9, "seed": 3, "budget": 0.5}
    one_by_one = Change("mpc_controller", values, (True, False, True), together=False)
    assert one_by_one.right() == [True, False, True] and one_by_one.taken() == {"horizon": 9, "budget": 0.5}
    whole = Change("mpc_controller", values, (True, False, True), together=True)
    assert whole.right() == [False] and whole.taken() == {}
    good = Change("mpc_controller", {"horizon": 9}, (True,), together=True)
    assert good.right() == [True] and good.taken() == {"horizon": 9}


def test_what_is_called_valid_is_within_the_ranges_and_may_change():
    for node, ranges in VALID.items():
        known = known_fields(node)
        for name, ends in ranges.items():
            assert known[name].metadata["dynamic"], name
            for end in ends:
                check(known[name], known[name].type(end))
    for node, ranges in BEYOND.items():
        assert set(ranges) <= set(known_fields(node)), node


def test_half_of_the_changes_are_wrong_in_every_way():
    drawn = list(changes(np.random.default_rng(0), 1000))
    known = {node: known_fields(node) for node in VALID}
    assert {change.node for change in drawn} == set(VALID)
    bad = [(c, n, v) for c in drawn for (n, v), ok in zip(c.values.items(), c.valid, strict=True) if not ok]
    assert 0.3 < np.mean([all(c.valid) for c in drawn]) < 0.7
    kinds = Counter()
    for change, name, value in bad:
        field = known[change.node].get(name)
        if field is None:
            kinds["unknown"] += 1
        elif not field.metadata["dynamic"]:
            assert value != field.default
            kinds["built in"] += 1
        elif value is None or isinstance(value, str) or (isinstance(value, float) and math.isnan(value)):
            kinds["kind"] += 1
        else:
            try:
                check(field, value)
                assert name in BEYOND[change.node]
                kinds["beyond"] += 1
            except ConfigError:
                kinds["range"] += 1
    assert set(kinds) == {"unknown", "built in", "kind", "beyond", "range"} and min(kinds.values()) > 20, kinds
    assert max(len(change.values) for change in drawn) == 5


def test_another_value_is_allowed_and_is_another():
    for node in VALID:
        for name, field in known_fields(node).items():
            if field.type in (int, float, bool):
                assert check(field, another(field)) != field.default, name


class Node:
    """Stands in for nodes: takes everything, or forgets what it has taken."""

    def __init__(self, forgets=False):
        self.values, self.forgets = {}, forgets

    def set(self, node, values, together):
        self.values |= {} if self.forgets else values
        return [(True, "")] * (1 if together else len(values))

    def get(self, node, names):
        return {name: self.values.get(name) for name in names}


def test_wrong_answers_and_wrong_values_are_found():
    drawn = list(islice(changes(np.random.default_rng(1), 50), 50))
    result = send(Node(), iter(drawn), math.inf)
    assert len(result["wrong_answers"]) == sum(False in change.right() for change in drawn) > 5
    assert result["changes"] == 50
    good = Change("mpc_controller", {"horizon": 9}, (True,), together=False)
    assert send(Node(), iter([good]), math.inf)["wrong_values"] == []
    assert send(Node(forgets=True), iter([good]), math.inf)["wrong_values"] == [("mpc_controller", "horizon", 9, None)]
    assert wrong_values(Node(), {}) == []


def test_a_thousand_changes_while_the_robot_moves(monkeypatch):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(own_domain(__file__)))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    from mbrl_ros.nodes.service_client import ServiceClient

    with soak.running() as (graph, observer), ServiceClient() as client:
        result = send(client, changes(np.random.default_rng(7), 1000), rate=100.0)
        assert result["wrong_answers"] == [] and result["wrong_values"] == []
        assert result["without reason"] == 0 and result["taken"] > 300 and result["refused"] > 300
        assert graph.dead() == {}
        moving = observer.recording.passed_since(0.0)
        assert moving > 0 and {"mpc_controller: planning", "command_guard: guard"} <= set(observer.values)
