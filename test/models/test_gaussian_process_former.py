"""Data from before the robot changed: against the joint Gaussian of two functions, in the limits, and their use."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.models.gaussian_process import GaussianProcessConfig, covariance
from mbrl_ros.models.gaussian_process_draws import drawn
from mbrl_ros.models.gaussian_process_training import credible, fit, negative_log_likelihood
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("q", "v"), ("u",), ("q",), {"q": "v"}, 0.1)  # features: sin q, v, cos q, u
CONFIG = GaussianProcessConfig(members=3, waves=20, iterations=20, refit_iterations=5)
THETA = np.log([0.7, 1.9, 3.0, 1.3, 0.2, 0.6])


def pendulum(n: int, seed: int, mass: float = 1.0) -> Transitions:
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(n, 2)), rng.normal(size=(n, 1))
    change = 0.1 * (np.sin(x[:, :1]) + u / mass + np.cos(2.0 * x[:, 1:]) / mass) + 0.005 * rng.normal(size=(n, 1))
    return Transitions(x, u, LAYOUT.integrate(x, change), np.zeros(n, int))


OLD, NEW = pendulum(60, 0), pendulum(12, 1, mass=2.0)
QUERY = (np.random.default_rng(2).normal(size=(9, 2)), np.random.default_rng(3).normal(size=(9, 1)))


def joined(*parts: Transitions) -> Transitions:
    return Transitions(*(np.concatenate(c) for c in zip(*(vars(p).values() for p in parts), strict=True)))


def predictions(discrepancy: float, former: Transitions | None = OLD, **settings) -> tuple[np.ndarray, np.ndarray]:
    config = dataclasses.replace(CONFIG, outlier=1e9, **settings)
    return fit(NEW, LAYOUT, config, 0, former=former, discrepancy=discrepancy)[0].posterior(*QUERY)


def test_gradient_of_the_marginal_likelihood_is_the_finite_difference():
    rng = np.random.default_rng(3)
    z, y, apart = rng.normal(size=(15, 3)), rng.normal(size=15), np.where(np.arange(15) < 8, 0.7, 0.0)
    _, gradient = negative_log_likelihood(THETA, z, y, apart)
    for k, e in enumerate(np.eye(len(THETA))):
        ahead, behind = (negative_log_likelihood(THETA + s * 1e-6 * e, z, y, apart)[0] for s in (1, -1))
        assert gradient[k] == pytest.approx((ahead - behind) / 2e-6, rel=1e-5, abs=1e-6)


def test_the_posterior_is_that_of_two_functions():
    """The former robot is f + g, the robot is f: a joint Gaussian over (f at the query, all data), conditioned."""
    model = fit(NEW, LAYOUT, CONFIG, 0, former=OLD, discrepancy=0.7)[0]
    a = model.arrays
    z, old = a["inputs"], a["discrepancy"] > 0
    rows = joined(OLD, NEW)
    features = (LAYOUT.features(rows.x, rows.u) - a["feature_mean"]) / a["feature_std"]
    index = [int(np.abs(features - row).sum(axis=1).argmin()) for row in z]
    y = ((LAYOUT.targets(rows.x, rows.x_next) - a["target_mean"]) / a["target_std"])[index, 0]
    assert [i < len(OLD) for i in index] == old.tolist() and 0 < old.sum() < len(old)
    q = (LAYOUT.features(*QUERY) - a["feature_mean"]) / a["feature_std"]
    K = covariance(z, z, a, 0)
    C = K + 0.49 * np.where(np.outer(old, old), K, 0.0) + a["noise_std"][0] ** 2 * np.eye(len(z))
    cross, scale = covariance(q, z, a, 0), a["target_std"][0]
    mean, std = model.posterior(*QUERY)
    expected = cross @ np.linalg.solve(C, y) * scale + a["target_mean"][0]
    np.testing.assert_allclose(mean[:, 0], expected, atol=1e-6 * scale)
    variance = np.diag(covariance(q, q, a, 0) - cross @ np.linalg.solve(C, cross.T))
    np.testing.assert_allclose(std[:, 0], np.sqrt(variance) * scale, atol=1e-6 * scale)


def test_an_unbounded_discrepancy_is_to_forget_and_none_is_to_have_changed_nothing():
    """Hyperparameters at their first guess; the normaliser is of all rows, so a copy of them is given to the peer."""
    everything = predictions(0.0, iterations=0)
    config = dataclasses.replace(CONFIG, outlier=1e9, iterations=0)
    plain = fit(joined(OLD, NEW), LAYOUT, config, 0)[0].posterior(*QUERY)
    for ours, theirs in zip(everything, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    forgetful = fit(NEW, LAYOUT, config, 0, former=OLD, discrepancy=1e5)[0]
    a = forgetful.arrays
    fresh = {k: v[len(OLD) :] if k in ("inputs", "discrepancy") else v for k, v in a.items()}
    y = (LAYOUT.targets(NEW.x, NEW.x_next) - a["target_mean"]) / a["target_std"]
    alone = drawn(fresh, y, CONFIG, np.random.default_rng(0))
    expected = forgetful.with_arrays(**fresh | alone).posterior(*QUERY)
    for ours, theirs in zip(forgetful.posterior(*QUERY), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(predictions(0.3)[0] - everything[0]).max() > 1e-3, "the setting changes the model"


def test_the_members_are_draws_from_that_posterior():
    config = dataclasses.replace(CONFIG, members=100, waves=2000)
    runs = [fit(NEW, LAYOUT, config, seed, former=OLD, discrepancy=0.5)[0] for seed in range(4)]
    mean, std = runs[0].posterior(*QUERY)
    values = np.concatenate([run.predict(*QUERY)[0] for run in runs])
    np.testing.assert_allclose(values.mean(axis=0), mean, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=0), std, rtol=0.2)  # 400 draws know a deviation to 4 %, waves add theirs


def test_what_the_two_robots_share_is_kept():
    """A robot of twice the mass: with the former one's motion the errors are less than half as large."""
    truth = pendulum(400, 7, mass=2.0)
    errors = []
    for former in (None, OLD):
        model = fit(NEW, LAYOUT, CONFIG, 0, former=former, discrepancy=0.3)[0]
        errors.append(np.sqrt(np.mean((model.step(truth.x, truth.u) - truth.x_next) ** 2)))
    assert errors[1] < 0.5 * errors[0]


