"""Stamps of timer-made observations."""

import numpy as np

from mbrl_ros.estimation.output_clock import OutputClock

PERIOD = 10_000_000


def test_jitter_leaves_no_mark_on_the_stamps():
    rng, clock = np.random.default_rng(0), OutputClock(PERIOD)
    firings = 1_763_000_000_000_000_000 + PERIOD * np.arange(1000) + rng.integers(0, PERIOD // 3, 1000)
    stamps = [clock.stamp(int(now)) for now in firings]
    assert set(np.diff(stamps)) == {PERIOD}
    assert np.abs(np.array(stamps) - firings).max() < PERIOD / 2


def test_missed_periods_are_left_out_and_doubled_ones_give_none():
    clock = OutputClock(PERIOD)
    assert [clock.stamp(PERIOD * k) for k in (5, 8, 8)] == [5 * PERIOD, 8 * PERIOD, None]
    assert clock.stamp(round(8.4 * PERIOD)) is None


def test_a_clock_that_jumps_starts_a_new_grid():
    for jump in (-(10**12) + 7, 10**12 + 7):
        clock = OutputClock(PERIOD)
        clock.stamp(10**13)
        assert clock.stamp(10**13 + jump) == 10**13 + jump
        assert clock.stamp(10**13 + jump + PERIOD + 5) == 10**13 + jump + PERIOD
