"""Late measurements: any order of arrival gives what the order of the stamps gives, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.joint_filter import JointFilter
from mbrl_ros.estimation.replay import CAPACITY, Replay

WINDOW = 0.3


def replay(window=WINDOW, restart=3, **config):
    return Replay(JointFilter(FilterConfig(max_gap=1.0, **config), 2, 0.01, 0.02), window, restart)


def motion(seed, count=25):
    """Stamps, sources and measurements (2, 2) of two sensors; some share a stamp, some are outliers or missing."""
    rng = np.random.default_rng(seed)
    stamps = np.repeat(np.cumsum(rng.uniform(0.01, 0.05, count)), 2)
    z = rng.normal(0, 0.01, (2 * count, 2, 2)) + np.sin(stamps)[:, None, None]
    z[rng.random(z.shape) < 0.2] = np.nan
    z[rng.random(len(z)) < 0.1] += 50.0
    return [(float(s), f"sensor {i % 2}", z[i]) for i, s in enumerate(stamps)]


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("position", "velocity", "covariance", "valid", "reason", "bridged")
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), delays=st.lists(st.floats(0.0, 0.99 * WINDOW), min_size=50, max_size=50))
def test_any_order_of_arrival_within_the_window_gives_the_same_bits(seed, delays):
    measurements = motion(seed)
    in_order, shuffled = replay(), replay()
    for measurement in measurements:
        assert in_order.measure(*measurement) == ""
    for i in np.argsort([m[0] + d for m, d in zip(measurements, delays, strict=True)]):
        assert shuffled.measure(*measurements[i]) == ""
    assert same(in_order.result, shuffled.result)
    stamp = in_order.newest + 0.1
    assert same(in_order.at(stamp), shuffled.at(stamp))


def test_a_late_measurement_changes_the_estimate_at_its_own_stamp():
    late, ignorant = replay(acceleration_density=1.0), replay(acceleration_density=1.0)
    for filter_ in (late, ignorant):
        for k in range(5):
            filter_.measure(0.05 * k, "a", np.full((2, 2), [0.0, np.nan]))
    assert late.measure(0.13, "b", np.full((2, 2), [0.02, np.nan])) == ""
    assert late.newest == 0.2
    assert (late.result.position > ignorant.result.position + 1e-3).all()
    assert late.at(0.12).position == pytest.approx(ignorant.at(0.12).position, abs=0), "what came before stays"


@pytest.mark.parametrize("window", [0.05, 0.5])
def test_the_window_decides_what_is_too_old(window):
    filter_ = replay(window)
    filter_.measure(10.0, "a", np.zeros((2, 2)))
    assert filter_.measure(10.0 - 0.9 * window, "b", np.zeros((2, 2))) == ""
    problem = filter_.measure(10.0 - 1.1 * window, "b", np.ones((2, 2)))
    assert f"late_window is {window:g} s" in problem and "older than the newest" in problem
    assert (filter_.result.position == 0).all()


@pytest.mark.parametrize("stamp", [math.nan, math.inf, -math.inf, 1e308, -1e12])
def test_what_is_no_time_is_refused(stamp):
    filter_ = replay()
    for _ in range(10):
        assert "is no time" in filter_.measure(stamp, "a", np.zeros((2, 2)))
    assert filter_.newest == -math.inf and not filter_.at(0.0).valid


def test_a_second_measurement_of_a_stamp_is_refused_unless_it_is_of_another_source():
    filter_ = replay()
    assert filter_.measure(1.0, "a", np.zeros((2, 2))) == ""
    assert "second measurement" in filter_.measure(1.0, "a", np.ones((2, 2)))
    assert filter_.measure(1.0, "b", np.full((2, 2), 0.01)) == ""
    assert 0 < filter_.result.position[0] < 0.01, "the mean of both"


@pytest.mark.parametrize("restart", [2, 4])
def test_a_clock_set_back_is_believed_after_some_stamps_in_a_row(restart):
    filter_ = replay(restart=restart)
    filter_.measure(100.0, "a", np.zeros((2, 2)))
    problems = [filter_.measure(10.0 + 0.05 * k, "a", np.ones((2, 2))) for k in range(restart)]
    assert [p == "" for p in problems] == [False] * (restart - 1) + [True]
    assert filter_.newest == pytest.approx(10.0 + 0.05 * (restart - 1))
    np.testing.assert_array_equal(filter_.result.position, 1.0)


def test_one_source_with_a_clock_that_is_behind_does_not_set_back_the_others():
    filter_ = replay()
    for k in range(20):
        assert filter_.measure(100.0 + 0.05 * k, "good", np.zeros((2, 2))) == ""
        assert "do the clocks agree?" in filter_.measure(10.0 + 0.05 * k, "behind", np.ones((2, 2)))
    assert filter_.result.valid and (filter_.result.position == 0).all()


def test_a_flood_is_bounded_and_what_lies_behind_the_kept_ones_is_refused():
    filter_ = replay(window=10.0)
    for k in range(CAPACITY + 50):
        filter_.measure(1e-4 * (k + 1), "a", np.zeros((2, 2)))
    assert len(filter_._entries) == CAPACITY
    assert "older than the newest" in filter_.measure(1e-4, "b", np.ones((2, 2)))


def test_asking_for_a_stamp_changes_nothing_and_uses_only_what_was_measured_up_to_it():
    filter_, untouched = replay(), replay()
    measurements = motion(3)[:20]
    for i, measurement in enumerate(measurements):
        filter_.measure(*measurement)
        untouched.measure(*measurement)
        filter_.at(measurement[0] - 0.1)
        filter_.at(measurement[0] + 5.0)
        assert same(filter_.result, untouched.result), i
    before = replay()
    cut = measurements[12][0]
    for measurement in measurements:
        if measurement[0] <= cut:
            before.measure(*measurement)
    assert np.array_equal(filter_.at(cut + 1e-4).position, before.at(cut + 1e-4).position)