def test_the_robot_of_now_comes_first_where_there_is_no_room_for_all():
    small = dataclasses.replace(CONFIG, max_data=20, outlier=1e9)
    model = fit(NEW, LAYOUT, small, 0, former=OLD, discrepancy=0.3)[0]
    assert (model.arrays["discrepancy"] == 0.0).sum() == len(NEW) and len(model.arrays["inputs"]) == 20
    tiny = fit(NEW, LAYOUT, dataclasses.replace(small, max_data=8), 0, former=OLD, discrepancy=0.3)[0]
    assert "discrepancy" not in tiny.arrays and len(tiny.arrays["inputs"]) == 8


def test_a_former_row_is_an_outlier_only_beyond_what_the_change_explains():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 3))
    old = np.arange(40) < 20
    y = np.where(old, z[:, 0] + 1.0, z[:, 0])
    theta = np.log([2.0, 2.0, 2.0, 1.0, 0.05, 0.3])[None]
    plain = credible(z, y[:, None], theta, 3.3)
    assert len(plain) < 40
    assert len(credible(z, y[:, None], theta, 3.3, np.where(old, 1.0, 0.0))) > len(plain)


def test_bytes_come_back_and_a_refit_goes_on_from_them():
    model = fit(NEW, LAYOUT, CONFIG, 0, former=OLD, discrepancy=0.3)[0]
    again, _ = from_bytes(to_bytes(model, 1, len(NEW), "robot"), "robot", LAYOUT)
    for ours, theirs in zip(model.posterior(*QUERY), again.posterior(*QUERY), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    more = joined(NEW, pendulum(5, 5, mass=2.0))
    refits = [fit(more, LAYOUT, CONFIG, 0, m, former=OLD, discrepancy=0.3)[0] for m in (model, again)]
    for name, array in refits[0].arrays.items():
        np.testing.assert_array_equal(array, refits[1].arrays[name])
    assert "discrepancy" not in fit(more, LAYOUT, CONFIG, 0, model)[0].arrays
