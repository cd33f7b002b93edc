"""The Gaussian process's planning path: rollouts of sampled functions in one compiled call, float32, one thread.

Each member is one function in closed form, a sum over data, waves and a linear part (see `gaussian_process`). Nearly
all the time goes into exponentials and cosines, so both are polynomials that the compiler turns into vector code.
"""

import numpy as np
from numba import njit

from mbrl_ros.models.ensemble_kernel import advance, fill_features

FLAGS = {"contract", "reassoc", "nsz", "arcp"}


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def weighted_bumps(squares, weights, power, exponent, scale):
    """``sum_i weights_i exp(-squares_i / 2)`` for squares (n,) >= 0; power (n,) is workspace.

    ``exp(-s / 2) = 2^k 2^f`` with whole k and f in [-1/2, 1/2]: 2^f by the minimax polynomial of Cephes' exp2f
    (relative error 2e-7), 2^k by writing k into the bits of `exponent` (n,) int32, which `scale` sees as float32.
    """
    bits = np.int32(127)
    for i in range(squares.size):
        t = max(squares[i] * np.float32(-0.72134752), np.float32(-126.0))  # log2(e) / 2
        k = np.int32(t - np.float32(0.5))
        f = t - np.float32(k)
        p = np.float32(1.535336188319500e-4)
        p = p * f + np.float32(1.339887440266574e-3)
        p = p * f + np.float32(9.618437357674640e-3)
        p = p * f + np.float32(5.550332471162809e-2)
        p = p * f + np.float32(2.402264791363012e-1)
        p = p * f + np.float32(6.931472028550421e-1)
        power[i] = p * f + np.float32(1.0)
        exponent[i] = (k + bits) << np.int32(23)
    total = np.float32(0.0)
    for i in range(squares.size):
        total += weights[i] * power[i] * scale[i]
    return total


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def weighted_waves(turns, weights):
    """``sum_l weights_l cos(2 pi turns_l)``, both (L,), by the Taylor series on half a turn (error below 2e-6)."""
    total = np.float32(0.0)
    for i in range(turns.size):
        t = turns[i]
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
        total += weights[i] * (c * s + np.float32(1.0))
    return total


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def squared_distances(z, r, inverse_length, inputs, squares):
    """Squared distances of row r of z (R, d) to inputs (d, n) that are divided by the length scales: squares (n,)."""
    for i in range(squares.size):
        squares[i] = np.float32(0.0)
    for d in range(z.shape[1]):
        scaled = z[r, d] * inverse_length[d]
        for i in range(squares.size):
            difference = scaled - inputs[d, i]
            squares[i] += difference * difference


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def wave_turns(z, r, frequencies, phases, turns):
    """``turns = phases + z_r @ frequencies``: z (R, d), frequencies (d, L), phases (L,)."""
    for i in range(turns.size):
        turns[i] = phases[i]
    for d in range(z.shape[1]):
        for i in range(turns.size):
            turns[i] += z[r, d] * frequencies[d, i]


@njit(cache=True, error_model="numpy")
def function_values(z, shared, member, work, out):
    """Values of one member's functions: normalised inputs z (R, d) -> out (R, ny), normalised.

    Args:
        z: rows of inputs.
        shared: what members have in common: (1 / length scales (ny, d), inputs over length scales (ny, d, n),
            frequencies in turns (ny, d, L), phases in turns (ny, L)).
        member: (weights of the data (ny, n), of the waves (ny, L), slope (ny, d), offset (ny,)).
        work: see `workspace`.
        out: result.
    """
    inverse_length, inputs, frequencies, phases = shared
    data_weights, wave_weights, slope, offset = member
    squares, power, exponent, scale, turns = work
    for k in range(out.shape[1]):
        # slices are taken here, not once a row: each counts references
        lengths_k, inputs_k, frequencies_k, phases_k = inverse_length[k], inputs[k], frequencies[k], phases[k]
        data_weights_k, wave_weights_k = data_weights[k], wave_weights[k]
        for r in range(z.shape[0]):
            squared_distances(z, r, lengths_k, inputs_k, squares)
            wave_turns(z, r, frequencies_k, phases_k, turns)
            value = offset[k] + weighted_bumps(squares, data_weights_k, power, exponent, scale)
            value += weighted_waves(turns, wave_weights_k)
            for d in range(z.shape[1]):
                value += slope[k, d] * z[r, d]
            out[r, k] = value


@njit(cache=True, error_model="numpy")
def workspace(count, waves):
    """Arrays that one value needs: squares, power, exponent and the same bits as float32, all (n,); turns (L,)."""
    squares, power = np.empty(count, np.float32), np.empty(count, np.float32)
    exponent = np.empty(count, np.int32)
    return squares, power, exponent, exponent.view(np.float32), np.empty(waves, np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def rollout(actions, noise, members, shared, weights, scale, layout, dt, out):
    """Roll every candidate out under every particle.

    Args:
        actions: candidates (H, N, nu), time first.
        noise: standard normal draws (P, H, ny), shared by the candidates; (P, 0, ny) for none.
        members: member of each particle at each step (P, H).
        shared: see `function_values`.
        weights: `member` of `function_values` with the members leading.
        scale: (feature mean, feature 1/std, target mean, target std, noise std).
        layout: (angle index, derivative index or -1 of each entry, learned index).
        dt: period in s.
        out: result (P, H + 1, N, nx), time before candidates; out[:, 0] holds the start.
    """
    f_mean, f_inv, t_mean, t_std, noise_std = scale
    angles, derivative, learned = layout
    horizon, n, _ = actions.shape
    features, change = np.empty((n, f_mean.size), np.float32), np.empty((n, learned.size), np.float32)
    work = workspace(shared[1].shape[2], shared[3].shape[1])
    for p in range(members.shape[0]):
        for t in range(horizon):
            e = members[p, t]
            member = (weights[0][e], weights[1][e], weights[2][e], weights[3][e])
            fill_features(out[p, t], actions[t], angles, f_mean, f_inv, features)
            function_values(features, shared, member, work, change)
            for r in range(n):
                for k in range(learned.size):
                    if noise.shape[1]:
                        change[r, k] += noise_std[k] * noise[p, t, k]
                    change[r, k] = change[r, k] * t_std[k] + t_mean[k]
            advance(out[p, t], change, derivative, learned, dt, out[p, t + 1])
