"""Known dynamics: equations of motion in plain Python, compiled, with exact derivatives.

The user writes ``derivative(x, u)`` over components, as in `robots/cartpole_equations.py`; nothing else. The function
must be complex-differentiable where it is used: ``abs``, ``min`` and comparisons see real parts only by ``.real``.
"""

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import njit
from numba.core.errors import NumbaError

from mbrl_ros.errors import ConfigError, lookup
from mbrl_ros.models import analytic_kernel as kernel

INTEGRATORS = {"discrete": kernel.DISCRETE, "euler": kernel.EULER, "rk4": kernel.RK4}


@cache
def compiled(function: Callable) -> Any:
    """Compile `function` and the functions of its module that it calls, once a process."""
    if hasattr(function, "py_func"):
        return function
    known = function.__globals__
    called = {n: known[n] for n in function.__code__.co_names if isinstance(known.get(n), FunctionType)}
    helpers = {name: compiled(helper) for name, helper in called.items() if helper is not function}
    copy = FunctionType(function.__code__, known | helpers, function.__name__, None, function.__closure__)
    return njit(error_model="numpy", forceinline=True)(copy)  # a call costs as much as short equations do


class AnalyticDynamics:
    """Dynamics from equations, a `Dynamics` and a `DifferentiableDynamics` of `planners/base.py`."""

    name = "analytic"

    def __init__(
        self,
        derivative: Callable,
        nx: int,
        nu: int,
        dt: float,
        integrator: str = "rk4",
        substeps: int = 1,
        noise_std: np.ndarray | None = None,
    ) -> None:
        """Compile the equations.

        Args:
            derivative: ``(x, u) -> tuple`` of nx time derivatives, x and u indexed by component; with the
                integrator ``discrete`` it returns the next state itself and `dt` and `substeps` play no part.
            nx: state entries.
            nu: action entries.
            dt: control period in s, the action is held over it.
            integrator: ``rk4``, ``euler`` or ``discrete``.
            substeps: integration steps in one control period.
            noise_std: standard deviation (nx,) of Gaussian noise added to every next state; None for none.

        Raises:
            UnknownNameError: no such integrator.
            ConfigError: a function that cannot be compiled, or does not return nx entries.
        """
        self.nx, self.nu, self.dt = nx, nu, dt
        if not dt > 0 or substeps < 1:
            raise ConfigError(f"dt: {dt} s must be positive and substeps: {substeps} at least 1")
        self._method = (lookup(INTEGRATORS, "integrator", integrator), float(dt), int(substeps))
        self._f = compiled(derivative)
        self._noise_std = np.zeros(nx) if noise_std is None else np.broadcast_to(np.asarray(noise_std, float), (nx,))
        self._check(derivative)

    @classmethod
    def discrete(cls, step: Callable, nx: int, nu: int, noise_std: np.ndarray | None = None) -> "AnalyticDynamics":
        """Dynamics from a map ``step(x, u) -> tuple`` of the nx entries of the next state."""
        return cls(step, nx, nu, 1.0, "discrete", noise_std=noise_std)

    def _check(self, derivative: Callable) -> None:
        """Compile once and count the entries."""
        try:
            count = len(self._f(np.zeros(self.nx), np.zeros(self.nu)))
        except (NumbaError, TypeError) as error:
            raise ConfigError(f"{derivative.__name__}: cannot be compiled: {error}") from None
        if count != self.nx:
            raise ConfigError(f"{derivative.__name__}: returned {count} entries; expected nx = {self.nx}")

    def _run(self, function: Callable, *args: Any) -> None:
        """Call a kernel; what only shows with complex numbers (a comparison, say) is the user's mistake too."""
        try:
            function(self._f, self._method, *args)
        except NumbaError as error:
            raise ConfigError(f"{self._f.py_func.__name__}: cannot be compiled: {error}") from None

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Mean next states: x (B, nx), u (B, nu) -> (B, nx)."""
        out = np.empty((len(x), self.nx))
        self._run(kernel.step, contiguous(x), contiguous(u), out)
        return out

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step`, to rounding: A = dx'/dx (B, nx, nx), B = dx'/du (B, nx, nu)."""
        F = np.empty((len(x), self.nx, self.nx + self.nu))
        self._run(kernel.linearize, contiguous(x), contiguous(u), F)
        return F[:, :, : self.nx], F[:, :, self.nx :]

    def hessian(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Second derivatives of `step` by (x, u): (B, nx, nx + nu, nx + nu), to about 9 digits."""
        n = self.nx + self.nu
        out = np.empty((len(x), self.nx, n, n))
        self._run(kernel.hessian, contiguous(x), contiguous(u), out)
        return out

    def rollout(
        self, x0: np.ndarray, actions: np.ndarray, rng: np.random.Generator | None, particles: int
    ) -> np.ndarray:
        """See `Dynamics.rollout`; all candidates share a particle's noise. States (P, N, H + 1, nx)."""
        n, horizon, _ = actions.shape
        shape = (particles, horizon, self.nx)
        noise = np.zeros(shape) if rng is None else rng.standard_normal(shape) * self._noise_std
        starts = contiguous(np.broadcast_to(x0, (particles, self.nx)))
        out = np.empty((particles, n, horizon + 1, self.nx))
        self._run(kernel.rollout, starts, contiguous(actions), noise, out)
        return out

    def rollout_feedback(
        self,
        nominal: tuple[np.ndarray, np.ndarray],
        policy: tuple[np.ndarray, np.ndarray],
        alphas: np.ndarray,
        limits: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean motion under ``u = clip(u_hat + alpha k + K (x - x_hat), *limits)``, for each alpha.

        Args:
            nominal: x_hat (H + 1, nx), whose first row is the start, and u_hat (H, nu).
            policy: k (H, nu) and K (H, nu, nx).
            alphas: step lengths (N,).
            limits: lower and upper control limits (nu,).

        Returns:
            States (N, H + 1, nx) and actions (N, H, nu).
        """
        horizon, count = len(nominal[1]), len(alphas)
        states, actions = np.empty((count, horizon + 1, self.nx)), np.empty((count, horizon, self.nu))
        states[:, 0] = nominal[0][0]
        args = tuple((contiguous(a), contiguous(b)) for a, b in (nominal, policy, limits))
        self._run(kernel.rollout_feedback, args[0], args[1], contiguous(alphas), args[2], states, actions)
        return states, actions


def contiguous(a: np.ndarray) -> np.ndarray:
    """`a` as the kernels take it."""
    return np.ascontiguousarray(a, np.float64)
