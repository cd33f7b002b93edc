"""System identification: known parameters recovered from noisy motion, how sure, what is not determined."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mbrl_ros.benchmarks.offline_swingup import step
from mbrl_ros.errors import ConfigError
from mbrl_ros.models import equations
from mbrl_ros.models.equations import Equation, Parameter
from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.physics import PhysicsConfig
from mbrl_ros.models.physics_training import Identified, fit
from mbrl_ros.policies.smooth_random import SmoothRandom, SmoothRandomConfig
from mbrl_ros.robots.cartpole_equations import EQUATION, TRUE, derivative_with
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

ROBOT = load_robot("cartpole")
LAYOUT = ROBOT.layout


@cache
def recorded(seed, trials=2, std=0.01):
    """6 s of the base policy's motion, as measured."""
    rng, rows = np.random.default_rng(seed), []
    for trial in range(trials):
        policy = SmoothRandom(SmoothRandomConfig(), -ROBOT.u_max, ROBOT.u_max, 60, rng)
        x = np.array([0.0, np.pi, 0.0, 0.0])
        measured = x + std * rng.normal(size=4)
        for tick in range(60):
            u = policy.action(tick)
            x = step(x, u, ROBOT.dt)
            rows.append((measured, u, measured := x + std * rng.normal(size=4), trial))
    return Transitions(*(np.array(c) for c in zip(*rows, strict=True)))


@cache
def fitted(seed, **settings):
    return fit(recorded(seed), LAYOUT, PhysicsConfig(**settings), 0)


def with_motor(x, u, p):
    """A force that is known up to a factor only: then every mass and friction is, too."""
    return derivative_with(x, (p.motor * u[0],), p)


MOTOR = Equation(with_motor, (*EQUATION.parameters, Parameter("motor", 0.05, 1.0, 20.0)), LAYOUT.state, LAYOUT.action)


@pytest.mark.parametrize("seed", range(5))
def test_masses_and_length_within_two_percent_from_6_s_of_noisy_motion(seed):
    model, report = fitted(seed)
    found = model.arrays["parameters"]
    np.testing.assert_allclose(found[:3], TRUE[:3], rtol=0.02)
    for value, true, line in zip(found, TRUE, report.parameters, strict=True):
        assert abs(value - true) < 4 * line.standard_error + 1e-6
    assert report.equation == "cartpole" and report.undetermined == ()
    np.testing.assert_allclose(report.measurement_std, 0.01, rtol=0.25)


def test_standard_errors_are_the_spread_over_seeds():
    errors = np.array([fitted(seed)[0].arrays["parameters"] - TRUE for seed in range(16)])[:, :4]
    told = np.array([[p.standard_error for p in fitted(seed)[1].parameters] for seed in range(16)])[:, :4]
    ratio = np.sqrt((errors**2).mean(axis=0) / (told**2).mean(axis=0))
    assert np.all((ratio > 0.5) & (ratio < 1.7)), ratio  # 16 draws know a deviation to 18 %


def test_jacobian_by_the_parameters_against_differences():
    system, rng = Identified(EQUATION, LAYOUT, 2), np.random.default_rng(0)
    x, u, z = rng.normal(size=(6, 4)), rng.normal(size=(6, 1)), rng.normal(size=5)
    A, P = system.linearize(x, u, z)
    h = 1e-6
    for i, e in enumerate(np.eye(5)):
        slope = (system.step(x, u, z + h * e) - system.step(x, u, z - h * e)) / (2 * h)
        np.testing.assert_allclose(P[:, :, i], slope, atol=1e-7)
    for i, e in enumerate(np.eye(4)):
        slope = (system.step(x + h * e, u, z) - system.step(x - h * e, u, z)) / (2 * h)
        np.testing.assert_allclose(A[:, :, i], slope, atol=1e-7)


def test_what_the_data_do_not_determine_is_said(monkeypatch):
    monkeypatch.setattr(equations, "EQUATIONS", equations.EQUATIONS | {"motor": f"{__name__}:MOTOR"})
    _, report = fit(recorded(0), LAYOUT, PhysicsConfig(equation="motor"), 0)
    assert len(report.undetermined) == 1
    assert {"cart_mass", "pole_mass", "motor"} <= set(report.undetermined[0])
    assert "not determined by the data: a combination of" in report.parameter_table()
    names = [p.name for p in report.parameters]
    assert report.correlation[names.index("cart_mass"), names.index("motor")] > 0.99
    length = report.parameters[names.index("pole_length")]
    assert abs(length.value - 0.5) < 0.01 and length.standard_error < 0.01


