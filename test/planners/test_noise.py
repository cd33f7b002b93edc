"""Coloured noise: variance and spectrum by Monte Carlo."""

import numpy as np
import pytest

from mbrl_ros.planners.noise import coloured_noise


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("horizon", [1, 2, 3, 24, 25])
def test_unit_variance_and_zero_mean_at_every_step(exponent, horizon):
    noise = coloured_noise(np.random.default_rng(0), exponent, 20_000, horizon, 2)
    assert noise.shape == (20_000, horizon, 2)
    # 20000 draws: five standard errors of the mean are 0.035, of the standard deviation 0.025.
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.035)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.025)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_falls_with_frequency_by_the_exponent(exponent):
    horizon = 64
    noise = coloured_noise(np.random.default_rng(1), exponent, 4000, horizon, 1)[..., 0]
    power = np.mean(np.abs(np.fft.rfft(noise, axis=1)) ** 2, axis=0)[1:-1]
    slope = np.polyfit(np.log(np.fft.rfftfreq(horizon)[1:-1]), np.log(power), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.03)


def test_action_entries_and_samples_are_independent():
    noise = coloured_noise(np.random.default_rng(2), 2.0, 20_000, 10, 2)
    assert abs(np.mean(noise[:, 3, 0] * noise[:, 3, 1])) < 0.035
    assert abs(np.mean(noise[:-1, 3, 0] * noise[1:, 3, 0])) < 0.035


def test_same_seed_same_noise():
    first, again = (coloured_noise(np.random.default_rng(3), 1.0, 4, 7, 2) for _ in range(2))
    np.testing.assert_array_equal(first, again)
