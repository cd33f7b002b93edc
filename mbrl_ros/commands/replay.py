"""``mbrl_ros replay``: estimator, learner and planner run again on a recording; where do they differ?"""

import argparse
import contextlib
import json
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mbrl_ros.commands import PARTS
from mbrl_ros.control.start_model import Start, read_start
from mbrl_ros.data.bag_reader import BagError
from mbrl_ros.data.recorded_topics import APPLIED, COMMAND, OBSERVATION, TICKS, TRIAL, sensor_topics
from mbrl_ros.data.store_format import Row, connect_read_only, read_robot_rows
from mbrl_ros.data.store_format import read_changes as changes_noted
from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.replay.estimator import replay_estimator
from mbrl_ros.replay.learner import LearnerSettings, replay_learner
from mbrl_ros.replay.planner import replay_planner
from mbrl_ros.replay.recording import Change, Recording, Source, read_recording
from mbrl_ros.replay.settings import (
    REPLAYED,
    Parameters,
    check_given_namespace,
    check_same_robot,
    configured,
    find_bag,
    read_changes,
    recorded_parameters,
)
from mbrl_ros.replay.text import said
from mbrl_ros.reporting.run_folder import TRANSITIONS
from mbrl_ros.robots.description import RobotDescription, load_robot

TOLERANCE = 1e-9  # of ranges, and of one-step errors; measured: see docs/data.md


@dataclass(frozen=True)
class Replay:
    """All that the parts of a replay need.

    Attributes:
        recording: what was recorded.
        robot: whose.
        parameters: of each node when the run began.
        changes: what is to be different, by node.
        lockstep: whether the run was in lockstep.
        tolerance: difference that counts as none.
    """

    recording: Recording
    robot: RobotDescription
    parameters: Parameters
    changes: Parameters
    lockstep: bool
    tolerance: float

    def configured(self, node: str) -> tuple[Any, dict[str, Any]]:
        """Configuration of a node and its groups."""
        return configured(node, self.parameters[node], self.changes[node])


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns 0 where recording and replay agree, else 1.

    Raises:
        MbrlError: the bag cannot be read or lacks what is asked for, or a parameter is not allowed.
    """
    began = time.perf_counter()
    replay, source = prepare(arguments)
    missing = {part: missing_topics(part, replay.recording, source) for part in PARTS}
    parts = chosen_parts(replay.recording.path, arguments.only, missing)
    results = {part: RUN[part](replay) for part in parts}
    seconds = time.perf_counter() - began
    skipped = {part: names for part, names in missing.items() if names and not arguments.only}
    agrees = all(result.agrees for result in results.values()) and not skipped
    for line in said(results, skipped, replay.robot, replay.tolerance):
        print(line)
    print(f"{replay.recording.span_s:.1f} s of recording, replayed in {seconds:.1f} s")
    print("agrees" if agrees else "differs")
    if arguments.json:
        write_json(arguments.json, replay, results, skipped, seconds, agrees)
    return 0 if agrees else 1


def prepare(arguments: argparse.Namespace) -> tuple[Replay, Source]:
    """Read parameters and bag; the parameters are checked before the bag is read."""
    bag = find_bag(arguments.bag)
    if not bag.exists():
        raise BagError(f"{bag}: no such bag")
    check_given_namespace(arguments.namespace)
    if arguments.tolerance is not None and not arguments.tolerance >= 0.0:
        raise ConfigError(f"tolerance: {arguments.tolerance} is not allowed; expected a number, 0 or more")
    parameters, namespace = recorded_parameters(bag, arguments.robot)
    changes = read_changes(arguments.changes, arguments.params_file)
    check_same_robot(parameters, changes)
    for node in REPLAYED.values():
        configured(node, parameters[node], changes[node])
    robot = load_robot(parameters["state_estimator"]["robot"])
    _, groups = configured("state_estimator", parameters["state_estimator"], {})
    model_topic = parameters["mpc_controller"]["model_topic"]
    source = Source(
        robot, groups["filter"], model_topic, namespace if arguments.namespace is None else arguments.namespace
    )
    lockstep = parameters["mpc_controller"]["lockstep"]
    recording = read_recording(bag, source)
    tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
    return Replay(recording, robot, parameters, changes, lockstep, tolerance), source


def missing_topics(part: str, recording: Recording, source: Source) -> list[str]:
    """Topics that the bag lacks for a part."""
    needed = {
        "estimator": [OBSERVATION, *sensor_topics(source.robot, source.filter)],
        "learner": [OBSERVATION, APPLIED, TRIAL, source.model_topic],
        "planner": [OBSERVATION, COMMAND, TRIAL, TICKS, source.model_topic],
    }
    return [name for name in map(source.topic, needed[part]) if name not in recording.topics]


def chosen_parts(path: Path, only: list[str] | None, missing: dict[str, list[str]]) -> list[str]:
    """Parts to replay.

    Raises:
        BagError: one that was asked for cannot be replayed, or none can.
    """
    for part in only or []:
        if missing[part]:
            raise BagError(f"{path}: the {part} cannot be replayed: {', '.join(missing[part])} was not recorded")
    if all(missing.values()):
        lacks = "; ".join(f"{part}: {', '.join(names)}" for part, names in missing.items())
        raise BagError(f"{path}: nothing can be replayed; what was not recorded: {lacks}")
    return [part for part in PARTS if part in (only or PARTS) and not missing[part]]


def run_estimator(replay: Replay) -> Any:
    """The estimator's part."""
    _, groups = replay.configured("state_estimator")
    return replay_estimator(
        replay.recording, replay.robot, groups["filter"], lockstep=replay.lockstep, tolerance=replay.tolerance
    )


