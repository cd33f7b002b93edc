"""The model as planners see it: draws are networks of the ensemble, its example, its bytes."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.bayesian_network import POSTERIOR, BayesianNetwork, BayesianNetworkConfig
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import BOUNDS, SCALES, WEIGHTS, ProbabilisticEnsemble
from mbrl_ros.models.serialization import from_bytes, to_bytes

LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)
CONFIG = BayesianNetworkConfig(members=3, width=8, layers=3)


@pytest.fixture
def model() -> BayesianNetwork:
    return BayesianNetwork.example(LAYOUT, CONFIG, np.random.default_rng(0))


def test_its_draws_plan_as_an_ensemble_of_the_same_weights(model):
    twin = ProbabilisticEnsemble(LAYOUT, {k: model.arrays[k] for k in (*WEIGHTS, *SCALES, *BOUNDS)})
    rng = np.random.default_rng(1)
    x, u, actions = rng.standard_normal((4, 5)), rng.standard_normal((4, 2)), rng.standard_normal((2, 6, 2))
    np.testing.assert_array_equal(model.predict(x, u), twin.predict(x, u))
    for ours, theirs in zip(model.linearize(x, u), twin.linearize(x, u), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    seen = [m.rollout(x[0], actions, np.random.default_rng(2), 5) for m in (model, twin)]
    np.testing.assert_array_equal(*seen)


def test_the_posterior_travels_with_the_model(model):
    read, header = from_bytes(to_bytes(model, 3, 4, "robot"), "robot", LAYOUT)
    assert header.kind == "bayesian_network" and isinstance(read, BayesianNetwork)
    assert set(POSTERIOR) < set(read.arrays)
    for name, array in model.arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)


def test_posterior_gives_means_and_standard_deviations(model):
    arrays = model.with_arrays(mu_b_in=np.full(8, 2.0, np.float32), rho_b_in=np.full(8, -1.0, np.float32))
    mean, std = arrays.posterior("b_in")
    np.testing.assert_allclose(mean, 2.0)
    np.testing.assert_allclose(std, np.exp(-1.0), rtol=1e-6)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="prior_std"):
        BayesianNetworkConfig(prior_std=0.0)
    with pytest.raises(ConfigError, match="annealing"):
        BayesianNetworkConfig(annealing=1.5)
