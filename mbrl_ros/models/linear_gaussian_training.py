"""Fits a LinearGaussian: the posterior in closed form, prior strengths and noise by the evidence.

All a fit needs of the data are their moments, so a refit takes in the new rows only, and 100,000 rows cost one matrix
product. Terms and targets are normalised by the moments; then the prior of column i of W is N(0, S / r_i) and S has
the weakest prior with mean psi I. The search over the logarithms of r and psi follows the gradient of the log evidence
(MacKay 1992; one r for every term: Tipping 2001) times a broad log-normal prior, so that what the data leave open does
not run away.
"""

import time
import zlib
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy.optimize import minimize

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.fitting import FitError, centred, checked
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.linear_gaussian import LinearGaussian, LinearGaussianConfig, spread, term_count, terms
from mbrl_ros.models.normal_inverse_wishart import Moments, NormalInverseWishart, log_evidence
from mbrl_ros.types import Transitions

FLAT = 1e-6  # prior strength of the constant term, which the normaliser has taken out already
STRENGTH, NOISE = 0.1, 0.01  # medians of the priors of r and psi and first guess, data in unit variance
PRIOR_STD = 5.0  # of the logarithms
STRENGTH_BOUNDS = (1e-8, 1e8)
LARGEST_NOISE = 10.0  # variance
CHUNK = 10_000  # rows turned into terms at a time, for the sake of memory


@dataclass(frozen=True)
class LinearGaussianReport:
    """What a fit did.

    Attributes:
        loss: negative log evidence of a target entry, targets in unit variance.
        steps: steps of the search for prior strengths and noise.
        seconds: wall time.
        transitions: size of the data.
        appended: rows that were added to the previous model's moments; all of them in a fit from scratch.
        warm: whether the previous model's moments were used.
    """

    loss: float
    steps: int
    seconds: float
    transitions: int
    appended: int
    warm: bool


@dataclass(frozen=True)
class Summary:
    """Rows (terms without the 1, targets), summed up without loss of digits: count, mean (m,) and scatter (m, m)."""

    count: float
    centre: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Summary":
        """Rows (n, m)."""
        centre = rows.mean(axis=0)
        return cls(float(len(rows)), centre, (rows - centre).T @ (rows - centre))

    def with_more(self, other: "Summary") -> "Summary":
        """Both sets of rows together (Chan, Golub and LeVeque 1983)."""
        count, apart = self.count + other.count, other.centre - self.centre
        centre = self.centre + apart * (other.count / count)
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Summary(count, centre, self.scatter + other.scatter + between)


def fit(
    data: Transitions,
    layout: StateLayout,
    config: LinearGaussianConfig,
    seed: int,
    previous: LinearGaussian | None = None,
) -> tuple[LinearGaussian, LinearGaussianReport]:
    """Fit to transitions; same data, previous model and seed give the same bytes.

    Args:
        data: one transition or more.
        layout: meaning of the state entries.
        config: settings.
        seed: of the weights drawn from the posterior, together with the number of transitions.
        previous: where the data begin with the rows it was fitted to, only the others are gone through; the result is
            that of a fit from scratch.

    Raises:
        FitError: no data, non-finite data or a model that is not finite.
    """
    begin = time.perf_counter()
    inputs, targets = checked(data, layout)
    known = known_rows(data, layout, config, previous)
    summary = summed(inputs[known:], targets[known:], config.quadratic, previous if known else None)
    groups = strength_groups(layout.n_features, config)
    draws = (config.members, len(layout.learned), len(groups) + 1)
    moments, scales = normalised(summary, len(layout.learned))
    try:
        theta, steps = maximised(moments, groups, config)
        prior = prior_of(theta, groups, len(layout.learned))
        belief = prior.posterior(moments)
        arrays = in_units(belief, scales, centred(np.random.default_rng([seed, len(data)]).standard_normal(draws)))
    except (ConfigError, np.linalg.LinAlgError) as error:
        raise FitError(f"fit: {error}; the last good model stays in use") from None
    arrays |= {"count": np.array([summary.count]), "fingerprint": np.array([fingerprint(data)])}
    arrays |= {"centre": summary.centre, "scatter": summary.scatter}
    if not all(np.isfinite(a).all() for a in arrays.values()):
        raise FitError("fit: the model is not finite; the last good model stays in use")
    loss = -log_evidence(prior, belief) / (len(data) * len(layout.learned))
    seconds = time.perf_counter() - begin
    report = LinearGaussianReport(loss, steps, seconds, len(data), len(data) - known, known > 0)
    return LinearGaussian(layout, arrays), report


def known_rows(
    data: Transitions, layout: StateLayout, config: LinearGaussianConfig, previous: LinearGaussian | None
) -> int:
    """How many rows, from the first on, the previous model has summed up already: all of its own, or none."""
    if previous is None or previous.layout != layout or previous.quadratic != config.quadratic:
        return 0
    count = int(previous.arrays["count"].item())
    same = count <= len(data) and fingerprint(data[:count]) == previous.arrays["fingerprint"].item()
    return count if same else 0


def fingerprint(data: Transitions) -> float:
    """A checksum of the rows; a whole number below 2^32, which a float holds exactly."""
    check = 0
    for column in (data.x, data.u, data.x_next):
        check = zlib.crc32(np.ascontiguousarray(column, float).data, check)
    return float(check)


