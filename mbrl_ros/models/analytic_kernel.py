"""Compiled integration and differentiation of equations of motion written in plain Python.

`f` is the user's function, compiled: ``f(x, u)`` takes one-dimensional arrays and returns a tuple. `method` is
``(integrator, dt, substeps)``. Everything runs on float and on complex arrays, since first derivatives are taken by
the complex step, ``df/dz = Im f(z + ih) / h`` (Squire and Trapp 1998): no difference, so exact to rounding. Loops
stand where slices would do, because each slice costs numba up to a second to compile.
"""

import numpy as np
from numba import literal_unroll, njit

DISCRETE, EULER, RK4 = 0, 1, 2
STEP = 1e-30  # imaginary step: so small that the truncation error vanishes
DIFFERENCE = 1e-5  # real step of second derivatives, near the cube root of the rounding error


@njit(error_model="numpy")
def call(f, x, u, out):
    """``out = f(x, u)``; the tuple's entries may have different types."""
    i = 0
    for value in literal_unroll(f(x, u)):  # numba has no enumerate over mixed types
        out[i] = value
        i += 1  # noqa: SIM113


@njit(error_model="numpy")
def runge_kutta(f, h, x, u, work):
    """One classical fourth-order step of length `h` on `x` in place; work (5, nx)."""
    k1, k2, k3, k4, point = work[0], work[1], work[2], work[3], work[4]
    call(f, x, u, k1)
    for i in range(x.size):
        point[i] = x[i] + 0.5 * h * k1[i]
    call(f, point, u, k2)
    for i in range(x.size):
        point[i] = x[i] + 0.5 * h * k2[i]
    call(f, point, u, k3)
    for i in range(x.size):
        point[i] = x[i] + h * k3[i]
    call(f, point, u, k4)
    for i in range(x.size):
        x[i] += h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i])


@njit(error_model="numpy")
def advance(f, method, x, u, work, out):
    """One control period: the next state of x (nx,) under u (nu,) is left in `out`; work (5, nx)."""
    integrator, dt, substeps = method
    if integrator == DISCRETE:
        call(f, x, u, out)
        return
    for i in range(x.size):
        out[i] = x[i]
    for _ in range(substeps):
        if integrator == RK4:
            runge_kutta(f, dt / substeps, out, u, work)
        else:
            call(f, out, u, work[0])
            for i in range(x.size):
                out[i] += dt / substeps * work[0, i]


@njit(error_model="numpy")
def step(f, method, x, u, out):
    """Next states of rows: x (B, nx), u (B, nu) -> out (B, nx)."""
    work = np.empty((5, x.shape[1]))
    for b in range(x.shape[0]):
        advance(f, method, x[b], u[b], work, out[b])


@njit(error_model="numpy")
def rollout(f, method, x0, actions, noise, out):
    """Every candidate (N, H, nu) under every particle's start (P, nx) and additive noise (P, H, nx)."""
    work = np.empty((5, x0.shape[1]))
    for p in range(x0.shape[0]):
        for n in range(actions.shape[0]):
            for i in range(x0.shape[1]):
                out[p, n, 0, i] = x0[p, i]
            for t in range(actions.shape[1]):
                advance(f, method, out[p, n, t], actions[n, t], work, out[p, n, t + 1])
                for i in range(x0.shape[1]):
                    out[p, n, t + 1, i] += noise[p, t, i]


@njit(error_model="numpy")
def rollout_feedback(f, method, nominal, policy, alphas, limits, states, actions):
    """Roll ``u = clip(u_hat + alpha k + K (x - x_hat))`` out from states[:, 0], one row for each alpha."""
    x_hat, u_hat = nominal
    k, gains = policy
    work = np.empty((5, x_hat.shape[1]))
    for a in range(alphas.size):
        for t in range(u_hat.shape[0]):
            x = states[a, t]
            for j in range(u_hat.shape[1]):
                u = u_hat[t, j] + alphas[a] * k[t, j]
                for i in range(x.size):
                    u += gains[t, j, i] * (x[i] - x_hat[t, i])
                actions[a, t, j] = min(max(u, limits[0][j]), limits[1][j])
            advance(f, method, x, actions[a, t], work, states[a, t + 1])


@njit(error_model="numpy")
def slopes(f, method, nx, z, j, work, out):
    """Next state with entry j of z = (x, u) moved by the imaginary step: its imaginary part is the derivative."""
    z[j] += STEP * 1j
    advance(f, method, z[:nx], z[nx:], work, out)
    z[j] = z[j].real


@njit(error_model="numpy")
def linearize(f, method, x, u, F):
    """Jacobians of the next state by (x, u), by the complex step: F (B, nx, nx + nu)."""
    nx, n = x.shape[1], x.shape[1] + u.shape[1]
    work, z, y = np.empty((5, nx), np.complex128), np.empty(n, np.complex128), np.empty(nx, np.complex128)
    for b in range(x.shape[0]):
        for i in range(n):
            z[i] = x[b, i] if i < nx else u[b, i - nx]
        for j in range(n):
            slopes(f, method, nx, z, j, work, y)
            for i in range(nx):
                F[b, i, j] = y[i].imag / STEP


@njit(error_model="numpy")
def hessian(f, method, x, u, out):
    """Second derivatives (B, nx, nx + nu, nx + nu): central differences of complex-step derivatives."""
    nx, n = x.shape[1], x.shape[1] + u.shape[1]
    work, z = np.empty((5, nx), np.complex128), np.empty(n, np.complex128)
    ahead, behind = np.empty(nx, np.complex128), np.empty(nx, np.complex128)
    for b in range(x.shape[0]):
        for i in range(n):
            z[i] = x[b, i] if i < nx else u[b, i - nx]
        for k in range(n):
            centre = z[k]
            h = DIFFERENCE * max(1.0, abs(centre.real))
            for j in range(k + 1):
                z[k] = centre + h
                slopes(f, method, nx, z, j, work, ahead)
                z[k] = centre - h
                slopes(f, method, nx, z, j, work, behind)
                z[k] = centre
                for i in range(nx):
                    out[b, i, j, k] = out[b, i, k, j] = (ahead[i].imag - behind[i].imag) / (2.0 * h * STEP)
