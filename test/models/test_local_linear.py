"""Local models against least squares, known time-varying systems and the LQR that is made of them."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.gaussian_mixture import fit_mixture
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.linear_gaussian import LinearGaussian, LinearGaussianConfig
from mbrl_ros.models.linear_gaussian_training import fit
from mbrl_ros.models.local_linear import (
    GlobalPrior,
    LocalLinear,
    MixturePrior,
    OnlineLocalConfig,
    OnlineLocalModel,
    effect_of_change,
    fit_time_varying,
    next_state_noise,
)
from mbrl_ros.planners import lqr
from mbrl_ros.types import Transitions

NX, NU, H = 3, 2, 6
LAYOUT = StateLayout(("v", "p"), ("f",), (), {"p": "v"}, 0.1)


def system(seed=0, drift=0.1):
    """Matrices that differ from period to period by `drift`, noise correlated."""
    rng = np.random.default_rng(seed)
    A = 0.8 * np.eye(NX) + 0.1 * rng.normal(size=(NX, NX)) + drift * rng.normal(size=(H, NX, NX))
    B = rng.normal(size=(NX, NU)) + drift * rng.normal(size=(H, NX, NU))
    root = 0.05 * rng.normal(size=(NX, NX))
    return LocalLinear(A, B, 0.2 * rng.normal(size=(H, NX)), np.broadcast_to(root @ root.T, (H, NX, NX)))


def motion(true, n, seed=1):
    rng = np.random.default_rng(seed)
    x, u = np.empty((n, H + 1, NX)), rng.normal(size=(n, H, NU))
    x[:, 0] = rng.normal(size=(n, NX))
    for t in range(H):
        e = rng.multivariate_normal(np.zeros(NX), true.covariance[t], n)
        x[:, t + 1] = x[:, t] @ true.A[t].T + u[:, t] @ true.B[t].T + true.c[t] + e
    return x, u


def error(found, true):
    return np.sqrt(np.mean((found.jacobian - true.jacobian) ** 2))


def mixture(x, u, components=1):
    rows = np.concatenate([x[:, :-1], u, x[:, 1:]], axis=2).reshape(-1, 2 * NX + NU)
    return MixturePrior(fit_mixture(rows, components, 0))


def test_without_a_prior_it_is_least_squares_period_by_period():
    x, u = motion(system(), 30)
    found = fit_time_varying(x, u)
    for t in range(H):
        design = np.column_stack([x[:, t], u[:, t], np.ones(30)])
        W, *_ = np.linalg.lstsq(design, x[:, t + 1], rcond=None)
        np.testing.assert_allclose(found.A[t], W[:NX].T, atol=1e-5)
        np.testing.assert_allclose(found.B[t], W[NX:-1].T, atol=1e-5)
        np.testing.assert_allclose(found.c[t], W[-1], atol=1e-5)
        residual = x[:, t + 1] - design @ W
        # x' = x is the prior mean, one degree of freedom
        np.testing.assert_allclose(found.covariance[t], residual.T @ residual / 31, atol=1e-5)


def test_a_time_varying_system_is_recovered_with_errors_like_one_over_root_n():
    true, errors = system(), {}
    for n in (30, 3000):
        errors[n] = np.sqrt(np.mean([error(fit_time_varying(*motion(true, n, seed)), true) ** 2 for seed in range(4)]))
    assert errors[30] / errors[3000] == pytest.approx(10.0, rel=0.35)
    found = fit_time_varying(*motion(true, 3000))
    np.testing.assert_allclose(found.covariance, true.covariance, atol=0.1 * np.abs(true.covariance).max())
    assert error(found, true) < 0.1 * error(LocalLinear(true.A[::-1], true.B[::-1], true.c, true.covariance), true)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_with_fewer_trajectories_than_entries_the_mixture_prior_helps(n):
    true = system(drift=0.05)
    errors = []
    for seed in range(5):
        x, u = motion(true, n, seed)
        old = motion(true, 10, seed + 100)  # earlier iterations: the mixture sees them, too
        prior = mixture(np.concatenate([x, old[0]]), np.concatenate([u, old[1]]))
        found = fit_time_varying(x, u, prior), fit_time_varying(x, u)
        assert all(np.isfinite(m.jacobian).all() and np.isfinite(m.covariance).all() for m in found)
        assert np.linalg.eigvalsh(found[0].covariance).min() > 0
        errors.append([error(m, true) for m in found])
    with_prior, without = np.mean(errors, axis=0)
    assert with_prior < 0.5 * without


def test_strength_leads_from_the_data_to_the_prior():
    true = system(drift=0.3)
    x, u = motion(true, 8)
    prior = mixture(*motion(true, 200, 9))
    alike = [np.ptp(fit_time_varying(x, u, prior, s).jacobian, axis=0).mean() for s in (1e-3, 1.0, 1e4)]
    assert alike[0] > 1.2 * alike[1] > 2.0 * alike[2], "the prior is the same for all periods, the world is not"
    np.testing.assert_allclose(
        fit_time_varying(x, u, prior, 1e-9).jacobian,
        fit_time_varying(x, u).jacobian,
        atol=1e-3,
        err_msg="nothing but the data",
    )


def test_more_parts_of_the_mixture_tell_periods_apart():
    """Two regimes: a mixture of two is right about both, one Gaussian averages them."""
    true = system(drift=0.0)
    A = true.A.copy()
    A[3:] = -A[3:]
    c = np.where(np.arange(H)[:, None] < 3, 0.0, 8.0) * np.ones(NX)
    true = LocalLinear(A, true.B, c, true.covariance)
    x, u = motion(true, 3)
    old = motion(true, 60, 7)
    errors = [error(fit_time_varying(x, u, mixture(*old, components)), true) for components in (1, 4)]
    assert errors[1] < 0.6 * errors[0]


def test_states_are_those_of_many_simulations():
    true = system()
    rng, actions = np.random.default_rng(0), np.random.default_rng(1).normal(size=(H, NU))
    mean, covariance = true.states(np.ones(NX), actions)
    x = np.ones((100_000, NX))
    for t in range(H):
        x = x @ true.A[t].T + true.B[t] @ actions[t] + true.c[t]
        x += rng.multivariate_normal(np.zeros(NX), true.covariance[t], len(x))
    np.testing.assert_allclose(mean[-1], x.mean(axis=0), atol=5e-3)
    np.testing.assert_allclose(covariance[-1], np.cov(x.T), rtol=0.05, atol=1e-3)
    assert not covariance[0].any()


def test_lqr_of_the_fit_is_nearly_that_of_the_truth():
    true = system()
    C = np.broadcast_to(np.eye(NX + NU), (H, NX + NU, NX + NU))
    terminal = (np.eye(NX), np.zeros(NX))
    policies = [
        lqr.solve(m.jacobian, m.c, C, np.zeros((H, NX + NU)), terminal)
        for m in (fit_time_varying(*motion(true, 2000)), true)
    ]
    np.testing.assert_allclose(policies[0].K, policies[1].K, atol=0.02)
    np.testing.assert_allclose(policies[0].k, policies[1].k, atol=0.02)


@pytest.mark.parametrize(
    "x, u, message",
    [
        (np.zeros((2, 5, 3)), np.zeros((2, 5, 1)), "expected"),
        (np.zeros((0, 5, 3)), np.zeros((0, 4, 1)), "expected"),
        (np.full((2, 5, 3), np.nan), np.zeros((2, 4, 1)), "not finite"),
    ],
)
def test_bad_motion_is_refused(x, u, message):
    with pytest.raises(FitError, match=message):
        fit_time_varying(x, u)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="strength: 0"):
        fit_time_varying(np.zeros((2, 5, 3)), np.zeros((2, 4, 1)), strength=0)
    with pytest.raises(ConfigError, match="spread"):
        GlobalPrior(global_model(), np.ones(2))
    with pytest.raises(ConfigError, match="kept"):
        OnlineLocalConfig(kept=1.5)


def test_constant_inputs_stay_finite():
    x, u = np.ones((4, 6, 2)), np.zeros((4, 5, 1))
    for prior in (None, GlobalPrior(global_model(), np.ones(3))):
        found = fit_time_varying(x, u, prior)
        assert np.isfinite(found.jacobian).all() and np.isfinite(found.covariance).all()


# with a global model


def transitions(n, gain=1.0, friction=0.5, seed=0, noise=0.01, push=0.0):
    """A cart: v' = v + dt (gain f - friction v) + push."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(n, 2)), rng.normal(size=(n, 1))
    change = 0.1 * (gain * u - friction * x[:, :1]) + push + noise * rng.normal(size=(n, 1))
    return Transitions(x, u, LAYOUT.integrate(x, change), np.zeros(n, int))


