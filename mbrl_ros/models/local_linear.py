"""Linear-Gaussian dynamics along a motion: x_{t+1} = A_t x_t + B_t u_t + c_t + e_t, e_t ~ N(0, Sigma_t).

`fit_time_varying` regresses x_{t+1} on (x_t, u_t) over several trajectories, period by period, with a
normal-inverse-Wishart prior on the joint Gaussian of (x, u, x'), so that fewer trajectories than entries are enough
(Levine and Abbeel 2014, section 3.1; Levine et al. 2016, appendix A.3). The prior is a Gaussian mixture of all
transitions or what a global model predicts around the points. `OnlineLocalModel` is the same around now, from the
newest transitions (Fu, Levine and Abbeel 2016).
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.gaussian_mixture import GaussianMixture
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.normal_inverse_wishart import Moments, NormalInverseWishart, from_joint, joint_around

SMALLEST_STD = 1e-5  # of a predicted entry, in the unit of the state: positions that follow from velocities have none
RIDGE = 1e-6  # prior precision and noise where there is no prior: nothing but a solution that exists


@dataclass(frozen=True)
class LocalLinear:
    """Time-varying linear-Gaussian dynamics over H periods, F and f of `planners.lqr`: `jacobian` and `c`.

    Attributes:
        A: (H, nx, nx).
        B: (H, nx, nu).
        c: (H, nx).
        covariance: of the noise, (H, nx, nx).
    """

    A: np.ndarray
    B: np.ndarray
    c: np.ndarray
    covariance: np.ndarray

    @property
    def jacobian(self) -> np.ndarray:
        """A and B side by side, (H, nx, nx + nu)."""
        return np.concatenate([self.A, self.B], axis=2)

    def states(self, x0: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (H + 1, nx) and covariance (H + 1, nx, nx) of the states from x0 (nx,) under actions (H, nu)."""
        means, covariances = [np.asarray(x0, float)], [np.zeros_like(self.A[0])]
        for A, B, c, noise, u in zip(self.A, self.B, self.c, self.covariance, actions, strict=True):
            means.append(A @ means[-1] + B @ u + c)
            covariances.append(A @ covariances[-1] @ A.T + noise)
        return np.array(means), np.array(covariances)


