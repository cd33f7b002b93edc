"""What a run achieved with how much motion: learning curve beside the published records, and the model's error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_ros.reporting.chart import (
    DASHED,
    DOTTED,
    LIMIT,
    ONE_STEP,
    PREDICTED,
    REFERENCE,
    TARGET,
    Chart,
    Figure,
    Layer,
    Line,
    Marks,
    Rule,
    from_zero,
)
from mbrl_ros.reporting.summary import RunSummary, TrialResult

# How a trial is drawn: shape, colour, whether filled.
KINDS = {
    "base policy": ("square", REFERENCE, False),
    "not solved": ("circle", PREDICTED, False),
    "solved": ("circle", TARGET, True),
    "ended early": ("cross", LIMIT, True),
}


@dataclass(frozen=True)
class Published:
    """A published result: the experience in s after which the task was learned."""

    label: str
    seconds: float
    dash: str


# PILCO: Deisenroth and Rasmussen, ICML 2011. MC-PILCO: Amadio et al., IEEE Transactions on Robotics, 2022.
PUBLISHED = {
    "cartpole_swingup": (
        Published("PILCO, real hardware: 17.5 s", 17.5, DASHED),
        Published("MC-PILCO, simulation: about 18 s", 18.0, DOTTED),
    )
}
X_LABEL = "motion recorded before the trial (s)"
CAPTION = (
    "Each mark is a trial with its number, at the motion recorded before it began. A trial that ended early has fewer "
    "ticks to pay for. Published figures come from other setups and their own criteria of success."
)


def learning_figure(summary: RunSummary) -> Figure:
    """Cost and time on target of every trial over the motion recorded before it began."""
    trials, span = summary.trials, motion_range([summary])
    longest = max((t.duration_s for t in trials), default=1.0) or 1.0
    costs, times = [t.cost for t in trials], [t.time_on_target_s for t in trials]
    rules = [*published_rules(summary.task), *own_rule(summary)]
    cost_range = from_zero([[1.08 * cost for cost in costs]])
    return Figure(
        "learning_curve",
        f"Learning curve: cost and time on target of {len(trials)} trials",
        [
            Chart("cost of the trial (sum over its ticks, no unit)", [*rules, *trial_layers(trials, costs)], X_LABEL,
                  span, cost_range, height=130.0),
            Chart("time on target in the trial (s)", [*rules, *trial_layers(trials, times)], X_LABEL, span,
                  (0.0, 1.15 * longest), height=130.0),
        ],
        CAPTION,
    )  # fmt: skip


def motion_range(summaries: Sequence[RunSummary]) -> tuple[float, float]:
    """Ends of an axis of motion that holds every trial and every published record."""
    seconds = [t.experience_before_s for summary in summaries for t in summary.trials]
    records = [record.seconds for summary in summaries for record in PUBLISHED.get(summary.task, ())]
    longest = max([1.0, *seconds, *records])
    return -0.03 * longest, 1.05 * longest


def published_rules(task: str) -> list[Layer]:
    """Where the published results lie."""
    return [Rule(r.seconds, REFERENCE, r.label, r.dash, upright=True) for r in PUBLISHED.get(task, ())]


def own_rule(summary: RunSummary) -> list[Layer]:
    """Where this run was solved."""
    if summary.experience_s is None:
        return []
    return [Rule(summary.experience_s, TARGET, f"this run: {summary.experience_s:.1f} s", upright=True)]


def trial_layers(trials: Sequence[TrialResult], values: Sequence[float]) -> list[Layer]:
    """One mark a trial with its number, joined by a thin line."""
    at, y = np.array([t.experience_before_s for t in trials]), np.array(values, float)
    layers: list[Layer] = [Line(at, y, "#cbd2d9", width=1.2)]
    for name, (shape, colour, filled) in KINDS.items():
        chosen = [i for i, trial in enumerate(trials) if kind_of(trial) == name]
        if chosen:
            numbers = [str(trials[i].index) for i in chosen]
            layers.append(Marks(at[chosen], y[chosen], colour, name, shape, filled, numbers))
    return layers


def kind_of(trial: TrialResult) -> str:
    """The trial's entry in KINDS."""
    if trial.ended_early:
        return "ended early"
    if trial.solved:
        return "solved"
    return "base policy" if trial.policy == "base" else "not solved"


def error_figure(summary: RunSummary) -> Figure:
    """One-step and multi-step error of the model over the motion recorded."""
    at = np.array([t.experience_before_s for t in summary.trials])
    layers: list[Layer] = [Rule(1.0, REFERENCE, "as wrong as the data's mean", DOTTED)]
    for label, colour, errors in (
        ("open loop over the horizon", PREDICTED, [t.multi_step_error for t in summary.trials]),
        ("one step ahead", ONE_STEP, [t.one_step_error for t in summary.trials]),
    ):
        layers += [Line(at, np.array(errors), colour, label), Marks(at, np.array(errors), colour)]
    title = "RMSE (standard deviations of the data, logarithmic)"
    caption = "Open loop replays the applied actions over the horizon without looking at the observations."
    chart = Chart(title, layers, X_LABEL, (0.0, motion_range([summary])[1]), log="y", height=150.0)
    return Figure("model_error", "Model error over motion", [chart], caption)
