"""An ensemble with random weights: something to compile, to measure and to test with, before there are data."""

import numpy as np

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble


def random_ensemble(layout: StateLayout, config: EnsembleConfig, rng: np.random.Generator) -> ProbabilisticEnsemble:
    """Ensemble of the configured size whose predictions stay moderate.

    Args:
        layout: state layout.
        config: sizes.
        rng: source of the weights.
    """
    ny = len(layout.learned)
    sizes = {"members": config.members, "width": config.width, "further_layers*": config.layers - 1}
    sizes |= {"features": layout.n_features, "outputs": 2 * ny, "learned": ny}
    shapes = {k: [sizes[d] for d in v.split()] for k, v in ProbabilisticEnsemble.array_shapes.items()}
    arrays = {k: np.zeros(shape, np.float32) for k, shape in shapes.items()}
    for name in ("w_in", "w_hidden", "w_out"):
        arrays[name] = (rng.standard_normal(shapes[name]) / np.sqrt(shapes[name][-2])).astype(np.float32)
    for name in ("feature_std", "target_std"):
        arrays[name] = np.ones(shapes[name], np.float32)
    arrays["log_var_low"] -= 10.0
    return ProbabilisticEnsemble(layout, arrays)
