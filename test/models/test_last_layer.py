"""Adaptation of the last layer against weighted least squares, and on a world that has changed."""

import numpy as np
import pytest

from mbrl_ros.models import MODELS, model_class
from mbrl_ros.models.last_layer import AdaptationConfig, LastLayer
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)
ADAPTABLE = [name for name in MODELS if model_class(name).adaptable]


@pytest.fixture(params=ADAPTABLE)
def model(request):
    cls = model_class(request.param)
    made = cls.example(LAYOUT, cls.config_class(), np.random.default_rng(0))
    if "log_var_high" in made.arrays:  # a small noise, as after a fit
        made = made.with_arrays(log_var_high=np.full(3, -6.0, np.float32))
    scale = np.array([0.5, 1.0, 2.0], cls.array_type)
    if "scatter" in made.arrays:  # of the data: terms, then targets
        spread = np.concatenate([np.linspace(0.5, 2.0, len(made.arrays["centre"]) - 3), scale])
        centre = np.linspace(-0.3, 0.3, len(spread))
        return made.with_arrays(count=np.array([7.0]), centre=centre, scatter=np.diag(7.0 * spread**2))
    return made.with_arrays(target_std=scale)


def motion(world, count, seed=1, noise=0.0):
    """Transitions of a world (a model) from random states."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(count, 5)), rng.normal(size=(count, 2))
    x_next = world.step(x, u)
    x_next[:, LAYOUT.learned] += noise * rng.standard_normal((count, 3))
    return list(zip(x, u, x_next, strict=True))


def changed_world(model, size=0.3, seed=2):
    """The model with other weights on four of its functions, the constant among them, the same for every network."""
    networks, _, count = model.basis(np.zeros((1, 5)), np.zeros((1, 2))).shape
    weights = np.zeros((1, count, 3))
    weights[0, -4:] = size * np.random.default_rng(seed).normal(size=(4, 3))
    return model.with_output_change(np.repeat(weights, networks, axis=0))


def test_with_output_change_adds_basis_times_weights(model):
    x, u = np.random.default_rng(3).normal(size=(4, 5)), np.random.default_rng(4).normal(size=(4, 2))
    phi = model.basis(x, u)
    weights = 0.1 * np.random.default_rng(5).normal(size=(len(phi), phi.shape[2], 3))
    got = model.with_output_change(weights).predict(x, u)[0] - model.predict(x, u)[0]
    np.testing.assert_allclose(got, np.broadcast_to(phi @ weights * [0.5, 1.0, 2.0], got.shape), atol=1e-4)
    assert np.abs(got).max() > 0.05


@pytest.mark.parametrize("memory", [0.3, 1e6])
def test_recursive_is_batch(model, memory):
    """Against the solution of the weighted, regularised least squares problem in one go."""
    data = motion(changed_world(model), 30, noise=0.05)
    config = AdaptationConfig(memory=memory, prior_std=0.2)
    recursive = LastLayer(model, config, LAYOUT.dt)
    for row in data:
        recursive.update(*row)
    x, u, x_next = (np.array(column) for column in zip(*data, strict=True))
    phi, (means, stds) = model.basis(x, u), model.predict(x, u)
    scale = np.array([0.5, 1.0, 2.0])
    age = np.arange(30)[::-1]
    for e in range(len(phi)):
        mean = means[e] if len(phi) == len(means) else means.mean(axis=0)
        error = (LAYOUT.targets(x, x_next) - mean) / scale
        for k in range(3):
            noise = np.sqrt((stds[:, :, k] ** 2).mean(axis=0)) / scale[k]
            root = np.sqrt(np.exp(-age * LAYOUT.dt / memory)) / noise
            A = np.vstack([root[:, None] * phi[e], np.eye(phi.shape[2]) / 0.2])
            b = np.concatenate([root * error[:, k], np.zeros(phi.shape[2])])
            expected = np.linalg.lstsq(A, b, rcond=None)[0]
            np.testing.assert_allclose(recursive.weights()[e, :, k], expected, atol=1e-6)


def test_a_change_is_taken_up_within_a_second(model):
    """20 transitions at 20 Hz: the error on other motion falls to less than half."""
    world = changed_world(model)
    adapting = LastLayer(model, AdaptationConfig(memory=1.0), LAYOUT.dt)
    for row in motion(world, 20):
        adapting.update(*row)
    x, u, x_next = (np.array(c) for c in zip(*motion(world, 200, seed=6), strict=True))
    before = np.sqrt(np.mean((model.step(x, u) - x_next) ** 2))
    after = np.sqrt(np.mean((adapting.adapted().step(x, u) - x_next) ** 2))
    assert after < 0.5 * before


def test_old_evidence_fades(model):
    """After 15 time constants the weights are those of one that has never seen the old world."""
    config = AdaptationConfig(memory=0.2)
    adapting, fresh = LastLayer(model, config, LAYOUT.dt), LastLayer(model, config, LAYOUT.dt)
    for row in motion(changed_world(model), 20):
        adapting.update(*row)
    assert np.abs(adapting.weights()).max() > 0.1
    for row in motion(model, 60, seed=7):
        adapting.update(*row)
        fresh.update(*row)
    np.testing.assert_allclose(adapting.weights(), fresh.weights(), atol=1e-3)


def test_the_prior_bounds_the_change(model):
    def size(prior_std):
        adapting = LastLayer(model, AdaptationConfig(memory=1.0, prior_std=prior_std), LAYOUT.dt)
        for row in motion(changed_world(model), 5):
            adapting.update(*row)
        return np.abs(adapting.weights()).max()

    assert size(1e-4) < 0.1 * size(0.1)


def test_wild_transitions_neither_break_nor_bend_it(model):
    adapting = LastLayer(model, AdaptationConfig(memory=1.0), LAYOUT.dt)
    (x, u, x_next), *_ = motion(model, 1)
    assert adapting.adapted() is model
    adapting.update(x, u, np.full(5, np.nan))
    assert adapting.adapted() is model
    adapting.update(x, u, x_next + 1e12)
    assert np.isfinite(adapting.weights()).all() and np.abs(adapting.weights()).max() < 10.0
