"""The page of one run: what happened, in the order in which people ask."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from statistics import median

from mbrl_ros.reporting.chart import Figure
from mbrl_ros.reporting.html import NOTHING, drawing, fold, image, missing, number, page, pair, section, table
from mbrl_ros.reporting.sections import versions
from mbrl_ros.reporting.summary import RunSummary, TrialResult
from mbrl_ros.reporting.trial_page import EXPLANATIONS, TRIAL_COLUMNS, TRIAL_TEXTS, trial_row

FOLDED = 8  # rows: a longer table of models is folded away


@dataclass(frozen=True)
class Content:
    """What a report shows.

    Attributes:
        summary: the run.
        figures: of the run as a whole, by name.
        trials: HTML of each trial, by index.
        left_out: trials that are not drawn, because the page would become too large.
        models: rows of the table of models.
        animation: the GIF file, empty for none.
        animated: index of the animated trial, None for none.
        parameters: text of the parameters file, empty for none.
        problems: one line for each thing that is missing.
    """

    summary: RunSummary
    figures: Mapping[str, Figure] = field(default_factory=dict)
    trials: Mapping[int, str] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    models: tuple[list[str], ...] = ()
    animation: bytes = b""
    animated: int | None = None
    parameters: str = ""
    problems: tuple[str, ...] = ()


def render(content: Content) -> str:
    """The whole page."""
    summary = content.summary
    parts = [
        headline(summary),
        key_figures(summary),
        problems_section(content.problems),
        pair(
            learning_section(content) + drawn_section(content, "Model error", "model_error"),
            animation_section(content)
            + drawn_section(content, "Is the model as sure as it should be?", "reliability")
            + timing_section(content),
        ),
        trials_section(summary.trials),
        models_section(content),
        details_section(content),
        reproduction_section(content),
    ]
    return page(f"{summary.robot}: {outcome(summary)}", parts)


def outcome(summary: RunSummary) -> str:
    """The result in one sentence."""
    if summary.experience_s is not None:
        return f"Solved after {summary.experience_s:.1f} s of motion"
    if not summary.trials:
        return "No trial was finished"
    return f"Not solved in {motion(summary.trials):.1f} s of motion"


def motion(trials: Iterable[TrialResult]) -> float:
    """Recorded motion of these trials in s."""
    return sum(trial.duration_s for trial in trials)


def headline(summary: RunSummary) -> str:
    """Result, what it means, and what ran."""
    mode = "lockstep simulation" if summary.lockstep else "real time"
    what = f"{summary.robot}, {summary.task}, {summary.model} with {summary.planner}, {mode}, seed {summary.seed}"
    ended = "" if summary.ended == "solved" else f" Ended: {summary.ended}."
    return (
        f'<p class="soft">{escape(what)}</p>\n<h1 class="{"good" if summary.solved else ""}">{outcome(summary)}</h1>\n'
        f'<p>{meaning(summary)}{escape(ended)}</p>\n<p class="soft">Started {escape(summary.started)}</p>'
    )


def meaning(summary: RunSummary) -> str:
    """What the outcome stands for."""
    solved = [trial for trial in summary.trials if trial.solved]
    if summary.experience_s is not None:
        first = next(trial for trial in solved if trial.experience_before_s == summary.experience_s)
        return (
            f"From trial {first.index} on, two trials in a row were on target during their whole last second; "
            f"{summary.experience_s:.1f} s of motion had been recorded before trial {first.index} began."
        )
    if solved:
        names = ", ".join(str(trial.index) for trial in solved)
        return f"On target during the whole last second, but not twice in a row: trial {names}."
    return "No trial was on target during its whole last second."


def key_figures(summary: RunSummary) -> str:
    """The figures people ask for first."""
    mpc = [trial for trial in summary.trials if trial.policy == "mpc"]
    medians = [trial.planning_time_ms.get("p50", math.nan) for trial in mpc]
    longest = [trial.planning_time_ms.get("max", math.nan) for trial in mpc]
    experience = math.nan if summary.experience_s is None else summary.experience_s
    misses = f"{sum(t.deadline_misses for t in mpc)} of {sum(t.steps for t in mpc)}"
    cards = [
        (number(experience, 1, "s"), "motion until solved"),
        (f"{sum(t.solved for t in summary.trials)} of {len(summary.trials)}", "trials solved"),
        (number(motion(summary.trials), 1, "s"), "motion in all trials"),
        (number(median(finite(medians) or [math.nan]), 1, "ms"), "planning time, median of the trials' medians"),
        (number(max(finite(longest), default=math.nan), 1, "ms"), "planning time, longest"),
        (NOTHING if summary.lockstep else misses, "deadlines missed"),
        (number(summary.wall_time_s, 0, "s"), "wall time of the run"),
    ]
    inner = "".join(f'<div class="card"><b>{value}</b><span>{label}</span></div>' for value, label in cards)
    return f'<div class="cards">{inner}</div>'


def finite(values: Iterable[float]) -> list[float]:
    """The finite ones."""
    return [value for value in values if math.isfinite(value)]


def problems_section(problems: Iterable[str]) -> str:
    """What is missing; nothing where nothing is."""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return section("What is missing", f"<ul>{items}</ul>", "problems") if items else ""


def drawn_section(content: Content, title: str, name: str) -> str:
    """A figure by name, or the note that there is none."""
    figure = content.figures.get(name)
    return section(title, drawing(figure) if figure else missing("There is nothing to draw."))


def learning_section(content: Content) -> str:
    """Learning curve."""
    return drawn_section(content, "Learning curve", "learning_curve")


def animation_section(content: Content) -> str:
    """The last trial, moving."""
    if not content.animation or content.animated is None:
        return section("Last trial", missing("There is no animation."))
    result = next((trial for trial in content.summary.trials if trial.index == content.animated), None)
    policy = result.policy if result else "not scored"
    caption = f"Trial {content.animated} ({policy}), as observed, at the speed at which it happened."
    return section("Last trial", image(content.animation, "gif", "Animation of the last trial", caption))


def timing_section(content: Content) -> str:
    """Planning times."""
    text = "Every tick that was planned, in all trials."
    if content.summary.lockstep:
        text += " In lockstep the simulation waits for the planner; nothing is cut short."
    figure = content.figures.get("planning_time")
    html = drawing(figure) + missing(text) if figure else missing("There is nothing to draw.")
    return section("Planning time", html)


def trials_section(trials: Iterable[TrialResult]) -> str:
    """Every trial with its raw values."""
    rows = [trial_row(trial) for trial in trials]
    return section("Trials", table(TRIAL_COLUMNS, rows, TRIAL_TEXTS) if rows else missing("No trial was finished."))


def models_section(content: Content) -> str:
    """The models, one row a version."""
    if not content.models:
        return section("Models", missing("No model was published."))
    rows = table(versions.COLUMNS, content.models)
    html = rows if len(content.models) <= FOLDED else fold(f"{len(content.models)} versions", rows)
    return section("Models", f"{html}{missing(versions.CAPTION)}")


def details_section(content: Content) -> str:
    """Each trial's charts, folded away except the last."""
    if not content.trials:
        return section("Trial by trial", missing("There are no trials to draw."))
    left_out = ", ".join(map(str, content.left_out))
    note = missing(f"To keep the page small, these trials are only in the table: {left_out}.") if left_out else ""
    results = {trial.index: trial for trial in content.summary.trials}
    last = max(content.trials)
    folds = (fold(trial_line(i, results.get(i)), html, i == last) for i, html in sorted(content.trials.items()))
    explained = fold("How to read the charts", "".join(map(missing, EXPLANATIONS)))
    return section("Trial by trial", note + explained + "".join(folds))


def trial_line(index: int, trial: TrialResult | None) -> str:
    """A trial in one line."""
    if trial is None:
        return f"Trial {index}: not scored"
    result = "solved" if trial.solved else trial.ended_early or "not solved"
    return f"Trial {index}: {trial.policy}, {result}, cost {number(trial.cost, 1)}"


def reproduction_section(content: Content) -> str:
    """Command, versions and parameters."""
    summary = content.summary
    command = f"<pre>{escape(summary.command)}</pre>" if summary.command else missing("The command was not recorded.")
    promise = (
        "Lockstep: the same command with the same versions gives the same trajectory."
        if summary.lockstep
        else "Real time: the same command gives the same conditions; the trajectory depends on timing."
    )
    found = ", ".join(f"{name} {version or NOTHING}" for name, version in sorted(summary.versions.items()))
    parameters = (
        fold("Parameters as used", f"<pre>{escape(content.parameters)}</pre>")
        if content.parameters
        else missing("The parameters were not saved.")
    )
    return section("Reproduce", f"{command}{missing(promise)}{missing(found)}{parameters}")
