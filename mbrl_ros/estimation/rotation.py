"""Unit quaternions (w, x, y, z) of Hamilton's kind, base to fixed frame (Solà 2017, sections 1 and 2)."""

import math

import numpy as np


def from_ros(q: np.ndarray) -> np.ndarray:
    """Quaternion (4,) from the order x, y, z, w of ROS."""
    return np.array([q[3], q[0], q[1], q[2]])


def product(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Hamilton product."""
    pw, pv, qw, qv = p[0], p[1:], q[0], q[1:]
    return np.concatenate([[pw * qw - pv @ qv], pw * qv + qw * pv + np.cross(pv, qv)])


def conjugate(q: np.ndarray) -> np.ndarray:
    """The inverse rotation."""
    return q * np.array([1.0, -1.0, -1.0, -1.0])


def exponential(rotation: np.ndarray) -> np.ndarray:
    """Quaternion of a rotation vector (3,)."""
    half = 0.5 * float(np.linalg.norm(rotation))
    return np.concatenate([[math.cos(half)], 0.5 * np.sinc(half / math.pi) * rotation])


def logarithm(q: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) of a quaternion, at most pi long."""
    q = q if q[0] >= 0 else -q
    norm = float(np.linalg.norm(q[1:]))
    return q[1:] * (2.0 if norm < 1e-12 else 2.0 * math.atan2(norm, q[0]) / norm)


def matrix(q: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3): vectors of the base to the fixed frame."""
    w, v = q[0], q[1:]
    return (w * w - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * skew(v)


def skew(v: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) of the cross product with v."""
    return np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])


def roll_pitch_yaw(q: np.ndarray) -> tuple[float, float, float]:
    """Angles about the fixed x, y, z axes, in this order, as ROS counts them (REP-103)."""
    w, x, y, z = q
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = math.asin(min(1.0, max(-1.0, 2 * (w * y - x * z))))
    return roll, pitch, yaw_of(q)


def yaw_of(q: np.ndarray) -> float:
    """Heading in rad."""
    w, x, y, z = q
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def level(force: np.ndarray) -> np.ndarray:
    """Orientation (4,) without yaw in which a resting accelerometer shows the specific force (3,)."""
    roll = math.atan2(force[1], force[2])
    pitch = math.atan2(-force[0], math.hypot(force[1], force[2]))
    return product(exponential(np.array([0.0, pitch, 0.0])), exponential(np.array([roll, 0.0, 0.0])))
