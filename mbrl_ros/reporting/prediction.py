"""What the models predicted during a trial: one period ahead and open loop, as particles with their noise.

Every prediction is made with the model version that was active at the tick it starts from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.calibration import coverage, deviations
from mbrl_ros.models.serialization import from_bytes
from mbrl_ros.reporting.run_folder import TrialArrays, model_path
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.types import Transitions

HORIZON = 25  # control periods of an open-loop prediction, where the run does not say how far it plans
PARTICLES = 100
LEVELS = np.linspace(0.1, 0.9, 9)  # probabilities of the intervals whose reliability is shown
BAND = (5.0, 95.0)  # percentiles of the particles


@dataclass(frozen=True)
class Prediction:
    """Predicted states of K ticks.

    Attributes:
        ticks: (K,) int, tick of each row.
        mean: (K, nx) mean of the particles.
        low: (K, nx) lower end of the band.
        high: (K, nx) upper end of the band.
    """

    ticks: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def load_models(
    folder: Path, versions: Iterable[int], robot: RobotDescription
) -> tuple[dict[int, LearnedModel], list[str]]:
    """Load the models of a run that can be loaded.

    Returns:
        Models by version, and one line for each that is missing or damaged.
    """
    models: dict[int, LearnedModel] = {}
    problems = []
    for version in versions:
        path = model_path(folder, version)
        try:
            models[version] = from_bytes(path.read_bytes(), robot.name, robot.layout)[0]
        except OSError as error:
            problems.append(f"{path.name}: {error.strerror}")
        except MbrlError as error:
            problems.append(f"{path.name}: {error}")
    return models, problems


def open_loop(
    models: Mapping[int, LearnedModel], trial: TrialArrays, start: int, horizon: int, rng: np.random.Generator
) -> Prediction | None:
    """Predict from the observation at tick `start` with the actions that were applied.

    Args:
        models: models by version.
        trial: the trial.
        start: tick to predict from.
        horizon: control periods at most; fewer where the trial ends or an action is missing.
        rng: source of the aleatoric noise.

    Returns:
        Prediction for the ticks `start` (the observation itself) and after; None without a model, action or state.
    """
    model = models.get(int(trial.model_version[start]))
    acted = np.isfinite(trial.u[start : start + horizon]).all(axis=1)
    steps = len(acted) if acted.all() else int(acted.argmin())
    steps = min(steps, len(trial) - 1 - start)
    if model is None or steps == 0 or not np.isfinite(trial.x[start]).all():
        return None
    states = model.rollout(trial.x[start], trial.u[None, start : start + steps], rng, PARTICLES)
    states = model.observed(states, rng)[:, 0]
    low, high = np.percentile(states, BAND, axis=0)
    return Prediction(start + np.arange(steps + 1), states.mean(axis=0), low, high)


def open_loop_segments(
    models: Mapping[int, LearnedModel], trial: TrialArrays, rng: np.random.Generator, horizon: int = HORIZON
) -> list[Prediction]:
    """Open-loop predictions one after the other: each begins where the horizon of the last one ended."""
    starts = range(0, len(trial) - 1, horizon)
    return [p for p in (open_loop(models, trial, start, horizon, rng) for start in starts) if p is not None]


def one_step(models: Mapping[int, LearnedModel], trial: TrialArrays, rng: np.random.Generator) -> Prediction:
    """Prediction of every tick from the one before it; NaN rows (all ticks are there) where there is none."""
    mean, low, high = (np.full(trial.x.shape, np.nan) for _ in range(3))
    for start in range(len(trial) - 1):
        step = open_loop(models, trial, start, 1, rng)
        if step is not None:
            mean[start + 1], low[start + 1], high[start + 1] = step.mean[1], step.low[1], step.high[1]
    return Prediction(np.arange(len(trial)), mean, low, high)


def standardised_errors(models: Mapping[int, LearnedModel], trial: TrialArrays, horizon: int) -> np.ndarray:
    """Errors (k, H, nx) of the first model of the trial, on what came after it, see `calibration.deviations`.

    It has not seen that motion. k is 0 where there was no model, or the trial is too short.
    """
    used = np.flatnonzero(trial.model_version > 0)
    model = models.get(int(trial.model_version[used[0]])) if len(used) else None
    if model is None:
        return np.empty((0, horizon, trial.x.shape[1]))
    return deviations(model, unbroken(trial, int(used[0])), horizon)


def reliability(z: np.ndarray) -> dict[str, np.ndarray]:
    """Share of the states within intervals of probability LEVELS, one period ahead and at the end of the horizon.

    Args:
        z: standardised errors (k, H, nx).

    Returns:
        Shares (L,) by label; empty where k is 0.
    """
    if len(z) == 0:
        return {}
    ends = {"one period ahead": z[:, 0], f"after {z.shape[1]} periods": z[:, -1]}
    return {label: coverage(deviation.ravel(), LEVELS) for label, deviation in ends.items()}


def from_plans(
    models: Mapping[int, LearnedModel], trial: TrialArrays, delay: int, rng: np.random.Generator
) -> Prediction | None:
    """What the plan made H periods before said of each tick, H being the plans' length.

    The mean is the controller's own. The band is that of the model it used then, from where the plan began, with the
    plan's actions; NaN where the model is missing.

    Args:
        models: models by version.
        trial: the trial.
        delay: ticks from the observation of a plan to its first action.
        rng: source of the aleatoric noise.

    Returns:
        Prediction for every tick, NaN rows where there was no plan; None where no plan was recorded.
    """
    if trial.plan_x is None or trial.plan_u is None or trial.plan_u.shape[1] == 0:
        return None
    horizon = trial.plan_u.shape[1]
    mean, low, high = (np.full(trial.x.shape, np.nan) for _ in range(3))
    for start in range(len(trial) - horizon):
        if not (np.isfinite(trial.plan_x[start]).all() and np.isfinite(trial.plan_u[start]).all()):
            continue
        mean[start + horizon] = trial.plan_x[start, -1]
        model = models.get(int(trial.model_version[max(start - delay, 0)]))
        if model is not None:
            plan = trial.plan_u[None, start].astype(float)
            states = model.observed(model.rollout(trial.plan_x[start, 0].astype(float), plan, rng, PARTICLES), rng)
            low[start + horizon], high[start + horizon] = np.percentile(states[:, 0, -1], BAND, axis=0)
    return Prediction(np.arange(len(trial)), mean, low, high)


def unbroken(trial: TrialArrays, start: int = 0) -> Transitions:
    """The transitions of a trial from a tick on; a missing action or state begins a new stretch."""
    x, u, x_next = trial.x[start:-1], trial.u[start:-1], trial.x[start + 1 :]
    known = np.isfinite(np.concatenate([x, u, x_next], axis=1)).all(axis=1)
    return Transitions(x, u, x_next, np.cumsum(~known))[known]
