"""Bayesian multivariate linear regression, conjugate: what is believed about W and S in y = W z + e, e ~ N(0, S).

The belief is matrix-normal-inverse-Wishart (MNIW): ``S ~ IW(scale, degrees)``, ``W | S ~ MN(mean, S, covariance)``,
that is, ``cov(vec W | S)`` is the Kronecker product of `covariance` and S. A prior and a posterior are the same kind
of object (Gelman et al. 2013, Bayesian Data Analysis, chapter 14; Minka 2000, Bayesian linear regression). A belief
about the joint Gaussian of (z, y), the normal-inverse-Wishart of Levine and Abbeel (2014), conditions to it: see
`from_joint`. With a constant 1 as last (or first) entry of z, W holds an intercept.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import multigammaln
from scipy.stats import invwishart

from mbrl_ros.errors import ConfigError

WEAKEST = 2.0  # degrees of freedom beyond ny with which the noise has a mean at all, a single observation's worth


@dataclass(frozen=True)
class Moments:
    """All that n weighted rows (z, y) tell about W and S.

    Attributes:
        count: sum of the weights.
        zz: sum of z z' (d, d).
        zy: sum of z y' (d, ny).
        yy: sum of y y' (ny, ny).
    """

    count: float
    zz: np.ndarray
    zy: np.ndarray
    yy: np.ndarray

    @classmethod
    def of(cls, z: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> "Moments":
        """Rows z (n, d), y (n, ny), each counting `weights` (n,) times, once where None."""
        weighted = z if weights is None else z * weights[:, None]
        count = float(len(z) if weights is None else weights.sum())
        return cls(count, weighted.T @ z, weighted.T @ y, (y if weights is None else y * weights[:, None]).T @ y)


@dataclass(frozen=True)
class NormalInverseWishart:
    """A belief about W (ny, d) and S (ny, ny).

    Attributes:
        mean: of W, (ny, d).
        covariance: of W's columns, (d, d), in units of the noise.
        scale: of S, (ny, ny).
        degrees: of freedom of S, above ny + 1 for the noise to have a mean.
    """

    mean: np.ndarray
    covariance: np.ndarray
    scale: np.ndarray
    degrees: float

    def __post_init__(self) -> None:
        ny, d = np.shape(self.mean)
        if np.shape(self.covariance) != (d, d) or np.shape(self.scale) != (ny, ny):
            shapes = f"{np.shape(self.mean)}, {np.shape(self.covariance)}, {np.shape(self.scale)}"
            raise ConfigError(f"mean, covariance, scale: shapes {shapes}; expected (ny, d), (d, d), (ny, ny)")
        if not self.degrees > ny - 1:
            raise ConfigError(f"degrees: {self.degrees:g} is not allowed; expected more than ny - 1 = {ny - 1}")

    @classmethod
    def weak(cls, mean: np.ndarray, precision: np.ndarray, noise: np.ndarray) -> "NormalInverseWishart":
        """The weakest belief whose noise has a mean.

        Args:
            mean: of W, (ny, d).
            precision: of each column of W, (d,), in units of 1 / noise.
            noise: variance (ny,) expected of each output.
        """
        return cls(mean, np.diag(1.0 / precision), np.diag(noise), len(mean) + WEAKEST)

    @property
    def noise(self) -> np.ndarray:
        """Mean of S, (ny, ny); not finite where degrees <= ny + 1."""
        excess = self.degrees - len(self.scale) - 1.0
        return self.scale / excess if excess > 0.0 else np.full_like(self.scale, np.inf)

    def posterior(self, moments: Moments) -> "NormalInverseWishart":
        """The belief after the rows that the moments were made of."""
        before = inverse(self.covariance)
        covariance = inverse(before + moments.zz)
        shift = (moments.zy.T - self.mean @ moments.zz) @ covariance
        mean = self.mean + shift
        fit = mean @ moments.zy
        residual = moments.yy - fit - fit.T + mean @ moments.zz @ mean.T
        scale = symmetric(self.scale + residual + shift @ before @ shift.T)
        return NormalInverseWishart(mean, covariance, scale, self.degrees + moments.count)

    def updated(self, z: np.ndarray, y: np.ndarray) -> "NormalInverseWishart":
        """The belief after one more row z (d,), y (ny,): recursive least squares, O(d^2) by rank one."""
        spread = self.covariance @ z
        surprise, inflation = y - self.mean @ z, 1.0 + z @ spread
        return NormalInverseWishart(
            self.mean + np.outer(surprise, spread) / inflation,
            self.covariance - np.outer(spread, spread) / inflation,
            self.scale + np.outer(surprise, surprise) / inflation,
            self.degrees + 1.0,
        )

    def faded(self, kept: float, prior: "NormalInverseWishart") -> "NormalInverseWishart":
        """What the rows told counts `kept` (0 to 1) times as much as it did; the prior's own part stays.

        Stabilised forgetting (Kulhavy and Zarrop 1993): the density is ``belief^kept prior^(1 - kept)``. Faded before
        every update, the belief is at all times the prior with rows weighted ``kept^age``, and where nothing moves it
        falls back to the prior instead of to nothing.
        """
        ours, theirs = kept * inverse(self.covariance), (1.0 - kept) * inverse(prior.covariance)
        covariance = inverse(ours + theirs)
        mean = (self.mean @ ours + prior.mean @ theirs) @ covariance
        to_ours, to_theirs = self.mean - mean, prior.mean - mean
        scale = kept * self.scale + (1.0 - kept) * prior.scale
        scale = symmetric(scale + to_ours @ ours @ to_ours.T + to_theirs @ theirs @ to_theirs.T)
        degrees = kept * self.degrees + (1.0 - kept) * prior.degrees
        return NormalInverseWishart(mean, covariance, scale, degrees)

    def leverage(self, z: np.ndarray) -> np.ndarray:
        """``z' covariance z`` of rows z (B, d): variance (B,) of W z in units of the noise."""
        return np.einsum("bi,ij,bj->b", z, self.covariance, z)

    def predictive(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """The multivariate Student-t of y at each z (B, d).

        Returns:
            Mean (B, ny); covariance (B, ny, ny), not finite where degrees <= ny + 1; degrees of freedom
            ``degrees - ny + 1``. The shape matrix is the covariance times ``(degrees - ny - 1) / (degrees - ny + 1)``.
        """
        covariance = (1.0 + self.leverage(z))[:, None, None] * self.noise
        return z @ self.mean.T, covariance, self.degrees - len(self.scale) + 1.0

    def sample(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws of W (count, ny, d) and S (count, ny, ny)."""
        ny, d = self.mean.shape
        S = invwishart(self.degrees, self.scale).rvs(count, random_state=rng).reshape(count, ny, ny)
        normal = rng.standard_normal((count, ny, d))
        return self.mean + np.linalg.cholesky(S) @ normal @ np.linalg.cholesky(self.covariance).T, S


def log_evidence(prior: NormalInverseWishart, posterior: NormalInverseWishart) -> float:
    """Logarithm of the marginal likelihood of the rows that lead from the prior to the posterior."""
    ny, count = len(prior.scale), posterior.degrees - prior.degrees
    weights = 0.5 * ny * (log_det(posterior.covariance) - log_det(prior.covariance))
    noise = 0.5 * (prior.degrees * log_det(prior.scale) - posterior.degrees * log_det(posterior.scale))
    constant = multigammaln(0.5 * posterior.degrees, ny) - multigammaln(0.5 * prior.degrees, ny)
    return float(weights + noise + constant - 0.5 * count * ny * np.log(np.pi))


def joint_around(
    z: np.ndarray, y: np.ndarray, slope: np.ndarray, spread: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (z, y) that a model predicts around points (Fu, Levine and Abbeel 2016).

    Around each of n points z lies a Gaussian of covariance `spread`, which the model maps linearly; the points together
    are a mixture of equal parts.

    Args:
        z: points (n, d).
        y: the model's predictions there (n, ny).
        slope: its Jacobians there (n, ny, d).
        spread: (d, d), the region about a point in which its Jacobian is believed.
        noise: covariance of y at each point (n, ny, ny).

    Returns:
        Mean (d + ny,) and covariance (d + ny, d + ny).
    """
    rows = np.concatenate([z, y], axis=1)
    mean = rows.mean(axis=0)
    cross = (slope @ spread).mean(axis=0)
    within = (slope @ spread @ slope.swapaxes(1, 2) + noise).mean(axis=0)
    between = (rows - mean).T @ (rows - mean) / len(rows)
    return mean, symmetric(between + np.block([[spread, cross.T], [cross, within]]))


def from_joint(
    mean: np.ndarray, covariance: np.ndarray, d: int, count: float, mean_count: float | None = None
) -> NormalInverseWishart:
    """The belief about y given (z, 1) that a belief about the joint Gaussian of (z, y) implies.

    A normal-inverse-Wishart on the joint with Phi = n0 covariance, mu0 = mean, n0 = `count`, m = `mean_count` (Levine
    and Abbeel 2014, section 3.1) conditions to this; its posterior W is that of their update, its expected noise that
    of the joint.

    Args:
        mean: of (z, y), (d + ny,).
        covariance: of (z, y), (d + ny, d + ny), positive definite in z.
        d: entries of z.
        count: rows that the covariance is worth, above zero.
        mean_count: rows that the mean is worth, `count` where None.

    Returns:
        A belief with W (ny, d + 1), the intercept last.
    """
    m = count if mean_count is None else mean_count
    ny = len(mean) - d
    slope = np.linalg.solve(covariance[:d, :d], covariance[:d, d:]).T
    noise = symmetric(covariance[d:, d:] - slope @ covariance[:d, d:])
    W = np.column_stack([slope, mean[d:] - slope @ mean[:d]])
    # inverse of [[n0 C + m mu mu', m mu], [m mu', m]]
    columns = np.zeros((d + 1, d + 1))
    columns[:d, :d] = inverse(count * covariance[:d, :d])
    columns[:d, d] = columns[d, :d] = -columns[:d, :d] @ mean[:d]
    columns[d, d] = 1.0 / m - columns[d, :d] @ mean[:d]
    return NormalInverseWishart(W, columns, count * noise, count + ny + 1.0)


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix; ConfigError where it is not."""
    try:
        return symmetric(cho_solve(cho_factor(matrix), np.eye(len(matrix))))
    except (np.linalg.LinAlgError, ValueError):
        raise ConfigError("linear regression: a covariance is not positive definite or not finite") from None


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """The symmetric part, free of rounding."""
    return 0.5 * (matrix + matrix.T)


def log_det(matrix: np.ndarray) -> float:
    """Logarithm of the determinant of a positive definite matrix."""
    return float(np.linalg.slogdet(matrix)[1])
