"""The figures of a report: one house style, units on every axis, readable on a phone."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from mbrl_ros.reporting.prediction import Prediction
from mbrl_ros.reporting.run_folder import TrialArrays
from mbrl_ros.reporting.summary import RunSummary, TrialResult
from mbrl_ros.robots.description import RobotDescription

WIDTH = 4.6  # inches: 10 pt are then about 10 px on a phone
DPI = 200

# Okabe and Ito's colours, told apart by colour-blind readers too; one meaning each in every figure.
OBSERVED, PREDICTED, ONE_STEP = "#1f2933", "#0072b2", "#e69f00"
TARGET, LIMIT, REFERENCE = "#009e73", "#d55e00", "#7b8794"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.labelcolor": OBSERVED,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "text.color": OBSERVED,
}

# How a trial is drawn in the learning curve.
MARKERS: dict[str, dict[str, Any]] = {
    "base policy": {"marker": "s", "facecolor": "white", "edgecolor": REFERENCE},
    "not solved": {"marker": "o", "facecolor": "white", "edgecolor": PREDICTED},
    "solved": {"marker": "o", "facecolor": TARGET, "edgecolor": TARGET},
    "ended early": {"marker": "X", "facecolor": LIMIT, "edgecolor": LIMIT},
}


@dataclass(frozen=True)
class Published:
    """A published result: the experience in s after which the task was learned."""

    label: str
    seconds: float
    linestyle: str


# PILCO: Deisenroth and Rasmussen, ICML 2011. MC-PILCO: Amadio et al., IEEE Transactions on Robotics, 2022.
PUBLISHED = {
    "cartpole_swingup": (
        Published("PILCO, real hardware: 17.5 s", 17.5, "--"),
        Published("MC-PILCO, simulation: about 18 s", 18.0, ":"),
    )
}


def house_style(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw with the house style, without touching anyone else's matplotlib settings."""

    @functools.wraps(plot)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return styled


def panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels above each other, `height` inches each, with one x axis."""
    figure = Figure(figsize=(WIDTH, height * count + 0.8), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def legend(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """One legend above the panels, every label once."""
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=columns, columnspacing=1.2)


@house_style
def learning_curve(summary: RunSummary) -> Figure:
    """Cost and time on target of every trial over the motion recorded before it began."""
    figure, (cost, time) = panels(2, 2.1)
    draw_trials(cost, summary.trials, [t.cost for t in summary.trials])
    draw_trials(time, summary.trials, [t.time_on_target_s for t in summary.trials])
    published = PUBLISHED.get(summary.task, ())
    for ax in (cost, time):
        for record in published:
            ax.axvline(record.seconds, color=REFERENCE, linestyle=record.linestyle, label=record.label, zorder=1)
        if summary.experience_s is not None:
            label = f"this run: {summary.experience_s:.1f} s"
            ax.axvline(summary.experience_s, color=TARGET, label=label, zorder=1)
        ax.set_ylim(bottom=0.0)
    time.set_ylim(top=1.15 * max((t.duration_s for t in summary.trials), default=1.0) or 1.0)
    cost.set_title("cost of the trial (sum over its ticks, no unit)")
    time.set_title("time on target in the trial (s)")
    time.set_xlabel("motion recorded before the trial (s)")
    time.xaxis.set_major_locator(whole_seconds())
    longest = max([1.0] + [t.experience_before_s for t in summary.trials] + [r.seconds for r in published])
    time.set_xlim(-0.04 * longest, 1.06 * longest)
    legend(figure, [cost], 2)
    return figure


def draw_trials(ax: Axes, trials: Sequence[TrialResult], values: Sequence[float]) -> None:
    """One marker a trial with its number beside it, joined by a thin line."""
    ax.plot([t.experience_before_s for t in trials], values, color="#cbd2d9", linewidth=1.2, zorder=1)
    for name, marker in MARKERS.items():
        chosen = [(t.experience_before_s, v) for t, v in zip(trials, values, strict=True) if kind_of(t) == name]
        if chosen:
            x, y = zip(*chosen, strict=True)
            ax.scatter(x, y, label=name, s=42, linewidth=1.6, zorder=2, clip_on=False, **marker)
    for trial, value in zip(trials, values, strict=True):
        place = (trial.experience_before_s, value)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        ax.annotate(str(trial.index), place, (0, 8), textcoords="offset points", ha="center", fontsize=8, bbox=box)
    ax.margins(y=0.25)


def whole_seconds() -> MaxNLocator:
    """Ticks at whole seconds."""
    return MaxNLocator(integer=True, steps=[1, 2, 3, 5, 6, 10])


def kind_of(trial: TrialResult) -> str:
    """The trial's entry in MARKERS."""
    if trial.ended_early:
        return "ended early"
    if trial.solved:
        return "solved"
    return "base policy" if trial.policy == "base" else "not solved"


