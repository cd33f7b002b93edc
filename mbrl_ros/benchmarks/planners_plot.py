"""The figure of ``mbrl_ros bench planners``: how far each planner is from its goal, on one logarithmic axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

OURS, GOAL, MISSED = "#2166ac", "#222222", "#b2182b"
Bar = tuple[str, float, float | None]


def bars(row: Mapping[str, Any]) -> list[Bar]:
    """What a row has to show: (label, value, goal), longer is better."""
    name, bound = f"{row['case']} {row['planner']}", float(row["goal"].split()[-1])
    figure = row["goal"].split()[0]
    found: list[Bar] = []
    if row["ratio_to_best_peer"] is not None:
        goal = bound if figure == "ratio_to_best_peer" else None
        found.append((f"{name}\ntimes faster than {row['peer']}", row["ratio_to_best_peer"], goal))
    if row["ratio_to_floor"] is not None:
        found.append((f"{name}\narithmetic's share of the time", 1.0 / row["ratio_to_floor"], 1.0 / bound))
    if figure == "ours_ms":
        found.append((f"{name}\n{bound:g} ms over our time", bound / row["ours_ms"]["median"], 1.0))
    return found


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the figure to `path` (its ending chooses the format); rows without a ratio are left out."""
    shown = [bar for row in rows for bar in bars(row)][::-1]
    figure = Figure(figsize=(8.0, 1.2 + 0.45 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for y, (label, value, goal) in enumerate(shown):
        missed = goal is not None and value < goal
        axes.barh(y, value, color=MISSED if missed else OURS, height=0.6)
        axes.annotate(f"{value:.3g}", (value, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        if goal is not None:
            axes.plot([goal, goal], [y - 0.4, y + 0.4], color=GOAL, linewidth=2.0)
        axes.annotate(label, (0.0, y), xycoords=("axes fraction", "data"), xytext=(-4, 0), fontsize=7,
                      textcoords="offset points", ha="right", va="center", linespacing=1.1)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yticks([])
    axes.margins(x=0.1)
    axes.axvline(1.0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xlabel("ratio; ours on one thread where no other number is named (black: goal; red: missed)")
    figure.savefig(path, dpi=120)
