"""Reads recorded bags (sqlite3 and MCAP) as what the learner would have heard, without ROS.

Where `observation` was not recorded, the estimator itself makes the observations anew from what the sensors said. Where
`applied_command` was not recorded, as with a robot that something else has moved, the robot's own command topic counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from mbrl_ros.data.bag_commands import NANOSECONDS, Applied, GuardedCommands, RobotCommands
from mbrl_ros.data.bag_observer import BagError, Observed, Observer
from mbrl_ros.data.recorded_topics import COMMAND_TYPES, full_name, sensor_topics, trial_index
from mbrl_ros.errors import MbrlError
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.sensors import estimator_config

JOINT_STATE, STATUS = "sensor_msgs/msg/JointState", "diagnostic_msgs/msg/DiagnosticStatus"
OBSERVATION, APPLIED, TRIAL = "observation", "applied_command", "trial"
POSES = ["nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped"]  # what tells where a base is


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
    settings = estimator_config(config, robot)
    with opened(path) as reader:
        topics = Topics(path, reader, namespace)
        command, commands = command_source(topics, robot), command_reader_of(topics, robot)
        sources = observation_sources(topics, robot, config)
        stamps = None
        if sources_need_stamps(command, sources, settings):
            stamps = command_stamps(topics, command, command_reader_of(topics, robot), round(NANOSECONDS * robot.dt))
            settings = replace(settings, rate=settings.rate or robot.control_rate)  # how fresh measurements must be
        observer, trials = Observer(robot, settings, path, stamps), topics.source(TRIAL, STATUS)
        for source, time_ns, message in topics.messages([command, trials, *sources]):
            if source == trials:
                yield from observer.made_before()
                yield from trial_begins(message)
            elif source == command:
                yield from commands.read(time_ns, message)
            elif source.name == OBSERVATION:
                yield observer.recorded(source.name, message)
            else:
                yield from observer.measured(source.name, source.kind.rsplit("/", 1)[-1], message)
        yield from observer.made_before()
        observer.require_own_joints()


@contextmanager
def opened(path: Path) -> Iterator[AnyReader]:
    """The bag, its reader's many kinds of errors as ours."""
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    if path.is_dir() and not is_bag(path):
        raise BagError(
            f"{path}: no bag: metadata.yaml is missing; of a recording that was killed: mbrl_ros bag recover"
        )
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


@dataclass(frozen=True)
class Source:
    """A topic by its name in the configuration and in the bag, and its message type."""

    name: str
    full: str
    kind: str


@dataclass(frozen=True)
class Topics:
    """The topics of a bag, and what those of a graph are called in it."""

    path: Path
    reader: AnyReader
    namespace: str

    def source(self, name: str, kind: str) -> Source:
        """A topic of the graph."""
        return Source(name, full_name(name, self.namespace), kind)

    def has(self, source: Source) -> bool:
        """Whether there are messages of it."""
        return any(self._is(c, source) and c.msgcount != 0 for c in self.reader.connections)

    def messages(self, sources: Sequence[Source]) -> Iterator[tuple[Source, int, Any]]:
        """Messages of these topics in the order in which they were recorded, each with its topic and time in ns."""
        of = {c.id: s for s in sources for c in self.reader.connections if self._is(c, s)}
        for connection, time_ns, data in self.reader.messages([c for c in self.reader.connections if c.id in of]):
            yield of[connection.id], time_ns, self.reader.deserialize(data, connection.msgtype)

    @staticmethod
    def _is(connection: Connection, source: Source) -> bool:
        return connection.topic == source.full and connection.msgtype == source.kind


def command_source(topics: Topics, robot: RobotDescription) -> Source:
    """Where the commands come from: `applied_command`, or else the robot's own command topic.

    Raises:
        BagError: neither was recorded.
    """
    guarded = topics.source(APPLIED, JOINT_STATE)
    own = topics.source(robot.output_topic, COMMAND_TYPES[robot.output_message])
    for source in (guarded, own):
        if topics.has(source):
            return source
    raise BagError(
        f"{topics.path}: neither '{guarded.full}' was recorded as {guarded.kind} nor the robot's '{own.full}' as "
        f"{own.kind}; {listed(topics.reader)}"
    )


def command_reader_of(topics: Topics, robot: RobotDescription) -> GuardedCommands | RobotCommands:
    """What reads the messages of `command_source`."""
    guarded = topics.has(topics.source(APPLIED, JOINT_STATE))
    return GuardedCommands(robot) if guarded else RobotCommands(robot)


def observation_sources(topics: Topics, robot: RobotDescription, config: FilterConfig) -> list[Source]:
    """Where the observations come from: `observation`, or else all sensors that were recorded.

    Raises:
        BagError: nothing tells of the joints, or nothing where the base is.
    """
    if topics.has(published := topics.source(OBSERVATION, JOINT_STATE)):
        return [published]
    sensors = [topics.source(name, kind) for name, kind in sensor_topics(robot, config).items()]
    found = [source for source in sensors if topics.has(source)]
    for needed in ([JOINT_STATE] * bool(robot.joints), POSES * (robot.base != "none")):
        if needed and not any(source.kind in needed for source in found):
            wanted = ", ".join([published.full, *(s.full for s in sensors if s.kind in needed)])
            raise BagError(
                f"{topics.path}: none of {wanted} was recorded as {' or '.join(needed)}; {listed(topics.reader)}"
            )
    return found


def sources_need_stamps(command: Source, sources: Sequence[Source], config: FilterConfig) -> bool:
    """Whether observations are to be made at the stamps of the commands: those of the measurements are not theirs."""
    if any(source.name == OBSERVATION for source in sources):
        return False
    return config.base != "none" or config.rate > 0 or command.name != APPLIED


def command_stamps(topics: Topics, command: Source, commands: GuardedCommands | RobotCommands, dt_ns: int) -> list[int]:
    """Stamps at which a command began or ended to act: where observations are needed."""
    given: set[int] = set()
    for _, time_ns, message in topics.messages([command]):
        given |= {applied.stamp_ns for applied in commands.read(time_ns, message)}
    return sorted(given | {stamp + dt_ns for stamp in given})


def listed(reader: AnyReader) -> str:
    """What the bag has, for a message."""
    return "it has " + (", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in reader.connections)) or "no topic")


def trial_begins(message: Any) -> Iterator[TrialBegins]:
    """The trial that a message of the trial manager begins, if it does."""
    index = {pair.key: pair.value for pair in message.values}.get("index", "")
    if message.message == "run" and (number := trial_index(index)) is not None:
        yield TrialBegins(number)
