"""The measured delay against the phase of the filter's transfer function in its steady state."""

import math

import numpy as np
import pytest
import scipy.linalg

from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.group_delay import group_delay


def transfer_delay(q, r, dt, frequency, with_velocity):
    """Delays from x+ = (I - K H) F x + K z, driven by measurements of a swing."""
    F, Q = np.array([[1, dt], [0, 1]]), q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    H = np.eye(2) if with_velocity else np.array([[1.0, 0.0]])
    R = np.diag(np.square(r))[: len(H), : len(H)]
    P = scipy.linalg.solve_discrete_are(F.T, H.T, Q, R)
    K = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
    w = 2 * math.pi * frequency
    truth = np.array([1.0, 1j * w])  # of exp(i w t)
    estimate = np.linalg.solve(np.eye(2) - (np.eye(2) - K @ H) @ F * np.exp(-1j * w * dt), K @ (H @ truth))
    return -np.angle(estimate / truth) / w


@pytest.mark.parametrize("with_velocity", [True, False])
@pytest.mark.parametrize(("q", "frequency"), [(1.0, 1.0), (300.0, 1.0), (300.0, 4.0)])
def test_it_is_the_delay_of_the_transfer_function(q, frequency, with_velocity):
    measured = group_delay(FilterConfig(acceleration_density=q), (0.001, 0.01), 0.01, frequency, with_velocity)
    expected = transfer_delay(q, (0.001, 0.01), 0.01, frequency, with_velocity)
    np.testing.assert_allclose(measured, expected, atol=2e-5)


def test_a_velocity_that_is_derived_from_positions_comes_late():
    calm, brisk = (
        group_delay(FilterConfig(acceleration_density=q), (0.001, 0.01), 0.01, 1.0, with_velocity=False)
        for q in (1.0, 300.0)
    )
    assert calm[1] > brisk[1] > 2e-3, "the less acceleration the filter expects, the more it lags"