def run_learner(replay: Replay) -> Any:
    """The learner's part."""
    config, groups = replay.configured("model_learner")
    if config.fleet:
        raise MbrlError("the learner of a fleet cannot be replayed: a bag has one robot of it")
    folder = replay.recording.path.parent if replay.recording.path.is_dir() else replay.recording.path.parents[1]
    history, stored = stored_rows(folder / TRANSITIONS, replay)
    settings = LearnerSettings(
        train=TRAINERS[config.model],
        config=config,
        model=groups[config.model],
        change=groups["change"],
        start=started_from(config, replay),
        history=history,
        changes=changes_within(folder / TRANSITIONS, len(history)),
    )
    return replay_learner(replay.recording, replay.robot, settings, stored, replay.tolerance)


def started_from(config: Any, replay: Replay) -> Start | None:
    """The model that the run started from."""
    kind = replay.parameters["model_learner"]["model"]
    return read_start(Path(config.start_model), replay.robot, kind) if config.start_model else None


def stored_rows(path: Path, replay: Replay) -> tuple[list[Row], dict[int, Row] | None]:
    """What the run's store held before the recording, and what it holds of its time; None where there is no store."""
    if not path.is_file():
        return [], None
    stamps = {o.stamp_ns for o in replay.recording.observations}
    rows = read_robot_rows(path, replay.robot.name, replay.robot.layout)
    last = max(stamps, default=0)  # of the row that begins here the recording does not have the end
    inside = [i for i, row in enumerate(rows) if row.stamp_ns in stamps and row.stamp_ns < last]
    if not inside:
        return rows, {}
    return rows[: inside[0]], {row.stamp_ns: row for row in rows[inside[0] : inside[-1] + 1]}


def changes_within(path: Path, count: int) -> list[int]:
    """Changes of the robot that the run's store notes of its first `count` transitions."""
    if not count:
        return []
    with contextlib.closing(connect_read_only(path)) as db:
        return [before for before in changes_noted(db, path) if before <= count]


def run_planner(replay: Replay) -> Any:
    """The planner's part."""
    return replay_planner(
        replay.recording,
        replay.robot,
        controller_at(replay),
        lockstep=replay.lockstep,
        tolerance=replay.tolerance,
    )


def controller_at(replay: Replay) -> Callable[[int], tuple[Any, dict[str, Any]]]:
    """The controller's parameters as they were at a time in ns, with what is to be different."""
    node = "mpc_controller"
    changes = [change for change in replay.recording.changes if change.node == node]
    times = [change.time_ns for change in changes]

    @lru_cache
    def after(count: int) -> tuple[Any, dict[str, Any]]:
        values = dict(replay.parameters[node])
        for change in changes[:count]:
            values |= known(change, values)
        return configured(node, values, replay.changes[node])

    return lambda time_ns: after(bisect_right(times, time_ns))


def known(change: Change, values: dict[str, Any]) -> dict[str, Any]:
    """Those of a node's changed parameters that are ours."""
    return {name: value for name, value in change.values.items() if name in values}


def write_json(
    path: Path, replay: Replay, results: dict[str, Any], skipped: dict[str, list[str]], seconds: float, agrees: bool
) -> None:
    """Write every figure.

    Raises:
        MbrlError: the file cannot be written.
    """
    content = {
        "bag": str(replay.recording.path),
        "robot": replay.robot.name,
        "lockstep": replay.lockstep,
        "tolerance": replay.tolerance,
        "changes": {node: values for node, values in replay.changes.items() if values},
        "recorded_s": replay.recording.span_s,
        "replayed_in_s": seconds,
        "agrees": agrees,
        "not_recorded": skipped,
        "parts": {part: asdict(result) | {"agrees": result.agrees} for part, result in results.items()},
    }
    try:
        path.write_text(json.dumps(content, indent=1))
    except OSError as error:
        raise MbrlError(f"{path}: cannot write: {error.strerror}") from None


RUN: dict[str, Callable[[Replay], Any]] = {"estimator": run_estimator, "learner": run_learner, "planner": run_planner}
