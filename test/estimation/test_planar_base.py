"""The planar filter against finite differences, weighted least squares and a Gauss-Newton smoother."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from mbrl_ros.estimation.base import BaseEstimator
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.planar_base import NAMES, directions, jacobian, moved

OPEN = {"gate": 1 - 1e-12, "base_max_gap": 10.0, "base_max_std": 1e6}
DT = 0.05


def config(base="omni", **values):
    sources = {"odometry_topic": "odom", "pose_topic": "pose", "imu_topic": "imu"}
    return FilterConfig(base=base, **sources | values)


def pose(x, y, yaw):
    return [x, y, 0.0, 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]


def twist(vx, vy, wz):
    return [vx, vy, 0.0, 0.0, 0.0, wz]


def imu(wz):
    return [0.0, 0.0, wz, 0.0, 0.0, 9.81]


def diagonal(std):
    return np.diag(np.square(np.full(6, std)))


def estimate(base, stamp):
    base.predict(stamp)
    return dict(zip(base.names, base.state(), strict=True))


STATES = np.random.default_rng(0).normal(0, 1.0, (5, 6))


@pytest.mark.parametrize("x", STATES)
def test_the_jacobian_is_that_of_finite_differences(x):
    eps = 1e-6
    numeric = np.stack([(moved(x + eps * e, 0.3) - moved(x - eps * e, 0.3)) / (2 * eps) for e in np.eye(6)], axis=1)
    np.testing.assert_allclose(jacobian(x, 0.3), numeric, atol=1e-8)


@pytest.mark.parametrize("x", STATES)
def test_motion_is_that_of_the_differential_equation(x):
    def rate(_, s):
        c, n = math.cos(s[2]), math.sin(s[2])
        return [s[3] * c - s[4] * n, s[3] * n + s[4] * c, s[5], 0, 0, 0]

    exact = scipy.integrate.solve_ivp(rate, (0, 0.02), x, rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(moved(x, 0.02), exact, atol=2e-5)  # third order in dt


def process_noise(x, dt, q_move, q_turn):
    """Integral of exp(A s) B q B' exp(A' s) by quadrature, with the heading half-way."""
    D = directions(x, dt)

    def integrand(s):
        G = np.vstack([s * np.eye(3), np.eye(3)])
        return D @ G @ np.diag([q_move, q_move, q_turn]) @ G.T @ D.T

    s, w = np.polynomial.legendre.leggauss(4)
    return sum(0.5 * dt * wi * integrand(0.5 * dt * (si + 1)) for si, wi in zip(s, w, strict=True))


def whiten(matrix):
    return np.linalg.inv(np.linalg.cholesky(matrix))


def test_on_a_straight_line_it_is_weighted_least_squares_over_the_whole_motion():
    """Without turning all is linear: the last state equals that of one big regression, to 1e-5 of a deviation."""
    rng, cfg = np.random.default_rng(1), config(base_turn_density=1e-9, **OPEN)
    base, n = BaseEstimator(cfg), 15
    stds = {"odometry_pose": 0.1, "odometry_twist": 0.2}
    rows, right = [], []
    previous = None
    still = np.zeros(6)  # heading 0 and no turn: the linearisation is exact
    for k in range(n):
        stamp, source = DT * k, ("odometry_pose", "odometry_twist")[k % 2]
        z = rng.normal(0, stds[source], 2)
        value = pose(*z, 0.0) if k % 2 == 0 else twist(*z, 0.0)
        noise = np.diag(np.square([stds[source]] * 5 + [1e-6]))  # the heading is all but known
        assert base.measure(stamp, source, value, noise) == ""
        block = np.zeros((2, 4 * n))
        block[:, 4 * k + 2 * (k % 2) : 4 * k + 2 * (k % 2) + 2] = np.eye(2)
        rows.append(block / stds[source])
        right.append(z / stds[source])
        if k == 0:
            prior = np.zeros((2, 4 * n))
            prior[:, 2:4] = np.eye(2) / math.sqrt(1e4)  # what the filter assumes of an unknown velocity
            rows.append(prior)
            right.append(np.zeros(2))
        else:
            keep = np.array([0, 1, 3, 4])
            W = whiten(process_noise(still, DT, 1.0, 1.0)[np.ix_(keep, keep)])
            F = np.eye(4)
            F[:2, 2:] = DT * np.eye(2)
            step = np.zeros((4, 4 * n))
            step[:, 4 * k : 4 * k + 4], step[:, 4 * previous : 4 * previous + 4] = W, -W @ F
            rows.append(step)
            right.append(np.zeros(4))
        previous = k
    A, b = np.vstack(rows), np.concatenate(right)
    solution = np.linalg.lstsq(A, b, rcond=None)[0][-4:]
    spread = np.sqrt(np.diag(np.linalg.inv(A.T @ A))[-4:])
    result = estimate(base, DT * (n - 1))
    filtered = np.array([result[name] for name in ("base_x", "base_y", "base_vx", "base_vy")])
    np.testing.assert_allclose((filtered - solution) / spread, 0.0, atol=1e-5)
    covariance = base.covariance()
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)[[0, 1, 3, 4]]), spread, rtol=1e-6)


def drive(seed, n=40, noise=0.02, **values):
    """A filter that has followed an omnidirectional base on a curve, its measurements and the truth."""
    rng, base = np.random.default_rng(seed), BaseEstimator(config(**OPEN | values))
    x, log = np.array([1.0, -2.0, 0.5, 0.8, 0.1, 0.7]), []
    L = [np.linalg.cholesky(process_noise(x, DT, 1.0, 1.0) + 1e-15 * np.eye(6))]
    for k in range(n):
        if k:
            x = moved(x, DT) + directions(x, DT) @ (L[0] @ rng.standard_normal(6)) * 0.3
        source = ("pose", "odometry_twist", "imu")[k % 3]
        z = (x[:3], x[3:], x[5:])[k % 3]
        z = z + noise * rng.standard_normal(len(z))
        value = (pose, twist, imu)[k % 3](*z)
        assert base.measure(DT * k, source, value, diagonal(noise)) == ""
        log.append((source, z))
    return base, log, x


def smoother(log, noise):
    """Last state of the most likely trajectory (Gauss-Newton over all states at once)."""

    def residuals(flat):
        states = flat.reshape(-1, 6)
        parts = [states[0, 3:] / math.sqrt(1e4)]
        for k, (source, z) in enumerate(log):
            entries = {"pose": [0, 1, 2], "odometry_twist": [3, 4, 5], "imu": [5]}[source]
            parts.append((states[k, entries] - z) / noise)
            if k:
                W = whiten(process_noise(states[k - 1], DT, 1.0, 1.0))
                parts.append(W @ (states[k] - moved(states[k - 1], DT)))
        return np.concatenate(parts)

    start = np.tile([*log[0][1], 0.8, 0.1, 0.7], (len(log), 1))
    return scipy.optimize.least_squares(residuals, start.ravel(), method="trf", x_scale="jac").x.reshape(-1, 6)[-1]


@pytest.mark.parametrize("seed", [0, 1])
def test_on_a_curve_it_is_close_to_the_gauss_newton_smoother(seed):
    """The last state differs by less than a tenth of its standard deviation."""
    base, log, _ = drive(seed, n=10)
    result = estimate(base, DT * 9)
    filtered = np.array([result[name] for name in NAMES])
    spread = np.sqrt(np.diag(base.covariance()))
    np.testing.assert_allclose((filtered - smoother(log, 0.02)) / spread, 0.0, atol=0.1)


def test_it_is_consistent_with_its_covariance():
    """Normalised squared errors of 60 drives whose disturbance is that of the model average to about six."""
    errors = []
    for seed in range(60):
        base, _, x = drive(seed, n=30, base_acceleration_density=0.09, base_turn_density=0.09)
        result = estimate(base, DT * 29)
        error = np.array([result[name] for name in NAMES]) - x
        errors.append(error @ np.linalg.solve(base.covariance(), error))
    assert 4.5 < np.mean(errors) < 7.5, "standard error of the mean: 0.45"


def circle(base, source, laps=3, n=100, start=0.0):
    """Drive circles of radius 1 m; yaw goes far beyond pi."""
    for k in range(laps * n + 1):
        angle = 2 * math.pi * k / n
        stamp = start + DT * k
        speed = 2 * math.pi / (n * DT)
        if source == "pose":
            value = pose(math.cos(angle), math.sin(angle), angle + math.pi / 2)
        else:
            value = twist(speed, 0.0, speed)
        assert base.measure(stamp, source, value, diagonal(0.001)) == ""
    return estimate(base, stamp)


def test_yaw_goes_on_beyond_pi_and_the_orbit_closes():
    base = BaseEstimator(config("diff_drive"))
    speed = 2 * math.pi / 5.0
    for k in range(301):
        angle = 2 * math.pi * k / 100
        base.measure(DT * k, "pose", pose(math.cos(angle), math.sin(angle), angle + math.pi / 2), diagonal(0.001))
        yaw = estimate(base, DT * k)["base_yaw"]
        assert base.validity() == (True, ""), "no measurement is an outlier where yaw passes pi"
    result = estimate(base, 15.0)
    assert yaw == pytest.approx(6 * math.pi + math.pi / 2, abs=0.01)
    assert result["base_vx"] == pytest.approx(speed, abs=0.02) and result["base_wz"] == pytest.approx(speed, abs=0.02)
    assert "base_vy" not in result


def test_twists_alone_are_reckoned_from_the_origin():
    base = BaseEstimator(FilterConfig(base="diff_drive", odometry_topic="odom", odometry_use="twist"))
    result = circle(base, "odometry_twist", laps=1)
    assert base.validity() == (True, "")
    assert [result[n] for n in ("base_x", "base_y")] == pytest.approx([0.0, 0.0], abs=0.02)
    assert base.covariance()[0, 0] > 1e-7, "reckoning grows unsure"


def test_a_quarter_turn_to_the_left():
    """Signs: forward, then left, is x and then y."""
    base = BaseEstimator(FilterConfig(base="diff_drive", odometry_topic="odom", odometry_use="twist"))
    for k in range(26):
        base.measure(0.04 * k, "odometry_twist", twist(1.0, 0.5, math.pi / 2), diagonal(0.001))
    result = estimate(base, 1.0)
    assert [result[n] for n in ("base_x", "base_y", "base_yaw")] == pytest.approx(
        [2 / math.pi, 2 / math.pi, math.pi / 2], abs=0.01
    )


def test_a_differential_drive_does_not_slide():
    base = BaseEstimator(config("diff_drive", base_max_gap=5.0))
    base.measure(0.0, "pose", pose(0, 0, 0), diagonal(0.01))
    base.measure(0.1, "odometry_twist", twist(1.0, 3.0, 0.0), diagonal(0.01))
    assert estimate(base, 1.0)["base_y"] == pytest.approx(0.0, abs=1e-6)
    omni = BaseEstimator(config("omni", base_max_gap=5.0))
    omni.measure(0.0, "pose", pose(0, 0, 0), diagonal(0.01))
    omni.measure(0.1, "odometry_twist", twist(1.0, 3.0, 0.0), diagonal(0.01))
    assert estimate(omni, 1.0)["base_y"] > 1.0


def settled(base="diff_drive", **values):
    estimator = BaseEstimator(config(base, **values))
    for k in range(40):
        estimator.measure(DT * k, "pose", pose(0, 0, 0), diagonal(0.01))
        estimator.measure(DT * k, "odometry_twist", twist(0, 0, 0), diagonal(0.01))
    return estimator


@pytest.mark.parametrize("count", [1, 3])
def test_a_jump_of_the_pose_is_left_out_and_believed_when_it_stays(count):
    base = settled(rejections_to_restart=count)
    for k in range(count):
        base.measure(2.0 + DT * k, "pose", pose(5.0, 0, 0), diagonal(0.01))
        x = estimate(base, 2.0 + DT * k)["base_x"]
        expected = "started afresh: pose" if k == count - 1 else "outlier left out: pose"
        assert base.validity() == (True, expected)
        assert x == pytest.approx(5.0 if k == count - 1 else 0.0, abs=0.05)


def test_a_good_pose_between_two_that_jump_breaks_the_row():
    base = settled(rejections_to_restart=2)
    for k in range(10):
        base.measure(2.0 + DT * k, "pose", pose(5.0 * (k % 2), 0, 0), diagonal(0.01))
        assert estimate(base, 2.0 + DT * k)["base_x"] == pytest.approx(0.0, abs=0.05)


def test_silence_is_bridged_with_growing_covariance_and_then_invalid():
    base = settled(base_max_gap=0.4)
    spreads = []
    for age, valid in ((0.0, True), (0.2, True), (0.39, True), (0.41, False), (3.0, False)):
        base.predict(DT * 39 + age)
        assert base.validity()[0] == valid
        assert base.bridged == (age > 0)
        spreads.append(base.covariance()[0, 0])
    assert spreads[0] < spreads[1] < spreads[2]
    assert base.validity() == (False, "base: no recent pose or twist")
    base.measure(6.0, "pose", pose(7.0, 0, 0), diagonal(0.01))
    assert estimate(base, 6.0)["base_x"] == pytest.approx(7.0) and base.validity()[0]


def test_a_gyroscope_alone_does_not_keep_a_base_valid():
    base = settled()
    for k in range(40):
        base.measure(2.0 + DT * k, "imu", imu(0.0), diagonal(0.01))
    base.predict(4.0)
    assert base.validity() == (False, "base: no recent pose or twist")


def test_a_pose_that_is_expected_must_have_come():
    base = BaseEstimator(config())
    base.measure(0.0, "odometry_twist", twist(0, 0, 0), diagonal(0.01))
    base.predict(0.0)
    assert base.validity() == (False, "base: no pose yet")
    base.measure(0.1, "pose", pose(1e5, -1e5, 3.0), diagonal(0.01))
    result = estimate(base, 0.1)
    assert base.validity()[0] and result["base_x"] == pytest.approx(1e5, abs=1e-6)


def test_the_spread_that_is_still_valid_is_a_parameter():
    for limit, valid in ((0.02, False), (1.0, True)):
        base = settled(base_max_std=limit, base_max_gap=5.0)
        base.predict(2.3)
        assert base.validity()[0] == valid
        assert valid or "base_max_std is 0.02 m" in base.validity()[1]


@pytest.mark.parametrize(
    ("field", "value", "entry"),
    [("base_acceleration_density", 100.0, 0), ("base_turn_density", 100.0, 2)],
)
def test_densities_decide_how_fast_silence_makes_unsure(field, value, entry):
    spreads = []
    for values in ({}, {field: value}):
        base = settled(**values)
        base.predict(2.2)
        spreads.append(base.covariance()[entry, entry])
    assert spreads[1] > 5 * spreads[0]


@pytest.mark.parametrize(
    ("field", "source", "entry"),
    [
        ("position_std", "pose", 0),
        ("orientation_std", "pose", 2),
        ("twist_std", "odometry_twist", 3),
        ("turn_std", "odometry_twist", 5),
        ("turn_std", "imu", 5),
        ("orientation_std", "imu_orientation", 2),
    ],
)
@pytest.mark.parametrize("covariance", [np.zeros((6, 6)), np.full((6, 6), np.nan), -np.eye(6), np.zeros(0)])
def test_without_a_covariance_the_configured_noise_counts(field, source, entry, covariance):
    values = {
        "pose": pose(0, 0, 0),
        "odometry_twist": twist(0, 0, 0),
        "imu": imu(0.0),
        "imu_orientation": pose(0, 0, 0)[3:],
    }
    variances = []
    for std in (0.03, 0.3):
        base = BaseEstimator(config(**OPEN, **{field: std}))
        base.measure(0.0, "pose", pose(0, 0, 0), diagonal(5.0))
        base.measure(0.001, source, values[source], covariance)
        base.predict(0.001)
        variances.append(base.covariance()[entry, entry])
    assert variances[0] == pytest.approx(0.03**2, rel=0.02) and variances[1] == pytest.approx(0.3**2, rel=0.02)


def test_late_measurements_are_replayed():
    orders = []
    for order in (range(20), [*range(0, 20, 4), *(k for k in range(20) if k % 4)]):
        base = BaseEstimator(config(late_window=2.0))
        for k in order:
            source = ("pose", "odometry_twist", "imu")[k % 3]
            value = (pose(0.05 * k, 0, 0.1), twist(1.0, 0, 0.1), imu(0.1))[k % 3]
            assert base.measure(DT * k, source, value, diagonal(0.1)) == ""
        base.predict(1.0)
        orders.append((base.state(), base.covariance()))
    np.testing.assert_array_equal(orders[0][0], orders[1][0])
    np.testing.assert_array_equal(orders[0][1], orders[1][1])


@pytest.mark.parametrize(
    ("source", "value", "said"),
    [
        ("pose", [math.nan] * 7, "no finite number"),
        ("pose", [1.0, 2.0], "2 numbers; expected 7"),
        ("odometry_twist", [math.inf, 1e300, math.nan, 0, 0, math.nan][:5], "5 numbers; expected 6"),
        ("imu_orientation", [0.0] * 4, "no orientation"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(source, value, said):
    base = settled()
    before = estimate(base, 2.0)
    assert said in base.measure(2.0, source, value, diagonal(0.01))
    assert estimate(base, 2.0) == before


def test_a_position_without_orientation_is_used():
    base = settled()
    base.measure(2.0, "pose", [0.02, 0, 0, 0, 0, 0, 0], diagonal(0.01))
    assert estimate(base, 2.0)["base_x"] > 0.005


def test_the_states_that_were_asked_for_in_their_order():
    base = settled(base_states="base_wz, base_x")
    assert base.names == ["base_wz", "base_x"] and base.state().shape == (2,)
