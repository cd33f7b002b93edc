"""The watchdog on the robot's side of the link."""

import numpy as np
import pytest
from guard_cases import DT, UNIT, robot_limits

from mbrl_ros.safety.link_watchdog import LinkConfig, LinkWatchdog
from mbrl_ros.safety.safe_action import SafeAction


def ns(periods: float) -> int:
    return round(1e9 * DT * periods)


def make(interface="effort", **config) -> LinkWatchdog:
    settings, limits = LinkConfig(**config), robot_limits(interface)
    return LinkWatchdog(settings, limits, SafeAction(settings, limits), DT)


def test_it_is_silent_until_the_guard_is_heard_and_then_repeats_it():
    link = make()
    assert link.tick(ns(1000)) is None and link.farewell() is None
    np.testing.assert_array_equal(link.command(ns(0), UNIT), UNIT)
    assert link.tick(ns(2.9)) is None and link.reason == ""


@pytest.mark.parametrize("timeout", [1.0, 3.0])
def test_the_safe_action_follows_silence_until_the_guard_is_back(timeout):
    link = make(timeout=timeout)
    link.command(ns(0), UNIT)
    assert link.tick(ns(timeout - 0.1)) is None
    for periods in (timeout + 0.1, 500.0):
        np.testing.assert_array_equal(link.tick(ns(periods)), [0.0, 0.0])
    assert "the guard is silent for 500.0 periods" in link.reason
    np.testing.assert_array_equal(link.command(ns(501), -UNIT), -UNIT)
    assert link.reason == "" and link.tick(ns(501.5)) is None


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [1.0], [], "x", None, [np.inf, 0.0]])
def test_what_is_no_command_is_silence(bad):
    link = make()
    link.command(ns(0), UNIT)
    for k in range(1, 9):
        assert link.command(ns(k), bad) is None
    np.testing.assert_array_equal(link.tick(ns(9)), [0.0, 0.0])
    assert link.counts == {"passed": 1, "refused": 8, "safe": 1}


def test_commands_are_cut_to_their_range():
    np.testing.assert_array_equal(make().command(0, [99.0, -99.0]), [10.0, -2.0])


def test_a_position_is_held_where_it_was_measured_when_the_silence_began():
    link = make("position")
    link.command(ns(0), UNIT)
    link.observe(ns(2), [0.9, 0.8], [np.nan, np.nan])
    np.testing.assert_array_equal(link.tick(ns(3.1)), [0.9, 0.8])
    link.observe(ns(3.2), [0.7, 0.7], [0.0, 0.0])
    np.testing.assert_array_equal(link.tick(ns(3.3)), [0.9, 0.8])
    np.testing.assert_array_equal(link.farewell(), [0.9, 0.8])
    link.command(ns(4), UNIT)
    link.observe(ns(6), [0.7, 0.6], [0.0, 0.0])
    np.testing.assert_array_equal(link.tick(ns(8)), [0.7, 0.6], "another silence, another place")
    alone = make("position")
    alone.command(ns(0), UNIT)
    np.testing.assert_array_equal(alone.tick(ns(4)), UNIT, "no measurement: the last command")


def test_damping_needs_the_joint_states():
    link = make(safe_action="damp", damping=2.0)
    link.command(ns(0), UNIT)
    link.observe(ns(3), [0.0, 0.0], [1.0, -0.5])
    np.testing.assert_array_equal(link.tick(ns(4)), [-2.0, 1.0])
    np.testing.assert_array_equal(link.tick(ns(40)), [0.0, 0.0], "too old to act on")
    np.testing.assert_array_equal(link.farewell(), [0.0, 0.0], "nobody would end the damping")


def test_the_actuators_are_released_where_that_is_wanted():
    link = make(release_after=10.0)
    link.command(ns(0), UNIT)
    assert link.tick(ns(12.9)) is not None
    assert link.tick(ns(13.1)) is None and link.tick(ns(14)) is None
    np.testing.assert_array_equal(link.command(ns(20), UNIT), UNIT)
    assert link.tick(ns(23.1)) is not None
