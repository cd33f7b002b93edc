"""Questions to a model, and marks for its answers, as plain arrays: one code path for our models and for the peers'.

A question is a start and the actions that followed in recorded motion; an answer is the mean of the state after them
and samples of it. Errors are in standard deviations of each state entry in the held-out data.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mbrl_ros.models.evaluation import SMALLEST_STD, starts
from mbrl_ros.types import Transitions

SHARE = 0.9  # of the samples within the predictive interval, between the 5 % and the 95 % quantile


def questions(held_out: Transitions, horizons: Sequence[int], stride: int) -> dict[str, np.ndarray]:
    """Every `stride`-th start of each horizon h: ``x_h`` (k, nx) and ``u_h`` (k, h, nu)."""
    asked = {}
    for h in horizons:
        first = starts(held_out.trajectory, h)[::stride]
        asked[f"x_{h}"] = held_out.x[first]
        asked[f"u_{h}"] = held_out.u[first[:, None] + np.arange(h)]
    return asked


def marks(
    held_out: Transitions, answers: Mapping[str, np.ndarray], horizons: Sequence[int], stride: int
) -> dict[str, float | list[float]]:
    """Root mean square error, and share of the recorded values within the interval, of each horizon h.

    Args:
        held_out: what the questions were taken from.
        answers: ``mean_h`` (k, nx) and ``samples_h`` (P, k, nx).
        horizons: as for the questions.
        stride: as for the questions.

    Returns:
        ``rmse_h``, ``coverage_h`` over all state entries, and ``coverage_h_entries``, one an entry.
    """
    std = np.maximum(held_out.x_next.std(axis=0), SMALLEST_STD)
    result: dict[str, float | list[float]] = {}
    for h in horizons:
        truth = held_out.x_next[starts(held_out.trajectory, h)[::stride] + h - 1]
        result[f"rmse_{h}"] = float(np.sqrt(np.mean(((answers[f"mean_{h}"] - truth) / std) ** 2)))
        inside = within(answers[f"samples_{h}"], truth)
        result[f"coverage_{h}"] = float(inside.mean())
        result[f"coverage_{h}_entries"] = inside.mean(axis=0).tolist()
    return result


def within(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether each true value lies within the central interval of its samples: (P, k, nx), (k, nx) -> (k, nx)."""
    low, high = np.quantile(samples, [0.5 - 0.5 * SHARE, 0.5 + 0.5 * SHARE], axis=0)
    return (low <= truth) & (truth <= high)
