"""The guard: fixed scenarios for each rule. Random messages: test_random_messages.py."""

import numpy as np
import pytest
from guard_cases import DT, UNIT, armed, at, make, ns

from mbrl_ros.errors import ConfigError
from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.decision import FLAGS, GuardState
from mbrl_ros.safety.guard import Guard, GuardConfig

ZERO = np.zeros(2)


def flag_of(guard: Guard, now: float, stamp: float, command=UNIT) -> str:
    return guard.command(at(now), ns(stamp), command).flag


# commands


def test_starts_disarmed_and_leaves_the_actuators_alone():
    guard = make()
    decision = guard.command(at(0.0), ns(0.0), UNIT)
    assert decision.flag == "disarmed" and decision.reason == "not armed" and not decision.to_actuators
    np.testing.assert_array_equal(decision.command, ZERO)
    assert guard.tick(at(100.0)) is None


def test_passes_a_command_unchanged_with_its_sign_and_stamp():
    decision = armed().command(at(0.0), ns(0.05), [-3.0, 1.5])
    assert (decision.flag, decision.reason, decision.to_actuators) == ("ok", "", True)
    np.testing.assert_array_equal(decision.command, [-3.0, 1.5])
    assert decision.stamp_ns == ns(0.05)


def test_a_command_is_cut_to_each_limit_with_its_sign_and_counted():
    guard = armed()
    decision = guard.command(at(0.0), ns(0.0), [-1e300, 3.0])
    assert decision.flag == "limited" and "effort limit" in decision.reason
    np.testing.assert_array_equal(decision.command, [-10.0, 2.0])
    assert guard.figures["cut_to_range"] == 1 and guard.figures["cut_by_rate"] == 0


def test_rate_makes_a_ramp_from_what_was_sent_and_the_safe_action_knows_no_ramp():
    guard = armed(rate=50.0)
    sent = [guard.command(at(k * DT), ns(k * DT), [10.0, -2.0]).command for k in range(5)]
    np.testing.assert_allclose(np.array(sent)[:, 0], [2.5, 5.0, 7.5, 10.0, 10.0])
    np.testing.assert_allclose(np.array(sent)[:, 1], [-2.0] * 5)
    assert (guard.counts["limited"], guard.counts["ok"], guard.figures["cut_by_rate"]) == (3, 2, 3)
    np.testing.assert_array_equal(guard.stop(at(0.3), "test").command, ZERO)
    guard.reset()
    guard.arm(at(0.3))
    np.testing.assert_allclose(guard.command(at(0.3), ns(0.3), [10.0, 0.0]).command, [2.5, 0.0], err_msg="from zero")


def test_commands_at_ten_times_the_rate_do_not_change_faster():
    guard = armed(rate=50.0)
    sent = [guard.command(at(k * DT / 10), ns(k * DT / 10), [10.0, 0.0]).command[0] for k in range(11)]
    np.testing.assert_allclose(np.diff(sent), 0.25)


def test_a_caller_cannot_change_what_the_guard_remembers():
    guard = armed(rate=20.0)
    guard.command(at(0.0), ns(0.0), [1.0, 0.0]).command[:] = 9.0
    np.testing.assert_allclose(guard.command(at(DT), ns(DT), [10.0, 0.0]).command, [2.0, 0.0])


@pytest.mark.parametrize(
    "age, flag", [(-3.01, "stale"), (-2.99, "ok"), (0.0, "ok"), (0.05, "late"), (2.99, "late"), (3.01, "stale")]
)
def test_age_of_a_command(age, flag):
    decision = armed(at(100.0)).command(at(100.0), ns(100.0 - age * DT), UNIT)
    assert decision.flag == flag
    np.testing.assert_array_equal(decision.command, UNIT if flag in ("ok", "late") else ZERO)


def test_late_tolerance_and_stale_after_change_the_verdict():
    assert flag_of(armed(late_tolerance=0.2), 1.0, 1.0 - 0.1 * DT) == "ok"
    assert flag_of(armed(late_tolerance=-0.2), 1.0, 1.0 + 0.1 * DT) == "late"
    assert flag_of(armed(stale_after=6.0), 1.0, 1.0 - 5 * DT) == "late"
    assert flag_of(armed(stale_after=1.0), 1.0, 1.0 + 2 * DT) == "stale"


