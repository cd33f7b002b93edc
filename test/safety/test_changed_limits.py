"""Limits that change while commands are sent: they hold from the next command on, and no state is lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.robots.description import load_robot
from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.command_limiter import CommandLimiter
from mbrl_ros.safety.guard import Guard
from mbrl_ros.safety.guard_config import GuardConfig
from mbrl_ros.safety.limits import limits_of
from mbrl_ros.safety.link_watchdog import LinkConfig, LinkWatchdog
from mbrl_ros.safety.safe_action import SafeAction

ROBOT = load_robot("cartpole")
H = 0.05


def limits(**values):
    return limits_of(ROBOT, GuardConfig(**values))


@given(
    st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=30),
    st.lists(
        st.tuples(st.floats(0.0, 0.9), st.sampled_from([0.0, 20.0, 100.0]), st.sampled_from([0.0, 200.0, 2000.0])),
        min_size=1,
        max_size=4,
    ),
)
def test_whatever_is_asked_for_and_changed_the_range_in_force_is_kept(wishes, settings):
    limiter = CommandLimiter(limits())
    limiter.restart(np.zeros(1))
    for effort_margin, rate, jerk in settings:
        new = limits(effort_margin=effort_margin, command_rate=(rate,), command_jerk=(jerk,))
        limiter.change(new)
        before = None
        for wish in wishes:
            command, _ = limiter.limit(np.array([wish]), H)
            assert np.isfinite(command).all()
            assert (command >= new.command_low - 1e-9).all() and (command <= new.command_high + 1e-9).all()
            if before is not None and rate:
                assert abs(command - before)[0] <= rate * H + 1e-9
            before = command


def test_a_command_that_is_beyond_the_new_range_is_cut_at_once():
    limiter = CommandLimiter(limits(command_rate=(20.0,)))
    limiter.restart(np.array([10.0]))
    limiter.change(limits(effort_margin=0.5, command_rate=(20.0,)))
    assert limiter.limit(np.array([10.0]), H)[0].tolist() == [5.0]
    assert limiter.limit(np.array([-10.0]), H)[0].tolist() == [4.0], "and the rate holds from there"


def test_what_was_sent_and_how_fast_stays_where_it_may():
    limiter = CommandLimiter(limits(command_rate=(100.0,), command_jerk=(200.0,)))
    limiter.restart(np.zeros(1))
    steps = [limiter.limit(np.array([10.0]), H)[0][0] for _ in range(2)]
    limiter.change(limits(command_rate=(90.0,), command_jerk=(200.0,)))
    third = limiter.limit(np.array([10.0]), H)[0][0]
    speeds = np.diff([0.0, *steps, third]) / H
    np.testing.assert_allclose(speeds, [10.0, 20.0, 30.0], err_msg="it does not begin from rest again")


def test_the_guard_stays_armed_counts_on_and_uses_the_new_limits():
    config = GuardConfig(late_tolerance=0.0)
    guard = Guard(config, limits(), SafeAction(config, limits(), ROBOT.angles), H)
    now = Moment(10**9, 10**18)
    guard.observe(now, now.wall_ns, [0.0, 0.0], [0.0, 0.0])
    assert guard.arm(now)[0]
    assert guard.command(now, now.wall_ns, [9.0]).command.tolist() == [9.0]
    narrow = replace(config, effort_margin=0.4, state_action="none")
    guard.change_limits(narrow, limits(effort_margin=0.4), SafeAction(narrow, limits(effort_margin=0.4), ROBOT.angles))
    later = Moment(now.monotonic_ns + 50_000_000, now.wall_ns + 50_000_000)
    decision = guard.command(later, later.wall_ns, [9.0])
    assert decision.command.tolist() == [6.0] and decision.flag == "limited"
    assert (guard.counts["ok"], guard.counts["limited"], guard.figures["cut_to_range"]) == (1, 1, 1)
    assert guard.stop(later, "x").command.tolist() == [0.0]


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_a_wider_margin_reports_where_the_robot_is_beyond(margin):
    config = GuardConfig(state_action="stop", late_tolerance=0.0)
    guard = Guard(config, limits(), SafeAction(config, limits(), ROBOT.angles), H)
    now = Moment(10**9, 10**18)
    guard.observe(now, now.wall_ns, [1.0, 0.0], [0.0, 0.0])
    assert guard.arm(now)[0]
    guard.change_limits(config, limits(position_margin=margin), guard.safe_action)
    stopped = guard.observe(now, now.wall_ns, [1.0, 0.0], [0.0, 0.0])
    assert (stopped is not None) == (margin == 2.0)


def test_the_link_watchdog_takes_them_too():
    config = LinkConfig()
    watchdog = LinkWatchdog(config, limits(), SafeAction(config, limits(), ROBOT.angles), H)
    assert watchdog.command(0, [9.0]).tolist() == [9.0]
    watchdog.change_limits(config, limits(effort_margin=0.5), SafeAction(config, limits(), ROBOT.angles))
    assert watchdog.command(1, [9.0]).tolist() == [5.0]
    assert watchdog.counts["passed"] == 2
