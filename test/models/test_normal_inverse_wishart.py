"""The conjugate belief against other ways to write it: augmented least squares, Student-t, sampling, the joint NIW."""

import numpy as np
import pytest
from scipy.stats import chi2, invwishart, multivariate_t, t

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.normal_inverse_wishart import (
    Moments,
    NormalInverseWishart,
    from_joint,
    joint_around,
    log_evidence,
)

D, NY = 4, 2


def spd(rng, n):
    root = rng.normal(size=(n, n + 2))
    return root @ root.T / n


def belief(seed=0, degrees=7.5):
    rng = np.random.default_rng(seed)
    return NormalInverseWishart(rng.normal(size=(NY, D)), spd(rng, D), spd(rng, NY), degrees)


def rows(n, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)), rng.normal(size=(n, NY))


def close(a, b, tolerance=1e-10):
    for name in ("mean", "covariance", "scale", "degrees"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=tolerance, atol=tolerance, err_msg=name)


def test_batch_is_least_squares_with_the_prior_as_rows_of_its_own():
    """W0 enters as d rows of the root of the precision; the residuals of all rows together are the scale's growth."""
    prior, (z, y) = belief(), rows(9)
    root = np.linalg.cholesky(np.linalg.inv(prior.covariance)).T
    design, target = np.vstack([z, root]), np.vstack([y, root @ prior.mean.T])
    W, *_ = np.linalg.lstsq(design, target, rcond=None)
    residual = target - design @ W
    got = prior.posterior(Moments.of(z, y))
    np.testing.assert_allclose(got.mean, W.T, atol=1e-10)
    np.testing.assert_allclose(got.covariance, np.linalg.inv(design.T @ design), atol=1e-10)
    np.testing.assert_allclose(got.scale, prior.scale + residual.T @ residual, atol=1e-10)
    assert got.degrees == prior.degrees + 9


def test_recursive_is_batch():
    prior, (z, y) = belief(), rows(300)
    recursive = prior
    for row in zip(z, y, strict=True):
        recursive = recursive.updated(*row)
    close(recursive, prior.posterior(Moments.of(z, y)))


@pytest.mark.parametrize("kept", [1.0, 0.97, 0.6])
def test_faded_before_every_update_is_the_prior_with_rows_weighted_by_age(kept):
    prior, (z, y) = belief(), rows(120)
    recursive = prior
    for row in zip(z, y, strict=True):
        recursive = recursive.faded(kept, prior).updated(*row)
    weights = kept ** np.arange(119, -1, -1.0)
    close(recursive, prior.posterior(Moments.of(z, y, weights)))


def test_all_forgotten_is_the_prior_and_stays_finite_where_nothing_moves():
    prior = belief()
    known = prior.posterior(Moments.of(*rows(50)))
    close(known.faded(0.0, prior), prior)
    for _ in range(3000):
        known = known.faded(0.99, prior).updated(np.ones(D), np.zeros(NY))
    assert np.linalg.eigvalsh(known.covariance).max() <= np.linalg.eigvalsh(prior.covariance).max() + 1e-9
    assert np.linalg.eigvalsh(known.covariance).min() > 0


def test_predictive_is_the_student_t_and_its_moments_those_of_draws():
    b = belief(degrees=12.0)
    z = np.array([[0.5, -1.0, 2.0, 0.3]])
    mean, covariance, degrees = b.predictive(z)
    W, S = b.sample(np.random.default_rng(0), 200_000)
    y = W @ z[0] + (np.linalg.cholesky(S) @ np.random.default_rng(1).normal(size=(200_000, NY, 1)))[..., 0]
    error = np.sqrt(np.diag(covariance[0]) / 200_000)
    assert np.all(np.abs(y.mean(axis=0) - mean[0]) < 5 * error)
    np.testing.assert_allclose(np.cov(y.T), covariance[0], rtol=0.03, atol=0.03 * covariance.max())
    shape = covariance[0] * (degrees - 2.0) / degrees
    assert degrees == 11.0
    inside = multivariate_t(mean[0], shape, degrees)
    levels = np.sort(inside.logpdf(y))[[20_000, 100_000, 180_000]]
    peer = np.sort(inside.logpdf(inside.rvs(200_000, random_state=2)))[[20_000, 100_000, 180_000]]
    np.testing.assert_allclose(levels, peer, atol=0.05, err_msg="the same density, not only the same moments")


