"""Is the model as sure as it should be? Measured on motion it has not seen, and put right.

Reliability is the share of true states within a predicted interval, against the share that the interval promises
(Kuleshov et al. 2018). It is measured open loop on whole trajectories that the model was not fitted to; what is found
is put right by one factor a horizon step and entry, with which the particles are drawn away from their mean.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.evaluation import starts
from mbrl_ros.types import Transitions

PARTICLES = 50  # a multiple of usual member counts; the spread is then known to about 10 %
STRIDE = 3  # every third start: neighbours tell nearly the same
LEVEL = 0.9  # the interval that is right after calibration
SMALLEST, LARGEST = 0.5, 5.0  # factors beyond these say that the model is wrong, not that it is too sure
WINDOW = 2  # neighbouring steps on either side that share their deviations
SMALLEST_STD = 1e-9


def deviations(model: LearnedModel, transitions: Transitions, horizon: int, seed: int = 0) -> np.ndarray:
    """Standardised errors of open-loop predictions, noise included.

    Args:
        model: the model, with or without a calibration of its own.
        transitions: n unseen transitions in order.
        horizon: H, periods.
        seed: of the noise.

    Returns:
        ``(truth - mean) / std`` (k, H, nx) from k starts; k is 0 where no trajectory is long enough.
    """
    first = starts(transitions.trajectory, horizon)[::STRIDE]
    result = np.empty((len(first), horizon, model.nx))
    rng = np.random.default_rng(seed)
    for row, i in enumerate(first):
        states = model.rollout(transitions.x[i], transitions.u[None, i : i + horizon], rng, PARTICLES)
        states = model.observed(states.astype(float), rng)[:, 0, 1:]
        error = transitions.x_next[i : i + horizon] - states.mean(axis=0)
        result[row] = error / np.maximum(states.std(axis=0), SMALLEST_STD)
    return result


def horizon_scale(z: np.ndarray) -> np.ndarray:
    """Factor (H, nx) by which the spread must grow for the LEVEL interval to hold its promise: z (k, H, nx), k > 0."""
    z = np.abs(z)
    windows = [z[:, :1], *(z[:, max(h - WINDOW, 1) : h + WINDOW + 1] for h in range(1, z.shape[1]))]
    wanted = np.array([np.quantile(window, LEVEL, axis=(0, 1)) for window in windows]) / interval(LEVEL)
    return np.clip(np.nan_to_num(wanted, nan=LARGEST), SMALLEST, LARGEST)


def coverage(z: np.ndarray, levels: Sequence[float] | np.ndarray) -> np.ndarray:
    """Share of the true values within the central intervals of these probabilities: z (k, ...) -> (levels, ...)."""
    return np.stack([(np.abs(z) <= interval(level)).mean(axis=0) for level in levels])


def interval(level: float) -> float:
    """Half width of the central interval of probability `level`, in standard deviations of a Gaussian."""
    return float(ndtri(0.5 + 0.5 * level))
