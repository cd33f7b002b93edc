"""Fits a GaussianProcess: hyperparameters by the marginal likelihood, then functions drawn from the posterior.

Rasmussen and Williams (2006), chapters 2 and 5. The marginal likelihood is multiplied by a broad log-normal prior on
every hyperparameter: the first seconds of motion leave some of them open, and what is open must not run away. Inputs
and targets are normalised; all of theta is in logarithms: (length scales (d,), signal, noise, linear).
"""

import time
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from mbrl_ros.models.fitting import FitError, checked, normaliser, stream
from mbrl_ros.models.gaussian_process import (
    GaussianProcess,
    GaussianProcessConfig,
    covariance,
    shared,
    squared_exponential,
)
from mbrl_ros.models.gaussian_process_draws import cholesky, drawn, noisy_covariance
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

LENGTH, SIGNAL, NOISE, LINEAR = 2.0, 1.0, 0.1, 0.3  # medians of the priors and first guess, data in unit variance
PRIOR_STD = 1.5  # of the logarithms
NEWEST, OLDER = 1000, 4000  # transitions that the kept ones are chosen from
OUTLIER_SHARE = 20  # at most one transition in so many is left out
BOUNDS = {"length": (0.05, 1e3), "signal": (0.02, 50.0), "noise": (1e-4, 3.0), "linear": (1e-3, 10.0)}


@dataclass(frozen=True)
class GaussianProcessReport:
    """What a fit did.

    Attributes:
        loss: negative log marginal likelihood of a target entry, targets in unit variance.
        steps: steps of the search, summed over the learned entries.
        seconds: wall time.
        transitions: size of the data.
        kept: transitions the model holds.
        warm: whether the search began with the last model's hyperparameters.
    """

    loss: float
    steps: int
    seconds: float
    transitions: int
    kept: int
    warm: bool


def fit(
    data: Transitions,
    layout: StateLayout,
    config: GaussianProcessConfig,
    seed: int,
    previous: GaussianProcess | None = None,
    *,
    former: Transitions | None = None,
    discrepancy: float = 0.0,
) -> tuple[GaussianProcess, GaussianProcessReport]:
    """Fit to transitions; same data, previous model and seed give the same bytes.

    Args:
        data: one transition or more.
        layout: meaning of the state entries.
        config: settings.
        seed: of the functions drawn from the posterior, together with the number of transitions.
        previous: start from its hyperparameters and take `refit_iterations` only.
        former: transitions of the robot before it changed, kept where there is room beside `data`.
        discrepancy: how far the change may reach, see `gaussian_process.data_covariance`.

    Raises:
        FitError: no data, non-finite data or a model that is not finite.
    """
    begin = time.perf_counter()
    parts = [checked(part, layout) for part in ([] if former is None else [former]) + [data]]
    old = sum(len(inputs) for inputs, _ in parts[:-1])  # rows of the former robot, before the others
    inputs, targets = (np.concatenate(pair) for pair in zip(*parts, strict=True))
    scales = {k: v.astype(float) for k, v in normaliser(inputs, targets).items()}
    z = (inputs - scales["feature_mean"]) / scales["feature_std"]
    y = (targets - scales["target_mean"]) / scales["target_std"]
    theta, warm = first_guess(y.shape[1], z.shape[1], config), previous is not None
    if previous is not None:
        theta = clipped(carried_over(previous, scales, config), config)
    rows = old + kept(z[old:], theta, config.max_data)
    rows = np.concatenate([kept(z[:old], theta, config.max_data - len(rows)), rows])
    apart = np.where(rows < old, discrepancy, 0.0) if rows[0] < old else None
    iterations = config.refit_iterations if warm else config.iterations
    theta, steps = maximised(theta, z[rows], y[rows], config, iterations, apart)
    believed = credible(z[rows], y[rows], theta, config.outlier, apart)
    if len(believed) < len(rows):
        rows, apart = rows[believed], apart if apart is None else apart[believed]
        theta, more = maximised(theta, z[rows], y[rows], config, config.refit_iterations, apart)
        steps += more
    z, y = z[rows], y[rows]
    loss = sum(negative_log_likelihood(t, z, target, apart)[0] for t, target in zip(theta, y.T, strict=True)) / y.size
    arrays = {"inputs": z} | scales | hyperparameters(theta, z.shape[1])
    arrays |= {} if apart is None else {"discrepancy": apart}
    arrays |= drawn(arrays, y, config, np.random.default_rng(stream(seed, len(data))))
    if not all(np.isfinite(a).all() for a in arrays.values()):
        raise FitError("fit: the model is not finite; the last good model stays in use")
    report = GaussianProcessReport(loss, steps, time.perf_counter() - begin, len(data), len(z), warm)
    return GaussianProcess(layout, arrays), report


