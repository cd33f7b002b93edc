"""The joint filter against a dense matrix Kalman filter, Riccati's steady state and simulated motion."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation.joint_filter import FilterConfig, JointFilter
from mbrl_ros.robots.cartpole_equations import derivative

DT = 0.05
OPEN_GATE = 1 - 1e-12
NAN = math.nan


def van_loan(q: float, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Discretisation by one matrix exponential (Van Loan 1978), independent of the closed form."""
    A, noise = np.array([[0.0, 1.0], [0.0, 0.0]]), np.diag([0.0, q])
    M = scipy.linalg.expm(np.block([[-A, noise], [np.zeros((2, 2)), A.T]]) * dt)
    F = M[2:, 2:].T
    return F, F @ M[:2, 2:]


class DenseFilter:
    """One joint, textbook matrices, rows of absent measurements deleted."""

    def __init__(self, q, r, z0, velocity_std):
        std = [r[0], r[1] if np.isfinite(z0[1]) else velocity_std]
        self.q, self.r, self.m, self.P = q, np.array(r), np.nan_to_num(z0), np.diag(np.square(std))

    def step(self, dt, z) -> None:
        """Let `dt` s pass and use the measured entries of z (2,)."""
        F, Q = van_loan(self.q, dt)
        self.m, self.P = F @ self.m, F @ self.P @ F.T + Q
        rows = np.isfinite(z)
        if not rows.any():
            return
        H, R = np.eye(2)[rows], np.diag(self.r[rows] ** 2)
        S_inv = np.linalg.inv(H @ self.P @ H.T + R)
        y = z[rows] - H @ self.m
        K = self.P @ H.T @ S_inv
        self.m, self.P = self.m + K @ y, (np.eye(2) - K @ H) @ self.P


