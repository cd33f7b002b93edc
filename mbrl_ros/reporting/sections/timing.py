"""Planning time against the deadline, and what the guard did with each command."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from mbrl_ros.reporting.chart import (
    DASHED,
    LIMIT,
    ONE_STEP,
    PREDICTED,
    REFERENCE,
    TARGET,
    Bars,
    Chart,
    Figure,
    Layer,
    Line,
    Marks,
    Rule,
)
from mbrl_ros.reporting.sections.states import time_range
from mbrl_ros.reporting.trial_view import Ranges, TrialView
from mbrl_ros.safety.decision import FLAGS, PASSED

NO_FLAGS = "What the guard did at each tick has not been recorded in this run; the table of trials has the counts."


def timing_figure(view: TrialView, ranges: Ranges) -> Figure | None:
    """Planning time of each tick; None where nothing was planned."""
    trial = view.arrays
    milliseconds = 1e3 * trial.planning_time
    if not np.isfinite(milliseconds).any():
        return None
    cut = np.zeros(len(trial), bool) if trial.cut_short is None else trial.cut_short
    layers: list[Layer] = [deadline(view.lockstep, 1e3 * view.robot.dt, "control period")]
    if np.isfinite(view.budget):
        layers.append(Rule(1e3 * view.budget, LIMIT, f"deadline: {1e3 * view.budget:g} ms", DASHED))
    layers.append(Line(view.time, milliseconds, PREDICTED, "planning time"))
    for chosen, colour, shape, label in (
        (trial.deadline_missed & cut, ONE_STEP, "circle", "cut short: went on with what was ready"),
        (trial.deadline_missed & ~cut, LIMIT, "cross", "deadline missed"),
    ):
        if chosen.any():
            layers.append(Marks(view.time[chosen], milliseconds[chosen], colour, f"{label} ({chosen.sum()})", shape))
    low, high = ranges["planning"]
    chart = Chart("planning time (ms)", layers, "time (s)", time_range(view), (low, high))
    caption = "" if trial.cut_short is not None else "This run did not record which plans were cut short."
    return Figure(f"trial_{view.index:03d}_planning", f"Planning time of trial {view.index}", [chart], caption)


def deadline(lockstep: bool, period_ms: float, text: str) -> Rule:
    """The control period as a line; in lockstep it is no deadline."""
    note = ", no deadline in lockstep" if lockstep else ""
    return Rule(period_ms, REFERENCE, f"{text}{note}: {period_ms:g} ms", DASHED)


def guard_figure(view: TrialView, scored: Mapping[str, int]) -> Figure | None:
    """Which flag the guard gave when; `scored` are its counts of the whole trial. None where it was not recorded."""
    flags = view.arrays.flag
    if flags is None:
        return None
    names = [name for name in (*FLAGS, *sorted(set(flags.tolist()) - set(FLAGS) - {""})) if (flags == name).any()]
    layers = [guard_marks(view.time[flags == name], row, name) for row, name in enumerate(names)]
    counted = tuple(f"{name} {(flags == name).sum()}" for name in names)
    chart = Chart(
        "what the guard did with the commands, ticks of each flag",
        layers,
        "time (s)",
        time_range(view),
        (-0.6, max(len(names), 1) - 0.4),
        names=counted,
        height=20.0 + 20.0 * len(names),
    )
    text = f"Flags of the command guard during trial {view.index}"
    return Figure(f"trial_{view.index:03d}_guard", text, [chart], between_ticks(flags, scored))


def guard_marks(time: np.ndarray, row: int, name: str) -> Marks:
    """A bar in the flag's row at each of its ticks."""
    colour, label = LIMIT, "something else was sent"
    if name in PASSED:
        colour, label = (TARGET, "passed on") if name == "ok" else (ONE_STEP, "passed on, but limited or late")
    return Marks(time, np.full(len(time), float(row)), colour, label, "bar")


def between_ticks(flags: np.ndarray, scored: Mapping[str, int]) -> str:
    """Flags of the trial's score that belong to no tick."""
    at_ticks = Counter(flags.tolist())
    others = {name: n - at_ticks[name] for name, n in sorted(scored.items()) if n > at_ticks[name]}
    return f"Between the ticks: {', '.join(f'{n} {c}' for n, c in others.items())}." if others else ""


def planning_histogram(seconds: np.ndarray, missed: np.ndarray, period: float, budget: float) -> Figure:
    """Histogram of planning times with the deadline.

    Args:
        seconds: (n,) planning times, at least one.
        missed: (n,) bool, whether the deadline was missed.
        period: control period in s.
        budget: planning time that a tick may take in s; infinite where the simulation waited.
    """
    lockstep = not np.isfinite(budget)
    milliseconds = np.maximum(1e3 * seconds, 1e-3)
    low, high = min(milliseconds.min(), 1e3 * period) / 1.2, max(milliseconds.max(), 1e3 * period) * 1.2
    edges = np.geomspace(low, high, 41)
    fine, late = (np.histogram(milliseconds[chosen], edges)[0].astype(float) for chosen in (~missed, missed))
    layers: list[Layer] = [
        Bars(edges, fine, PREDICTED, f"{'planned' if lockstep else 'in time'}: {np.sum(~missed)} ticks")
    ]
    if missed.any():
        layers.append(Bars(edges, late, LIMIT, f"deadline missed: {missed.sum()} ticks", base=fine))
    rule = deadline(lockstep, 1e3 * period, "control period")
    layers.append(Rule(rule.at, rule.colour, rule.label, rule.dash, upright=True))
    if not lockstep:
        layers.append(Rule(1e3 * budget, LIMIT, f"deadline: {1e3 * budget:g} ms", DASHED, upright=True))
    y_range = (0.0, 1.08 * float((fine + late).max()))
    label = "planning time of a tick (ms, logarithmic)"
    chart = Chart("number of ticks", layers, label, (low, high), y_range, log="x", height=150.0)
    return Figure("planning_time", "Histogram of planning times", [chart])
