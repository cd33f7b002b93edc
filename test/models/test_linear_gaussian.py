"""The model: terms, the compiled rollout and the closed-form Jacobians of both kinds of terms, its belief."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError, ModelRejectedError
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.linear_gaussian import LinearGaussian, LinearGaussianConfig, split, terms
from mbrl_ros.models.linear_gaussian_training import fit
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)


def example(quadratic, members=5):
    config = LinearGaussianConfig(members=members, quadratic=quadratic)
    return LinearGaussian.example(LAYOUT, config, np.random.default_rng(0))


def fitted(quadratic, members=5, n=200):
    rng = np.random.default_rng(1)
    x, u = rng.normal(size=(n, 5)), rng.normal(size=(n, 2))
    change = np.stack([u[:, 0] - x[:, 0], np.sin(x[:, 3]) + x[:, 2], x[:, 4]], axis=1)
    x_next = LAYOUT.integrate(x, change + 0.3 * rng.normal(size=(n, 3)))
    data = Transitions(x, u, x_next, np.zeros(n, int))
    return fit(data, LAYOUT, LinearGaussianConfig(members=members, quadratic=quadratic), 0)[0]


def some(count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 5)), rng.normal(size=(count, 2))


def test_terms_by_hand():
    np.testing.assert_array_equal(terms(np.array([2.0, 3.0, 5.0]), True), [1, 2, 3, 5, 4, 6, 10, 9, 15, 25])
    np.testing.assert_array_equal(terms(np.array([[2.0, 3.0]]), False), [[1, 2, 3]])
    offset, linear, products = split(np.arange(6.0), 2)
    assert offset == 0.0 and linear.tolist() == [1.0, 2.0] and products.tolist() == [[3.0, 4.0], [0.0, 5.0]]


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("noise", [False, True])
def test_the_kernel_agrees_with_predict_member(quadratic, noise):
    model = fitted(quadratic)
    actions = np.random.default_rng(2).normal(size=(6, 7, 2)).astype(np.float32)
    draws = np.random.default_rng(3).normal(size=(5, 6 if noise else 0, 3)).astype(np.float32)
    members = np.random.default_rng(4).integers(5, size=(5, 6))
    fast, slow = np.zeros((2, 5, 7, 7, 5), np.float32)
    model.advance_particles(actions, draws, members, fast)
    LearnedModel._advance(model, actions, draws, members, slow)
    np.testing.assert_allclose(fast, slow, atol=1e-3, rtol=1e-3)
    assert np.abs(slow[:, -1]).max() > 0.5, "there was something to compare"


@pytest.mark.parametrize("quadratic", [False, True])
def test_linearize_is_the_derivative_of_step(quadratic):
    model = fitted(quadratic)
    A, B = model.linearize(*some(6))
    slow_A, slow_B = LearnedModel.linearize(model, *some(6))
    np.testing.assert_allclose(A, slow_A, atol=1e-8)
    np.testing.assert_allclose(B, slow_B, atol=1e-8)


@pytest.mark.parametrize("quadratic", [False, True])
def test_members_are_spread_like_the_posterior_about_its_mean(quadratic):
    model, (x, u) = fitted(quadratic, members=100), some(400, seed=5)
    mean, std = model.posterior(x, u)
    drawn = model.predict(x, u)[0]
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=1e-9)
    # a variance from 100 draws is off by 14 % in one place, by less over many places
    ratio = drawn.var(axis=0) / std**2
    assert 0.85 < ratio.mean() < 1.15
    few = fitted(quadratic, members=2).predict(x, u)[0]
    np.testing.assert_allclose(few.mean(axis=0), mean, atol=1e-9)
    assert 0.5 < (few.var(axis=0) / std**2).mean() < 2.0, "centring does not shrink the spread"


def test_one_member_is_the_posterior_mean():
    model = fitted(True, members=1)
    np.testing.assert_allclose(model.predict(*some(9))[0][0], model.posterior(*some(9))[0], atol=1e-12)


def test_predictive_adds_the_noise_to_the_posterior():
    model = fitted(True)
    mean, std = model.posterior(*some(9))
    t_mean, covariance, degrees = model.predictive(*some(9))
    noise = model.predict(*some(9))[1][0]
    np.testing.assert_allclose(t_mean, mean)
    np.testing.assert_allclose(np.einsum("bii->bi", covariance), std**2 + noise**2)
    assert degrees > 200


@pytest.mark.parametrize("quadratic", [False, True])
def test_epistemic_uncertainty_rises_away_from_the_data(quadratic):
    model, (x, u) = fitted(quadratic), some(50)
    near, far = model.posterior(x, u)[1], model.posterior(4.0 * x, 4.0 * u)[1]
    assert np.median(far) > 2.0 * np.median(near)


@pytest.mark.parametrize("quadratic", [False, True])
def test_bytes_bring_the_model_back(quadratic):
    model = fitted(quadratic)
    back, _ = from_bytes(to_bytes(model, 1, 200, "robot"), "robot", LAYOUT)
    for one, other in zip(model.predict(*some(4)), back.predict(*some(4)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.quadratic is quadratic and back.members == 5


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("weights", lambda a: {"weights": a["weights"][:, :, :-1], "covariance": a["covariance"][:-1, :-1]}, "8 terms"),
        ("centre", lambda a: {"centre": a["centre"][:-1], "scatter": a["scatter"][:-1, :-1]}, "centre has 10"),
        ("degrees", lambda a: {"degrees": np.array([4.0])}, "degrees"),
        ("scale", lambda a: {"scale": -a["scale"]}, "noise has no mean"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(name, change, message):
    model = example(False)
    with pytest.raises(ModelRejectedError, match=message):
        LinearGaussian(LAYOUT, model.arrays | change(model.arrays))


def test_options_are_checked():
    with pytest.raises(ConfigError, match="members"):
        LinearGaussianConfig(members=0)
    with pytest.raises(ConfigError, match="noise_floor"):
        LinearGaussianConfig(noise_floor=0.0)
