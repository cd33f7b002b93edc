"""How sure the model was, over time, and whether it was as sure as it should have been."""

from collections.abc import Mapping

import numpy as np

from mbrl_ros.reporting.chart import DOTTED, ONE_STEP, PREDICTED, REFERENCE, Chart, Figure, Line, Marks
from mbrl_ros.reporting.prediction import LEVELS, reliability
from mbrl_ros.reporting.sections.states import time_range
from mbrl_ros.reporting.trial_view import Ranges, TrialView

MISSING = "How sure the model was has not been recorded in this run, which is from before it was."
CAPTION = (
    "How sure: epistemic is what the model does not know yet, the members' disagreement; aleatoric is the noise that "
    "it believes the robot has. Both are of the first period of each plan, root mean square over the entries that are "
    "learned. Spread is of the members at the end of the plan. Entropy may be negative; its changes mean something."
)


def doubt_figure(view: TrialView, ranges: Ranges) -> Figure | None:
    """Uncertainty over time; None where it was not recorded."""
    if view.arrays.spread is None:
        return None

    def line(name: str, colour: str, label: str = "") -> Line:
        return Line(view.time, getattr(view.arrays, name), colour, label)

    both = (
        min(ranges["epistemic_std"][0], ranges["aleatoric_std"][0]),
        max(ranges["epistemic_std"][1], ranges["aleatoric_std"][1]),
    )
    span, spread = time_range(view), "spread at the end of the plan (std, logarithmic)"
    charts = [
        Chart(
            "one period ahead (std, logarithmic)",
            [line("aleatoric_std", ONE_STEP, "aleatoric"), line("epistemic_std", PREDICTED, "epistemic")],
            "time (s)",
            span,
            both,
            log="y",
        ),
        Chart(spread, [line("spread", PREDICTED)], "time (s)", span, ranges["spread"], log="y"),
        Chart("entropy (nats)", [line("entropy", ONE_STEP)], "time (s)", span, ranges["entropy"]),
        Chart(
            "disagreement (epistemic share of the variance, 0 to 1)",
            [line("disagreement", PREDICTED)],
            "time (s)",
            span,
            ranges["disagreement"],
        ),
    ]
    return Figure(f"trial_{view.index:03d}_doubt", f"Uncertainty during trial {view.index}", charts)


def calibration_figure(name: str, text: str, errors: np.ndarray) -> Figure | None:
    """Reliability of a model on motion that it had not seen: errors (k, H, nx); None where k is 0."""
    curves = reliability(errors)
    return Figure(name, text, [calibration_chart(curves)], calibration_caption(len(errors))) if curves else None


def calibration_caption(count: int) -> str:
    """How much stands behind the curve."""
    return f"From {count} starts on motion that the model had not seen, all entries of the state together."


def calibration_chart(curves: Mapping[str, np.ndarray]) -> Chart:
    """Share of the true states within predicted intervals, against what the intervals promise."""
    layers: list[Line | Marks] = [
        Line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), REFERENCE, "as promised", dash=DOTTED)
    ]
    for (label, found), colour in zip(curves.items(), (ONE_STEP, PREDICTED), strict=False):
        layers += [Line(LEVELS, found, colour, label), Marks(LEVELS, found, colour)]
    title = "share of states within it (below the line: too sure)"
    return Chart(title, layers, "probability of the predicted interval", (0.0, 1.0), (0.0, 1.02), height=190.0)
