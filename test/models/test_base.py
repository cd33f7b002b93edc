"""What follows from `predict_member` alone, against closed forms and the models' own compiled versions."""

import numpy as np
import pytest
from scipy.stats import norm

from mbrl_ros.models import MODELS, model_class
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)


@pytest.fixture(params=MODELS)
def model(request):
    cls = model_class(request.param)
    return cls.example(LAYOUT, cls.config_class(), np.random.default_rng(0))


def some(count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 5)), rng.normal(size=(count, 2))


def test_predict_is_every_member(model):
    x, u = some(7)
    mean, std = model.predict(x, u)
    assert mean.shape == std.shape == (model.members, 7, 3)
    for e in range(model.members):
        one_mean, one_std = model.predict_member(e, x, u)
        np.testing.assert_allclose(mean[e], one_mean, atol=1e-6)
        np.testing.assert_allclose(std[e], one_std, atol=1e-6)


@pytest.mark.parametrize("noise", [False, True])
def test_a_kernel_agrees_with_predict_member(model, noise):
    actions = np.random.default_rng(2).normal(size=(3, 4, 2)).astype(np.float32)
    draws = np.random.default_rng(3).normal(size=(6, 4 if noise else 0, 3)).astype(np.float32)
    members = np.random.default_rng(4).integers(model.members, size=(6, 4))
    start = np.random.default_rng(5).normal(size=(6, 1, 5))
    fast, slow = np.empty((2, 6, 5, 3, 5), np.float32)
    fast[:, 0] = slow[:, 0] = start
    model.advance_particles(np.ascontiguousarray(actions.transpose(1, 0, 2)), draws, members, fast)
    LearnedModel._advance(model, actions.transpose(1, 0, 2), draws, members, slow)
    np.testing.assert_allclose(fast, slow, atol=2e-3, rtol=2e-3)


def test_step_is_the_mean_over_members(model):
    x, u = some(6)
    np.testing.assert_allclose(model.step(x, u), LearnedModel.step(model, x, u), atol=1e-4, rtol=1e-4)


def test_linearize_is_the_derivative_of_step(model):
    x, u = some(4)
    A, B = model.linearize(x, u)
    h = 1e-2
    for i in range(5):
        slope = (model.step(x + h * np.eye(5)[i], u) - model.step(x - h * np.eye(5)[i], u)) / (2 * h)
        np.testing.assert_allclose(A[..., i], slope, atol=5e-3, rtol=2e-2)
    for j in range(2):
        slope = (model.step(x, u + h * np.eye(2)[j]) - model.step(x, u - h * np.eye(2)[j])) / (2 * h)
        np.testing.assert_allclose(B[..., j], slope, atol=5e-3, rtol=2e-2)


def test_threads_change_no_bit(model):
    actions = np.random.default_rng(6).normal(size=(3, 4, 2))
    alone = model.rollout(np.zeros(5), actions, np.random.default_rng(7), 5)
    shared = model.with_threads(3).rollout(np.zeros(5), actions, np.random.default_rng(7), 5)
    np.testing.assert_array_equal(alone, shared)


class Two(LearnedModel):
    """Two members, N(+-1, 0.5^2) and N(+-1, 1.5^2) in the first learned entry, both N(0, 1) in the others."""

    @property
    def members(self):
        return 2

    def predict_member(self, member, x, u):
        mean, std = np.zeros((len(x), 3)), np.ones((len(x), 3))
        mean[:, 0], std[:, 0] = (1.0, 0.5) if member else (-1.0, 1.5)
        return mean, std


def test_aleatoric_and_epistemic_parts_of_a_mixture():
    got = Two(LAYOUT, {}).uncertainty(*some(2))
    np.testing.assert_allclose(got.aleatoric, [[1.25, 1.0, 1.0]] * 2)  # (0.25 + 2.25) / 2
    np.testing.assert_allclose(got.epistemic, [[1.0, 0.0, 0.0]] * 2)
    entropy = norm(scale=np.sqrt(2.25)).entropy() + 2 * norm().entropy()
    np.testing.assert_allclose(got.entropy, entropy)
    np.testing.assert_allclose(got.disagreement, (1.0 / 2.25) / np.sqrt(3))
    rng = np.random.default_rng(8)
    draws = np.where(rng.random(400_000) < 0.5, rng.normal(-1, 1.5, 400_000), rng.normal(1, 0.5, 400_000))
    np.testing.assert_allclose(draws.var(), got.aleatoric[0, 0] + got.epistemic[0, 0], rtol=0.01)
