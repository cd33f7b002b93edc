"""Base with six degrees of freedom: an IMU carries the state on, poses and twists correct it.

Error-state Kalman filter of Solà 2017, section 5 and 6: position p, velocity v (fixed frame), orientation q,
biases of accelerometer and gyroscope; error (dp, dv, dtheta, dba, dbg) with dtheta in the base's frame::

    p' = p + v dt + a dt^2 / 2      v' = v + a dt      q' = q x Exp((w_m - bg) dt)      a = R (a_m - ba) + g

The last IMU reading is held until the next. Before the first the base moves on at constant velocity.
"""

import numpy as np

from mbrl_ros.estimation.base_filter import (
    UNKNOWN_ANGLE,
    UNKNOWN_POSITION,
    UNKNOWN_VELOCITY,
    BaseFilter,
    BaseMeasurement,
    Innovation,
)
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.rotation import (
    conjugate,
    exponential,
    from_ros,
    level,
    logarithm,
    matrix,
    product,
    roll_pitch_yaw,
    skew,
)

GRAVITY = np.array([0.0, 0.0, -9.80665])  # m/s^2, fixed frame
STEP = 0.02  # s, longest step of the integration
P, V, THETA, BA, BG = (slice(i, i + 3) for i in range(0, 15, 3))
LEVEL_STD = 0.2  # rad, of a levelling by the first reading: the base may be accelerating


