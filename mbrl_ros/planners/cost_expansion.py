"""Second-order expansions of any task's cost along a trajectory.

A task may bring closed forms, ``running_expansion(x, u)`` and ``terminal_expansion(x)`` with the results of
`expand_running` and `expand_terminal`. Any other numpy cost is differentiated here: gradients by the complex step
(Squire and Trapp 1998), exact to rounding; Hessians as central differences of those, about 9 digits. The cost must
be made of complex-differentiable functions; comparisons look at ``.real``, and ``abs`` must not touch x or u.
"""

from collections.abc import Callable

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Task

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


def expand(cost: Cost, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (T, n) and symmetric Hessian (T, n, n) of ``cost(z)`` at z (T, n), all points in one call."""
    count, n = z.shape
    rows, columns = np.triu_indices(n)
    real = np.eye(n)[columns][:, None] * (DIFFERENCE * np.maximum(1.0, np.abs(z)))  # (pairs, T, n)
    imaginary = 1j * STEP * np.eye(n)[:, None]  # (n, 1, n)
    around = [z + imaginary, z + real + imaginary[rows], z - real + imaginary[rows]]
    c, ahead, behind = np.split(slopes(cost, np.concatenate(around)), [n, n + len(rows)])
    entries = (ahead - behind) / (2.0 * real.sum(axis=-1))
    C = np.empty((count, n, n))
    C[:, rows, columns] = C[:, columns, rows] = entries.T
    return c.T, C


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


def convex(C: np.ndarray) -> np.ndarray:
    """Nearest positive semidefinite matrices (Higham 1988): symmetric C (..., n, n) with negative curvature cut off."""
    values, vectors = np.linalg.eigh(C)
    if values.min() >= 0.0:
        return C
    return (vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
