"""Multiple shooting against scipy's least squares on all unknowns at once, and against its own Monte Carlo spread."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, least_squares

from mbrl_ros.models import multiple_shooting as shooting
from mbrl_ros.types import Transitions

H = 0.1


class Spring:
    """q'' = -exp(z0) q - exp(z1) v + u, by one exact matrix-free step of the midpoint rule; nonlinear in z."""

    z0 = np.zeros(2)
    prior_std = 5.0

    def step(self, x, u, z):
        k, d = np.exp(z)
        q, v = x[:, 0], x[:, 1]
        v_half = v + 0.5 * H * (-k * q - d * v + u[:, 0])
        q_half = q + 0.5 * H * v
        return np.stack([q + H * v_half, v + H * (-k * q_half - d * v_half + u[:, 0])], axis=1)

    def linearize(self, x, u, z):
        h = 1e-6
        by_x = [(self.step(x + h * e, u, z) - self.step(x - h * e, u, z)) / (2 * h) for e in np.eye(2)]
        by_z = [(self.step(x, u, z + h * e) - self.step(x, u, z - h * e)) / (2 * h) for e in np.eye(2)]
        return np.stack(by_x, axis=2), np.stack(by_z, axis=2)


TRUE = np.log([4.0, 0.5])


def recorded(seed, steps=60, trials=2, std=0.02):
    rng, rows = np.random.default_rng(seed), []
    for trial in range(trials):
        x = rng.normal(size=(1, 2))
        measured = x[0] + std * rng.normal(size=2)
        for _ in range(steps):
            u = rng.normal(size=(1, 1))
            x = Spring().step(x, u, TRUE)
            rows.append((measured, u[0], measured := x[0] + std * rng.normal(size=2), trial))
    return Transitions(*(np.array(c) for c in zip(*rows, strict=True)))


def found(data, length=15, cutoff=3.3, rounds=3):
    w = shooting.windows(data, length)
    return w, shooting.estimate(Spring(), w, np.zeros(2), cutoff, 50, rounds)


def test_windows_hold_every_measurement_once():
    data = recorded(0, steps=23, trials=3)
    w = shooting.windows(data, 7)
    assert w.there.sum() == 3 * 24 and w.u.shape[1] <= 8
    first = np.concatenate([data.x[:23], data.x_next[22:23]])
    np.testing.assert_array_equal(w.y[:3][w.there[:3]], first)
    broken = Transitions(data.x.copy(), data.u, data.x_next, data.trajectory)
    broken.x[10] += 1.0  # no longer what row 9 led to
    assert shooting.windows(broken, 7).there.sum() == 3 * 24 + 1


def test_at_most_so_many_transitions_are_used_from_all_over_the_data():
    w = shooting.windows(recorded(0), 10)
    some = shooting.spread_over(w, 40)
    assert len(some) == 40 // w.u.shape[1] < len(w)
    np.testing.assert_array_equal(some.y[[0, -1]], w.y[[0, -1]])


def test_sensitivities_are_the_derivatives_of_the_prediction():
    w = shooting.windows(recorded(1), 6)[:2]
    x = shooting.predict(Spring(), w, TRUE, w.y[:, 0])
    S = shooting.sensitivities(Spring(), w, TRUE, x)

    def flat(unknown):
        return shooting.predict(Spring(), w, unknown[2:], np.stack([unknown[:2], w.y[1, 0]]))[0].ravel()

    expected = approx_fprime(np.concatenate([w.y[0, 0], TRUE]), flat, 1e-7)
    np.testing.assert_allclose(S[0].reshape(-1, 4), expected, atol=1e-5)


def test_the_minimum_and_its_covariance_are_those_of_scipy():
    data, system = recorded(2), Spring()
    w = shooting.windows(data, 15)
    scale = np.array([0.02, 0.03])
    search = shooting.Search(system, w, scale, np.inf)
    z, starts, _, _ = search.minimise(np.zeros(2), w.y[:, 0], 100)
    covariance, leverage = search.posterior(z, starts)

    def residuals(unknown):
        x = shooting.predict(system, w, unknown[:2], unknown[2:].reshape(-1, 2))
        return np.concatenate([((w.y - x) / scale)[w.there].ravel(), (unknown[:2] - system.z0) / system.prior_std])

    expected = least_squares(residuals, np.concatenate([np.zeros(2), w.y[:, 0].ravel()]), xtol=1e-12, ftol=1e-12)
    np.testing.assert_allclose(z, expected.x[:2], atol=1e-4)
    J = expected.jac
    np.testing.assert_allclose(covariance, np.linalg.inv(J.T @ J)[:2, :2], rtol=1e-3)
    hat = np.diag(J @ np.linalg.solve(J.T @ J, J.T))[:-2]
    np.testing.assert_allclose(leverage[w.there].ravel(), hat, atol=1e-3)


class Line:
    """q' = q + z0 + z1 u, so that the objective is a quadratic."""

    z0 = np.zeros(2)
    prior_std = 2.0

    def step(self, x, u, z):
        return x + z[0] + z[1] * u

    def linearize(self, x, u, z):
        return np.ones((len(x), 1, 1)), np.stack([np.ones_like(u), u], axis=2)


