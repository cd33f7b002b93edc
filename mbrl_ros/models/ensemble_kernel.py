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
def softplus(z):
    """``log(1 + exp(z))`` without overflow."""
    return max(z, np.float32(0)) + np.log1p(np.exp(-abs(z)))


@njit(cache=True, error_model="numpy")
def bounded_std(raw, low, high):
    """Standard deviation from a raw log-variance, softly bounded to [low, high] (PETS, Chua et al. 2018, A.1)."""
    log_var = high - softplus(high - raw)
    log_var = low + softplus(log_var - low)
    return np.exp(np.float32(0.5) * log_var)


@njit(cache=True, error_model="numpy")
def rollout(x0, actions, noise, members, net, scale, bounds, layout, dt, out):
    """Roll every candidate out under every particle; a particle keeps its member (TS-infinity).

    Args:
        x0: start states (P, nx), one a particle.
        actions: candidates (N, H, nu).
        noise: standard normal draws (P, H, ny), shared by the candidates so that they are compared under
            the same luck; zeros for the mean.
        members: member index of each particle (P,).
        net: (w_in, b_in, w_hidden, b_hidden, w_out, b_out), members on the leading axis
            (w_hidden: members, layers, width, width).
        scale: (feature mean, feature 1/std, target mean, target std).
        bounds: (low, high) log-variance bounds (ny,).
        layout: (angle index, derivative index or -1 of each entry, learned index).
        dt: period in s.
        out: result (P, N, H + 1, nx).
    """
    w_in, b_in, w_hidden, b_hidden, w_out, b_out = net
    f_mean, f_inv, t_mean, t_std = scale
    low, high = bounds
    angles, derivative, learned = layout
    n, horizon, nu = actions.shape
    nx, ny = x0.shape[1], learned.size
    width = w_in.shape[2]
    features = np.empty((n, w_in.shape[1]), np.float32)
    h1, h2 = np.empty((n, width), np.float32), np.empty((n, width), np.float32)
    heads = np.empty((n, 2 * ny), np.float32)
    for p in range(x0.shape[0]):
        e = members[p]
        for r in range(n):
            for i in range(nx):
                out[p, r, 0, i] = x0[p, i]
        for t in range(horizon):
            for r in range(n):
                for i in range(nx):
                    features[r, i] = out[p, r, t, i]
                for k in range(angles.size):
                    i = angles[k]
                    angle = out[p, r, t, i]
                    features[r, i] = np.sin(angle)
                    features[r, nx + k] = np.cos(angle)
                for j in range(nu):
                    features[r, nx + angles.size + j] = actions[r, t, j]
                for i in range(f_mean.size):
                    features[r, i] = (features[r, i] - f_mean[i]) * f_inv[i]
            forward(features, w_in[e], b_in[e], w_hidden[e], b_hidden[e], w_out[e], b_out[e], h1, h2, heads)
            for r in range(n):
                for i in range(nx):
                    out[p, r, t + 1, i] = out[p, r, t, i]
                for k in range(ny):
                    change = heads[r, k]
                    if noise[p, t, k] != 0.0:
                        change += noise[p, t, k] * bounded_std(heads[r, ny + k], low[k], high[k])
                    out[p, r, t + 1, learned[k]] += change * t_std[k] + t_mean[k]
                for i in range(nx):
                    v = derivative[i]
                    if v >= 0:
                        out[p, r, t + 1, i] += np.float32(0.5) * dt * (out[p, r, t, v] + out[p, r, t + 1, v])
