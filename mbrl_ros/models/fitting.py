"""What all trainers share: data that can be trusted, the normaliser, the error when no model can be made."""

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

SMALLEST_STD = 1e-3  # of inputs and targets: constant entries must not be divided by zero


class FitError(MbrlError):
    """No model could be fitted; the last good model stays in use."""


def checked(data: Transitions, layout: StateLayout) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, n_features) and targets (n, ny) of the transitions, or FitError."""
    if len(data) == 0:
        raise FitError("fit: no transitions to learn from")
    inputs, targets = layout.features(data.x, data.u), layout.targets(data.x, data.x_next)
    bad = ~(np.isfinite(inputs).all(axis=1) & np.isfinite(targets).all(axis=1))
    if bad.any():
        raise FitError(f"fit: {bad.sum()} of {len(data)} transitions are not finite, the first is {bad.argmax()}")
    return inputs, targets


def normaliser(inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Scales that give inputs (n, n_features) and targets (n, ny) zero mean and unit variance, by name, float32."""
    scales = {
        "feature_mean": inputs.mean(axis=0),
        "feature_std": np.maximum(inputs.std(axis=0), SMALLEST_STD),
        "target_mean": targets.mean(axis=0),
        "target_std": np.maximum(targets.std(axis=0), SMALLEST_STD),
    }
    return {k: v.astype(np.float32) for k, v in scales.items()}


def stream(seed: int, transitions: int) -> int:
    """Seed of a fit's random numbers, from the run's seed and the size of the data: refits to more data differ."""
    return int(np.random.SeedSequence([seed, transitions]).generate_state(1)[0])
