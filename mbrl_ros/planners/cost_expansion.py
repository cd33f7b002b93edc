"""Second-order expansions of any task's cost along a trajectory.

A task may bring closed forms, ``running_expansion(x, u)`` and ``terminal_expansion(x)`` with the results of
`expand_running` and `expand_terminal`. Any other numpy cost is differentiated here: gradients by the complex step
(Squire and Trapp 1998), exact to rounding; Hessians as central differences of those, about 9 digits. The cost must
be made of complex-differentiable functions; comparisons look at ``.real``, and ``abs`` must not touch x or u.
"""

from collections.abc import Callable

import numpy as np
from numba import njit

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Task
from mbrl_ros.planners.box_qp import cholesky

STEP = 1e-30  # imaginary step, small enough that the truncation error vanishes
DIFFERENCE = 1e-5  # real step of the second difference, near the cube root of the rounding error

Cost = Callable[[np.ndarray], np.ndarray]


def slopes(cost: Cost, z: np.ndarray) -> np.ndarray:
    """Imaginary parts over the step, of a cost that must have kept them: (...)."""
    try:
        values = cost(z)
    except TypeError as error:
        raise ConfigError(f"the task's cost does not accept complex numbers: {error}") from None
    if not np.iscomplexobj(values):
        raise ConfigError("the task's cost drops imaginary parts; use complex-differentiable functions of x and u")
    return values.imag / STEP


@njit(cache=True, error_model="numpy")
def surround(z, out):
    """The points that `expand` asks for: around z (T, n), out (n, points, T), entries first.

    First n points with one entry moved by the imaginary step, then for each pair j <= k two points with entry j moved
    so and entry k moved by the real step, ahead and behind.
    """
    count, n = z.shape
    for i in range(n):
        for p in range(out.shape[1]):
            for t in range(count):
                out[i, p, t] = z[t, i]
        for t in range(count):
            out[i, i, t] += 1j * STEP
    p = n
    for k in range(n):
        for j in range(k + 1):
            for t in range(count):
                h = DIFFERENCE * max(1.0, abs(z[t, k]))
                out[k, p, t] += h
                out[k, p + 1, t] -= h
                out[j, p, t] += 1j * STEP
                out[j, p + 1, t] += 1j * STEP
            p += 2


@njit(cache=True, error_model="numpy")
def gather(slopes, z, c, C):
    """Slopes (points, T) at the points of `surround` into gradient c (T, n) and Hessian C (T, n, n)."""
    count, n = z.shape
    for t in range(count):
        p = n
        for k in range(n):
            c[t, k] = slopes[k, t]
            h = DIFFERENCE * max(1.0, abs(z[t, k]))
            for j in range(k + 1):
                C[t, j, k] = C[t, k, j] = (slopes[p, t] - slopes[p + 1, t]) / (2.0 * h)
                p += 2


def expand(cost: Cost, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (T, n) and symmetric Hessian (T, n, n) of ``cost(z)`` at z (T, n), all points in one call."""
    count, n = z.shape
    z = np.ascontiguousarray(z, np.float64)
    # Entries first in memory: then x and u, and each entry of them, are contiguous in the task's arithmetic.
    around = np.empty((n, n + n * (n + 1), count), np.complex128)
    surround(z, around)
    c, C = np.empty((count, n)), np.empty((count, n, n))
    gather(np.ascontiguousarray(slopes(cost, around.transpose(1, 2, 0))), z, c, C)
    return c, C


def expand_running(task: Task, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient c (T, nx + nu) and Hessian C (T, nx + nu, nx + nu) of the running cost at x (T, nx), u (T, nu)."""
    if hasattr(task, "running_expansion"):
        return task.running_expansion(x, u)
    nx = x.shape[1]
    z = np.concatenate([x, u], axis=1)

    def cost(z: np.ndarray) -> np.ndarray:
        return task.running_cost(z[..., :nx], z[..., nx:])

    return expand(cost, z)


def expand_terminal(task: Task, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (nx,) and Hessian (nx, nx) of the terminal cost at x (nx,)."""
    if hasattr(task, "terminal_expansion"):
        return task.terminal_expansion(x)
    c, C = expand(task.terminal_cost, x[None])
    return c[0], C[0]


@njit(cache=True, error_model="numpy")
def find_indefinite(C, found):
    """Mark in `found` (B,) which of C (B, n, n) a Cholesky factorisation cannot show to be positive semidefinite."""
    count, n, _ = C.shape
    L, used = np.empty((n, n)), np.empty(n, np.bool_)
    for b in range(count):
        for i in range(n):
            used[i] = C[b, i].any()  # an entry that costs nothing at all does no harm
        found[b] = not cholesky(C[b], used, L)


def convex(C: np.ndarray) -> np.ndarray:
    """Nearest positive semidefinite matrices (Higham 1988): symmetric C (..., n, n) with negative curvature cut off."""
    P = np.ascontiguousarray(C, np.float64).reshape(-1, *C.shape[-2:])
    indefinite = np.empty(len(P), np.bool_)
    find_indefinite(P, indefinite)
    if not indefinite.any():
        return C
    values, vectors = np.linalg.eigh(P[indefinite])
    P = P.copy()
    P[indefinite] = (vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return P.reshape(C.shape)
