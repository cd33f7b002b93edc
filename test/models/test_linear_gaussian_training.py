"""The fit: evidence and its gradient, known worlds, refits that go through the new rows only, data of every kind."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.linear_gaussian import LinearGaussianConfig
from mbrl_ros.models.linear_gaussian_training import (
    Summary,
    fingerprint,
    fit,
    maximised,
    negative_log_evidence,
    normalised,
    prior_of,
    strength_groups,
)
from mbrl_ros.models.normal_inverse_wishart import Moments, log_evidence
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("v", "p", "theta", "w"), ("f",), ("theta",), {"p": "v", "theta": "w"}, 0.05)
W = np.array([[-0.3, 0.0, 0.4, 0.1, 0.2, 0.5], [0.1, 0.2, -0.5, -0.2, 0.3, -0.4]])  # of v, p, sin, w, cos, f
CONFIG = LinearGaussianConfig()
QUADRATIC = LinearGaussianConfig(quadratic=True)


def world(n, seed=0, noise=0.1, products=0.0):
    """A linear world with correlated noise, optionally with a product of two features in it."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(n, 4)), rng.normal(size=(n, 1))
    f = LAYOUT.features(x, u)
    change = f @ W.T + 0.7 + products * (f[:, :1] * f[:, 5:])
    change += noise * rng.normal(size=(n, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    return Transitions(x, u, LAYOUT.integrate(x, change), np.zeros(n, int))


def joined(*parts):
    return Transitions(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("x", "u", "x_next", "trajectory")))


@pytest.mark.parametrize("relevance", [True, False])
def test_gradient_of_the_evidence_is_the_finite_difference(relevance):
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(20, 7)), rng.normal(size=(20, 2))
    groups = np.arange(6) if relevance else np.array([0, 0, 0, 1, 1, 1])
    theta = rng.normal(size=groups.max() + 2)
    moments = Moments.of(z, y)
    loss, gradient = negative_log_evidence(theta, moments, groups)
    prior = prior_of(theta, groups, 2)
    assert loss == pytest.approx(-log_evidence(prior, prior.posterior(moments)))
    for i in range(len(theta)):
        e = 1e-5 * (np.arange(len(theta)) == i)
        ahead, behind = (negative_log_evidence(theta + s * e, moments, groups)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-5, abs=1e-5)


def test_the_search_reaches_a_maximum():
    data = world(80)
    summary = Summary.of(np.hstack([LAYOUT.features(data.x, data.u), LAYOUT.targets(data.x, data.x_next)]))
    moments, _ = normalised(summary, 2)
    groups = strength_groups(6, CONFIG)
    start, none = maximised(moments, groups, dataclasses.replace(CONFIG, iterations=0))
    best, steps = maximised(moments, groups, CONFIG)
    assert none == 0 and steps > 3
    before, after = (negative_log_evidence(theta, moments, groups)[0] for theta in (start, best))
    assert after < before - 1.0
    floor = dataclasses.replace(CONFIG, noise_floor=1.0)
    assert maximised(moments, groups, floor)[0][-1] >= 0.0 > best[-1], "log of the prior noise"


def test_weights_and_noise_of_a_known_world_with_errors_like_one_over_root_n():
    errors = {}
    for n in (100, 10_000):
        off = []
        for seed in range(8):
            model, _ = fit(world(n, seed), LAYOUT, CONFIG, 0)
            off.append(model.belief.mean - np.column_stack([[0.7, 0.7], W]))
        errors[n] = np.sqrt(np.mean(np.square(off)))
    assert errors[100] / errors[10_000] == pytest.approx(10.0, rel=0.35)
    np.testing.assert_allclose(model.belief.noise, [[0.01, 0.005], [0.005, 0.0125]], rtol=0.08)


@pytest.mark.parametrize("config", [CONFIG, QUADRATIC])
def test_credible_intervals_of_fresh_worlds_hold_the_truth(config):
    """Function values at new places, 90 %, over many data sets: strengths from the evidence cost a little."""
    rng, inside = np.random.default_rng(3), []
    x, u = rng.normal(size=(40, 4)), rng.normal(size=(40, 1))
    truth = LAYOUT.features(x, u) @ W.T + 0.7
    for seed in range(25):
        model, _ = fit(world(60, seed), LAYOUT, config, 0)
        mean, std = model.posterior(x, u)
        inside.append(np.abs(truth - mean) < 1.645 * std)
    assert 0.84 < np.mean(inside) < 0.96


def test_products_are_learned_where_they_are_terms():
    data, test = world(300, products=0.5), world(300, seed=9, noise=0.0, products=0.5)
    target = LAYOUT.targets(test.x, test.x_next)
    errors = [
        np.sqrt(np.mean((fit(data, LAYOUT, c, 0)[0].posterior(test.x, test.u)[0] - target) ** 2))
        for c in (CONFIG, QUADRATIC)
    ]
    assert errors[0] > 0.3 and errors[1] < 0.05


def test_relevance_makes_terms_vanish_that_play_no_part():
    """One product of 21 plays a part: with a strength for every term fewer rows are needed."""
    test, errors = world(300, seed=99, noise=0.0, products=0.5), []
    target = LAYOUT.targets(test.x, test.x_next)
    for relevance in (True, False):
        config = dataclasses.replace(QUADRATIC, relevance=relevance)
        models = [fit(world(40, seed, products=0.5), LAYOUT, config, 0)[0] for seed in range(4)]
        errors.append(np.sqrt(np.mean([(m.posterior(test.x, test.u)[0] - target) ** 2 for m in models])))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("config", [CONFIG, QUADRATIC])
