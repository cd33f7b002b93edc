"""Messages to arrays and back: pure functions, the only place that knows both sides."""

from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose, PoseStamped, Twist
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.errors import MessageError
from mbrl_ros.estimation.base_messages import from_pose
from mbrl_ros.estimation.rotation import from_ros, roll_pitch_yaw
from mbrl_ros.robots.command_messages import COMMAND_FIELDS, picked

NANOSECONDS = 1_000_000_000
SMALLEST_NORM = 1e-6  # of a quaternion that tells an orientation
STATE = "state"  # what the diagnostics call the status that sums a node up


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds to a ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def from_time(time: Time) -> int:
    """ROS time to nanoseconds."""
    return time.sec * NANOSECONDS + time.nanosec


def to_duration(seconds: float) -> Duration:
    """Seconds to a ROS duration."""
    nanoseconds = round(seconds * NANOSECONDS)
    return Duration(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def to_joint_state(stamp_ns: int, joints: Sequence[str], x: np.ndarray, remark: str = "") -> JointState:
    """State ``[positions, velocities]`` (2 n,) to a JointState; `remark` goes into the header's frame_id."""
    n = len(joints)
    message = JointState(name=list(joints), position=x[:n].tolist(), velocity=x[n:].tolist())
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), remark
    return message


def from_joint_state(message: JointState, joints: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities in the order of `joints`, NaN where the message has none.

    Accepts any order, extra joints, missing joints, and empty or short arrays.
    """
    index = {name: i for i, name in enumerate(message.name)}

    def pick(values: Sequence[float]) -> np.ndarray:
        return np.array([values[index[j]] if j in index and index[j] < len(values) else np.nan for j in joints])

    return pick(message.position), pick(message.velocity)


def from_observation(message: JointState, joints: Sequence[str], base: Sequence[str]) -> np.ndarray:
    """State (nx,) of an observation: joint positions, joint velocities, then the base's entries."""
    position, velocity = from_joint_state(message, [*joints, *base])
    n = len(joints)
    return np.concatenate([position[:n], velocity[:n], position[n:]])


def to_command(
    stamp_ns: int, actuators: Sequence[str], values: np.ndarray, flag: str = "", interface: str = "effort"
) -> JointState:
    """Commands (nu,) that act from `stamp_ns` on to a JointState; `flag` says what the guard did.

    The values are in the interface's own field; those of a twist are velocities.
    """
    message = JointState(name=list(actuators))
    setattr(message, COMMAND_FIELDS[interface], np.asarray(values, float).tolist())
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), flag
    return message


def from_command(message: JointState, actuators: Sequence[str], interface: str = "effort") -> np.ndarray:
    """Commands in the order of `actuators`; NaN where the message has none in the interface's field."""
    return picked(message.name, getattr(message, COMMAND_FIELDS[interface]), actuators)


def to_float_array(values: np.ndarray) -> Float64MultiArray:
    """What the forward controllers of ros2_control take: one number an actuator."""
    return Float64MultiArray(data=np.asarray(values, float).tolist())


def to_table(columns: Mapping[str, np.ndarray]) -> Float64MultiArray:
    """Named columns of one length, row after row; the second dimension's label lists the names, comma separated."""
    values = np.column_stack([*columns.values()])
    rows = MultiArrayDimension(label="step", size=len(values), stride=values.size)
    names = MultiArrayDimension(label=",".join(columns), size=values.shape[1], stride=values.shape[1])
    return Float64MultiArray(layout=MultiArrayLayout(dim=[rows, names]), data=values.ravel().tolist())


def from_table(message: Float64MultiArray) -> dict[str, np.ndarray]:
    """Inverse of `to_table`."""
    names = message.layout.dim[1].label.split(",")
    return dict(zip(names, np.reshape(message.data, (-1, len(names))).T, strict=True))


def to_scalars(stamp_ns: int, values: Mapping[str, float]) -> JointState:
    """Named scalars of one moment; a JointState, because every tool plots it and it carries a stamp."""
    message = JointState(name=list(values), position=[float(v) for v in values.values()])
    message.header.stamp = to_time(stamp_ns)
    return message


def from_scalars(message: JointState) -> dict[str, float]:
    """Inverse of `to_scalars`."""
    return dict(zip(message.name, message.position, strict=False))


