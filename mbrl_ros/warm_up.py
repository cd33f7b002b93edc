"""Compiles the kernels of the main job ahead of time, so that the first run starts as fast as the second.

Part of the set-up (``make``): numba keeps what it compiles on disk.
"""

import numpy as np

from mbrl_ros.models import MODELS, model_class
from mbrl_ros.robots.description import load_robot


def main() -> None:
    """Run every cached kernel once on models with random weights."""
    rng = np.random.default_rng(0)
    for name in MODELS:
        cls = model_class(name)
        model = cls.example(load_robot("cartpole").layout, cls.config_class(), rng)
        x, u = np.zeros((2, model.nx)), np.zeros((2, model.nu))
        model.rollout(x[0], u[None], rng, 2)
        model.predict(x, u)
        model.linearize(x, u)


if __name__ == "__main__":
    main()
