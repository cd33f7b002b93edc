"""The error-state filter against finite differences and flights whose truth is known in closed form."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation import rotation
from mbrl_ros.estimation.base import BaseEstimator
from mbrl_ros.estimation.base_filter import BaseMeasurement
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.six_dof_base import BA, BG, THETA, P, SixDofBase, V

G = np.array([0.0, 0.0, 9.80665])
NAMES = ["base_x", "base_y", "base_z", "base_roll", "base_pitch", "base_yaw"]


def config(**values):
    sources = {"odometry_topic": "odom", "pose_topic": "pose", "imu_topic": "imu"}
    return FilterConfig(base="six_dof", **sources | values)


def flying(seed=0):
    """A filter somewhere in the middle of a flight, with a random covariance."""
    rng, base = np.random.default_rng(seed), SixDofBase(config(base_max_gap=10.0))
    base.apply(0.0, BaseMeasurement("imu", "imu", np.array([0.3, -0.2, 0.5, 1.0, -0.7, 9.8]), np.eye(6)))
    base.nominal = base.nominal | {k: rng.normal(0, 0.5, 3) for k in ("p", "v", "ba", "bg")}
    base.nominal["q"] = rotation.exponential(rng.normal(0, 1, 3))
    L = rng.normal(0, 1, (15, 15))
    base.covariance = L @ L.T
    return base


def disturbed(base, error):
    """The nominal state with an error put in."""
    s = base.nominal
    moved = {"p": s["p"] + error[P], "v": s["v"] + error[V], "ba": s["ba"] + error[BA], "bg": s["bg"] + error[BG]}
    return s | moved | {"q": rotation.product(s["q"], rotation.exponential(error[THETA]))}


def difference(a, b):
    """Error (15,) of nominal state a against b."""
    turn = rotation.logarithm(rotation.product(rotation.conjugate(b["q"]), a["q"]))
    return np.concatenate([a["p"] - b["p"], a["v"] - b["v"], turn, a["ba"] - b["ba"], a["bg"] - b["bg"]])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_covariance_moves_as_the_finite_differences_of_the_motion_say(seed):
    dt, eps = 1e-3, 1e-5
    base = flying(seed)
    start, cov = base.nominal, base.covariance

    def end(nominal):
        base.nominal, base.covariance = nominal, cov
        base._propagate(dt)
        return base.nominal

    reference = end(start)
    base.nominal = start
    columns = []
    for e in np.eye(15):
        base.nominal = start
        plus, minus = disturbed(base, eps * e), disturbed(base, -eps * e)
        columns.append((difference(end(plus), reference) - difference(end(minus), reference)) / (2 * eps))
    F = np.stack(columns, axis=1)
    end(start)
    expected = F @ cov @ F.T + dt * base._noise
    np.testing.assert_allclose(base.covariance, expected, atol=5e-5 * np.abs(cov).max())
    assert np.abs(F[V, THETA]).max() > 5e-3, "the coupling that the tolerance must not hide"
    wrong = F.copy()
    wrong[V, THETA] *= -1
    assert np.abs(wrong @ cov @ wrong.T - expected).max() > 1e-3 * np.abs(cov).max()


@pytest.mark.parametrize("kind", ["pose", "twist", "orientation"])
def test_measurement_jacobians_are_those_of_finite_differences(kind):
    base, eps = flying(2), 1e-6
    s = base.nominal
    R = rotation.matrix(s["q"])
    q_ros = np.roll(s["q"], -1)
    value = {
        "pose": np.concatenate([s["p"], q_ros]),
        "twist": np.concatenate([R.T @ s["v"], s["gyro"] - s["bg"]]),
        "orientation": q_ros,
    }[kind]
    measurement = BaseMeasurement(kind, kind, value, np.eye(6)[: 3 if kind == "orientation" else 6, :6])
    if kind == "orientation":
        measurement = BaseMeasurement(kind, kind, value, np.eye(3))
    jacobian = base._compare(measurement).jacobian
    columns = []
    for e in np.eye(15):
        errors = []
        for sign in (1, -1):
            base.nominal = s
            base.nominal = disturbed(base, sign * eps * e)
            errors.append(base._compare(measurement).error)
        columns.append(-(errors[0] - errors[1]) / (2 * eps))  # an innovation falls as the expectation rises
    np.testing.assert_allclose(jacobian, np.stack(columns, axis=1), atol=1e-6)


class Flight:
    """A swaying, turning flight in closed form."""

    bias_gyro = np.array([0.02, -0.01, 0.015])
    bias_force = np.array([0.1, -0.05, 0.08])

    def position(self, t):
        return np.array([math.sin(t), 0.5 * math.cos(1.3 * t), 0.3 * math.sin(0.7 * t)])

    def rotation(self, t):
        return Rotation.from_euler("xyz", [0.3 * math.sin(0.9 * t), 0.2 * math.cos(1.1 * t), 0.4 * t])

    def velocity(self, t, h=1e-4):
        return (self.position(t + h) - self.position(t - h)) / (2 * h)

    def imu(self, t, h=1e-4):
        """Body rate and specific force."""
        acceleration = (self.position(t + h) - 2 * self.position(t) + self.position(t - h)) / h**2
        R = self.rotation(t)
        turn = (self.rotation(t - h).inv() * self.rotation(t + h)).as_rotvec() / (2 * h)
        return np.concatenate([turn + self.bias_gyro, R.inv().apply(acceleration + G) + self.bias_force])

    def pose(self, t):
        return np.concatenate([self.position(t), self.rotation(t).as_quat()])

    def twist(self, t):
        return np.concatenate([self.rotation(t).inv().apply(self.velocity(t)), self.imu(t)[:3] - self.bias_gyro])


def fly(seconds=20.0, rate=200, seed=0, every=10, source="pose", std=0.01, cfg=None):
    rng, flight, base = np.random.default_rng(seed), Flight(), BaseEstimator(cfg or config())
    dt = 1 / rate
    for k in range(round(seconds * rate)):
        t = k * dt
        reading = flight.imu(t + dt / 2)  # held until the next one: that of the middle is the fair one
        reading[:3] += math.sqrt(1e-6 / dt) * rng.standard_normal(3)
        reading[3:] += math.sqrt(1e-4 / dt) * rng.standard_normal(3)
        base.measure(t, "imu", reading, np.zeros(0))
        if k % every == 0:
            if source == "pose":
                q = flight.rotation(t) * Rotation.from_rotvec(std * rng.standard_normal(3))
                value = np.concatenate([flight.position(t) + std * rng.standard_normal(3), q.as_quat()])
            else:
                value = flight.twist(t) + std * rng.standard_normal(6)
            assert base.measure(t, source, value, std**2 * np.eye(6)) == ""
    base.predict(t)
    return base, flight, t


def truth(flight, t):
    q = np.roll(flight.rotation(t).as_quat(), 1)
    return {"p": flight.position(t), "v": flight.velocity(t), "q": q, "ba": flight.bias_force, "bg": flight.bias_gyro}


@pytest.fixture(scope="module")
def flown():
    return fly()


def test_a_flight_is_followed_better_than_its_poses_are_measured(flown):
    base, flight, t = flown
    assert base.validity()[0]
    values = dict(zip(base.names, base.state(), strict=True))
    position = np.array([values[n] for n in NAMES[:3]])
    assert np.linalg.norm(position - flight.position(t)) < 0.012, "three entries of 0.01 would be 0.017"
    velocity = [values[f"base_v{axis}"] for axis in "xyz"]
    np.testing.assert_allclose(velocity, flight.twist(t)[:3], atol=0.04)
    np.testing.assert_allclose(
        [values[f"base_w{axis}"] for axis in "xyz"], flight.imu(t)[:3] - flight.bias_gyro, atol=0.1
    )
    angles = flight.rotation(t).as_euler("xyz")
    assert [values[n] for n in NAMES[3:5]] == pytest.approx(angles[:2], abs=0.015)
    quaternion = Rotation.from_quat([values[f"base_q{axis}"] for axis in "xyzw"])
    assert (quaternion.inv() * flight.rotation(t)).magnitude() < 0.015


def test_yaw_goes_on_beyond_pi():
    flight, base = Flight(), BaseEstimator(config())
    for k in range(400):
        t = 0.05 * k
        base.measure(t, "imu", flight.imu(t + 0.025), np.zeros(0))
        base.measure(t, "pose", flight.pose(t), 1e-4 * np.eye(6))
        base.predict(t)
    yaw = dict(zip(base.names, base.state(), strict=True))["base_yaw"]
    assert yaw == pytest.approx(0.4 * t, abs=0.05) and yaw > 2 * math.pi


def test_biases_are_found_and_errors_are_as_large_as_the_covariance_says(flown):
    base, flight, t = flown
    nominal = base._replay._filter.nominal
    np.testing.assert_allclose(nominal["bg"], flight.bias_gyro, atol=0.004)
    np.testing.assert_allclose(nominal["ba"], flight.bias_force, atol=0.04)
    error = difference(truth(flight, t), nominal)
    nees = error @ np.linalg.solve(base.covariance(), error)
    assert 2.0 < nees < 40.0, "chi-square of 15 degrees: 99.9 % within 3 and 38"


def test_twists_alone_are_reckoned_from_the_origin():
    cfg = config(odometry_use="twist", pose_topic="")
    base, flight, t = fly(seconds=5.0, source="odometry_twist", cfg=cfg)
    assert base.validity()[0]
    values = dict(zip(base.names, base.state(), strict=True))
    np.testing.assert_allclose([values[f"base_v{axis}"] for axis in "xyz"], flight.twist(t)[:3], atol=0.05)
    assert base.covariance()[0, 0] > 1e-5


def test_at_rest_it_levels_itself_and_stays():
    tilt = Rotation.from_euler("xyz", [0.2, -0.1, 0.0])
    base = BaseEstimator(config(odometry_use="twist", pose_topic=""))
    for k in range(200):
        base.measure(0.01 * k, "imu", [0, 0, 0, *tilt.inv().apply(G)], np.zeros(0))
        base.measure(0.01 * k, "odometry_twist", np.zeros(6), 1e-6 * np.eye(6))
    base.predict(2.0)
    values = dict(zip(base.names, base.state(), strict=True))
    np.testing.assert_allclose([values[n] for n in NAMES], [0, 0, 0, 0.2, -0.1, 0], atol=0.01)


def test_without_an_imu_nothing_is_valid():
    base = BaseEstimator(config())
    base.measure(0.0, "pose", Flight().pose(0.0), 1e-4 * np.eye(6))
    base.predict(0.0)
    assert base.validity() == (False, "base: no recent imu")
    with pytest.raises(ConfigError, match="imu_topic"):
        FilterConfig(base="six_dof", pose_topic="pose")


def hovering(**values):
    base = BaseEstimator(config(**values))
    for k in range(100):
        base.measure(0.01 * k, "imu", [0, 0, 0, *G], np.zeros(0))
        base.measure(0.01 * k, "pose", [1, 2, 3, 0, 0, 0, 1], 1e-4 * np.eye(6))
    return base


def test_a_jump_is_left_out_and_believed_when_it_stays():
    base = hovering()
    for k in range(3):
        base.measure(1.0 + 0.01 * k, "pose", [9, 2, 3, 0, 0, 1, 0], 1e-4 * np.eye(6))
        base.predict(1.0 + 0.01 * k)
        x = dict(zip(base.names, base.state(), strict=True))["base_x"]
        assert x == pytest.approx(9.0 if k == 2 else 1.0, abs=0.05)
    assert base.validity() == (True, "started afresh: pose")


@pytest.mark.parametrize(
    ("field", "value", "entry"),
    [
        ("gyro_density", 1e-2, THETA),
        ("accelerometer_density", 1e-1, V),
        ("gyro_bias_density", 1e-2, BG),
        ("accelerometer_bias_density", 1e-1, BA),
    ],
)
def test_densities_decide_how_fast_silence_makes_unsure(field, value, entry):
    spreads = []
    for values in ({}, {field: value}):
        base = hovering(**values)
        base.predict(1.4)
        spreads.append(np.trace(base.covariance()[entry, entry]))
    assert spreads[1] > 2 * spreads[0]


@pytest.mark.parametrize(("field", "entry"), [("gyro_bias_std", BG), ("accelerometer_bias_std", BA)])
def test_the_biases_spread_is_a_parameter(field, entry):
    for std in (0.01, 0.5):
        base = BaseEstimator(config(**{field: std}))
        assert base.covariance()[entry, entry] == pytest.approx(std**2 * np.eye(3))


def test_orientation_of_the_imu_is_used_where_it_is_asked_for():
    base = hovering(imu_orientation=True)
    before = base.covariance()[THETA, THETA]
    base.predict(0.99)
    q = Rotation.from_euler("z", 0.01).as_quat()
    assert base.measure(1.0, "imu_orientation", q, 1e-6 * np.eye(3)) == ""
    base.predict(1.0)
    assert dict(zip(base.names, base.state(), strict=True))["base_yaw"] > 0.004
    assert np.trace(base.covariance()[THETA, THETA]) < np.trace(before)


def test_late_measurements_are_replayed():
    results = []
    for order in (range(60), [*range(0, 60, 3), *(k for k in range(60) if k % 3)]):
        base = BaseEstimator(config(late_window=2.0))
        for k in order:
            source, value = ("imu", [0.1, 0, 0.2, *G]) if k % 2 else ("pose", Flight().pose(0.01 * k))
            assert base.measure(0.01 * k, source, value, 1e-2 * np.eye(6)) == ""
        base.predict(0.6)
        results.append(base.state())
    np.testing.assert_array_equal(*results)
