"""What trainers share."""

import numpy as np

from mbrl_ros.models.fitting import observation_std
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions


def test_observation_noise_is_what_integration_leaves_over():
    """Positions measured with noise 0.02 at both ends of a step, velocities without: sqrt(2) 0.02, and outliers."""
    layout = StateLayout(("p", "v"), ("u",), (), {"p": "v"}, 0.1)
    rng = np.random.default_rng(0)
    v, v_next = rng.normal(size=(2, 5000))
    p = rng.normal(size=5000)
    p_next = p + 0.05 * (v + v_next)
    noise = 0.02 * rng.normal(size=(2, 5000))
    x, x_next = np.column_stack([p + noise[0], v]), np.column_stack([p_next + noise[1], v_next])
    x_next[::100, 0] += 50.0
    data = Transitions(x, np.zeros((5000, 1)), x_next, np.zeros(5000, int))
    np.testing.assert_allclose(observation_std(data, layout), [np.sqrt(2) * 0.02, 1e-9], rtol=0.05)