def summed(inputs: np.ndarray, targets: np.ndarray, quadratic: bool, previous: LinearGaussian | None) -> Summary:
    """The summary of the previous model's rows, if any, and these: inputs (n, d), targets (n, ny)."""
    parts = []
    if previous is not None:
        a = previous.arrays
        parts.append(Summary(a["count"].item(), a["centre"], a["scatter"]))
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(inputs), CHUNK):
            t = terms(inputs[first : first + CHUNK], quadratic)[:, 1:]
            parts.append(Summary.of(np.concatenate([t, targets[first : first + CHUNK]], axis=1)))
        total = reduce(Summary.with_more, parts)
    if not np.isfinite(total.scatter).all():
        raise FitError("fit: inputs so large that their squares overflow; the last good model stays in use")
    return total


def strength_groups(features: int, config: LinearGaussianConfig) -> np.ndarray:
    """Which prior strength each term but the constant has, (terms - 1,)."""
    count = term_count(features, config.quadratic) - 1
    return np.arange(count) if config.relevance else (np.arange(count) >= features).astype(int)


def normalised(summary: Summary, ny: int) -> tuple[Moments, tuple[np.ndarray, np.ndarray]]:
    """Moments of (1, terms) and targets in zero mean and unit variance, and the mean and deviation taken out."""
    std = spread(summary.scatter, summary.count, ny)
    scatter = summary.scatter / np.outer(std, std)
    t = len(std) - ny
    zz = np.zeros((t + 1, t + 1))
    zz[0, 0], zz[1:, 1:] = summary.count, scatter[:t, :t]
    zy = np.concatenate([np.zeros((1, ny)), scatter[:t, t:]])
    return Moments(summary.count, zz, zy, scatter[t:, t:]), (summary.centre, std)


def prior_of(theta: np.ndarray, groups: np.ndarray, ny: int) -> NormalInverseWishart:
    """The prior that theta = log (r of each group, psi) stands for."""
    strength = np.concatenate([[FLAT], np.exp(theta[:-1])[groups]])
    return NormalInverseWishart.weak(np.zeros((ny, len(strength))), strength, np.full(ny, np.exp(theta[-1])))


def maximised(moments: Moments, groups: np.ndarray, config: LinearGaussianConfig) -> tuple[np.ndarray, int]:
    """Theta that maximises evidence times prior (L-BFGS-B), and the steps made."""
    size, psi = groups.max() + 1, (config.noise_floor**2, LARGEST_NOISE)
    median = np.log([*[STRENGTH] * size, NOISE])
    limits = np.log([*[STRENGTH_BOUNDS] * size, psi])

    def objective(theta: np.ndarray) -> tuple[Any, np.ndarray]:
        loss, gradient = negative_log_evidence(theta, moments, groups)
        deviation = (theta - median) / PRIOR_STD
        return loss + 0.5 * deviation @ deviation, gradient + deviation / PRIOR_STD

    start = np.clip(median, *limits.T)
    if config.iterations == 0:
        return start, 0
    options = {"maxiter": config.iterations}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=limits, options=options)
    return found.x, int(found.nit)


def negative_log_evidence(theta: np.ndarray, moments: Moments, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log evidence of the targets and its gradient by theta, see `prior_of`.

    The posterior's scale is the least of ``psi I + residual + W R W'`` over W, so its derivative is taken at fixed W:
    ``d scale / d r_i = W_i W_i'`` with W_i the i-th column (envelope theorem).
    """
    ny = len(moments.yy)
    prior = prior_of(theta, groups, ny)
    belief = prior.posterior(moments)
    pull = belief.degrees * np.linalg.inv(belief.scale)
    strength = np.exp(theta[:-1])[groups]
    fit = np.einsum("ki,kl,li->i", belief.mean, pull, belief.mean)[1:]
    by_term = 0.5 * (ny - strength * (ny * np.diag(belief.covariance)[1:] + fit))
    by_group = np.bincount(groups, by_term, minlength=len(theta) - 1)
    by_noise = 0.5 * (prior.degrees * ny - np.exp(theta[-1]) * np.trace(pull))
    return -log_evidence(prior, belief), -np.append(by_group, by_noise)


def in_units(
    belief: NormalInverseWishart, scales: tuple[np.ndarray, np.ndarray], draws: np.ndarray
) -> dict[str, np.ndarray]:
    """A belief about normalised terms and targets as the model's arrays, in the units of state and action.

    Args:
        belief: the posterior.
        scales: mean and deviation of (terms but the 1, targets).
        draws: centred standard normal draws (E, ny, terms).
    """
    (mean, std), ny = scales, len(belief.scale)
    to_normalised = np.diag(np.concatenate([[1.0], 1.0 / std[:-ny]]))
    to_normalised[1:, 0] = -mean[:-ny] / std[:-ny]
    noise, columns = np.linalg.cholesky(belief.noise), np.linalg.cholesky(belief.covariance)
    weights = (belief.mean + noise @ draws @ columns.T) @ to_normalised * std[-ny:, None]
    weights[:, :, 0] += mean[-ny:]
    return {
        "weights": weights,
        "covariance": to_normalised.T @ belief.covariance @ to_normalised,
        "scale": belief.scale * np.outer(std[-ny:], std[-ny:]),
        "degrees": np.array([belief.degrees]),
    }
