"""The compiled inference is held to torch on the same weights and to numpy in double precision."""

import numpy as np
import torch

from mbrl_ros.models import ensemble_kernel
from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays, network
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS


def test_silu_is_accurate_over_the_whole_range():
    z = np.concatenate([np.linspace(-40.0, 40.0, 20_001), [1e6, -1e6, 0.0]]).astype(np.float32)
    got = z.copy()
    ensemble_kernel.silu_inplace(got)
    exact = z.astype(np.float64) * 0.5 * (1.0 + np.tanh(0.5 * z.astype(np.float64)))
    assert np.all(np.abs(got - exact) < 3e-7 * (1.0 + np.abs(z)))


def test_forward_is_the_torch_network():
    for layers in (1, 2, 3):
        config = EnsembleConfig(members=2, layers=layers, width=24)
        arrays = initial_arrays(config, 5, 2, torch.Generator().manual_seed(layers))
        rng = np.random.default_rng(layers)
        for name in WEIGHTS:
            if name.startswith("b"):  # biases start at zero; a test needs them different
                arrays[name] = rng.standard_normal(arrays[name].shape).astype(np.float32)
        x = rng.standard_normal((2, 7, 5)).astype(np.float32)
        expected = network({k: torch.as_tensor(v) for k, v in arrays.items()}, torch.as_tensor(x)).numpy()
        for e in range(2):
            w_in, b_in, w_hidden, b_hidden, w_out, b_out = (arrays[k][e] for k in WEIGHTS)
            h1, h2, heads = np.empty((7, 24), np.float32), np.empty((7, 24), np.float32), np.empty((7, 4), np.float32)
            ensemble_kernel.forward(x[e], w_in, b_in, w_hidden, b_hidden, w_out, b_out, h1, h2, heads)
            np.testing.assert_allclose(heads, expected[e], atol=1e-5)


def test_noise_has_the_softly_bounded_standard_deviation():
    low, high = np.array([-9.0, -4.0], np.float32), np.array([0.5, 1.0], np.float32)
    raw = np.linspace(-30.0, 30.0, 61, dtype=np.float32)
    heads = np.zeros((61, 4), np.float32)
    heads[:, 2:] = raw[:, None]
    ensemble_kernel.add_noise(heads, np.array([1.0, -2.0], np.float32), low, high)
    softplus = lambda z: np.logaddexp(0.0, z)  # noqa: E731
    bounded = high.astype(float) - softplus(high - raw[:, None].astype(float))
    bounded = low + softplus(bounded - low)
    np.testing.assert_allclose(heads[:, :2], np.exp(0.5 * bounded) * [1.0, -2.0], rtol=1e-5)