def first_guess(ny: int, d: int, config: GaussianProcessConfig) -> np.ndarray:
    """Theta of each target at the priors' medians: (ny, d + 2) or, with a linear part, (ny, d + 3)."""
    return np.tile(clipped(prior_mean(d, config.linear), config), (ny, 1))


def prior_mean(d: int, linear: bool) -> np.ndarray:
    """Logarithms of the priors' medians."""
    return np.log([*[LENGTH] * d, SIGNAL, NOISE, *[LINEAR] * linear])


def bounds(d: int, config: GaussianProcessConfig) -> np.ndarray:
    """Range of each entry of theta, (d + 2 or 3, 2)."""
    noise = (config.noise_floor, BOUNDS["noise"][1])
    return np.log([*[BOUNDS["length"]] * d, BOUNDS["signal"], noise, *[BOUNDS["linear"]] * config.linear])


def clipped(theta: np.ndarray, config: GaussianProcessConfig) -> np.ndarray:
    """Theta (..., d + 2 or 3) within its bounds."""
    low, high = bounds(theta.shape[-1] - 2 - config.linear, config).T
    return np.clip(theta, low, high)


def carried_over(previous: GaussianProcess, scales: dict[str, np.ndarray], config: GaussianProcessConfig) -> np.ndarray:
    """The last model's hyperparameters for another normaliser, (ny, d + 2 or 3).

    The linear part is about a function of normalised inputs and is taken over as it is; one that was off begins at
    its prior.
    """
    a = previous.arrays
    length = a["length_scales"] * (a["feature_std"] / scales["feature_std"])
    gain = a["target_std"] / scales["target_std"]
    linear = np.where(a["linear_std"] > 0, a["linear_std"], LINEAR)
    columns = [length.T, a["signal_std"] * gain, a["noise_std"] * gain]
    return np.log(np.vstack([*columns, linear] if config.linear else columns)).T


def hyperparameters(theta: np.ndarray, d: int) -> dict[str, np.ndarray]:
    """Theta (ny, d + 2 or 3) as the model's arrays."""
    values = np.exp(theta)
    linear = values[:, d + 2] if theta.shape[1] > d + 2 else np.zeros(len(theta))
    named = {"length_scales": values[:, :d], "signal_std": values[:, d], "noise_std": values[:, d + 1]}
    return named | {"linear_std": linear}


