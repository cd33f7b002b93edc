"""Reads recorded bags (sqlite3 and MCAP) as what the learner would have heard, without ROS.

Where `observation` was not recorded, the estimator itself makes the observations anew from the joint states.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

from mbrl_ros.errors import MbrlError
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.estimator import Estimator
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.sensors import estimator_config

NANOSECONDS = 1_000_000_000
JOINT_STATE, STATUS = "sensor_msgs/msg/JointState", "diagnostic_msgs/msg/DiagnosticStatus"
COMMAND_FIELDS = {"effort": "effort", "position": "position", "velocity": "velocity", "twist": "velocity"}
OBSERVATION, APPLIED, TRIAL = "observation", "applied_command", "trial"


class BagError(MbrlError):
    """A bag that cannot be read, lacks a topic or holds another robot."""


@dataclass(frozen=True, eq=False)
class Observed:
    """An observation: x (nx,), and why it is not learned from (bridged, withheld); empty where it is."""

    stamp_ns: int
    x: np.ndarray
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Applied:
    """A command u (nu,) that was applied, with the guard's flag."""

    stamp_ns: int
    u: np.ndarray
    flag: str


@dataclass(frozen=True)
class TrialBegins:
    """From here on the trial has this index."""

    index: int


Event = Observed | Applied | TrialBegins


def is_bag(path: Path) -> bool:
    """Whether the path looks like a bag: its folder, or one file of it."""
    return (path / "metadata.yaml").is_file() or path.suffix in (".mcap", ".db3")


def read_events(path: Path, robot: RobotDescription, config: FilterConfig, namespace: str = "") -> Iterator[Event]:
    """Everything of a bag that matters for transitions, in the order in which it was recorded.

    Args:
        path: the bag's folder, or one file of it.
        robot: whose joints and actuators are looked for.
        config: settings of the state estimator.
        namespace: of the graph that was recorded.

    Raises:
        BagError: the bag cannot be read, or lacks a topic or the robot's joints; the message says which.
    """
    config = estimator_config(config, robot)
    with opened(path) as reader:
        prefix = topic_prefix(namespace)
        names = (OBSERVATION, APPLIED, TRIAL, *config.joints_sources)
        topics = {name: name if name.startswith("/") else f"{prefix}/{name}" for name in names}
        sources = observation_sources(path, reader, topics, config)
        kinds = {topics[name]: JOINT_STATE for name in (APPLIED, *sources)} | {topics[TRIAL]: STATUS}
        connections = [c for c in reader.connections if kinds.get(c.topic) == c.msgtype]
        require_topic(path, reader, topics[APPLIED], JOINT_STATE)
        observer = Observer(robot, config, path)
        name_of = {topic: name for name, topic in topics.items()}
        for connection, _, data in reader.messages(connections):
            yield from observer.events(name_of[connection.topic], reader.deserialize(data, connection.msgtype))


@contextmanager
def opened(path: Path) -> Iterator[AnyReader]:
    """The bag, its reader's many kinds of errors as ours."""
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    if path.is_dir() and not is_bag(path):
        raise BagError(f"{path}: no bag: metadata.yaml is missing; of a recording that was killed: ros2 bag reindex")
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            yield reader
    except MbrlError:
        raise
    except (AnyReaderError, OSError) as error:
        raise BagError(f"{path}: the bag cannot be read: {error}") from None
    except Exception as error:  # damaged bytes make apsw, zstd and the decoders raise more kinds than they document
        raise BagError(f"{path}: the bag is damaged: {type(error).__name__}: {error}") from error


def topic_prefix(namespace: str) -> str:
    """What stands before the names of topics."""
    return f"/{namespace.strip('/')}" if namespace.strip("/") else ""


