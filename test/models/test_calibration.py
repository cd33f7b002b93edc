"""Calibration on systems whose true spread is known."""

import numpy as np
import pytest

from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.calibration import coverage, deviations, horizon_scale, interval
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

WALK = StateLayout(("s", "r"), ("u",), (), {}, 1.0)


class Walk(LearnedModel):
    """A random walk that believes in steps of `std`."""

    @property
    def members(self):
        return 1

    def predict_member(self, member, x, u):
        return np.zeros((len(x), 2)), np.full((len(x), 2), self.arrays["std"])


def walks(count, length, std=1.0, seed=0):
    """Whole trajectories of the true walk."""
    steps = std * np.random.default_rng(seed).standard_normal((count, length, 2))
    x_next = steps.cumsum(axis=1)
    x = np.concatenate([np.zeros((count, 1, 2)), x_next[:, :-1]], axis=1)
    trajectory = np.repeat(np.arange(count), length)
    return Transitions(x.reshape(-1, 2), np.zeros((count * length, 1)), x_next.reshape(-1, 2), trajectory)


def believing(std):
    return Walk(WALK, {"std": np.array(std)})


@pytest.mark.parametrize(("std", "factor"), [(0.5, 2.0), (1.0, 1.0), (1.5, 1 / 1.5)])
def test_the_scale_is_how_much_too_sure_the_model_is(std, factor):
    scale = horizon_scale(deviations(believing(std), walks(60, 20), 8))
    np.testing.assert_allclose(scale, factor, rtol=0.15)


@pytest.mark.parametrize("std", [0.5, 1.5])
def test_recalibrated_intervals_cover_what_they_promise_on_other_trajectories(std):
    model = believing(std)
    scale = horizon_scale(deviations(model, walks(60, 20), 8))
    right = model.with_arrays(horizon_scale=scale)
    unseen = walks(60, 20, seed=1)
    covered = coverage(deviations(right, unseen, 8), [0.5, 0.9]).mean(axis=-1)
    np.testing.assert_allclose(covered, [[0.5] * 8, [0.9] * 8], atol=0.07)
    wrong = coverage(deviations(model, unseen, 8), [0.9]).mean()
    assert wrong < 0.65 if std < 1 else wrong > 0.96


def test_coverage_counts_per_level_and_step():
    z = np.zeros((10, 2, 1))
    z[:4, 1] = 1.7  # beyond the 90 % interval of 1.645
    np.testing.assert_allclose(coverage(z, [0.9])[0], [[1.0], [0.6]])
    assert interval(0.9) == pytest.approx(1.6449, abs=1e-4)


def test_every_entry_has_its_own_factor():
    z = np.random.default_rng(0).standard_normal((4000, 3, 2)) * [0.8, 2.0]
    np.testing.assert_allclose(horizon_scale(z), [[0.8, 2.0]] * 3, rtol=0.1)


def test_the_sensors_noise_counts_once_and_does_not_grow():
    """A walk whose observation is noisier than itself: one period ahead the noise is all, later it is little."""
    model = Walk(WALK, {"std": np.array(0.1), "observation_std": np.array([2.0, 1e-9])})
    states = model.rollout(np.zeros(2), np.zeros((1, 30, 1)), np.random.default_rng(1), 4000)
    seen = model.observed(states, np.random.default_rng(2))
    steps = np.arange(31)
    expected = np.sqrt(0.01 * steps + 4.0 * (steps > 0))
    np.testing.assert_allclose(seen[:, 0, :, 0].std(axis=0), expected, rtol=0.06)
    np.testing.assert_allclose(seen[:, 0, :, 1], states[:, 0, :, 1], atol=1e-6)


def test_factors_are_held_within_reason_and_never_nan():
    z = np.full((5, 3, 2), np.nan)
    z[:, 2] = 1e9
    np.testing.assert_allclose(horizon_scale(z), 5.0)
    np.testing.assert_allclose(horizon_scale(np.zeros((5, 3, 2))), 0.5)


def test_no_trajectory_is_long_enough():
    assert deviations(believing(1.0), walks(3, 4), 5).shape == (0, 5, 2)
