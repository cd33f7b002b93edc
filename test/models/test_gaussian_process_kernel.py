"""The polynomials and sums of the planning path against numpy in float64."""

import numpy as np
from numba import njit

from mbrl_ros.models import gaussian_process_kernel as kernel


@njit
def powers(exponents, out):
    for i in range(out.size):
        out[i] = kernel.exp2_negative(exponents[i])


@njit
def cosines(turns, out):
    for i in range(out.size):
        out[i] = kernel.cosine(turns[i])


def values(function, at):
    out = np.empty(len(at), np.float32)
    function(np.asarray(at, np.float32), out)
    return out


def test_exponential_is_exact_to_single_precision():
    exponents = np.linspace(-90.0, 0.0, 4001, dtype=np.float32)
    np.testing.assert_allclose(values(powers, exponents), 2.0 ** exponents.astype(float), rtol=4e-7)


def test_exponential_vanishes_far_away():
    far = values(powers, [-200.0, -1e4, -1e30, -np.inf])
    assert np.all((far >= 0.0) & (far < 1e-30))


def test_cosine_is_exact_to_single_precision_on_many_turns():
    turns = np.linspace(-20.3, 20.3, 999, dtype=np.float32)
    np.testing.assert_allclose(values(cosines, turns), np.cos(2.0 * np.pi * turns.astype(float)), atol=2e-6)


def test_function_values_are_the_sum_they_are_said_to_be():
    rng = np.random.default_rng(0)
    R, ny, d, n, L = 5, 2, 3, 37, 19
    z, points = rng.normal(size=(R, d)), rng.normal(size=(n, d))
    length = rng.uniform(0.5, 3.0, (ny, d))
    frequencies, phases = rng.normal(size=(ny, L, d)), rng.uniform(0.0, 1.0, (ny, L))
    v, w, slope, offset = (rng.normal(size=s) for s in ((ny, n), (ny, L), (ny, d), (ny,)))
    expected = np.empty((ny, R))
    for k in range(ny):
        apart = (z[:, None] - points) / length[k]
        expected[k] = np.exp(-0.5 * (apart**2).sum(axis=2)) @ v[k] + offset[k] + z @ slope[k]
        expected[k] += np.cos(2.0 * np.pi * (z @ frequencies[k].T + phases[k])) @ w[k]
    squares = np.log2(np.e) / length**2
    shared = (squares[:, None] * points, -0.5 * squares @ (points**2).T, -0.5 * squares, frequencies, phases)
    shared, member = (tuple(a.astype(np.float32) for a in group) for group in (shared, (v, w, slope, offset)))
    out, own = np.empty((ny, R), np.float32), np.empty(R, np.float32)
    kernel.function_values(np.ascontiguousarray(z.T, np.float32), shared, member, (0,) * d, own, out)
    np.testing.assert_allclose(out, expected, atol=5e-5)
