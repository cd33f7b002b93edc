"""One trial on the page: its row in the table, and its charts under their headings."""

import math
from html import escape

import numpy as np

from mbrl_ros.reporting.chart import Figure
from mbrl_ros.reporting.html import NOTHING, drawing, missing, number
from mbrl_ros.reporting.run import Run
from mbrl_ros.reporting.sections import cost, data_coverage, doubt, states, timing
from mbrl_ros.reporting.summary import TrialResult
from mbrl_ros.reporting.trial_view import Ranges, TrialView

TRIAL_COLUMNS = (
    "trial",
    "policy",
    "motion\nbefore (s)",
    "duration\n(s)",
    "steps",
    "cost",
    "on target\n(s)",
    "solved",
    "ended early",
    "last\nmodel",
    "refits",
    "one-step\nRMSE (std)",
    "open-loop\nRMSE (std)",
    "planning (ms)\np50 / p99 / max",
    "deadlines\nmissed",
    "guard flags",
)
EXPLANATIONS = (states.CAPTION, cost.CAPTION, doubt.CAPTION, data_coverage.CAPTION)
TRIAL_TEXTS = ("policy", "ended early", "guard flags")


def trial_row(trial: TrialResult) -> list[str]:
    """A trial's values in the order of TRIAL_COLUMNS."""
    planning = " / ".join(number(trial.planning_time_ms.get(k, math.nan), 1) for k in ("p50", "p99", "max"))
    flags = ", ".join(f"{name} {count}" for name, count in sorted(trial.flags.items()))
    return [
        str(trial.index),
        trial.policy,
        number(trial.experience_before_s, 2),
        number(trial.duration_s, 2),
        str(trial.steps),
        number(trial.cost, 2),
        number(trial.time_on_target_s, 2),
        "yes" if trial.solved else "no",
        trial.ended_early or NOTHING,
        str(trial.model_version) if trial.model_version else NOTHING,
        str(trial.refits),
        number(trial.one_step_error, 4),
        number(trial.multi_step_error, 3),
        planning,
        str(trial.deadline_misses),
        flags or NOTHING,
    ]


def trial_figures(run: Run, view: TrialView, ranges: Ranges) -> dict[str, Figure | str]:
    """What there is to see of a trial by heading: a figure, or why there is none."""
    result = run.result(view.index)
    planned = bool(np.isfinite(view.arrays.planning_time).any())
    not_planned = "Nothing was planned in this trial."
    calibration = doubt.calibration_figure(
        f"trial_{view.index:03d}_calibration", f"Calibration on trial {view.index}", view.errors
    )
    return {
        "States and actions": states.states_figure(view, ranges),
        "How sure the model is": (doubt.doubt_figure(view, ranges) or doubt.MISSING) if planned else not_planned,
        "Data": data_coverage.coverage_figure(view, ranges) or data_coverage.MISSING,
        "Which part of the cost hurts": cost.cost_figure(view, ranges),
        "Is the model as sure as it should be?": calibration or "No model, or too short a trial to judge it.",
        "Planning time": timing.timing_figure(view, ranges) or not_planned,
        "The guard": timing.guard_figure(view, result.flags if result else {}) or timing.NO_FLAGS,
    }


def trial_html(figures: dict[str, Figure | str]) -> str:
    """All of a trial, each under its heading; what is small stands beside each other where there is room."""
    return f'<div class="parts">{"".join(part_html(title, what) for title, what in figures.items())}</div>'


def part_html(title: str, what: Figure | str) -> str:
    """One part of a trial under its heading; several charts take the whole width."""
    wide = isinstance(what, Figure) and len(what.charts) > 1
    shown = drawing(what) if isinstance(what, Figure) else missing(what)
    return f'<div class="{"wide" if wide else "part"}"><h3>{escape(title)}</h3>{shown}</div>'
