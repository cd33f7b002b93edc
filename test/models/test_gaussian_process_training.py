"""The fit: marginal likelihood against scikit-learn and finite differences, known functions, limits, determinism."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.fitting import FitError, centred
from mbrl_ros.models.gaussian_process import GaussianProcessConfig, covariance
from mbrl_ros.models.gaussian_process_training import (
    carried_over,
    considered,
    credible,
    fit,
    hyperparameters,
    informative,
    negative_log_likelihood,
)
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("q", "v"), ("u",), ("q",), {"q": "v"}, 0.1)  # features: sin q, v, cos q, u
CONFIG = GaussianProcessConfig(members=2, waves=20, iterations=20, refit_iterations=5)


def pendulum(n: int = 50, seed: int = 0, noise: float = 0.01, spread: float = 1.0) -> Transitions:
    rng = np.random.default_rng(seed)
    x, u = spread * rng.normal(size=(n, 2)), rng.normal(size=(n, 1))
    change = 0.1 * (np.sin(x[:, :1]) + u) + noise * rng.normal(size=(n, 1))
    return Transitions(x, u, LAYOUT.integrate(x, change), np.zeros(n, int))


def sample(linear: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    theta = np.log([0.7, 1.9, 3.0, 1.3, 0.2, *[0.6] * linear])
    return theta, rng.normal(size=(15, 3)), rng.normal(size=15)


def test_marginal_likelihood_and_gradient_are_those_of_scikit_learn():
    theta, z, y = sample(linear=False)
    length, signal, noise = np.exp(theta[:3]), np.exp(theta[3]), np.exp(theta[4])
    kernel = ConstantKernel(signal**2) * RBF(length) + WhiteKernel(noise**2)
    peer = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(z, y)
    value, slope = peer.log_marginal_likelihood(peer.kernel_.theta, eval_gradient=True)
    loss, gradient = negative_log_likelihood(theta, z, y)
    assert loss == pytest.approx(-value, abs=1e-9)
    # theirs: log variance of signal, log length scales, log variance of noise; ours: logarithms of deviations
    np.testing.assert_allclose(gradient, -np.array([*slope[1:4], 2 * slope[0], 2 * slope[4]]), atol=1e-8)


@pytest.mark.parametrize("linear", [True, False])
def test_marginal_likelihood_is_the_density_and_its_gradient_the_finite_difference(linear):
    theta, z, y = sample(linear)
    p = hyperparameters(theta[None], 3)
    C = covariance(z, z, p, 0) + p["noise_std"][0] ** 2 * np.eye(len(y))
    loss, gradient = negative_log_likelihood(theta, z, y)
    assert loss == pytest.approx(-multivariate_normal(np.zeros(len(y)), C).logpdf(y), abs=1e-9)
    assert len(gradient) == 5 + linear
    for i in range(len(theta)):
        e = 1e-6 * (np.arange(len(theta)) == i)
        ahead, behind = (negative_log_likelihood(theta + s * e, z, y)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-6, abs=1e-6)


def test_a_known_function_is_learned_with_its_noise():
    model, report = fit(pendulum(120), LAYOUT, GaussianProcessConfig(), 0)
    test = pendulum(200, seed=1, noise=0.0)
    mean, std = model.posterior(test.x, test.u)
    error = mean - LAYOUT.targets(test.x, test.x_next)
    assert np.sqrt(np.mean(error**2)) < 0.005, "half the noise"
    assert 0.8 < np.sqrt(np.mean((error / std) ** 2)) < 1.4 or np.abs(error).max() < 0.01
    assert 0.008 < model.predict(test.x, test.u)[1][0, 0, 0] < 0.012, "noise of 0.01"
    lengths = model.arrays["length_scales"][0]
    assert lengths[1] > 5 * min(lengths[0], lengths[3]) or model.arrays["linear_std"][0] > 0.1, "v plays no part"
    assert report.transitions == report.kept == 120 and report.steps > 5 and not report.warm


def test_a_linear_gaussian_world_gives_bayesian_linear_regression():
    """Signal at its floor: the posterior is that of ``y = b + w z`` with w, b ~ N(0, s^2), in closed form."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    s, noise = 0.7, 0.3
    arrays = {"length_scales": np.ones((1, 4)), "signal_std": np.array([1e-9]), "linear_std": np.array([s])}
    C = covariance(z, z, arrays, 0) + noise**2 * np.eye(30)
    q = rng.normal(size=(5, 4))
    ours = covariance(q, z, arrays, 0) @ np.linalg.solve(C, y)
    design, query = (np.column_stack([np.ones(len(a)), a]) for a in (z, q))
    w = np.linalg.solve(design.T @ design / noise**2 + np.eye(5) / s**2, design.T @ y / noise**2)
    np.testing.assert_allclose(ours, query @ w, atol=1e-10)


