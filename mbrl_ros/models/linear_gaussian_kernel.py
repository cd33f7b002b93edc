"""The linear-Gaussian model's planning path: rollouts in one compiled call, float32, one thread.

Sums run over the candidates in the innermost loop, which the compiler turns into vector code; the features are few.
"""

import numpy as np
from numba import njit

from mbrl_ros.models.ensemble_kernel import advance, fill_features

FLAGS = {"contract", "nsz"}


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def changes(f, offset, linear, products, work, change):
    """``offset_k + sum_i f_i (linear_ki + sum_{j>=i} products_kij f_j)`` of every row r: left in change (R, ny).

    Args:
        f: features (d, R), one row a column.
        offset: (ny,).
        linear: (ny, d).
        products: upper triangles (ny, d, d); (ny, 0, 0) for none.
        work: (2, R).
        change: result.
    """
    slope, value = work[0], work[1]
    for k in range(offset.size):
        for r in range(value.size):
            value[r] = offset[k]
        for i in range(f.shape[0]):
            for r in range(value.size):
                slope[r] = linear[k, i]
            for j in range(i, products.shape[1]):
                weight = products[k, i, j]
                for r in range(value.size):
                    slope[r] += weight * f[j, r]
            for r in range(value.size):
                value[r] += slope[r] * f[i, r]
        for r in range(value.size):
            change[r, k] = value[r]


@njit(cache=True, nogil=True, error_model="numpy")
def rollout(actions, noise, members, weights, noise_std, layout, dt, out):
    """Roll every candidate out under every particle.

    Args:
        actions: candidates (H, N, nu), time first.
        noise: standard normal draws (P, H, ny), shared by the candidates; (P, 0, ny) for none.
        members: member of each particle at each step (P, H).
        weights: (offset (E, ny), linear (E, ny, d), products (E, ny, d, d) or (E, ny, 0, 0)).
        noise_std: (ny,).
        layout: (angle index, derivative index or -1 of each entry, learned index).
        dt: period in s.
        out: result (P, H + 1, N, nx), time before candidates; out[:, 0] holds the start.
    """
    offset, linear, products = weights
    angles, derivative, learned = layout
    horizon, n, _ = actions.shape
    d = linear.shape[2]
    rows, columns = np.empty((n, d), np.float32), np.empty((d, n), np.float32)
    change, work = np.empty((n, learned.size), np.float32), np.empty((2, n), np.float32)
    zero, one = np.zeros(d, np.float32), np.ones(d, np.float32)
    for p in range(members.shape[0]):
        for t in range(horizon):
            e = members[p, t]
            fill_features(out[p, t], actions[t], angles, zero, one, rows)
            columns[:] = rows.T
            changes(columns, offset[e], linear[e], products[e], work, change)
            if noise.shape[1]:
                for r in range(n):
                    for k in range(learned.size):
                        change[r, k] += noise_std[k] * noise[p, t, k]
            advance(out[p, t], change, derivative, learned, dt, out[p, t + 1])
