"""How late a robot is, from a recorded excitation: the delay that explains its motion best.

An autoregressive model with the delayed command as input is fitted for every candidate delay; the residual is smallest
at the true one (Ljung 1999, System Identification, section 10.2 on delays; here the delay may be any time, because a
command is piecewise constant and its mean over a shifted interval is known exactly).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_ros.errors import MbrlError

STEPS = 400  # candidate delays up to the longest that is allowed
BEYOND = 3  # times the longest: so far is looked, for under a periodic wave a longer delay looks like a shorter one
CLEARLY = 1.3  # times less of the motion is unexplained by a longer delay that is believed
WHOLE = 0.5  # share of the measurements that must be complete for the others to be left out
SIGNIFICANCE = 30.0  # F statistic of the command that shows that the motion follows it
SHORTEST_STEP = 0.02  # s; noise hides what happens in less, so faster sensors are thinned out to it


class DelayError(MbrlError):
    """The recording does not say how late the robot is."""


@dataclass(frozen=True)
class Recording:
    """One repetition of the excitation.

    Attributes:
        sent_s: times at which a command was sent (C,), in s, rising.
        command: what was sent to the actuator that is moved (C,); it stays until the next one.
        stamp_s: stamps of the measurements (T,) in s, rising.
        position: of all joints (T, n), NaN where not measured; n may be 0.
        velocity: of all joints, or a base's twist (T, nv), NaN where not measured.
        moved: column of `velocity` (and `position`) that the actuator moves.
    """

    sent_s: np.ndarray
    command: np.ndarray
    stamp_s: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    moved: int


def actuation_delay(recording: Recording, interface: str, longest_s: float) -> float:
    """Time in s from a command until it moves the robot, by the stamps of the measurements.

    Args:
        recording: one repetition.
        interface: what the command is: effort, velocity, position or twist.
        longest_s: longest delay that is allowed.

    Raises:
        DelayError: too few measurements, the command explains nothing of the motion, or the delay is longer.
    """
    stamps, position, velocity = thinned(*motion(recording))
    before, after = stamps[:-1], stamps[1:]
    steps = after - before
    good = (steps > 0) & (steps < 3 * np.median(steps))
    state = np.concatenate([position, velocity, np.ones((len(stamps), 1))], axis=1)[:-1][good]
    moved = position[:, recording.moved] if interface == "position" else velocity[:, recording.moved]
    target = (moved[1:] - moved[:-1])[good]
    if good.sum() < 4 * (state.shape[1] + 2):
        raise DelayError(f"only {good.sum()} measurements in one repetition; let it last longer")
    signal = Steps(recording.sent_s, recording.command)
    delays = np.linspace(0.0, BEYOND * longest_s, BEYOND * STEPS + 1)
    residuals = np.empty(len(delays))
    for i, delay in enumerate(delays):
        inputs = [signal.mean(before[good] - delay, after[good] - delay)]
        if interface != "effort":  # a drive that follows within the period: what it was told last counts, too
            inputs.append(signal.value(after[good] - delay))
        residuals[i] = residual(np.column_stack([state, *inputs]), target)
    best, any_best = int(residuals[: STEPS + 1].argmin()), int(residuals.argmin())
    freedom = len(target) - state.shape[1] - len(inputs)
    if residual(state, target) - residuals[best] < SIGNIFICANCE * len(inputs) * residuals[best] / freedom:
        raise DelayError("the motion does not follow the command; use a larger --share, and see that the robot is free")
    if residuals[best] > CLEARLY * residuals[any_best]:
        raise DelayError(
            f"the delay is about {delays[any_best]:.2f} s, more than {longest_s:g} s; use a larger --longest"
        )
    return float(refined(delays, residuals, best))


def agreed(delays_s: Sequence[float], period_s: float, what: str, advice: str) -> float:
    """Median of delays (n,) in s.

    Args:
        delays_s: what was measured.
        period_s: control period.
        what: they are, for the error.
        advice: for the error, what to do.

    Raises:
        DelayError: half of them are further apart than a control period: they do not say how many periods it is.
    """
    low, middle, high = np.percentile(delays_s, [25, 50, 75])
    if high - low > period_s:
        raise DelayError(
            f"the {what} disagree: half of them from {1e3 * low:.1f} to {1e3 * high:.1f} ms, further apart than a "
            f"control period ({1e3 * period_s:g} ms); {advice}"
        )
    return float(middle)


def motion(recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stamps, positions and velocities; velocities that are not measured are differences, at the times between.

    A message now and then without a joint or a number is passed over.
    """
    stamps, position, velocity = recording.stamp_s, recording.position, recording.velocity
    placed = np.isfinite(position).all(axis=1)
    whole = placed & np.isfinite(velocity).all(axis=1)
    if whole.mean() >= WHOLE:
        return stamps[whole], position[whole], velocity[whole]
    if position.shape[1] == 0 or placed.mean() < WHOLE:
        raise DelayError("measurements are missing: most messages lack velocities, and positions, too")
    stamps, position = stamps[placed], position[placed]
    steps = np.diff(stamps)[:, None]
    middle = 0.5 * (stamps[1:] + stamps[:-1])
    return middle, 0.5 * (position[1:] + position[:-1]), np.diff(position, axis=0) / np.maximum(steps, 1e-6)


