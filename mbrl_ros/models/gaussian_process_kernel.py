"""The Gaussian process's planning path: rollouts of sampled functions in one compiled call, float32, one thread.

Each member is one function in closed form, a sum over data, waves and a linear part (see `gaussian_process`). Nearly
all the time goes into exponentials and cosines, so both are polynomials that the compiler turns into vector code: over
candidates, which stand side by side in memory (entries first), with everything else in the registers.
"""

import numpy as np
from numba import njit

FLAGS = {"contract", "reassoc", "nsz", "arcp"}
LOG2_E = 1.44269504
TURN = np.float32(1.0 / (2.0 * np.pi))
QUARTER = np.float32(0.25)


@njit(inline="always")
def exp2_negative(t):
    """``2^t`` of a float32 t <= 0, down to 2^-126.

    ``2^k 2^f`` with whole k and f in [-1/2, 1/2]: 2^f by the minimax polynomial of Cephes' exp2f (relative error
    2e-7), 2^k by writing k into the bits of the exponent.
    """
    t = max(t, np.float32(-126.0))
    k = np.int32(t - np.float32(0.5))
    f = t - np.float32(k)
    p = np.float32(1.535336188319500e-4)
    p = p * f + np.float32(1.339887440266574e-3)
    p = p * f + np.float32(9.618437357674640e-3)
    p = p * f + np.float32(5.550332471162809e-2)
    p = p * f + np.float32(2.402264791363012e-1)
    p = p * f + np.float32(6.931472028550421e-1)
    p = p * f + np.float32(1.0)
    return p * np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
def cosine(t):
    """``cos(2 pi t)`` of a float32 t, by the Taylor series on half a turn (error below 2e-6)."""
    r = t - np.float32(np.int32(t + (np.float32(0.5) if t > 0 else np.float32(-0.5))))
    s = r * r * np.float32(39.478417604)  # (2 pi r)^2
    c = np.float32(4.7794773e-14)
    c = c * s + np.float32(-1.1470746e-11)
    c = c * s + np.float32(2.0876757e-9)
    c = c * s + np.float32(-2.7557319e-7)
    c = c * s + np.float32(2.4801587e-5)
    c = c * s + np.float32(-1.3888889e-3)
    c = c * s + np.float32(4.1666668e-2)
    c = c * s + np.float32(-0.5)
    return c * s + np.float32(1.0)


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def add_bumps(z, points, offsets, weights, scales, dims, own, out):
    """``out += sum_i weights_i exp(-|z - z_i|^2 / 2)``, the distance in length scales, as ``2^(z . c_i + own + b_i)``.

    Args:
        z: normalised inputs (d, R).
        points: c_i, data over squared length scales, times log2(e) (n, d).
        offsets: b_i, half the data's squared norms in length scales, times -log2(e) (n,).
        weights: (n,).
        scales: minus half the squared inverse length scales, times log2(e) (d,).
        dims: d zeros: their number is known to the compiler, so that the sums over d are written out.
        own: workspace (R,).
        out: (R,).
    """
    rows = out.size
    for r in range(rows):
        t = np.float32(0.0)
        for j in range(len(dims)):
            t += z[j, r] * z[j, r] * scales[j]
        own[r] = t
    for i in range(offsets.size):
        b, w = offsets[i], weights[i]
        for r in range(rows):
            t = own[r] + b
            for j in range(len(dims)):
                t += z[j, r] * points[i, j]
            out[r] += w * exp2_negative(t)


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def add_waves(z, frequencies, phases, weights, dims, out):
    """``out += sum_l weights_l cos(2 pi (z . f_l + phase_l))``: z (d, R), frequencies (L, d), phases (L,), out (R,)."""
    for i in range(phases.size):
        b, w = phases[i], weights[i]
        for r in range(out.size):
            t = b
            for j in range(len(dims)):
                t += z[j, r] * frequencies[i, j]
            out[r] += w * cosine(t)


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def add_line(z, slope, offset, dims, out):
    """``out = offset + slope . z``: z (d, R), slope (d,), out (R,)."""
    for r in range(out.size):
        t = offset
        for j in range(len(dims)):
            t += z[j, r] * slope[j]
        out[r] = t


