"""Expectation maximisation against scikit-learn from the same start, known mixtures, and rows of every kind."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Peer

from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.gaussian_mixture import REGULARISATION, GaussianMixture, fit_mixture, maximised, spread_out


def two(n=600, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.6], [0.6, 1.0]], n // 3)
    second = rng.multivariate_normal([6.0, -5.0], [[0.5, 0.0], [0.0, 2.0]], n - n // 3)
    return np.vstack([first, second])


def test_an_iteration_is_that_of_scikit_learn():
    rows = two()
    start = maximised(rows, np.random.default_rng(1).dirichlet(np.ones(3), len(rows)))
    peer = Peer(3, weights_init=start.weights, means_init=start.means, reg_covar=REGULARISATION, max_iter=1)
    peer.precisions_init = np.linalg.inv(start.covariances)
    with pytest.warns(UserWarning):
        peer.fit(rows)
    ours = maximised(rows, start.responsibilities(rows))
    np.testing.assert_allclose(ours.weights, peer.weights_, atol=1e-8)
    np.testing.assert_allclose(ours.means, peer.means_, atol=1e-8)
    np.testing.assert_allclose(ours.covariances, peer.covariances_, atol=1e-8)
    np.testing.assert_allclose(ours.log_likelihood(rows), peer.score(rows), atol=1e-8)


def test_a_known_mixture_is_found_and_no_iteration_makes_it_worse():
    rows = two(3000)
    found = fit_mixture(rows, 2, 0)
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.weights[order], [1 / 3, 2 / 3], atol=0.02)
    np.testing.assert_allclose(found.means[order], [[0, 0], [6, -5]], atol=0.15)
    np.testing.assert_allclose(found.covariances[order], [[[1, 0.6], [0.6, 1]], [[0.5, 0], [0, 2]]], atol=0.15)
    values = [fit_mixture(rows, 3, 0, iterations=k).log_likelihood(rows) for k in (0, 1, 3, 10)]
    assert np.all(np.diff(values) > -1e-9) and values[-1] > values[0]


def test_moments_with_the_own_weights_are_those_of_the_rows():
    rows = two()
    found = fit_mixture(rows, 2, 0)
    mean, covariance = found.moments(found.weights)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(covariance, np.cov(rows.T, bias=True), rtol=1e-2)


def test_units_do_not_matter():
    rows, scale = two(), np.array([1e-4, 1e5])
    plain, scaled = fit_mixture(rows, 2, 0), fit_mixture(rows * scale, 2, 0)
    np.testing.assert_allclose(scaled.means, plain.means * scale, rtol=1e-5)


@pytest.mark.parametrize("rows", [np.ones((1, 3)), np.ones((20, 3)), two(12)[:2]])
def test_hardly_any_or_constant_rows(rows):
    found = fit_mixture(rows, 5, 0)
    assert isinstance(found, GaussianMixture) and np.isfinite(found.log_likelihood(rows))
    assert np.linalg.eigvalsh(found.covariances).min() > 0


def test_first_centres_are_far_apart_and_the_seed_decides():
    rows = two()
    apart = [np.linalg.norm(np.subtract(*spread_out(rows, 2, np.random.default_rng(seed)))) for seed in range(50)]
    assert np.median(apart) > 5.0
    assert not np.array_equal(
        spread_out(rows, 2, np.random.default_rng(0)), spread_out(rows, 2, np.random.default_rng(1))
    )


def test_bad_rows_are_refused():
    with pytest.raises(FitError, match="not finite"):
        fit_mixture(np.array([[np.nan, 1.0]]), 2, 0)
    with pytest.raises(FitError, match="0 rows"):
        fit_mixture(np.zeros((0, 2)), 2, 0)
