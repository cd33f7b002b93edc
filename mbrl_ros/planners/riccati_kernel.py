"""Backward passes, compiled: iLQR and DDP (Tassa, Erez and Todorov 2012; with limits: Tassa et al. 2014), and LQR.

Sums over small matrices are written as loops or BLAS calls on preallocated arrays: a call into numpy a stage would
cost more than the arithmetic.
"""

import numpy as np
from numba import njit

from mbrl_ros.planners.box_qp import OK, box_qp, cholesky, solve_cholesky


@njit(cache=True, error_model="numpy")
def stage(F, c, C, fzz, v, V, VF, q, Q):
    """Expansion of Q(x, u) about the nominal point (Tassa 2012, eq. 5): q (n,), Q (n, n), n = nx + nu."""
    nx, n = F.shape
    np.dot(V, F, VF)
    np.dot(F.T, VF, Q)
    Q += C
    for i in range(n):
        q[i] = c[i]
        for a in range(nx):
            q[i] += F[a, i] * v[a]
    for a in range(fzz.shape[0]):  # the terms that iLQR leaves out, ``v . f_zz``
        for i in range(n):
            for j in range(n):
                Q[i, j] += v[a] * fzz[a, i, j]


@njit(cache=True, error_model="numpy")
def feedback(L, free, Q, K, column):
    """Gains of the free actions, ``K = -Quu^-1 Qux``; zero where a limit holds the action (Tassa 2014, eq. 10)."""
    nu, nx = K.shape
    for i in range(nx):
        for j in range(nu):
            column[j] = -Q[nx + j, i] if free[j] else 0.0
        solve_cholesky(L, column)
        for j in range(nu):
            K[j, i] = column[j]


@njit(cache=True, error_model="numpy")
def value(q, Q, k, K, QK, v, V):
    """Expansion of the value function (Tassa 2012, eq. 11); returns the linear and quadratic decrease.

    ``v = qx + K'Quu k + K'qu + Qxu k`` and ``V = Qxx + K'Quu K + K'Qux + Qxu K``.
    """
    nu, nx = K.shape
    linear, quadratic = 0.0, 0.0
    for j in range(nu):
        Quuk = 0.0
        for m in range(nu):
            Quuk += Q[nx + j, nx + m] * k[m]
        linear += k[j] * q[nx + j]
        quadratic += 0.5 * k[j] * Quuk
        QK[j, nx] = Quuk + q[nx + j]
        for i in range(nx):
            QK[j, i] = 2.0 * Q[nx + j, i]  # K'Qux and its transpose in one
            for m in range(nu):
                QK[j, i] += Q[nx + j, nx + m] * K[m, i]
    for i in range(nx):
        v[i] = q[i]
        for j in range(nu):
            v[i] += K[j, i] * QK[j, nx] + Q[nx + j, i] * k[j]
        for m in range(i + 1):
            total = 0.5 * (Q[i, m] + Q[m, i])
            for j in range(nu):
                total += 0.5 * (K[j, i] * QK[j, m] + K[j, m] * QK[j, i])
            V[i, m] = V[m, i] = total
    return linear, quadratic


@njit(cache=True, error_model="numpy")
def backward(F, c, C, fzz, terminal, actions, limits, mu, k, K):
    """One backward pass.

    Args:
        F: Jacobians [A B] of the dynamics (H, nx, nx + nu).
        c: gradients of the running cost by (x, u), (H, nx + nu).
        C: its Hessians (H, nx + nu, nx + nu), symmetric.
        fzz: second derivatives of the dynamics (H, nx, nx + nu, nx + nu), or (H, 0, ...) to leave them out.
        terminal: gradient (nx,) and Hessian (nx, nx) of the terminal cost.
        actions: nominal actions (H, nu).
        limits: lower and upper control limits (nu,).
        mu: regularisation, added to the diagonal of Quu (Tassa 2012, eq. 9).
        k: on return the feedforward steps (H, nu), within the limits.
        K: on return the gains (H, nu, nx).

    Returns:
        (ok, linear, quadratic): a full step alpha changes the cost by ``alpha linear + alpha^2 quadratic``; ok is
        False where an action's Hessian was not positive definite.
    """
    horizon, nx, n = F.shape
    nu = n - nx
    v, V = terminal[0].copy(), terminal[1].copy()
    q, Q, VF, QK = np.empty(n), np.empty((n, n)), np.empty((nx, n)), np.empty((nu, nx + 1))
    Quu, L = np.empty((nu, nu)), np.empty((nu, nu))
    low, high, free, column = np.empty(nu), np.empty(nu), np.empty(nu, np.bool_), np.empty(nu)
    linear, quadratic = 0.0, 0.0
    for t in range(horizon - 1, -1, -1):
        stage(F[t], c[t], C[t], fzz[t], v, V, VF, q, Q)
        for j in range(nu):
            for m in range(nu):
                Quu[j, m] = Q[nx + j, nx + m] + (mu if j == m else 0.0)
            low[j], high[j] = limits[0][j] - actions[t, j], limits[1][j] - actions[t, j]
            k[t, j] = k[t + 1, j] if t + 1 < horizon else 0.0
        if box_qp(Quu, q[nx:], low, high, k[t], free, L) != OK:
            return False, linear, quadratic
        feedback(L, free, Q, K[t], column)
        change = value(q, Q, k[t], K[t], QK, v, V)
        linear += change[0]
        quadratic += change[1]
    return True, linear, quadratic


@njit(cache=True, error_model="numpy")
def lqr_backward(F, f, c, C, V, v, K, k, drift):
    """One backward pass of LQR: affine dynamics, no limits, the cost to go kept at every stage.

    Args:
        F: dynamics [A B] (H, nx, nx + nu).
        f: their affine part (H, nx).
        c: linear terms of the running cost (H, nx + nu).
        C: its Hessians (H, nx + nu, nx + nu), symmetric.
        V: (H + 1, nx, nx), the terminal one last; on return all.
        v: (H + 1, nx), likewise.
        K: on return the gains (H, nu, nx).
        k: on return the offsets (H, nu).
        drift: on return (H,), what each stage adds to the constant of the cost to go.

    Returns:
        The period whose action has no minimum, or -1.
    """
    horizon, nx, n = F.shape
    nu = n - nx
    q, Q, VF, QK = np.empty(n), np.empty((n, n)), np.empty((nx, n)), np.empty((nu, nx + 1))
    L, free, column = np.empty((nu, nu)), np.ones(nu, np.bool_), np.empty(nu)
    none, ahead = np.empty((0, n, n)), np.empty(nx)
    for t in range(horizon - 1, -1, -1):
        np.dot(V[t + 1], f[t], ahead)  # V f + v: the slope of the cost to go where f leads
        drift[t] = 0.0
        for a in range(nx):
            drift[t] += f[t, a] * (0.5 * ahead[a] + v[t + 1, a])
            ahead[a] += v[t + 1, a]
        stage(F[t], c[t], C[t], none, ahead, V[t + 1], VF, q, Q)
        if not cholesky(Q[nx:, nx:], free, L):
            return t
        for j in range(nu):
            k[t, j] = -q[nx + j]
        solve_cholesky(L, k[t])
        feedback(L, free, Q, K[t], column)
        linear, quadratic = value(q, Q, k[t], K[t], QK, v[t], V[t])
        drift[t] += linear + quadratic
    return -1
