"""The report of a run, made from its folder: one HTML file that needs no network, and the pictures in it."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure

from mbrl_ros.errors import MbrlError, lookup
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.reporting import plots, prediction
from mbrl_ros.reporting.page import Content, render
from mbrl_ros.reporting.run_folder import (
    ANIMATION,
    PARAMETERS,
    PLOTS,
    REPORT,
    TrialArrays,
    load_trial,
    trial_indices,
    write_atomically,
)
from mbrl_ros.reporting.summary import RunSummary, read_summary
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.tasks import TASKS

REACH = 3.0  # distance from the goal, in the units of the state, up to which the ends of the target are looked for
ANIMATION_RATE = 50.0  # Hz at most: viewers slow down faster GIFs

T = TypeVar("T")


@dataclass
class Run:
    """What could be read of a run, and what could not.

    Attributes:
        folder: the run folder.
        summary: the run's summary.
        robot: its robot, None where it cannot be loaded.
        trials: arrays by trial index.
        problems: one line for each thing that is missing.
    """

    folder: Path
    summary: RunSummary
    robot: RobotDescription | None = None
    trials: dict[int, TrialArrays] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def attempt(self, make: Callable[[], T], what: str = "") -> T | None:
        """Result of `make`; where it fails, None and a line in `problems`."""
        try:
            return make()
        except Exception as error:  # whatever is wrong with one part must not cost the reader the others
            reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
            self.problems.append(f"{what}: {reason}" if what else reason)
            return None


def write_report(folder: Path) -> Path:
    """Write ``report.html``, ``plots/`` and ``animation.gif``; whatever is missing is named in the report.

    Args:
        folder: a run folder, see docs/architecture.md; the run may have been interrupted at any time.

    Returns:
        Path of the report.

    Raises:
        MbrlError: there is no readable summary, or the folder cannot be written to.
    """
    run = read_run(folder)
    figures = draw_figures(run)
    for name, data in figures.items():
        write_atomically(folder / PLOTS / f"{name}.png", data)
    animated = max(run.trials, default=None)
    animation = b"" if animated is None else run.attempt(partial(animate_trial, run, animated), "animation") or b""
    parameters = run.attempt(partial((folder / PARAMETERS).read_text, encoding="utf-8"), "parameters") or ""
    content = Content(run.summary, figures, animation, animated, parameters, run.problems)
    write_atomically(folder / REPORT, render(content).encode())
    return folder / REPORT


def read_run(folder: Path) -> Run:
    """Read what the folder holds."""
    run = Run(folder, read_summary(folder))
    run.robot = run.attempt(lambda: load_robot(run.summary.robot), "robot")
    saved = trial_indices(folder)
    for index in saved:
        if arrays := run.attempt(partial(load_trial, folder, index)):
            run.trials[index] = arrays
    lost = sorted({trial.index for trial in run.summary.trials} - set(saved))
    run.problems += [f"trial {index}: its arrays were not saved" for index in lost]
    return run


def draw_figures(run: Run) -> dict[str, bytes]:
    """PNG files by name: learning_curve, planning_time, model_error, reliability and one for each trial."""
    figures: dict[str, bytes] = {}

    def draw(name: str, plot: Callable[[], Figure]) -> None:
        if (image := run.attempt(lambda: plots.png(plot()), name)) is not None:
            figures[name] = image

    if run.summary.trials:
        draw("learning_curve", lambda: plots.learning_curve(run.summary))
    if any(math.isfinite(e) for t in run.summary.trials for e in (t.one_step_error, t.multi_step_error)):
        draw("model_error", lambda: plots.model_error(run.summary))
    seconds, missed = planning_times(run.trials.values())
    if len(seconds):
        period = 1.0 / run.summary.control_rate
        draw("planning_time", lambda: plots.planning_time(seconds, missed, period, run.summary.lockstep))
    if run.robot is not None:
        models, problems = prediction.load_models(run.folder, versions_used(run), run.robot)
        run.problems += problems
        if curves := run.attempt(lambda: prediction.reliability(models, run.trials.values()), "reliability"):
            draw("reliability", lambda: plots.reliability(prediction.LEVELS, curves))
        for index, trial in run.trials.items():
            draw(f"trial_{index:03d}", partial(draw_trial, run.robot, run.summary.task, trial, models))
    return figures


def planning_times(trials: Iterable[TrialArrays]) -> tuple[np.ndarray, np.ndarray]:
    """Planning times (n,) in s of every tick that was planned, and whether its deadline was missed (n,)."""
    seconds = [np.empty(0), *(trial.planning_time for trial in trials)]
    missed = [np.empty(0, bool), *(trial.deadline_missed for trial in trials)]
    planned = np.isfinite(np.concatenate(seconds))
    return np.concatenate(seconds)[planned], np.concatenate(missed)[planned]


def versions_used(run: Run) -> list[int]:
    """Versions of the models that were active in any trial."""
    return sorted({int(v) for trial in run.trials.values() for v in trial.model_version if v > 0})


def draw_trial(
    robot: RobotDescription, task_name: str, trial: TrialArrays, models: Mapping[int, LearnedModel]
) -> Figure:
    """The figure of one trial with everything that the models say about it.

    Raises:
        MbrlError: the trial is of another robot.
    """
    layout = robot.layout
    if (trial.x.shape[1], trial.u.shape[1]) != (layout.nx, layout.nu):
        raise MbrlError(f"states {trial.x.shape} and actions {trial.u.shape} do not fit the robot '{robot.name}'")
    rng = np.random.default_rng(0)  # the same report every time
    one_step = prediction.one_step(models, trial, rng)
    segments = prediction.open_loop_segments(models, trial, rng)
    target = target_range(lookup(TASKS, "task", task_name), layout.nx)
    return plots.trial_figure(trial, robot, target, one_step, segments)


def target_range(task_class: Any, nx: int) -> tuple[np.ndarray, np.ndarray] | None:
    """How far each entry alone may leave the goal at the origin and still be on target.

    Args:
        task_class: a class of TASKS.
        nx: entries of the state.

    Returns:
        Lower and upper ends (nx,) each, found by bisection, infinite where there is none within REACH; None where
        the origin is not on target.
    """
    on_target = task_class(task_class.config_class()).on_target
    if not on_target(np.zeros(nx)):
        return None
    ends = []
    for direction in (-REACH * np.eye(nx), REACH * np.eye(nx)):
        inside, outside = np.zeros(nx), np.ones(nx)
        for _ in range(40):
            middle = 0.5 * (inside + outside)
            good = on_target(middle[:, None] * direction)
            inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
        end = inside * np.diag(direction)
        ends.append(np.where(on_target(direction), np.inf * np.sign(np.diag(direction)), end))
    return ends[0], ends[1]


def animate_trial(run: Run, index: int) -> bytes:
    """Write the trial's animation into the folder and return the GIF.

    Raises:
        MbrlError: the robot is not known or a package is missing.
    """
    from mbrl_ros.robots.animation import animate  # needs PyBullet, which a report can do without

    if run.robot is None:
        raise MbrlError("the robot's description is needed")
    stride = math.ceil(run.summary.control_rate / ANIMATION_RATE)
    states = run.trials[index].x
    states = states[np.isfinite(states).all(axis=1)][::stride]
    path = run.folder / ANIMATION
    animate(run.robot, states, path, run.summary.control_rate / stride)
    return path.read_bytes()