def test_a_late_command_is_cut_to_the_limits_too():
    decision = armed().command(at(0.1), ns(0.05), [99.0, 0.0])
    assert decision.flag == "late"
    np.testing.assert_array_equal(decision.command, [10.0, 0.0])


def test_copies_and_old_commands_are_ignored_and_do_not_feed_the_watchdog():
    guard = armed()
    assert flag_of(guard, 0.0, 0.05) == "ok"
    assert guard.command(at(0.04), ns(0.05), 2 * UNIT) is None
    assert guard.command(at(0.09), ns(0.0), 2 * UNIT) is None
    assert guard.figures["ignored"] == 2
    assert guard.tick(at(0.11)).flag == "timeout"


# silence


@pytest.mark.parametrize("timeout", [1.0, 2.0, 5.0])
def test_watchdog_acts_after_the_stated_periods_and_not_before(timeout):
    guard = armed(timeout=timeout)
    guard.command(at(1.0), ns(1.0), UNIT)
    assert guard.tick(at(1.0 + (timeout - 0.01) * DT)) is None
    decision = guard.tick(at(1.0 + (timeout + 0.01) * DT))
    assert decision.flag == "timeout" and "periods" in decision.reason and guard.reason == decision.reason
    assert decision.stamp_ns == ns(1.0 + (timeout + 0.01) * DT), "it acts at once"
    np.testing.assert_array_equal(decision.command, ZERO)
    assert guard.tick(at(9.0)).flag == "timeout", "repeated while silent"
    assert flag_of(guard, 9.0, 9.0) == "ok", "the controller may come back"
    assert guard.tick(at(9.0)) is None


def test_watchdog_counts_from_arming():
    guard = armed(at(50.0))
    assert guard.tick(at(50.0 + 1.9 * DT)) is None
    assert guard.tick(at(50.0 + 2.1 * DT)).flag == "timeout"


@pytest.mark.parametrize("bad", ["stale", "invalid"])
def test_refused_commands_do_not_feed_the_watchdog(bad):
    guard = armed(invalid_limit=100)
    for now in (0.05, 0.09):
        stamp, command = (now - 1.0, UNIT) if bad == "stale" else (now, [np.nan, 0.0])
        assert guard.command(at(now), ns(stamp), command).flag == bad
    assert guard.tick(at(0.11)).flag == "timeout"


@pytest.mark.parametrize("step", [-1000.0, 1000.0])
def test_a_step_of_wall_time_is_no_silence_but_old_stamps_are_stale_with_a_reason(step):
    guard = armed(at(100.0), plan_periods=5)
    guard.plan(at(100.0), ns(100.0), [UNIT] * 9)
    assert flag_of(guard, 100.0, 100.0) == "ok"
    assert guard.tick(at(100.04, step)) is None, "silence is measured by the monotonic clock"
    decision = guard.command(at(100.05, step), ns(100.05), UNIT)
    assert decision.flag == "stale" and "do the clocks agree?" in decision.reason
    np.testing.assert_array_equal(decision.command, ZERO, "a plan of the old time is not used")
    assert guard.command(at(100.06, step), ns(100.05 + step), UNIT).flag == "late", (
        "new stamps pass, whatever the order"
    )
    assert guard.figures["clock_steps"] == 1


def test_lockstep_needs_no_clock():
    guard = armed(None, late_tolerance=-1.0)
    assert guard.command(None, -(10**18), UNIT).flag == "ok"
    assert guard.tick(None) is None
    assert guard.stop(None, "x").flag == "stopped"
    assert guard.tick(None) is None, "in lockstep every decision answers a command"
    assert guard.command(None, 0, UNIT).flag == "stopped"


def test_watchdog_armed_without_clock_starts_with_the_first_tick():
    guard = armed(None)
    assert guard.tick(at(70.0)) is None
    assert guard.tick(at(70.0 + 3 * DT)).flag == "timeout"


