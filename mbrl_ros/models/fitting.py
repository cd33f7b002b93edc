"""What all trainers share: data that can be trusted, the normaliser, the error when no model can be made."""

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

SMALLEST_STD = 1e-3  # of inputs and targets: constant entries must not be divided by zero
WILD = 1e4  # with SMALLEST_STD: what is within 10 units of the median is never touched
SMALLEST_NOISE = 1e-9  # of an observed entry: no noise, and yet a number above zero


class FitError(MbrlError):
    """No model could be fitted; the last good model stays in use."""


def checked(data: Transitions, layout: StateLayout) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, n_features) and targets (n, ny) of the transitions, or FitError."""
    if len(data) == 0:
        raise FitError("fit: no transitions to learn from")
    with np.errstate(invalid="ignore", over="ignore"):
        inputs, targets = layout.features(data.x, data.u), layout.targets(data.x, data.x_next)
    # Rows, not only what is learned of them: a next position that is not a number says that the row is wrong.
    bad = ~np.isfinite(np.column_stack([data.x, data.u, data.x_next, targets])).all(axis=1)
    if bad.any():
        raise FitError(f"fit: {bad.sum()} of {len(data)} transitions are not finite, the first is {bad.argmax()}")
    return tamed(inputs), tamed(targets)


def tamed(values: np.ndarray) -> np.ndarray:
    """Values (n, m) whose wild entries are those of the farthest that is not wild.

    Wild is what lies more than WILD times as far from the median as the middle 90 % of the entries do: no motion, and
    it would make the normaliser blind for all the rest. Nearer outliers are left to the models.
    """
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
    limit = WILD * np.maximum(high - low, SMALLEST_STD)
    calm = np.abs(values - middle) <= limit
    least = np.where(calm, values, np.inf).min(axis=0)
    most = np.where(calm, values, -np.inf).max(axis=0)
    return np.clip(values, least, most) if not calm.all() else values


def normaliser(inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Scales that give inputs (n, n_features) and targets (n, ny) zero mean and unit variance, by name, float32."""
    scales = {
        "feature_mean": inputs.mean(axis=0),
        "feature_std": np.maximum(inputs.std(axis=0), SMALLEST_STD),
        "target_mean": targets.mean(axis=0),
        "target_std": np.maximum(targets.std(axis=0), SMALLEST_STD),
    }
    return {k: v.astype(np.float32) for k, v in scales.items()}


def observation_std(data: Transitions, layout: StateLayout) -> np.ndarray:
    """Noise of an observed state that the prediction of a step does not hold, (nx,).

    Positions follow from velocities, but what is observed of them is noisy at both ends of the step: the robust
    standard deviation of what is left. For learned entries that noise is in the members' own.
    """
    left = data.x_next - layout.integrate(data.x, layout.targets(data.x, data.x_next))
    spread = 1.4826 * np.median(np.abs(left - np.median(left, axis=0)), axis=0)
    spread[layout.learned] = 0.0
    return np.maximum(spread, SMALLEST_NOISE)


def stream(seed: int, transitions: int) -> int:
    """Seed of a fit's random numbers, from the run's seed and the size of the data: refits to more data differ."""
    return int(np.random.SeedSequence([seed, transitions]).generate_state(1)[0])


def centred(draws: np.ndarray) -> np.ndarray:
    """Standard normal draws (E, ...) less their mean over E, rescaled to unit variance; zero where E is 1."""
    members = len(draws)
    return (draws - draws.mean(axis=0)) * np.sqrt(members / max(members - 1, 1))
