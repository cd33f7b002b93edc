"""Compiles the kernels of the main job ahead of time, so that the first run starts as fast as the second.

Part of the set-up (``make``): numba keeps what it compiles on disk.
"""

import numpy as np

from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.robots.description import load_robot

SIZES = {"members": 2, "width": 4, "further_layers*": 1}


def main() -> None:
    """Run every cached kernel once on a model with arbitrary weights."""
    layout = load_robot("cartpole").layout
    sizes = SIZES | {"features": layout.n_features, "outputs": 2 * len(layout.learned), "learned": len(layout.learned)}
    arrays = {
        name: np.ones([sizes[d] for d in dimensions.split()], np.float32)
        for name, dimensions in ProbabilisticEnsemble.array_shapes.items()
    }
    model = ProbabilisticEnsemble(layout, arrays)
    x, u = np.zeros((2, model.nx)), np.zeros((2, model.nu))
    model.rollout(x[0], u[None], np.random.default_rng(0), 2)
    model.predict(x, u)


if __name__ == "__main__":
    main()
