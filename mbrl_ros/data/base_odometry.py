"""A base's state as nav_msgs/Odometry, for bags: what rviz and other tools draw."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mbrl_ros.estimation.rotation import exponential, product

ODOMETRY = "nav_msgs/msg/Odometry"
QUATERNION = ("base_qw", "base_qx", "base_qy", "base_qz")
ANGLES, AXES = ("roll", "pitch", "yaw"), np.eye(3)


def has_pose(entries: list[str]) -> bool:
    """Whether these entries of a base say where it is and how it is turned."""
    return {"base_x", "base_y"} <= set(entries) and ("base_yaw" in entries or set(QUATERNION) <= set(entries))


def odometry(types: Mapping[str, Any], header: Any, entries: Mapping[str, float]) -> Any:
    """An Odometry of the base; what the entries do not say is 0, and covariances are 0: not known.

    Args:
        types: message classes by name, of a rosbags typestore.
        header: std_msgs/Header with the stamp.
        entries: of the state, by name: ``base_x`` and so on, m, rad, m/s, rad/s.
    """

    def vector(kind: str, *names: str) -> Any:
        values = (float(entries.get(f"base_{name}", 0.0)) for name in names)
        return types[f"geometry_msgs/msg/{kind}"](**dict(zip("xyz", values, strict=True)))

    w, x, y, z = orientation(entries).tolist()
    turned = types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)
    pose = types["geometry_msgs/msg/Pose"](position=vector("Point", "x", "y", "z"), orientation=turned)
    speed = types["geometry_msgs/msg/Twist"](
        linear=vector("Vector3", "vx", "vy", "vz"), angular=vector("Vector3", "wx", "wy", "wz")
    )
    unknown = np.zeros(36)
    return types[ODOMETRY](
        header=header,
        child_frame_id="base_link",
        pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=unknown),
        twist=types["geometry_msgs/msg/TwistWithCovariance"](twist=speed, covariance=unknown),
    )


def orientation(entries: Mapping[str, float]) -> np.ndarray:
    """Quaternion (4,) w, x, y, z, from one, or from roll, pitch and yaw about fixed axes (REP-103)."""
    if set(QUATERNION) <= set(entries):
        return np.array([entries[name] for name in QUATERNION], dtype=float)
    roll, pitch, yaw = (exponential(entries.get(f"base_{n}", 0.0) * axis) for n, axis in zip(ANGLES, AXES, strict=True))
    return product(yaw, product(pitch, roll))
