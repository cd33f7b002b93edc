"""The summary of a run: what every trial scored, and how much motion it took to solve the task."""

import json
import math
import os
import platform
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.run_folder import SUMMARY, write_atomically

POLICIES = ("base", "mpc")
ENDINGS = ("solved", "trials used up", "interrupted", "node died")
HOLD = 1.0  # s at the end of a trial during which it must be on target
DERIVED = ("solved", "experience_s")  # written for readers of the file, computed again when read

C = TypeVar("C")


class ScoredTask(Protocol):
    """A task that can be scored."""

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Cost of one control period: x (..., nx), u (..., nu) -> (...)."""

    def on_target(self, x: np.ndarray) -> np.ndarray:
        """Whether the state is where it should be: x (..., nx) -> (...) bool."""


@dataclass(frozen=True)
class TrialResult:
    """What one trial scored; NaN where there is no number.

    Attributes:
        index: number of the trial, from 0.
        policy: 'base' or 'mpc'.
        steps: control periods.
        duration_s: length of the motion.
        experience_before_s: motion recorded before this trial began.
        cost: sum of the running cost over the trial; an early end makes it smaller.
        time_on_target_s: time on target, anywhere in the trial.
        solved: on target during the whole last second of a trial of full length.
        ended_early: reason, empty for a trial of full length.
        model_version: last model used, 0 for none.
        refits: models taken over during the trial.
        one_step_error: RMSE, every entry in units of its standard deviation in the data.
        multi_step_error: the same, open loop over the horizon.
        coverage_1: share of the states within the 90 % interval predicted one period before.
        coverage_h: the same, open loop at the end of the horizon.
        planning_time_ms: 'p50', 'p99' and 'max'.
        deadline_misses: ticks whose plan came too late.
        flags: how often the guard gave each flag.
    """

    index: int
    policy: str
    steps: int
    duration_s: float
    experience_before_s: float
    cost: float
    time_on_target_s: float
    solved: bool
    ended_early: str = ""
    model_version: int = 0
    refits: int = 0
    one_step_error: float = math.nan
    multi_step_error: float = math.nan
    coverage_1: float = math.nan
    coverage_h: float = math.nan
    planning_time_ms: dict[str, float] = field(default_factory=dict)
    deadline_misses: int = 0
    flags: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise MbrlError(f"policy: '{self.policy}' is not allowed; expected one of: {', '.join(POLICIES)}")


@dataclass(frozen=True)
class RunSummary:
    """A run and its trials.

    Written anew after every trial with `ended` 'interrupted', so that a run that is killed leaves the truth.

    Attributes:
        robot: name of the robot or path of its description, as `load_robot` takes it.
        task: name of the task.
        planner: name of the planner.
        model: kind of the dynamics model.
        seed: seed of every generator.
        lockstep: whether the simulation waited for the nodes.
        versions: of python, ros, torch, numpy and mbrl_ros.
        started: ISO 8601.
        wall_time_s: from start to end.
        control_rate: Hz.
        ended: one of ENDINGS; 'node died' is followed by ': ' and which one.
        command: the command line that started the run.
        trials: in order.
    """

    robot: str
    task: str
    planner: str
    model: str
    seed: int
    lockstep: bool
    versions: dict[str, str]
    started: str
    wall_time_s: float
    control_rate: float
    ended: str
    command: str = ""
    trials: tuple[TrialResult, ...] = ()

    def __post_init__(self) -> None:
        if self.ended.split(": ")[0] not in ENDINGS:
            raise MbrlError(f"ended: '{self.ended}' is not allowed; expected one of: {', '.join(ENDINGS)}")

    @property
    def experience_s(self) -> float | None:
        """See `experience_until_solved`."""
        return experience_until_solved(self.trials)

    @property
    def solved(self) -> bool:
        """Whether two trials in a row were solved."""
        return self.experience_s is not None


def experience_until_solved(trials: Sequence[TrialResult]) -> float | None:
    """Motion in s recorded before the first of two solved trials in a row began; None without two."""
    for first, second in pairwise(trials):
        if first.solved and second.solved:
            return first.experience_before_s
    return None


def solved_in_a_row(trials: Sequence[TrialResult], count: int) -> bool:
    """Whether the last `count` trials were all solved, which ends a run."""
    return len(trials) >= count and all(trial.solved for trial in trials[-count:])


def score_trial(
    task: ScoredTask, states: np.ndarray, actions: np.ndarray, dt: float, duration: float
) -> tuple[float, float, bool]:
    """Score a trial.

    A tick counts when the control period after its observation was seen: all but the last observation, and the last
    too where an action was applied from it, up to a full trial. A missing action is no effort. Solved means a trial
    of full length that is on target at every observation of the whole last second (of a shorter trial: of all),
    the one at the very end included where there is one.

    Args:
        task: costs and target.
        states: observations (T, nx).
        actions: applied actions (T, nu) or one fewer, NaN where there is none.
        dt: control period in s.
        duration: length of a full trial in s.

    Returns:
        Cost (sum over the ticks), time on target in s, solved.
    """
    steps, hold = round(duration / dt), round(HOLD / dt)
    acted_last = 0 < len(states) == len(actions) and bool(np.isfinite(actions[-1]).all())
    ticks = min(max(len(states) - (not acted_last), 0), steps)
    cost = task.running_cost(states[:ticks], np.nan_to_num(actions[:ticks])).sum()
    on_target = task.on_target(states)
    solved = ticks == steps and on_target[max(steps - hold, 0) :].all()
    return float(cost), float(dt * on_target[:ticks].sum()), bool(solved)


def planning_percentiles(planning_time: np.ndarray) -> dict[str, float]:
    """'p50', 'p99' and 'max' in ms of planning times (T,) in s; NaN entries are left out, NaN without any."""
    milliseconds = 1e3 * planning_time[np.isfinite(planning_time)]
    if len(milliseconds) == 0:
        return dict.fromkeys(("p50", "p99", "max"), math.nan)
    p50, p99, longest = np.percentile(milliseconds, (50, 99, 100))
    return {"p50": float(p50), "p99": float(p99), "max": float(longest)}


def software_versions() -> dict[str, str]:
    """Versions of what a run depends on, '' where it is not installed."""
    found = {name: package_version(name) for name in ("mbrl_ros", "numpy", "torch")}
    rclpy = package_version("rclpy") or package_version("ros-rclpy")
    ros = f"{os.environ.get('ROS_DISTRO', '')} (rclpy {rclpy})".strip() if rclpy else ""
    return {"python": platform.python_version(), "ros": ros, **found}


def package_version(name: str) -> str:
    """Version of an installed package, '' where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def write_summary(summary: RunSummary, folder: Path) -> Path:
    """Write ``summary.json`` atomically (NaN and infinity become null) and return its path.

    Raises:
        MbrlError: the file cannot be written.
    """
    values = asdict(summary) | {name: getattr(summary, name) for name in DERIVED}
    text = json.dumps(without_nan(values), indent=1, allow_nan=False)
    write_atomically(folder / SUMMARY, f"{text}\n".encode())
    return folder / SUMMARY


