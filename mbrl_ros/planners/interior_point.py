"""Primal-dual interior-point method for sparse nonlinear programs with exact derivatives.

    minimise f(v)  subject to  c(v) = 0,  low <= v <= high

After Waechter and Biegler (2006, Math. Programming 106, "W&B", the method of Ipopt) with two simpler parts: the
inertia of the Newton system is judged by the curvature along the step (Chiang and Zavala 2016), and steps are accepted
by an l1 merit function (Nocedal and Wright, sections 18.3 and 19.4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

TO_BOUNDARY = 0.99  # share of the way to a limit that a step may go
ARMIJO = 1e-4
SMALLEST_STEP = 1e-8
LARGEST_MULTIPLIER = 1e5  # change of a multiplier, against the cost's slope, that shows dependent constraints
ROW_REGULARISATION = 1e-9  # keeps the Newton system solvable where constraints depend on each other


Solver = Callable[[np.ndarray], np.ndarray]


class NonlinearProgram(Protocol):
    """What is solved. Unknowns v (n,); those whose limits meet stay there."""

    low: np.ndarray
    high: np.ndarray

    def cost(self, v: np.ndarray) -> float:
        """The cost f."""

    def gradient(self, v: np.ndarray) -> np.ndarray:
        """Gradient of f (n,)."""

    def constraints(self, v: np.ndarray) -> np.ndarray:
        """Values of c (m,)."""

    def jacobian(self, v: np.ndarray) -> sp.csr_array:
        """Jacobian of c (m, n)."""

    def hessian(self, v: np.ndarray, multipliers: np.ndarray) -> sp.csr_array:
        """Hessian of ``f + multipliers . c`` (n, n), or an approximation."""


@dataclass(frozen=True)
class NLPResult:
    """Unknowns v (n,), constraint multipliers (m,), and how it went: converged, iterations limit, stopped, stuck."""

    v: np.ndarray
    multipliers: np.ndarray
    status: str
    iterations: int


@dataclass
class Iterate:
    """Free unknowns and multipliers: v (k,), of the constraints (m,), of the lower and upper limits (k,)."""

    v: np.ndarray
    y: np.ndarray
    z_low: np.ndarray
    z_high: np.ndarray


class InteriorPoint:
    """One solve; see `minimise`."""

    def __init__(self, nlp: NonlinearProgram, start: np.ndarray, tolerance: float, barrier: float) -> None:
        self.nlp, self.tolerance, self.mu = nlp, tolerance, barrier
        self.free = np.flatnonzero(nlp.low < nlp.high)
        self.full = np.clip(start, nlp.low, nlp.high).astype(float)
        self.low, self.high = nlp.low[self.free], nlp.high[self.free]
        v = self._inside(self.full[self.free])
        duals = [np.where(np.isfinite(limit), 1.0, 0.0) * min(1.0, barrier * 10.0) for limit in (self.low, self.high)]
        self.at = Iterate(v, np.zeros(len(nlp.constraints(self.full))), *duals)
        self.delta, self.penalty = 0.0, 1.0
        self._expand()

    def _inside(self, v: np.ndarray) -> np.ndarray:
        """Push unknowns off their limits (W&B section 3.6)."""
        return np.clip(v, self.low + self._margin(self.low), self.high - self._margin(self.high))

    def _margin(self, limit: np.ndarray) -> np.ndarray:
        """Distance kept from a limit at the start (k,), less under a lower barrier; 0 where it is infinite."""
        margin = min(1e-2, self.mu) * np.minimum(np.maximum(1.0, np.abs(limit)), self.high - self.low)
        return np.where(np.isfinite(limit), margin, 0.0)

    def whole(self, v: np.ndarray) -> np.ndarray:
        """All unknowns from the free ones."""
        out = self.full.copy()
        out[self.free] = v
        return out

    def _expand(self) -> None:
        """Derivatives at the current iterate."""
        v = self.whole(self.at.v)
        self.g = self.nlp.gradient(v)[self.free]
        self.c = self.nlp.constraints(v)
        self.J = sp.csr_array(self.nlp.jacobian(v))[:, self.free]
        self.s_low, self.s_high = self.at.v - self.low, self.high - self.at.v

    def error(self, mu: float) -> float:
        """Violation of the optimality conditions of the barrier problem (W&B equation 5)."""
        at = self.at
        size = np.abs(at.y).sum() + at.z_low.sum() + at.z_high.sum()
        scale = max(100.0, size / (len(at.y) + 2 * len(at.v))) / 100.0
        dual = np.abs(self.g + self.J.T @ at.y - at.z_low + at.z_high).max() / scale
        gaps = [
            np.abs(s[np.isfinite(s)] * z[np.isfinite(s)] - mu).max(initial=0.0)
            for s, z in ((self.s_low, at.z_low), (self.s_high, at.z_high))
        ]
        return max(dual, np.abs(self.c).max(initial=0.0), max(gaps) / scale)

    def lower_barrier(self) -> None:
        """Less barrier as soon as its problem is solved well enough (W&B equation 7)."""
        while self.mu > 0.1 * self.tolerance and self.error(self.mu) < 10.0 * self.mu:
            self.mu = max(0.1 * self.tolerance, min(0.2 * self.mu, self.mu**1.5))
            self.penalty = 1.0

    def merit(self, v: np.ndarray) -> float:
        """Barrier function plus the l1 norm of the constraints; +inf where something is not finite."""
        whole = self.whole(v)
        with np.errstate(all="ignore"):
            logs = (
                np.log(v - self.low)[np.isfinite(self.low)].sum() + np.log(self.high - v)[np.isfinite(self.high)].sum()
            )
            value = self.nlp.cost(whole) - self.mu * logs + self.penalty * np.abs(self.nlp.constraints(whole)).sum()
        return value if np.isfinite(value) else np.inf

    def newton(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Factorise the Newton system, regularised until the curvature along the step is positive (W&B section 3.1).

        Returns:
            Step (k,), change of the constraints' multipliers (m,), curvature along the step.
        """
        at, k, m = self.at, len(self.at.v), len(self.at.y)
        H = sp.csr_array(self.nlp.hessian(self.whole(at.v), at.y))[self.free][:, self.free]
        barrier = at.z_low / self.s_low + at.z_high / self.s_high
        residual = self.slope() + self.J.T @ at.y
        delta = 0.0
        while delta < 1e20:
            solve = factorised(H, self.J, barrier + delta, np.full(m, ROW_REGULARISATION))
            solution = -solve(np.concatenate([residual, self.c]))
            step = solution[:k]
            curvature = step @ (H @ step) + (barrier + delta) @ step**2
            if np.all(np.isfinite(solution)) and curvature >= 1e-8 * (step @ step):
                self.delta = delta
                return step, solution[k:], curvature
            delta = max(1e-4, self.delta / 3.0) if delta == 0.0 else 8.0 * delta
        raise np.linalg.LinAlgError("no regularisation is enough")

    def slope(self) -> np.ndarray:
        """Gradient of the barrier function (k,)."""
        return self.g - self.mu / self.s_low + self.mu / self.s_high

    def longest(self, s: np.ndarray, ds: np.ndarray) -> float:
        """Longest step in (0, 1] that keeps ``s + alpha ds`` positive, by a margin (W&B equation 15)."""
        shrinks = ds < 0.0
        margin = max(TO_BOUNDARY, 1.0 - self.mu)
        return min(1.0, margin * np.min(s[shrinks] / -ds[shrinks], initial=np.inf))

    def advance(self) -> bool:
        """One iteration; False where neither a Newton step nor one towards feasibility is accepted."""
        try:
            step, dy, curvature = self.newton()
        except (np.linalg.LinAlgError, RuntimeError):  # splu raises RuntimeError where the system is singular
            return self.restore()
        if np.abs(dy).max(initial=0.0) > LARGEST_MULTIPLIER * max(1.0, np.abs(self.g).max()):
            return self.restore()
        slope, violation = self.slope() @ step, np.abs(self.c).sum()
        if violation > 0.0:
            self.penalty = max(self.penalty, 1.1 * (slope + 0.5 * curvature) / (0.9 * violation))
        v, alpha = self._search(step, slope - self.penalty * violation)
        if v is None:
            return self.restore()
        at = self.at
        dz_low = self.mu / self.s_low - at.z_low - at.z_low / self.s_low * step
        dz_high = self.mu / self.s_high - at.z_high + at.z_high / self.s_high * step
        dual = min(self.longest(at.z_low, dz_low), self.longest(at.z_high, dz_high))
        self.at = Iterate(v, at.y + alpha * dy, at.z_low + dual * dz_low, at.z_high + dual * dz_high)
        self._expand()
        self._keep_duals_near()
        return True

    def restore(self) -> bool:
        """Levenberg-Marquardt step towards feasibility, the multipliers forgotten; False where there is none."""
        k, m, violation = len(self.at.v), len(self.at.y), np.abs(self.c).sum()
        if not (np.isfinite(violation) and np.all(np.isfinite(self.J.data))):
            return False
        damping = 1e-2 * (1.0 + 1e-2 / self.s_low**2 + 1e-2 / self.s_high**2)
        solve = factorised(sp.csr_array((k, k)), self.J, damping, np.ones(m))
        step = -solve(np.concatenate([np.zeros(k), self.c]))[:k]
        alpha = min(self.longest(self.s_low, step), self.longest(self.s_high, -step))
        while alpha > SMALLEST_STEP and violation > self.tolerance:
            v = self.at.v + alpha * step
            if np.abs(self.nlp.constraints(self.whole(v))).sum() <= (1.0 - ARMIJO * alpha) * violation:
                self.at.v, self.at.y, self.penalty = v, np.zeros(m), 1.0
                self._expand()
                self.at.z_low, self.at.z_high = self.mu / self.s_low, self.mu / self.s_high
                return True
            alpha *= 0.5
        return False

    def _search(self, step: np.ndarray, descent: float) -> tuple[np.ndarray | None, float]:
        """Backtracking on the merit function: new unknowns, None where there are none, and the step length."""
        now = self.merit(self.at.v)
        slack = 1e-13 * max(1.0, abs(now))  # what rounding may add
        alpha = min(self.longest(self.s_low, step), self.longest(self.s_high, -step))
        while alpha > SMALLEST_STEP:
            v = self.at.v + alpha * step
            if self.merit(v) <= now + ARMIJO * alpha * descent + slack:
                return v, alpha
            alpha *= 0.5
        return None, 0.0

    def _keep_duals_near(self) -> None:
        """Limit multipliers stay within reach of ``mu / s`` (W&B equation 16)."""
        for name, s in (("z_low", self.s_low), ("z_high", self.s_high)):
            finite = np.isfinite(s)
            z = getattr(self.at, name)
            z[finite] = np.clip(z[finite], self.mu / (1e10 * s[finite]), 1e10 * self.mu / s[finite])