def test_equals_dense_filters_with_irregular_stamps_and_missing_entries():
    """Three joints of different noise; tolerance 1e-9 relative."""
    rng = np.random.default_rng(0)
    config = FilterConfig(acceleration_density=7.0, gate=OPEN_GATE, max_gap=10.0, initial_velocity_std=3.0)
    r = np.array([[0.1, 0.3], [0.02, 0.5], [0.5, 0.05]])
    joints = JointFilter(config, 3, r[:, 0], r[:, 1])
    z = rng.standard_normal((3, 2))
    z[1, 1] = NAN
    stamp, state = 5.0, joints.update(5.0, z[:, 0], z[:, 1])
    dense = [DenseFilter(7.0, r[i], z[i], 3.0) for i in range(3)]
    for _ in range(80):
        dt = rng.uniform(0.001, 0.2)
        stamp += dt
        z = np.stack([state.position, state.velocity], axis=1) + rng.standard_normal((3, 2)) * r
        z[rng.random((3, 2)) < 0.25] = NAN
        state = joints.update(stamp, z[:, 0], z[:, 1])
        for i in range(3):
            dense[i].step(dt, z[i])
            np.testing.assert_allclose([state.position[i], state.velocity[i]], dense[i].m, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(state.covariance[i], dense[i].P, rtol=1e-8, atol=1e-12)


def batch_estimate(q, r, stamps, z, velocity_std):
    """Last state and its covariance by weighted least squares over the whole trajectory at once."""
    n, rows, right = len(stamps), [], []

    def add(columns, whitener, value):
        row = np.zeros((len(whitener), 2 * n))
        for k, block in columns.items():
            row[:, 2 * k : 2 * k + 2] = whitener @ block
        rows.append(row)
        right.append(whitener @ value)

    if not np.isfinite(z[0, 1]):
        add({0: np.array([[0.0, 1.0]])}, np.eye(1) / velocity_std, np.zeros(1))
    for k in range(n):
        for i in np.flatnonzero(np.isfinite(z[k])):
            add({k: np.eye(2)[[i]]}, np.eye(1) / r[i], z[k, [i]])
        if k:
            F, Q = van_loan(q, stamps[k] - stamps[k - 1])
            add({k: np.eye(2), k - 1: -F}, np.linalg.inv(np.linalg.cholesky(Q)), np.zeros(2))
    A = np.vstack(rows)
    x = np.linalg.lstsq(A, np.concatenate(right), rcond=None)[0]
    return x[-2:], np.linalg.inv(A.T @ A)[-2:, -2:]


@pytest.mark.parametrize("share_of_velocities", [0.0, 0.5, 1.0])
def test_equals_weighted_least_squares_over_the_whole_trajectory(share_of_velocities):
    rng, q, r = np.random.default_rng(7), 3.0, np.array([0.1, 0.4])
    stamps = np.cumsum(rng.uniform(0.02, 0.1, 20))
    z = np.cumsum(rng.normal(0, 0.1, (20, 2)), axis=0)
    z[rng.random(20) >= share_of_velocities, 1] = NAN
    z[5:8, 0] = NAN
    config = FilterConfig(acceleration_density=q, gate=OPEN_GATE, max_gap=10.0, initial_velocity_std=3.0)
    joint = JointFilter(config, 1, *r)
    for stamp, (position, velocity) in zip(stamps, z, strict=True):
        state = joint.update(stamp, np.array([position]), np.array([velocity]))
    mean, covariance = batch_estimate(q, r, stamps, z, 3.0)
    np.testing.assert_allclose([state.position[0], state.velocity[0]], mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(state.covariance[0], covariance, rtol=1e-6)


@pytest.mark.parametrize("with_velocity", [True, False])
def test_steady_state_is_that_of_the_riccati_equation(with_velocity):
    q, r = 5.0, np.array([0.02, 0.1])
    joint = JointFilter(FilterConfig(acceleration_density=q), 1, *r)
    for k in range(400):
        state = joint.update(k * DT, np.zeros(1), np.zeros(1) if with_velocity else None)
    F, Q = van_loan(q, DT)
    H = np.eye(2) if with_velocity else np.array([[1.0, 0.0]])
    R = np.diag(r**2) if with_velocity else np.array([[r[0] ** 2]])
    P = scipy.linalg.solve_discrete_are(F.T, H.T, Q, R)  # before the measurement
    P = P - P @ H.T @ np.linalg.inv(H @ P @ H.T + R) @ H @ P
    np.testing.assert_allclose(state.covariance[0], P, rtol=1e-8)


def test_it_is_consistent_when_its_assumptions_hold():
    """Normalised squared errors of a simulated joint average to two degrees of freedom, within 5 %."""
    rng, q, r = np.random.default_rng(1), 4.0, np.array([0.05, 0.2])
    n, (F, Q) = 400, van_loan(4.0, DT)
    L = np.linalg.cholesky(Q)
    joints = JointFilter(FilterConfig(acceleration_density=q, gate=OPEN_GATE), n, *r)
    truth, errors = rng.standard_normal((n, 2)), []
    for k in range(60):
        z = truth + r * rng.standard_normal((n, 2))
        state = joints.update(k * DT, z[:, 0], z[:, 1])
        error = truth - np.stack([state.position, state.velocity], axis=1)
        errors.append(np.einsum("ni,nij,nj->n", error, np.linalg.inv(state.covariance), error))
        truth = truth @ F.T + rng.standard_normal((n, 2)) @ L.T
    assert abs(np.mean(errors) - 2.0) < 0.1


def cartpole_motion(seed: int, periods: int = 120) -> np.ndarray:
    """States (T, 4) of the closed-form cart-pole under full force that changes sign at random."""
    rng, x, states = np.random.default_rng(seed), np.array([0.0, np.pi, 0.0, 0.0]), []
    for t in range(periods):
        if t % 6 == 0:
            force = rng.choice([-10.0, 10.0]) if abs(x[0]) < 2 else -10.0 * np.sign(x[0])
        solution = scipy.integrate.solve_ivp(lambda _, s, u=force: derivative(s, (u,)), (0, DT), x, rtol=1e-8)
        states.append(x := solution.y[:, -1])
    return np.array(states)


def errors_on_cartpole(config: FilterConfig) -> tuple[np.ndarray, np.ndarray, int]:
    """RMSE (4,) of estimates and of raw measurements over three motions, and how often something was left out."""
    estimates, raw, unusual = [], [], 0
    for seed in range(3):
        states, rng = cartpole_motion(seed), np.random.default_rng(100 + seed)
        joints = JointFilter(config, 2, 0.01, 0.01)
        for t, x in enumerate(states):
            z = x + 0.01 * rng.standard_normal(4)
            state = joints.update(t * DT, z[:2], z[2:])
            if t > 5:
                unusual += state.reason != ""
                estimates.append(np.concatenate([state.position, state.velocity]) - x)
                raw.append(z - x)
    return np.sqrt(np.mean(np.square(estimates), 0)), np.sqrt(np.mean(np.square(raw), 0)), unusual


def test_default_follows_a_violent_cartpole_better_than_its_sensors():
    """Pole accelerations beyond 80 rad/s^2 at 20 Hz: no honest measurement is left out; 0.5 % for rounding of luck."""
    estimate, raw, unusual = errors_on_cartpole(FilterConfig())
    assert unusual == 0
    assert np.all(estimate <= 1.005 * raw), (estimate, raw)
    assert estimate[1] < 0.98 * raw[1], "the pole's angle gains from its rate"


def test_density_decides_between_lag_and_noise():
    sluggish, raw, left_out = errors_on_cartpole(FilterConfig(acceleration_density=10.0))
    assert left_out > 10 and sluggish[3] > 10 * raw[3], "a pole that may not accelerate is not followed"
    calm = [JointFilter(FilterConfig(acceleration_density=q), 1, 0.01, 0.01) for q in (0.001, 300.0)]
    rng, spread = np.random.default_rng(0), []
    for joint in calm:
        spread.append(np.std([joint.update(k * DT, 0.01 * rng.standard_normal(1), None).position for k in range(300)]))
    assert spread[0] < 0.5 * spread[1], "a robot at rest is better filtered harder"


def test_velocity_from_positions_alone_on_a_swing():
    """Swing of 1 rad at 0.5 Hz, sampled at 100 Hz with 1 mrad noise, against differencing (0.148 rad/s)."""
    rng, dt, w = np.random.default_rng(2), 0.01, math.pi
    joint = JointFilter(FilterConfig(acceleration_density=2.0), 1, 0.001, 1.0)
    errors, differences, last = [], [], NAN
    for k in range(500):
        z = math.sin(w * k * dt) + 0.001 * rng.standard_normal()
        state = joint.update(k * dt, np.array([z]), None)
        if k > 10:
            errors.append(state.velocity[0] - w * math.cos(w * k * dt))
            differences.append((z - last) / dt - w * math.cos(w * k * dt))
        last = z
    assert np.sqrt(np.mean(np.square(errors))) < 0.75 * np.sqrt(np.mean(np.square(differences)))
    assert abs(np.mean(errors)) < 0.02


def settled(**config) -> JointFilter:
    """Two joints that have been measured at rest for a second; the last stamp is 0.95 s."""
    joints = JointFilter(FilterConfig(acceleration_density=1.0, **config), 2, 0.01, 0.01)
    for k in range(20):
        assert joints.update(k * DT, np.zeros(2), np.zeros(2)).valid
    return joints


def test_an_outlier_of_one_joint_is_left_out_and_said():
    state = settled().update(1.0, np.array([0.0, 5.0]), np.zeros(2))
    assert state.valid and state.reason == "outlier left out: joint [1]"
    np.testing.assert_allclose(state.position, 0.0, atol=1e-12)
    assert state.covariance[1, 0, 0] > 2 * state.covariance[0, 0, 0], "the covariance of what was not measured grows"


@pytest.mark.parametrize("degrees", [1, 2])
@pytest.mark.parametrize("gate", [0.9, 0.9999])
def test_gate_is_the_chi_square_quantile(degrees, gate):
    """Innovations just inside and just outside the ellipsoid of scipy's quantile."""
    for factor, outlier in ((0.999, False), (1.001, True)):
        joints = settled(gate=gate)
        P = joints.update(0.951, np.full(2, NAN), None).covariance[0]
        F, Q = van_loan(1.0, 0.01)
        S = F @ P @ F.T + Q + 1e-4 * np.eye(2)
        distance = math.sqrt(factor * scipy.stats.chi2.ppf(gate, degrees))
        if degrees == 1:
            z = np.array([distance * math.sqrt(S[0, 0]), NAN])
        else:
            z = np.linalg.cholesky(S) @ (distance * np.array([0.6, -0.8]))
        state = joints.update(0.961, np.array([z[0], 0.0]), np.array([z[1], 0.0]))
        assert ("outlier" in state.reason) == outlier


@pytest.mark.parametrize("count", [1, 2, 4])
def test_outliers_in_a_row_are_believed_in_the_end(count):
    joints = settled(rejections_to_restart=count, max_gap=10.0)
    for k in range(count):
        state = joints.update(1.0 + k * DT, np.array([0.0, 5.0]), np.zeros(2))
        assert ("started afresh: joint [1]" in state.reason) == (k == count - 1)
    np.testing.assert_allclose(state.position, [0.0, 5.0], atol=1e-12)
    assert state.valid and joints.update(2.0, np.array([0.0, 5.0]), np.zeros(2)).reason == ""


def test_a_joint_that_started_afresh_counts_its_outliers_anew():
    joints = settled(rejections_to_restart=2, max_gap=10.0)
    found = [joints.update(1.0 + k * DT, np.array([0.0, z]), np.zeros(2)) for k, z in enumerate((5.0, 5.0, -5.0))]
    assert [state.reason.split(":")[0] for state in found] == ["outlier left out", "started afresh", "outlier left out"]
    np.testing.assert_allclose(found[-1].position, [0.0, 5.0], atol=1e-12)


def test_a_good_measurement_between_outliers_breaks_the_row():
    joints = settled(rejections_to_restart=2)
    for k in range(10):
        state = joints.update(1.0 + k * DT, np.array([0.0, 5.0 * (k % 2)]), np.zeros(2))
        assert "afresh" not in state.reason


@pytest.mark.parametrize("max_gap", [0.1, 0.5])
def test_a_gap_starts_afresh(max_gap):
    jump = (np.array([3.0, 0.0]), np.zeros(2))
    assert "outlier" in settled(max_gap=max_gap).update(0.95 + 0.9 * max_gap, *jump).reason
    state = settled(max_gap=max_gap).update(0.95 + 1.1 * max_gap, *jump)
    assert state.valid and state.reason == "started afresh: joint [0, 1]"
    np.testing.assert_array_equal(state.position, jump[0])


def test_silence_of_a_joint_is_bridged_and_then_invalid():
    joints = settled(max_gap=0.12)
    for stamp, valid in ((1.0, True), (1.05, True), (1.1, False), (1.15, False)):
        state = joints.update(stamp, np.array([0.0, NAN]), np.array([0.0, NAN]))
        assert state.valid == valid and "joint [1]" in state.reason and np.all(np.isfinite(state.position))
    state = joints.update(1.2, np.array([0.0, 2.0]), np.zeros(2))
    assert state.valid and state.position[1] == 2.0


def test_nothing_is_valid_before_every_joint_was_measured():
    joints = JointFilter(FilterConfig(), 2, 0.01, 0.01)
    assert not joints.update(0.0, np.array([1.0, NAN]), np.array([0.0, NAN])).valid
    state = joints.update(0.05, np.array([1.0, NAN]), np.array([0.0, 3.0]))
    assert not state.valid and "joint [1]" in state.reason, "a velocity alone says nothing of the position"
    assert joints.update(0.10, np.array([1.0, 2.0]), np.zeros(2)).valid


def test_velocity_needs_two_positions():
    joint = JointFilter(FilterConfig(), 1, 0.01, 0.01)
    first = joint.update(0.0, np.array([1.0]), None)
    assert not first.valid and "velocity not known" in first.reason
    second = joint.update(DT, np.array([1.1]), None)
    assert second.valid
    np.testing.assert_allclose(second.velocity, 2.0, rtol=0.1)


def test_initial_velocity_std_weighs_the_first_difference():
    velocities = []
    for std in (0.01, 10.0):
        joint = JointFilter(FilterConfig(initial_velocity_std=std, acceleration_density=1e-3), 1, 0.01, 0.01)
        joint.update(0.0, np.array([0.0]), None)
        velocities.append(joint.update(DT, np.array([0.02]), None).velocity[0])
    assert velocities[0] < 0.01 and velocities[1] > 0.3


@pytest.mark.parametrize("stamp, word", [(19 * DT, "equal"), (0.93, "before"), (NAN, "nan"), (math.inf, "inf")])
def test_bad_stamps_are_refused_and_change_nothing(stamp, word):
    joints, untouched = settled(), settled()
    state = joints.update(stamp, np.full(2, 9.0), np.zeros(2))
    assert not state.valid and word in state.reason
    after, expected = (j.update(1.0, np.full(2, 0.01), np.zeros(2)) for j in (joints, untouched))
    np.testing.assert_array_equal(after.position, expected.position)
    assert after.valid


def test_a_clock_set_back_starts_afresh():
    state = settled().update(0.1, np.full(2, 9.0), np.zeros(2))
    assert state.valid and state.reason == "started afresh: joint [0, 1]"
    np.testing.assert_array_equal(state.position, 9.0)


def test_absurd_numbers_are_outliers_and_infinities_are_missing():
    state = settled().update(1.0, np.array([1e300, math.inf]), np.array([-1e300, 0.0]))
    assert "outlier left out: joint [0]" in state.reason
    assert np.all(np.isfinite(state.position)) and np.all(np.isfinite(state.covariance))


def test_noise_levels_weigh_the_measurements():
    results = []
    for noise in ((0.01, 0.01), (1.0, 0.01), (0.01, 1.0)):
        joints = JointFilter(FilterConfig(), 1, *noise)
        joints.update(0.0, np.zeros(1), np.zeros(1))
        state = joints.update(DT, np.array([0.05]), np.array([0.5]))
        results.append((state.position[0], state.velocity[0]))
    assert results[1][0] < 0.9 * results[0][0] and results[2][1] != pytest.approx(results[0][1], rel=0.01)


def test_results_do_not_change_afterwards():
    joints = settled()
    state = joints.update(1.0, np.zeros(2), np.zeros(2))
    kept = state.position.copy(), state.covariance.copy()
    joints.update(0.1, np.full(2, 0.02), np.full(2, 0.1))  # the clock set back: everything is written anew
    np.testing.assert_array_equal(state.position, kept[0])
    np.testing.assert_array_equal(state.covariance, kept[1])


@pytest.mark.parametrize("noise", [-0.1, NAN, math.inf])
def test_bad_noise_is_refused(noise):
    with pytest.raises(ConfigError, match="noise"):
        JointFilter(FilterConfig(), 1, noise, 0.01)


def test_an_estimate_without_its_measurement_says_that_it_is_bridged():
    filter_ = JointFilter(FilterConfig(), 1, 0.01, 0.01)
    measured = filter_.update(0.0, np.array([0.0]), np.array([0.0]))
    silent = filter_.update(0.05, np.array([np.nan]), np.array([np.nan]))
    absurd = filter_.update(0.1, np.array([1e6]), np.array([0.0]))
    again = filter_.update(0.15, np.array([0.0]), np.array([0.0]))
    assert [r.bridged for r in (measured, silent, absurd, again)] == [False, True, True, False]
    assert all(r.valid for r in (measured, silent, absurd, again))


def test_a_prediction_is_van_loans_and_changes_nothing():
    joints, untouched = settled(max_gap=1.0), settled(max_gap=1.0)
    F, Q = van_loan(1.0, 0.3)
    now, later = joints.at(0.95), joints.at(1.25)
    np.testing.assert_allclose(later.covariance[0], F @ now.covariance[0] @ F.T + Q, rtol=1e-9)
    assert later.valid and later.bridged and later.reason == "position not measured: joint [0, 1]"
    assert not now.bridged and not joints.at(1.96).valid
    z = np.full(2, 0.01)
    np.testing.assert_array_equal(joints.update(1.0, z, z).position, untouched.update(1.0, z, z).position)


def test_velocities_alone_do_not_keep_a_position_alive():
    joints = settled(max_gap=0.12)
    results = [joints.update(1.0 + DT * k, np.array([0.0, NAN]), np.zeros(2)) for k in range(4)]
    assert [r.valid for r in results] == [True, True, False, False] and results[0].bridged
    assert "position not measured: joint [1]" in results[0].reason


def test_nothing_absurd_is_believed_however_often_it_comes():
    joints = JointFilter(FilterConfig(), 1, 0.01, 0.01)
    for k in range(10):
        assert not joints.update(DT * k, np.array([1e12]), np.zeros(1)).valid


def test_numbers_that_overflow_the_gate_do_not_pass_it():
    joint = JointFilter(FilterConfig(), 1, 0.0, 0.0)
    joint.update(0.0, np.zeros(1), np.zeros(1))
    state = joint.update(0.02, np.array([-1.0]), np.array([-1e308]))  # a sum of infinities of both signs
    assert state.reason == "outlier left out: joint [0]" and abs(state.velocity[0]) < 1.0


def test_a_perfect_sensor_measured_twice_at_one_moment():
    joint = JointFilter(FilterConfig(), 1, 0.0, 0.0)
    for _ in range(3):
        result = joint.apply(1.0, np.array([[0.5, 0.0]]))
    assert result.valid and result.position[0] == pytest.approx(0.5)