@njit(cache=True, error_model="numpy")
def function_values(z, shared, member, dims, own, out):
    """Values of one member's functions: normalised inputs z (d, R) -> out (ny, R), normalised.

    Args:
        z: columns of inputs.
        shared: what members have in common: (points (ny, n, d), offsets (ny, n) and scales (ny, d) of `add_bumps`,
            frequencies in turns (ny, L, d), phases in turns (ny, L)).
        member: (weights of the data (ny, n), of the waves (ny, L), slope (ny, d), offset (ny,)).
        dims: d zeros, see `add_bumps`.
        own: workspace (R,).
        out: result.
    """
    points, offsets, scales, frequencies, phases = shared
    data_weights, wave_weights, slope, offset = member
    for k in range(out.shape[0]):
        add_line(z, slope[k], offset[k], dims, out[k])
        add_bumps(z, points[k], offsets[k], data_weights[k], scales[k], dims, own, out[k])
        add_waves(z, frequencies[k], phases[k], wave_weights[k], dims, out[k])


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def fill_features(x, u, angles, mean, inverse_std, z):
    """Normalised inputs: states x (nx, R), actions u (R, nu) -> z (d, R), sines in the angles' place, then cosines."""
    nx, rows = x.shape
    for i in range(nx):
        for r in range(rows):
            z[i, r] = x[i, r]
    for k in range(angles.size):
        a = angles[k]
        for r in range(rows):
            turns = x[a, r] * TURN
            z[a, r] = cosine(turns - QUARTER)
            z[nx + k, r] = cosine(turns)
    for j in range(u.shape[1]):
        for r in range(rows):
            z[nx + angles.size + j, r] = u[r, j]
    for i in range(z.shape[0]):
        for r in range(rows):
            z[i, r] = (z[i, r] - mean[i]) * inverse_std[i]


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def advance(x, change, derivative, learned, dt, x_next):
    """Next states from the change of the learned entries, as `StateLayout.integrate`: (nx, R), (ny, R) -> (nx, R)."""
    half = np.float32(0.5) * dt
    rows = x.shape[1]
    x_next[:] = x
    for k in range(learned.size):
        for r in range(rows):
            x_next[learned[k], r] += change[k, r]
    for i in range(x.shape[0]):
        v = derivative[i]
        if v >= 0:
            for r in range(rows):
                x_next[i, r] += half * (x[v, r] + x_next[v, r])


@njit(cache=True, nogil=True, error_model="numpy")
def rollout(actions, noise, members, shared, weights, scale, layout, dims, dt, out):
    """Roll every candidate out under every particle.

    Args:
        actions: candidates (H, N, nu), time first.
        noise: standard normal draws (P, H, ny), shared by the candidates; (P, 0, ny) for none.
        members: member of each particle at each step (P, H).
        shared: see `function_values`.
        weights: `member` of `function_values` with the members leading.
        scale: (feature mean, feature 1/std, target mean, target std, noise std).
        layout: (angle index, derivative index or -1 of each entry, learned index).
        dims: a zero for each feature, see `add_bumps`.
        dt: period in s.
        out: result (P, H + 1, N, nx), time before candidates; out[:, 0] holds the start.
    """
    f_mean, f_inv, t_mean, t_std, noise_std = scale
    angles, derivative, learned = layout
    horizon, n, _ = actions.shape
    x, x_next = np.empty((out.shape[3], n), np.float32), np.empty((out.shape[3], n), np.float32)
    z, change = np.empty((len(dims), n), np.float32), np.empty((learned.size, n), np.float32)
    own = np.empty(n, np.float32)
    for p in range(members.shape[0]):
        x[:] = out[p, 0].T
        for t in range(horizon):
            e = members[p, t]
            member = (weights[0][e], weights[1][e], weights[2][e], weights[3][e])
            fill_features(x, actions[t], angles, f_mean, f_inv, z)
            function_values(z, shared, member, dims, own, change)
            for k in range(learned.size):
                luck = noise_std[k] * noise[p, t, k] if noise.shape[1] else np.float32(0.0)
                for r in range(n):
                    change[k, r] = (change[k, r] + luck) * t_std[k] + t_mean[k]
            advance(x, change, derivative, learned, dt, x_next)
            out[p, t + 1] = x_next.T
            x, x_next = x_next, x
