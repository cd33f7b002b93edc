"""Writes the transitions of a store as a bag that `ros2 bag play` reads, without ROS.

Topics: `observation`, `applied_command` and `trial` as they were, and `joint_states` and `odom` with the values of the
observations (what the sensors said is not stored), for tools that show the robot. Never the robot's own command topic:
playing a bag must not move a robot. Headers carry the true stamps. The times by which a bag is played do not: a pause
between two trials or two days becomes one of `PAUSE_NS`, or else playing it would wait as long.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from mbrl_ros.data.bag_commands import NANOSECONDS
from mbrl_ros.data.bag_reader import (
    APPLIED,
    JOINT_STATE,
    OBSERVATION,
    STATUS,
    TRIAL,
    BagError,
    topic_prefix,
)
from mbrl_ros.data.base_odometry import ODOMETRY, has_pose, odometry
from mbrl_ros.data.store_format import Row
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.robots.command_messages import COMMAND_FIELDS

FORMATS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
JOINT_STATES, ODOM = "joint_states", "odom"
# In the order in which messages of one stamp are played.
TOPICS = {
    TRIAL: STATUS,
    JOINT_STATES: JOINT_STATE,
    ODOM: ODOMETRY,
    OBSERVATION: JOINT_STATE,
    APPLIED: JOINT_STATE,
}
BAG_VERSION: Literal[8] = (
    8  # of rosbag2's metadata: read by Humble, Iron and Jazzy; 9 says QoS in words, which Humble refuses
)
PAUSE_NS = NANOSECONDS  # longest time between two messages when played
DEPTH = 50
LATEST_NS = (2**31 - 1) * NANOSECONDS  # what a ROS time can hold
FOREVER = QosTime(sec=9223372036, nsec=854775807)
TYPES = get_typestore(Stores.ROS2_JAZZY)
Message = tuple[int, str, Any]  # stamp in ns, topic, message


def export_bag(rows: Sequence[Row], layout: StateLayout, robot: str, out: Path, kind: str, namespace: str = "") -> int:
    """Write a bag and return how many messages it has; it appears as a whole or not at all.

    Args:
        rows: transitions in order.
        layout: of the robot.
        robot: name of the robot, for the record.
        out: the bag's folder, which must not exist.
        kind: key of FORMATS.
        namespace: of the topics.

    Raises:
        BagError: there are no rows, they cannot be said as a bag, or the bag cannot be written.
    """
    if out.exists():
        raise BagError(f"{out}: exists already")
    if not rows:
        raise BagError(f"{out}: there are no transitions to export")
    messages = list(played(rows, names_of(layout), robot, round(NANOSECONDS * layout.dt)))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bag_", dir=out.parent) as folder:
            write(Path(folder) / out.name, kind, robot, namespace, messages)
            shutil.move(Path(folder) / out.name, out)
    except (WriterError, OSError) as error:
        raise BagError(f"{out}: cannot write the bag: {error}") from None
    return len(messages)


@dataclass(frozen=True)
class Names:
    """What the entries of state and action are called in messages.

    Attributes:
        joints: whose positions, then velocities, the state begins with.
        base: the entries after them.
        actuators: names of the action's entries.
        field: of the JointState that has the action.
    """

    joints: list[str]
    base: list[str]
    actuators: list[str]
    field: str


def names_of(layout: StateLayout) -> Names:
    """Names in messages, from those of the layout; BagError where its entries are not those of a robot."""
    joints = [name.removesuffix("/position") for name in layout.state if name.endswith("/position")]
    wanted = [f"{j}/position" for j in joints] + [f"{j}/velocity" for j in joints]
    base = list(layout.state[len(wanted) :])
    parts = [name.rsplit("/", 1) if "/" in name else [name, "twist"] for name in layout.action]
    interfaces = {interface for _, interface in parts}
    if list(layout.state[: len(wanted)]) != wanted or any("/" in name for name in base):
        raise BagError(f"the state {list(layout.state)} is not one of joint positions, then velocities, then a base")
    if len(interfaces) != 1 or not interfaces <= set(COMMAND_FIELDS):
        raise BagError(f"the action {list(layout.action)} is not one of a single interface")
    return Names(joints, base, [name for name, _ in parts], COMMAND_FIELDS[interfaces.pop()])


def write(path: Path, kind: str, robot: str, namespace: str, messages: Sequence[Message]) -> None:
    """Write all messages at the times at which they are to be played."""
    used = {name for _, name, _ in messages}
    writer = Writer(path, version=BAG_VERSION, storage_plugin=FORMATS[kind])
    writer.set_custom_data("robot", robot)
    with writer:
        connections = {
            name: writer.add_connection(
                f"{topic_prefix(namespace)}/{name}",
                msgtype,
                typestore=TYPES,
                offered_qos_profiles=[offered(latched=name == TRIAL)],
            )
            for name, msgtype in TOPICS.items()
            if name in used
        }
        for time, (_, name, message) in zip(play_times(messages), messages, strict=True):
            writer.write(connections[name], time, TYPES.serialize_cdr(message, TOPICS[name]))


def offered(latched: bool) -> Qos:
    """QoS with which a topic is played: reliable, which serves subscribers that ask for best effort, too."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else DEPTH,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=FOREVER,
        lifespan=FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=FOREVER,
        avoid_ros_namespace_conventions=False,
    )


