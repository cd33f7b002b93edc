"""Variational inference against closed forms: the linear-Gaussian posterior, the divergence, the reparameterisation."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mbrl_ros.models.bayesian_network import BayesianNetworkConfig
from mbrl_ros.models.bayesian_network_training import (
    Posterior,
    first_weights,
    fit,
    in_turn,
    made,
    minimise,
    named,
    shapes_of,
)
from mbrl_ros.models.fitting import FitError, centred
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("a", "b"), ("u",), (), {}, 0.1)
A = np.array([[0.9, 0.2], [-0.3, 0.8]])
B = np.array([[0.5], [-1.0]])
NOISE = np.array([0.05, 0.2])
SMALL = BayesianNetworkConfig(members=3, width=12, steps=60, refit_steps=40)


def linear_data(n: int, seed: int = 0, scale: float = 1.0, centre: float = 0.0) -> Transitions:
    rng = np.random.default_rng(seed)
    x, u = centre + scale * rng.standard_normal((n, 2)), scale * rng.standard_normal((n, 1))
    return Transitions(x, u, x @ A.T + u @ B.T + NOISE * rng.standard_normal((n, 2)), np.zeros(n, int))


def some_posterior(shapes: list[tuple[int, ...]], seed: int = 0, spread: float = 0.3) -> Posterior:
    g = torch.Generator().manual_seed(seed)
    count = sum(math.prod(s) for s in shapes)
    rho = math.log(spread) + 0.3 * torch.randn(count, generator=g)
    return Posterior(shapes, torch.randn(count, generator=g), rho, torch.full((count,), 0.7))


def test_a_linear_gaussian_case_has_the_known_mean_field_posterior():
    """``y = X w + e``: mean-field q has the exact posterior's mean and variances ``1 / diag(precision)``."""
    rng = np.random.default_rng(0)
    n, d, noise, prior = 40, 3, 0.5, 0.8
    X = rng.standard_normal((n, d))
    X[:, 1] = 0.9 * X[:, 0] + 0.4 * X[:, 1]  # inputs that hang together, so that the posterior is far from diagonal
    y = X @ [1.0, -0.5, 0.3] + 0.2 + noise * rng.standard_normal(n)
    design = np.column_stack([X, np.ones(n)])
    scale = prior * np.array([*[d**-0.5] * d, 1.0])  # weights and bias
    precision = design.T @ design / noise**2 + np.diag(scale**-2.0)
    mean = np.linalg.solve(precision, design.T @ y / noise**2)
    config = BayesianNetworkConfig(prior_std=prior, kl_weight=1.0, annealing=0.0, batch_size=200, learning_rate=0.03)
    shapes = [(d, 1), (1,)]
    generator = torch.Generator().manual_seed(0)
    q = made(shapes, config, first_weights(shapes, 0, config, generator))

    def likelihood(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (0.5 * ((targets - outputs) / noise) ** 2).mean(dim=-1)

    z, t = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y[:, None], dtype=torch.float32)
    minimise(q, z, t, likelihood, config, steps=800, generator=generator)
    std = np.exp(q.rho.detach().numpy())
    exact = 1.0 / np.sqrt(np.diag(precision))
    # The stochastic gradient leaves a few per cent; the marginal variances are further off than that.
    np.testing.assert_allclose(q.mu.detach(), mean, atol=0.25 * exact.min())
    np.testing.assert_allclose(std, exact, rtol=0.08)
    assert (np.sqrt(np.diag(np.linalg.inv(precision)))[:2] > 1.3 * exact[:2]).all()


def test_divergence_is_that_of_torch():
    q = some_posterior([(4, 3), (3,), (3, 2), (2,)])
    expected = kl_divergence(Normal(q.mu, torch.exp(q.rho)), Normal(torch.zeros(()), q.prior)).sum()
    assert q.divergence().item() == pytest.approx(expected.item(), rel=1e-5)
    same = Posterior([(2, 1), (1,)], torch.zeros(3), torch.log(torch.full((3,), 0.7)), torch.full((3,), 0.7))
    assert same.divergence().item() == pytest.approx(0.0, abs=1e-6)


