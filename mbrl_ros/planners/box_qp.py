"""Box-constrained quadratic programs by projected Newton (Tassa, Mansard and Todorov 2014, section IV).

    minimise  x' H x / 2 + g' x   subject to  low <= x <= high

A Newton step on the free entries, clipped, with Armijo's backtracking: the right active set is found in a few
steps, and the factor of the free block also gives the feedback gains. Compiled; the matrices are small.
"""

import numpy as np
from numba import njit

OK, NOT_POSITIVE_DEFINITE, NOT_CONVERGED = 0, 1, 2
ITERATIONS = 100
TOLERANCE = 1e-12  # of the free gradient, relative to the largest term it is made of
ARMIJO = 0.1
SHRINK = 0.6


@njit(cache=True, error_model="numpy")
def cholesky(H, free, L):
    """Lower factor of the block of H (n, n) whose entries are free; identity elsewhere. False if not definite."""
    n = H.shape[0]
    for i in range(n):
        for j in range(i + 1):
            total = H[i, j] if free[i] and free[j] else 1.0 if i == j else 0.0
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total > (1e-14 * abs(H[i, i]) if free[i] else 0.0):
                    return False
                L[i, i] = np.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    return True


@njit(cache=True, error_model="numpy")
def solve_cholesky(L, x):
    """Solve ``L L' y = x`` in place, x (n,)."""
    n = x.size
    for i in range(n):
        for k in range(i):
            x[i] -= L[i, k] * x[k]
        x[i] /= L[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= L[k, i] * x[k]
        x[i] /= L[i, i]


@njit(cache=True, error_model="numpy")
def gradient(H, g, x, out):
    """``out = H x + g``; returns the largest term of the sums, the measure of their rounding error."""
    scale = 0.0
    for i in range(x.size):
        out[i] = g[i]
        scale = max(scale, abs(g[i]))
        for j in range(x.size):
            out[i] += H[i, j] * x[j]
            scale = max(scale, abs(H[i, j] * x[j]))
    return scale


@njit(cache=True, error_model="numpy")
def find_free(low, high, x, slope, free):
    """Mark the entries that are not held at a limit; returns the largest slope among them."""
    largest = 0.0
    for i in range(x.size):
        free[i] = not ((x[i] <= low[i] and slope[i] > 0) or (x[i] >= high[i] and slope[i] < 0))
        if free[i]:
            largest = max(largest, abs(slope[i]))
    return largest


@njit(cache=True, error_model="numpy")
def line_search(H, low, high, x, direction, slope, trial):
    """Largest step along the projection arc with Armijo's decrease; False where there is none."""
    step = 1.0
    while step > 1e-20:
        linear, quadratic = 0.0, 0.0
        for i in range(x.size):
            trial[i] = min(max(x[i] + step * direction[i], low[i]), high[i]) - x[i]
            linear += slope[i] * trial[i]
        for i in range(x.size):
            for j in range(x.size):
                quadratic += 0.5 * trial[i] * H[i, j] * trial[j]
        if linear < 0.0 and linear + quadratic <= ARMIJO * linear:
            return True
        step *= SHRINK
    return False


@njit(cache=True, error_model="numpy")
def box_qp(H, g, low, high, x, free, L):
    """Solve the program from the start `x`.

    Args:
        H: symmetric matrix (n, n), positive definite on the entries that end up free.
        g: linear term (n,).
        low: lower limits (n,), -inf for none.
        high: upper limits (n,).
        x: start, and on return the solution (n,).
        free: on return (n,) bool, true where no limit holds the entry.
        L: on return the Cholesky factor (n, n) of the free block, identity elsewhere.

    Returns:
        OK, NOT_POSITIVE_DEFINITE or NOT_CONVERGED.
    """
    n = x.size
    slope, direction, trial = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        x[i] = min(max(x[i], low[i]), high[i])
    for _ in range(ITERATIONS):
        scale = gradient(H, g, x, slope)
        largest = find_free(low, high, x, slope, free)
        if not cholesky(H, free, L):
            return NOT_POSITIVE_DEFINITE
        if largest <= TOLERANCE * scale:
            return OK
        for i in range(n):
            direction[i] = -slope[i] if free[i] else 0.0
        solve_cholesky(L, direction)
        if not line_search(H, low, high, x, direction, slope, trial):
            return OK  # a Newton direction descends, so what is left is rounding
        for i in range(n):
            x[i] = min(max(x[i] + trial[i], low[i]), high[i])
    return NOT_CONVERGED
