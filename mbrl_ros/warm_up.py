"""Compiles the kernels of the main job ahead of time, so that the first run starts as fast as the second.

Part of the set-up (``make``): numba keeps what it compiles on disk.
"""

import numpy as np

from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig
from mbrl_ros.models.random_ensemble import random_ensemble
from mbrl_ros.robots.description import load_robot


def main() -> None:
    """Run every cached kernel once on a model with random weights."""
    rng = np.random.default_rng(0)
    model = random_ensemble(load_robot("cartpole").layout, EnsembleConfig(), rng)
    x, u = np.zeros((2, model.nx)), np.zeros((2, model.nu))
    model.rollout(x[0], u[None], rng, 2)
    model.predict(x, u)
    model.linearize(x, u)


if __name__ == "__main__":
    main()
