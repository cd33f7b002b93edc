"""Bayesian linear regression: the change of the learned entries is linear in the features and, if asked for, products.

    y = W t(x, u) + e,   t = (1, features, products of two features),   e ~ N(0, S)

What is believed about W and S is matrix-normal-inverse-Wishart, in closed form (`normal_inverse_wishart`). Members are
W drawn from it. This file is the model as planners use it; `linear_gaussian_training` fits it.
"""

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Self

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ModelRejectedError
from mbrl_ros.models import linear_gaussian_kernel
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.fitting import SMALLEST_STD
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.normal_inverse_wishart import NormalInverseWishart


@dataclass(frozen=True)
class LinearGaussianConfig:
    """Settings of Bayesian linear regression and its training."""

    members: int = option(5, "W drawn from the posterior; 1 is the posterior mean", low=1, high=100)
    quadratic: bool = option(False, "products of two features are terms, too: d (d + 1) / 2 more for d features")
    relevance: bool = option(True, "a prior strength for every term, so that terms that play no part vanish")
    iterations: int = option(60, "steps of the search for prior strengths and noise", low=0, high=10_000)
    noise_floor: float = option(1e-3, "smallest prior noise, in standard deviations of the target", low=1e-6, high=1.0)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class LinearGaussian(LearnedModel):
    """A fitted regression and E draws of its weights, all in the units of state and action.

    The draws have the posterior's covariance, ``S (x) covariance`` with S at its mean, and their mean is the posterior
    mean itself. Every member has the same noise, the mean of S.

    Attributes:
        layout: meaning of the state entries.
        arrays: float64 arrays by name: `weights` W_e of the terms; the belief (`covariance`, `scale`, `degrees`); the
            data's moments, from which a refit goes on: `count` of rows, `fingerprint` of them, `centre` and `scatter`
            of the terms without the 1 and the targets.
    """

    name = "linear_gaussian"
    config_class = LinearGaussianConfig
    array_shapes = MappingProxyType(
        {
            "weights": "members learned terms",
            "covariance": "terms terms",
            "scale": "learned learned",
            "degrees": "one",
            "count": "one",
            "fingerprint": "one",
            "centre": "moments",
            "scatter": "moments moments",
        }
    )
    array_type = np.float64
    positive_arrays = ("count",)
    adaptable = True

    def __post_init__(self) -> None:
        d, ny = self.layout.n_features, len(self.layout.learned)
        count = self.arrays["weights"].shape[2]
        if count not in (term_count(d, False), term_count(d, True)):
            expected = f"{term_count(d, False)} or, with products, {term_count(d, True)}"
            raise ModelRejectedError(f"the model has {count} terms; expected {expected}")
        if len(self.arrays["centre"]) != count - 1 + ny:
            raise ModelRejectedError(f"the model's centre has {len(self.arrays['centre'])} entries")
        if not self.arrays["degrees"] > ny + 1.0 or not np.all(np.diag(self.arrays["scale"]) > 0.0):
            raise ModelRejectedError(f"the model's noise has no mean: degrees {self.arrays['degrees']}")

    @classmethod
    def example(cls, layout: StateLayout, config: LinearGaussianConfig, rng: np.random.Generator) -> "LinearGaussian":
        """A model of the configured size with random weights, to compile and to measure with before there are data."""
        count, ny = term_count(layout.n_features, config.quadratic), len(layout.learned)
        moments = count - 1 + ny
        arrays = {
            "weights": 0.1 * rng.standard_normal((config.members, ny, count)) / np.sqrt(count),
            "covariance": np.eye(count),
            "scale": 0.01 * np.eye(ny),
            "degrees": np.array([ny + 2.0]),
            "count": np.ones(1),
            "fingerprint": np.zeros(1),
            "centre": np.zeros(moments),
            "scatter": np.eye(moments),
        }
        return cls(layout, arrays)

    @property
    def members(self) -> int:
        """Number of draws E."""
        return len(self.arrays["weights"])

    @property
    def quadratic(self) -> bool:
        """Whether products of features are terms."""
        return self.arrays["weights"].shape[2] > 1 + self.layout.n_features

    @cached_property
    def belief(self) -> NormalInverseWishart:
        """What is believed about the weights of the terms and the noise."""
        a = self.arrays
        return NormalInverseWishart(a["weights"].mean(axis=0), a["covariance"], a["scale"], a["degrees"].item())

    @cached_property
    def _noise_std(self) -> np.ndarray:
        """Standard deviation (ny,) of the noise."""
        return np.sqrt(np.diag(self.belief.noise))

    def terms(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """What W multiplies: x (..., nx), u (..., nu) -> (..., terms)."""
        return terms(self.layout.features(x, u), self.quadratic)

    def predict(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict`."""
        mean = np.einsum("ekt,bt->ebk", self.arrays["weights"], self.terms(x, u))
        return mean, np.broadcast_to(self._noise_std, mean.shape)

    def predict_member(self, member: int, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict_member`."""
        mean = self.terms(x, u) @ self.arrays["weights"][member].T
        return mean, np.broadcast_to(self._noise_std, mean.shape)

    def posterior(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of W t, without noise, in closed form: each (B, ny), in units of the state."""
        t = self.terms(x, u)
        return t @ self.belief.mean.T, np.sqrt(self.belief.leverage(t))[:, None] * self._noise_std

    def predictive(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Student-t of the change, noise included: mean (B, ny), covariance (B, ny, ny), degrees of freedom."""
        return self.belief.predictive(self.terms(x, u))

    def _advance(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        weights, std, index = self._constants
        linear_gaussian_kernel.rollout(actions, noise, members, weights, std, index, np.float32(self.layout.dt), out)

    @cached_property
    def _constants(self) -> tuple:
        """What the kernel needs of the model, gathered once."""
        layout = self.layout
        weights = tuple(np.ascontiguousarray(w, np.float32) for w in split(self.arrays["weights"], layout.n_features))
        index = (np.flatnonzero(layout.angle_mask), layout.derivative_index, layout.learned)
        return weights, self._noise_std.astype(np.float32), index

    @cached_property
    def _spread(self) -> np.ndarray:
        """Standard deviation in the data of the terms without the 1, then of the targets."""
        return spread(self.arrays["scatter"], self.arrays["count"].item(), len(self.layout.learned))

    @property
    def output_scale(self) -> np.ndarray:
        """See `LearnedModel.output_scale`."""
        return self._spread[-len(self.layout.learned) :]

    def basis(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """See `LearnedModel.basis`: the terms in unit variance, and one."""
        t = self.terms(x, u)[:, 1:]
        count = t.shape[1]
        z = (t - self.arrays["centre"][:count]) / self._spread[:count]
        return np.concatenate([z, np.ones((len(z), 1))], axis=1)[None]

    def with_output_change(self, weights: np.ndarray) -> Self:
        """See `LearnedModel.with_output_change`."""
        change = weights[0].T * self.output_scale[:, None]  # (ny, terms), the constant last
        slopes = change[:, :-1] / self._spread[: change.shape[1] - 1]
        offset = change[:, -1:] - slopes @ self.arrays["centre"][: slopes.shape[1], None]
        return self.with_arrays(weights=self.arrays["weights"] + np.concatenate([offset, slopes], axis=1))

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step` in closed form: A (B, nx, nx), B (B, nx, nu)."""
        return self.layout.jacobians(x, self._slope(self.layout.features(x, u)))

    def _slope(self, f: np.ndarray) -> np.ndarray:
        """Derivative of the mean change by the features f (B, d): (B, ny, d)."""
        _, linear, products = split(self.belief.mean, f.shape[1])
        slope = np.broadcast_to(linear, (len(f), *linear.shape))
        return slope + np.einsum("kij,bj->bki", products + products.swapaxes(1, 2), f) if self.quadratic else slope


def spread(scatter: np.ndarray, count: float, ny: int) -> np.ndarray:
    """Standard deviation in the data of the terms without the 1, then of the ny targets: (t + ny,).

    A term that has not moved keeps its own unit. What it does is not known; in units of the hair by which it did move,
    its first real move would be thousands, and the prior's doubt about it without bounds.
    """
    std = np.sqrt(np.diag(scatter) / count)
    unmoved = np.concatenate([np.ones(len(std) - ny), np.full(ny, SMALLEST_STD)])
    return np.where(std > SMALLEST_STD, std, unmoved)


def term_count(features: int, quadratic: bool) -> int:
    """Number of terms of so many features."""
    return 1 + features + (features * (features + 1) // 2 if quadratic else 0)


def terms(f: np.ndarray, quadratic: bool) -> np.ndarray:
    """Features f (..., d) as terms (..., term_count): 1, the features, products f_i f_j with i <= j row by row."""
    parts = [np.ones((*f.shape[:-1], 1)), f]
    if quadratic:
        i, j = np.triu_indices(f.shape[-1])
        parts.append(f[..., i] * f[..., j])
    return np.concatenate(parts, axis=-1)


def split(weights: np.ndarray, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (..., terms) as offset (...), linear (..., d), products: upper triangles (..., d, d), or (..., 0, 0)."""
    products = np.zeros((*weights.shape[:-1], 0, 0))
    if weights.shape[-1] > 1 + features:
        products = np.zeros((*weights.shape[:-1], features, features))
        i, j = np.triu_indices(features)
        products[..., i, j] = weights[..., 1 + features :]
    return weights[..., 0], weights[..., 1 : 1 + features], products
