"""The physics model as planners use it: against the closed form, and against what the network may bring."""

import sys

import numpy as np
import pytest

from mbrl_ros.errors import ModelRejectedError
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.models.physics import Physics, PhysicsConfig, packed
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.robots.cartpole_equations import TRUE, derivative, derivative_with
from mbrl_ros.robots.description import load_robot

LAYOUT = load_robot("cartpole").layout
HEAVY = np.array(TRUE._replace(pole_mass=1.0))


@pytest.fixture(scope="module")
def model():
    draws = np.array([TRUE, HEAVY])
    return Physics(LAYOUT, packed("cartpole", 2, np.array(TRUE), draws, np.array([0.01, 0.02])))


@pytest.fixture(scope="module")
def known():
    return AnalyticDynamics(derivative, 4, 1, 0.05, substeps=2)


def some(count=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 4)) * [1, 3, 1, 3], 5 * rng.normal(size=(count, 1))


def test_step_and_derivatives_are_the_equations(model, known):
    x, u = some()
    np.testing.assert_allclose(model.step(x, u), known.step(x, u), rtol=1e-12)
    for got, expected in zip(model.linearize(x, u), known.linearize(x, u), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.hessian(x, u), known.hessian(x, u), rtol=1e-6, atol=1e-7)


def test_every_particle_has_its_own_parameters(model, known):
    x0, actions = np.array([0.1, 2.0, 0.3, -1.0]), 5 * np.random.default_rng(1).normal(size=(3, 10, 1))
    out = model.rollout(x0, actions, None, 4)
    np.testing.assert_allclose(out[0], known.rollout(x0, actions, None, 1)[0], atol=1e-4)
    np.testing.assert_array_equal(out[0], out[2])
    heavy = AnalyticDynamics(lambda x, u: derivative_with(x, u, HEAVY_P), 4, 1, 0.05, substeps=2)
    np.testing.assert_allclose(out[1], heavy.rollout(x0, actions, None, 1)[0], atol=1e-4)
    assert np.abs(out[1] - out[0]).max() > 0.1


HEAVY_P = TRUE._replace(pole_mass=1.0)


def test_noise_has_its_deviation_and_moves_positions_by_half_a_period(model):
    x0, actions = np.array([0.1, 2.0, 0.3, -1.0]), np.zeros((1, 1, 1))
    off = model.rollout(x0, actions, np.random.default_rng(2), 20_000)[::2, 0, 1].astype(float)
    off -= model.rollout(x0, actions, None, 1)[0, 0, 1]
    np.testing.assert_allclose(off.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(off[:, 2:].std(axis=0), [0.01, 0.02], rtol=0.03)
    np.testing.assert_allclose(off[:, :2], 0.025 * off[:, 2:], atol=1e-6)
    mean, std = model.predict(*some())
    assert mean.shape == std.shape == (2, 6, 2)
    np.testing.assert_allclose(std[:, 0], [[0.01, 0.02]] * 2)


def test_motion_under_feedback(model, known):
    rng = np.random.default_rng(3)
    nominal = rng.normal(size=(6, 4)), rng.normal(size=(5, 1))
    policy = rng.normal(size=(5, 1)), rng.normal(size=(5, 1, 4))
    args = nominal, policy, np.array([1.0, 0.3]), (np.array([-3.0]), np.array([3.0]))
    for got, expected in zip(model.rollout_feedback(*args), known.rollout_feedback(*args), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_there_and_back_as_bytes(model):
    got, header = from_bytes(to_bytes(model, 1, 2, "cartpole"), "cartpole", LAYOUT)
    assert header.kind == "physics" and got.equation is model.equation
    np.testing.assert_array_equal(got.arrays["draws"], model.arrays["draws"])


def sent(model, **changes):
    """Bytes of a model that skips its own sender's checks."""
    bad = model.with_arrays(**changes)
    check, Physics.check = Physics.check, classmethod(lambda cls, layout, arrays: None)
    try:
        return to_bytes(bad, 1, 2, "cartpole")
    finally:
        Physics.check = check


@pytest.mark.parametrize("name", ["antigravity:fly", "pendulum", "damped_masses", "\x00", "mbrl_ros.cli:main"])
def test_a_message_imports_nothing_and_an_unfitting_equation_is_refused(model, name):
    data = sent(model, equation=np.array([float(ord(c) or 1) for c in name]))
    with pytest.raises(ModelRejectedError, match=r"equation|parameters"):
        from_bytes(data, "cartpole", LAYOUT)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"equation": np.array([1e9])}, "equation"),
        ({"draws": np.array([TRUE._replace(pole_mass=-1.0)])}, "bounds"),
        ({"parameters": np.array(TRUE._replace(cart_mass=1e6))}, "bounds"),
        ({"substeps": np.array([1e9])}, "substeps"),
        ({"substeps": np.array([2.0, 2.0])}, "substeps"),
    ],
)
def test_arrays_that_make_no_model_are_refused(model, changes, word):
    with pytest.raises(ModelRejectedError, match=word):
        from_bytes(sent(model, **changes), "cartpole", LAYOUT)


def test_an_example_is_of_the_configured_size():
    example = Physics.example(LAYOUT, PhysicsConfig(members=3, substeps=4), np.random.default_rng(0))
    assert example.members == 3 and example.arrays["substeps"] == [4.0]
    to_bytes(example, 0, 0, "cartpole")
