"""Stamps of timer-made observations."""

import numpy as np
import pytest

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


# in step with a sensor

SENSING = 4_000_000


def ages_of(sensor_period, phase, rng, firings=400, jitter=0.02, drift=0.0):
    """Ages of the newest measurement, in periods, and intervals between stamps, of a timer beside a sensor.

    Args:
        sensor_period: in periods of the timer.
        phase: of the sensor's first measurement, in periods.
        rng: of the jitter.
        firings: of the timer.
        jitter: of arrivals and firings, in periods; a firing waits for the one before.
        drift: by which the sensor is slow.
    """
    clock, count = OutputClock(PERIOD, SENSING), round(1.05 * (firings + 20) / sensor_period)
    stamps = ((phase + sensor_period * (1.0 + drift) * np.arange(count)) * PERIOD).astype(int) + 10**12
    arrivals = stamps + SENSING + (PERIOD * (0.05 + jitter * rng.random(count))).astype(int)
    now, newest, ages, grid = 10**12 + 3 * PERIOD, 0, [], []
    for _ in range(firings):
        while newest + 1 < count and arrivals[newest + 1] <= now:
            newest += 1
            clock.arrived(int(stamps[newest]), int(arrivals[newest]))
        stamp = clock.stamp(now)
        if stamp is not None:
            ages.append((stamp - stamps[newest]) / PERIOD)
            grid.append(stamp)
            clock.used(int(stamp - stamps[newest]))
        late = int(PERIOD * jitter * rng.random())
        now += clock.wait_ns(now) + late
    return np.array(ages), np.diff(grid) / PERIOD


@pytest.mark.parametrize("sensor_period", [1.0, 0.5, 1 / 3])
@pytest.mark.parametrize("phase", np.linspace(0.0, 0.95, 20))
def test_the_timer_comes_into_step_with_a_sensor(phase, sensor_period):
    ages, intervals = ages_of(sensor_period, phase, np.random.default_rng(round(100 * phase)))
    assert ages[60:].min() > 0.05 and ages[60:].max() < 0.35, "just arrived, and none was missed"
    assert np.all(intervals[60:] == 1.0)
    assert intervals.min() >= 1.0 and intervals.max() <= 1.3, "never sooner, never a whole observation left out"


@pytest.mark.parametrize("sensor_period", [0.05, 0.2, 0.4, 0.77, 1.3])
def test_with_sensors_of_other_rates_the_grid_stays(sensor_period):
    for phase in (0.0, 0.3, 0.7):
        assert np.all(ages_of(sensor_period, phase, np.random.default_rng(1))[1] == 1.0)


@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_it_stays_in_step_with_a_sensor_whose_clock_runs_otherwise(drift):
    ages, intervals = ages_of(1.0, 0.5, np.random.default_rng(2), firings=10_000, drift=drift)
    assert np.mean(ages[60:] < 0.45) > 0.99 and ages[60:].max() < 1.0
    assert 1 < np.sum(intervals != 1.0) < 40, "the sensor slides by a period; each tenth of one costs up to three"
