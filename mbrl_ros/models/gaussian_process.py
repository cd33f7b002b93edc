"""Gaussian process: exact regression of the change of every learned entry, for the smallest data.

Rasmussen and Williams (2006): a squared-exponential kernel with a length scale for every input, noise and, optionally,
a linear part, a process of its own for every learned entry. Members are functions drawn from the posterior by pathwise
conditioning (Wilson et al. 2020, arXiv 2002.09309): a draw from the prior, corrected at the data, is a sum in closed
form that costs no more than the mean and is the same function wherever it is asked. This file is the model as planners
use it; `gaussian_process_training` fits it.
"""

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from mbrl_ros.config import option, validate
from mbrl_ros.models import gaussian_process_kernel
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout


@dataclass(frozen=True)
class GaussianProcessConfig:
    """Settings of the Gaussian process and its training."""

    members: int = option(5, "functions drawn from the posterior; 1 is the posterior mean", low=1, high=100)
    waves: int = option(128, "cosines in the prior's part of each function", low=1, high=10_000)
    linear: bool = option(True, "a linear function of the inputs is part of the prior")
    max_data: int = option(300, "most transitions kept, those that tell most", low=1, high=2000)
    iterations: int = option(60, "steps of the search for hyperparameters, fit from scratch", low=0, high=10_000)
    refit_iterations: int = option(15, "the same, refit that starts from the last model", low=0, high=10_000)
    outlier: float = option(
        3.3, "standard deviations off all others' prediction from which a transition is left out", low=1.0, high=1e9
    )
    noise_floor: float = option(1e-3, "smallest noise, in standard deviations of the target", low=1e-4, high=1.0)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class GaussianProcess(LearnedModel):
    """A fitted process and E functions drawn from it; inputs z and targets y are normalised everywhere below.

        f_e(z) = offset_e + slope_e . z + sum_l w_el cos(omega_l . z + phase_l) + sum_i v_ei k(z, z_i)

    with k the squared-exponential kernel. The draws of the E functions are centred and rescaled, so that each of them
    is a draw from the posterior and their mean is the posterior mean itself.

    Attributes:
        layout: meaning of the state entries.
        arrays: float64 arrays by name: inputs z_i (n, d) and v, `weights`, (E, ny, n); the waves; the linear part;
            hyperparameters of each learned entry; the normaliser. Where some of the data are from before the robot
            changed, their `discrepancy`, see `data_covariance`.
    """

    name = "gaussian_process"
    config_class = GaussianProcessConfig
    array_shapes = MappingProxyType(
        {
            "inputs": "data features",
            "weights": "members learned data",
            "wave_frequencies": "learned waves features",
            "wave_phases": "learned waves",
            "wave_weights": "members learned waves",
            "slopes": "members learned features",
            "offsets": "members learned",
            "length_scales": "learned features",
            "signal_std": "learned",
            "noise_std": "learned",
            "linear_std": "learned",
            "feature_mean": "features",
            "feature_std": "features",
            "target_mean": "learned",
            "target_std": "learned",
        }
    )
    optional_shapes = MappingProxyType({"discrepancy": "data"})
    array_type = np.float64
    positive_arrays = ("length_scales", "signal_std", "noise_std", "feature_std", "target_std")
    adaptable = True

    @classmethod
    def example(cls, layout: StateLayout, config: GaussianProcessConfig, rng: np.random.Generator) -> "GaussianProcess":
        """A model of the largest size with random weights, to compile and to measure with before there are data."""
        ny = len(layout.learned)
        sizes = {"data": config.max_data, "waves": config.waves, "members": config.members}
        sizes |= {"features": layout.n_features, "learned": ny}
        shapes = {k: [sizes[d] for d in v.split()] for k, v in cls.array_shapes.items()}
        arrays = {k: rng.standard_normal(shape) / np.sqrt(shape[-1]) for k, shape in shapes.items()}
        arrays["wave_weights"] -= arrays["wave_weights"].mean(axis=0)  # as after a fit: waves cancel in the mean
        ones = ("length_scales", "signal_std", "feature_std", "target_std")
        arrays |= {k: np.ones(shapes[k]) for k in ones} | {k: np.full(ny, 0.1) for k in ("noise_std", "linear_std")}
        return cls(layout, arrays)

    @property
    def members(self) -> int:
        """Number of functions E."""
        return len(self.arrays["weights"])

    def _advance(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        shared, weights, scale, index = self._constants
        dt = np.float32(self.layout.dt)
        dims = (0,) * self.layout.n_features
        gaussian_process_kernel.rollout(actions, noise, members, shared, weights, scale, index, dims, dt, out)

    def advance_mean(self, actions: np.ndarray, out: np.ndarray) -> None:
        """See `LearnedModel.advance_mean`."""
        noise = np.empty((len(out), 0, len(self.layout.learned)), np.float32)
        self._posterior_mean._advance(actions, noise, np.zeros((len(out), len(actions)), int), out)

    @cached_property
    def _posterior_mean(self) -> "GaussianProcess":
        """The posterior mean as the only member: what the waves add cancels in it."""
        a = self.arrays
        waves = {k: a[k][:, :0] for k in ("wave_frequencies", "wave_phases")} | {
            "wave_weights": a["wave_weights"][:1, :, :0]
        }
        return self.with_arrays(
            **waves, **{k: a[k].mean(axis=0, keepdims=True) for k in ("weights", "slopes", "offsets")}
        )

    @cached_property
    def _constants(self) -> tuple:
        """What the kernel needs of the model, gathered once."""
        a, layout = self.arrays, self.layout
        squares = gaussian_process_kernel.LOG2_E / a["length_scales"] ** 2
        shared = (
            squares[:, None] * a["inputs"],
            -0.5 * squares @ (a["inputs"] ** 2).T,
            -0.5 * squares,
            a["wave_frequencies"] / (2.0 * np.pi),
            a["wave_phases"] / (2.0 * np.pi),
        )
        weights = (a["weights"] * a["signal_std"][:, None] ** 2, a["wave_weights"], a["slopes"], a["offsets"])
        scale = (a["feature_mean"], 1.0 / a["feature_std"], a["target_mean"], a["target_std"], a["noise_std"])
        index = (np.flatnonzero(layout.angle_mask), layout.derivative_index, layout.learned)
        single = [tuple(np.ascontiguousarray(b, np.float32) for b in group) for group in (shared, weights, scale)]
        return (*single, index)

    def predict(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict`; each member's mean is its function, the standard deviation is the noise."""
        return self._gaussians(slice(None), x, u)

    def predict_member(self, member: int, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict_member`."""
        mean, std = self._gaussians(slice(member, member + 1), x, u)
        return mean[0], std[0]

    def _gaussians(self, which: slice, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of some members, each (E', B, ny)."""
        a, z = self.arrays, self._normalised(x, u)
        waves = np.cos(np.einsum("klf,bf->kbl", a["wave_frequencies"], z) + a["wave_phases"][:, None])
        values = np.einsum("ekf,bf->ebk", a["slopes"][which], z) + a["offsets"][which, None]
        values += np.einsum("ekl,kbl->ebk", a["wave_weights"][which], waves)
        values += np.einsum("ekn,kbn->ebk", a["weights"][which], self._bumps(z))
        std = np.broadcast_to(a["noise_std"] * a["target_std"], values.shape)
        return values * a["target_std"] + a["target_mean"], std

    def posterior(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the function values, without noise, in closed form.

        ``mean = k' (K + s_n^2 I)^-1 y``, ``var = k(z, z) - k' (K + s_n^2 I)^-1 k`` (Rasmussen and Williams 2006,
        eqs. 2.25 and 2.26).

        Args:
            x: states (B, nx).
            u: actions (B, nu).

        Returns:
            Each (B, ny), in the units of the state.
        """
        a, z = self.arrays, self._normalised(x, u)
        variance = np.empty((len(z), len(self.layout.learned)))
        for k, factor in enumerate(self._factors):
            cross = covariance(z, a["inputs"], a, k)  # (B, n)
            prior = a["signal_std"][k] ** 2 + a["linear_std"][k] ** 2 * (1.0 + (z**2).sum(axis=1))
            variance[:, k] = prior - (cross * cho_solve(factor, cross.T).T).sum(axis=1)
        return self._mean(z), np.sqrt(np.maximum(variance, 0.0)) * a["target_std"]

    @cached_property
    def _factors(self) -> list[tuple]:
        """Cholesky factor of ``K + s_n^2 I`` of each learned entry."""
        a = self.arrays
        noise = np.eye(len(a["inputs"]))
        return [cho_factor(data_covariance(a, k) + s**2 * noise, lower=True) for k, s in enumerate(a["noise_std"])]

    def _normalised(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Inputs z (B, d)."""
        return (self.layout.features(x, u) - self.arrays["feature_mean"]) / self.arrays["feature_std"]

    def _bumps(self, z: np.ndarray) -> np.ndarray:
        """Squared-exponential kernel of each learned entry between z (B, d) and the data: (ny, B, n)."""
        a = self.arrays
        scales = zip(a["length_scales"], a["signal_std"], strict=True)
        return np.stack([squared_exponential(z / length, a["inputs"] / length, std) for length, std in scales])

    def _mean(self, z: np.ndarray) -> np.ndarray:
        """Posterior mean of the change (B, ny), the mean over members, whose waves cancel."""
        a = self.arrays
        values = np.einsum("kn,kbn->bk", a["weights"].mean(axis=0), self._bumps(z))
        values += z @ a["slopes"].mean(axis=0).T + a["offsets"].mean(axis=0)
        return values * a["target_std"] + a["target_mean"]

    def basis(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """See `LearnedModel.basis`: the inputs and one; a change of the world is mostly another gain somewhere."""
        z = self._normalised(x, u)
        return np.concatenate([z, np.ones((len(z), 1))], axis=1)[None]

    def with_output_change(self, weights: np.ndarray) -> Self:
        """See `LearnedModel.with_output_change`."""
        a = self.arrays
        slopes, offsets = a["slopes"] + weights[0, :-1].T, a["offsets"] + weights[0, -1]
        return self.with_arrays(slopes=slopes, offsets=offsets)

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Next states by the posterior mean: x (B, nx), u (B, nu) -> (B, nx)."""
        return self.layout.integrate(np.asarray(x, float), self._mean(self._normalised(x, u)))

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step` in closed form: A (B, nx, nx), B (B, nx, nu)."""
        return self.layout.jacobians(x, self._slope(self._normalised(x, u)))

    def _slope(self, z: np.ndarray) -> np.ndarray:
        """Derivative of the mean change by the unnormalised inputs: (B, ny, d)."""
        a = self.arrays
        weighted = self._bumps(z) * a["weights"].mean(axis=0)[:, None]  # (ny, B, n)
        # d k / d z = k (z_i - z) / l^2
        pull = np.einsum("kbn,nf->bkf", weighted, a["inputs"]) - weighted.sum(axis=2).T[:, :, None] * z[:, None]
        slope = pull / a["length_scales"] ** 2 + a["slopes"].mean(axis=0)
        return slope * a["target_std"][:, None] / a["feature_std"]


def squared_exponential(a: np.ndarray, b: np.ndarray, std: float) -> np.ndarray:
    """``std^2 exp(-|a_i - b_j|^2 / 2)`` of inputs in length scales: a (B, d), b (n, d) -> (B, n)."""
    exponent = a @ b.T  # in place from here on: new arrays of this size cost as much as the arithmetic
    exponent -= 0.5 * (a**2).sum(axis=1)[:, None]
    exponent -= 0.5 * (b**2).sum(axis=1)
    np.exp(np.minimum(exponent, 0.0, out=exponent), out=exponent)
    exponent *= std**2
    return exponent


def covariance(a: np.ndarray, b: np.ndarray, arrays: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Prior covariance of learned entry k between inputs a (B, d) and b (n, d), without noise: (B, n).

    ``s_f^2 exp(-|a - b|^2 / 2) + s_l^2 (1 + a . b)``, the distance in length scales; `arrays` are a model's.
    """
    length = arrays["length_scales"][k]
    bumps = squared_exponential(a / length, b / length, arrays["signal_std"][k])
    return bumps + arrays["linear_std"][k] ** 2 * (1.0 + a @ b.T)


def data_covariance(arrays: dict[str, np.ndarray], k: int) -> np.ndarray:
    """Prior covariance (n, n) of a model's function values at its data, without noise.

    Rows from before the robot changed are of another function, f + g: the discrepancy g has the covariance of f times
    r^2, its rows' `discrepancy` r being how far the change may reach, in standard deviations of f. So they say less of
    f, and as much of each other as before (intrinsic coregionalisation, Bonilla et al. 2008; discrepancy, Kennedy and
    O'Hagan 2001). At r = 0 nothing has changed; with r towards infinity they say nothing.
    """
    z = arrays["inputs"]
    return covariance(z, z, arrays, k) * shared(arrays.get("discrepancy"))


def shared(discrepancy: np.ndarray | None) -> np.ndarray | float:
    """Factor ``1 + r r'`` of the covariance of rows with the discrepancies r (n,); 1 where there are none."""
    return 1.0 if discrepancy is None else 1.0 + np.outer(discrepancy, discrepancy)