@pytest.mark.parametrize("timeout, silent", [(0.0, False), (2.0, True)])
def test_the_observation_may_not_fall_silent_either_where_that_is_wanted(timeout, silent):
    guard = make(observation_timeout=timeout)
    guard.observe(at(0.0), ns(0.0), ZERO, ZERO)
    assert guard.arm(at(0.0))[0]
    flags = [flag_of(guard, k * DT, k * DT) for k in range(5)]
    assert flags == ["ok"] * 3 + ["timeout" if silent else "ok"] * 2
    assert (guard.tick(at(4 * DT)) is not None) == silent


def test_a_predicted_observation_does_not_end_the_silence_of_the_sensors():
    """The estimator bridges a while; the state it predicts still counts against the limits."""
    guard = make(observation_timeout=2.0, state_action="safe")
    guard.observe(at(0.0), ns(0.0), ZERO, ZERO)
    assert guard.arm(at(0.0))[0]
    for k in range(1, 5):
        guard.observe(at(k * DT), ns(k * DT), ZERO, ZERO, measured=False)
        assert flag_of(guard, k * DT, k * DT) == ("ok" if k <= 2 else "timeout"), k
    assert "measured observation" in guard.reason
    guard.observe(at(5 * DT), ns(5 * DT), ZERO, ZERO)
    assert flag_of(guard, 5 * DT, 5 * DT) == "ok"
    assert guard.observe(at(6 * DT), ns(6 * DT), [9.0, 0.0], ZERO, measured=False).flag == "state"


# what is no command