def test_draws_have_the_moments_of_the_belief():
    b = belief(degrees=14.0)
    W, S = b.sample(np.random.default_rng(3), 100_000)
    np.testing.assert_allclose(S.mean(axis=0), invwishart(14.0, b.scale).mean(), rtol=0.03, atol=0.01)
    np.testing.assert_allclose(b.noise, invwishart(14.0, b.scale).mean())
    vec = (W - b.mean).transpose(0, 2, 1).reshape(len(W), -1)  # column after column
    np.testing.assert_allclose(np.cov(vec.T), np.kron(b.covariance, b.noise), atol=0.05)


def test_evidence_is_the_product_of_the_predictive_densities():
    prior, (z, y) = belief(degrees=3.5), rows(12)
    total, b = 0.0, prior
    for row, target in zip(z, y, strict=True):
        degrees = b.degrees - NY + 1.0
        shape = b.scale * (1.0 + row @ b.covariance @ row) / degrees
        total += multivariate_t(b.mean @ row, shape, degrees).logpdf(target)
        b = b.updated(row, target)
    assert log_evidence(prior, prior.posterior(Moments.of(z, y))) == pytest.approx(total, abs=1e-8)


def test_credible_intervals_cover_as_often_as_they_say():
    """Worlds from the prior: 90 % intervals of every weight and of the noise hold the truth 90 % of the time."""
    rng, prior, worlds = np.random.default_rng(4), belief(degrees=6.0), 1500
    held = np.zeros((worlds, NY, D))
    held_noise = np.zeros((worlds, NY))
    for i, (W, S) in enumerate(zip(*prior.sample(rng, worlds), strict=True)):
        z = rng.normal(size=(8, D))
        y = z @ W.T + rng.normal(size=(8, NY)) @ np.linalg.cholesky(S).T
        b = prior.posterior(Moments.of(z, y))
        degrees = b.degrees - NY + 1.0
        std = np.sqrt(np.outer(np.diag(b.scale), np.diag(b.covariance)) / degrees)
        held[i] = np.abs(W - b.mean) < t(degrees).ppf(0.95) * std
        low, high = chi2(degrees).ppf([0.05, 0.95])  # scale_ii / S_ii has this distribution
        held_noise[i] = (np.diag(b.scale) / np.diag(S) > low) & (np.diag(b.scale) / np.diag(S) < high)
    error = np.sqrt(0.09 / worlds)
    assert np.all(np.abs(held.mean(axis=0) - 0.9) < 4 * error)
    assert np.all(np.abs(held_noise.mean(axis=0) - 0.9) < 4 * error)


def test_the_error_shrinks_with_the_root_of_the_data():
    rng = np.random.default_rng(5)
    W, S = rng.normal(size=(NY, D)), 0.09 * np.eye(NY)
    prior = NormalInverseWishart.weak(np.zeros((NY, D)), np.full(D, 1e-6), np.ones(NY))
    errors = {}
    for n in (50, 5000):
        trials = []
        for _ in range(30):
            z = rng.normal(size=(n, D))
            y = z @ W.T + rng.normal(size=(n, NY)) @ np.linalg.cholesky(S).T
            b = prior.posterior(Moments.of(z, y))
            trials.append(np.mean((b.mean - W) ** 2))
        errors[n] = np.sqrt(np.mean(trials))
    assert errors[50] / errors[5000] == pytest.approx(10.0, rel=0.25)
    np.testing.assert_allclose(b.noise, S, atol=0.01)