@house_style
def trial_figure(
    trial: TrialArrays,
    robot: RobotDescription,
    target: tuple[np.ndarray, np.ndarray] | None,
    one_step: Prediction | None,
    segments: Sequence[Prediction],
) -> Figure:
    """States with target and predictions, and actions with limits, over the time in the trial.

    Args:
        trial: the trial.
        robot: names, units and limits.
        target: lower and upper end of the target (nx,) each, infinite where an entry has none; None for none.
        one_step: prediction of every tick from the one before, None for none.
        segments: open-loop predictions.
    """
    time = trial.stamp - trial.stamp[0]
    layout = robot.layout
    figure, axes = panels(layout.nx + layout.nu, 1.3)
    for i, (ax, name) in enumerate(zip(axes, layout.state, strict=False)):
        if one_step is not None:
            draw_prediction(ax, time, one_step, i, {"color": ONE_STEP, "label": "one step ahead, 90 % band"})
        for segment in segments:
            draw_prediction(ax, time, segment, i, {"color": PREDICTED, "label": "open loop, 90 % band"})
        ax.plot(time, trial.x[:, i], color=OBSERVED, linewidth=1.2, label="observed")
        ends = np.array([-np.inf, np.inf]) if target is None else np.array([target[0][i], target[1][i]])
        is_angle = name in layout.angles
        frame(ax, trial.x[:, i] if is_angle else np.append(trial.x[:, i], ends))
        if np.isfinite(ends).all():
            draw_target(ax, ends, is_angle)
        if is_angle:
            turns(ax)
        ax.set_title(f"{name} ({unit_of(robot, name)})")
    for i, (ax, name) in enumerate(zip(axes[layout.nx :], layout.action, strict=True)):
        draw_action(ax, time, trial.u[:, i], robot.u_max[i])
        ax.set_title(f"{name} ({unit_of(robot, name)})")
    axes[-1].set_xlabel("time in the trial (s)")
    legend(figure, axes, 2)
    return figure


def draw_prediction(ax: Axes, time: np.ndarray, prediction: Prediction, i: int, look: Any) -> None:
    """Mean and band of state entry i; `look` holds colour and label."""
    at = time[prediction.ticks]
    ax.fill_between(at, prediction.low[:, i], prediction.high[:, i], color=look["color"], alpha=0.25, linewidth=0)
    ax.plot(at, prediction.mean[:, i], linewidth=1.4, **look)


