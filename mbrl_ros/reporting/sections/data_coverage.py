"""Where in the state space the data lie, where the robot went, and how far that was from what the model knew."""

import numpy as np

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.reporting.chart import OBSERVED, PREDICTED, TARGET, Chart, Figure, Layer, Line, Marks
from mbrl_ros.reporting.sections.states import time_range
from mbrl_ros.reporting.trial_view import Ranges, TrialView
from mbrl_ros.reporting.units import with_unit

PAIRS = 4  # portraits at most: of a robot with more joints the first ones
MISSING = "Which transitions there were before the trial cannot be told."
CAPTION = (
    "Data: grey are transitions recorded before the trial, which the model could have learned from; blue is where the "
    "trial went. Angles are shown within one turn. The distance is to the nearest of the grey ones in state and "
    "action together, per entry, in standard deviations of those: small means that the model has been here before."
)


def coverage_figure(view: TrialView, ranges: Ranges) -> Figure | None:
    """Portraits and distance; None where the earlier transitions cannot be told."""
    if view.known is None:
        return None
    layout = view.robot.layout
    pairs = portrait_pairs(layout)
    charts = [portrait(view, ranges, a, b) for a, b in pairs[:PAIRS]]
    if np.isfinite(view.novelty).any():
        title, line = "distance to the nearest known transition (std)", Line(view.time, view.novelty, PREDICTED)
        charts.append(Chart(title, [line], "time (s)", time_range(view), ranges["novelty"], height=150.0))
    left_out = f"Not shown: {len(pairs) - PAIRS} more pairs." if len(pairs) > PAIRS else ""
    name = f"trial_{view.index:03d}_data"
    return Figure(name, f"Data before trial {view.index} and where the trial went", charts, left_out)


def portrait_pairs(layout: StateLayout) -> list[tuple[int, int]]:
    """Indices of entries that belong together: each position with its velocity, and the place of a base."""
    index = {name: i for i, name in enumerate(layout.state)}
    pairs = [(index[position], index[velocity]) for position, velocity in layout.velocity_of.items()]
    if {"base_x", "base_y"} <= set(index):
        pairs.insert(0, (index["base_x"], index["base_y"]))
    return pairs or [(i, i + 1) for i in range(0, layout.nx - 1, 2)]


def portrait(view: TrialView, ranges: Ranges, a: int, b: int) -> Chart:
    """Entry b over entry a: what was known before, where the trial went, the goal."""
    layout, known = view.robot.layout, view.known
    is_angle = layout.state[a] in layout.angles
    layers: list[Layer] = []
    if known is not None and len(known):
        layers.append(Marks(turned(known.x[:, a], is_angle), known.x[:, b], "#b8c0c8", "known before", "dot"))
    x, y = turned(view.arrays.x[:, a], is_angle), view.arrays.x[:, b]
    layers.append(Line(broken_at_jumps(x, is_angle), y, PREDICTED, "this trial"))
    if len(x):
        layers.append(Marks(x[:1], y[:1], OBSERVED, "its start", "square", filled=False))
    if view.goal is not None:
        layers.append(Marks(turned(view.goal[[a]], is_angle), view.goal[[b]], TARGET, "goal"))
    x_range = (-np.pi - 0.1, np.pi + 0.1) if is_angle else ranges[layout.state[a]]
    title, label = with_unit(view.robot, layout.state[b]), with_unit(view.robot, layout.state[a])
    return Chart(title, layers, label, x_range, ranges[layout.state[b]], turns="x" if is_angle else "", height=150.0)


def turned(values: np.ndarray, is_angle: bool) -> np.ndarray:
    """Angles within (-pi, pi]; other values as they are."""
    return np.arctan2(np.sin(values), np.cos(values)) if is_angle else values


def broken_at_jumps(values: np.ndarray, is_angle: bool) -> np.ndarray:
    """The values, NaN after each jump from one end of the turn to the other, so that no line crosses the picture."""
    jump = np.abs(np.diff(values, prepend=values[:1])) > np.pi
    return np.where(jump & is_angle, np.nan, values)