def read_summary(folder: Path) -> RunSummary:
    """Read ``summary.json``.

    Raises:
        MbrlError: the file is missing or damaged; names the file and what is wrong with it.
    """
    path = folder / SUMMARY
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            values = {k: v for k, v in values.items() if k not in DERIVED}
        return from_json(RunSummary, values)
    except FileNotFoundError:
        raise MbrlError(f"{path}: no such file; is this the folder of a run?") from None
    except OSError as error:
        raise MbrlError(f"{path}: cannot read: {error.strerror}") from None
    except (ValueError, MbrlError, RecursionError) as error:
        raise MbrlError(f"{path}: damaged summary: {error}") from None


def without_nan(value: Any) -> Any:
    """`value` as JSON can hold it: numpy scalars become Python's, non-finite numbers None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any, where: str = "run") -> Any:
    """Rebuild a value of a type from JSON; null is NaN where a number is expected.

    Raises:
        MbrlError: names the place, the value and what is expected there.
    """
    if hasattr(kind, "__dataclass_fields__") and isinstance(value, dict):
        return dataclass_from_json(kind, value, where)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(from_json(typing.get_args(kind)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if typing.get_origin(kind) is dict and isinstance(value, dict):
        return {k: from_json(typing.get_args(kind)[1], v, f"{where}.{k}") for k, v in value.items()}
    if kind is float and (value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))):
        return math.nan if value is None else float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise MbrlError(f"{where}: {str(value)[:80]!r} is not a {getattr(kind, '__name__', kind)}")


def dataclass_from_json(kind: type[C], values: dict[str, Any], where: str) -> C:
    """Rebuild a dataclass; every field must be there and no other."""
    known = {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    if problems := sorted(set(known) ^ set(values)):
        raise MbrlError(f"{where}: '{problems[0]}' is {'missing' if problems[0] in known else 'unknown'}")
    return kind(**{name: from_json(known[name], v, f"{where}.{name}") for name, v in values.items()})