def frame(ax: Axes, values: np.ndarray) -> None:
    """Let these values set the axis: a prediction that runs away leaves the picture."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (-1.0, 1.0)
    margin = max(0.15 * (high - low), 0.05)
    ax.set_ylim(low - margin, high + margin)


def draw_target(ax: Axes, ends: np.ndarray, is_angle: bool) -> None:
    """Shade the target between its `ends` (2,); that of an angle lies at every turn."""
    turn = 2 * np.pi
    bottom, top = ax.get_ylim()
    first, last = (np.floor(bottom / turn), np.ceil(top / turn)) if is_angle else (0, 0)
    for shift in turn * np.arange(first, last + 1):
        ax.axhspan(*(shift + ends), color=TARGET, alpha=0.15, linewidth=0, label="target", zorder=0)
    ax.set_ylim(bottom, top)


def turns(ax: Axes) -> None:
    """Ticks at multiples of pi."""
    ax.yaxis.set_major_locator(MultipleLocator(np.pi))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: multiple_of_pi(round(value / np.pi))))


def multiple_of_pi(count: int) -> str:
    """0, π, 2π and so on."""
    size = {0: "0", 1: "π"}.get(abs(count), f"{abs(count)}π")
    return f"\N{MINUS SIGN}{size}" if count < 0 else size


def draw_action(ax: Axes, time: np.ndarray, action: np.ndarray, limit: float) -> None:
    """The applied action, held over each tick, between its limits."""
    ax.plot(time, action, color=OBSERVED, drawstyle="steps-post", linewidth=1.2)
    for end in (-limit, limit):
        ax.axhline(end, color=LIMIT, linestyle="--", linewidth=1.2, label="limit")
    ax.set_ylim(-1.15 * limit, 1.15 * limit)


def unit_of(robot: RobotDescription, name: str) -> str:
    """Unit of a state or action entry such as ``pole_hinge/velocity``."""
    joint, _, quantity = name.rpartition("/")
    if not joint:  # of a base, or a twist
        return BASE_UNITS.get(name.removeprefix("base_"), "")
    units = {"position": ("m", "rad"), "velocity": ("m/s", "rad/s"), "effort": ("N", "N m")}
    turning = set(robot.angles) | (revolute_joints(robot.urdf) if robot.urdf else set())
    return units[quantity][joint in turning]


BASE_UNITS = {
    **dict.fromkeys(("x", "y", "z"), "m"),
    **dict.fromkeys(("roll", "pitch", "yaw"), "rad"),
    **dict.fromkeys(("vx", "vy", "vz", "linear_x"), "m/s"),
    **dict.fromkeys(("wx", "wy", "wz", "angular_z"), "rad/s"),
}


def revolute_joints(urdf: Path) -> set[str]:
    """Names of the joints that turn; none where the URDF cannot be read."""
    try:
        joints = ElementTree.parse(urdf).iter("joint")
    except (OSError, ElementTree.ParseError):
        return set()
    return {joint.get("name", "") for joint in joints if joint.get("type") in ("revolute", "continuous")}


@house_style
def planning_time(seconds: np.ndarray, missed: np.ndarray, period: float, lockstep: bool) -> Figure:
    """Histogram of planning times with the deadline.

    Args:
        seconds: (n,) planning times, at least one.
        missed: (n,) bool, whether the deadline was missed.
        period: control period in s, the deadline in real time.
        lockstep: whether the simulation waited, so that there was no deadline.
    """
    figure, (ax,) = panels(1, 2.6)
    milliseconds = np.maximum(1e3 * seconds, 1e-3)
    low, high = min(milliseconds.min(), 1e3 * period) / 1.2, max(milliseconds.max(), 1e3 * period) * 1.2
    bins = np.geomspace(low, high, 50).tolist()
    ax.hist(
        milliseconds[~missed],
        bins,
        color=PREDICTED,
        label=f"{'planned' if lockstep else 'in time'}: {np.sum(~missed)} ticks",
    )
    if missed.any():
        ax.hist(milliseconds[missed], bins, color=LIMIT, label=f"deadline missed: {missed.sum()} ticks")
    text = "control period, no deadline in lockstep" if lockstep else "deadline"
    ax.axvline(
        1e3 * period, color=REFERENCE if lockstep else LIMIT, linestyle="--", label=f"{text}: {1e3 * period:g} ms"
    )
    ax.set_xscale("log")
    plain_logarithmic(ax.xaxis)
    ax.set_xlabel("planning time of a tick (ms, logarithmic)")
    ax.set_title("number of ticks")
    legend(figure, [ax], 1)
    return figure


def plain_logarithmic(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5 and their tens in plain figures."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@house_style
def reliability(levels: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Share of the true states within predicted intervals, against what the intervals promise.

    Args:
        levels: probabilities (L,) of the intervals.
        curves: share (L,) found, by label.
    """
    figure, (ax,) = panels(1, 3.0)
    ax.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="as promised")
    for (label, found), colour in zip(curves.items(), (ONE_STEP, PREDICTED), strict=False):
        ax.plot(levels, found, color=colour, marker="o", markersize=4, label=label)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("probability of the predicted interval")
    ax.set_title("share of the states within it (below the line: too sure)")
    legend(figure, [ax], 2)
    return figure


@house_style
def model_error(summary: RunSummary) -> Figure:
    """One-step and multi-step error of the model over the motion recorded."""
    figure, (ax,) = panels(1, 2.6)
    before = [t.experience_before_s for t in summary.trials]
    for label, colour, errors in (
        ("open loop over the horizon", PREDICTED, [t.multi_step_error for t in summary.trials]),
        ("one step ahead", ONE_STEP, [t.one_step_error for t in summary.trials]),
    ):
        ax.plot(before, errors, color=colour, marker="o", markersize=5, label=label)
    ax.axhline(1.0, color=REFERENCE, linestyle=":", label="as wrong as the data's mean")
    ax.set_yscale("log")
    plain_logarithmic(ax.yaxis)
    ax.set_xlim(0.0, 1.06 * max([1.0, *before]))
    ax.xaxis.set_major_locator(whole_seconds())
    ax.set_xlabel("motion recorded before the trial (s)")
    ax.set_title("RMSE (standard deviations of the data, logarithmic)")
    legend(figure, [ax], 2)
    return figure
