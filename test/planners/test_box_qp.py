"""Box-constrained quadratic programs against scipy and the optimality conditions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from mbrl_ros.planners.box_qp import NOT_POSITIVE_DEFINITE, OK, box_qp


def solve(H, g, low, high, start=None):
    n = len(g)
    x = np.zeros(n) if start is None else start.copy()
    free, L = np.empty(n, bool), np.empty((n, n))
    return box_qp(H, g, low, high, x, free, L), x, free, L


def random_program(seed: int, n: int):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(n + 2, n))
    low = -rng.uniform(0.0, 1.0, n)
    return (
        M.T @ M + 0.01 * np.eye(n),
        2.0 * rng.normal(size=n),
        low,
        low + rng.uniform(0.05, 1.5, n),
        rng.normal(size=n),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_equals_scipy(seed, n):
    H, g, low, high, start = random_program(seed, n)
    status, x, free, L = solve(H, g, low, high, start)
    root = np.linalg.cholesky(H).T  # x'Hx/2 + g'x = |root x + root^-T g|^2 / 2 + const
    expected = lsq_linear(root, -np.linalg.solve(root.T, g), (low, high), method="bvls", tol=1e-14).x
    assert status == OK
    np.testing.assert_allclose(x, expected, atol=1e-8)
    slope = H @ x + g
    assert np.all(x >= low) and np.all(x <= high)
    assert np.abs(slope[free]).max(initial=0.0) < 1e-9
    assert np.all(slope[~free & (x == low)] > 0) and np.all(slope[~free & (x == high)] < 0)
    np.testing.assert_allclose((L @ L.T)[np.ix_(free, free)], H[np.ix_(free, free)], rtol=1e-12, atol=1e-12)


def test_without_limits_it_is_a_linear_solve():
    H, g, *_ = random_program(1, 4)
    status, x, free, _ = solve(H, g, np.full(4, -np.inf), np.full(4, np.inf))
    assert status == OK and free.all()
    np.testing.assert_allclose(x, -np.linalg.solve(H, g), rtol=1e-12)


def test_entries_held_by_equal_limits_stay():
    H, g, *_ = random_program(2, 3)
    _, x, free, _ = solve(H, g, np.full(3, 0.25), np.full(3, 0.25))
    np.testing.assert_array_equal(x, 0.25)
    assert free.sum() == 0


@pytest.mark.parametrize("H", [-np.eye(2), np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros((2, 2))])
def test_an_indefinite_program_is_reported(H):
    assert solve(H, np.ones(2), np.full(2, -5.0), np.full(2, 5.0))[0] == NOT_POSITIVE_DEFINITE
