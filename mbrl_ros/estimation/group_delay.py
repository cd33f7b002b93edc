"""How much later than the truth the joint filter's estimate is, measured on a sinusoidal motion without noise."""

import math
from dataclasses import replace

import numpy as np

from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.joint_filter import JointFilter

AMPLITUDE = 1e-3  # m or rad; the filter is linear, so it does not matter as long as nothing is an outlier
SWINGS = 4  # of the motion that are looked at, after as many to settle


def group_delay(
    config: FilterConfig, noise: tuple[float, float], dt: float, frequency: float, with_velocity: bool = True
) -> tuple[float, float]:
    """Delay of estimated position and velocity in s, negative where the estimate leads.

    Args:
        config: the filter's settings.
        noise: standard deviations of position and velocity measurements that the filter assumes.
        dt: time between two measurements, s.
        frequency: of the motion, Hz; below 0.5 / dt.
        with_velocity: whether velocities are measured, too.
    """
    open_gate = replace(config, gate=1 - 1e-12, max_gap=10.0)
    joint = JointFilter(open_gate, 1, *noise)
    w = 2 * math.pi * frequency
    n = math.ceil(SWINGS / (frequency * dt))
    t = dt * np.arange(2 * n)
    position, velocity = AMPLITUDE * np.sin(w * t), AMPLITUDE * w * np.cos(w * t)
    results = [
        joint.update(s, np.array([p]), np.array([v]) if with_velocity else None)
        for s, p, v in zip(t, position, velocity, strict=True)
    ]
    late = slice(n, None)
    estimates = np.array([[r.position[0], r.velocity[0]] for r in results])[late]
    return phase(estimates[:, 0], position[late], velocity[late] / w) / w, phase(
        estimates[:, 1], velocity[late] / w, -position[late]
    ) / w


def phase(estimate: np.ndarray, motion: np.ndarray, quarter_earlier: np.ndarray) -> float:
    """Phase in rad by which the estimate follows the motion: least squares on the motion and its quarter-turned."""
    (in_phase, early), *_ = np.linalg.lstsq(np.stack([motion, quarter_earlier], axis=1), estimate, rcond=None)
    return -math.atan2(early, in_phase)
