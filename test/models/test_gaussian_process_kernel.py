"""The polynomials and sums of the planning path against numpy in float64."""

import numpy as np

from mbrl_ros.models import gaussian_process_kernel as kernel


def bump(square: float) -> float:
    exponent = np.empty(1, np.int32)
    one = np.ones(1, np.float32)
    return kernel.weighted_bumps(np.float32([square]), one, np.empty(1, np.float32), exponent, exponent.view("f4"))


def test_exponential_is_exact_to_single_precision():
    squares = np.linspace(0.0, 60.0, 500, dtype=np.float32)
    exact = np.exp(-0.5 * squares.astype(float))
    # The argument itself is rounded: at 43 binary digits below one, half a unit in its last place is 2e-6.
    np.testing.assert_allclose([bump(s) for s in squares], exact, rtol=4e-6)


def test_exponential_vanishes_far_away():
    assert 0.0 <= bump(1e4) < 1e-30
    assert 0.0 <= bump(1e30) < 1e-30


def test_cosine_is_exact_to_single_precision_on_many_turns():
    turns = np.linspace(-20.3, 20.3, 999, dtype=np.float32)
    values = [kernel.weighted_waves(turns[i : i + 1], np.ones(1, np.float32)) for i in range(len(turns))]
    np.testing.assert_allclose(values, np.cos(2.0 * np.pi * turns.astype(float)), atol=2e-6)


def test_function_values_are_the_sum_they_are_said_to_be():
    rng = np.random.default_rng(0)
    R, ny, d, n, L = 5, 2, 3, 37, 19
    z, points = rng.normal(size=(R, d)), rng.normal(size=(n, d))
    inverse_length = rng.uniform(0.3, 2.0, (ny, d))
    frequencies, phases = rng.normal(size=(ny, d, L)), rng.uniform(0.0, 1.0, (ny, L))
    v, w, slope, offset = (rng.normal(size=s) for s in ((ny, n), (ny, L), (ny, d), (ny,)))
    expected = np.empty((R, ny))
    for k in range(ny):
        apart = (z[:, None] - points) * inverse_length[k]
        expected[:, k] = np.exp(-0.5 * (apart**2).sum(axis=2)) @ v[k] + offset[k] + z @ slope[k]
        expected[:, k] += np.cos(2.0 * np.pi * (z @ frequencies[k] + phases[k])) @ w[k]
    shared = (inverse_length, inverse_length[:, :, None] * points.T, frequencies, phases)
    shared, member = (tuple(a.astype(np.float32) for a in group) for group in (shared, (v, w, slope, offset)))
    out = np.empty((R, ny), np.float32)
    kernel.function_values(z.astype(np.float32), shared, member, kernel.workspace(n, L), out)
    np.testing.assert_allclose(out, expected, atol=5e-5)
