"""The ensemble's inference path: whole rollouts of candidates in one compiled call.

Fused because small models are bound by overhead: an eager framework pays microseconds a layer, and a
decision takes thousands of layers. Float32, one thread, no autograd. Products are the BLAS's: at 64 units it runs at
the peak of the core, which loops compiled here do not. `forward` is the only statement of the network outside
training; a test holds it to torch.
"""

import numpy as np
from numba import njit

LOG2_E = np.float32(1.44269504)
VECTOR = {"contract", "nsz", "arcp"}  # what the compiler needs for vector code; sums keep their order


@njit(inline="always")
def exp2(y):
    """``2^y`` of a float32 y, held within the exponents of float32; relative error 1.6e-7.

    The fraction in [-1/2, 1/2] by a polynomial of degree 5 (minimax by Lawson's weighted least squares, error 9.1e-8),
    the integer part written into the exponent bits: unlike `np.exp` the compiler makes vector code of it.
    """
    y = min(max(y, np.float32(-126.0)), np.float32(126.0))
    k = np.rint(y)
    f = y - k
    p = np.float32(1.326472725e-03)
    p = p * f + np.float32(9.671512786e-03)
    p = p * f + np.float32(5.550733744e-02)
    p = p * f + np.float32(2.402224208e-01)
    p = p * f + np.float32(6.931469776e-01)
    p = p * f + np.float32(1.0)
    return p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(cache=True, fastmath=VECTOR, error_model="numpy")
def silu_inplace(h):
    """``h * sigmoid(h)`` of a float32 array of any shape, in place."""
    flat = h.reshape(h.size)
    for i in range(flat.size):
        z = flat[i]
        flat[i] = z / (np.float32(1.0) + exp2(-LOG2_E * z))


@njit(cache=True, fastmath=VECTOR, error_model="numpy")
def silu_after_bias(h, b):
    """``silu(h + b)`` for rows h (R, n), b (n,), in place: one pass over memory instead of two."""
    for r in range(h.shape[0]):
        row = h[r]
        for j in range(b.size):
            z = row[j] + b[j]
            row[j] = z / (np.float32(1.0) + exp2(-LOG2_E * z))


@njit(cache=True, error_model="numpy")
def affine(x, w, b, out):
    """``out = x @ w + b`` for rows x (R, n), w (n, m), b (m,)."""
    np.dot(x, w, out)
    for r in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[r, j] += b[j]


@njit(cache=True, error_model="numpy")
def last_hidden(features, w_in, b_in, w_hidden, b_hidden, h1, h2):
    """The last hidden layer of one member's network, (R, width): the array h1 or h2."""
    np.dot(features, w_in, h1)
    silu_after_bias(h1, b_in)
    for layer in range(w_hidden.shape[0]):
        np.dot(h1, w_hidden[layer], h2)
        silu_after_bias(h2, b_hidden[layer])
        h1, h2 = h2, h1
    return h1


@njit(cache=True, error_model="numpy")
def forward(features, w_in, b_in, w_hidden, b_hidden, w_out, b_out, h1, h2, heads):
    """One member's network on rows of normalised features; the result is left in `heads` (R, 2 ny)."""
    affine(last_hidden(features, w_in, b_in, w_hidden, b_hidden, h1, h2), w_out, b_out, heads)


@njit(cache=True, error_model="numpy")
def fill_features(states, actions, angles, mean, inverse_std, features):
    """Normalised inputs of the network: states (R, nx), actions (R, nu) -> features (R, n_features)."""
    nx = states.shape[1]
    for r in range(states.shape[0]):
        for i in range(nx):
            features[r, i] = states[r, i]
        for k in range(angles.size):
            angle = states[r, angles[k]]
            features[r, angles[k]] = np.sin(angle)
            features[r, nx + k] = np.cos(angle)
        for j in range(actions.shape[1]):
            features[r, nx + angles.size + j] = actions[r, j]
        for i in range(mean.size):
            features[r, i] = (features[r, i] - mean[i]) * inverse_std[i]


