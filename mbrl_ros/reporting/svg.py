"""Charts as SVG: text stays text, lines stay sharp on every screen, and a page with a hundred charts stays small."""

from collections.abc import Sequence
from html import escape

import numpy as np

from mbrl_ros.reporting.axes import Axis, plain
from mbrl_ros.reporting.chart import Band, Bars, Chart, Figure, Layer, Line, Marks, Rule, Stripe

WIDTH = 340.0  # of every chart, in pixels on a phone: its text is then as large there as it is here
LEFT, RIGHT, TOP, BOTTOM, LABEL = 46.0, 10.0, 22.0, 18.0, 14.0
SIZE, SMALL = 11.5, 10.0  # px, of titles and of ticks
LETTER = 0.56  # width of a letter, in units of its size
NAME = 78.0  # room for names at the y axis
BUCKETS = 320  # about a pixel each; of more points the smallest and the largest of each bucket are drawn
SYMBOLS = {"circle": 3.6, "square": 3.4, "cross": 3.8, "bar": 5.0}  # half their size in px
INK, SOFT, GRID = "#1f2933", "#52606d", "#e4e7eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, sans-serif"


def chart_svg(chart: Chart, more: str = "") -> str:
    """A chart as one element that scales with its place; `more` are further attributes of it."""
    x, y, height = axes_of(chart)
    plot = f'x="{x.start:g}" y="{y.end:g}" width="{x.end - x.start:g}" height="{y.start - y.end:g}"'
    box = f"{x.start:g} {y.end:g} {x.end - x.start:g} {y.start - y.end:g}"
    drawn = "".join(draw(layer, x, y) for layer in chart.layers)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" font-family="{FONT}" {more}>',
        f'<rect width="{WIDTH:g}" height="{height:g}" fill="#fff"/>',
        text(6, 14, chart.title, SIZE, INK),
        frame(chart, x, y),
        f'<svg {plot} viewBox="{box}" overflow="hidden">{drawn}</svg>',
        labels(chart.layers, x, y),
        excursions(chart.layers, x, y),
        text(0.5 * (x.start + x.end), height - 4, chart.x_label, SMALL, SOFT, "middle") if chart.x_label else "",
        "</svg>",
    ]
    return "".join(parts)


def axes_of(chart: Chart) -> tuple[Axis, Axis, float]:
    """Both axes and the height of the whole chart."""
    (x_low, x_high), (y_low, y_high) = chart.ranges()
    left = NAME if chart.names else LEFT
    x = Axis(x_low, x_high, left, WIDTH - RIGHT, "x" in chart.log, "x" in chart.turns)
    y = Axis(y_low, y_high, TOP + chart.height, TOP, "y" in chart.log, "y" in chart.turns)
    return x, y, TOP + chart.height + BOTTOM + (LABEL if chart.x_label else 0.0)


def frame(chart: Chart, x: Axis, y: Axis) -> str:
    """Grid, ticks and the two axes."""
    rows = [(float(i), name) for i, name in enumerate(chart.names)] or y.ticks(max(3, round(chart.height / 26)))
    parts = []
    for value, name in rows:
        at = float(y.place(value))
        parts.append(stroke(f"M{x.start:g} {at:.1f}H{x.end:g}", GRID, 1))
        parts.append(text(x.start - 5, at + 3.5, name, SMALL, SOFT, "end"))
    for value, name in x.ticks():
        at = float(x.place(value))
        parts.append(stroke(f"M{at:.1f} {y.end:g}V{y.start:g}", GRID, 1))
        parts.append(text(at, y.start + 13, name, SMALL, SOFT, "middle"))
    parts.append(stroke(f"M{x.start:g} {y.end:g}V{y.start:g}H{x.end:g}", "#9aa5b1", 1))
    return "".join(parts)


def draw(layer: Layer, x: Axis, y: Axis) -> str:
    """One layer."""
    if isinstance(layer, Line):
        return stroke(path(layer, x, y), layer.colour, layer.width, layer.dash)
    if isinstance(layer, Band):
        return f'<path d="{area(layer, x, y)}" fill="{layer.colour}" fill-opacity="{layer.opacity:g}"/>'
    if isinstance(layer, Marks):
        return dots(layer, x, y) if layer.shape == "dot" else symbols(layer, x, y)
    if isinstance(layer, Rule):
        at = float((x if layer.upright else y).place(layer.at))
        way = f"M{at:.1f} {y.end:g}V{y.start:g}" if layer.upright else f"M{x.start:g} {at:.1f}H{x.end:g}"
        return stroke(way, layer.colour, 1.3, layer.dash)
    if isinstance(layer, Stripe):
        return rectangle(layer.across or (x.low, x.high), (layer.low, layer.high), layer.colour, x, y, 0.16)
    base = np.zeros(len(layer.heights)) if layer.base is None else layer.base
    places = zip(layer.edges[:-1], layer.edges[1:], base, layer.heights, strict=True)
    return "".join(rectangle((a, b), (low, low + h), layer.colour, x, y) for a, b, low, h in places if h)