def maximised(
    theta: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    config: GaussianProcessConfig,
    iterations: int,
    apart: np.ndarray | None,
) -> tuple[np.ndarray, int]:
    """Theta (ny, d + 2 or 3) that maximises marginal likelihood times prior (L-BFGS-B), and the steps made."""
    if iterations == 0:
        return theta, 0
    limits, mean = bounds(z.shape[1], config), prior_mean(z.shape[1], config.linear)

    def objective(t: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = negative_log_likelihood(t, z, target, apart)
        deviation = (t - mean) / PRIOR_STD
        return loss + 0.5 * deviation @ deviation, gradient + deviation / PRIOR_STD

    options = {"maxiter": iterations}
    found = [
        minimize(objective, t, (target,), jac=True, method="L-BFGS-B", bounds=limits, options=options)
        for t, target in zip(theta, y.T, strict=True)
    ]
    return clipped(np.array([f.x for f in found]), config), sum(int(f.nit) for f in found)


def negative_log_likelihood(
    theta: np.ndarray, z: np.ndarray, y: np.ndarray, apart: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Negative log marginal likelihood of y (n,) and its gradient by theta (eqs. 5.8 and 5.9).

    ``-log p = y' a / 2 + log |C| / 2 + n log(2 pi) / 2`` with ``C = K + s_n^2 I``, ``a = C^-1 y``; its derivative is
    ``-tr((a a' - C^-1) dC) / 2``.

    Args:
        theta: logarithms (d + 2,) or, with a linear part, (d + 3,).
        z: inputs (n, d).
        y: targets (n,).
        apart: discrepancies (n,) of the rows; None where the robot has not changed.

    Raises:
        FitError: the covariance is not positive definite.
    """
    d, n = z.shape[1], len(y)
    length, signal, noise, *linear = np.split(np.exp(theta), [d, d + 1, d + 2])
    scaled = z / length
    bumps = squared_exponential(scaled, scaled, signal[0])
    dots = 1.0 + z @ z.T
    factors = shared(apart)
    C = (bumps + (linear[0] ** 2 * dots if linear[0].size else 0.0)) * factors
    C[np.diag_indices(n)] += noise[0] ** 2
    factor = cholesky(C)
    a = cho_solve((factor, True), y)
    W = np.outer(a, a)
    W -= inverse(factor)
    V = W * factors
    G = V * bumps
    # sum_ij G_ij (z_i - z_j)^2 without the differences: G is symmetric
    by_length = 2.0 * (G.sum(axis=1) @ scaled**2 - (scaled * (G @ scaled)).sum(axis=0))
    gradient = [
        *by_length,
        2.0 * G.sum(),
        2.0 * noise[0] ** 2 * np.trace(W),
        *(2.0 * linear[0] ** 2 * (V * dots).sum()),
    ]
    loss = 0.5 * y @ a + np.log(np.diag(factor)).sum() + 0.5 * n * np.log(2.0 * np.pi)
    return float(loss), -0.5 * np.array(gradient)


def inverse(factor: np.ndarray) -> np.ndarray:
    """Inverse (n, n) from the lower Cholesky factor."""
    P = dpotri(factor, lower=1)[0]  # its upper half keeps the factor's, which is zero
    P += np.tril(P, -1).T
    return P


def considered(n: int) -> np.ndarray:
    """Rows of n that `informative` chooses from, in order: the newest, and others evenly over all older ones.

    Its memory and time grow with them, 5 kB a row of a cart-pole; hours of motion would take gigabytes.
    """
    older = max(n - NEWEST, 0)
    kept = np.unique(np.linspace(0, older - 1, min(older, OLDER)).astype(int)) if older else np.empty(0, int)
    return np.concatenate([kept, np.arange(older, n)])


def kept(z: np.ndarray, theta: np.ndarray, count: int) -> np.ndarray:
    """Rows of at most `count` inputs z (n, d), in order: the `informative` among the `considered`."""
    rows = considered(len(z))
    return rows[informative(z[rows], theta, count)]


def informative(z: np.ndarray, theta: np.ndarray, count: int) -> np.ndarray:
    """Rows of at most `count` inputs z (n, d), in order, each chosen as the one that tells most beyond the last ones.

    Greedy information gain, ``sum_k log(1 + var_k(z) / noise_k^2)`` (Lawrence et al. 2003), with the variances by a
    pivoted Cholesky factorisation; theta (ny, d + 2 or 3). Ties go to the older row, so the choice is deterministic.
    """
    n, d = z.shape
    if n <= count:
        return np.arange(n)
    p = hyperparameters(theta, d)
    signal, noise, linear = (p[name][:, None] ** 2 for name in ("signal_std", "noise_std", "linear_std"))
    variance = signal + linear * (1.0 + (z**2).sum(axis=1))  # (ny, n)
    factors = np.zeros((len(theta), count, n))
    free, chosen = np.ones(n, bool), np.empty(count, int)
    for j in range(count):
        gain = np.log1p(variance / noise).sum(axis=0)
        i = chosen[j] = int(np.argmax(np.where(free, gain, -np.inf)))
        free[i] = False
        for k in range(len(theta)):
            row = covariance(z[i : i + 1], z, p, k)[0] - factors[k, :j, i] @ factors[k, :j]
            factors[k, j] = row / np.sqrt(variance[k, i] + noise[k])
            variance[k] = np.maximum(variance[k] - factors[k, j] ** 2, 0.0)
    return np.sort(chosen)


def credible(
    z: np.ndarray, y: np.ndarray, theta: np.ndarray, threshold: float, apart: np.ndarray | None = None
) -> np.ndarray:
    """Rows without the outliers, such as a collision: those that all others together did not foresee.

    The worst goes first, so that it cannot hide the next: at most one row in OUTLIER_SHARE, one by one, while it lies
    further than `threshold` standard deviations off its leave-one-out prediction (Rasmussen and Williams 2006, section
    5.4.2: residual ``[C^-1 y]_i / [C^-1]_ii``, variance ``1 / [C^-1]_ii``).
    """
    p = hyperparameters(theta, z.shape[1])
    rows = np.arange(len(z))

    def at(some: np.ndarray) -> dict[str, np.ndarray]:
        return p | {"inputs": z[some]} | ({} if apart is None else {"discrepancy": apart[some]})

    for _ in range(len(z) // OUTLIER_SHARE):
        surprise = np.zeros(len(rows))
        for k in range(len(theta)):
            P = inverse(cholesky(noisy_covariance(at(rows), k)))
            surprise = np.maximum(surprise, np.abs(P @ y[rows, k]) / np.sqrt(np.diag(P)))
        if surprise.max() <= threshold:
            break
        rows = np.delete(rows, surprise.argmax())
    return rows