def observation_sources(path: Path, reader: AnyReader, topics: dict[str, str], config: FilterConfig) -> list[str]:
    """Topics the observations come from: `observation`, or else the joint states."""
    recorded = {c.topic for c in reader.connections if c.msgtype == JOINT_STATE and c.msgcount != 0}
    if topics[OBSERVATION] in recorded:
        return [OBSERVATION]
    if config.base != "none" or config.rate > 0:
        raise BagError(
            f"{path}: '{topics[OBSERVATION]}' was not recorded, and is made anew only without base and at rate 0; "
            f"filter.base is {config.base}, filter.rate {config.rate:g}"
        )
    found = [name for name in config.joints_sources if topics[name] in recorded]
    if not found:
        wanted = ", ".join(topics[name] for name in (OBSERVATION, *config.joints_sources))
        raise BagError(f"{path}: none of {wanted} was recorded as {JOINT_STATE}; {listed(reader)}")
    return found


def require_topic(path: Path, reader: AnyReader, topic: str, kind: str) -> None:
    """Raise BagError where the bag has no such topic."""
    if not any(c.topic == topic and c.msgtype == kind for c in reader.connections):
        raise BagError(f"{path}: '{topic}' was not recorded as {kind}; {listed(reader)}")


def listed(reader: AnyReader) -> str:
    """What the bag has, for a message."""
    return "it has " + (", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in reader.connections)) or "no topic")


class Observer:
    """Turns messages into events, as the nodes between robot and learner do."""

    def __init__(self, robot: RobotDescription, config: FilterConfig, path: Path) -> None:
        """Begin with an estimator that knows nothing."""
        self._robot, self._path = robot, path
        self._estimator = Estimator(config, len(robot.joints), robot.position_noise, robot.velocity_noise)
        self._last_ns = -1

    def events(self, name: str, message: Any) -> Iterator[Event]:
        """What a message on the topic `name` means."""
        if name == TRIAL:
            yield from trial_begins(message)
        elif name == APPLIED:
            values = getattr(message, COMMAND_FIELDS[self._robot.command_interface])
            u = picked(message.name, values, self._robot.actuators)
            yield Applied(stamp_of(message), u, message.header.frame_id)
        else:
            self._require_joints(name, message.name)
            position, velocity = (
                picked(message.name, v, self._robot.joints) for v in (message.position, message.velocity)
            )
            if name == OBSERVATION:
                base = picked(message.name, message.position, self._robot.base_states)
                x = np.concatenate([position, velocity, base])
                yield Observed(stamp_of(message), x, f"bridged: {r}" if (r := message.header.frame_id) else "")
            else:
                yield from self._estimate(name, stamp_of(message), position, velocity)

    def _estimate(self, source: str, stamp_ns: int, position: np.ndarray, velocity: np.ndarray) -> Iterator[Observed]:
        """What the state estimator publishes upon a measurement; see `nodes.state_estimator`."""
        stamp_s = 1e-9 * stamp_ns
        problem = self._estimator.measure_joints(stamp_s, source, position, velocity, stamp_s)
        if problem or stamp_s != self._estimator.newest or stamp_ns == self._last_ns:
            return
        self._last_ns = stamp_ns
        found = self._estimator.observe(stamp_s)
        x = np.concatenate([found.position, found.velocity])
        kind = "withheld" if not found.valid else "bridged" if found.bridged else ""
        yield Observed(stamp_ns, x, f"{kind}: {found.reason}" if kind else "")

    def _require_joints(self, name: str, found: Sequence[str]) -> None:
        """Refuse a bag of another robot; single joints may be missing now and then."""
        if not set(self._robot.entries) & set(found):
            raise BagError(
                f"{self._path}: {name} has the joints {list(found)}, the robot '{self._robot.name}' has "
                f"{list(self._robot.entries)}"
            )


def trial_begins(message: Any) -> Iterator[TrialBegins]:
    """The trial that a message of the trial manager begins, if it does."""
    index = {pair.key: pair.value for pair in message.values}.get("index", "")
    if message.message == "run" and index.isdecimal():
        yield TrialBegins(int(index))


def stamp_of(message: Any) -> int:
    """Stamp of a message's header in ns."""
    return message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec


def picked(names: Sequence[str], values: Sequence[float], wanted: Sequence[str]) -> np.ndarray:
    """Values in the order of `wanted`, NaN where the message has none."""
    index = {name: i for i, name in enumerate(names)}
    return np.array([values[index[n]] if n in index and index[n] < len(values) else np.nan for n in wanted], float)
