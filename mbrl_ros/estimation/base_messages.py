"""What the sensors of a base say, as arrays. No ROS: messages of rclpy and those of a bag have the same fields.

Values and covariances as `base_filter` takes them, which judges what is not finite.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def from_pose(pose: Any) -> np.ndarray:
    """Position and quaternion (7,) x, y, z, qx, qy, qz, qw of a geometry_msgs/Pose."""
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def from_twist(twist: Any) -> np.ndarray:
    """Linear and angular velocity (6,) of a geometry_msgs/Twist."""
    v, w = twist.linear, twist.angular
    return np.array([v.x, v.y, v.z, w.x, w.y, w.z])


def from_odometry(message: Any) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pose (7,) and twist (6,) of a nav_msgs/Odometry, each with its covariance (6, 6)."""
    pose = from_pose(message.pose.pose), covariance_of(message.pose.covariance)
    return pose, (from_twist(message.twist.twist), covariance_of(message.twist.covariance))


def from_imu(message: Any) -> tuple[np.ndarray, np.ndarray]:
    """Angular velocity and specific force (6,) of a sensor_msgs/Imu with their covariance (6, 6).

    A covariance that begins with -1 says that the quantity is not measured.
    """
    w, a = message.angular_velocity, message.linear_acceleration
    value, covariance = np.array([w.x, w.y, w.z, a.x, a.y, a.z]), np.zeros((6, 6))
    for part, own in (
        (slice(0, 3), message.angular_velocity_covariance),
        (slice(3, 6), message.linear_acceleration_covariance),
    ):
        covariance[part, part] = covariance_of(own)
        if own[0] == -1:
            value[part] = np.nan
    return value, covariance


def from_imu_orientation(message: Any) -> tuple[np.ndarray, np.ndarray]:
    """Quaternion (4,) and covariance (3, 3); NaN where the covariance begins with -1: it is not measured."""
    q, covariance = message.orientation, covariance_of(message.orientation_covariance)
    none = message.orientation_covariance[0] == -1
    return np.full(4, np.nan) if none else np.array([q.x, q.y, q.z, q.w]), covariance


def covariance_of(numbers: Sequence[float]) -> np.ndarray:
    """A message's flat covariance as a square matrix."""
    n = math.isqrt(len(numbers))
    return np.array(numbers, dtype=float).reshape(n, n)


def base_measurements(message: Any, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All that a message tells of a base: source of the base filter -> value and covariance.

    Args:
        message: of the type `kind`.
        kind: Odometry, PoseStamped (which has no covariance) or Imu.
    """
    if kind == "Odometry":
        pose, twist = from_odometry(message)
        return {"odometry_pose": pose, "odometry_twist": twist}
    if kind == "PoseStamped":
        return {"pose": (from_pose(message.pose), np.zeros(0))}
    return {"imu": from_imu(message), "imu_orientation": from_imu_orientation(message)}
