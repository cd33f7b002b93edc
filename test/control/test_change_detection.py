"""Alarms come soon after a change and not without one."""

import numpy as np
import pytest

from mbrl_ros.control.change_detection import ChangeConfig, ChangeDetector


def alarm(detector, errors):
    """Periods until the alarm, None without one."""
    return next((k for k, z in enumerate(errors) if detector.update(z)), None)


def gaussian(count, std=1.0, seed=0):
    return std * np.random.default_rng(seed).standard_normal((count, 2))


@pytest.mark.parametrize("belief", [0.3, 1.0, 3.0])
def test_no_alarm_without_a_change_whatever_the_model_believes(belief):
    """20 runs of 500 periods by a model whose standard deviations are wrong by a factor."""
    for seed in range(20):
        assert alarm(ChangeDetector(ChangeConfig()), gaussian(500, belief, seed)) is None


@pytest.mark.parametrize(("std", "within"), [(2.5, 40), (4.0, 18), (20.0, 12)])
def test_a_change_is_seen_soon_and_its_begin_is_known(std, within):
    for seed in range(20):
        detector = ChangeDetector(ChangeConfig())
        assert alarm(detector, gaussian(120, seed=seed)) is None
        after = alarm(detector, gaussian(100, std, seed + 100))
        assert after is not None and after < within
        assert abs(detector.began - (after + 1)) <= 6


def test_smaller_errors_are_no_change():
    detector = ChangeDetector(ChangeConfig())
    assert alarm(detector, gaussian(100)) is None
    assert alarm(detector, gaussian(300, 0.1)) is None


def test_two_collisions_are_no_change():
    detector = ChangeDetector(ChangeConfig())
    errors = gaussian(300)
    errors[[150, 151]] = 1e6
    errors[200] = np.nan
    assert alarm(detector, errors) is None


def test_the_threshold_decides_and_zero_is_off():
    def periods(threshold):
        detector = ChangeDetector(ChangeConfig(threshold=threshold))
        return alarm(detector, np.concatenate([gaussian(100), gaussian(100, 2.5, 1)]))

    assert periods(3.0) < periods(40.0)
    assert periods(0.0) is None


def test_nothing_is_said_before_there_is_enough_evidence():
    wild = np.concatenate([gaussian(50), gaussian(25, 10.0)])
    assert alarm(ChangeDetector(ChangeConfig(evidence=60)), wild) is None
    assert alarm(ChangeDetector(ChangeConfig(evidence=15)), wild) is not None


def test_forgetting_begins_anew():
    detector = ChangeDetector(ChangeConfig())
    alarm(detector, gaussian(100))
    alarm(detector, gaussian(50, 5.0))
    detector.forget()
    assert detector.score == 0
    assert alarm(detector, gaussian(300, 5.0)) is None, "what is usual is another thing now"
