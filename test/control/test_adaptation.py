"""The model in use follows the robot between fits, and starts anew from every fit."""

import numpy as np

from mbrl_ros.control.adaptation import Adapter
from mbrl_ros.data.pairing import Pair
from mbrl_ros.models.gaussian_process import GaussianProcess, GaussianProcessConfig
from mbrl_ros.models.last_layer import AdaptationConfig
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("p", "v"), ("u",), (), {"p": "v"}, 0.1)
FITTED = GaussianProcess.example(LAYOUT, GaussianProcessConfig(max_data=10), np.random.default_rng(0))
PUSH = 0.4  # what the changed robot adds to every velocity


def pairs(count, push=PUSH, seed=1):
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(count, 2)), rng.normal(size=(count, 1))
    x_next = FITTED.step(x, u) + np.array([0.05 * push, push])
    return [Pair(k, *row, 0) for k, row in enumerate(zip(x, u, x_next, strict=True))]


def error(model):
    x, u = np.zeros((1, 2)), np.zeros((1, 1))
    return abs(model.step(x, u)[0, 1] - FITTED.step(x, u)[0, 1] - PUSH)


def test_transitions_change_the_model_in_use():
    adapter = Adapter(AdaptationConfig(memory=1.0, prior_std=1.0), LAYOUT.dt)
    assert adapter.use(FITTED) is FITTED
    assert adapter.take([]) is None
    adapted = adapter.take(pairs(10))
    assert error(adapted) < 0.1 * PUSH < error(FITTED)


def test_a_new_fit_is_adapted_by_what_is_remembered():
    adapter = Adapter(AdaptationConfig(memory=1.0, prior_std=1.0), LAYOUT.dt)
    assert adapter.take(pairs(10)) is None, "there is no model yet"
    assert error(adapter.use(FITTED)) < 0.1 * PUSH


def test_what_is_old_is_forgotten():
    adapter = Adapter(AdaptationConfig(memory=0.5, prior_std=1.0), LAYOUT.dt)
    adapter.take(pairs(10))
    adapter.take(pairs(15, push=0.0))  # three time constants
    assert error(adapter.use(FITTED)) > 0.9 * PUSH


def test_no_memory_is_no_adaptation():
    adapter = Adapter(AdaptationConfig(memory=0.0), LAYOUT.dt)
    assert not adapter.enabled
    assert adapter.use(FITTED) is FITTED
    assert adapter.take(pairs(10)) is None
