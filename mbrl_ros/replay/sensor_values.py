"""Messages of a base's sensors as the estimator takes them, decoded by `rosbags`; see `nodes.conversions` with ROS."""

from typing import Any

import numpy as np


def base_measurements(message: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Source -> value and covariance, of an Odometry, a PoseStamped or an Imu."""
    kind = message.__msgtype__.rsplit("/", 1)[-1]
    if kind == "Odometry":
        return odometry(message)
    return imu(message) if kind == "Imu" else {"pose": (pose(message.pose), np.zeros(0))}


def pose(message: Any) -> np.ndarray:
    """Position and quaternion (7,) x, y, z, qx, qy, qz, qw."""
    p, q = message.position, message.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def odometry(message: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pose (7,) and twist (6,), each with its covariance (6, 6)."""
    v, w = message.twist.twist.linear, message.twist.twist.angular
    return {
        "odometry_pose": (pose(message.pose.pose), np.reshape(message.pose.covariance, (6, 6))),
        "odometry_twist": (np.array([v.x, v.y, v.z, w.x, w.y, w.z]), np.reshape(message.twist.covariance, (6, 6))),
    }


def imu(message: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Angular velocity and specific force (6,), and the orientation (4,); NaN where a covariance begins with -1."""
    q, w, a = message.orientation, message.angular_velocity, message.linear_acceleration
    motion, covariance = np.array([w.x, w.y, w.z, a.x, a.y, a.z]), np.zeros((6, 6))
    for part, own in (
        (slice(0, 3), message.angular_velocity_covariance),
        (slice(3, 6), message.linear_acceleration_covariance),
    ):
        covariance[part, part] = np.reshape(own, (3, 3))
        if own[0] == -1:
            motion[part] = np.nan
    turned = np.reshape(message.orientation_covariance, (3, 3))
    quaternion = np.full(4, np.nan) if turned[0, 0] == -1 else np.array([q.x, q.y, q.z, q.w])
    return {"imu": (motion, covariance), "imu_orientation": (quaternion, turned)}
