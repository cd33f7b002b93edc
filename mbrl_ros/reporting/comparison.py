"""Several runs beside each other on one page: every run a row, failures included."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.chart import DASHED, DOTTED, PALETTE, Chart, Figure, Layer, Line, Marks, from_zero
from mbrl_ros.reporting.html import NOTHING, drawing, missing, number, page, section, table
from mbrl_ros.reporting.page import finite, motion
from mbrl_ros.reporting.run import Parameters, parse_parameters
from mbrl_ros.reporting.run_folder import PARAMETERS, write_atomically
from mbrl_ros.reporting.sections.learning import X_LABEL, motion_range, published_rules
from mbrl_ros.reporting.summary import RunSummary, TrialResult, read_summary

COMPARISON = "comparison.html"
OWN = ("output", "command")  # parameters that differ by their nature
DASHES = ("", DASHED, DOTTED)
COLUMNS = (
    "run",
    "solved",
    "motion until\nsolved (s)",
    "trials",
    "trials\nsolved",
    "motion\n(s)",
    "ended",
    "on target (s)\neach trial",
    "cost\neach trial",
    "planning (ms)\np50 / max",
    "deadlines\nmissed",
    "last one-step\nRMSE (std)",
    "wall\n(s)",
    "seed",
    "mode",
    "planner, model",
    "robot, task",
)
TEXTS = ("robot, task", "planner, model", "mode", "on target (s)\neach trial", "cost\neach trial", "ended")


@dataclass(frozen=True)
class Entry:
    """One of the runs.

    Attributes:
        name: its folder, as far as it differs from the others'.
        summary: None where it cannot be read.
        parameters: by node; empty where they cannot be read.
        problem: what is missing.
    """

    name: str
    summary: RunSummary | None
    parameters: Parameters = field(default_factory=dict)
    problem: str = ""


def write_comparison(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Write one page about several runs.

    Args:
        folders: two or more run folders.
        output: the page; None for ``comparison.html`` in the folder that all of them are in.

    Returns:
        Path of the page.

    Raises:
        MbrlError: a folder does not exist, is there twice, none of them holds a run, or the page cannot be written.
    """
    require_folders(folders)
    root = Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
    entries = [read_entry(folder, os.path.relpath(folder.resolve(), root)) for folder in folders]
    if not any(entry.summary for entry in entries):
        raise MbrlError("\n".join(entry.problem for entry in entries))
    path = output or root / COMPARISON
    write_atomically(path, render(entries).encode())
    return path


def require_folders(folders: Sequence[Path]) -> None:
    """Every folder must be there, and once."""
    resolved = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, resolved, strict=True):
        if not place.is_dir():
            raise MbrlError(f"{folder}: no such run folder")
        if resolved.count(place) > 1:
            raise MbrlError(f"{folder}: is there twice; expected each run once")


def read_entry(folder: Path, name: str) -> Entry:
    """What can be read of a run."""
    problems, summary, parameters = [], None, {}
    try:
        summary = read_summary(folder)
    except MbrlError as error:
        problems.append(str(error))
    try:
        parameters = parse_parameters((folder / PARAMETERS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, MbrlError) as error:
        problems.append(f"{folder / PARAMETERS}: {getattr(error, 'strerror', None) or error}")
    return Entry(name, summary, parameters, "; ".join(problems))


def render(entries: Sequence[Entry]) -> str:
    """The whole page."""
    runs = [(entry.name, entry.summary) for entry in entries if entry.summary is not None]
    solved = [s.experience_s for _, s in runs if s.experience_s is not None]
    title = f"{len(solved)} of {len(entries)} runs solved"
    median = f"Motion until solved, median of those: {np.median(solved):.1f} s. " if solved else ""
    tasks = {s.task for _, s in runs}
    warning = "The runs have different tasks: their costs cannot be compared." if len(tasks) > 1 else ""
    problems = "".join(missing(f"{entry.name}: {entry.problem}") for entry in entries if entry.problem)
    return page(
        title,
        [
            f"<h1>{title}</h1>\n<p>{median}{warning}</p>",
            section("What is missing", problems, "problems") if problems else "",
            section("Learning curves", drawing(curves(runs))),
            section("Runs", table(COLUMNS, [row(entry) for entry in entries], TEXTS)),
            section("What differs in the parameters", differences_html(entries)),
        ],
    )


def curves(runs: Sequence[tuple[str, RunSummary]]) -> Figure:
    """Time on target and cost of every trial of every run, as they were: no best so far, no mean."""
    summaries = [summary for _, summary in runs]
    span, records = motion_range(summaries), published_rules(summaries[0].task) if one_task(summaries) else []
    longest = max((t.duration_s for s in summaries for t in s.trials), default=1.0) or 1.0
    times = [
        layer for i, run in enumerate(runs) for layer in curve(i, run, [t.time_on_target_s for t in run[1].trials])
    ]
    costs = [layer for i, run in enumerate(runs) for layer in curve(i, run, [t.cost for t in run[1].trials])]
    cost_range = from_zero([[t.cost for t in s.trials] for s in summaries])
    return Figure(
        "learning_curves",
        f"Learning curves of {len(runs)} runs",
        [
            Chart(
                "time on target in the trial (s)",
                [*records, *times],
                X_LABEL,
                span,
                (0.0, 1.08 * longest),
                height=170.0,
            ),
            Chart("cost of the trial (no unit)", [*records, *costs], X_LABEL, span, cost_range, height=170.0),
        ],
        "Every trial of every run, at the motion recorded before it began. A filled mark is a solved trial, a cross "
        "one that ended early.",
    )


def one_task(summaries: Sequence[RunSummary]) -> bool:
    """Whether all runs are of the same task."""
    return len({summary.task for summary in summaries}) == 1


def curve(place: int, run: tuple[str, RunSummary], values: Sequence[float]) -> list[Layer]:
    """One run's line and marks in its colour; after as many runs as colours the dashes change."""
    name, summary = run
    colour, dash = PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)]
    at, y = np.array([t.experience_before_s for t in summary.trials]), np.array(values, float)
    layers: list[Layer] = [Line(at, y, colour, name, 1.5, dash)]
    for shape, filled, chosen in (
        ("cross", True, [bool(t.ended_early) for t in summary.trials]),
        ("circle", True, [t.solved for t in summary.trials]),
        ("circle", False, [not t.solved and not t.ended_early for t in summary.trials]),
    ):
        if any(chosen):
            layers.append(Marks(at[chosen], y[chosen], colour, "", shape, filled))
    return layers


