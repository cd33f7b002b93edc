"""Physics plus a learned rest: a friction that no equation knows, arrays of two models in one, what may be received."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError, ModelRejectedError
from mbrl_ros.models import MODELS, model_class
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.evaluation import multi_step_error, one_step_error
from mbrl_ros.models.physics_residual_ensemble import PhysicsResidualEnsembleConfig
from mbrl_ros.models.residual import PHYSICS, REST
from mbrl_ros.models.residual_training import left_over
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.policies.smooth_random import SmoothRandom, SmoothRandomConfig
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

ROBOT = load_robot("cartpole")
LAYOUT = ROBOT.layout
RESIDUAL = tuple(name for name in MODELS if name.startswith("physics_residual"))
DRY = 1.5  # N of dry friction on the cart


def with_dry_friction(x, u):
    return derivative(x, (u[0] - DRY * np.tanh(x[2] / 0.05),))


@cache
def recorded(seed, trials, std=0.01):
    plant = AnalyticDynamics(with_dry_friction, 4, 1, ROBOT.dt, substeps=20)
    rng, rows = np.random.default_rng(seed), []
    for trial in range(trials):
        policy = SmoothRandom(SmoothRandomConfig(), -ROBOT.u_max, ROBOT.u_max, 60, rng)
        x = np.array([[0.0, np.pi, 0.0, 0.0]])
        measured = x[0] + std * rng.normal(size=4)
        for tick in range(60):
            u = policy.action(tick)
            x = plant.step(x, u[None])
            rows.append((measured, u, measured := x[0] + std * rng.normal(size=4), trial))
    return Transitions(*(np.array(c) for c in zip(*rows, strict=True)))


@cache
def fitted(name, seed=1, trials=1):
    config = model_class(name).config_class()
    return TRAINERS[name](recorded(seed, trials), LAYOUT, config, 0, None)


def test_with_little_data_better_than_physics_alone_and_than_learning_alone():
    unseen = recorded(99, 2, 0.0)
    models = {n: fitted(n)[0] for n in ("physics", "gaussian_process", "physics_residual_gp")}
    one = {n: one_step_error(m, unseen) for n, m in models.items()}
    many = {n: multi_step_error(m, unseen, 25) for n, m in models.items()}
    for errors in (one, many):
        assert errors["physics_residual_gp"] < 0.7 * errors["physics"]
        assert errors["physics_residual_gp"] < 0.7 * errors["gaussian_process"]


def test_the_rest_is_the_unknown_friction():
    model = fitted("physics_residual_gp", 1, 4)[0]
    v = np.array([-1.0, -0.5, 0.5, 1.0])
    x, u = np.zeros((4, 4)), np.zeros((4, 1))
    x[:, 1], x[:, 2] = np.pi, v
    truth = AnalyticDynamics(with_dry_friction, 4, 1, ROBOT.dt, substeps=20).step(x, u) - x
    physics, whole = model.physics.step(x, u) - x, model.step(x, u) - x
    assert np.abs(whole - truth)[:, 2].max() < 0.5 * np.abs(physics - truth)[:, 2].max()


def test_what_is_left_over():
    data, physics = recorded(1, 1), fitted("physics")[0]
    rest = left_over(data, LAYOUT, physics)
    found = LAYOUT.targets(rest.x, rest.x_next)
    np.testing.assert_allclose(found, (data.x_next - physics.step(data.x, data.u))[:, LAYOUT.learned], atol=1e-12)
    assert np.abs(found).mean() < np.abs(LAYOUT.targets(data.x, data.x_next)).mean()


@pytest.mark.parametrize("name", RESIDUAL)
def test_it_is_the_sum_of_both_and_the_kernels_agree(name):
    model = fitted(name)[0]
    data = recorded(1, 1)
    x, u = data.x[:20], data.u[:20]
    known, _ = model.physics.predict_member(1, x, u)
    left, left_std = model.rest.predict_member(1, x, u)
    mean, std = model.predict_member(1, x, u)
    np.testing.assert_allclose(mean, known + left)
    np.testing.assert_allclose(std, left_std)
    actions = np.random.default_rng(0).normal(size=(5, 2, 1)).astype(np.float32)
    fast, slow = np.zeros((2, 5, 6, 2, 4), np.float32)
    members, noise = np.arange(5)[:, None].repeat(5, 1), np.random.default_rng(1).normal(size=(5, 5, 2))
    model.advance_particles(actions, noise.astype(np.float32), members, fast)
    LearnedModel._advance(model, actions, noise, members, slow)
    np.testing.assert_allclose(fast, slow, atol=5e-3)


@pytest.mark.parametrize("name", RESIDUAL)
def test_derivatives_are_those_of_step(name):
    model = fitted(name)[0]
    data, h = recorded(1, 1), 1e-3
    x, u = data.x[10:14], data.u[10:14]
    A, B = model.linearize(x, u)
    for i, e in enumerate(np.eye(4)):
        slope = (model.step(x + h * e, u) - model.step(x - h * e, u)) / (2 * h)
        np.testing.assert_allclose(A[..., i], slope, atol=5e-3)
    slope = (model.step(x, u + h) - model.step(x, u - h)) / (2 * h)
    np.testing.assert_allclose(B[..., 0], slope, atol=5e-3)
    n = 5
    ahead, behind = (np.concatenate(model.linearize(x + s * 1e-3 * np.eye(4)[1], u), axis=-1) for s in (1, -1))
    np.testing.assert_allclose(model.hessian(x, u)[..., 1], (ahead - behind) / 2e-3, atol=0.05)
    assert model.hessian(x, u).shape == (4, 4, n, n)


@pytest.mark.parametrize("name", RESIDUAL)
def test_bytes_there_and_back_and_what_is_refused(name):
    model = fitted(name)[0]
    got, header = from_bytes(to_bytes(model, 1, 60, "cartpole"), "cartpole", LAYOUT)
    assert header.kind == name
    x, u = recorded(1, 1).x[:3], recorded(1, 1).u[:3]
    np.testing.assert_array_equal(got.step(x, u), model.step(x, u))
    letters = np.array([ord(c) for c in "antigravity:fly"], model.array_type)
    with pytest.raises(ModelRejectedError, match="equation"):
        to_bytes(model.with_arrays(**{PHYSICS + "equation": letters}), 1, 60, "cartpole")
    less = replace(model, arrays={k: a for k, a in model.arrays.items() if not k.startswith(REST)})
    with pytest.raises(ModelRejectedError, match="arrays"):
        to_bytes(less, 1, 60, "cartpole")


def test_a_refit_starts_from_both_parts_and_is_the_same_again():
    name = "physics_residual_gp"
    model, report = fitted(name)
    args = recorded(1, 1), LAYOUT, model_class(name).config_class(), 0
    again = TRAINERS[name](*args, None)[0]
    assert all(np.array_equal(model.arrays[k], again.arrays[k]) for k in model.arrays)
    _, warm = TRAINERS[name](*args, model)
    assert warm.warm and warm.rest.warm and warm.physics.steps < report.physics.steps
    assert report.physics.parameters[0].name == "cart_mass"


def test_a_rest_alone_cannot_be_rolled_out_in_its_loss():
    with pytest.raises(ConfigError, match="loss_horizon"):
        PhysicsResidualEnsembleConfig(loss_horizon=2)


@pytest.mark.parametrize("name", RESIDUAL)
def test_settings_reach_both_parts(name):
    config = model_class(name).config_class(members=3, substeps=3)
    model = model_class(name).example(LAYOUT, config, np.random.default_rng(0))
    assert model.members == model.physics.members == model.rest.members == 3
    assert model.physics.arrays["substeps"] == [3.0]
