"""The ensemble as differentiable dynamics: the mean over its members, its Jacobians, its motion under feedback.

Jacobians are in closed form, by the chain rule backwards through the layers (there are fewer learned entries than
inputs), the normaliser, the angles' sines and cosines, and the integration of positions. Networks run in float32 like
everywhere else; states and Jacobians are float64. `model` is always (net, scale, bounds, index) as in
`ensemble_kernel.rollout`.
"""

import numpy as np
from numba import njit

from mbrl_ros.models.ensemble_kernel import affine, fill_features, forward, silu_inplace

Pair = tuple[np.ndarray, np.ndarray]


@njit(cache=True, error_model="numpy")
def advance(model, dt, x, u, work, out):
    """Mean next states: x (R, nx), u (R, nu) -> out (R, nx); `work` from `workspace`."""
    (w_in, b_in, w_hidden, b_hidden, w_out, b_out), scale, _, (angles, derivative, learned) = model
    features, h1, h2, heads = work
    fill_features(x, u, angles, scale[0], scale[1], features)
    out[:] = x
    members = w_in.shape[0]
    for e in range(members):
        forward(features, w_in[e], b_in[e], w_hidden[e], b_hidden[e], w_out[e], b_out[e], h1, h2, heads)
        for r in range(x.shape[0]):
            for k in range(learned.size):
                out[r, learned[k]] += (heads[r, k] * scale[3][k] + scale[2][k]) / members
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            if derivative[i] >= 0:
                out[r, i] += 0.5 * dt * (x[r, derivative[i]] + out[r, derivative[i]])


@njit(cache=True, error_model="numpy")
def workspace(model, rows):
    """Arrays of the forward pass: features, two layers, heads."""
    n, width, outputs = model[0][0].shape[1], model[0][0].shape[2], model[0][4].shape[2]
    h1, h2 = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    return np.empty((rows, n), np.float32), h1, h2, np.empty((rows, outputs), np.float32)


@njit(cache=True, error_model="numpy")
def roll_out(model, dt, nominal, policy, alphas, limits, states, actions):
    """``u = clip(u_hat + alpha k + K (x - x_hat))`` from states[0]: states (H + 1, N, nx), actions (H, N, nu)."""
    (x_hat, u_hat), (k, K), (low, high) = nominal, policy, limits
    work = workspace(model, alphas.size)
    for t in range(u_hat.shape[0]):
        for n in range(alphas.size):
            for j in range(u_hat.shape[1]):
                u = u_hat[t, j] + alphas[n] * k[t, j]
                for i in range(x_hat.shape[1]):
                    u += K[t, j, i] * (states[t, n, i] - x_hat[t, i])
                actions[t, n, j] = min(max(u, low[j]), high[j])
        advance(model, dt, states[t], actions[t], work, states[t + 1])


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def silu_slope(z, out):
    """Derivative of silu, ``s (1 + z (1 - s))`` with s the sigmoid of z, both (R, width) float32."""
    for r in range(z.shape[0]):
        for j in range(z.shape[1]):
            s = np.float32(1) / (np.float32(1) + np.exp(-z[r, j]))
            out[r, j] = s * (np.float32(1) + z[r, j] * (np.float32(1) - s))


@njit(cache=True, error_model="numpy")
def network_jacobian(features, w_in, b_in, w_hidden, b_hidden, w_out, slopes, h, G, G2, J):
    """Adds one member's d heads / d features, (R ny, n_features), to J; the rest is workspace.

    Args:
        features: normalised inputs (R, n_features).
        w_in: first of the member's weights, as in `ensemble_kernel.forward`.
        b_in: (width,).
        w_hidden: (layers - 1, width, width).
        b_hidden: (layers - 1, width).
        w_out: (width, 2 ny), the first ny columns are the mean.
        slopes: (layers, R, width), filled with the layers' silu slopes.
        h: two layers (2, R, width).
        G: gradients of the outputs by a layer (R ny, width).
        G2: the same.
        J: (R ny, n_features), added to.
    """
    rows, layers = features.shape[0], w_hidden.shape[0] + 1
    ny = G.shape[0] // rows
    affine(features, w_in, b_in, h[0])
    silu_slope(h[0], slopes[0])
    for layer in range(layers - 1):
        a, b = layer % 2, 1 - layer % 2
        silu_inplace(h[a])
        affine(h[a], w_hidden[layer], b_hidden[layer], h[b])
        silu_slope(h[b], slopes[layer + 1])
    for r in range(rows):
        for k in range(ny):
            for j in range(G.shape[1]):
                G[r * ny + k, j] = w_out[j, k] * slopes[layers - 1, r, j]
    for layer in range(layers - 2, -1, -1):
        np.dot(G, w_hidden[layer].T, G2)
        for r in range(rows):
            for k in range(ny):
                for j in range(G.shape[1]):
                    G[r * ny + k, j] = G2[r * ny + k, j] * slopes[layer, r, j]
    J += np.dot(G, w_in.T)