class SixDofBase(BaseFilter):
    """Error-state Kalman filter of a free base."""

    size = 15
    position = P
    unknown = np.repeat([UNKNOWN_POSITION, UNKNOWN_VELOCITY, UNKNOWN_ANGLE, np.nan, np.nan], 3)  # never of biases

    def __init__(self, config: FilterConfig) -> None:
        super().__init__(config)
        densities = np.repeat(
            [0.0, config.accelerometer_density, config.gyro_density, config.accelerometer_bias_density,
             config.gyro_bias_density], 3,
        )  # fmt: skip
        self._noise = np.diag(densities)

    def _start(self) -> None:
        config = self._config
        variances = self.unknown.copy()
        variances[BA], variances[BG] = config.accelerometer_bias_std**2, config.gyro_bias_std**2
        if not config.measures_pose:
            variances[P] = 0.0  # the start is the origin
        self.nominal = {name: np.zeros(3) for name in ("p", "v", "ba", "bg", "gyro", "force")}
        self.nominal["q"] = np.array([1.0, 0.0, 0.0, 0.0])
        self.nominal["imu_stamp"] = np.array(-np.inf)
        self.covariance = np.diag(variances)

    def _propagate(self, dt: float) -> None:
        if not np.isfinite(self.nominal["imu_stamp"]):
            self.nominal["p"] = self.nominal["p"] + dt * self.nominal["v"]
            return
        steps = max(1, int(np.ceil(dt / STEP)))
        for _ in range(steps):
            self._step(dt / steps)

    def _step(self, dt: float) -> None:
        """One step of the integration; F of Solà's equation 270."""
        s = self.nominal
        R, force, turn = matrix(s["q"]), s["force"] - s["ba"], dt * (s["gyro"] - s["bg"])
        a = R @ force + GRAVITY
        F = np.eye(15)
        F[P, V] = dt * np.eye(3)
        F[V, THETA], F[V, BA] = -dt * R @ skew(force), -dt * R
        F[THETA, THETA], F[THETA, BG] = matrix(exponential(-turn)), -dt * np.eye(3)
        F[P, THETA], F[P, BA] = 0.5 * dt * F[V, THETA], 0.5 * dt * F[V, BA]
        q = product(s["q"], exponential(turn))
        moved = {"p": s["p"] + dt * s["v"] + 0.5 * dt**2 * a, "v": s["v"] + dt * a, "q": q / np.linalg.norm(q)}
        self.nominal = s | moved
        self.covariance = F @ self.covariance @ F.T + dt * self._noise

    def _compare(self, measurement: BaseMeasurement) -> Innovation | None:
        kind, value = measurement.kind, measurement.value
        if kind == "imu":
            self._take_input(value)
            return None
        if kind == "twist":
            error, H, measured = self._twist(value)
        elif kind == "pose":
            error = np.concatenate([value[:3] - self.nominal["p"], self._turn_to(value[3:])])
            measured = np.r_[P, THETA]
            H = np.eye(15)[measured]
        else:
            error, measured = self._turn_to(value), np.r_[THETA]
            H = np.eye(15)[measured]
        rows = np.flatnonzero(np.isfinite(error))
        if len(rows) == 0:
            return None
        R = measurement.covariance[np.ix_(rows, rows)]
        return Innovation(error[rows], H[rows], R, self._freed(kind, measured, rows))

    def _take_input(self, value: np.ndarray) -> None:
        """Hold a reading (6,) of the IMU; the first one levels a base of which no orientation is known."""
        if not np.all(np.isfinite(value)):
            return
        first = not np.isfinite(self.nominal["imu_stamp"])
        reading = {"gyro": value[:3], "force": value[3:], "imu_stamp": np.array(self._stamp)}
        self.nominal = self.nominal | reading
        if first and self.covariance[THETA, THETA][0, 0] >= UNKNOWN_ANGLE and np.linalg.norm(value[3:]) > 1.0:
            self._level(value[3:])

    def _level(self, force: np.ndarray) -> None:
        """Roll and pitch from the specific force (3,); the yaw is zero where nothing measures it, else unknown."""
        q = level(force)
        vertical = matrix(q)[2]  # in the base's frame
        yaw_variance = np.pi**2 if self._config.measures_pose else 0.0
        covariance = np.diag(np.diag(self.covariance))
        covariance[THETA, THETA] = LEVEL_STD**2 * np.eye(3) + (yaw_variance - LEVEL_STD**2) * np.outer(
            vertical, vertical
        )
        self.nominal, self.covariance = self.nominal | {"q": q}, covariance

    def _turn_to(self, q_ros: np.ndarray) -> np.ndarray:
        """Rotation vector (3,) in the base's frame from the estimated to a measured orientation."""
        return logarithm(product(conjugate(self.nominal["q"]), from_ros(q_ros)))

    def _twist(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A twist (6,) in the base's frame against the estimate: v_b = R' v and w = w_m - bg."""
        s = self.nominal
        R = matrix(s["q"])
        expected = np.concatenate([R.T @ s["v"], s["gyro"] - s["bg"]])
        H = np.zeros((6, 15))
        H[:3, V], H[:3, THETA], H[3:, BG] = R.T, skew(R.T @ s["v"]), -np.eye(3)
        error = value - expected
        if not np.isfinite(s["imu_stamp"]):
            error[3:] = np.nan  # without a gyroscope there is nothing to hold turn rates against
        return error, H, np.r_[V, BG]

    def _freed(self, kind: str, measured: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Entries that a restart takes from the measurement alone: never biases, whose spread is known."""
        if kind != "twist":
            return measured[rows]
        return np.r_[V] if set(rows) >= {0, 1, 2} else np.array([], int)

    def _inject(self, error: np.ndarray) -> None:
        s = self.nominal
        q = product(s["q"], exponential(error[THETA]))
        moved = {"p": s["p"] + error[P], "v": s["v"] + error[V], "ba": s["ba"] + error[BA], "bg": s["bg"] + error[BG]}
        self.nominal = s | moved | {"q": q / np.linalg.norm(q)}
        G = np.eye(15)
        G[THETA, THETA] -= skew(0.5 * error[THETA])  # the error is counted from the new orientation, equation 287
        self.covariance = G @ self.covariance @ G.T

    def _values(self) -> dict[str, float]:
        s = self.nominal
        v, w = matrix(s["q"]).T @ s["v"], s["gyro"] - s["bg"]
        numbers = [*s["p"], *roll_pitch_yaw(s["q"]), *v, *w, *s["q"]]
        names = ("x", "y", "z", "roll", "pitch", "yaw", "vx", "vy", "vz", "wx", "wy", "wz", "qw", "qx", "qy", "qz")
        return {f"base_{name}": float(number) for name, number in zip(names, numbers, strict=True)}

    def _missing(self) -> str:
        age = self._stamp - float(self.nominal["imu_stamp"])
        return "" if age <= self._config.base_max_gap else "base: no recent imu"
