"""What a bad link does to messages, message by message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.benchmarks.faults.disturbances import (
    LAST_SECOND,
    NANOSECONDS,
    Delayed,
    Duplicated,
    OutOfOrder,
    Shifted,
    Silent,
    TenTimes,
    shifted,
)
from mbrl_ros.benchmarks.faults.topics import original, relayed, relayed_by
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import load_robot

DT = 0.05


class Stamp:
    def __init__(self, ns):
        self.sec, self.nanosec = divmod(ns, NANOSECONDS)


class Header:
    def __init__(self, ns):
        self.stamp = Stamp(ns)


class Stamped:
    def __init__(self, ns):
        self.header = Header(ns)

    @property
    def ns(self):
        return self.header.stamp.sec * NANOSECONDS + self.header.stamp.nanosec


def play(disturbance, messages):
    """Names of what is passed on, in the order of its moments; a message a period."""
    passed = []
    for i, message in enumerate(messages):
        passed += disturbance.take(message, i * DT)
    passed += disturbance.end(len(messages) * DT)
    return [message for _, message in sorted(passed, key=lambda p: p[0])]


def test_silence_passes_nothing_but_the_newest_of_a_latched_topic_at_its_end():
    assert play(Silent(), "abc") == []
    assert play(Silent(latched=True), "abc") == ["c"]
    assert play(Silent(latched=True), "") == []


def test_a_delay_keeps_the_order_and_adds_the_time():
    assert Delayed(0.5).take("a", 2.0) == [(2.5, "a")]
    assert play(Delayed(0.5), "abc") == ["a", "b", "c"]


def test_copies_come_at_once_and_later():
    assert Duplicated(DT).take("a", 1.0) == [(1.0, "a"), (1.0, "a"), (1.0 + DT / 2, "a")]


def test_out_of_order_swaps_neighbours_and_loses_none():
    assert play(OutOfOrder(), "abcde") == ["b", "a", "d", "c", "e"]


def test_ten_times_the_rate_with_stamps_that_go_on():
    passed = TenTimes(DT).take(Stamped(10**9), 1.0)
    assert [round((t - 1.0) / DT, 9) for t, _ in passed] == pytest.approx([i / 10 for i in range(10)])
    assert [m.ns - 10**9 for _, m in passed] == [5_000_000 * i for i in range(10)]


@given(st.integers(0, LAST_SECOND * NANOSECONDS), st.sampled_from([10.0, -10.0, 0.2, -0.2, 1e10, -1e10]))
def test_shifted_stamps_stay_within_what_a_ros_time_can_hold(ns, seconds):
    message = Stamped(ns)
    (_, moved), *rest = Shifted(seconds).take(message, 0.0)
    assert (rest, message.ns) == ([], ns), "the original is as it was"
    assert moved.ns == min(max(ns + round(seconds * NANOSECONDS), 0), LAST_SECOND * NANOSECONDS)


def test_what_has_no_stamp_passes_unchanged():
    assert shifted("a", 10.0) == "a"


def test_the_relay_is_behind_the_owner_of_each_topic():
    assert original("command") == "command/original"
    base = load_robot(str(share_directory() / "config" / "robots" / "examples" / "base.yaml"))
    for robot, sensors in (
        (load_robot("cartpole"), ["joint_states"]),
        (base, ["diff_drive_controller/odom", "imu/data"]),
    ):
        assert relayed_by("mpc_controller", robot) == ["command", "plan"]
        assert relayed_by("pybullet_sim", robot) == sensors
        topics = relayed(robot)
        assert sorted(t for node in set(topics.values()) for t in relayed_by(node, robot)) == sorted(topics)
