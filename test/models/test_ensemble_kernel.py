"""The compiled inference is held to torch on the same weights and to numpy in double precision."""

import numpy as np
import torch
from numba import njit

from mbrl_ros.models import ensemble_kernel
from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays
from mbrl_ros.models.network_training import network
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS


@njit(error_model="numpy")
def each_exp2(y):
    out = np.empty_like(y)
    for i in range(y.size):
        out[i] = ensemble_kernel.exp2(y[i])
    return out


def test_silu_is_accurate_over_the_whole_range():
    z = np.concatenate([np.linspace(-40.0, 40.0, 20_001), [1e6, -1e6, 0.0]]).astype(np.float32)
    got = z.copy()
    ensemble_kernel.silu_inplace(got)
    exact = z.astype(np.float64) * 0.5 * (1.0 + np.tanh(0.5 * z.astype(np.float64)))
    assert np.all(np.abs(got - exact) < 3e-7 * (1.0 + np.abs(z)))
    near = np.abs(z) <= 15.0
    assert np.all(np.abs(got - exact)[near] <= 1e-6 * np.abs(exact[near]))


def test_exp2_is_accurate_and_stays_within_float32():
    y = np.linspace(-126.0, 126.0, 20_001).astype(np.float32)
    got = each_exp2(y)
    assert np.abs(got / np.exp2(y.astype(np.float64)) - 1.0).max() < 2.5e-7
    np.testing.assert_array_equal(each_exp2(np.array([-1e6, 1e6], np.float32)), np.float32([2.0**-126, 2.0**126]))


def test_what_is_not_finite_stays_so():
    """A candidate whose states overflow must never look cheap."""
    h = np.array([np.nan, np.inf, -np.inf], np.float32)
    ensemble_kernel.silu_inplace(h)
    assert not np.isfinite(h).any()


def test_bias_and_silu_in_one_pass_are_the_two_passes():
    rng = np.random.default_rng(0)
    h, b = rng.standard_normal((7, 24)).astype(np.float32), rng.standard_normal(24).astype(np.float32)
    expected = h + b
    ensemble_kernel.silu_inplace(expected)
    ensemble_kernel.silu_after_bias(h, b)
    np.testing.assert_allclose(h, expected, rtol=1e-6, atol=1e-7)


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


def test_change_has_the_softly_bounded_standard_deviation():
    low, high = np.array([-9.0, -4.0], np.float32), np.array([0.5, 1.0], np.float32)
    raw = np.linspace(-30.0, 30.0, 61, dtype=np.float32)
    heads = np.zeros((61, 4), np.float32)
    heads[:, :2], heads[:, 2:] = 0.25, raw[:, None] - 0.5
    bias, noise = np.array([0.1, -0.2, 0.5, 0.5], np.float32), np.array([1.0, -2.0], np.float32)
    mean, std = np.array([3.0, -4.0], np.float32), np.array([2.0, 0.5], np.float32)
    change, expected = np.empty((2, 61, 2), np.float32)
    ensemble_kernel.sampled_change(heads, bias, noise, low, high, mean, std, change)
    ensemble_kernel.mean_change(heads, bias, mean, std, expected)
    np.testing.assert_allclose(expected, np.tile((0.25 + bias[:2]) * std + mean, (61, 1)), rtol=1e-6)
    softplus = lambda z: np.logaddexp(0.0, z)  # noqa: E731
    bounded = high.astype(float) - softplus(high - raw[:, None].astype(float))
    bounded = low + softplus(bounded - low)
    np.testing.assert_allclose(change - expected, np.exp(0.5 * bounded) * noise * std, rtol=1e-5, atol=2e-6)