def test_the_gradient_of_the_divergence_is_that_of_autograd():
    posterior, weight = some_posterior([(3, 5), (5,)]), 0.3
    (weight * posterior.divergence()).backward()
    expected = [posterior.mu.grad.clone(), posterior.rho.grad.clone()]
    posterior.mu.grad, posterior.rho.grad = torch.ones_like(posterior.mu), torch.zeros_like(posterior.rho)
    posterior.add_divergence_gradient(weight)
    torch.testing.assert_close(posterior.mu.grad - 1.0, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(posterior.rho.grad, expected[1], rtol=1e-5, atol=1e-6)


def test_local_reparameterisation_has_the_moments_of_sampled_weights():
    """One layer: exactly Gaussian either way. 40,000 draws: five standard errors of a variance are 3.5 %."""
    q = some_posterior([(4, 2), (2,)])
    x = torch.tensor([[0.5, -1.0, 2.0, 0.1]])
    count, generator = 40_000, torch.Generator().manual_seed(1)
    local = q.sample(x.expand(count, -1), generator).detach().numpy()
    draws = (q.mu + torch.exp(q.rho) * torch.randn(count, len(q.mu), generator=generator)).detach()
    weights, bias = draws[:, :8].view(count, 4, 2), draws[:, 8:]
    sampled = (torch.einsum("i,nio->no", x[0], weights) + bias).numpy()
    np.testing.assert_allclose(local.mean(axis=0), sampled.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(local.var(axis=0), sampled.var(axis=0), rtol=0.05)
    exact = (x[0] ** 2) @ torch.exp(2 * q.rho[:8]).view(4, 2) + torch.exp(2 * q.rho[8:])
    np.testing.assert_allclose(local.var(axis=0), exact.detach(), rtol=0.035)


def test_local_reparameterisation_of_a_network_is_close_to_sampled_weights():
    """Units of a layer share no weight, so given one row their draws are independent either way."""
    q = some_posterior([(2, 6), (6,), (6, 1), (1,)])
    x = torch.tensor([[0.8, -0.4]])
    count, generator = 40_000, torch.Generator().manual_seed(2)
    local = q.sample(x.expand(count, -1), generator).detach().numpy()[:, 0]
    draws = (q.mu + torch.exp(q.rho) * torch.randn(count, len(q.mu), generator=generator)).detach()
    w1, b1, w2, b2 = draws[:, :12].view(-1, 2, 6), draws[:, 12:18], draws[:, 18:24], draws[:, 24]
    hidden = torch.nn.functional.silu(torch.einsum("i,nio->no", x[0], w1) + b1)
    sampled = ((hidden * w2).sum(dim=1) + b2).numpy()
    assert local.mean() == pytest.approx(sampled.mean(), abs=0.03)
    assert local.var() == pytest.approx(sampled.var(), rel=0.05)


def test_rows_have_draws_of_their_own():
    q = some_posterior([(2, 4), (4,), (4, 1), (1,)])
    out = q.sample(torch.ones(50, 2), torch.Generator().manual_seed(0)).detach()
    assert out.std() > 0.05


def test_members_are_draws_whose_mean_is_the_mean_network():
    config = dataclasses.replace(SMALL, members=40, initial_std=0.3)
    model, _ = fit(linear_data(60), LAYOUT, config, 0)
    for k in ("w_in", "b_hidden", "w_hidden"):
        mean, std = model.posterior(k)
        np.testing.assert_allclose(model.arrays[k].mean(axis=0), mean, atol=1e-5)
        deviation = (model.arrays[k] - mean) / std
        # n draws of 40 members: five standard errors of the pooled variance
        assert np.var(deviation) * 40 / 39 == pytest.approx(1.0, abs=5 * np.sqrt(2 / (39 * mean.size)) + 0.03)
    one, _ = fit(linear_data(60), LAYOUT, dataclasses.replace(SMALL, members=1), 0)
    np.testing.assert_array_equal(one.arrays["w_in"][0], one.arrays["mu_w_in"])


def test_recovers_mean_and_noise_of_a_linear_gaussian_system():
    config = BayesianNetworkConfig(members=4, width=12, steps=1000)
    model, report = fit(linear_data(1500), LAYOUT, config, seed=0)
    test = linear_data(400, seed=1)
    mean, std = model.predict(test.x, test.u)
    error = mean.mean(axis=0) - (test.x @ A.T + test.u @ B.T - test.x)
    assert (np.sqrt(np.mean(error**2, axis=0)) < 0.6 * NOISE).all()
    np.testing.assert_allclose(np.median(std, axis=(0, 1)), NOISE, rtol=0.2)
    assert (report.steps, report.transitions, report.warm) == (1000, 1500, False) and report.seconds > 0.0


def test_members_disagree_away_from_the_data_and_agree_where_there_are_many():
    config = BayesianNetworkConfig(members=20, width=24, steps=400)
    few, many = (fit(linear_data(n, scale=0.5), LAYOUT, config, 0)[0] for n in (30, 1000))

    def epistemic(model, r):
        return model.uncertainty(np.full((1, 2), r), np.zeros((1, 1))).epistemic.mean()

    near, middle, far = (epistemic(few, r) for r in (0.0, 2.0, 6.0))
    assert 3.0 * near < middle and 3.0 * middle < far, "variances, so three is less than twice the spread"
    assert epistemic(many, 0.0) < 0.3 * near


def test_noise_that_differs_from_place_to_place_is_found_where_asked_for():
    data = linear_data(1500)
    rng = np.random.default_rng(5)
    loud = np.where(data.x[:, :1] > 0, 0.5, 0.05)
    noisy = Transitions(
        data.x, data.u, data.x @ A.T + data.u @ B.T + loud * rng.standard_normal((1500, 2)), data.trajectory
    )
    for heteroscedastic, least in ((True, 3.0), (False, 1.0)):
        config = BayesianNetworkConfig(members=3, width=24, steps=600, heteroscedastic=heteroscedastic)
        std = fit(noisy, LAYOUT, config, 0)[0].predict(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros((2, 1)))[1]
        ratio = (std[:, 0] / std[:, 1]).mean()
        assert ratio > least if heteroscedastic else ratio == pytest.approx(1.0)


def test_same_seed_same_bytes_other_seed_others():
    data = linear_data(50)
    first, again, other = (fit(data, LAYOUT, SMALL, seed)[0] for seed in (0, 0, 1))
    assert all(first.arrays[k].tobytes() == again.arrays[k].tobytes() for k in first.arrays)
    assert not np.allclose(first.arrays["mu_w_in"], other.arrays["mu_w_in"])


def test_a_member_stays_the_same_deviation_in_a_refit_to_more_data():
    old, _ = fit(linear_data(50), LAYOUT, SMALL, 0)
    new, _ = fit(linear_data(60), LAYOUT, SMALL, 0, previous=old)
    for model in (old, new):
        deviation = (model.arrays["w_in"] - model.arrays["mu_w_in"]) / np.exp(model.arrays["rho_w_in"])
        expected = (old.arrays["w_in"] - old.arrays["mu_w_in"]) / np.exp(old.arrays["rho_w_in"])
        np.testing.assert_allclose(deviation, expected, atol=1e-3)


def test_a_warm_start_keeps_the_function_in_the_new_units():
    """A step so small that nothing moves: mean and noise stay, and so does the spread of first-layer draws."""
    config = dataclasses.replace(SMALL, steps=150, initial_std=0.01)
    old, _ = fit(linear_data(80), LAYOUT, config, 0)
    other = linear_data(100, seed=2, scale=2.0, centre=0.5)
    still = dataclasses.replace(config, refit_steps=1, learning_rate=1e-7, members=1)
    new, report = fit(other, LAYOUT, still, 0, previous=old)
    assert report.warm and report.steps == 1
    assert not np.allclose(new.arrays["feature_std"], old.arrays["feature_std"], rtol=0.2)
    mean = old.with_arrays(**{k: old.arrays[f"mu_{k}"][None] for k in WEIGHTS})
    expected = mean.predict_member(0, other.x, other.u)[0]
    np.testing.assert_allclose(new.predict_member(0, other.x, other.u)[0], expected, rtol=1e-3, atol=1e-3)
    sigma = np.exp(new.arrays["rho_w_in"]) / new.arrays["feature_std"][:, None]
    np.testing.assert_allclose(sigma, np.exp(old.arrays["rho_w_in"]) / old.arrays["feature_std"][:, None], rtol=1e-3)


@pytest.mark.parametrize("change", [{"width": 8}, {"layers": 3}])
def test_previous_model_of_another_shape_is_passed_over(change):
    old, _ = fit(linear_data(20), LAYOUT, SMALL, 0)
    assert not fit(linear_data(20), LAYOUT, dataclasses.replace(SMALL, **change), 0, previous=old)[1].warm


def test_layers_in_turn_and_named_are_inverse():
    shapes = shapes_of(BayesianNetworkConfig(layers=3, width=5), 4, 2)
    parts = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(shapes)]
    back = in_turn({f"mu_{k}": v for k, v in named(parts).items()}, "mu")
    for got, expected in zip(back, parts, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_centred_draws_have_zero_mean_and_unit_variance():
    draws = centred(np.random.default_rng(0).standard_normal((4, 50_000)))
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=1e-12)
    assert draws.var() == pytest.approx(1.0, abs=0.02)
    assert not centred(np.ones((1, 3))).any()


@pytest.mark.parametrize(
    "change",
    [
        {"members": 4},
        {"layers": 1},
        {"width": 8},
        {"prior_std": 0.1},
        {"initial_std": 0.3},
        {"kl_weight": 1.0},
        {"annealing": 0.0},
        {"heteroscedastic": True},
        {"learning_rate": 1e-3},
        {"batch_size": 8},
        {"steps": 61},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_changes_the_model(change):
    data, x, u = linear_data(50), np.ones((1, 2)), np.ones((1, 1))
    base = fit(data, LAYOUT, SMALL, 0)[0].predict(x, u)[0][0]
    changed = fit(data, LAYOUT, dataclasses.replace(SMALL, **change), 0)[0].predict(x, u)[0][0]
    assert not np.allclose(base, changed, rtol=1e-5)


def test_refit_steps_changes_the_refit():
    old, _ = fit(linear_data(50), LAYOUT, SMALL, 0)
    reports = [fit(linear_data(50), LAYOUT, dataclasses.replace(SMALL, refit_steps=n), 0, old)[1] for n in (5, 30)]
    assert [r.steps for r in reports] == [5, 30] and reports[0].loss != reports[1].loss


def test_a_stronger_prior_pulls_the_posterior_to_it():
    divergences, norms = [], []
    for weight in (0.0, 1.0, 30.0):
        model, report = fit(linear_data(50), LAYOUT, dataclasses.replace(SMALL, steps=300, kl_weight=weight), 0)
        divergences.append(report.divergence)
        norms.append(np.square(model.arrays["mu_w_hidden"]).sum())
    assert divergences[0] > divergences[1] > divergences[2] and norms[0] > norms[2]


def test_bad_data_are_refused_with_a_clear_error():
    data = linear_data(10)
    data.x_next[4, 1] = np.nan
    with pytest.raises(FitError, match="1 of 10 transitions are not finite, the first is 4"):
        fit(data, LAYOUT, SMALL, 0)