def global_model(n=300) -> LinearGaussian:
    return fit(transitions(n), LAYOUT, LinearGaussianConfig(), 0)[0]


def matrices(gain, friction=0.5):
    a, b = 1.0 - 0.1 * friction, 0.1 * gain
    return np.array([[a, 0.0], [0.05 * (1.0 + a), 1.0]]), np.array([[b], [0.05 * b]])


def test_noise_of_the_next_state_reaches_positions_through_velocities():
    model, (x, u) = global_model(), (np.zeros((1, 2)), np.zeros((1, 1)))
    np.testing.assert_allclose(effect_of_change(LAYOUT), [[1.0], [0.05]])
    got, variance = next_state_noise(model, x, u)[0], model.predict(x, u)[1].item(0) ** 2
    np.testing.assert_allclose(got[:2, :2], variance * np.array([[1, 0.05], [0.05, 0.0025]]), rtol=0.1)
    assert np.linalg.eigvalsh(got).min() > 0
    few, far = global_model(8), np.array([[30.0, 0.0]])
    mean, std = few.predict(far, u)
    assert mean.std(axis=0).item() > 3 * std.max(), "far from the data the members differ"
    np.testing.assert_allclose(next_state_noise(few, far, u)[0, 0, 0], mean.var() + std[0].item() ** 2, rtol=1e-6)


