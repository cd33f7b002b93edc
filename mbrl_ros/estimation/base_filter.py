"""What the filters of a moving base share: an extended Kalman filter over an error state, gate, restart, validity.

The state is a nominal one plus a small error of which the covariance is kept; after each measurement the error is
put into the nominal state (Solà 2017, "Quaternion kinematics for the error-state Kalman filter", section 6). A
subclass gives the motion and the measurement models. Measurements come as vectors with their covariance::

    pose         (7,) x, y, z, qx, qy, qz, qw     covariance (6, 6) of position and rotation vector
    twist        (6,) linear and angular velocity in the base's frame, covariance (6, 6)
    imu          (6,) angular velocity and specific force in the base's frame, covariance (6, 6)
    orientation  (4,) qx, qy, qz, qw              covariance (3, 3) of the rotation vector
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtri

from mbrl_ros.estimation.config import FilterConfig

KINDS = {"pose": 7, "twist": 6, "imu": 6, "orientation": 4}  # lengths of their values
LOCATING = ("pose", "twist")  # kinds without which an estimate is soon worth nothing
# Variances of errors of which nothing is known: large beside what can be, small enough for the arithmetic.
UNKNOWN_POSITION, UNKNOWN_ANGLE, UNKNOWN_VELOCITY = 1e12, 1e2, 1e4
SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-12, 1e12  # of a measurement
DIVERGED = 1e20  # a variance beyond is no estimate any more
LARGEST = {"pose": 1e9, "twist": 1e4, "imu": 1e4, "orientation": 2.0}  # whatever lies beyond is never believed


@dataclass(frozen=True)
class BaseMeasurement:
    """One measurement, `value` with NaN where an entry was not measured."""

    source: str
    kind: str
    value: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Innovation:
    """A measurement against the estimate.

    Attributes:
        error: (m,) what was measured minus what was expected.
        jacobian: (m, n) of the measurement by the error state.
        noise: (m, m) covariance of the measurement.
        measured: entries of the error state that it measures; a restart takes these from it alone.
    """

    error: np.ndarray
    jacobian: np.ndarray
    noise: np.ndarray
    measured: np.ndarray


@dataclass(frozen=True)
class BaseResult:
    """Estimate of the base: `values` by name, `covariance` of the error state; see `joint_filter.FilterResult`."""

    values: dict[str, float]
    covariance: np.ndarray
    valid: bool
    reason: str
    bridged: bool


class BaseFilter(ABC):
    """Extended Kalman filter over an error state; a `replay.Replayable`."""

    size: int  # of the error state
    position: slice  # entries of the error state that are the position
    unknown: np.ndarray  # (size,) variances of errors of which nothing is known

    def __init__(self, config: FilterConfig) -> None:
        self._config = config
        self.forget()

    # what a subclass gives

    @abstractmethod
    def _start(self) -> None:
        """Set the nominal state and covariance of which nothing is known."""

    @abstractmethod
    def _propagate(self, dt: float) -> None:
        """Let `dt` s pass."""

    @abstractmethod
    def _compare(self, measurement: BaseMeasurement) -> Innovation | None:
        """The measurement against the estimate; None where nothing of it can be used."""

    @abstractmethod
    def _inject(self, error: np.ndarray) -> None:
        """Put the error (n,) into the nominal state."""

    @abstractmethod
    def _values(self) -> dict[str, float]:
        """The estimate by name."""

    def _missing(self) -> str:
        """What else is missing for a valid estimate."""
        return ""

    # what they share

    def forget(self) -> None:
        """Know nothing."""
        self._stamp = -math.inf
        self._heard = -math.inf  # stamp of the last accepted pose or twist
        self._located = not self._config.measures_pose
        self._rejected: dict[str, int] = {}  # in a row, by source
        self._note = ""  # what was unusual at the last measurement
        self.nominal: dict[str, np.ndarray] = {}
        self.covariance = np.zeros((self.size, self.size))
        self._start()

    def snapshot(self) -> tuple[Any, ...]:
        """See `replay.Replayable`; arrays are replaced, never written to."""
        return (
            self._stamp, self._heard, self._located, dict(self._rejected), self._note,
            dict(self.nominal), self.covariance,
        )  # fmt: skip

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """See `replay.Replayable`."""
        self._stamp, self._heard, self._located, rejected, self._note, nominal, self.covariance = snapshot
        self._rejected, self.nominal = dict(rejected), dict(nominal)

    def apply(self, stamp_s: float, measurement: BaseMeasurement) -> BaseResult:
        """See `replay.Replayable`."""
        self._advance(stamp_s)
        self._note = ""
        with np.errstate(over="ignore", invalid="ignore"):
            self._use(measurement)
        if not self._sound():
            self.forget()
            self._stamp, self._note = stamp_s, "started afresh: the filter diverged"
        return self._result()

    def at(self, stamp_s: float) -> BaseResult:
        """See `replay.Replayable`."""
        now = self.snapshot()
        self._advance(stamp_s)
        result = self._result()
        self.restore(now)
        return result

    def _sound(self) -> bool:
        """Whether the estimate is made of usable numbers."""
        variances = np.diag(self.covariance)
        bounded = bool(np.all((variances >= 0) & (variances <= DIVERGED)))  # so written, NaN is not
        return bounded and np.all(np.isfinite(list(self._values().values()))).item()

    def _advance(self, stamp_s: float) -> None:
        """Let time pass up to the stamp; of a long silence, after which nothing is valid, only its start."""
        if self._stamp < stamp_s:
            if math.isfinite(self._stamp):
                self._propagate(min(stamp_s - self._stamp, 2.0 * self._config.base_max_gap + 0.1))
            self._stamp = float(stamp_s)

    def _use(self, measurement: BaseMeasurement) -> None:
        """Correct by a measurement that passes the gate; one of a row that did not is believed in the end."""
        innovation = self._compare(measurement)
        if innovation is None:
            return
        source, rejected = measurement.source, self._rejected.get(measurement.source, 0)
        first = measurement.kind in LOCATING and not self._known(measurement.kind)
        if not first and not self._fits(innovation):
            rejected += 1
            self._rejected[source] = rejected
            if rejected < self._config.rejections_to_restart:
                self._note = f"outlier left out: {source}"
                return
            first = True
            self._note = f"started afresh: {source}"
        if first:
            self._free(innovation.measured)
        self._correct(innovation)
        self._rejected[source] = 0
        if measurement.kind in LOCATING:
            self._heard = self._stamp
            self._located |= measurement.kind == "pose" and bool(np.isfinite(measurement.value[:2]).all())

    def _known(self, kind: str) -> bool:
        """Whether there is anything to hold a measurement of this kind against."""
        recent = self._stamp - self._heard <= self._config.base_max_gap
        return recent and (self._located or kind != "pose")

    def _fits(self, innovation: Innovation) -> bool:
        """Whether the normalised innovation squared lies within the chi-square quantile."""
        H = innovation.jacobian
        S = H @ self.covariance @ H.T + innovation.noise
        try:
            nis = float(innovation.error @ np.linalg.solve(S, innovation.error))
        except np.linalg.LinAlgError:
            return False
        return nis <= chdtri(len(innovation.error), 1 - self._config.gate)

    def _free(self, entries: np.ndarray) -> None:
        """Know nothing of some entries of the error state any more."""
        P = self.covariance.copy()
        P[entries], P[:, entries] = 0.0, 0.0
        P[entries, entries] = self.unknown[entries]
        self.covariance = P

    def _correct(self, innovation: Innovation) -> None:
        """Kalman update in Joseph's form, which keeps the covariance symmetric and positive."""
        P, H, R = self.covariance, innovation.jacobian, innovation.noise
        K = np.linalg.solve(H @ P @ H.T + R, H @ P).T  # (S^-1 H P)' = P H' S^-1
        A = np.eye(self.size) - K @ H
        self.covariance = A @ P @ A.T + K @ R @ K.T
        self._inject(K @ innovation.error)

    def _result(self) -> BaseResult:
        problem = self._problem()
        age = self._stamp - self._heard
        stale = not age <= self._config.freshness
        note = self._note or ("base: pose and twist not measured" if stale else "")
        return BaseResult(self._values(), self.covariance, not problem, problem or note, stale)

    def _problem(self) -> str:
        """Why the estimate may not be used, or an empty text."""
        if not self._stamp - self._heard <= self._config.base_max_gap:
            return "base: no recent pose or twist"
        if not self._located:
            return "base: no pose yet"
        std = math.sqrt(max(0.0, np.diag(self.covariance)[self.position].max()))
        if self._config.measures_pose and std > self._config.base_max_std:
            return f"base: the position's spread is {std:.3g} m, base_max_std is {self._config.base_max_std:g} m"
        return self._missing()


