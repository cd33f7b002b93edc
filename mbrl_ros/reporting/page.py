"""The HTML of a report: text and pictures in, one self-contained page out. Every text is escaped."""

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from statistics import median

from mbrl_ros.reporting.summary import RunSummary, TrialResult

COLUMNS = (
    "trial",
    "policy",
    "motion<br>before (s)",
    "duration<br>(s)",
    "steps",
    "cost",
    "on target<br>(s)",
    "solved",
    "ended early",
    "last<br>model",
    "refits",
    "one-step<br>RMSE (std)",
    "open-loop<br>RMSE (std)",
    "planning (ms)<br>p50 / p99 / max",
    "deadlines<br>missed",
    "guard flags",
)
TEXT_COLUMNS = ("policy", "ended early", "guard flags")
NOTHING = "–"  # noqa: RUF001 an en dash, what a table shows where there is no number

STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --back: #f5f7fa; --good: #00694d; --bad: #a84300; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 4px 0; }
h1.good { color: var(--good); }
h2 { font-size: 1.1rem; margin: 0 0 8px; }
p { margin: 4px 0; max-width: 46em; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin-top: 16px; }
section.problems { border-left: 4px solid var(--bad); }
.pair { display: grid; gap: 16px; grid-template-columns: minmax(0, 1fr); margin-top: 16px; }
.pair > div { display: grid; gap: 16px; grid-template-columns: minmax(0, 1fr); align-content: start; }
.pair section { margin: 0; }
.cards { display: grid; gap: 8px; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); margin-top: 16px; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
figure { margin: 8px 0 0; }
img { display: block; width: 100%; max-width: 620px; height: auto; margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 7px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.text, th.text { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
td.good { color: var(--good); font-weight: 600; }
details { border-top: 1px solid var(--line); }
details:first-of-type { margin-top: 8px; }
summary { cursor: pointer; padding: 10px 0; }
pre { overflow-x: auto; background: var(--back); border-radius: 6px; padding: 12px; font-size: .82rem; margin: 8px 0; }
@media (min-width: 860px) { .pair { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


@dataclass(frozen=True)
class Content:
    """What a report shows.

    Attributes:
        summary: the run.
        figures: PNG files by name: learning_curve, planning_time, model_error, reliability, trial_000, trial_001 ...
        animation: the GIF file, empty for none.
        animated: index of the animated trial, None for none.
        parameters: text of the parameters file, empty for none.
        problems: one line for each thing that is missing.
    """

    summary: RunSummary
    figures: Mapping[str, bytes]
    animation: bytes
    animated: int | None
    parameters: str
    problems: list[str]


def render(content: Content) -> str:
    """The whole page."""
    summary = content.summary
    results = {trial.index: trial for trial in summary.trials}
    parts = [
        headline(summary),
        key_figures(summary),
        problems_section(content.problems),
        pair(learning_section(content), animation_section(content, results) + error_section(content)),
        table_section(summary.trials),
        details_section(content.figures, results),
        pair(timing_section(content), reproduction_section(content)),
    ]
    title = escape(f"{summary.robot}: {outcome(summary)}")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


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


def problems_section(problems: list[str]) -> str:
    """What is missing; nothing where nothing is."""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return section("What is missing", f"<ul>{items}</ul>", "problems") if problems else ""


def learning_section(content: Content) -> str:
    """Learning curve."""
    text = (
        "Each mark is a trial with its number, at the motion recorded before it began. A trial that ended early "
        "has fewer ticks to pay for. Published figures come from other setups and their own criteria of success."
    )
    return section("Learning curve", picture(content.figures, "learning_curve", "Learning curve", text))


def animation_section(content: Content, results: Mapping[int, TrialResult]) -> str:
    """The last trial, moving."""
    if not content.animation or content.animated is None:
        return section("Last trial", missing("There is no animation."))
    policy = results[content.animated].policy if content.animated in results else "not scored"
    caption = f"Trial {content.animated} ({policy}), as observed, at the speed at which it happened."
    return section("Last trial", figure(content.animation, "gif", "Animation of the last trial", caption))


def table_section(trials: Iterable[TrialResult]) -> str:
    """Every trial with its raw values."""
    rows = [table_row(trial) for trial in trials]
    if not rows:
        return section("Trials", missing("No trial was finished."))
    head = "".join(cell("th", column, column) for column in COLUMNS)
    lines = ["".join(cell("td", escape(v), c) for v, c in zip(row, COLUMNS, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return section("Trials", f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')


def table_row(trial: TrialResult) -> list[str]:
    """A trial's values in the order of the table."""
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


def cell(tag: str, html: str, column: str) -> str:
    """A cell of the table; texts are left-aligned, success is green."""
    name = "text" if column in TEXT_COLUMNS else "good" if (column, html) == ("solved", "yes") else ""
    return f'<{tag} class="{name}">{html}</{tag}>' if name else f"<{tag}>{html}</{tag}>"


def details_section(figures: Mapping[str, bytes], results: Mapping[int, TrialResult]) -> str:
    """Each trial's figure, folded away except the last."""
    names = sorted((name for name in figures if name.startswith("trial_")), key=lambda name: int(name[6:]))
    if not names:
        return section("Trial by trial", missing("There are no trials to draw."))
    text = (
        "The bands hold 90 % of the particles of the model that was active at the tick they start from, noise "
        "included. Open loop: from the observation at the left end of a band, with the actions really applied. "
        "Ticks without a model, as in the base policy's trial, have none."
    )
    folds = "".join(fold(figures[name], int(name[6:]), results, name == names[-1]) for name in names)
    return section("Trial by trial", f'<p class="soft">{text}</p>{folds}')


def fold(image: bytes, index: int, results: Mapping[int, TrialResult], opened: bool) -> str:
    """One trial's figure below its line."""
    line = f"Trial {index}: not scored"
    if trial := results.get(index):
        result = "solved" if trial.solved else trial.ended_early or "not solved"
        line = f"Trial {index}: {trial.policy}, {result}, cost {number(trial.cost, 1)}"
    return (
        f"<details{' open' if opened else ''}><summary>{escape(line)}</summary>"
        f"{figure(image, 'png', f'States and actions of trial {index}', '')}</details>"
    )


def timing_section(content: Content) -> str:
    """Planning times."""
    text = "Every tick that was planned, in all trials."
    if content.summary.lockstep:
        text += " In lockstep the simulation waits for the planner; nothing is cut short."
    return section("Planning time", picture(content.figures, "planning_time", "Histogram of planning times", text))


def error_section(content: Content) -> str:
    """Model error."""
    text = "Open loop replays the applied actions over the whole horizon without looking at the observations."
    errors = picture(content.figures, "model_error", "Model error over motion", text)
    text = "Of each trial the model that it began with, which had not seen it; all entries of the state together."
    return section("Model error", errors) + section(
        "Is the model as sure as it should be?", picture(content.figures, "reliability", "Reliability", text)
    )


def reproduction_section(content: Content) -> str:
    """Command, versions and parameters."""
    summary = content.summary
    command = f"<pre>{escape(summary.command)}</pre>" if summary.command else missing("The command was not recorded.")
    promise = (
        "Lockstep: the same command with the same versions gives the same trajectory."
        if summary.lockstep
        else "Real time: the same command gives the same conditions; the trajectory depends on timing."
    )
    versions = ", ".join(f"{name} {version or NOTHING}" for name, version in sorted(summary.versions.items()))
    parameters = (
        f"<details><summary>Parameters as used</summary><pre>{escape(content.parameters)}</pre></details>"
        if content.parameters
        else missing("The parameters were not saved.")
    )
    return section(
        "Reproduce", f'{command}<p class="soft">{promise}</p><p class="soft">{escape(versions)}</p>{parameters}'
    )


def section(title: str, html: str, kind: str = "") -> str:
    """A titled box."""
    return f'<section class="{kind}"><h2>{title}</h2>{html}</section>'


def pair(left: str, right: str) -> str:
    """Two columns of boxes where there is room."""
    return f'<div class="pair"><div>{left}</div><div>{right}</div></div>'


def picture(figures: Mapping[str, bytes], name: str, alt: str, caption: str) -> str:
    """A figure by name, or the note that there is none."""
    return figure(figures[name], "png", alt, caption) if name in figures else missing("There is nothing to draw.")


def figure(image: bytes, kind: str, alt: str, caption: str) -> str:
    """An image embedded in the page, with its caption."""
    data = base64.b64encode(image).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="data:image/{kind};base64,{data}" alt="{escape(alt)}">{below}</figure>'


def missing(text: str) -> str:
    """A note where something should have been."""
    return f'<p class="soft">{text}</p>'


def number(value: float, digits: int, unit: str = "") -> str:
    """A number for people, NOTHING for NaN."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f} {unit}".strip()
