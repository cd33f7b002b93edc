"""An ensemble with random weights: something to measure and to test with, before there are data."""

import numpy as np

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble


def random_ensemble(layout: StateLayout, config: EnsembleConfig, rng: np.random.Generator) -> ProbabilisticEnsemble:
    """Ensemble of the configured size whose predictions stay moderate, see `ProbabilisticEnsemble.example`."""
    return ProbabilisticEnsemble.example(layout, config, rng)
