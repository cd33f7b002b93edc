"""Where recorded transitions come from: a store, a run folder or a bag."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.data.bag_commands import NANOSECONDS
from mbrl_ros.data.bag_import import Imported, import_events, shifted
from mbrl_ros.data.bag_reader import is_bag, read_events
from mbrl_ros.data.store_format import Row, outdated_count, read_robot_rows
from mbrl_ros.errors import StoreError
from mbrl_ros.graph import NODES, ROS_PARAMETERS, configure
from mbrl_ros.params_file import WALL_CLOCK, resolve
from mbrl_ros.reporting.run_folder import TRANSITIONS
from mbrl_ros.robots.description import RobotDescription

APART_NS = 10 * NANOSECONDS  # between the stamps of two runs in lockstep that are put one after the other
OUTDATED = "from before the robot has changed (--all takes them)"


@dataclass(frozen=True)
class Settings:
    """Settings of state estimator and learner, from a parameter file or by default."""

    filter: Any
    learner: Any
    model: Any


def load_settings(given: dict[str, Any], params_file: Path | None) -> Settings:
    """The settings; `given` holds command-line options by name, which win over the file, None where not given.

    Raises:
        ConfigError: names file (or command line), key, value and what is allowed.
    """
    parameters = resolve(given, params_file)
    built = {}
    for node in ("state_estimator", "model_learner"):
        values = {key: value for key, value in parameters[node].items() if key not in ROS_PARAMETERS}
        built[node] = configure(NODES[node], values)
    learner, groups = built["model_learner"]
    return Settings(built["state_estimator"][1]["filter"], learner, groups[learner.model])


def store_path(path: Path) -> Path:
    """File of a store that is given as such or as its run folder."""
    return path / TRANSITIONS if path.is_dir() else path


def import_bag(
    path: Path, robot: RobotDescription, settings: Settings, namespace: str, everything: bool = False
) -> Imported:
    """Transitions of a bag; of one in a run folder those since the robot has changed, or everything."""
    found = import_events(read_events(path, robot, settings.filter, namespace), round(NANOSECONDS * robot.dt))
    folder = path.resolve().parent if path.is_dir() else path.resolve().parent.parent
    end = -1 if everything else last_outdated_stamp(folder / TRANSITIONS, robot)
    return without_outdated(found, sum(row.stamp_ns <= end for row in found.rows))


def last_outdated_stamp(store: Path, robot: RobotDescription) -> int:
    """Stamp in ns up to which the store of a run is from before the robot has changed; -1 where nothing says so.

    A store that cannot be read says nothing: then its bag is what is left of the run.
    """
    if not store.is_file():
        return -1
    try:
        rows = read_robot_rows(store, robot.name, robot.layout)
        return max((row.stamp_ns for row in rows[: outdated_count(store)]), default=-1)
    except StoreError:
        return -1


def without_outdated(found: Imported, count: int) -> Imported:
    """Leave the first `count` transitions out, and say so."""
    return Imported(found.rows[count:], found.left_out + Counter({OUTDATED: count}))


def read_source(
    path: Path, robot: RobotDescription, settings: Settings, namespace: str, everything: bool = False
) -> Imported:
    """Transitions of a store, run folder or bag: those since the robot has changed, or everything.

    Raises:
        MbrlError: it cannot be read, or is of another robot or layout.
    """
    if is_bag(path):
        return import_bag(path, robot, settings, namespace, everything)
    store = store_path(path)
    rows = read_robot_rows(store, robot.name, robot.layout)
    return without_outdated(Imported(rows, Counter()), 0 if everything else min(outdated_count(store), len(rows)))


def read_sources(
    paths: list[Path], robot: RobotDescription, settings: Settings, namespace: str, everything: bool = False
) -> tuple[list[Row], Counter[str]]:
    """All transitions, trajectories of different sources kept apart, and what was left out of bags.

    A transition that comes twice, as when a run and its bag are both given, counts once.
    """
    rows: list[Row] = []
    known: dict[int, list[Row]] = {}  # by stamp, as they were given
    left_out: Counter[str] = Counter()
    for path in paths:
        found = read_source(path, robot, settings, namespace, everything)
        new = [row for row in found.rows if not any(same(row, other) for other in known.get(row.stamp_ns, ()))]
        left_out += found.left_out
        left_out["given twice"] += len(found.rows) - len(new)
        first = 1 + max((row.trajectory for row in rows), default=-1)
        rows += shifted(later(new, rows) if any(row.stamp_ns in known for row in new) else new, first, 0)
        for row in new:
            known.setdefault(row.stamp_ns, []).append(row)
    return rows, +left_out


def same(a: Row, b: Row) -> bool:
    """Whether two rows of one stamp are one transition; in lockstep the clock of every run begins at 0."""
    numbers = zip((a.x, a.u, a.x_next), (b.x, b.u, b.x_next), strict=True)
    return a.stamp_ns >= WALL_CLOCK or all(np.array_equal(m, n) for m, n in numbers)


def later(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """The rows with stamps behind those of the others."""
    shift = max(row.stamp_ns for row in others) + APART_NS - min(row.stamp_ns for row in rows)
    return [replace(row, stamp_ns=row.stamp_ns + shift) for row in rows]
