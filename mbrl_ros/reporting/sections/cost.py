"""Which parts of the cost hurt: each as an area over time, above each other, so that the whole is the cost."""

import numpy as np

from mbrl_ros.reporting.chart import OBSERVED, PALETTE, Band, Chart, Figure, Layer, Line
from mbrl_ros.reporting.sections.states import time_range
from mbrl_ros.reporting.trial_view import Ranges, TrialView

CAPTION = "Cost: its parts above each other; the number beside each is its sum over the trial."
DIFFERENT = 1e-6  # of the cost: a larger rest than this says that the parts are not those of the trial


def cost_figure(view: TrialView, ranges: Ranges) -> Figure:
    """The cost of each tick, split where the task says how."""
    name, text = f"trial_{view.index:03d}_cost", f"Cost of each tick of trial {view.index}, by its parts"
    layers = part_layers(view)
    layers.append(Line(view.time, view.arrays.cost, OBSERVED, "cost of the tick", 1.3))
    chart = Chart("cost of a tick (no unit)", layers, "time (s)", time_range(view), ranges["cost"], height=150.0)
    return Figure(name, text, [chart], caption(view))


def part_layers(view: TrialView) -> list[Layer]:
    """Areas of the parts above each other, the largest at the bottom; those that never cost anything are left out."""
    if view.parts is None:
        return []
    costly = {name: values for name, values in view.parts.items() if np.nansum(np.abs(values)) > 0}
    layers: list[Layer] = []
    base = np.zeros(len(view.time))
    for k, (name, values) in enumerate(sorted(costly.items(), key=lambda part: -np.nansum(part[1]))):
        label = f"{name}: {np.nansum(values):.1f}"
        layers.append(Band(view.time, base, base + values, PALETTE[k % len(PALETTE)], label, 0.7))
        base = base + values
    return layers


def caption(view: TrialView) -> str:
    """What the picture shows, and where it cannot be trusted."""
    if view.parts is None:
        return "The task has no `cost_parts`, so that only the whole cost is shown."
    scale = np.nanmax(np.abs(view.arrays.cost), initial=1e-12)
    rest = view.arrays.cost - sum(view.parts.values(), np.zeros(len(view.time)))
    if np.nanmax(np.abs(rest), initial=0.0) > DIFFERENT * scale:
        return (
            "The parts do not add up to the cost by which the trial was scored: the task's parameters were changed "
            "while it ran, and the parts are by those that were saved."
        )
    return ""
