"""Functions drawn from a Gaussian process's posterior: pathwise conditioning, Wilson et al. 2020, arXiv 2002.09309."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotrf

from mbrl_ros.models.fitting import FitError, centred
from mbrl_ros.models.gaussian_process import GaussianProcessConfig, data_covariance


@dataclass(frozen=True)
class PriorFunctions:
    """E functions of each learned entry from the prior: waves (ny, L) of frequencies (ny, L, d), a linear part."""

    frequencies: np.ndarray
    phases: np.ndarray
    wave_weights: np.ndarray
    slopes: np.ndarray
    offsets: np.ndarray

    @classmethod
    def drawn(
        cls, arrays: dict[str, np.ndarray], config: GaussianProcessConfig, rng: np.random.Generator
    ) -> "PriorFunctions":
        """Draws for a model's hyperparameters."""
        (ny, d), E, L = arrays["length_scales"].shape, config.members, config.waves
        frequencies = rng.standard_normal((ny, L, d)) / arrays["length_scales"][:, None]
        phases = rng.uniform(0.0, 2.0 * np.pi, (ny, L))
        wave_std = (arrays["signal_std"] * np.sqrt(2.0 / L))[:, None]
        wave_weights = centred(rng.standard_normal((E, ny, L))) * wave_std
        slopes = centred(rng.standard_normal((E, ny, d))) * arrays["linear_std"][:, None]
        offsets = centred(rng.standard_normal((E, ny))) * arrays["linear_std"]
        return cls(frequencies, phases, wave_weights, slopes, offsets)

    def values(self, z: np.ndarray) -> np.ndarray:
        """Their values (E, ny, n) at z (n, d)."""
        waves = np.cos(self.frequencies @ z.T + self.phases[:, :, None])
        values = np.einsum("ekl,kln->ekn", self.wave_weights, waves)
        return values + (self.slopes @ z.T + self.offsets[:, :, None])


def drawn(
    arrays: dict[str, np.ndarray], y: np.ndarray, config: GaussianProcessConfig, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Functions from the posterior by pathwise conditioning (Wilson et al. 2020, eq. 12), as the model's arrays.

    The prior's stationary part is drawn as `waves` random Fourier features (Rahimi and Recht 2007), its linear part
    exactly: ``f_e = prior_e + k(z, Z) v_e``, ``v_e = C^-1 (y - prior_e(Z) - noise_e)``. Everything is linear in the
    standard normal draws, so `centred` draws make the mean over members the posterior mean.
    """
    z, (n, ny), E, linear = arrays["inputs"], y.shape, config.members, arrays["linear_std"]
    prior = PriorFunctions.drawn(arrays, config, rng)
    residual = y.T - prior.values(z) - centred(rng.standard_normal((E, ny, n))) * arrays["noise_std"][:, None]
    if "discrepancy" in arrays:
        residual -= PriorFunctions.drawn(arrays, config, rng).values(z) * arrays["discrepancy"]
    weights = np.empty((E, ny, n))
    for k in range(ny):
        factor = cholesky(noisy_covariance(arrays, k))
        weights[:, k] = cho_solve((factor, True), residual[:, k].T).T
    return {
        "weights": weights,
        "wave_frequencies": prior.frequencies,
        "wave_phases": prior.phases,
        "wave_weights": prior.wave_weights,
        "slopes": prior.slopes + linear[:, None] ** 2 * (weights @ z),
        "offsets": prior.offsets + linear**2 * weights.sum(axis=2),
    }


def noisy_covariance(arrays: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Covariance C of the data of learned entry k: (n, n)."""
    return data_covariance(arrays, k) + arrays["noise_std"][k] ** 2 * np.eye(len(arrays["inputs"]))


def cholesky(C: np.ndarray) -> np.ndarray:
    """Lower factor of a covariance (n, n)."""
    factor, info = dpotrf(C, lower=1)
    if info != 0:
        raise FitError("fit: the covariance is not positive definite; the last good model stays in use")
    return factor