def test_a_joint_prior_updates_like_the_normal_inverse_wishart_of_levine_and_abbeel():
    """Phi + N C + N m / (N + m) d d', then conditioned on z: the same slope, intercept and noise."""
    rng = np.random.default_rng(6)
    n0, m, n = 2.5, 1.5, 7
    mu0, C0 = rng.normal(size=D + NY), spd(rng, D + NY)
    z, y = rows(n, seed=7)
    data = np.hstack([z, y])
    off = data.mean(axis=0) - mu0
    scatter = (data - data.mean(axis=0)).T @ (data - data.mean(axis=0))
    phi = n0 * C0 + scatter + n * m / (n + m) * np.outer(off, off)
    mu = (m * mu0 + data.sum(axis=0)) / (n + m)
    slope = phi[D:, :D] @ np.linalg.inv(phi[:D, :D])
    noise = phi[D:, D:] - slope @ phi[:D, D:]
    got = from_joint(mu0, C0, D, n0, m).posterior(Moments.of(np.column_stack([z, np.ones(n)]), y))
    np.testing.assert_allclose(got.mean, np.column_stack([slope, mu[D:] - slope @ mu[:D]]), atol=1e-10)
    np.testing.assert_allclose(got.scale, noise, atol=1e-10)
    np.testing.assert_allclose(got.noise, noise / (n + n0), atol=1e-10)


def test_a_joint_prior_expects_its_own_noise_and_is_worth_its_count():
    rng = np.random.default_rng(8)
    mean, C = rng.normal(size=D + NY), spd(rng, D + NY)
    weak, strong = from_joint(mean, C, D, 0.5), from_joint(mean, C, D, 50.0)
    conditional = np.linalg.inv(np.linalg.inv(C)[D:, D:])
    np.testing.assert_allclose(weak.noise, conditional, atol=1e-10)
    np.testing.assert_allclose(strong.noise, conditional, atol=1e-10)
    np.testing.assert_allclose(weak.covariance, 100.0 * strong.covariance, rtol=1e-8)
    z, y = rows(5)
    moments = Moments.of(np.column_stack([z, np.ones(5)]), y)
    moved = [np.abs(b.posterior(moments).mean - b.mean).max() for b in (weak, strong)]
    assert moved[0] > 3 * moved[1]


def test_the_joint_around_points_is_that_of_samples():
    rng = np.random.default_rng(9)
    z, slope = rng.normal(size=(3, 2)), rng.normal(size=(3, 1, 2))
    y, spread, noise = (
        rng.normal(size=(3, 1)),
        np.array([[0.5, 0.2], [0.2, 0.3]]),
        np.array([[[0.1]], [[0.2]], [[0.3]]]),
    )
    mean, covariance = joint_around(z, y, slope, spread, noise)
    which = rng.integers(3, size=400_000)
    off = rng.multivariate_normal(np.zeros(2), spread, size=len(which))
    samples = y[which] + np.einsum("nij,nj->ni", slope[which], off)
    samples += np.sqrt(noise[which, 0]) * rng.normal(size=(len(which), 1))
    drawn = np.hstack([z[which] + off, samples])
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(covariance, np.cov(drawn.T), atol=0.03)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"expected \(ny, d\), \(d, d\), \(ny, ny\)"):
        NormalInverseWishart(np.zeros((2, 3)), np.eye(2), np.eye(2), 5.0)
    with pytest.raises(ConfigError, match="degrees: 1 is not allowed"):
        NormalInverseWishart(np.zeros((2, 3)), np.eye(3), np.eye(2), 1.0)
    with pytest.raises(ConfigError, match="not positive definite"):
        belief().posterior(Moments(1.0, -1e9 * np.eye(D), np.zeros((D, NY)), np.zeros((NY, NY))))
    assert np.isinf(NormalInverseWishart(np.zeros((2, 3)), np.eye(3), np.eye(2), 3.0).noise).all()