def to_trajectory(
    stamp_ns: int,
    dt: float,
    joints: Sequence[str],
    states: np.ndarray,
    actuators: Sequence[str],
    actions: np.ndarray,
    base: Sequence[str] = (),
) -> JointTrajectory:
    """A plan as one trajectory: states (H + 1, 2 n + nb) and actions (H, nu).

    Each entry of the base is a joint of its own, with its value as position. Actions are in `effort`, whatever the
    command interface, at the actuators; those that are no joints (a twist's) follow at the end. NaN where there is
    nothing.
    """
    n = len(joints)
    names = [*joints, *base, *(a for a in actuators if a not in joints)]
    columns = [names.index(a) for a in actuators]
    message = JointTrajectory(joint_names=names)
    message.header.stamp = to_time(stamp_ns)
    for k, x in enumerate(states):
        position, velocity, effort = np.full((3, len(names)), np.nan)
        position[:n], velocity[:n], position[n : n + len(base)] = x[:n], x[n : 2 * n], x[2 * n :]
        if k < len(actions):
            effort[columns] = actions[k]
        point = JointTrajectoryPoint(
            positions=position.tolist(),
            velocities=velocity.tolist(),
            effort=effort.tolist(),
            time_from_start=to_duration(k * dt),
        )
        message.points.append(point)
    return message


def to_status(
    name: str, hardware_id: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """A diagnostic status with its values as text."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, hardware_id=hardware_id, message=message, values=pairs)


def status_values(status: DiagnosticStatus) -> dict[str, str]:
    """The values of a status as a dict."""
    return {pair.key: pair.value for pair in status.values}


def status_name(node: str, what: str) -> str:
    """Name of a status after REP-107: the node's full name without the slash at its front, and what it is about."""
    return f"{node.lstrip('/')}: {what}"


def own_statuses(message: DiagnosticArray, namespace: str) -> list[tuple[str, DiagnosticStatus]]:
    """Bare name and state of each node of this namespace; ``/diagnostics`` carries those of every graph."""
    prefix, end = namespace.strip("/") + "/" if namespace.strip("/") else "", status_name("", STATE)
    found = [(status.name.removesuffix(end), status) for status in message.status if status.name.endswith(end)]
    return [(name[len(prefix) :], s) for name, s in found if name.startswith(prefix) and "/" not in name[len(prefix) :]]


# Sensors of a base; what reads them is in `estimation.base_messages`.


def to_pose(values: np.ndarray) -> Pose:
    """Inverse of `from_pose`."""
    pose = Pose()
    p, q = pose.position, pose.orientation
    p.x, p.y, p.z, q.x, q.y, q.z, q.w = np.asarray(values, float).tolist()
    return pose


def to_twist(values: np.ndarray) -> Twist:
    """Inverse of `from_twist`."""
    twist = Twist()
    v, w = twist.linear, twist.angular
    v.x, v.y, v.z, w.x, w.y, w.z = np.asarray(values, float).tolist()
    return twist


def to_odometry(stamp_ns: int, pose: np.ndarray, twist: np.ndarray) -> Odometry:
    """Pose (7,) and twist (6,) to an Odometry without covariances."""
    message = Odometry()
    message.header.stamp = to_time(stamp_ns)
    message.pose.pose, message.twist.twist = to_pose(pose), to_twist(twist)
    return message


def to_pose_stamped(stamp_ns: int, pose: np.ndarray) -> PoseStamped:
    """Pose (7,) to a PoseStamped."""
    message = PoseStamped(pose=to_pose(pose))
    message.header.stamp = to_time(stamp_ns)
    return message


def from_pose_goal(message: PoseStamped, frame: str) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) in m and roll, pitch, yaw (3,) in rad of a pose in `frame`; no transforms are looked up.

    Raises:
        MessageError: another frame, or numbers that are no pose.
    """
    if message.header.frame_id not in ("", frame):
        raise MessageError(f"goal: frame_id '{message.header.frame_id[:40]}' is not allowed; expected '{frame}'")
    pose = from_pose(message.pose)
    norm = float(np.linalg.norm(pose[3:]))
    if not (np.isfinite(pose).all() and SMALLEST_NORM < norm < np.inf):
        raise MessageError(f"goal: {pose.tolist()} is not allowed; expected finite numbers and an orientation")
    return pose[:3], np.array(roll_pitch_yaw(from_ros(pose[3:] / norm)))


def to_imu(stamp_ns: int, values: np.ndarray) -> Imu:
    """Angular velocity and specific force (6,) to an Imu without orientation."""
    message = Imu()
    message.header.stamp = to_time(stamp_ns)
    w, a = message.angular_velocity, message.linear_acceleration
    w.x, w.y, w.z, a.x, a.y, a.z = np.asarray(values, float).tolist()
    message.orientation_covariance[0] = -1.0
    return message
