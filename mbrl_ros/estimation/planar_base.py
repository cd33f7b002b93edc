"""Planar base: position, heading and velocity of a mobile robot from odometry, poses and a gyroscope.

State (x, y, yaw, vx, vy, wz): pose in the fixed frame, velocity in the base's own, driven by white-noise
accelerations (Moore & Stouch 2014, "A generalized extended Kalman filter implementation for ROS", in the plane and
without accelerations). Over dt, with the heading half-way, yaw_m = yaw + wz dt / 2::

    x' = x + dt (vx cos yaw_m - vy sin yaw_m)      y' = y + dt (vx sin yaw_m + vy cos yaw_m)      yaw' = yaw + dt wz

A differential drive does not move sideways: there vy is zero, without variance and without noise.
"""

import math

import numpy as np

from mbrl_ros.estimation.base_filter import (
    UNKNOWN_ANGLE,
    UNKNOWN_POSITION,
    UNKNOWN_VELOCITY,
    BaseFilter,
    BaseMeasurement,
    Innovation,
    wrapped,
)
from mbrl_ros.estimation.rotation import from_ros, yaw_of

NAMES = ("base_x", "base_y", "base_yaw", "base_vx", "base_vy", "base_wz")
POSE, TWIST = [0, 1, 2], [3, 4, 5]
IN_PLANE = [0, 1, 5]  # of three linear and three angular entries
VY = 4


class PlanarBase(BaseFilter):
    """Extended Kalman filter of a planar base."""

    size = 6
    position = slice(0, 2)
    unknown = np.array([UNKNOWN_POSITION, UNKNOWN_POSITION, UNKNOWN_ANGLE, *[UNKNOWN_VELOCITY] * 3])

    @property
    def _sideways(self) -> bool:
        return self._config.base == "omni"

    def _start(self) -> None:
        variances = self.unknown.copy()
        if not self._config.measures_pose:
            variances[POSE] = 0.0  # the start is the origin
        if not self._sideways:
            variances[VY] = 0.0
        self.nominal = {"x": np.zeros(6)}
        self.covariance = np.diag(variances)

    def _propagate(self, dt: float) -> None:
        x = self.nominal["x"]
        F, D = jacobian(x, dt), directions(x, dt)
        q = self._config.base_acceleration_density
        densities = np.array([q, q if self._sideways else 0.0, self._config.base_turn_density])
        powers = np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        Q = D @ np.kron(powers, np.diag(densities)) @ D.T
        self.nominal["x"] = moved(x, dt)
        self.covariance = F @ self.covariance @ F.T + Q

    def _compare(self, measurement: BaseMeasurement) -> Innovation | None:
        z, R, entries = in_plane(measurement)
        if not self._sideways and VY in entries:
            keep = [i for i, entry in enumerate(entries) if entry != VY]
            z, R, entries = z[keep], R[np.ix_(keep, keep)], [entries[i] for i in keep]
        rows = np.flatnonzero(np.isfinite(z))
        if len(rows) == 0:
            return None
        measured = np.array(entries)[rows]
        error = z[rows] - self.nominal["x"][measured]
        error[measured == 2] = [wrapped(e) for e in error[measured == 2]]
        return Innovation(error, np.eye(6)[measured], R[np.ix_(rows, rows)], measured)

    def _inject(self, error: np.ndarray) -> None:
        self.nominal["x"] = self.nominal["x"] + error

    def _values(self) -> dict[str, float]:
        values = dict(zip(NAMES, self.nominal["x"].tolist(), strict=True))
        if not self._sideways:
            del values["base_vy"]
        return values


def in_plane(measurement: BaseMeasurement) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """What a measurement says of the plane: values (m,), covariance (m, m) and the state's entries they measure."""
    value, R = measurement.value, measurement.covariance
    if measurement.kind == "pose":
        return np.array([*value[:2], yaw_of(from_ros(value[3:]))]), R[np.ix_(IN_PLANE, IN_PLANE)], POSE
    if measurement.kind == "twist":
        return value[IN_PLANE], R[np.ix_(IN_PLANE, IN_PLANE)], TWIST
    if measurement.kind == "orientation":
        return np.array([yaw_of(from_ros(value))]), R[2:, 2:], [2]
    return value[2:3], R[2:3, 2:3], [5]  # imu: the turn rate


def moved(x: np.ndarray, dt: float) -> np.ndarray:
    """State (6,) after `dt` s without acceleration."""
    c, s = heading(x, dt)
    vx, vy, wz = x[3:]
    return x + dt * np.array([vx * c - vy * s, vx * s + vy * c, wz, 0.0, 0.0, 0.0])


def jacobian(x: np.ndarray, dt: float) -> np.ndarray:
    """Of `moved` by the state, (6, 6)."""
    c, s = heading(x, dt)
    vx, vy = x[3:5]
    by_yaw = dt * np.array([-vx * s - vy * c, vx * c - vy * s])
    F = np.eye(6)
    F[:2, 2], F[:2, 5] = by_yaw, 0.5 * dt * by_yaw
    F[:2, 3:5] = dt * np.array([[c, -s], [s, c]])
    F[2, 5] = dt
    return F


def directions(x: np.ndarray, dt: float) -> np.ndarray:
    """Where accelerations of the base's own axes push the pose and the twist, (6, 6)."""
    c, s = heading(x, dt)
    D = np.eye(6)
    D[:2, :2] = [[c, -s], [s, c]]
    return D


def heading(x: np.ndarray, dt: float) -> tuple[float, float]:
    """Cosine and sine of the heading half-way."""
    middle = float(x[2] + 0.5 * dt * x[5])
    return math.cos(middle), math.sin(middle)