def played(rows: Sequence[Row], names: Names, robot: str, dt_ns: int) -> Iterator[Message]:
    """All messages, in the order of their stamps.

    Raises:
        BagError: two rows disagree about the state at one moment, or a stamp is beyond what a ROS time can hold.
    """
    last: Row | None = None
    trial: int | None = None
    for row in sorted(rows, key=lambda row: row.stamp_ns):
        if row.stamp_ns + dt_ns > LATEST_NS:
            raise BagError(f"the stamp {row.stamp_ns} ns is beyond what a ROS time can hold")
        joined = last is not None and row.stamp_ns == last.stamp_ns + dt_ns
        if last is not None and not joined:
            yield from observation(last.stamp_ns + dt_ns, names, last.x_next)
        if joined:
            require_unbroken(last, row)
        if row.trial != trial:
            yield row.stamp_ns, TRIAL, trial_message(row.trial, robot)
        trial = row.trial
        yield from observation(row.stamp_ns, names, row.x)
        yield row.stamp_ns, APPLIED, joint_state(row.stamp_ns, row.flag, names.actuators, **{names.field: row.u})
        last = row
    if last is not None:
        yield from observation(last.stamp_ns + dt_ns, names, last.x_next)


def require_unbroken(last: Row | None, row: Row) -> None:
    """A bag has one state at each moment."""
    if last is not None and not np.array_equal(last.x_next, row.x):
        raise BagError(
            f"the transitions at {last.stamp_ns} and {row.stamp_ns} ns disagree about the state between them"
        )


def observation(stamp_ns: int, names: Names, x: np.ndarray) -> Iterator[Message]:
    """The observation x (nx,), the base among the positions as the estimator has it, and joints and base alone."""
    n = len(names.joints)
    position, velocity, base = x[:n], x[n : 2 * n], x[2 * n :]
    if names.joints:
        yield stamp_ns, JOINT_STATES, joint_state(stamp_ns, "", names.joints, position=position, velocity=velocity)
    if has_pose(names.base):
        entries = dict(zip(names.base, base.tolist(), strict=True))
        yield stamp_ns, ODOM, odometry(TYPES.types, header(stamp_ns, "odom"), entries)
    whole = {"position": np.concatenate([position, base]), "velocity": np.concatenate([velocity, np.zeros(len(base))])}
    yield stamp_ns, OBSERVATION, joint_state(stamp_ns, "", names.joints + names.base, **whole)


def header(stamp_ns: int, frame_id: str) -> Any:
    """A std_msgs/Header."""
    stamp = TYPES.types["builtin_interfaces/msg/Time"](sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)
    return TYPES.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def joint_state(stamp_ns: int, frame_id: str, names: list[str], **values: np.ndarray) -> Any:
    """A sensor_msgs/JointState."""
    empty = np.zeros(0)
    arrays = {
        key: np.ascontiguousarray(values.get(key, empty), dtype=float) for key in ("position", "velocity", "effort")
    }
    return TYPES.types[JOINT_STATE](header=header(stamp_ns, frame_id), name=names, **arrays)


def trial_message(index: int, robot: str) -> Any:
    """What the trial manager publishes when a trial begins; its policy is not stored."""
    pair = TYPES.types["diagnostic_msgs/msg/KeyValue"](key="index", value=str(index))
    return TYPES.types[STATUS](level=0, name="trial", message="run", hardware_id=robot, values=[pair])


def play_times(messages: Sequence[Message]) -> list[int]:
    """Times in ns at which to play messages: their stamps, with long pauses cut short.

    The topics of one stamp follow each other by a nanosecond, so that every reader keeps their order.
    """
    stamps, places = [m[0] for m in messages], [list(TOPICS).index(m[1]) for m in messages]
    steps = np.minimum(np.diff(stamps), PAUSE_NS)
    times = stamps[0] + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    return [int(t) for t in times + places]