def row(entry: Entry) -> list[str]:
    """Cells of a run in the order of COLUMNS."""
    summary = entry.summary
    if summary is None:
        return [entry.name, "no", *[NOTHING] * 4, f"cannot be read: {entry.problem}", *[NOTHING] * (len(COLUMNS) - 7)]
    trials = summary.trials
    mpc = [trial for trial in trials if trial.policy == "mpc"]
    return [
        entry.name,
        "yes" if summary.solved else "no",
        number(math.nan if summary.experience_s is None else summary.experience_s, 1),
        str(len(trials)),
        str(sum(t.solved for t in trials)),
        number(motion(trials), 1),
        summary.ended,
        " ".join(number(t.time_on_target_s, 2) for t in trials),
        " ".join(number(t.cost, 1) for t in trials),
        planning(mpc),
        NOTHING if summary.lockstep else str(sum(t.deadline_misses for t in mpc)),
        number([math.nan, *finite(t.one_step_error for t in trials)][-1], 4),
        number(summary.wall_time_s, 0),
        str(summary.seed),
        "lockstep" if summary.lockstep else "real time",
        f"{summary.planner}, {summary.model}",
        f"{summary.robot}, {summary.task}",
    ]


def planning(trials: Sequence[TrialResult]) -> str:
    """Median of the trials' medians, and the longest planning time."""
    medians = finite(t.planning_time_ms.get("p50", math.nan) for t in trials)
    longest = finite(t.planning_time_ms.get("max", math.nan) for t in trials)
    return f"{number(float(np.median(medians or [math.nan])), 1)} / {number(max(longest, default=math.nan), 1)}"


def differences_html(entries: Sequence[Entry]) -> str:
    """Table of the parameters that are not the same in all runs."""
    known = [entry for entry in entries if entry.parameters]
    if len(known) < 2:
        return missing("The parameters of fewer than two runs can be read.")
    rows = [[name, *values] for name, values in differences([entry.parameters for entry in known]).items()]
    if not rows:
        return missing("All parameters are the same.")
    return table(("parameter", *(entry.name for entry in known)), rows, [entry.name for entry in known])


def differences(runs: Sequence[Parameters]) -> dict[str, list[str]]:
    """Parameters that are not the same in all runs with their values; one that all nodes share is there once.

    Of a node that not all runs had, such as a recorder, it is said who had it: its parameters would hide the others.
    """
    everywhere = set.intersection(*(set(run) for run in runs))
    flat = [
        {f"{node}.{name}": v for node, values in run.items() if node in everywhere for name, v in values.items()}
        for run in runs
    ]
    others = sorted(set().union(*runs) - everywhere)
    found = {f"node {node}": ["yes" if node in run else NOTHING for run in runs] for node in others}
    for key in sorted(set().union(*flat)):
        name = key.split(".", 1)[1]
        values = [said(run.get(key)) for run in flat]
        if name not in OWN and len(set(values)) > 1:
            found[name if values == found.get(name, values) else key] = values
    return dict(sorted(found.items()))


def said(value: Any) -> str:
    """A parameter's value as a cell."""
    return NOTHING if value is None else str(value)
