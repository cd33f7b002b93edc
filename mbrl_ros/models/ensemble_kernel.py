"""The ensemble's inference path: whole rollouts of all candidates in one compiled call.

Fused because small models are bound by overhead: an eager framework pays microseconds a layer, and a
decision takes thousands of layers. Float32, one thread, no autograd. `forward` is the only statement of
the network outside training; a test holds it to torch.
"""

import numpy as np
from numba import njit


@njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
def silu_inplace(h):
    """``h * sigmoid(h)`` of a float32 array of any shape, in place.

    ``sigmoid(h) = (1 + tanh(h / 2)) / 2`` with tanh as the ratio of polynomials used by Eigen (error below
    1e-6): unlike exp it is made of multiplications only, which the compiler turns into vector code.
    """
    flat = h.reshape(h.size)
    for i in range(flat.size):
        z = np.float32(0.5) * flat[i]
        t = min(max(z, np.float32(-7.905311)), np.float32(7.905311))
        t2 = t * t
        p = np.float32(-2.76076847742355e-16)
        p = p * t2 + np.float32(2.00018790482477e-13)
        p = p * t2 + np.float32(-8.60467152213735e-11)
        p = p * t2 + np.float32(5.12229709037114e-08)
        p = p * t2 + np.float32(1.48572235717979e-05)
        p = p * t2 + np.float32(6.37261928875436e-04)
        p = p * t2 + np.float32(4.89352455891786e-03)
        q = np.float32(1.19825839466702e-06)
        q = q * t2 + np.float32(1.18534705686654e-04)
        q = q * t2 + np.float32(2.26843463243900e-03)
        q = q * t2 + np.float32(4.89352518554385e-03)
        flat[i] = z + z * (t * p / q)


@njit(cache=True, error_model="numpy")
def affine(x, w, b, out):
    """``out = x @ w + b`` for rows x (R, n), w (n, m), b (m,)."""
    np.dot(x, w, out)
    for r in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[r, j] += b[j]


@njit(cache=True, error_model="numpy")
def forward(features, w_in, b_in, w_hidden, b_hidden, w_out, b_out, h1, h2, heads):
    """One member's network on rows of normalised features; the result is left in `heads` (R, 2 ny)."""
    affine(features, w_in, b_in, h1)
    silu_inplace(h1)
    for layer in range(w_hidden.shape[0]):
        affine(h1, w_hidden[layer], b_hidden[layer], h2)
        silu_inplace(h2)
        h1, h2 = h2, h1
    affine(h1, w_out, b_out, heads)


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
    """Next states from the change of the learned entries, as `StateLayout.integrate`: (R, nx), (R, ny) -> (R, nx)."""
    half = np.float32(0.5) * dt
    for r in range(states.shape[0]):
        for i in range(states.shape[1]):
            result[r, i] = states[r, i]
        for k in range(learned.size):
            result[r, learned[k]] += change[r, k]
        for i in range(states.shape[1]):
            v = derivative[i]
            if v >= 0:
                result[r, i] += half * (states[r, v] + result[r, v])


@njit(cache=True, error_model="numpy")
def add_noise(heads, noise, low, high):
    """Add ``noise * std`` to the mean in each row of heads (R, 2 ny); noise (ny,) is shared by the rows.

    The raw log-variance is softly bounded (PETS, Chua et al. 2018, A.1): ``log_var = high - softplus(high - raw)``,
    then ``low + softplus(log_var - low)``. So the variance is ``e^low + 1 / (e^-high + e^-raw)``: one exponential.
    """
    ny = noise.size
    floor, ceiling = np.exp(low), np.exp(-high)
    for r in range(heads.shape[0]):
        for k in range(ny):
            variance = floor[k] + np.float32(1.0) / (ceiling[k] + np.exp(-heads[r, ny + k]))
            heads[r, k] += noise[k] * np.sqrt(variance)


@njit(cache=True, error_model="numpy")
def rollout(x0, actions, noise, members, net, scale, bounds, layout, dt, out):
    """Roll every candidate out under every particle; a particle keeps its member (TS-infinity).

    Particles run one after the other: their activations then stay in the cache, and more rows in one product
    were measured to gain nothing (64 rows already reach the peak of the BLAS).

    Args:
        x0: start states (P, nx), one a particle.
        actions: candidates (H, N, nu), time first.
        noise: standard normal draws (P, H, ny), shared by the candidates so that they are compared under
            the same luck; (P, 0, ny) for the mean.
        members: member index of each particle (P,).
        net: (w_in, b_in, w_hidden, b_hidden, w_out, b_out), members on the leading axis
            (w_hidden: members, layers, width, width).
        scale: (feature mean, feature 1/std, target mean, target std).
        bounds: (low, high) log-variance bounds (ny,).
        layout: (angle index, derivative index or -1 of each entry, learned index).
        dt: period in s.
        out: result (P, H + 1, N, nx), time before candidates.
    """
    w_in, b_in, w_hidden, b_hidden, w_out, b_out = net
    f_mean, f_inv, t_mean, t_std = scale
    low, high = bounds
    angles, derivative, learned = layout
    horizon, n, _ = actions.shape
    ny, width = learned.size, w_in.shape[2]
    features = np.empty((n, w_in.shape[1]), np.float32)
    h1, h2 = np.empty((n, width), np.float32), np.empty((n, width), np.float32)
    heads = np.empty((n, 2 * ny), np.float32)
    change = np.empty((n, ny), np.float32)
    for p in range(x0.shape[0]):
        e = members[p]
        out[p, 0] = x0[p]
        for t in range(horizon):
            fill_features(out[p, t], actions[t], angles, f_mean, f_inv, features)
            forward(features, w_in[e], b_in[e], w_hidden[e], b_hidden[e], w_out[e], b_out[e], h1, h2, heads)
            if noise.shape[1]:
                add_noise(heads, noise[p, t], low, high)
            for r in range(n):
                for k in range(ny):
                    change[r, k] = heads[r, k] * t_std[k] + t_mean[k]
            advance(out[p, t], change, derivative, learned, dt, out[p, t + 1])