def usable(source: str, kind: str, value: Any, covariance: Any, config: FilterConfig) -> BaseMeasurement | str:
    """Make a measurement of raw numbers, or say why there is none.

    Entries that are not finite, absurdly large or of huge variance count as not measured. A covariance that is
    missing, or is none, is replaced by the noise in the configuration.
    """
    n_value = KINDS[kind]
    z, R = np.array(value, dtype=float).reshape(-1), np.array(covariance, dtype=float)
    if z.shape != (n_value,):
        return f"{kind}: {z.size} numbers; expected {n_value}"
    z[~(np.abs(z) <= LARGEST[kind])] = np.nan
    if kind in ("pose", "orientation"):
        norm = np.linalg.norm(z[-4:])
        z[-4:] = z[-4:] / norm if 0.5 < norm < 2.0 else np.nan  # so written, NaN is none
    if not np.isfinite(z).any():
        return f"{kind}: no finite number, or no orientation"
    return BaseMeasurement(source, kind, z, usable_covariance(R, default_variance(kind, config)))


def default_variance(kind: str, config: FilterConfig) -> np.ndarray:
    """Variances (n,) of the entries of a kind where a message has none."""
    position, orientation = [config.position_std] * 3, [config.orientation_std] * 3
    stds = {
        "pose": position + orientation,
        "twist": [config.twist_std] * 3 + [config.turn_std] * 3,
        "imu": [config.turn_std] * 3 + [1.0] * 3,  # the force is no measurement but an input of six_dof
        "orientation": orientation,
    }[kind]
    return np.square(stds)


def usable_covariance(R: np.ndarray, default: np.ndarray) -> np.ndarray:
    """The covariance where it is one; else its sound variances, and the default's where they are not."""
    n = len(default)
    if R.shape != (n, n):
        return np.diag(default)
    variances = np.diag(R)
    sound = np.isfinite(variances) & (variances > 0)
    usual = sound.all() and variances.min() >= SMALLEST_VARIANCE and variances.max() <= LARGEST_VARIANCE
    if usual and np.all(np.abs(R) <= LARGEST_VARIANCE):
        scale, symmetric = np.sqrt(variances), 0.5 * (R + R.T)
        if np.linalg.eigvalsh(symmetric / np.outer(scale, scale)).min() > 1e-9:
            return symmetric
    return np.diag(np.clip(np.where(sound, variances, default), SMALLEST_VARIANCE, LARGEST_VARIANCE))


def wrapped(angle: float) -> float:
    """The angle in [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
