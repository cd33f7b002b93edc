"""Damaged copies of messages: every field gets what it must not have, and nothing else changes."""

import math

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray, UInt64
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.benchmarks.faults.damage import KINDS, damaged, damages

STATE = JointState(name=["a", "b"], position=[1.0, 2.0], velocity=[3.0, 4.0])


def fields(message, kind):
    return [steps for steps, _ in damages(message, kind)]


def test_nan_and_infinity_reach_every_float():
    nan = damaged(STATE, "nan")
    assert [steps[0] for steps in fields(STATE, "nan")] == ["position"] * 2 + ["velocity"] * 2 + ["effort"]
    for message in nan:
        numbers = [*message.position, *message.velocity, *message.effort]
        assert sum(map(math.isnan, numbers)) == 1, "one field at a time"
        assert list(message.name) == ["a", "b"]
    infinite = [x for m in damaged(STATE, "infinity") for x in (*m.position, *m.velocity, *m.effort) if math.isinf(x)]
    assert set(infinite) == {math.inf, -math.inf}
    assert list(STATE.position) == [1.0, 2.0], "the genuine message is as it was"


def test_sizes_are_too_small_and_too_large():
    lengths = {len(m.position) for m in damaged(STATE, "sizes")}
    assert {0, 1, 2, 3} < lengths
    assert max(lengths) > 1000
    assert {len(m.name) for m in damaged(STATE, "sizes")} >= {0, 1, 3}


def test_names_in_every_text():
    steps = fields(STATE, "names")
    assert {s[:2] for s in steps} == {("header", "frame_id"), ("name", 0), ("name", 1)}
    assert "" in {m.name[0] for m in damaged(STATE, "names")}


def test_numbers_at_the_ends_of_their_range():
    stamps = {m.header.stamp.sec for m in damaged(STATE, "numbers")}
    assert {-(2**31), 2**31 - 1} <= stamps
    assert {m.data for m in damaged(UInt64(data=7), "numbers")} == {0, 2**64 - 1}
    assert {m.data[0] for m in damaged(UInt8MultiArray(data=[5, 6, 7]), "numbers")} >= {0, 255}


def test_messages_in_messages_are_damaged_too():
    plan = JointTrajectory(joint_names=["a"], points=[JointTrajectoryPoint(positions=[1.0])] * 3)
    assert any(math.isnan(m.points[-1].positions[0]) for m in damaged(plan, "nan"))
    assert {len(m.points) for m in damaged(plan, "sizes")} >= {0, 2, 4}
    status = DiagnosticStatus(name="n", values=[KeyValue(key="k", value="v")])
    names = damaged(DiagnosticArray(status=[status]), "names")
    assert {"", "nobody"} <= {m.status[0].values[0].key for m in names}


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_differs_from_the_genuine_message(kind):
    for message in damaged(STATE, kind):
        assert message != STATE


def test_a_message_without_such_a_field_is_left_alone():
    assert damaged(UInt64(data=7), "nan") == []
    assert damaged(JointState(), "names") != []
