"""A mixture of Gaussians fitted by expectation maximisation: the prior of time-varying fits (Levine and Abbeel 2014).

Bishop 2006, Pattern Recognition and Machine Learning, section 9.2; first centres by k-means++ (Arthur and Vassilvitskii
2007). Rows are normalised to unit variance while fitting, so that entries of any unit count alike.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from mbrl_ros.models.fitting import FitError

REGULARISATION = 1e-6  # on the diagonal of the covariances, rows in unit variance
SMALLEST_STD = 1e-9
TOLERANCE = 1e-6  # growth of the mean log-likelihood that ends the iterations


@dataclass(frozen=True)
class GaussianMixture:
    """K Gaussians.

    Attributes:
        weights: (K,), they add up to 1.
        means: (K, n).
        covariances: (K, n, n).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def log_joint(self, rows: np.ndarray) -> np.ndarray:
        """Logarithm of ``weight_k N(row | mean_k, covariance_k)``: rows (B, n) -> (B, K)."""
        out = np.empty((len(rows), len(self.weights)))
        for k, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            factor = np.linalg.cholesky(covariance)
            off = solve_triangular(factor, (rows - mean).T, lower=True)
            out[:, k] = -0.5 * (off**2).sum(axis=0) - np.log(np.diag(factor)).sum()
        with np.errstate(divide="ignore"):  # a Gaussian that has lost all rows
            return out + np.log(self.weights) - 0.5 * rows.shape[1] * np.log(2.0 * np.pi)

    def responsibilities(self, rows: np.ndarray) -> np.ndarray:
        """Probability that each Gaussian made each row: (B, n) -> (B, K)."""
        joint = self.log_joint(rows)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    def log_likelihood(self, rows: np.ndarray) -> float:
        """Mean over rows (B, n)."""
        return float(logsumexp(self.log_joint(rows), axis=1).mean())

    def moments(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and covariance (n, n) of the mixture with other weights (K,)."""
        mean = weights @ self.means
        off = self.means - mean
        return mean, np.einsum("k,kij->ij", weights, self.covariances) + (off.T * weights) @ off


def fit_mixture(rows: np.ndarray, components: int, seed: int, iterations: int = 100) -> GaussianMixture:
    """Fit K = min(components, number of rows) Gaussians to rows (B, n).

    Raises:
        FitError: no rows, or rows that are not finite.
    """
    if len(rows) == 0 or not np.isfinite(rows).all():
        raise FitError(f"mixture: {len(rows)} rows, {(~np.isfinite(rows)).sum()} entries of them not finite")
    centre, std = rows.mean(axis=0), np.maximum(rows.std(axis=0), SMALLEST_STD)
    z = (rows - centre) / std
    first = spread_out(z, min(components, len(z)), np.random.default_rng(seed))
    nearest = np.argmin(((z[:, None] - first) ** 2).sum(axis=2), axis=1)
    mixture = maximised(z, np.eye(len(first))[nearest])
    before = -np.inf
    for _ in range(iterations):
        after = mixture.log_likelihood(z)
        if after - before < TOLERANCE:
            break
        before, mixture = after, maximised(z, mixture.responsibilities(z))
    return GaussianMixture(mixture.weights, centre + std * mixture.means, mixture.covariances * np.outer(std, std))


def maximised(z: np.ndarray, share: np.ndarray) -> GaussianMixture:
    """The M step: rows z (B, n), of which each Gaussian has a share (B, K)."""
    counts = np.maximum(share.sum(axis=0), 1e-12)
    means = share.T @ z / counts[:, None]
    off = z[:, None] - means  # (B, K, n)
    covariances = np.einsum("bk,bki,bkj->kij", share, off, off) / counts[:, None, None]
    return GaussianMixture(counts / counts.sum(), means, covariances + REGULARISATION * np.eye(z.shape[1]))


def spread_out(z: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` rows of z (B, n), each drawn in proportion to its squared distance from those drawn before it."""
    chosen = [z[rng.integers(len(z))]]
    distance = ((z - chosen[0]) ** 2).sum(axis=1)
    while len(chosen) < count and distance.sum() > 0.0:
        chosen.append(z[rng.choice(len(z), p=distance / distance.sum())])
        distance = np.minimum(distance, ((z - chosen[-1]) ** 2).sum(axis=1))
    return np.array(chosen)