def test_data_from_a_linear_world_are_extrapolated_linearly():
    rng = np.random.default_rng(1)
    x, u = 0.3 * rng.normal(size=(60, 2)), rng.normal(size=(60, 1))
    data = Transitions(x, u, LAYOUT.integrate(x, 0.3 * u - 0.1 * x[:, 1:]), np.zeros(60, int))
    far = (np.zeros((1, 2)), np.array([[8.0]]))
    errors = {
        linear: abs(fit(data, LAYOUT, dataclasses.replace(CONFIG, linear=linear), 0)[0].posterior(*far)[0].item() - 2.4)
        for linear in (True, False)
    }
    assert errors[True] < 0.05 < errors[False] or errors[True] < 0.5 * errors[False]


def test_same_data_and_seed_give_the_same_bytes_and_seeds_differ():
    first, again, other = (fit(pendulum(), LAYOUT, CONFIG, seed)[0].arrays for seed in (0, 0, 1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.allclose(first["weights"], other["weights"])
    np.testing.assert_array_equal(first["length_scales"], other["length_scales"])


def test_a_refit_starts_from_the_last_hyperparameters_in_the_new_units():
    model, _ = fit(pendulum(), LAYOUT, CONFIG, 0)
    wide = pendulum(80, seed=4, spread=2.0)
    still = dataclasses.replace(CONFIG, refit_iterations=0)
    again, report = fit(wide, LAYOUT, still, 0, model)
    assert report.warm and report.steps == 0
    for name, scale in (("length_scales", "feature_std"), ("signal_std", "target_std"), ("noise_std", "target_std")):
        old, new = (m.arrays[name] * m.arrays[scale] for m in (model, again))
        np.testing.assert_allclose(new, old, rtol=1e-10)
    assert not np.allclose(model.arrays["feature_std"], again.arrays["feature_std"], rtol=0.2)


def test_a_linear_part_is_taken_up_and_dropped_at_a_refit():
    without = dataclasses.replace(CONFIG, linear=False)
    model = fit(pendulum(), LAYOUT, without, 0)[0]
    assert model.arrays["linear_std"].tolist() == [0.0] and not model.arrays["slopes"].any()
    assert fit(pendulum(), LAYOUT, CONFIG, 0, model)[0].arrays["linear_std"][0] > 0
    model = fit(pendulum(), LAYOUT, CONFIG, 0)[0]
    assert fit(pendulum(), LAYOUT, without, 0, model)[0].arrays["linear_std"][0] == 0
    scales = {k: model.arrays[k] for k in ("feature_std", "target_std")}
    np.testing.assert_allclose(
        np.exp(carried_over(model, scales, CONFIG)[0]),
        [*model.arrays["length_scales"][0], *(model.arrays[f"{n}_std"][0] for n in ("signal", "noise", "linear"))],
    )


def test_a_collision_is_left_out_and_does_no_harm():
    data, test = pendulum(60), pendulum(100, seed=1, noise=0.0)
    x_next = data.x_next.copy()
    x_next[[20, 33], 1] += [0.6, -0.4]  # six and four times the largest push, in 3 % of the data
    struck = dataclasses.replace(data, x_next=x_next)
    errors = {}
    for name, seen, outlier in (("clean", data, 3.3), ("struck", struck, 3.3), ("believed", struck, 1e9)):
        model, report = fit(seen, LAYOUT, dataclasses.replace(CONFIG, outlier=outlier), 0)
        error = model.posterior(test.x, test.u)[0] - LAYOUT.targets(test.x, test.x_next)
        errors[name] = np.sqrt(np.mean(error**2))
    assert report.kept == 60, "nothing is left out where everything is believed"
    assert errors["struck"] < 1.5 * errors["clean"] < 0.5 * errors["believed"]


def test_a_row_is_judged_by_the_fit_to_all_others():
    """One row only can go: the one whose distance from the prediction without it is largest, and only beyond it."""
    rng = np.random.default_rng(5)
    z, y, theta = rng.normal(size=(20, 2)), rng.normal(size=(20, 1)), np.log([[0.8, 1.2, 1.0, 0.3, 0.4]])
    p = hyperparameters(theta, 2)
    distance = np.empty(20)
    for i in range(20):
        rest = np.delete(np.arange(20), i)
        cross = covariance(z[i : i + 1], z[rest], p, 0)
        C = covariance(z[rest], z[rest], p, 0) + 0.3**2 * np.eye(19)
        variance = covariance(z[i : i + 1], z[i : i + 1], p, 0) + 0.3**2 - cross @ np.linalg.solve(C, cross.T)
        distance[i] = (np.abs(y[i] - cross @ np.linalg.solve(C, y[rest])) / np.sqrt(variance)).item()
    worst = int(distance.argmax())
    assert credible(z, y, theta, distance.max() - 1e-6).tolist() == np.delete(np.arange(20), worst).tolist()
    assert credible(z, y, theta, distance.max() + 1e-6).tolist() == list(range(20))
    assert len(credible(z[:19], y[:19], theta, 0.01)) == 19, "one in twenty at most"


def entropy(rows, z, theta):
    p = hyperparameters(theta, z.shape[1])
    total = 0.0
    for k in range(len(theta)):
        C = covariance(z[rows], z[rows], p, k) / p["noise_std"][k] ** 2 + np.eye(len(rows))
        total += np.linalg.slogdet(C)[1]
    return total


def test_each_kept_transition_is_the_one_that_tells_most():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(12, 2))
    theta = np.log([[0.8, 1.2, 1.0, 0.1, 0.3], [1.5, 0.6, 0.7, 0.2, 0.1]])
    rows: list[int] = []
    for _ in range(6):
        gains = {i: entropy([*rows, i], z, theta) for i in range(12) if i not in rows}
        rows.append(max(gains, key=gains.__getitem__))
        assert informative(z, theta, len(rows)).tolist() == sorted(rows)


def test_all_are_kept_where_there_are_few_and_repeated_rows_last():
    z = np.array([[0.0], [0.0], [0.0], [1.0], [2.0]])
    theta = np.log([[0.5, 1.0, 0.1]])
    assert informative(z, theta, 5).tolist() == [0, 1, 2, 3, 4]
    assert informative(z, theta, 3).tolist() == [0, 3, 4]


@pytest.mark.parametrize("n", [0, 1, 300, 1001, 4999, 5000, 100_000])
def test_what_is_chosen_from_holds_the_newest_and_reaches_back_to_the_oldest(n):
    rows = considered(n)
    assert np.all(np.diff(rows) > 0) and len(rows) <= 5000
    assert rows[-1000:].tolist() == list(range(max(n - 1000, 0), n))
    if n <= 5000:
        assert rows.tolist() == list(range(n))
    else:
        assert rows[0] == 0 and np.diff(rows).max() <= -(-(n - 1000) // 3999) + 1


def test_a_subset_is_nearly_as_good_as_all():
    data, test = pendulum(250), pendulum(100, seed=1, noise=0.0)
    model, report = fit(data, LAYOUT, dataclasses.replace(CONFIG, max_data=60), 0)
    assert (report.transitions, report.kept, model.arrays["inputs"].shape) == (250, 60, (60, 4))
    error = model.posterior(test.x, test.u)[0] - LAYOUT.targets(test.x, test.x_next)
    assert np.sqrt(np.mean(error**2)) < 0.007


@pytest.mark.parametrize(
    "change",
    [
        {"members": 3},
        {"waves": 21},
        {"linear": False},
        {"max_data": 30},
        {"iterations": 3},
        {"noise_floor": 0.5},
        {"outlier": 1.0},
    ],
    ids=str,
)
def test_each_setting_changes_the_model(change):
    x, u = np.full((1, 2), 0.5), np.ones((1, 1))
    model, other = (fit(pendulum(), LAYOUT, c, 0)[0] for c in (CONFIG, dataclasses.replace(CONFIG, **change)))
    values = [m.predict(x, u)[0] for m in (model, other)]
    assert values[0].shape != values[1].shape or not np.allclose(*values, atol=1e-9)


def test_refit_iterations_change_the_refit():
    model = fit(pendulum(), LAYOUT, dataclasses.replace(CONFIG, iterations=0), 0)[0]
    more = dataclasses.replace(CONFIG, refit_iterations=15)
    losses = [fit(pendulum(), LAYOUT, c, 0, model)[1].loss for c in (CONFIG, more)]
    assert losses[1] < losses[0] - 1e-6


def test_noise_keeps_its_floor():
    model = fit(pendulum(noise=0.0), LAYOUT, dataclasses.replace(CONFIG, noise_floor=0.2), 0)[0]
    assert model.arrays["noise_std"][0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "data",
    [
        pendulum(1),
        pendulum(2),
        Transitions(np.zeros((30, 2)), np.zeros((30, 1)), np.zeros((30, 2)), np.zeros(30, int)),
        dataclasses.replace(pendulum(), u=np.zeros((50, 1))),
        dataclasses.replace(pendulum(), x_next=pendulum().x_next + 1e6 * (np.arange(50) == 7)[:, None]),
        pendulum(noise=0.0),
    ],
    ids=["one", "two", "all the same", "constant input", "outlier", "no noise"],
)
def test_a_fit_is_finite_whatever_the_data(data):
    model = fit(data, LAYOUT, CONFIG, 0)[0]
    # One step: after an outlier of 1e6 the model may well believe in motions that leave single precision.
    assert np.isfinite(model.rollout(np.ones(2), np.ones((2, 1, 1)), np.random.default_rng(0), 2)).all()
    assert np.isfinite(model.linearize(data.x, data.u)[0]).all()
    assert fit(data, LAYOUT, CONFIG, 0, model)[1].warm


def test_data_that_are_no_data_are_refused():
    with pytest.raises(FitError, match="no transitions"):
        fit(pendulum()[:0], LAYOUT, CONFIG, 0)
    with pytest.raises(FitError, match="1 of 50 transitions are not finite, the first is 7"):
        bad = pendulum()
        bad.u[7] = np.nan
        fit(bad, LAYOUT, CONFIG, 0)
    with pytest.raises(FitError, match="positive definite"):
        negative_log_likelihood(np.log([1.0, 1.0, 1e-12]), np.ones((3, 1)), np.zeros(3))
    with pytest.raises(ConfigError, match="noise_floor"):
        GaussianProcessConfig(noise_floor=0.0)


def test_centred_draws_are_standard_normal_and_cancel():
    draws = centred(np.random.default_rng(0).standard_normal((3, 100_000)))
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(draws.std(axis=1), 1.0, atol=0.01)
    assert not centred(np.ones((1, 5))).any()