@pytest.mark.parametrize(
    "command", [[np.nan, 0], [0, np.inf], [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [], None, "zero", 1.0, [[1], 2], {}]
)
def test_what_is_no_command_is_refused(command):
    decision = armed().command(at(0.0), ns(0.0), command)
    assert decision.flag == "invalid" and "2 finite number" in decision.reason
    np.testing.assert_array_equal(decision.command, ZERO)


@pytest.mark.parametrize("limit", [1, 3])
def test_invalid_commands_in_a_row_latch_a_stop(limit):
    guard = armed(invalid_limit=limit)
    for i in range(limit):
        assert guard.state is GuardState.ARMED
        assert flag_of(guard, 0.0, 0.0, [np.nan] * 2) == "invalid", i
    assert guard.state is GuardState.STOPPED
    assert "invalid commands in a row" in guard.command(at(0.0), ns(0.0), UNIT).reason


def test_a_valid_command_between_invalid_ones_breaks_the_row():
    guard = armed(invalid_limit=2)
    for k in range(5):
        assert flag_of(guard, k * DT, k * DT, []) == "invalid"
        assert flag_of(guard, k * DT, k * DT) == "ok"
    assert guard.state is GuardState.ARMED


# the ladder


def fail_for(guard: Guard, periods: int) -> list[tuple[str, float]]:
    """Silence from the last command at 0 s on; flag and first command of each decision, four ticks a period."""
    decisions = [guard.tick(at(k * DT / 4)) for k in range(1, 4 * periods)]
    return [(d.flag, d.command[0]) for d in decisions if d is not None]


def test_a_step_of_wall_time_back_into_the_plan_drops_it():
    """Its stamps lie ahead then, and each of its actions would come late by the step."""
    guard = armed(timeout=1.0, plan_periods=5)
    guard.plan(at(0.0), ns(0.0), [UNIT] * 9)
    assert flag_of(guard, 0.0, 0.0) == "ok"
    assert guard.tick(at(0.5 * DT, -2 * DT)) is None and guard.figures["clock_steps"] == 1
    decisions = [guard.tick(at(k * DT / 4, -2 * DT)) for k in range(5, 24)]
    assert {d.flag for d in decisions if d} == {"timeout"}


def test_the_ladder_plan_hold_safe_action_disarm():
    guard = armed(timeout=1.0, plan_periods=2, hold_periods=2, disarm_after=6, rate=1000.0)
    guard.plan(at(0.0), ns(0.0), [[k + 1.0, 0.0] for k in range(9)])
    assert guard.command(at(0.0), ns(0.0), [1.0, 0.0]).flag == "ok"
    said = fail_for(guard, 12)
    # silent from 1.25 periods on; the tick 2 has the plan's third action, one decision a period
    assert said[:4] == [("plan", 3.0), ("plan", 4.0), ("hold", 4.0), ("hold", 4.0)]
    assert {entry for entry in said[4:-1]} == {("timeout", 0.0)}
    assert said[-1] == ("disarmed", 0.0) and guard.state is GuardState.DISARMED
    assert "disarmed: no command for" in guard.reason and "for 6.0 periods now" in guard.reason
    assert guard.figures["interventions"] == len(said) - 1


def test_each_rung_says_what_is_sent_and_why_at_the_stamp_of_its_control_period():
    guard = armed(timeout=1.0, plan_periods=1, hold_periods=1)
    guard.plan(at(0.0), ns(0.0), [UNIT] * 9)
    guard.command(at(0.0), ns(0.0), UNIT)
    plan = guard.tick(at(1.3 * DT))
    assert "the last plan goes on: no command for 1.3 periods" in plan.reason and plan.stamp_ns == ns(2 * DT)
    hold = guard.tick(at(2.5 * DT))
    assert "the last command is held" in hold.reason and hold.stamp_ns == ns(3 * DT)


def test_where_commands_need_periods_to_act_so_do_the_rungs():
    """A dead time of 4 periods: the next control period that can still have its command is 4 ahead."""
    guard = armed(timeout=1.0, hold_periods=3, late_tolerance=0.2 - 4.0, stale_after=7.0)
    assert guard.command(at(0.0), ns(4.04 * DT), UNIT).flag == "ok"
    hold = guard.tick(at(1.1 * DT))
    assert (hold.flag, hold.stamp_ns) == ("hold", ns(5.04 * DT))
    assert guard.tick(at(1.2 * DT)) is None, "that period has its command now"
    assert guard.tick(at(2.1 * DT)).stamp_ns == ns(6.04 * DT)


def test_rungs_are_off_by_default():
    guard = armed()
    guard.plan(at(0.0), ns(0.0), [UNIT] * 9)
    guard.command(at(0.0), ns(0.0), UNIT)
    assert {flag for flag, _ in fail_for(guard, 30)} == {"timeout"} and guard.state is GuardState.ARMED


@pytest.mark.parametrize("bad", ["stale", "invalid"])
def test_a_bad_command_goes_down_the_ladder_too(bad):
    guard = armed(plan_periods=1, rate=20.0)
    guard.plan(at(0.0), ns(0.0), [[8.0, 0.0]] * 9)
    guard.command(at(0.0), ns(0.0), [1.0, 0.0])
    stamp, command = (-1.0, UNIT) if bad == "stale" else (DT, [np.nan, 0.0])
    decision = guard.command(at(0.7 * DT), ns(stamp), command)
    assert decision.flag == "plan" and decision.stamp_ns == ns(DT)
    np.testing.assert_allclose(decision.command, [2.0, 0.0], err_msg="the plan keeps to the rate, too")
    np.testing.assert_array_equal(
        guard.command(at(2 * DT), ns(stamp if bad == "stale" else 2 * DT), command).command, ZERO
    )


def test_a_controller_that_comes_back_starts_the_ladder_anew():
    guard = armed(hold_periods=2)
    guard.command(at(0.0), ns(0.0), UNIT)
    assert [flag for flag, _ in fail_for(guard, 6)].count("hold") == 2
    assert flag_of(guard, 6 * DT, 6 * DT) == "ok"
    assert guard.tick(at(8.1 * DT)).flag == "hold"


def test_in_lockstep_the_ladder_counts_by_stamps():
    guard = armed(None, plan_periods=1, hold_periods=1)
    guard.plan(None, 0, [UNIT, 2 * UNIT, UNIT])
    dt = round(1e9 * DT)
    assert guard.command(None, 0, UNIT).flag == "ok"
    decisions = [guard.command(None, k * dt, []) for k in (1, 2, 3)]
    assert [d.flag for d in decisions] == ["plan", "hold", "invalid"]
    np.testing.assert_array_equal(np.array([d.command[0] for d in decisions]), [2.0, 2.0, 0.0])


@pytest.mark.parametrize("age, taken", [(2.9, True), (3.1, False), (-3.1, False)])
def test_a_plan_of_another_time_is_not_taken(age, taken):
    assert armed().plan(at(1.0), ns(1.0 - age * DT), [UNIT] * 9) == taken


# the state


@pytest.mark.parametrize("action", ["none", "safe", "stop"])
@pytest.mark.parametrize("position, velocity", [([3.1, 0.0], ZERO), ([0.0, -3.1], ZERO), (ZERO, [0.0, -5.1])])
def test_a_state_beyond_a_limit_while_armed(action, position, velocity):
    guard = armed(state_action=action)
    decision = guard.observe(at(0.0), ns(0.0), position, velocity)
    if action == "none":
        assert decision is None and flag_of(guard, 0.0, 0.0) == "ok"
        return
    assert ("beyond -3 to 3" in decision.reason) != ("faster than 5" in decision.reason)
    np.testing.assert_array_equal(decision.command, ZERO)
    assert guard.state is (GuardState.STOPPED if action == "stop" else GuardState.ARMED)
    assert flag_of(guard, 0.0, 0.0) == guard.tick(at(0.0)).flag == decision.flag
    guard.observe(at(0.1), ns(0.1), ZERO, ZERO)
    assert flag_of(guard, 0.1, 0.1) == ("ok" if action == "safe" else "stopped")


def test_what_is_no_observation_is_ignored():
    guard = armed(state_action="stop")
    for position, velocity in (([np.nan, 9.0], ZERO), ([9.0], ZERO), ("x", None), ([9.0, 9.0], [np.inf, 0.0])):
        assert guard.observe(at(0.0), ns(0.0), position, velocity) is None
    assert guard.state is GuardState.ARMED and guard.heard.state is None


# position interface: hold


def position_guard(**config) -> Guard:
    guard = make("position", **config)
    guard.observe(at(0.0), ns(0.0), [1.0, -2.0], ZERO)
    assert guard.arm(at(0.0))[0]
    return guard


def test_a_position_is_held_where_it_was_when_the_intervention_began():
    guard = position_guard()
    assert flag_of(guard, 0.0, 0.0, [2.0, 2.0]) == "ok"
    guard.observe(at(0.1), ns(0.1), [1.5, -1.0], ZERO)
    np.testing.assert_array_equal(guard.tick(at(0.11)).command, [1.5, -1.0])
    guard.observe(at(0.12), ns(0.12), [1.4, -0.9], ZERO)
    np.testing.assert_array_equal(guard.tick(at(0.13)).command, [1.5, -1.0], "no creeping with what sags")
    assert flag_of(guard, 0.14, 0.14, [2.0, 2.0]) == "ok"
    np.testing.assert_array_equal(guard.stop(at(0.14), "x").command, [1.4, -0.9], "a new intervention, a new place")


def test_without_a_fresh_observation_the_last_command_is_held():
    guard = position_guard()
    guard.command(at(1.0), ns(1.0), [2.0, 2.0])
    np.testing.assert_array_equal(guard.stop(at(1.0), "x").command, [2.0, 2.0])


def test_position_commands_ramp_from_where_the_joints_are():
    guard = make("position", rate=2.0)
    guard.observe(at(0.0), ns(0.0), [1.0, -2.0], ZERO)
    guard.arm(at(0.0))
    np.testing.assert_allclose(guard.command(at(0.0), ns(0.0), [3.0, 3.0]).command, [1.1, -1.9])


def test_a_position_guard_that_does_not_know_where_the_joints_are_sends_nothing():
    guard = make("position")
    assert guard.stop(at(0.0), "x") is None and guard.tick(at(0.0)) is None
    guard.reset()
    assert guard.arm(at(0.0))[0]
    assert guard.command(at(0.0), ns(0.0), UNIT) is None, "no command either: it might be far from the joints"
    guard.observe(at(0.0), ns(0.0), [1.0, -2.0], ZERO)
    assert flag_of(guard, 0.01, 0.01) == "ok"


def test_what_was_held_before_others_moved_the_robot_is_forgotten():
    guard = position_guard()
    np.testing.assert_array_equal(guard.disarm(at(0.0)).command, [1.0, -2.0])
    assert guard.stop(at(60.0), "x") is None, "where the joints are now is not known"


# heartbeat, arming, stopping


def test_a_silent_heartbeat_disarms():
    guard = make(heartbeat_timeout=0.2)
    guard.heartbeat(at(0.0))
    assert guard.arm(at(0.0))[0] and flag_of(guard, 0.0, 0.0) == "ok"
    guard.heartbeat(at(0.15))
    for k in range(7):
        assert flag_of(guard, 0.05 + k * DT, 0.05 + k * DT) == "ok"
    decision = guard.tick(at(0.36))
    assert decision.flag == "heartbeat" and "no heartbeat for 0.21 s; allowed are 0.2 s" in decision.reason
    assert decision.to_actuators and guard.state is GuardState.DISARMED
    np.testing.assert_array_equal(decision.command, ZERO)
    assert guard.tick(at(0.4)) is None and flag_of(guard, 0.4, 0.4) == "disarmed"


def test_a_command_does_not_pass_a_silent_heartbeat_either():
    guard = make(heartbeat_timeout=0.2)
    guard.heartbeat(at(0.0))
    guard.arm(at(0.0))
    assert flag_of(guard, 0.3, 0.3) == "heartbeat" and flag_of(guard, 0.3, 0.35) == "disarmed"


def test_arming_is_refused_with_all_reasons_at_once():
    guard = make(heartbeat_timeout=0.2, observation_timeout=2.0, arm_commands=3, state_action="stop")
    armed_now, reason = guard.arm(at(0.0), ("nobody at effort_controller/commands",))
    assert not armed_now and reason.startswith("not armed: ")
    for part in ("nobody at", "no heartbeat yet", "no observation yet", "no good command yet"):
        assert part in reason
    guard.observe(at(0.0), ns(1.0), [4.0, 0.0], ZERO)
    guard.heartbeat(at(0.0))
    for k in range(2):
        guard.command(at(0.0), ns(k * DT), UNIT)
    armed_now, reason = guard.arm(at(0.01))
    assert not armed_now
    for part in ("stamp is 20.0 periods ahead; do the clocks agree?", "a at 4", "only 2 good commands in a row"):
        assert part in reason
    guard.observe(at(0.02), ns(0.02), ZERO, ZERO)
    guard.command(at(0.02), ns(0.1), UNIT)
    assert guard.arm(at(0.02)) == (True, "armed")


def test_a_bad_command_spoils_the_warm_up_and_is_named():
    guard = make(arm_commands=2)
    for k in range(4):
        guard.command(at(k * DT), ns(k * DT), UNIT)
    guard.command(at(0.2), ns(0.2), [np.nan, 0.0])
    assert "only 0 good commands in a row, expected 2 (the command is not 2 finite number(s))" in guard.arm(at(0.2))[1]
    assert "no good command for 17.0 periods" in guard.arm(at(1.0))[1]


def test_silence_after_a_good_start_prevents_arming():
    guard = make(observation_timeout=2.0, heartbeat_timeout=0.1)
    guard.observe(at(0.0), ns(0.0), ZERO, ZERO)
    guard.heartbeat(at(0.0))
    assert guard.obstacles(at(0.05)) == []
    assert len(guard.obstacles(at(0.2))) == 2 and not guard.arm(at(0.2))[0]
    guard.observe(at(0.2), ns(0.05), ZERO, ZERO)
    assert "3.0 periods old" in guard.obstacles(at(0.2))[0], "an old observation that comes in now is still old"


def test_stop_is_latched_keeps_its_first_reason_and_needs_reset():
    guard = armed()
    assert guard.stop(at(0.0), "emergency button").flag == "stopped"
    guard.stop(at(0.0), "another")
    guard.disarm(at(0.0))
    ok, reason = guard.arm(at(0.0))
    assert not ok and "emergency button" in reason and "reset" in reason
    assert flag_of(guard, 0.0, 0.0) == "stopped"
    assert "emergency button" in guard.tick(at(0.0)).reason, "repeated in case a message got lost"
    assert guard.reset()[0] and guard.state is GuardState.DISARMED
    assert not guard.reset()[0], "nothing to reset any more"
    assert flag_of(guard, 0.0, 0.0) == "disarmed"
    assert guard.arm(at(0.0)) == (True, "armed") and flag_of(guard, 0.0, 0.0) == "ok"


def test_stop_works_disarmed_and_disarm_sends_zero():
    guard = armed()
    guard.command(at(0.0), ns(0.0), UNIT)
    decision = guard.disarm(at(0.0))
    assert decision.flag == "disarmed" and decision.to_actuators
    np.testing.assert_array_equal(decision.command, ZERO)
    guard.stop(at(0.0), "x")
    assert guard.state is GuardState.STOPPED


def test_the_last_word_is_right_for_ever_and_none_where_others_have_the_actuators():
    guard = armed(safe_action="damp", damping=2.0)
    guard.observe(at(0.0), ns(0.0), ZERO, [1.0, -0.5])
    np.testing.assert_array_equal(guard.stop(at(0.0), "x").command, [-2.0, 1.0])
    np.testing.assert_array_equal(guard.farewell(at(0.0)).command, ZERO, "nobody would end the damping")
    assert guard.farewell(at(0.0)) is None


def test_arming_twice_does_not_feed_the_watchdog():
    guard = armed(at(0.0))
    assert guard.arm(at(1.0)) == (True, "already armed")
    assert guard.tick(at(1.0)).flag == "timeout"


def test_counts_have_every_flag():
    assert set(make().counts) == set(FLAGS)


@pytest.mark.parametrize("dt", [0.0, np.nan])
def test_bad_periods_are_refused(dt):
    guard = make()
    with pytest.raises(ConfigError, match="dt"):
        Guard(guard.config, guard.limits, guard.safe_action, dt)


@pytest.mark.parametrize(
    "bad",
    [
        {"timeout": 0.0},
        {"rate_limit": 0.0},
        {"invalid_limit": 0},
        {"stale_after": np.nan},
        {"state_action": "panic"},
        {"plan_periods": -1},
        {"command_rate": (-1.0,)},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        GuardConfig(**bad)


def test_moments_are_whole_nanoseconds():
    assert at(0.05) == Moment(50_000_000, ns(0.05))


def disarmed_and_armed(guard: Guard, now: float) -> Guard:
    guard.disarm(at(now))
    assert guard.arm(at(now))[0]
    return guard


def test_arming_again_forgets_the_invalid_commands_of_before():
    guard = armed(invalid_limit=3)
    for k in range(2):
        assert flag_of(guard, k * DT, k * DT, [np.nan, 0.0]) == "invalid"
    disarmed_and_armed(guard, 2 * DT)
    assert flag_of(guard, 2 * DT, 2 * DT, []) == "invalid" and guard.state is GuardState.ARMED


def test_arming_again_forgets_which_periods_had_their_command():
    guard = armed()
    assert flag_of(guard, 0.0, 2 * DT) == "ok"
    assert guard.command(at(0.5 * DT), ns(DT), UNIT) is None, "older than one that was sent"
    assert flag_of(disarmed_and_armed(guard, 0.5 * DT), 0.5 * DT, DT) == "ok"


def test_arming_again_forgets_the_plan():
    guard = armed(timeout=1.0, plan_periods=5)
    guard.plan(at(0.0), ns(0.0), [UNIT] * 9)
    assert flag_of(guard, 0.0, 0.0) == "ok"
    disarmed_and_armed(guard, 0.5 * DT)
    assert guard.tick(at(2 * DT)).flag == "timeout", "nobody has planned since"


def test_stamps_that_begin_anew_in_lockstep_give_the_ladder_no_more_time():
    guard, dt = armed(None, hold_periods=2, invalid_limit=100), round(1e9 * DT)
    guard.command(None, 9 * dt, UNIT)
    assert [guard.command(None, k * dt, []).flag for k in (10, 0, 1, 2, 3)] == ["hold"] * 3 + ["invalid"] * 2


def test_an_observation_from_beyond_now_counts_as_silence():
    guard = make(observation_timeout=2.0)
    guard.observe(at(10.0), ns(10.0), ZERO, ZERO)
    armed_now, why = guard.arm(at(1.0))
    assert not armed_now and "the last measured observation is 180.0 periods old" in why
