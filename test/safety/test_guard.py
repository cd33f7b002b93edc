"""The guard: fixed scenarios for each rule, random sequences of calls for the invariants."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_ros.errors import ConfigError
from mbrl_ros.safety.guard import FLAGS, Guard, GuardConfig, GuardState

DT = 0.05
LIMIT = np.array([10.0, 2.0])
UNIT = np.array([1.0, 1.0])


def armed(now=0.0, **config) -> Guard:
    guard = Guard(GuardConfig(**config), LIMIT, DT)
    assert guard.arm(now)[0]
    return guard


def flag_of(guard: Guard, now, stamp, effort=UNIT) -> str:
    return guard.command(now, stamp, effort).flag


def test_starts_disarmed_and_sends_zero():
    guard = Guard(GuardConfig(), LIMIT, DT)
    decision = guard.command(0.0, 0.0, UNIT)
    assert decision.flag == "disarmed" and decision.reason == "not armed"
    np.testing.assert_array_equal(decision.effort, [0.0, 0.0])
    assert guard.tick(100.0) is None, "a disarmed guard leaves the actuators alone"


def test_passes_a_command_unchanged_with_its_sign():
    decision = armed().command(0.0, 0.05, [-3.0, 1.5])
    assert decision.flag == "ok" and decision.reason == ""
    np.testing.assert_array_equal(decision.effort, [-3.0, 1.5])


def test_effort_is_cut_to_each_limit_with_its_sign():
    decision = armed().command(0.0, 0.0, [-1e300, 3.0])
    assert decision.flag == "limited" and "effort limit" in decision.reason
    np.testing.assert_array_equal(decision.effort, [-10.0, 2.0])


def test_rate_limit_makes_a_ramp_from_what_was_sent():
    guard = armed(rate_limit=0.25)
    sent = [guard.command(0.0, 0.0, [10.0, -2.0]).effort for _ in range(5)]
    np.testing.assert_allclose(np.array(sent)[:, 0], [2.5, 5.0, 7.5, 10.0, 10.0])
    np.testing.assert_allclose(np.array(sent)[:, 1], [-0.5, -1.0, -1.5, -2.0, -2.0])
    assert guard.counts["limited"] == 3 and guard.counts["ok"] == 2
    np.testing.assert_array_equal(guard.stop("test").effort, [0.0, 0.0], "the safe action knows no ramp")
    guard.reset()
    guard.arm(0.0)
    np.testing.assert_allclose(guard.command(0.0, 0.0, [10.0, 0.0]).effort, [2.5, 0.0], err_msg="ramps from zero")
    np.testing.assert_allclose(armed().command(0.0, 0.0, [10.0, 0.0]).effort, [10.0, 0.0], err_msg="default: none")


def test_a_caller_cannot_change_what_the_guard_remembers():
    guard = armed(rate_limit=0.1)
    guard.command(0.0, 0.0, [1.0, 0.0]).effort[:] = 9.0
    np.testing.assert_allclose(guard.command(0.0, 0.0, [10.0, 0.0]).effort, [2.0, 0.0])


@pytest.mark.parametrize(
    "age, flag",
    [
        (-3.01, "stale"),
        (-2.99, "ok"),
        (0.0, "ok"),
        (0.05, "late"),
        (2.99, "late"),
        (3.01, "stale"),
        (math.nan, "stale"),
    ],
)
def test_age_of_a_command(age, flag):
    decision = armed(100.0).command(100.0, 100.0 - age * DT, UNIT)
    assert decision.flag == flag
    np.testing.assert_array_equal(decision.effort, UNIT if flag in ("ok", "late") else 0 * UNIT)


def test_late_tolerance_and_stale_after_change_the_verdict():
    assert flag_of(armed(late_tolerance=0.2), 1.0, 1.0 - 0.1 * DT) == "ok"
    assert flag_of(armed(late_tolerance=-0.2), 1.0, 1.0 + 0.1 * DT) == "late"
    assert flag_of(armed(stale_after=6.0), 1.0, 1.0 - 5 * DT) == "late"
    assert flag_of(armed(stale_after=1.0), 1.0, 1.0 + 2 * DT) == "stale"


def test_a_late_command_is_cut_to_the_limits_too():
    decision = armed().command(0.1, 0.05, [99.0, 0.0])
    assert decision.flag == "late"
    np.testing.assert_array_equal(decision.effort, [10.0, 0.0])


@pytest.mark.parametrize("timeout", [1.0, 2.0, 5.0])
def test_watchdog_acts_after_the_stated_periods_and_not_before(timeout):
    guard = armed(timeout=timeout)
    guard.command(1.0, 1.0, UNIT)
    assert guard.tick(1.0 + (timeout - 0.01) * DT) is None
    decision = guard.tick(1.0 + (timeout + 0.01) * DT)
    assert decision.flag == "timeout" and "periods" in decision.reason
    np.testing.assert_array_equal(decision.effort, [0.0, 0.0])
    assert guard.tick(9.0).flag == "timeout", "repeated while silent"
    assert flag_of(guard, 9.0, 9.0) == "ok", "the controller may come back"
    assert guard.tick(9.0) is None


def test_watchdog_counts_from_arming():
    guard = armed(50.0)
    assert guard.tick(50.0 + 1.9 * DT) is None
    assert guard.tick(50.0 + 2.1 * DT).flag == "timeout"


@pytest.mark.parametrize("bad", ["stale", "invalid"])
def test_refused_commands_do_not_feed_the_watchdog(bad):
    guard = armed(invalid_limit=100)
    for now in (0.05, 0.09):
        stamp, effort = (now - 1.0, UNIT) if bad == "stale" else (now, [math.nan, 0.0])
        assert guard.command(now, stamp, effort).flag == bad
    assert guard.tick(0.11).flag == "timeout"


@pytest.mark.parametrize("jump", [-1000.0, 1000.0, math.nan])
def test_a_jump_of_the_clock_is_silence(jump):
    guard = armed(100.0)
    guard.command(100.0, 100.0, UNIT)
    assert guard.tick(100.0 + jump).flag == "timeout"


def test_lockstep_needs_no_clock():
    guard = armed(None, late_tolerance=-1.0)
    assert guard.command(None, -1e9, UNIT).flag == "ok"
    assert guard.tick(None) is None
    assert guard.stop("x").flag == "stopped"
    assert guard.tick(None) is None, "in lockstep every decision answers a command"


def test_watchdog_armed_without_clock_starts_with_the_first_tick():
    guard = armed(None)
    assert guard.tick(70.0) is None
    assert guard.tick(70.0 + 3 * DT).flag == "timeout"


@pytest.mark.parametrize(
    "effort", [[math.nan, 0], [0, math.inf], [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [], None, "zero", 1.0, [[1], 2]]
)
def test_what_is_no_effort_is_refused(effort):
    decision = armed().command(0.0, 0.0, effort)
    assert decision.flag == "invalid" and "2 finite number" in decision.reason
    np.testing.assert_array_equal(decision.effort, [0.0, 0.0])


@pytest.mark.parametrize("limit", [1, 3])
def test_invalid_commands_in_a_row_latch_a_stop(limit):
    guard = armed(invalid_limit=limit)
    for i in range(limit):
        assert guard.state is GuardState.ARMED
        assert flag_of(guard, 0.0, 0.0, [math.nan] * 2) == "invalid", i
    assert guard.state is GuardState.STOPPED
    assert "invalid commands in a row" in guard.command(0.0, 0.0, UNIT).reason


def test_a_valid_command_between_invalid_ones_breaks_the_row():
    guard = armed(invalid_limit=2)
    for _ in range(5):
        assert flag_of(guard, 0.0, 0.0, []) == "invalid"
        assert flag_of(guard, 0.0, 0.0) == "ok"
    assert guard.state is GuardState.ARMED


def test_stop_is_latched_keeps_its_first_reason_and_needs_reset():
    guard = armed()
    assert guard.stop("emergency button").flag == "stopped"
    guard.stop("another")
    guard.disarm()
    ok, reason = guard.arm(0.0)
    assert not ok and "emergency button" in reason and "reset" in reason
    assert flag_of(guard, 0.0, 0.0) == "stopped"
    assert "emergency button" in guard.tick(0.0).reason, "repeated in case a message got lost"
    assert guard.reset()[0] and guard.state is GuardState.DISARMED
    assert not guard.reset()[0], "nothing to reset any more"
    assert flag_of(guard, 0.0, 0.0) == "disarmed"
    assert guard.arm(0.0) == (True, "armed") and flag_of(guard, 0.0, 0.0) == "ok"


def test_stop_works_disarmed_and_disarm_sends_zero():
    guard = armed()
    guard.command(0.0, 0.0, UNIT)
    decision = guard.disarm()
    assert decision.flag == "disarmed"
    np.testing.assert_array_equal(decision.effort, [0.0, 0.0])
    guard.stop("x")
    assert guard.state is GuardState.STOPPED


def test_arming_twice_does_not_feed_the_watchdog():
    guard = armed(0.0)
    assert guard.arm(1.0) == (True, "already armed")
    assert guard.tick(1.0).flag == "timeout"


def test_a_broken_clock_cannot_arm():
    guard = Guard(GuardConfig(), LIMIT, DT)
    assert not guard.arm(math.nan)[0] and guard.state is GuardState.DISARMED


@pytest.mark.parametrize("limit, dt", [(1.0, 0.05), ([0.0], 0.05), ([math.inf], 0.05), ([1.0], 0.0), ([1.0], math.nan)])
def test_bad_limits_are_refused(limit, dt):
    with pytest.raises(ConfigError, match=r"effort_limit|dt"):
        Guard(GuardConfig(), np.array(limit), dt)


def test_bad_settings_are_refused():
    for bad in ({"timeout": 0.0}, {"rate_limit": 0.0}, {"invalid_limit": 0}, {"stale_after": math.nan}):
        with pytest.raises(ConfigError):
            GuardConfig(**bad)


anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
efforts = st.lists(anything | st.floats(-15, 15), min_size=1, max_size=3) | st.lists(
    st.floats(-15, 15), min_size=2, max_size=2
)
times = st.none() | st.floats(0.0, 1.0) | anything
calls = st.one_of(
    st.tuples(st.just("command"), times, st.floats(0.0, 1.0) | anything, efforts),
    st.tuples(st.just("command"), st.floats(0.0, 0.05), st.floats(0.0, 0.1), efforts),
    st.tuples(st.just("tick"), times),
    st.tuples(st.just("arm"), times),
    st.tuples(st.just("disarm")),
    st.tuples(st.just("stop"), st.just("why")),
    st.tuples(st.just("reset")),
)


@settings(max_examples=2000, deadline=None)
@given(
    sequence=st.lists(calls, max_size=25),
    rate_limit=st.sampled_from([0.3, 2.0]),
    invalid_limit=st.sampled_from([1, 4]),
    start_armed=st.booleans(),
)
def test_invariants_hold_for_every_sequence_of_calls(sequence, rate_limit, invalid_limit, start_armed):
    guard = Guard(GuardConfig(rate_limit=rate_limit, invalid_limit=invalid_limit), LIMIT, DT)
    if start_armed:
        guard.arm(0.0)
    previous, decisions = np.zeros(2), 0
    for name, *arguments in sequence:
        before = guard.state
        result = getattr(guard, name)(*arguments)
        assert guard.state in allowed_next(before, name)
        if name in ("arm", "reset") or result is None:
            continue
        decisions += 1
        assert result.effort.shape == (2,) and np.all(np.isfinite(result.effort))
        assert np.all(np.abs(result.effort) <= LIMIT)
        passes = result.flag in ("ok", "limited", "late")
        assert passes == (result.reason == "") or result.flag in ("limited", "late")
        if not passes:
            assert not np.any(result.effort)
        else:
            assert name == "command" and before is GuardState.ARMED
            assert np.all(np.abs(result.effort - previous) <= rate_limit * LIMIT * (1 + 1e-12))
        if result.flag == "ok":
            np.testing.assert_array_equal(result.effort, arguments[2])
        previous = result.effort
    assert set(guard.counts) == set(FLAGS) and sum(guard.counts.values()) == decisions


def allowed_next(state: GuardState, call: str) -> set[GuardState]:
    """The diagram of the module's first lines, written down independently."""
    if call == "stop":
        return {GuardState.STOPPED}
    if state is GuardState.STOPPED:
        return {GuardState.DISARMED} if call == "reset" else {GuardState.STOPPED}
    if call == "arm":
        return {GuardState.ARMED, state}
    if call == "disarm":
        return {GuardState.DISARMED}
    return {state, GuardState.STOPPED} if call == "command" and state is GuardState.ARMED else {state}


@settings(max_examples=1000, deadline=None)
@given(
    gaps=st.lists(st.floats(0.001, 0.3), min_size=1, max_size=15),
    timeout=st.floats(1.0, 4.0),
    tick_period=st.floats(0.005, 0.05),
)
def test_watchdog_never_lets_silence_pass_and_never_barks_early(gaps, timeout, tick_period):
    """Commands at random gaps, ticks at a fixed period: actuators hold an effort at most timeout + one tick."""
    guard = armed(0.0, timeout=timeout)
    command_times, now, last = list(np.cumsum(gaps)), 0.0, 0.0
    for i in range(int(command_times[-1] / tick_period) + 1):
        now = i * tick_period
        while command_times and command_times[0] <= now:
            last = command_times.pop(0)
            assert guard.command(last, last, UNIT).flag == "ok"
        silent = (now - last) / DT
        if abs(silent - timeout) > 1e-9:
            assert (guard.tick(now) is not None) == (silent > timeout)