def thinned(stamps: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every k-th measurement, so that one step is SHORTEST_STEP or longer."""
    every = max(1, round(SHORTEST_STEP / max(float(np.median(np.diff(stamps))), 1e-6))) if len(stamps) > 1 else 1
    return stamps[::every], position[::every], velocity[::every]


def residual(regressors: np.ndarray, target: np.ndarray) -> float:
    """Sum of squares that a linear fit leaves: regressors (T, k), target (T,)."""
    scaled = regressors / np.maximum(np.abs(regressors).max(axis=0), 1e-12)
    weights, *_ = np.linalg.lstsq(scaled, target, rcond=1e-9)
    return float(np.sum((target - scaled @ weights) ** 2))


def refined(delays: np.ndarray, residuals: np.ndarray, best: int) -> float:
    """Place of the minimum by a parabola through three points; the grid's where there are none beside it."""
    if not 0 < best < len(delays) - 1:
        return delays[best]
    left, middle, right = residuals[best - 1 : best + 2]
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return delays[best] + shift * (delays[1] - delays[0])


class Steps:
    """A signal that stays at each value until the next one; 0 before the first."""

    def __init__(self, times_s: np.ndarray, values: np.ndarray) -> None:
        """Times (C,) rising and values (C,)."""
        self._times, self._values = np.asarray(times_s, float), np.concatenate([[0.0], np.asarray(values, float)])
        self._integral = np.concatenate([[0.0], np.cumsum(self._values[1:-1] * np.diff(self._times))])

    def value(self, time_s: np.ndarray) -> np.ndarray:
        """Value at times (T,)."""
        return self._values[np.searchsorted(self._times, time_s, side="right")]

    def integral(self, time_s: np.ndarray) -> np.ndarray:
        """Integral from the first change to times (T,)."""
        i = np.searchsorted(self._times, time_s, side="right")
        start = self._times[np.maximum(i - 1, 0)]
        return np.where(i > 0, self._integral[np.maximum(i - 1, 0)] + self._values[i] * (time_s - start), 0.0)

    def mean(self, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """Mean over intervals (T,)."""
        return (self.integral(end_s) - self.integral(start_s)) / (end_s - start_s)


def square_wave(time_s: float, length_s: float, half_period_s: float) -> float:
    """Excitation between -1 and 1 that brings a free mass back to where it was: a quarter, whole halves, a quarter.

    0 before it begins and after `length_s`, which is shortened to whole periods.
    """
    period = 2 * half_period_s
    periods = max(1, int(length_s / period + 1e-9))
    if not 0 <= time_s < periods * period:
        return 0.0
    return 1.0 if (time_s + 0.5 * half_period_s) % period < half_period_s else -1.0