def stroke(way: str, colour: str, width: float, dash: str = "") -> str:
    """A path that is not filled."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    look = f'fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round" stroke-linecap="round"'
    return f'<path d="{way}" {look}{dashes}/>'


def path(line: Line, x: Axis, y: Axis) -> str:
    """The way of a line, in pieces where it is broken; a piece of one point is a dot."""
    pieces = []
    for a, b in stretches(np.isfinite(line.x) & np.isfinite(line.y)):
        kept = thinned(line.y[a:b], line.y[a:b])
        u, v = clipped(x, line.x[a:b][kept]), clipped(y, line.y[a:b][kept])
        if len(u) == 1:
            pieces.append(f"M{u[0]:.1f} {v[0]:.1f}h0")
        elif line.step:
            pieces.append(
                f"M{u[0]:.1f} {v[0]:.1f}" + "".join(f"H{p:.1f}V{q:.1f}" for p, q in zip(u[1:], v[1:], strict=True))
            )
        else:
            pieces.append("M" + "L".join(f"{p:.1f} {q:.1f}" for p, q in zip(u, v, strict=True)))
    return "".join(pieces)


def area(band: Band, x: Axis, y: Axis) -> str:
    """The outline of a band, a closed way for each unbroken piece."""
    pieces = []
    for a, b in stretches(np.isfinite(band.x) & np.isfinite(band.low) & np.isfinite(band.high)):
        kept = thinned(band.low[a:b], band.high[a:b])
        u = clipped(x, band.x[a:b][kept])
        low, high = clipped(y, band.low[a:b][kept]), clipped(y, band.high[a:b][kept])
        way = [f"{p:.1f} {q:.1f}" for p, q in [*zip(u, high, strict=True), *zip(u[::-1], low[::-1], strict=True)]]
        pieces.append("M" + "L".join(way) + "Z")
    return "".join(pieces)


def clipped(axis: Axis, values: np.ndarray) -> np.ndarray:
    """Places, at most a whole axis beyond its ends: a renderer gives up on numbers without end."""
    reach = abs(axis.end - axis.start)
    low, high = min(axis.start, axis.end) - reach, max(axis.start, axis.end) + reach
    return np.clip(np.nan_to_num(axis.place(values), nan=low), low, high)


def stretches(known: np.ndarray) -> list[tuple[int, int]]:
    """First and one past the last index of each run of true values: (n,) bool -> pairs."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def thinned(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Indices to draw: all, or of more points than pixels the extremes of each bucket; no peak is lost."""
    if len(low) <= 2 * BUCKETS:
        return np.arange(len(low))
    buckets = np.array_split(np.arange(len(low)), BUCKETS)
    chosen = {i for bucket in buckets for i in (bucket[np.argmin(low[bucket])], bucket[np.argmax(high[bucket])])}
    return np.array(sorted(chosen | {0, len(low) - 1}))


def dots(marks: Marks, x: Axis, y: Axis) -> str:
    """Small dots as one path; those on the same half pixel are drawn once."""
    known = np.isfinite(marks.x) & np.isfinite(marks.y)
    places = np.round(2.0 * np.column_stack([clipped(x, marks.x[known]), clipped(y, marks.y[known])])) / 2.0
    way = "".join(f"M{p:g} {q:g}h0" for p, q in sorted(set(map(tuple, places.tolist()))))
    return stroke(way, marks.colour, 2.6) if way else ""


def symbols(marks: Marks, x: Axis, y: Axis) -> str:
    """A symbol for each point."""
    known = np.isfinite(marks.x) & np.isfinite(marks.y)
    places = zip(clipped(x, marks.x[known]), clipped(y, marks.y[known]), strict=True)
    return "".join(symbol(marks.shape, float(p), float(q), marks.colour, marks.filled) for p, q in places)


def symbol(shape: str, u: float, v: float, colour: str, filled: bool) -> str:
    """One symbol around a place."""
    r = SYMBOLS[shape]
    look = f'fill="{colour if filled else "#fff"}" stroke="{colour}" stroke-width="1.8"'
    if shape == "circle":
        return f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{r:g}" {look}/>'
    if shape == "square":
        return f'<rect x="{u - r:.1f}" y="{v - r:.1f}" width="{2 * r:g}" height="{2 * r:g}" {look}/>'
    if shape == "bar":
        return stroke(f"M{u:.1f} {v - r:.1f}v{2 * r:g}", colour, 1.6)
    return stroke(f"M{u - r:.1f} {v - r:.1f}l{2 * r:g} {2 * r:g}m0 {-2 * r:g}l{-2 * r:g} {2 * r:g}", colour, 2.4)


def rectangle(
    across: tuple[float, float], up: tuple[float, float], colour: str, x: Axis, y: Axis, opacity: float = 1.0
) -> str:
    """A filled rectangle between two values each."""
    (u, u2), (v2, v) = sorted(clipped(x, np.array(across))), sorted(clipped(y, np.array(up)), reverse=True)
    look = f'fill="{colour}"' + (f' fill-opacity="{opacity:g}"' if opacity < 1.0 else "")
    return f'<rect x="{u:.1f}" y="{v:.1f}" width="{u2 - u:.1f}" height="{v2 - v:.1f}" {look}/>'