def test_a_global_prior_alone_gives_its_own_linearisation():
    model = global_model()
    x = np.tile(np.array([0.5, -0.3]), (1, 4, 1))
    found = fit_time_varying(x, np.zeros((1, 3, 1)), GlobalPrior(model, np.ones(3)), strength=1e6)
    A, B = model.linearize(x[0, :1], np.zeros((1, 1)))
    np.testing.assert_allclose(found.A[0], A[0], atol=1e-3)
    np.testing.assert_allclose(found.B[0], B[0], atol=1e-3)


def test_a_global_prior_helps_with_one_trajectory():
    A, B = matrices(1.0)
    rng = np.random.default_rng(2)
    x, u = np.zeros((1, 9, 2)), rng.normal(size=(1, 8, 1))
    for t in range(8):
        x[0, t + 1] = A @ x[0, t] + B @ u[0, t]
    off = [
        np.abs(fit_time_varying(x, u, prior).jacobian - np.hstack([A, B])).max()
        for prior in (GlobalPrior(global_model(), np.ones(3)), None)
    ]
    assert off[0] < 0.02 < off[1]


def online(kept=0.95, strength=5.0):
    return OnlineLocalModel(GlobalPrior(global_model(), np.ones(3)), OnlineLocalConfig(kept, strength))


def after(model, data):
    for x, u, x_next in zip(data.x, data.u, data.x_next, strict=True):
        model = model.observed(x, u, x_next)
    return model


def test_the_online_model_begins_as_the_global_model():
    model, (x, u) = online(), (np.array([0.3, 2.0]), np.array([-0.7]))
    local = model.at(x, u)
    A, B = model.prior.model.linearize(x[None], u[None])
    np.testing.assert_allclose(local.A, A, atol=1e-9)
    np.testing.assert_allclose(local.B, B, atol=1e-9)
    predicted = local.A[0] @ x + local.B[0] @ u + local.c[0]
    np.testing.assert_allclose(predicted, model.prior.model.step(x[None], u[None])[0], atol=1e-9)
    np.testing.assert_allclose(local.covariance[0], next_state_noise(model.prior.model, x[None], u[None])[0])


def test_a_robot_that_has_changed_is_taken_up():
    """Half the gain, twice the friction: within 40 transitions the matrices are near the new ones."""
    start, z = online(), (np.zeros(2), np.zeros(1))
    moved = after(start, transitions(40, gain=0.5, friction=1.0, seed=5))
    A, B = matrices(0.5, 1.0)
    for name, true in (("A", A), ("B", B)):
        before, now = (np.abs(getattr(m.at(*z), name)[0] - true).max() for m in (start, moved))
        assert now < 0.4 * before


def test_a_push_that_has_come_is_taken_up_in_the_constant_term():
    moved = after(online(strength=0.5), transitions(60, push=0.3, seed=5))
    np.testing.assert_allclose(moved.at(np.zeros(2), np.zeros(1)).c[0], [0.3, 0.015], atol=0.06)
    np.testing.assert_allclose(moved.at(np.array([1.0, 2.0]), np.ones(1)).c[0], [0.3, 0.015], atol=0.06)


def test_forgetting_takes_up_a_second_change_and_remembering_does_not():
    B = matrices(1.5)[1]
    off = []
    for kept in (0.9, 1.0):
        model = after(online(kept), transitions(200, gain=0.5, seed=6))
        model = after(model, transitions(40, gain=1.5, seed=7))
        off.append(np.abs(model.at(np.zeros(2), np.zeros(1)).B[0] - B).max())
    assert off[0] < 0.4 * off[1]


def test_strength_is_how_slowly_the_global_model_is_given_up():
    data, z = transitions(20, gain=0.5, seed=8), (np.zeros(2), np.zeros(1))
    off = [np.abs(after(online(strength=s), data).at(*z).B[0] - matrices(0.5)[1]).max() for s in (1.0, 100.0)]
    assert off[0] < 0.3 * off[1]


def test_fading_moments_are_weighted_batches():
    data, kept = transitions(30, gain=0.7, seed=9), 0.9
    model = after(online(kept), data)
    z = np.column_stack([data.x, data.u, np.ones(30)])
    y = data.x_next - model.prior.model.step(data.x, data.u)
    weights = kept ** np.arange(29, -1, -1.0)
    np.testing.assert_allclose(model.moments.zz, (z.T * weights) @ z, rtol=1e-10)
    np.testing.assert_allclose(model.moments.zy, (z.T * weights) @ y, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.moments.yy, (y.T * weights) @ y, rtol=1e-8, atol=1e-12)
    assert model.moments.count == pytest.approx(weights.sum())


def test_a_transition_that_is_not_finite_is_refused():
    with pytest.raises(FitError, match="not finite"):
        online().observed(np.array([np.nan, 0.0]), np.zeros(1), np.zeros(2))