@njit(cache=True, error_model="numpy")
def assemble(J, x, model, dt, F):
    """Jacobians of the next state, F (R, nx, nx + nu), from the summed networks' J (R ny, n_features)."""
    net, (_, f_inv, _, t_std), _, (angles, derivative, learned) = model
    rows, nx, n = F.shape
    ny, members = learned.size, net[0].shape[0]
    F[:] = 0.0
    for r in range(rows):
        for k in range(ny):
            row, source, gain = F[r, learned[k]], J[r * ny + k], t_std[k] / members
            for i in range(nx):
                row[i] = gain * source[i] * f_inv[i]
            for a in range(angles.size):
                i, theta = angles[a], x[r, angles[a]]
                row[i] = row[i] * np.cos(theta) - gain * source[nx + a] * f_inv[nx + a] * np.sin(theta)
            for j in range(n - nx):
                f = nx + angles.size + j
                row[nx + j] = gain * source[f] * f_inv[f]
            row[learned[k]] += 1.0
        for i in range(nx):
            v = derivative[i]
            if v >= 0:  # q' = q + dt (v + v') / 2
                for m in range(n):
                    F[r, i, m] = 0.5 * dt * F[r, v, m]
                F[r, i, v] += 0.5 * dt
                F[r, i, i] += 1.0


@njit(cache=True, error_model="numpy")
def jacobians(model, dt, x, u, F):
    """Jacobians [A B] of the mean next state at x (R, nx), u (R, nu), left in F (R, nx, nx + nu)."""
    (w_in, b_in, w_hidden, b_hidden, w_out, _), scale, _, (angles, _, learned) = model
    members, n_features, width = w_in.shape
    rows, outputs = x.shape[0], x.shape[0] * learned.size
    features = np.empty((rows, n_features), np.float32)
    slopes = np.empty((w_hidden.shape[1] + 1, rows, width), np.float32)
    h = np.empty((2, rows, width), np.float32)
    G, G2 = np.empty((outputs, width), np.float32), np.empty((outputs, width), np.float32)
    J = np.zeros((outputs, n_features), np.float32)
    fill_features(x, u, angles, scale[0], scale[1], features)
    for e in range(members):
        network_jacobian(features, w_in[e], b_in[e], w_hidden[e], b_hidden[e], w_out[e], slopes, h, G, G2, J)
    assemble(J, x, model, dt, F)


def contiguous(a: np.ndarray) -> np.ndarray:
    """`a` as the kernels take it."""
    return np.ascontiguousarray(a, np.float64)


def step(model: tuple, dt: float, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Mean next states: x (B, nx), u (B, nu) -> (B, nx); dt in s."""
    out = np.empty(x.shape)
    advance(model, dt, contiguous(x), contiguous(u), workspace(model, len(x)), out)
    return out


def linearize(model: tuple, dt: float, x: np.ndarray, u: np.ndarray) -> Pair:
    """Jacobians of `step`: A (B, nx, nx), B (B, nx, nu)."""
    nx = x.shape[1]
    F = np.empty((len(x), nx, nx + u.shape[1]))
    jacobians(model, dt, contiguous(x), contiguous(u), F)
    return F[:, :, :nx], F[:, :, nx:]


def rollout_feedback(model: tuple, dt: float, nominal: Pair, policy: Pair, alphas: np.ndarray, limits: Pair) -> Pair:
    """See `AnalyticDynamics.rollout_feedback`: states (N, H + 1, nx), actions (N, H, nu)."""
    (horizon, nu), nx, count = nominal[1].shape, nominal[0].shape[1], len(alphas)
    states, actions = np.empty((horizon + 1, count, nx)), np.empty((horizon, count, nu))
    states[0] = nominal[0][0]
    args = tuple((contiguous(a), contiguous(b)) for a, b in (nominal, policy, limits))
    roll_out(model, dt, args[0], args[1], contiguous(alphas), args[2], states, actions)
    return states.swapaxes(0, 1), actions.swapaxes(0, 1)