def factorised(H: sp.csr_array, J: sp.csr_array, top: np.ndarray, bottom: np.ndarray) -> Solver:
    """Solver of ``[[H + diag(top), J'], [J, -diag(bottom)]]``: H (k, k), J (m, k)."""
    H, J, k = H.tocoo(), J.tocoo(), len(top)
    diagonal = np.arange(k + len(bottom))
    rows = np.concatenate([H.row, J.row + k, J.col, diagonal])
    columns = np.concatenate([H.col, J.col, J.row + k, diagonal])
    values = np.concatenate([H.data, J.data, J.data, top, -bottom])
    return splu(sp.csc_array((values, (rows, columns)))).solve


def minimise(
    nlp: NonlinearProgram,
    start: np.ndarray,
    *,
    iterations: int = 200,
    tolerance: float = 1e-8,
    barrier: float = 0.1,
    allowed: Callable[[], bool] = lambda: True,
) -> NLPResult:
    """Solve a nonlinear program.

    Args:
        nlp: the program.
        start: first unknowns (n,), feasible or not.
        iterations: most iterations.
        tolerance: largest violation of the optimality conditions.
        barrier: first barrier parameter; small for starts near a solution.
        allowed: asked before each iteration whether there is time for it.

    Returns:
        The last iterate; status ``converged``, ``iterations``, ``stopped`` (not allowed) or ``stuck``.
    """
    solver = InteriorPoint(nlp, start, tolerance, barrier)
    status, done = "iterations", 0
    while done < iterations:
        if solver.error(0.0) <= tolerance:
            status = "converged"
            break
        if not allowed():
            status = "stopped"
            break
        solver.lower_barrier()
        done += 1
        if not solver.advance():
            status = "stuck"
            break
    return NLPResult(solver.whole(solver.at.v), solver.at.y, status, done)
