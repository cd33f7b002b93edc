"""Messages to arrays and back: pure functions, the only place that knows both sides."""

from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

NANOSECONDS = 1_000_000_000


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


def to_command(stamp_ns: int, actuators: Sequence[str], effort: np.ndarray, flag: str = "") -> JointState:
    """Efforts (nu,) that act from `stamp_ns` on to a JointState; `flag` says what the guard did."""
    message = JointState(name=list(actuators), effort=np.asarray(effort, float).tolist())
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), flag
    return message


def from_command(message: JointState, actuators: Sequence[str]) -> np.ndarray:
    """Efforts in the order of `actuators`; NaN where the message has none."""
    index = {name: i for i, name in enumerate(message.name)}
    values = message.effort
    return np.array([values[index[a]] if a in index and index[a] < len(values) else np.nan for a in actuators])


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
    stamp_ns: int, dt: float, joints: Sequence[str], states: np.ndarray, actuators: Sequence[str], actions: np.ndarray
) -> JointTrajectory:
    """A plan: states (H + 1, 2 n) and actions (H, nu) as one trajectory; effort NaN at joints without actuator."""
    n, names = len(joints), list(joints)
    columns = [names.index(a) for a in actuators]
    message = JointTrajectory(joint_names=names)
    message.header.stamp = to_time(stamp_ns)
    for k, x in enumerate(states):
        effort = np.full(n, np.nan)
        if k < len(actions):
            effort[columns] = actions[k]
        point = JointTrajectoryPoint(
            positions=x[:n].tolist(),
            velocities=x[n:].tolist(),
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


def own_statuses(message: DiagnosticArray, namespace: str) -> list[tuple[str, DiagnosticStatus]]:
    """Bare name and status of each node of this namespace; ``/diagnostics`` carries those of every graph."""
    prefix = namespace.rstrip("/") + "/"
    found = [(status.name.removeprefix(prefix), status) for status in message.status if status.name.startswith(prefix)]
    return [(name, status) for name, status in found if "/" not in name]
