"""A model of one's own needs no more than the README says: here, bootstrapped linear maps in plain numpy."""

import time
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from mbrl_ros import models
from mbrl_ros.config import option
from mbrl_ros.models import trainers
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.fitting import checked
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

LAYOUT = load_robot("cartpole").layout


@dataclass(frozen=True)
class RidgeConfig:
    """Settings."""

    members: int = option(3, "bootstrap samples", low=1, high=20)


@dataclass(frozen=True)
class Ridge(LearnedModel):
    """The change is linear in the features, with a constant noise."""

    name = "ridge"
    config_class = RidgeConfig
    array_shapes = MappingProxyType(
        {"weights": "members features learned", "bias": "members learned", "std": "learned"}
    )
    array_type = np.float64
    positive_arrays = ("std",)

    @classmethod
    def example(cls, layout, config, rng):
        shape = (config.members, layout.n_features, len(layout.learned))
        weights, bias = rng.standard_normal(shape), np.zeros((shape[0], shape[2]))
        return cls(layout, {"weights": weights, "bias": bias, "std": np.ones(shape[2])})

    @property
    def members(self):
        return len(self.arrays["weights"])

    def predict_member(self, member, x, u):
        mean = self.layout.features(x, u) @ self.arrays["weights"][member] + self.arrays["bias"][member]
        return mean, np.broadcast_to(self.arrays["std"], mean.shape)


def fit(data, layout, config, seed, previous=None):
    """A least-squares map of each bootstrap sample."""
    began = time.perf_counter()
    inputs, targets = checked(data, layout)
    rng, maps = np.random.default_rng(seed), []
    for _ in range(config.members):
        rows = rng.integers(0, len(inputs), len(inputs))
        design = np.column_stack([inputs[rows], np.ones(len(rows))])
        maps.append(np.linalg.lstsq(design, targets[rows], rcond=None)[0])
    found = np.array(maps)
    std = (targets - np.column_stack([inputs, np.ones(len(inputs))]) @ found.mean(axis=0)).std(axis=0) + 1e-6
    model = Ridge(layout, {"weights": found[:, :-1], "bias": found[:, -1], "std": std})
    return model, SimpleNamespace(seconds=time.perf_counter() - began)


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    """The two lines that the README asks for."""
    monkeypatch.setitem(models.MODELS, "ridge", f"{__name__}:Ridge")
    monkeypatch.setitem(trainers.TRAINERS, "ridge", trainers.observing(fit))


def test_it_is_fitted_sent_and_planned_with():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(LAYOUT.n_features, len(LAYOUT.learned)))
    x, u = rng.normal(size=(200, 4)), rng.normal(size=(200, 1))
    x_next = LAYOUT.integrate(x, LAYOUT.features(x, u) @ truth + 0.3)
    model, report = trainers.TRAINERS["ridge"](Transitions(x, u, x_next, np.zeros(200, int)), LAYOUT, RidgeConfig(), 1)
    assert report.seconds > 0
    np.testing.assert_allclose(model.arrays["weights"].mean(axis=0), truth, atol=1e-8)
    back, header = from_bytes(to_bytes(model, 7, 200, "cartpole"), "cartpole", LAYOUT)
    assert (type(back), header.version) == (Ridge, 7)
    states = back.rollout(x[0], u[None, :5], None, 2)
    expected = x[0]
    for t in range(5):
        expected = LAYOUT.integrate(expected, LAYOUT.features(expected[None], u[t][None])[0] @ truth + 0.3)
    np.testing.assert_allclose(states[:, 0, -1], np.tile(expected, (2, 1)), rtol=1e-4, atol=1e-4)
    A, B = back.linearize(x[:1], u[:1])
    assert A.shape == (1, 4, 4) and B.shape == (1, 4, 1) and back.uncertainty(x, u).aleatoric.shape == (200, 2)