def test_wild_measurements_are_borne_and_the_cutoff_matters():
    data = recorded(1)
    x, x_next = data.x.copy(), data.x_next.copy()
    for row, entry, jump in ((20, 3, 8.0), (45, 2, -3.0), (80, 1, 1.5), (100, 0, 1e6)):
        x[row, entry] += jump
        x_next[row - 1, entry] += jump
    dirty = replace(data, x=x, x_next=x_next)
    robust = fit(dirty, LAYOUT, PhysicsConfig(), 0)[0].arrays["parameters"]
    np.testing.assert_allclose(robust[:3], TRUE[:3], rtol=0.02)
    plain = fit(dirty, LAYOUT, PhysicsConfig(outlier=1e9), 0)[0].arrays["parameters"]
    assert np.abs(plain[:3] / TRUE[:3] - 1).max() > 0.02


def test_a_wrong_sign_is_not_learned_away():
    data = recorded(0)
    good, bad = fitted(0)[1], fit(replace(data, u=-data.u), LAYOUT, PhysicsConfig(), 0)[1]
    assert bad.measurement_std.max() > 10 * good.measurement_std.max()


def test_members_are_centred_draws_of_the_posterior():
    model, report = fitted(2, members=100)
    told = np.array([p.standard_error for p in report.parameters])[:3]
    np.testing.assert_allclose(model.arrays["draws"].std(axis=0)[:3], told, rtol=0.3)
    np.testing.assert_allclose(model.arrays["draws"].mean(axis=0)[:3], model.arrays["parameters"][:3], rtol=1e-4)
    other = fit(recorded(2), LAYOUT, PhysicsConfig(members=100), 1)[0]
    assert not np.array_equal(other.arrays["draws"], model.arrays["draws"])
    one = fitted(2, members=1)[0]
    np.testing.assert_allclose(one.arrays["draws"][0], one.arrays["parameters"])


def test_noise_is_what_one_period_leaves():
    model, _ = fitted(3)
    data = recorded(3)
    left = LAYOUT.targets(data.x_next, model.step(data.x, data.u))
    np.testing.assert_allclose(model.arrays["noise_std"], left.std(axis=0), rtol=0.2)


def test_same_bytes_again_and_a_warm_start_gets_there_in_fewer_steps():
    cold, report = fitted(4)
    again, _ = fit(recorded(4), LAYOUT, PhysicsConfig(), 0)
    assert all(np.array_equal(cold.arrays[k], again.arrays[k]) for k in cold.arrays)
    warm, quick = fit(recorded(4), LAYOUT, PhysicsConfig(), 0, cold)
    assert quick.warm and quick.steps < report.steps
    np.testing.assert_allclose(warm.arrays["parameters"][:3], cold.arrays["parameters"][:3], rtol=1e-3)


@pytest.mark.parametrize(
    "setting", [{"window": 5}, {"substeps": 1}, {"iterations": 1}, {"max_data": 40}, {"equation": "damped_masses"}]
)
def test_every_setting_matters(setting):
    default, changed = fitted(0)[0].arrays["parameters"], fitted(0, **setting)[0].arrays["parameters"]
    assert len(default) != len(changed) or np.abs(default[:3] / changed[:3] - 1).max() > 1e-6


def test_little_data_and_data_that_no_equation_explains():
    data = recorded(0)
    model, report = fit(data[:1], LAYOUT, PhysicsConfig(), 0)
    assert all(np.isfinite(a).all() for a in model.arrays.values()) and report.undetermined
    rng = np.random.default_rng(0)
    noise = Transitions(*(100 * rng.normal(size=(30, n)) for n in (4, 1, 4)), np.zeros(30, int))
    model, _ = fit(noise, LAYOUT, PhysicsConfig(), 0)
    assert all(np.isfinite(a).all() for a in model.arrays.values())
    with pytest.raises(FitError, match="no transitions"):
        fit(data[:0], LAYOUT, PhysicsConfig(), 0)


def test_unknown_equations_are_named():
    with pytest.raises(ConfigError, match="cartpole"):
        fit(recorded(0), LAYOUT, PhysicsConfig(equation="cartpol"), 0)
    with pytest.raises(ConfigError, match="hinge/position"):
        fit(recorded(0), LAYOUT, PhysicsConfig(equation="pendulum"), 0)
    with pytest.raises(ConfigError, match="expected package"):
        fit(recorded(0), LAYOUT, PhysicsConfig(equation="no_such:thing"), 0)
