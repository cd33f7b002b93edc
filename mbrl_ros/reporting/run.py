"""A run as the report sees it: what its folder holds, and one line for each thing that is missing."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from mbrl_ros.config import build
from mbrl_ros.data.store_format import read_robot_rows
from mbrl_ros.data.transition_store import to_transitions
from mbrl_ros.errors import MbrlError, lookup
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.reporting.prediction import HORIZON, load_models, unbroken
from mbrl_ros.reporting.run_folder import (
    PARAMETERS,
    TRANSITIONS,
    Fit,
    TrialArrays,
    load_trial,
    read_fits,
    trial_indices,
)
from mbrl_ros.reporting.summary import RunSummary, TrialResult, read_summary
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.tasks import TASKS
from mbrl_ros.types import Transitions

T = TypeVar("T")
Parameters = dict[str, dict[str, Any]]  # node -> name -> value


@dataclass
class Run:
    """What could be read of a run, and what could not.

    Attributes:
        folder: the run folder.
        summary: the run's summary.
        robot: its robot, None where it cannot be loaded.
        task: its task with the parameters of the run, None where it cannot be made.
        parameters: of every node; empty where they were not saved.
        parameters_text: the parameters file.
        trials: arrays by trial index.
        models: those that were used, by version.
        fits: the models that were published.
        rows: trial (n,) and transition of everything stored; None where the store cannot be read.
        problems: one line for each thing that is missing.
    """

    folder: Path
    summary: RunSummary
    robot: RobotDescription | None = None
    task: Any = None
    parameters: Parameters = field(default_factory=dict)
    parameters_text: str = ""
    trials: dict[int, TrialArrays] = field(default_factory=dict)
    models: dict[int, LearnedModel] = field(default_factory=dict)
    fits: list[Fit] = field(default_factory=list)
    rows: tuple[np.ndarray, Transitions] | None = None
    problems: list[str] = field(default_factory=list)

    def attempt(self, make: Callable[[], T], what: str = "") -> T | None:
        """Result of `make`; where it fails, None and a line in `problems`."""
        try:
            return make()
        except Exception as error:  # whatever is wrong with one part must not cost the reader the others
            reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
            self.problems.append(f"{what}: {reason}" if what else reason)
            return None

    @functools.cached_property
    def horizon(self) -> int:
        """Periods that the planner looks ahead, as far as the parameters tell."""
        return int(self.parameters.get("mpc_controller", {}).get("horizon", HORIZON))

    @functools.cached_property
    def budget(self) -> float:
        """Planning time that a tick may take in s; infinite in lockstep."""
        share = self.parameters.get("mpc_controller", {}).get("budget", 1.0)
        return float("inf") if self.summary.lockstep else float(share) / self.summary.control_rate

    def result(self, index: int) -> TrialResult | None:
        """Score of a trial, None where it was not scored."""
        return next((trial for trial in self.summary.trials if trial.index == index), None)

    def fits_robot(self, index: int) -> bool:
        """Whether the arrays of a trial are of the run's robot."""
        if self.robot is None:
            return False
        trial, layout = self.trials[index], self.robot.layout
        return (trial.x.shape[1], trial.u.shape[1]) == (layout.nx, layout.nu)

    def known_before(self, index: int) -> Transitions | None:
        """All transitions from before a trial; None where they cannot be told."""
        if self.rows is None:
            return None
        trial, transitions = self.rows
        return transitions[trial < index]


def read_run(folder: Path) -> Run:
    """Read what the folder holds.

    Raises:
        MbrlError: there is no readable summary.
    """
    run = Run(folder, read_summary(folder))
    run.robot = run.attempt(lambda: load_robot(run.summary.robot), "robot")
    run.parameters_text = run.attempt(partial((folder / PARAMETERS).read_text, encoding="utf-8"), "parameters") or ""
    run.parameters = run.attempt(lambda: parse_parameters(run.parameters_text), PARAMETERS) or {}
    run.task = run.attempt(lambda: make_task(run.summary.task, run.parameters), "task")
    run.fits = run.attempt(lambda: read_fits(folder)) or []
    for index in trial_indices(folder):
        if (arrays := run.attempt(partial(load_trial, folder, index))) is not None:
            run.trials[index] = arrays
    lost = sorted({trial.index for trial in run.summary.trials} - set(trial_indices(folder)))
    run.problems += [f"trial {index}: its arrays were not saved" for index in lost]
    if run.robot is not None:
        run.models, problems = load_models(folder, versions_used(run), run.robot)
        run.problems += problems
        run.rows = stored_rows(run, run.robot)
        run.problems += unfinished(run)
    return run


def unfinished(run: Run) -> list[str]:
    """One line for each trial that left transitions but nothing else: it was going on when the run ended."""
    known = {*run.trials, *(trial.index for trial in run.summary.trials)}
    stored = run.rows[0] if run.rows is not None else np.empty(0, int)
    return [
        f"trial {i} was not finished; {np.sum(stored == i)} transitions of it are stored"
        for i in sorted(set(stored.tolist()) - known)
    ]


def stored_rows(run: Run, robot: RobotDescription) -> tuple[np.ndarray, Transitions] | None:
    """All transitions with their trials: of the store, or where it cannot be read those that the trials show."""
    path = run.folder / TRANSITIONS
    if path.exists() and (rows := run.attempt(lambda: read_robot_rows(path, robot.name, robot.layout))) is not None:
        return np.array([row.trial for row in rows], int), to_transitions(rows, robot.layout)
    shown = [(index, unbroken(trial)) for index, trial in run.trials.items() if run.fits_robot(index)]
    if not shown:
        return None
    joined = {n: np.concatenate([getattr(t, n) for _, t in shown]) for n in ("x", "u", "x_next", "trajectory")}
    return np.concatenate([np.full(len(t), index) for index, t in shown]), Transitions(**joined)


def parse_parameters(text: str) -> Parameters:
    """Parameters by node and name from the text of a ROS parameter file; nested names are joined by dots.

    Raises:
        MbrlError: it is no parameter file.
    """
    try:
        content = yaml.safe_load(text) or {}
        return {str(n).rsplit("/", 1)[-1]: dict(dotted(body["ros__parameters"])) for n, body in content.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise MbrlError(f"not a ROS parameter file: {str(error).splitlines()[0]}") from None


def dotted(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names and values of a nested mapping: ``{"a": {"b": 1}}`` -> ``[("a.b", 1)]``."""
    found = []
    for name, value in values.items():
        found += dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


def make_task(name: str, parameters: Parameters) -> Any:
    """The task with the parameters by which the trials were scored; its defaults where they were not saved.

    Raises:
        MbrlError: unknown task, or a parameter that it has not.
    """
    cls = lookup(TASKS, "task", name)
    own = parameters.get("trial_manager", {})
    return cls(build(cls.config_class, {k[5:]: v for k, v in own.items() if k.startswith("task.")}))


def versions_used(run: Run) -> list[int]:
    """Versions of the models that were active in any trial."""
    return sorted({int(v) for trial in run.trials.values() for v in trial.model_version if v > 0})
