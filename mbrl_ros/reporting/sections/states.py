"""States with what the model predicted of them, and the actions."""

import numpy as np

from mbrl_ros.reporting.chart import (
    DASHED,
    LIMIT,
    OBSERVED,
    ONE_STEP,
    PLANNED,
    PREDICTED,
    TARGET,
    Band,
    Chart,
    Figure,
    Layer,
    Line,
    Rule,
    Stripe,
)
from mbrl_ros.reporting.prediction import Prediction
from mbrl_ros.reporting.trial_view import Ranges, TrialView
from mbrl_ros.reporting.units import with_unit

TURN = 2.0 * np.pi
CAPTION = (
    "States: bands hold 90 % of the particles, noise included, of the model that was in use at the tick they start "
    "from. One step: from the observation before. Open loop: from the observation at the left end, with the actions "
    "really applied. Plan: the last state of the plan made a whole horizon earlier; since then it was replanned, so "
    "that it may differ though the model is right. Trials have the same axes; a triangle marks where a curve leaves "
    "them."
)


def states_figure(view: TrialView, ranges: Ranges) -> Figure:
    """A chart for each entry of state and action."""
    layout = view.robot.layout
    charts = [state_chart(view, i, ranges[name]) for i, name in enumerate(layout.state)]
    charts += [action_chart(view, i, ranges[name]) for i, name in enumerate(layout.action)]
    return Figure(f"trial_{view.index:03d}", f"States and actions of trial {view.index}", charts)


def state_chart(view: TrialView, entry: int, y_range: tuple[float, float]) -> Chart:
    """One state entry over time."""
    name = view.robot.layout.state[entry]
    is_angle = name in view.robot.layout.angles
    layers: list[Layer] = target_stripes(view, entry, y_range, is_angle)
    for segment in view.segments:
        layers += prediction_layers(view.time, segment, entry, PREDICTED, "open loop")
    if view.planned is not None:
        layers += prediction_layers(view.time, view.planned, entry, PLANNED, "plan, a horizon before", DASHED)
    if view.one_step is not None:
        layers += prediction_layers(view.time, view.one_step, entry, ONE_STEP, "one step")
    layers.append(Line(view.time, view.arrays.x[:, entry], OBSERVED, "observed", 1.3))
    return Chart(
        with_unit(view.robot, name), layers, "time (s)", time_range(view), y_range, turns="y" if is_angle else ""
    )


def prediction_layers(
    time: np.ndarray, prediction: Prediction, entry: int, colour: str, label: str, dash: str = ""
) -> list[Layer]:
    """Band and mean of a prediction; nothing where it is NaN throughout."""
    if not np.isfinite(prediction.mean).any():
        return []
    at = time[prediction.ticks]
    band = Band(at, prediction.low[:, entry], prediction.high[:, entry], colour, f"{label}, 90 %")
    return [band, Line(at, prediction.mean[:, entry], colour, f"{label}, mean", 1.3, dash)]


def target_stripes(view: TrialView, entry: int, y_range: tuple[float, float], is_angle: bool) -> list[Layer]:
    """The target where it has two ends; that of an angle lies at every turn."""
    if view.target is None or not np.isfinite([end[entry] for end in view.target]).all():
        return []
    low, high = (float(end[entry]) for end in view.target)
    first, last = (np.floor(y_range[0] / TURN), np.ceil(y_range[1] / TURN)) if is_angle else (0.0, 0.0)
    shifts = TURN * np.arange(first, last + 1)
    return [
        Stripe(low + s, high + s, TARGET, "target") for s in shifts if high + s > y_range[0] and low + s < y_range[1]
    ]


def action_chart(view: TrialView, entry: int, y_range: tuple[float, float]) -> Chart:
    """One action over time, held over each tick, with what the controller wished, and the limits."""
    robot, trial = view.robot, view.arrays
    layers: list[Layer] = []
    if trial.plan_u is not None and trial.plan_u.shape[1]:
        wished = trial.plan_u[:, 0, entry].astype(float)
        layers.append(Line(view.time, wished, PLANNED, "wished by the controller", 3.0, step=True))
    layers.append(Line(view.time, trial.u[:, entry], OBSERVED, "applied", 1.3, step=True))
    ends = [float(v[entry]) for v in (robot.u_min, robot.u_max) if np.isfinite(v[entry])]
    layers += [Rule(end, LIMIT, "limit", DASHED) for end in ends]
    return Chart(with_unit(robot, robot.layout.action[entry]), layers, "time (s)", time_range(view), y_range)


def time_range(view: TrialView) -> tuple[float, float]:
    """From the first tick to the last."""
    return 0.0, max(float(view.time[-1]) if len(view.time) else 0.0, view.robot.dt)
