"""The report of a run, made from its folder: one HTML file that needs no network, and the pictures in it."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.chart import Figure
from mbrl_ros.reporting.comparison import write_comparison
from mbrl_ros.reporting.page import Content, render
from mbrl_ros.reporting.run import Run, read_run
from mbrl_ros.reporting.run_folder import ANIMATION, PLOTS, REPORT, TrialArrays, write_atomically
from mbrl_ros.reporting.sections.doubt import calibration_figure
from mbrl_ros.reporting.sections.learning import error_figure, learning_figure
from mbrl_ros.reporting.sections.timing import planning_histogram
from mbrl_ros.reporting.sections.versions import uses, version_rows
from mbrl_ros.reporting.svg import figure_svg
from mbrl_ros.reporting.trial_page import trial_figures, trial_html
from mbrl_ros.reporting.trial_view import TrialView, make_view, shared_ranges

ANIMATION_RATE = 50.0  # Hz at most: viewers slow down faster GIFs
FIRST, LAST = 4, 20  # trials of a long run that are drawn; about 150 kB each with 60 ticks


def report_on(folders: Sequence[Path], output: Path | None = None) -> Path:
    """The report of one run, or the comparison of several; returns the page's path.

    Raises:
        MbrlError: see `write_report` and `comparison.write_comparison`; or `output` is a folder.
    """
    if output is not None and output.is_dir():
        raise MbrlError(f"output: {output} is a folder; expected the name of a file, such as {output / REPORT}")
    return write_report(folders[0], output) if len(folders) == 1 else write_comparison(folders, output)


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write ``report.html``, ``plots/`` and ``animation.gif``; whatever is missing is named in the report.

    Args:
        folder: a run folder, see docs/architecture.md; the run may have been interrupted at any time.
        output: where to write the page; None for the run folder.

    Returns:
        Path of the report.

    Raises:
        MbrlError: there is no readable summary, or the folder cannot be written to.
    """
    run = read_run(folder)
    drawn, left_out = drawn_trials(sorted(run.trials))
    views = [view for i in drawn if (view := run.attempt(partial(make_view, run, i), f"trial {i}")) is not None]
    figures = run_figures(run, views)
    trials, of_trials = trial_pages(run, views)
    for figure in (*figures.values(), *of_trials):
        write_atomically(folder / PLOTS / f"{figure.name}.svg", figure_svg(figure).encode())
    animated = max(run.trials, default=None)
    animation = b"" if animated is None else run.attempt(partial(animate_trial, run, animated), "animation") or b""
    models = run.attempt(lambda: tuple(version_rows(run.fits, uses(views))), "models") or ()
    content = Content(
        run.summary, figures, trials, left_out, models, animation, animated, run.parameters_text, tuple(run.problems)
    )
    path = output or folder / REPORT
    write_atomically(path, render(content).encode())
    return path


def drawn_trials(indices: list[int]) -> tuple[list[int], tuple[int, ...]]:
    """Trials to draw and trials to leave out: of a long run the first few and the last ones are drawn."""
    if len(indices) <= FIRST + LAST:
        return indices, ()
    return [*indices[:FIRST], *indices[-LAST:]], tuple(indices[FIRST:-LAST])


def run_figures(run: Run, views: list[TrialView]) -> dict[str, Figure]:
    """The figures of the run as a whole, by name; those of which there is nothing to show are not there."""
    makers: dict[str, Callable[[], Figure | None]] = {}
    if run.summary.trials:
        makers["learning_curve"] = lambda: learning_figure(run.summary)
    if any(math.isfinite(e) for t in run.summary.trials for e in (t.one_step_error, t.multi_step_error)):
        makers["model_error"] = lambda: error_figure(run.summary)
    seconds, missed = planning_times(run.trials.values())
    if len(seconds):
        makers["planning_time"] = lambda: planning_histogram(
            seconds, missed, 1.0 / run.summary.control_rate, run.budget
        )
    errors = [view.errors for view in views if len(view.errors)]
    if errors:
        text = "Calibration on all trials"
        makers["reliability"] = lambda: calibration_figure("reliability", text, np.concatenate(errors))
    made = {name: run.attempt(make, name) for name, make in makers.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def trial_pages(run: Run, views: list[TrialView]) -> tuple[dict[int, str], list[Figure]]:
    """HTML of each trial by index, and all their figures."""
    ranges = run.attempt(lambda: shared_ranges(views), "ranges") or {}
    pages, figures = {}, []
    for view in views:
        found = run.attempt(partial(trial_figures, run, view, ranges), f"trial {view.index}")
        if found is not None:
            pages[view.index] = trial_html(found)
            figures += [figure for figure in found.values() if isinstance(figure, Figure)]
    return pages, figures


def planning_times(trials: Iterable[TrialArrays]) -> tuple[np.ndarray, np.ndarray]:
    """Planning times (n,) in s of every tick that was planned, and whether its deadline was missed (n,)."""
    seconds = [np.empty(0), *(trial.planning_time for trial in trials)]
    missed = [np.empty(0, bool), *(trial.deadline_missed for trial in trials)]
    planned = np.isfinite(np.concatenate(seconds))
    return np.concatenate(seconds)[planned], np.concatenate(missed)[planned]


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
