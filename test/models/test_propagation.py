"""Trajectory sampling, moment matching and the mean, on systems whose moments are known."""

import numpy as np
import pytest

from mbrl_ros.errors import UnknownNameError
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.propagation import PROPAGATIONS, matched, schedule, standard_points

SCALAR = StateLayout(("s",), ("u",), (), {}, 1.0)
SWING = StateLayout(("angle", "rate"), ("torque",), ("angle",), {"angle": "rate"}, 0.1)
GAIN, NOISE = 0.3, 0.2  # posterior spread of the unknown gain, and the noise, of the linear system


class Linear(LearnedModel):
    """s' = s + k_e + noise: member e is one draw of the unknown drift k ~ N(0, GAIN^2)."""

    @property
    def members(self):
        return len(self.arrays["drift"])

    def predict_member(self, member, x, u):
        return np.full((len(x), 1), self.arrays["drift"][member]), np.full((len(x), 1), NOISE)


class Swing(LearnedModel):
    """A pendulum with another strength of gravity for every member."""

    @property
    def members(self):
        return len(self.arrays["gravity"])

    def predict_member(self, member, x, u):
        rate = self.layout.dt * (self.arrays["gravity"][member] * np.sin(x[:, :1]) + u)
        return rate, np.full_like(rate, 0.05)


@pytest.fixture(scope="module")
def linear():
    drift = np.random.default_rng(0).standard_normal(500)
    return Linear(SCALAR, {"drift": GAIN * (drift - drift.mean()) / drift.std()})


def variances(model, propagation, horizon, particles, noise):
    rng = np.random.default_rng(1) if noise else None
    states = model.with_propagation(propagation).rollout(np.zeros(1), np.zeros((1, horizon, 1)), rng, particles)
    assert states.shape == (particles, 1, horizon + 1, 1)
    return states[:, 0, :, 0].astype(float).var(axis=0)


@pytest.mark.parametrize("noise", [False, True])
def test_ts_inf_spreads_with_the_square_of_time_and_ts1_with_time(linear, noise):
    """A drift that is unknown but fixed: h^2 GAIN^2; drawn anew every step: h GAIN^2; noise adds h NOISE^2."""
    h = np.arange(9)
    aleatoric = h * NOISE**2 if noise else 0.0 * h
    # 20000 particles: the standard error of a variance is 1 %
    np.testing.assert_allclose(variances(linear, "ts_inf", 8, 20_000, noise), h**2 * GAIN**2 + aleatoric, rtol=0.05)
    np.testing.assert_allclose(variances(linear, "ts1", 8, 20_000, noise), h * GAIN**2 + aleatoric, rtol=0.05)


def test_moment_matching_of_a_linear_system_is_ts1(linear):
    h = np.arange(9)
    expected = h * (GAIN**2 + NOISE**2)
    np.testing.assert_allclose(variances(linear, "moment_matching", 8, 20_000, True), expected, rtol=0.05)


def test_the_mean_has_no_spread_and_follows_step(linear):
    assert variances(linear, "mean", 5, 7, True).max() == 0.0
    swing = Swing(SWING, {"gravity": np.array([4.0, 6.0])}, propagation="mean")
    x0, actions = np.array([0.4, -0.2]), np.random.default_rng(2).normal(size=(3, 6, 1))
    states = swing.rollout(x0, actions, None, 2)
    x = np.tile(x0, (3, 1))
    for t in range(6):
        x = swing.step(x, actions[:, t])
        np.testing.assert_allclose(states[1, :, t + 1], x, atol=1e-6)
    exact = SWING.integrate(np.tile(x0, (3, 1)), 0.1 * (5.0 * np.sin(x0[:1]) + actions[:, 0]))
    np.testing.assert_allclose(states[0, :, 1], exact, atol=1e-6)


def test_moment_matching_against_a_million_monte_carlo_samples():
    """Two steps of the pendulum, the Gaussian in between drawn from instead of matched by points."""
    swing = Swing(SWING, {"gravity": np.array([3.0, 9.0])}, propagation="moment_matching")
    x0, actions = np.array([0.7, 0.5]), np.array([[[0.3], [-0.8]]])
    states = swing.rollout(x0, actions, np.random.default_rng(3), 4000)[:, 0].astype(float)
    rng, count = np.random.default_rng(4), 1_000_000
    x = np.tile(x0, (count, 1))
    for t in range(2):
        gravity = rng.choice([3.0, 9.0], count)[:, None]
        change = 0.1 * (gravity * np.sin(x[:, :1]) + actions[0, t]) + 0.05 * rng.standard_normal((count, 1))
        x = SWING.integrate(x, change)
        cov = np.cov(x.T)
        # 4000 points: standard error of a mean 1.6 % of the spread, of a variance 2.2 %
        np.testing.assert_allclose(
            states[:, t + 1].mean(axis=0), x.mean(axis=0), atol=0.08 * np.sqrt(np.diag(cov)).max()
        )
        np.testing.assert_allclose(np.cov(states[:, t + 1].T), cov, rtol=0.12)
        x = rng.multivariate_normal(x.mean(axis=0), cov, count)


def test_candidates_do_not_depend_on_each_other():
    swing = Swing(SWING, {"gravity": np.array([3.0, 9.0])})
    actions = np.random.default_rng(5).normal(size=(4, 5, 1))
    for name in PROPAGATIONS:
        model = swing.with_propagation(name)
        together = model.rollout(np.array([0.5, 0.0]), actions, None, 6)
        alone = model.rollout(np.array([0.5, 0.0]), actions[2:3], None, 6)
        np.testing.assert_allclose(together[:, 2], alone[:, 0], atol=1e-6, err_msg=name)


def test_a_schedule_deals_every_member_equally_at_every_step():
    for rng in (None, np.random.default_rng(6)):
        dealt = schedule(3, 12, 40, rng)
        for t in range(40):
            np.testing.assert_array_equal(np.bincount(dealt[:, t], minlength=3), [4, 4, 4])
        assert (dealt != dealt[:, :1]).any(axis=1).all()  # nobody keeps a member for 40 steps
    few = schedule(10, 2, 200, None)
    assert set(few.ravel()) == set(range(10))


def test_matched_particles_have_the_moments_and_bad_ones_stay_bad():
    particles = np.random.default_rng(7).normal(size=(50, 2, 3)) @ np.diag([1.0, 2.0, 0.1])
    new = matched(particles, standard_points(9, 3))
    for n in range(2):
        np.testing.assert_allclose(new[:, n].mean(axis=0), particles[:, n].mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(np.cov(new[:, n].T, bias=True), np.cov(particles[:, n].T, bias=True), atol=1e-6)
    particles[3, 1, 0] = np.nan
    bad = matched(particles, standard_points(9, 3))
    assert np.isfinite(bad[:, 0]).all() and np.isnan(bad[:, 1, 0]).all()


def test_calibration_widens_around_the_mean(linear):
    actions = np.zeros((2, 3, 1))
    plain = linear.rollout(np.zeros(1), actions, None, 40)
    wide = linear.with_arrays(horizon_scale=np.array([[2.0], [3.0]])).rollout(np.zeros(1), actions, None, 40)
    np.testing.assert_allclose(wide.mean(axis=0), plain.mean(axis=0), atol=1e-6)
    ratio = wide.std(axis=0)[0, 1:, 0] / plain.std(axis=0)[0, 1:, 0]
    np.testing.assert_allclose(ratio, [2.0, 3.0, 3.0], rtol=1e-4)


def test_unknown_propagation_lists_the_known(linear):
    with pytest.raises(UnknownNameError, match="ts_inf"):
        linear.with_propagation("ts2")
