"""Reads a bag as what estimator, learner and planner have heard and said."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader

from mbrl_ros.data.bag_commands import stamp_of
from mbrl_ros.data.bag_reader import BagError, listed, opened, topic_prefix
from mbrl_ros.data.recorded_topics import (
    APPLIED,
    COMMAND,
    EVENTS,
    JUDGED,
    OBSERVATION,
    TICKS,
    TRIAL,
    full_name,
    sensor_topics,
    trial_index,
)
from mbrl_ros.models.serialization import from_bytes
from mbrl_ros.robots.command_messages import COMMAND_FIELDS, picked
from mbrl_ros.robots.description import RobotDescription

VALUE_FIELDS = (  # of a ParameterValue, by its type
    *(None, "bool_value", "integer_value", "double_value", "string_value"),
    *("byte_array_value", "bool_array_value", "integer_array_value", "double_array_value", "string_array_value"),
)


@dataclass(frozen=True, eq=False)
class Stamped:
    """An observation (nx,) or a command (nu,), and the text that came with it: why it was bridged, the guard's flag.

    `time_ns` is when it was sent, `stamp_ns` what it is of.
    """

    time_ns: int
    stamp_ns: int
    values: np.ndarray
    remark: str


@dataclass(frozen=True)
class Phase:
    """What the trial manager announced, and when."""

    time_ns: int
    index: int
    phase: str
    policy: str


@dataclass(frozen=True, eq=False)
class RecordedModel:
    """A model that was published, and when."""

    time_ns: int
    model: Any
    version: int
    data_size: int


@dataclass(frozen=True)
class Change:
    """A parameter of a node that was changed while it ran."""

    time_ns: int
    node: str
    values: dict[str, Any]


@dataclass
class Recording:
    """What a bag has, each in the order in which it was sent.

    Attributes:
        path: of the bag.
        topics: full names of the topics that have messages.
        sensors: source and message of each measurement, and among them OBSERVATION with each that was published.
        observations, commands, applied: as they were published.
        phases: of the trials.
        ticks: stamp of the observation -> the controller's figures.
        judged: the learner's figures of each trial.
        models: by version.
        changes: of parameters.
        span_s: time from the first to the last message.
    """

    path: Path
    topics: set[str] = field(default_factory=set)
    sensors: list[tuple[str, Any]] = field(default_factory=list)
    observations: list[Stamped] = field(default_factory=list)
    applied: list[Stamped] = field(default_factory=list)
    commands: list[Stamped] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    ticks: dict[int, dict[str, float]] = field(default_factory=dict)
    judged: list[dict[str, float]] = field(default_factory=list)
    models: dict[int, RecordedModel] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    span_s: float = 0.0


@dataclass(frozen=True)
class Source:
    """Whose bag it is.

    Attributes:
        robot: the robot.
        filter: the estimator's parameters, for the names of the sensors' topics.
        model_topic: where models were published.
        namespace: of the graph.
    """

    robot: RobotDescription
    filter: Any
    model_topic: str
    namespace: str

    def topic(self, name: str) -> str:
        """Full name of a topic."""
        return full_name(name, self.namespace)

    def sensors(self) -> dict[str, str]:
        """Full name -> name as configured of each topic of the sensors."""
        return {self.topic(name): name for name in sensor_topics(self.robot, self.filter)}


def read_recording(path: Path, source: Source) -> Recording:
    """Read a bag.

    Raises:
        BagError: the bag cannot be read, is damaged, or has nothing of this robot.
        ModelRejectedError: a model in it is damaged or of another robot.
    """
    found = Recording(path)
    with opened(path) as reader:
        takers = message_takers(source, found)
        connections = [c for c in reader.connections if c.topic in takers]
        found.topics = {c.topic for c in reader.connections if c.msgcount}
        if not found.topics & (takers.keys() - {EVENTS}):  # which have one name for all graphs
            raise BagError(f"{path}: nothing of a graph in '{topic_prefix(source.namespace) or '/'}'; {listed(reader)}")
        found.span_s = take_all(reader, connections, takers)
    return found


def take_all(reader: AnyReader, connections: Sequence[Any], takers: Mapping[str, Callable[[int, Any], None]]) -> float:
    """Hand every message to its taker; returns the time from the first to the last in s."""
    first = last = 0
    for connection, time_ns, data in reader.messages(connections):
        first, last = first or time_ns, time_ns
        takers[connection.topic](time_ns, reader.deserialize(data, connection.msgtype))
    return 1e-9 * (last - first)


def message_takers(source: Source, found: Recording) -> dict[str, Callable[[int, Any], None]]:
    """What is done with the messages of each topic."""
    robot, nodes = source.robot, {source.topic(name): name for name in ("mpc_controller", "model_learner")}

    def observed(time_ns: int, message: Any) -> None:
        found.observations.append(observation(time_ns, message, robot))
        found.sensors.append((OBSERVATION, found.observations[-1]))

    def phase(time_ns: int, message: Any) -> None:
        found.phases.extend(phases(time_ns, message))

    def model(time_ns: int, message: Any) -> None:
        read, header = from_bytes(bytes(message.data), robot.name, robot.layout)
        found.models[header.version] = RecordedModel(time_ns, read, header.version, header.data_size)

    def changed(time_ns: int, message: Any) -> None:
        values = {p.name: plain_value(p.value) for p in message.changed_parameters}
        if message.node in nodes and values:
            found.changes.append(Change(time_ns, nodes[message.node], values))

    takers: dict[str, Callable[[int, Any], None]] = {
        source.topic(OBSERVATION): observed,
        source.topic(APPLIED): lambda time_ns, message: found.applied.append(command(time_ns, message, robot)),
        source.topic(COMMAND): lambda time_ns, message: found.commands.append(command(time_ns, message, robot)),
        source.topic(TRIAL): phase,
        source.topic(TICKS): lambda _, message: found.ticks.update({stamp_of(message): scalars(message)}),
        source.topic(JUDGED): lambda _, message: found.judged.append(scalars(message)),
        source.topic(source.model_topic): model,
        EVENTS: changed,
    }
    for topic, name in source.sensors().items():
        takers[topic] = lambda _, message, name=name: found.sensors.append((name, message))  # type: ignore[misc]
    return takers


def observation(time_ns: int, message: Any, robot: RobotDescription) -> Stamped:
    """An observation as the state of the robot."""
    position, velocity = (picked(message.name, v, robot.joints) for v in (message.position, message.velocity))
    base = picked(message.name, message.position, robot.base_states)
    return Stamped(time_ns, stamp_of(message), np.concatenate([position, velocity, base]), message.header.frame_id)


def command(time_ns: int, message: Any, robot: RobotDescription) -> Stamped:
    """A command in the order of the robot's actuators."""
    values = getattr(message, COMMAND_FIELDS[robot.command_interface])
    return Stamped(time_ns, stamp_of(message), picked(message.name, values, robot.actuators), message.header.frame_id)


def phases(time_ns: int, message: Any) -> Iterator[Phase]:
    """What a message of the trial manager announces; nothing where it makes no sense."""
    values = {pair.key: pair.value for pair in message.values}
    if (index := trial_index(values.get("index", ""))) is not None:
        yield Phase(time_ns, index, message.message, values.get("policy", ""))


def scalars(message: Any) -> dict[str, float]:
    """Named scalars of one moment."""
    return dict(zip(message.name, (float(v) for v in message.position), strict=False))


def plain_value(value: Any) -> Any:
    """A parameter's value."""
    name = VALUE_FIELDS[value.type] if value.type < len(VALUE_FIELDS) else None
    found = None if name is None else getattr(value, name)
    return found.tolist() if isinstance(found, np.ndarray) else found