@njit(cache=True, error_model="numpy")
def advance(states, change, derivative, learned, dt, result):
    """Next states from the change of the learned entries, as `StateLayout.integrate`: (R, nx), (R, ny) -> (R, nx).

    Entry by entry, since rows are many and entries few.
    """
    half = np.float32(0.5) * dt
    rows = states.shape[0]
    for r in range(rows):
        for i in range(states.shape[1]):
            result[r, i] = states[r, i]
    for k in range(learned.size):
        for r in range(rows):
            result[r, learned[k]] += change[r, k]
    for i in range(states.shape[1]):
        v = derivative[i]
        if v >= 0:
            for r in range(rows):
                result[r, i] += half * (states[r, v] + result[r, v])


@njit(cache=True, fastmath=VECTOR, error_model="numpy")
def mean_change(heads, bias, mean, std, change):
    """Expected change of the learned entries, (R, ny), from the product of the last layer, heads (R, 2 ny)."""
    for k in range(mean.size):
        for r in range(heads.shape[0]):
            change[r, k] = (heads[r, k] + bias[k]) * std[k] + mean[k]


@njit(cache=True, fastmath=VECTOR, error_model="numpy")
def sampled_change(heads, bias, noise, low, high, mean, std, change):
    """As `mean_change`, plus ``noise * std`` of the network's Gaussian; noise (ny,) is shared by the rows.

    The raw log-variance is softly bounded (PETS, Chua et al. 2018, A.1): ``log_var = high - softplus(high - raw)``,
    then ``low + softplus(log_var - low)``. So the variance is ``e^low + 1 / (e^-high + e^-raw)``: one exponential.
    """
    ny = noise.size
    floor, ceiling = np.exp(low), np.exp(-high)
    for k in range(ny):
        for r in range(heads.shape[0]):
            raw = heads[r, ny + k] + bias[ny + k]
            variance = floor[k] + np.float32(1.0) / (ceiling[k] + exp2(-LOG2_E * raw))
            change[r, k] = (heads[r, k] + bias[k] + noise[k] * np.sqrt(variance)) * std[k] + mean[k]


@njit(cache=True, nogil=True, error_model="numpy")
def rollout(actions, noise, members, net, scale, bounds, layout, dt, out):
    """Roll every candidate out under every particle.

    Particles run one after the other: their activations then stay in the cache, and more rows in one product
    were measured to gain nothing (64 rows already reach the peak of the BLAS). The call does not hold Python's lock,
    so that threads may share the particles.

    Args:
        actions: candidates (H, N, nu), time first.
        noise: standard normal draws (P, H, ny), shared by the candidates so that they are compared under
            the same luck; (P, 0, ny) for the mean.
        members: member of each particle at each step (P, H).
        net: (w_in, b_in, w_hidden, b_hidden, w_out, b_out), members on the leading axis
            (w_hidden: members, layers, width, width); w_out and b_out need no columns of the log-variance for the mean.
        scale: (feature mean, feature 1/std, target mean, target std).
        bounds: (low, high) log-variance bounds (ny,).
        layout: (angle index, derivative index or -1 of each entry, learned index).
        dt: period in s.
        out: result (P, H + 1, N, nx), time before candidates; out[:, 0] holds the start.
    """
    w_in, b_in, w_hidden, b_hidden, w_out, b_out = net
    f_mean, f_inv, t_mean, t_std = scale
    low, high = bounds
    angles, derivative, learned = layout
    horizon, n, _ = actions.shape
    ny, width = learned.size, w_in.shape[2]
    features = np.empty((n, w_in.shape[1]), np.float32)
    h1, h2 = np.empty((n, width), np.float32), np.empty((n, width), np.float32)
    heads = np.empty((n, w_out.shape[2]), np.float32)
    change = np.empty((n, ny), np.float32)
    for p in range(members.shape[0]):
        for t in range(horizon):
            e = members[p, t]
            fill_features(out[p, t], actions[t], angles, f_mean, f_inv, features)
            h = last_hidden(features, w_in[e], b_in[e], w_hidden[e], b_hidden[e], h1, h2)
            np.dot(h, w_out[e], heads)
            if noise.shape[1]:
                sampled_change(heads, b_out[e], noise[p, t], low, high, t_mean, t_std, change)
            else:
                mean_change(heads, b_out[e], t_mean, t_std, change)
            advance(out[p, t], change, derivative, learned, dt, out[p, t + 1])