def test_a_refit_of_appended_rows_is_a_fit_of_all(config):
    first, more = world(150, 0), world(50, 1)
    model, _ = fit(first, LAYOUT, config, 0)
    for part in np.split(np.arange(50), 5):
        first = joined(first, more[part])
        model, report = fit(first, LAYOUT, config, 0, model)
        assert report.warm and report.appended == 10
    batch, scratch = fit(first, LAYOUT, config, 0)
    assert not scratch.warm and scratch.appended == 200
    for name in ("centre", "scatter", "count", "fingerprint"):
        np.testing.assert_allclose(model.arrays[name], batch.arrays[name], rtol=1e-10, atol=1e-10)
    for name in ("weights", "covariance", "scale", "degrees"):
        np.testing.assert_allclose(model.arrays[name], batch.arrays[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_rows_that_changed_or_another_model_are_gone_through_again():
    data = world(60)
    model, _ = fit(data, LAYOUT, CONFIG, 0)
    changed = Transitions(data.x.copy(), data.u, data.x_next, data.trajectory)
    changed.x[3, 0] += 1e-9
    assert fingerprint(changed) != fingerprint(data) == model.arrays["fingerprint"]
    for other, config in ((changed, CONFIG), (data[:50], CONFIG), (data, QUADRATIC)):
        again, report = fit(other, LAYOUT, config, 0, model)
        assert not report.warm
        np.testing.assert_array_equal(again.arrays["weights"], fit(other, LAYOUT, config, 0)[0].arrays["weights"])
    assert fit(data, LAYOUT, CONFIG, 0, model)[1].appended == 0


def test_same_data_and_seed_give_the_same_bytes_and_seeds_differ():
    first, again, other = (fit(world(50), LAYOUT, CONFIG, seed)[0].arrays for seed in (0, 0, 1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.allclose(first["weights"], other["weights"])
    np.testing.assert_allclose(first["weights"].mean(axis=0), other["weights"].mean(axis=0), atol=1e-10)


def test_members_option_is_the_number_of_draws():
    assert fit(world(50), LAYOUT, LinearGaussianConfig(members=7), 0)[0].members == 7


@pytest.mark.parametrize("config", [CONFIG, QUADRATIC])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_hardly_any_rows(config, n):
    model, report = fit(world(n), LAYOUT, config, 0)
    mean, std = model.predict(np.zeros((3, 4)), np.zeros((3, 1)))
    assert np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all() and report.transitions == n


@pytest.mark.parametrize("config", [CONFIG, QUADRATIC])
def test_constant_and_collinear_inputs(config):
    data = world(80)
    x, u = data.x.copy(), data.u.copy()
    x[:, 1], u[:, 0] = 3.0, 2.0 * x[:, 0]  # a place that never changes; the action repeats the velocity
    model, _ = fit(Transitions(x, u, LAYOUT.integrate(x, 0.1 * x[:, [0, 3]]), data.trajectory), LAYOUT, config, 0)
    mean, _ = model.posterior(x, u)
    np.testing.assert_allclose(mean, 0.1 * x[:, [0, 3]], atol=5e-3)
    apart = model.posterior(x[:5], -u[:5])[1] / model.posterior(x[:5], u[:5])[1]
    assert np.median(apart) > 3.0, "what was never told apart is not known"
    still = Transitions(np.ones((20, 4)), np.ones((20, 1)), np.ones((20, 4)), np.zeros(20, int))
    model, _ = fit(still, LAYOUT, config, 0)
    assert np.abs(model.posterior(still.x, still.u)[0]).max() < 1e-6


def test_doubt_about_an_input_that_never_moved_is_of_the_size_of_one_unit_of_it():
    """A prior of unit variance for a move by one unit; in units of the smallest deviation it would be a thousand."""
    data = world(40)
    data.x[:, 0] = 0.3
    model, _ = fit(data, LAYOUT, dataclasses.replace(CONFIG, members=50, relevance=False), 0)
    moved = data.x[:1] + np.eye(4)[0]
    apart = model.predict(moved, data.u[:1])[0] - model.predict(data.x[:1], data.u[:1])[0]
    targets = data.x_next[:, [0, 3]] - data.x[:, [0, 3]]
    assert np.all(apart.std(axis=0) < 3.0 * targets.std(axis=0))


def test_a_summary_far_from_zero_keeps_its_digits():
    rng = np.random.default_rng(0)
    rows = 1e6 + rng.normal(size=(1000, 2))
    parts = Summary.of(rows[:400]).with_more(Summary.of(rows[400:]))
    np.testing.assert_allclose(parts.scatter, 999 * np.cov(rows.T), rtol=1e-7)
    np.testing.assert_allclose(parts.centre, rows.mean(axis=0))


def test_many_rows_are_summed_up_in_chunks():
    data = world(100_000)
    model, report = fit(data, LAYOUT, QUADRATIC, 0)
    np.testing.assert_allclose(model.belief.mean[:, 1:7], W, atol=5e-3)
    assert report.transitions == model.arrays["count"].item() == 100_000


def test_bad_data_are_refused():
    data = world(10)
    data.x_next[4, 0] = np.nan
    with pytest.raises(FitError, match="1 of 10 transitions are not finite, the first is 4"):
        fit(data, LAYOUT, CONFIG, 0)
    with pytest.raises(FitError, match="no transitions"):
        fit(data[:0], LAYOUT, CONFIG, 0)
    huge = world(10)
    huge.x[:, 0] = 1e200
    with pytest.raises(FitError, match="squares overflow"):
        fit(huge, LAYOUT, QUADRATIC, 0)
