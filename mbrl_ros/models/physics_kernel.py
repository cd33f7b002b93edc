"""Compiled futures of equations of motion whose parameters differ from particle to particle."""

import numpy as np
from numba import njit

from mbrl_ros.models.analytic_kernel import advance


@njit(error_model="numpy", nogil=True)
def rollout(f, method, actions, noise, members, draws, noise_std, rates, out):
    """Fill `out` from its first states on, see `LearnedModel.advance_particles`.

    Args:
        f: ``f(x, w)`` with ``w = (u, p)``, compiled.
        method: see `analytic_kernel`.
        actions: (H, N, nu) float32.
        noise: (P, H, ny) float32, or (P, 0, ny) for none.
        members: (P, H).
        draws: parameters of each member (E, n_p).
        noise_std: of each state entry's own noise (nx,), zero where it is another entry's integral.
        rates: (nx,) index of the entry's derivative, -1 for a learned entry.
        out: (P, H + 1, N, nx) float32.
    """
    horizon, count, nu = actions.shape
    nx, size = out.shape[3], draws.shape[1]
    work, x, ahead, w, kick = np.empty((5, nx)), np.empty(nx), np.empty(nx), np.empty(nu + size), np.zeros(nx)
    for p in range(out.shape[0]):
        for t in range(horizon):
            for i in range(size):
                w[nu + i] = draws[members[p, t], i]
            if noise.shape[1] > 0:
                fill_noise(noise[p, t], noise_std, rates, method[1], kick)
            for n in range(count):
                for i in range(nx):
                    x[i] = out[p, t, n, i]
                for j in range(nu):
                    w[j] = actions[t, n, j]
                advance(f, method, x, w, work, ahead)
                for i in range(nx):
                    out[p, t + 1, n, i] = ahead[i] + kick[i]


@njit(error_model="numpy", nogil=True)
def fill_noise(draw, noise_std, rates, dt, kick):
    """Noise of the learned entries, and what it makes of the positions: ``q' = q + dt (v + v') / 2``."""
    k = 0
    for i in range(kick.size):
        if rates[i] < 0:
            kick[i] = noise_std[i] * draw[k]
            k += 1
    for i in range(kick.size):
        if rates[i] >= 0:
            kick[i] = 0.5 * dt * kick[rates[i]]
