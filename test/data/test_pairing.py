"""Transitions are paired by stamp, whatever order the two streams arrive in."""

import itertools

import numpy as np
import pytest

from mbrl_ros.data.pairing import KEPT, TransitionPairer

DT = 50_000_000


def feed(pairer, events):
    pairs = []
    for kind, k, flag in events:
        value = np.array([float(k)])
        pairs += pairer.observe(k * DT, value) if kind == "x" else pairer.apply(k * DT, value, flag)
    return [(p.stamp_ns // DT, p.x[0], p.u[0], p.x_next[0], p.trajectory) for p in pairs]


def stream(ticks, flag="ok"):
    return [event for k in ticks for event in (("x", k, ""), ("u", k, flag))]


def test_a_clean_stream_gives_every_transition_once():
    assert feed(TransitionPairer(DT, 7), stream(range(4))) == [(k, k, k, k + 1, 7) for k in range(3)]


def test_a_reset_gap_is_never_paired_and_begins_a_trajectory():
    pairs = feed(TransitionPairer(DT, 0), stream([0, 1, 2, 20, 21]))
    assert pairs == [(0, 0, 0, 1, 0), (1, 1, 1, 2, 0), (20, 20, 20, 21, 1)]


@pytest.mark.parametrize("flag", ["late", "stale", "timeout", "invalid", "disarmed", "stopped", ""])
def test_a_command_that_did_not_act_for_its_whole_period_is_left_out(flag):
    events = [*stream([0]), ("x", 1, ""), ("u", 1, flag), *stream([2, 3])]
    assert feed(TransitionPairer(DT, 0), events) == [(0, 0, 0, 1, 0), (2, 2, 2, 3, 1)]


@pytest.mark.parametrize("flag", ["limited", "plan", "hold"])
def test_what_the_guard_changed_counts_as_what_was_sent(flag):
    assert len(feed(TransitionPairer(DT, 0), stream(range(3), flag))) == 2


@pytest.mark.parametrize("ended_after, learned", [(0.5, False), (0.99, False), (1.0, True)])
def test_a_command_that_the_guard_ended_before_its_period_was_over_is_left_out(ended_after, learned):
    pairer = TransitionPairer(DT, 0)
    pairer.observe(0, np.zeros(1))
    pairer.apply(0, np.ones(1), "ok")
    pairer.apply(round(ended_after * DT), np.zeros(1), "stopped")
    assert bool(pairer.observe(DT, np.zeros(1))) == learned


def test_the_flag_goes_with_the_transition():
    pairer = TransitionPairer(DT, 0)
    events = [("x", 0, ""), ("u", 0, "limited"), ("x", 1, ""), ("u", 1, "ok"), ("x", 2, "")]
    pairs = [
        p
        for kind, k, flag in events
        for p in (pairer.observe(k * DT, np.zeros(1)) if kind == "x" else pairer.apply(k * DT, np.zeros(1), flag))
    ]
    assert [p.flag for p in pairs] == ["limited", "ok"]


def test_a_command_that_is_not_finite_is_left_out():
    pairer = TransitionPairer(DT, 0)
    pairer.observe(0, np.zeros(1))
    pairer.apply(0, np.array([np.nan]), "ok")
    assert pairer.observe(DT, np.zeros(1)) == []


def test_every_order_within_a_period_gives_the_same_transitions():
    events = [("x", 0, ""), ("u", 0, "ok"), ("x", 1, "")]
    for order in itertools.permutations(events):
        assert feed(TransitionPairer(DT, 0), order) == [(0, 0, 0, 1, 0)]


def test_a_duplicate_gives_nothing_new():
    pairer = TransitionPairer(DT, 0)
    feed(pairer, stream(range(3)))
    assert feed(pairer, [("x", 1, ""), ("u", 1, "ok"), ("x", 2, "")]) == []


def test_memory_is_bounded():
    pairer = TransitionPairer(DT, 0)
    feed(pairer, stream(range(5 * KEPT)))
    assert len(pairer._observed) <= KEPT
    assert len(pairer._applied) <= KEPT


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_costs_a_few_periods_and_nothing_is_paired_across(hours):
    step = hours * 72_000
    pairs = feed(TransitionPairer(DT, 0), stream([*range(200, 210), *range(step + 211, step + 221)]))
    before, after = [p for p in pairs if p[4] == 0], [p for p in pairs if p[4] == 1]
    assert [p[0] for p in before] == list(range(200, 209)) and len(before) + len(after) == len(pairs)
    assert [p[0] for p in after] == list(range(step + (211 if hours > 0 else 213), step + 220))


def test_a_single_old_observation_changes_nothing():
    pairs = feed(TransitionPairer(DT, 0), [*stream([1000, 1001]), ("x", 3, ""), ("x", 4, ""), *stream([1002, 1003])])
    assert [(p[0], p[4]) for p in pairs] == [(1000, 0), (1001, 0), (1002, 0)]
