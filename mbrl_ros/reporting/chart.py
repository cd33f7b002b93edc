"""Charts as data: what is drawn, in which colours, over which ranges. `svg` draws them.

A chart holds layers. What lies beyond its ranges is not drawn, and a triangle at the edge says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.reporting.axes import padded

# Okabe and Ito's colours, told apart by colour-blind readers too; one meaning each in every chart.
OBSERVED, PREDICTED, ONE_STEP, PLANNED = "#1f2933", "#0072b2", "#e69f00", "#cc79a7"
TARGET, LIMIT, REFERENCE = "#009e73", "#d55e00", "#7b8794"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f5a10", "#1f2933")
DASHED, DOTTED = "6 4", "1.5 3.5"


@dataclass(frozen=True, eq=False)
class Line:
    """A line through points x (n,), y (n,), broken where either is NaN; `step` holds each value until the next."""

    x: np.ndarray
    y: np.ndarray
    colour: str
    label: str = ""
    width: float = 1.5
    dash: str = ""
    step: bool = False


@dataclass(frozen=True, eq=False)
class Band:
    """The area between low (n,) and high (n,) over x (n,)."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    colour: str
    label: str = ""
    opacity: float = 0.22


@dataclass(frozen=True, eq=False)
class Marks:
    """A mark at each point: shape 'circle', 'square', 'cross', 'bar' or 'dot'; `texts` stand above them."""

    x: np.ndarray
    y: np.ndarray
    colour: str
    label: str = ""
    shape: str = "circle"
    filled: bool = True
    texts: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Rule:
    """A straight line across the chart at one value; `upright` at an x, else at a y."""

    at: float
    colour: str
    label: str = ""
    dash: str = ""
    upright: bool = False


@dataclass(frozen=True, eq=False)
class Stripe:
    """An area across the chart between two values of y, and of x where `across` says so."""

    low: float
    high: float
    colour: str
    label: str = ""
    across: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars of a histogram: edges (n + 1,), from base (n,) to base + heights (n,)."""

    edges: np.ndarray
    heights: np.ndarray
    colour: str
    label: str = ""
    base: np.ndarray | None = None


Layer = Line | Band | Marks | Rule | Stripe | Bars


@dataclass(frozen=True, eq=False)
class Chart:
    """One chart.

    Attributes:
        title: what is drawn, with its unit.
        layers: from back to front.
        x_label: what the x axis shows, with its unit; empty where the title says it.
        x_range: ends of the x axis; None for those of the layers.
        y_range: ends of the y axis; None for those of the layers.
        log: axes that are logarithmic: '', 'x', 'y' or 'xy'.
        turns: axes of angles, with ticks at multiples of pi: '', 'x', 'y' or 'xy'.
        names: what stands at whole numbers of y instead of ticks, from 0.
        height: of the area that is drawn in, in pixels of a picture of `svg.WIDTH`.
    """

    title: str
    layers: Sequence[Layer]
    x_label: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    log: str = ""
    turns: str = ""
    names: tuple[str, ...] = ()
    height: float = 110.0

    def ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Ends of both axes."""
        x = self.x_range or padded(*extent([values for layer in self.layers for values in horizontal(layer)]))
        y_values = [values for layer in self.layers for values in vertical(layer)]
        y = self.y_range or padded(*extent(y_values, positive="y" in self.log), log="y" in self.log)
        return x, y


@dataclass(frozen=True, eq=False)
class Figure:
    """Charts that belong together, with one legend.

    Attributes:
        name: of its file, without ending.
        text: what it shows, for those who cannot see it.
        charts: in reading order.
        caption: a sentence below it.
    """

    name: str
    text: str
    charts: Sequence[Chart]
    caption: str = ""


def horizontal(layer: Layer) -> list[np.ndarray]:
    """All values of x in a layer."""
    if isinstance(layer, Bars):
        return [layer.edges]
    if isinstance(layer, (Rule, Stripe)):
        return [np.array([layer.at])] if isinstance(layer, Rule) and layer.upright else []
    return [layer.x]


def vertical(layer: Layer) -> list[np.ndarray]:
    """All values of y in a layer."""
    if isinstance(layer, Bars):
        base = np.zeros(len(layer.heights)) if layer.base is None else layer.base
        return [base, base + layer.heights]
    if isinstance(layer, Rule):
        return [] if layer.upright else [np.array([layer.at])]
    if isinstance(layer, (Band, Stripe)):
        return [np.atleast_1d(layer.low), np.atleast_1d(layer.high)]
    return [layer.y]


def extent(values: Sequence[Any], positive: bool = False) -> tuple[float, float]:
    """Smallest and largest finite value, positive ones alone where asked; NaN without any."""
    flat = np.concatenate([np.ravel(np.asarray(v, float)) for v in values]) if len(values) else np.empty(0)
    flat = flat[np.isfinite(flat) & ((flat > 0) | (not positive))]
    return (float(flat.min()), float(flat.max())) if len(flat) else (float("nan"), float("nan"))


def from_zero(values: Sequence[Any]) -> tuple[float, float]:
    """A range from 0 that holds these values, with some room above; downwards, too, where some are negative."""
    low, high = extent(values)
    if not np.isfinite(high) or high <= low == 0.0:
        high = max(high, 1.0) if np.isfinite(high) and high > 0 else 1.0
    return (1.08 * min(low, 0.0) if np.isfinite(low) else 0.0), 1.08 * max(high, 0.0) or 1.0