def test_the_expected_decrease_of_a_quadratic_is_its_decrease():
    rng = np.random.default_rng(0)
    w = shooting.Windows(rng.normal(size=(3, 6, 1)), rng.normal(size=(3, 5, 1)), np.ones((3, 6), bool))
    search = shooting.Search(Line(), w, np.array([0.3]), np.inf)
    z, starts = np.array([0.4, -1.0]), w.y[:, 0]
    r, x = search.residuals(z, starts)
    _, H, g, prior = search.normal_equations(z, r, x)
    for damping in (1e-12, 0.5):
        dz, ds = search.eliminated(H, g, prior, damping)
        after = search.objective(z + dz, search.residuals(z + dz, starts + ds)[0])
        assert search.expected(H, g, prior, dz, ds) == pytest.approx(search.objective(z, r) - after, rel=1e-9)


def test_a_looser_tolerance_ends_a_search_earlier():
    w = shooting.windows(recorded(2), 15)
    search = shooting.Search(Spring(), w, np.array([0.02, 0.03]), 3.3)
    _, _, rough, few = search.minimise(np.zeros(2), w.y[:, 0], 50, 0.1)
    _, _, best, many = search.minimise(np.zeros(2), w.y[:, 0], 50)
    assert few < many and best < rough < 2.0 * best


def test_standard_errors_are_the_spread_over_many_data_sets():
    runs = [found(recorded(seed))[1] for seed in range(60)]
    z = np.array([r.z for r in runs])
    std = np.sqrt(np.mean([np.diag(r.covariance) for r in runs], axis=0))
    np.testing.assert_allclose(z.std(axis=0), std, rtol=0.25)  # a deviation of 60 draws is known to 9 %
    assert np.all(np.abs(z.mean(axis=0) - TRUE) < 3.5 * std / np.sqrt(60)), "unbiased"
    np.testing.assert_allclose(np.mean([r.scale for r in runs], axis=0), 0.02, rtol=0.03)


def test_one_step_regression_is_biased_where_windows_are_not():
    data = recorded(3, steps=400, trials=4, std=0.1)
    _, windowed = found(data)
    features = np.column_stack([-data.x[:, 0], -data.x[:, 1]])  # v' - v - h u = h (-k q - d v)
    change = data.x_next[:, 1] - data.x[:, 1] - H * data.u[:, 0]
    regressed = np.linalg.lstsq(features * H, change, rcond=None)[0]
    assert np.all(np.abs(windowed.z - TRUE) < 3 * np.sqrt(np.diag(windowed.covariance)))
    assert regressed[0] < 3.7 and regressed[1] > 0.8  # of 4 and 0.5: noise in the inputs feigns friction


def test_wild_values_are_borne():
    data = recorded(4)
    measured = data.x.copy()
    rng = np.random.default_rng(5)
    wild = rng.choice(np.arange(1, 119), 6, replace=False)
    wild = wild[wild != 60]
    x, x_next = measured, data.x_next.copy()
    jump = rng.choice([-5.0, 5.0], (len(wild), 2))
    x[wild] += jump
    x_next[wild - 1] += jump
    dirty = Transitions(x, data.u, x_next, data.trajectory)
    clean, robust, plain = found(data)[1], found(dirty)[1], found(dirty, cutoff=1e9)[1]
    std = np.sqrt(np.diag(clean.covariance))
    assert np.all(np.abs(robust.z - clean.z) < 3 * std)
    assert abs(plain.z[0] - clean.z[0]) > 20 * std[0]


def test_loss_is_smooth_and_its_weight_is_its_slope():
    r = np.array([-7.0, -3.301, -3.299, -1.0, 0.5, 3.299, 3.301, 50.0])
    h = 1e-6
    slope = (shooting.loss(r + h, 3.3)[0] - shooting.loss(r - h, 3.3)[0]) / (2 * h)
    np.testing.assert_allclose(slope, shooting.loss(r, 3.3)[1] * r, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 5, 40])
def test_window_length_of_one_to_whole_trials(length):
    _, result = found(recorded(6), length)
    assert np.all(np.abs(result.z - TRUE) < 4 * np.sqrt(np.diag(result.covariance)))


def test_what_the_data_do_not_tell_keeps_the_priors_deviation():
    data = recorded(7, trials=1)
    still = Transitions(data.x * 0, data.u * 0, data.x_next * 0, data.trajectory)  # at rest, nothing moves
    _, result = found(still)
    np.testing.assert_allclose(np.sqrt(np.diag(result.covariance)), 5.0, rtol=1e-6)
    np.testing.assert_allclose(result.z, 0.0, atol=1e-9)
