"""Multiple shooting: parameters of dynamics from noisy trajectories, by windows whose first states are unknown, too.

Every window is predicted in one go from its own first state (Bock 1981; van Domselaar and Hemker 1975). Least squares
on one-step predictions would take the noise of its inputs for motion and be biased; here noise enters the outputs only
(output error, Ljung 1999, section 7). Gauss-Newton steps with Levenberg and Marquardt's damping, which follows the
share of the expected decrease that a step brings (Nielsen 1999, IMM-REP-1999-05); the first states enter one window
each and are eliminated (Schur complement), so that the cost is linear in the data. Measurements far off the fit count
less and less, see `loss`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbrl_ros.models.fitting import FitError
from mbrl_ros.types import Transitions

SMALLEST_SCALE = 1e-6  # of the noise, in spreads of the entry: data without noise must not be divided by zero
TOLERANCE = 1e-5  # relative decrease of the loss below which a search ends; a hundredth of a nat at 1,000 transitions
COARSE = 1e-4  # the same while the noise is still to be found
DAMPING = (1e-3, 1e-12, 1e12)  # first, smallest and largest
MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


class System(Protocol):
    """Dynamics with parameters z in unbounded coordinates, whose prior is N(z0, prior_std^2)."""

    z0: np.ndarray
    prior_std: float

    def step(self, x: np.ndarray, u: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Next states: x (B, nx), u (B, nu), z (n_p,) -> (B, nx)."""

    def linearize(self, x: np.ndarray, u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of `step` by x (B, nx, nx) and by z (B, nx, n_p)."""


@dataclass(frozen=True)
class Windows:
    """M stretches of motion of W periods at most.

    Attributes:
        y: measured states (M, W + 1, nx); after a shorter window's end its last one is repeated.
        u: actions (M, W, nu).
        there: (M, W + 1) whether there is a measurement.
    """

    y: np.ndarray
    u: np.ndarray
    there: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index) -> "Windows":
        return Windows(self.y[index], self.u[index], self.there[index])

    @property
    def smooth_start(self) -> np.ndarray:
        """First guess of the first states (M, nx): the median of the first three, which one wild value cannot move."""
        count = self.there.sum(axis=1)
        middle = np.median(self.y[:, : min(3, self.y.shape[1])], axis=1)
        wild = np.abs(self.y[:, 0] - middle) > 20.0 * self.spread
        return np.where(wild & (count > 2)[:, None], middle, self.y[:, 0])

    @property
    def spread(self) -> np.ndarray:
        """Typical change of each entry in one period (nx,)."""
        pairs = self.there[:, 1:]
        change = np.abs(np.diff(self.y, axis=1)[pairs])
        return MAD * np.median(change, axis=0) + SMALLEST_SCALE if len(change) else np.ones(self.y.shape[2])


@dataclass(frozen=True)
class Estimate:
    """Result of `estimate`.

    Attributes:
        z: parameters (n_p,) in unbounded coordinates.
        starts: first states of the windows that were fitted to (M, nx), those with a finite prediction.
        scale: standard deviation of the measurements (nx,).
        covariance: of z (n_p, n_p), Laplace's: inverse of the Gauss-Newton Hessian, first states marginalised.
        loss: robust loss of a measured value.
        steps: steps made.
    """

    z: np.ndarray
    starts: np.ndarray
    scale: np.ndarray
    covariance: np.ndarray
    loss: float
    steps: int


def windows(data: Transitions, length: int) -> Windows:
    """Cut recorded motion into windows of about `length` periods that share no measurement."""
    pieces = []
    for y, u in motions(data):
        count = max(1, round(len(y) / (length + 1)))
        for part in np.array_split(np.arange(len(y)), count):
            if len(part) > 1:
                pieces.append((y[part], u[part[:-1]]))
    longest = max(len(u) for _, u in pieces)
    padded_y = [np.concatenate([y, np.repeat(y[-1:], longest + 1 - len(y), axis=0)]) for y, _ in pieces]
    padded_u = [np.concatenate([u, np.zeros((longest - len(u), u.shape[1]))]) for _, u in pieces]
    there = np.arange(longest + 1) < np.array([len(y) for y, _ in pieces])[:, None]
    return Windows(np.array(padded_y, float), np.array(padded_u, float), there)


def motions(data: Transitions) -> list[tuple[np.ndarray, np.ndarray]]:
    """Unbroken motions: states (T + 1, nx) and actions (T, nu); where a state is not the last one's next, a new one."""
    same = (data.trajectory[1:] == data.trajectory[:-1]) & (data.x[1:] == data.x_next[:-1]).all(axis=1)
    parts = np.split(np.arange(len(data)), np.flatnonzero(~same) + 1)
    return [(np.concatenate([data.x[i], data.x_next[i[-1:]]]), data.u[i]) for i in parts]


def spread_over(w: Windows, transitions: int) -> Windows:
    """At most about so many transitions, in windows spread evenly over all."""
    keep = max(1, min(len(w), transitions // max(1, w.u.shape[1])))
    return w if keep == len(w) else w[np.unique(np.linspace(0, len(w) - 1, keep).round().astype(int))]


def loss(r: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Loss and weight of residuals r in standard deviations.

    ``r^2 / 2`` up to the cutoff c, ``c^2 (1 / 2 + log(|r| / c))`` beyond: efficient for normal noise, and the pull of a
    wild value, ``c^2 / r``, fades. Weights are those of iteratively reweighted least squares, ``loss' / r``.
    """
    beyond = np.maximum(np.abs(r) / cutoff, 1.0)
    return np.where(beyond > 1.0, cutoff**2 * (0.5 + np.log(beyond)), 0.5 * r**2), beyond**-2.0


def predict(system: System, w: Windows, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """States of all windows from their first states on: (M, W + 1, nx)."""
    x = np.empty_like(w.y)
    x[:, 0] = starts
    for k in range(w.u.shape[1]):
        x[:, k + 1] = system.step(x[:, k], w.u[:, k], z)
    return x


def sensitivities(system: System, w: Windows, z: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Derivatives of the states x (M, W + 1, nx) by first state and parameters: (M, W + 1, nx, nx + n_p)."""
    count, length, nx = x.shape
    S = np.zeros((count, length, nx, nx + len(z)))
    S[:, 0, :, :nx] = np.eye(nx)
    flat = x[:, :-1].reshape(-1, nx), w.u.reshape(-1, w.u.shape[2])
    A, P = (d.reshape(count, length - 1, nx, -1) for d in system.linearize(*flat, z))
    for k in range(length - 1):
        S[:, k + 1] = A[:, k] @ S[:, k]
        S[:, k + 1, :, nx:] += P[:, k]
    return S


class Search:
    """One search with fixed noise, from its current `z` and `starts`."""

    def __init__(self, system: System, w: Windows, scale: np.ndarray, cutoff: float) -> None:
        self.system, self.w, self.scale, self.cutoff = system, w, scale, cutoff

    def residuals(self, z: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Measured less predicted, in standard deviations, zero where nothing was measured; and the states."""
        with np.errstate(over="ignore", invalid="ignore"):
            x = predict(self.system, self.w, z, starts)
            return np.where(self.w.there[:, :, None], (self.w.y - x) / self.scale, 0.0), x

    def objective(self, z: np.ndarray, residuals: np.ndarray) -> float:
        """Loss plus the prior's; infinite where a prediction is not finite."""
        if not np.isfinite(residuals).all():
            return np.inf
        deviation = (z - self.system.z0) / self.system.prior_std
        return float(loss(residuals, self.cutoff)[0].sum() + 0.5 * deviation @ deviation)

    def normal_equations(self, z: np.ndarray, r: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Weighted Jacobian (M, R, nx + n_p), window blocks of Hessian and gradient, and the prior's part of both."""
        weight = np.sqrt(loss(r, self.cutoff)[1] * self.w.there[:, :, None])
        J = sensitivities(self.system, self.w, z, x) * (weight / self.scale)[..., None]
        J = J.reshape(len(r), -1, J.shape[-1])
        H = J.swapaxes(1, 2) @ J
        g = (J.swapaxes(1, 2) @ (weight * r).reshape(len(r), -1, 1))[..., 0]
        return J, H, g, (self.system.z0 - z) / self.system.prior_std**2

    def minimise(
        self, z: np.ndarray, starts: np.ndarray, iterations: int, tolerance: float = TOLERANCE
    ) -> tuple[np.ndarray, np.ndarray, float, int]:
        """Levenberg-Marquardt from z and starts: both at the minimum, the objective there, steps made."""
        damping, least, most = DAMPING
        r, x = self.residuals(z, starts)
        best = self.objective(z, r)
        for step in range(iterations):
            _, H, g, prior = self.normal_equations(z, r, x)
            growth = 2.0
            while damping < most:
                dz, ds = self.eliminated(H, g, prior, damping)
                r_new, x_new = self.residuals(z + dz, starts + ds)
                value = self.objective(z + dz, r_new)
                if value <= best:
                    break
                damping, growth = damping * growth, 2.0 * growth
            else:
                return z, starts, best, step
            share = (best - value) / max(self.expected(H, g, prior, dz, ds), np.finfo(float).tiny)
            damping = max(damping * max(0.1, 1.0 - (2.0 * share - 1.0) ** 3), least)
            gain, best = best - value, value
            z, starts, r, x = z + dz, starts + ds, r_new, x_new
            if gain <= tolerance * (best + 1.0):
                return z, starts, best, step + 1
        return z, starts, best, iterations

    def expected(self, H: np.ndarray, g: np.ndarray, prior: np.ndarray, dz: np.ndarray, ds: np.ndarray) -> float:
        """Decrease of the objective by a step, were it the quadratic that H (M, n, n), g (M, n) and `prior` say."""
        d = np.concatenate([ds, np.broadcast_to(dz, (len(ds), len(dz)))], axis=1)
        data = np.vdot(g, d) - 0.5 * np.vdot(d, (H @ d[:, :, None])[..., 0])
        return float(data + prior @ dz - 0.5 * (dz @ dz) / self.system.prior_std**2)

    def eliminated(
        self, H: np.ndarray, g: np.ndarray, prior: np.ndarray, damping: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Damped step of z (n_p,) and of the first states (M, nx): those are eliminated window by window."""
        nx = self.w.y.shape[2]
        n = np.arange(H.shape[1])
        H = H.copy()
        H[:, n, n] = H[:, n, n] * (1.0 + damping) + 1e-12
        K = np.linalg.solve(H[:, :nx, :nx], np.concatenate([H[:, :nx, nx:], g[:, :nx, None]], axis=2))
        reduced = (H[:, nx:, nx:] - H[:, nx:, :nx] @ K[:, :, :-1]).sum(axis=0)
        right = (g[:, nx:] - (H[:, nx:, :nx] @ K[:, :, -1:])[..., 0]).sum(axis=0) + prior
        reduced += np.eye(len(prior)) * (1.0 + damping) / self.system.prior_std**2
        dz = np.linalg.solve(reduced, right)
        return dz, K[:, :, -1] - K[:, :, :-1] @ dz

    def posterior(self, z: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Laplace covariance of z (n_p, n_p), and the leverage of every measurement (M, W + 1, nx)."""
        r, x = self.residuals(z, starts)
        J, H, _, _ = self.normal_equations(z, r, x)
        nx = starts.shape[1]
        inverse = np.linalg.pinv(H[:, :nx, :nx], hermitian=True)
        K = inverse @ H[:, :nx, nx:]
        precision = (H[:, nx:, nx:] - H[:, nx:, :nx] @ K).sum(axis=0)
        value, vector = np.linalg.eigh(0.5 * (precision + precision.T))
        value = np.maximum(value, 0.0) + 1.0 / self.system.prior_std**2  # rounding must not make it negative
        covariance = (vector / value) @ vector.T
        free = J[:, :, nx:] - J[:, :, :nx] @ K
        leverage = np.einsum("mri,mij,mrj->mr", J[:, :, :nx], inverse, J[:, :, :nx])
        leverage += np.einsum("mri,ij,mrj->mr", free, covariance, free)
        return covariance, leverage.reshape(r.shape)

    def noise(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Standard deviation of the measurements (nx,) that the fit leaves, wild ones not counted."""
        r, _ = self.residuals(z, starts)
        good = self.w.there[:, :, None] & (np.abs(r) < self.cutoff)
        left = np.where(good, 1.0 - self.posterior(z, starts)[1], 0.0).sum(axis=(0, 1))
        square = np.where(good, r**2, 0.0).sum(axis=(0, 1))
        ratio = np.sqrt(square / np.maximum(left, 0.1))
        return np.where(square > 0, self.scale * ratio, self.scale)


def estimate(system: System, w: Windows, z: np.ndarray, cutoff: float, iterations: int, rounds: int) -> Estimate:
    """Parameters, first states and noise by turns: search with the noise held, then take the noise that is left.

    Args:
        system: dynamics and prior.
        w: the data.
        z: first guess (n_p,).
        cutoff: of `loss`.
        iterations: most steps of each search.
        rounds: of search and noise.

    Raises:
        FitError: from the first guess no window has a finite prediction.
    """
    starts = w.smooth_start
    with np.errstate(over="ignore", invalid="ignore"):
        x = predict(system, w, z, starts)
    used = np.isfinite(x).all(axis=(1, 2))
    if not used.any():
        raise FitError("fit: the equation follows none of the motion; is it about this robot, in these units?")
    w, starts = w[used], starts[used]
    error, floor = (w.y - x[used])[w.there], SMALLEST_SCALE * w.spread
    scale, steps = np.maximum(MAD * np.median(np.abs(error), axis=0), floor), 0
    for i in range(rounds):
        search = Search(system, w, scale, cutoff)
        tolerance = TOLERANCE if i == rounds - 1 else COARSE
        z, starts, value, more = search.minimise(z, starts, iterations, tolerance)
        steps += more
        scale = np.maximum(search.noise(z, starts), floor)
    covariance, _ = Search(system, w, scale, cutoff).posterior(z, starts)
    return Estimate(z, starts, scale, covariance, value / max(w.there.sum() * w.y.shape[2], 1), steps)
