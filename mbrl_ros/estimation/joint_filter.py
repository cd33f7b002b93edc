"""Kalman filter for each joint: position and velocity from noisy, incomplete or absurd measurements.

State (position, velocity) driven by white-noise acceleration of spectral density q, discretised exactly
(Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2)::

    F = [1 dt; 0 1]        Q = q [dt^3/3 dt^2/2; dt^2/2 dt]

A measurement whose normalised innovation squared lies beyond a chi-square quantile is an outlier and is left out
(ibid., section 5.4). All arrays lead with the joints, nj of them.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.replay import LATEST_STAMP

LARGEST = 1e9  # m or rad, and per second; whatever lies beyond is never believed
SMALLEST_STD = 1e-9  # of a measurement; a perfect one would leave nothing to invert


@dataclass(frozen=True)
class FilterResult:
    """Estimate after one message.

    Attributes:
        position: (nj,) m or rad.
        velocity: (nj,) m/s or rad/s.
        covariance: (nj, 2, 2) of position and velocity.
        valid: whether every joint's estimate may be used.
        reason: why it is not valid, or what was unusual (a measurement left out, a joint started afresh); else empty.
        bridged: whether some joint's position is a prediction only: no measurement of it that was accepted is fresh.
    """

    position: np.ndarray
    velocity: np.ndarray
    covariance: np.ndarray
    valid: bool
    reason: str
    bridged: bool = False


class JointFilter:
    """Kalman filters of nj joints that do not know of each other."""

    config_class = FilterConfig

    def __init__(
        self,
        config: FilterConfig,
        n_joints: int,
        position_noise: np.ndarray | float,
        velocity_noise: np.ndarray | float,
    ) -> None:
        """Start without knowledge.

        Args:
            config: settings.
            n_joints: nj.
            position_noise: standard deviation of position measurements, m or rad, one or (nj,).
            velocity_noise: the same of velocity measurements, m/s or rad/s.

        Raises:
            ConfigError: a noise is negative or not finite.
        """
        self._config = config
        self._std = np.empty((n_joints, 2))  # of measurements
        self._std[:, 0], self._std[:, 1] = position_noise, velocity_noise
        if not np.all(np.isfinite(self._std) & (self._std >= 0)):
            raise ConfigError(f"noise: {position_noise} and {velocity_noise} must be finite and not negative")
        tail = NormalDist().inv_cdf(0.5 * (1 + config.gate))
        self._std = np.maximum(self._std, SMALLEST_STD)
        self._threshold = np.array([0.0, tail**2, -2 * math.log1p(-config.gate)])  # chi-square, by degrees of freedom
        self._mean = np.zeros((n_joints, 2))
        self._covariance = np.zeros((n_joints, 2, 2))
        self.forget()

    def update(self, stamp_s: float, position: np.ndarray, velocity: np.ndarray | None) -> FilterResult:
        """Take one message of a single stream that comes in order.

        Args:
            stamp_s: when it was measured, in s. One that is not after the last is refused, unless it lies back by
                more than `max_gap`: then the clock was set back and everything starts afresh.
            position: (nj,), entries that are not finite count as not measured.
            velocity: (nj,) likewise, or None where it is not measured at all.
        """
        if not abs(stamp_s) <= LATEST_STAMP:
            return self._result(False, f"the stamp is {stamp_s}")
        elapsed = stamp_s - self._stamp
        if elapsed < -self._config.max_gap:
            self.forget()
        elif elapsed <= 0:
            return self._result(False, f"the stamp is {-elapsed:.6g} s before the last one, or equal")
        return self.apply(stamp_s, measurement(position, velocity))

    def apply(self, stamp_s: float, z: np.ndarray) -> FilterResult:
        """Predict to a stamp that is not before the last and use the measurements z (nj, 2), see `measurement`."""
        self._advance(stamp_s)
        return self._correct(z)

    def at(self, stamp_s: float) -> FilterResult:
        """Prediction to a stamp, with the covariance that silence has let grow; changes nothing."""
        now = self.snapshot()
        self._advance(stamp_s)
        result = self._judge(self._rejected > 0, np.zeros(len(self._mean), bool))
        self.restore(now)
        return result

    def snapshot(self) -> tuple[Any, ...]:
        """See `replay.Replayable`."""
        arrays = (self._mean, self._covariance, self._heard, self._seen, self._rejected)
        return (self._stamp, *(array.copy() for array in arrays))

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """See `replay.Replayable`."""
        self._stamp = snapshot[0]
        arrays = (array.copy() for array in snapshot[1:])
        self._mean, self._covariance, self._heard, self._seen, self._rejected = arrays

    def forget(self) -> None:
        """Know nothing of any joint."""
        n = len(self._mean)
        self._stamp = -math.inf
        self._heard = np.full(n, -math.inf)  # stamp of each joint's last accepted position
        self._seen = np.zeros(n, int)  # measurements since its start: 0 nothing known, 1 no velocity yet
        self._rejected = np.zeros(n, int)  # in a row

    def _advance(self, stamp_s: float) -> None:
        """Let time pass up to the stamp; a stamp before the last lets none pass."""
        if self._stamp < stamp_s:
            if math.isfinite(self._stamp):
                self._predict(stamp_s - self._stamp)
            self._stamp = float(stamp_s)

    def _predict(self, dt: float) -> None:
        """Let `dt` s pass."""
        F = np.array([[1.0, dt], [0.0, 1.0]])
        Q = self._config.acceleration_density * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        self._mean = self._mean @ F.T
        self._covariance = F @ self._covariance @ F.T + Q

    def _correct(self, z: np.ndarray) -> FilterResult:
        """Use the measurements z (nj, 2), NaN where there is none."""
        measured = np.isfinite(z)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, covariance, nis = self._posterior(z, measured)
        n_measured = measured.sum(axis=1)
        believable = (np.abs(np.where(measured, z, 0.0)) <= LARGEST).all(axis=1)
        fits = believable & (nis <= self._threshold[n_measured])  # so written, NaN does not fit
        known = (self._seen > 0) & (self._stamp - self._heard <= self._config.max_gap)
        accepted = known & (n_measured > 0) & fits
        rejected = known & (n_measured > 0) & ~fits
        self._rejected = np.where(accepted, 0, self._rejected + rejected)
        restarted = measured[:, 0] & believable & (~known | (self._rejected >= self._config.rejections_to_restart))
        self._mean[accepted], self._covariance[accepted] = mean[accepted], covariance[accepted]
        self._restart(restarted, z, measured)
        self._seen += accepted
        self._heard[(accepted & measured[:, 0]) | restarted] = self._stamp
        return self._judge(rejected & ~restarted, restarted)

    def _posterior(self, z: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kalman update: mean (nj, 2), covariance (nj, 2, 2) and normalised innovation squared (nj,).

        Entries that were not measured get a zero row in H, a zero innovation and unit noise, which leaves S
        invertible and the estimate untouched by them.
        """
        P = self._covariance
        H = measured[:, :, None] * np.eye(2)  # (nj, 2, 2)
        R = np.where(measured, self._std**2, 1.0)[:, :, None] * np.eye(2)
        innovation = np.where(measured, z - self._mean, 0.0)[:, :, None]  # (nj, 2, 1)
        S = H @ P @ transpose(H) + R
        known = (self._seen > 0)[:, None, None]
        weighted = np.linalg.solve(np.where(known, S, np.eye(2)), np.concatenate([innovation, H @ P], axis=2))
        nis = (transpose(innovation) @ weighted[:, :, :1])[:, 0, 0]
        K = transpose(weighted[:, :, 1:])  # (S^-1 H P)' = P H' S^-1
        A = np.eye(2) - K @ H
        covariance = A @ P @ transpose(A) + K @ R @ transpose(H) @ transpose(
            K
        )  # Joseph form: stays symmetric and positive
        return self._mean + (K @ innovation)[:, :, 0], covariance, nis

    def _restart(self, joints: np.ndarray, z: np.ndarray, measured: np.ndarray) -> None:
        """Start the joints in the mask from their measurement alone."""
        std = np.where(measured, self._std, [0.0, self._config.initial_velocity_std])
        self._mean[joints] = np.where(measured, z, 0.0)[joints]
        self._covariance[joints] = ((std**2)[:, :, None] * np.eye(2))[joints]
        self._seen[joints] = measured.sum(axis=1)[joints]
        self._rejected[joints] = 0

    def _judge(self, rejected: np.ndarray, restarted: np.ndarray) -> FilterResult:
        """Say whether the estimate may be used, and what was unusual."""
        with np.errstate(invalid="ignore"):  # nothing was ever heard: inf - inf
            age = self._stamp - self._heard
        lost = (self._seen == 0) | ~(age <= self._config.max_gap)
        no_velocity = ~lost & (self._seen == 1)
        stale = ~(age <= self._config.freshness)
        remarks = {
            "no recent measurement": lost,
            "velocity not known yet": no_velocity,
            "outlier left out": rejected,
            "started afresh": restarted,
            "position not measured": stale & ~lost & ~rejected,
        }
        parts = [f"{what}: joint {np.flatnonzero(where).tolist()}" for what, where in remarks.items() if where.any()]
        return self._result(not (lost | no_velocity).any(), "; ".join(parts), bool(stale.any()))

    def _result(self, valid: bool, reason: str, bridged: bool = False) -> FilterResult:
        """Copies of the estimate, so that nobody holds what the next message changes."""
        mean, covariance = self._mean, self._covariance
        return FilterResult(mean[:, 0].copy(), mean[:, 1].copy(), covariance.copy(), valid, reason, bridged)


def measurement(position: np.ndarray, velocity: np.ndarray | None) -> np.ndarray:
    """Measurements (nj, 2) of position and velocity, NaN where there is none."""
    return np.stack([position, np.full(len(position), np.nan) if velocity is None else velocity], axis=1).astype(float)


def transpose(matrices: np.ndarray) -> np.ndarray:
    """Transposes of a stack of matrices (..., n, m)."""
    return np.swapaxes(matrices, -1, -2)