class JointPrior(Protocol):
    """Something that knows, roughly, how (x, u, x') hang together near given points."""

    def joint(self, points: np.ndarray, nx: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and covariance (n, n) of (x, u, x') for the transitions `points` (N, n = 2 nx + nu)."""


@dataclass(frozen=True)
class MixturePrior:
    """A Gaussian mixture over all transitions (x, u, x'), weighted by how likely its parts made the points."""

    mixture: GaussianMixture

    def joint(self, points: np.ndarray, nx: int) -> tuple[np.ndarray, np.ndarray]:
        """See `JointPrior.joint`."""
        return self.mixture.moments(self.mixture.responsibilities(points).mean(axis=0))


@dataclass(frozen=True)
class GlobalPrior:
    """What a global model predicts around the points, linearly within `spread`.

    Attributes:
        model: any learned model.
        spread: standard deviations (nx + nu,) of the region about a point.
    """

    model: LearnedModel
    spread: np.ndarray

    def __post_init__(self) -> None:
        expected = self.model.nx + self.model.nu
        if np.shape(self.spread) != (expected,) or not np.all(np.asarray(self.spread) > 0.0):
            raise ConfigError(f"spread: {self.spread} is not allowed; expected {expected} values above zero")

    def joint(self, points: np.ndarray, nx: int) -> tuple[np.ndarray, np.ndarray]:
        """See `JointPrior.joint`; of the points only x and u are used."""
        model, z = self.model, points[:, : nx + self.model.nu]
        x, u = z[:, :nx], z[:, nx:]
        slope = np.concatenate(model.linearize(x, u), axis=2)
        spread = np.diag(np.square(self.spread))
        return joint_around(z, model.step(x, u), slope, spread, next_state_noise(model, x, u))


def next_state_noise(model: LearnedModel, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Covariance (B, nx, nx) of the next state, what the model does not know included: x (B, nx), u (B, nu)."""
    parts, G = model.uncertainty(x, u), effect_of_change(model.layout)
    variance = parts.aleatoric + parts.epistemic
    return (G * variance[:, None]) @ G.T + SMALLEST_STD**2 * np.eye(model.nx)


def effect_of_change(layout: StateLayout) -> np.ndarray:
    """Derivative (nx, ny) of the next state by the change of the learned entries."""
    ny = len(layout.learned)
    return layout.integrate(np.zeros((ny, layout.nx)), np.eye(ny)).T


def fit_time_varying(
    x: np.ndarray, u: np.ndarray, prior: JointPrior | None = None, strength: float = 1.0
) -> LocalLinear:
    """Fit every period by itself over N trajectories.

    Args:
        x: states (N, H + 1, nx).
        u: actions that were applied (N, H, nu).
        prior: None is the least prior with which a solution exists: x' = x, worth nearly nothing.
        strength: trajectories that the prior is worth.

    Raises:
        FitError: arrays that do not belong together, no trajectory, or values that are not finite.
        ConfigError: strength is not above zero.
    """
    if not strength > 0.0:
        raise ConfigError(f"strength: {strength} is not allowed; expected above zero")
    if x.ndim != 3 or u.ndim != 3 or len(x) == 0 or x.shape[:2] != (len(u), u.shape[1] + 1):
        raise FitError(f"time-varying fit: states {x.shape} and actions {u.shape}; expected (N, H + 1, nx), (N, H, nu)")
    if not (np.isfinite(x).all() and np.isfinite(u).all()):
        raise FitError("time-varying fit: states or actions are not finite")
    nx = x.shape[2]
    rows = np.concatenate([x[:, :-1], u, x[:, 1:]], axis=2)  # (N, H, n)
    fits = [posterior_of(points, nx, prior, strength) for points in rows.swapaxes(0, 1)]
    return as_dynamics(fits, nx)


def posterior_of(points: np.ndarray, nx: int, prior: JointPrior | None, strength: float) -> NormalInverseWishart:
    """What is believed about x' given (x, u, 1) after the transitions `points` (N, 2 nx + nu)."""
    d = points.shape[1] - nx
    z = np.column_stack([points[:, :d], np.ones(len(points))])
    if prior is None:
        still = np.eye(nx, d + 1)
        belief = NormalInverseWishart.weak(still, np.full(d + 1, RIDGE), np.full(nx, RIDGE))
    else:
        belief = from_joint(*prior.joint(points, nx), d, strength)
    return belief.posterior(Moments.of(z, points[:, d:]))


def as_dynamics(fits: list[NormalInverseWishart], nx: int) -> LocalLinear:
    """Beliefs about x' given (x, u, 1), one a period, as dynamics: their means."""
    W = np.stack([fit.mean for fit in fits])
    return LocalLinear(W[:, :, :nx], W[:, :, nx:-1], W[:, :, -1], np.stack([fit.noise for fit in fits]))


@dataclass(frozen=True)
class OnlineLocalConfig:
    """Settings of the local model around now."""

    kept: float = option(0.95, "weight of a transition one period later, of 1 when it is new", low=0.0, high=1.0)
    strength: float = option(5.0, "transitions that the global model is worth", low=1e-6, high=1e6)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class OnlineLocalModel:
    """Linear-Gaussian dynamics around now: the newest transitions, with a global model as prior.

    What is regressed is what the global model was off by, so its curvature is kept and nothing is to be learned where
    it is right. The prior, no error within the region around (x, u), is made anew wherever the model is asked; the
    transitions' moments fade and grow by one rank a period. The result is the posterior after rows weighted
    ``kept^age``.

    Attributes:
        prior: the global model and the region in which its Jacobian is believed.
        config: settings.
        moments: of (x, u, 1) and what the global model was off by, x' - f(x, u); None before the first transition.
    """

    prior: GlobalPrior
    config: OnlineLocalConfig = OnlineLocalConfig()
    moments: Moments | None = None

    def observed(self, x: np.ndarray, u: np.ndarray, x_next: np.ndarray) -> "OnlineLocalModel":
        """The model after one more transition: x (nx,), u (nu,), x_next (nx,).

        Raises:
            FitError: values that are not finite.
        """
        if not all(np.isfinite(part).all() for part in (x, u, x_next)):
            raise FitError("local model: the transition is not finite")
        predicted = self.prior.model.step(np.asarray(x)[None], np.asarray(u)[None])[0]
        new = Moments.of(np.concatenate([x, u, [1.0]])[None], (x_next - predicted)[None])
        return replace(self, moments=new if self.moments is None else added(self.moments, new, self.config.kept))

    def at(self, x: np.ndarray, u: np.ndarray) -> LocalLinear:
        """A, B, c and the noise around x (nx,), u (nu,), one period long (H = 1)."""
        model, z = self.prior.model, np.concatenate([x, u])[None]
        x, u = z[:, : model.nx], z[:, model.nx :]
        A, B = model.linearize(x, u)
        c = model.step(x, u)[0] - A[0] @ x[0] - B[0] @ u[0]
        off = self._off(z[0], next_state_noise(model, x, u)[0])
        found = as_dynamics([off], model.nx)
        return LocalLinear(A + found.A, B + found.B, c + found.c, found.covariance)

    def _off(self, z: np.ndarray, noise: np.ndarray) -> NormalInverseWishart:
        """What is believed about the global model's error as a linear function around z (nx + nu,): none, at first."""
        d, nx = len(z), len(noise)
        covariance = np.block([[np.diag(np.square(self.prior.spread)), np.zeros((d, nx))], [np.zeros((nx, d)), noise]])
        belief = from_joint(np.concatenate([z, np.zeros(nx)]), covariance, d, self.config.strength)
        return belief if self.moments is None else belief.posterior(self.moments)


def added(old: Moments, new: Moments, kept: float) -> Moments:
    """The sums of both, the old ones counting `kept` times."""
    return Moments(*(kept * getattr(old, k) + getattr(new, k) for k in ("count", "zz", "zy", "yy")))
