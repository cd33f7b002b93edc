"""How far a motion is from what the model knew."""

import numpy as np
from scipy.spatial import KDTree

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions


def novelty(layout: StateLayout, known: Transitions, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Distance of each state and action to the nearest known one, in the model's features.

    Args:
        layout: what the entries mean.
        known: n transitions.
        x: states (T, nx).
        u: actions (T, nu), NaN where there is none.

    Returns:
        (T,) root mean square over the features, each in standard deviations of the known ones; NaN where there is no
        action, or nothing is known.
    """
    distances = np.full(len(x), np.nan)
    there = np.isfinite(x).all(axis=1) & np.isfinite(u).all(axis=1)
    if len(known) < 2 or not there.any():
        return distances
    features = layout.features(known.x, known.u)
    scale = np.maximum(features.std(axis=0), 1e-6)
    tree = KDTree(features / scale)
    distances[there] = tree.query(layout.features(x[there], u[there]) / scale)[0] / np.sqrt(features.shape[1])
    return distances