def labels(layers: Sequence[Layer], x: Axis, y: Axis) -> str:
    """Texts above the marks that have some."""
    parts = []
    for layer in layers:
        if isinstance(layer, Marks) and layer.texts:
            places = zip(clipped(x, layer.x), clipped(y, layer.y), layer.texts, strict=True)
            parts += [text(u, max(v - 8, y.end - 2), name, SMALL, INK, "middle", halo=True) for u, v, name in places]
    return "".join(parts)


def excursions(layers: Sequence[Layer], x: Axis, y: Axis) -> str:
    """A triangle at the edge for each stretch that is beyond it, and how far the farthest goes."""
    parts, highest, lowest = [], y.high, y.low
    for layer in layers:
        if not isinstance(layer, (Line, Band, Marks)):
            continue
        over, under = (layer.high, layer.low) if isinstance(layer, Band) else (layer.y, layer.y)
        for beyond, edge, way in ((over > y.high, y.end, 1.0), (under < y.low, y.start, -1.0)):
            for a, b in stretches(beyond):
                u = float(clipped(x, np.asarray(layer.x[(a + b - 1) // 2])))
                tip = edge + way
                parts.append(f'<path d="M{u - 4:.1f} {tip + 6 * way:.1f}h8L{u:.1f} {tip:.1f}Z" fill="{layer.colour}"/>')
        highest = max(highest, float(np.nanmax(over, initial=highest)))
        lowest = min(lowest, float(np.nanmin(under, initial=lowest)))
    said = [f"▲ to {plain(float(f'{highest:.3g}'))}"] * (highest > y.high)
    said += [f"▼ to {plain(float(f'{lowest:.3g}'))}"] * (lowest < y.low)
    return "".join(parts) + (text(x.end, 14, ", ".join(said), SMALL, SOFT, "end", halo=True) if said else "")


def text(u: float, v: float, words: str, size: float, colour: str, anchor: str = "start", halo: bool = False) -> str:
    """A line of text; `halo` keeps it readable over lines."""
    ring = ' stroke="#fff" stroke-width="3" paint-order="stroke"' if halo else ""
    where = f'x="{u:.1f}" y="{v:.1f}" text-anchor="{anchor}"'
    return f'<text {where} font-size="{size:g}" fill="{colour}"{ring}>{escape(words)}</text>'


def entries(charts: Sequence[Chart]) -> list[tuple[str, Layer]]:
    """What a legend tells of: every label once, with the first layer that has it."""
    found: dict[str, Layer] = {}
    for layer in (layer for chart in charts for layer in chart.layers if layer.label):
        found.setdefault(layer.label, layer)
    return list(found.items())


def swatch(layer: Layer, u: float, v: float) -> str:
    """A sample of a layer, 22 px wide, around the height v."""
    if isinstance(layer, (Band, Bars, Stripe)):
        opacity = layer.opacity if isinstance(layer, Band) else 0.3 if isinstance(layer, Stripe) else 1.0
        return (
            f'<rect x="{u:g}" y="{v - 5:g}" width="20" height="10" fill="{layer.colour}" fill-opacity="{opacity:g}"/>'
        )
    if isinstance(layer, Marks):
        dot = stroke(f"M{u + 10:g} {v:g}h0", layer.colour, 5.0)
        return dot if layer.shape == "dot" else symbol(layer.shape, u + 10, v, layer.colour, layer.filled)
    return stroke(f"M{u:g} {v:g}h20", layer.colour, 2.0, layer.dash)


def legend(charts: Sequence[Chart]) -> tuple[str, float]:
    """The legend of charts as SVG, WIDTH wide, and its height; lines are as long as they may be."""
    parts, u, v = [], 6.0, 10.0
    for label, layer in entries(charts):
        width = 26.0 + LETTER * SMALL * len(label) + 14.0
        if u > 6.0 and u + width - 14.0 > WIDTH:
            u, v = 6.0, v + 16.0
        parts += [swatch(layer, u, v), text(u + 26, v + 3.5, label, SMALL, INK)]
        u += width
    return "".join(parts), (v + 10.0 if parts else 0.0)


def legend_svg(charts: Sequence[Chart]) -> str:
    """The legend as an element of its own, empty where there is nothing to tell; the text tells screen readers."""
    inner, height = legend(charts)
    if not inner:
        return ""
    box = f'viewBox="0 0 {WIDTH:g} {height:g}" font-family="{FONT}" class="legend" aria-hidden="true"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{inner}</svg>'


def figure_svg(figure: Figure) -> str:
    """A figure as a file of its own: the legend, and the charts above each other."""
    inner, v = legend(figure.charts)
    parts = [inner]
    for chart in figure.charts:
        height = axes_of(chart)[2]
        parts.append(chart_svg(chart, f'x="0" y="{v:g}" width="{WIDTH:g}" height="{height:g}"'))
        v += height + 4.0
    size = f'viewBox="0 0 {WIDTH:g} {v:g}" width="{1.5 * WIDTH:g}" height="{1.5 * v:g}" font-family="{FONT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{escape(figure.text)}</title>'
    return f'{head}<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
