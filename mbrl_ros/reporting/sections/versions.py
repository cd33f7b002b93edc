"""The models of a run: when each was published, what it was fitted to, and how it did while it was in use."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_ros.reporting.html import NOTHING, number
from mbrl_ros.reporting.run_folder import Fit
from mbrl_ros.reporting.trial_view import TrialView

COLUMNS = (
    "version",
    "published (UTC)",
    "transitions",
    "fit (s)",
    "first used: trial",
    "at (s)",
    "ticks in use",
    "one-step RMSE (std)",
    "within 90 % band",
)
CAPTION = (
    "Error and share within the band are of the predictions one period ahead that were made while the version was in "
    "use: motion that it had not seen. The error is in standard deviations of all states of the run."
)


@dataclass(frozen=True)
class Use:
    """How a version did; NaN where there is no number.

    Attributes:
        version: the model.
        trial: the first trial in which it was used, -1 for none.
        at_s: time in that trial.
        ticks: how long it was in use, over all trials.
        error: root mean square of the error one period ahead, in standard deviations.
        covered: share of the states within the 90 % band.
    """

    version: int
    trial: int
    at_s: float
    ticks: int
    error: float
    covered: float


def uses(views: Sequence[TrialView]) -> dict[int, Use]:
    """How each version that was used did."""
    states = [view.arrays.x for view in views]
    std = np.maximum(np.nanstd(np.concatenate(states), axis=0), 1e-6) if states else np.ones(1)
    versions = sorted({int(v) for view in views for v in view.arrays.model_version if v > 0})
    return {version: use_of(version, views, std) for version in versions}


def use_of(version: int, views: Sequence[TrialView], std: np.ndarray) -> Use:
    """How one version did: std (nx,) is the unit of the errors."""
    used = [(view, np.flatnonzero(view.arrays.model_version == version)) for view in views]
    first, ticks = next((view, ticks) for view, ticks in used if len(ticks))
    errors, inside = [np.empty(0)], [np.empty(0)]
    for view, chosen in used:
        after = chosen[chosen + 1 < len(view.arrays)] + 1
        if view.one_step is not None and len(after):
            truth = view.arrays.x[after]
            errors.append(((view.one_step.mean[after] - truth) / std).ravel())
            within = (view.one_step.low[after] <= truth) & (truth <= view.one_step.high[after])
            inside.append(np.where(np.isfinite(view.one_step.low[after]), within, np.nan).ravel())
    error, covered = np.concatenate(errors), np.concatenate(inside)
    known = np.isfinite(error)
    return Use(
        version,
        first.index,
        float(first.time[ticks[0]]),
        sum(len(ticks) for _, ticks in used),
        float(np.sqrt(np.mean(error[known] ** 2))) if known.any() else float("nan"),
        float(np.nanmean(covered)) if np.isfinite(covered).any() else float("nan"),
    )


def version_rows(fits: Sequence[Fit], used: dict[int, Use]) -> list[list[str]]:
    """Cells of the table by COLUMNS, one row a version that was published or used."""
    published = {fit.version: fit for fit in fits}
    return [version_row(v, published.get(v), used.get(v)) for v in sorted({*published, *used})]


def version_row(version: int, fit: Fit | None, use: Use | None) -> list[str]:
    """One row; a version that was never used was replaced before a tick could take it."""
    made = (
        [fit.published[:19].replace("T", " "), str(fit.transitions), number(fit.fit_seconds, 2)]
        if fit
        else [NOTHING] * 3
    )
    if use is None:
        return [str(version), *made, *[NOTHING] * 5]
    score = [number(use.error, 4), number(100.0 * use.covered, 0, "%")]
    return [str(version), *made, str(use.trial), number(use.at_s, 2), str(use.ticks), *score]
