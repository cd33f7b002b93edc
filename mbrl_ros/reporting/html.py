"""Pieces of a page that needs no network and fits on a phone. Every text is escaped."""

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

from mbrl_ros.reporting.chart import Figure
from mbrl_ros.reporting.svg import chart_svg, legend_svg

NOTHING = "–"  # noqa: RUF001 an en dash, what a table shows where there is no number

STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --back: #f5f7fa; --good: #00694d; --bad: #a84300; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--back); color: var(--ink); font-size: 16px; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 16px 12px 48px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 4px 0; }
h1.good { color: var(--good); }
h2 { font-size: 1.15rem; margin: 0 0 8px; }
h3 { font-size: 1rem; margin: 20px 0 4px; }
p { margin: 4px 0; max-width: 46em; }
.soft, figcaption { color: var(--soft); font-size: .9rem; max-width: 60em; overflow-wrap: anywhere; }
section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 14px 12px; margin-top: 14px; }
section.problems { border-left: 4px solid var(--bad); overflow-wrap: anywhere; }
.pair { display: grid; gap: 14px; grid-template-columns: minmax(0, 1fr); margin-top: 14px; }
.pair > div { display: grid; gap: 14px; grid-template-columns: minmax(0, 1fr); align-content: start; }
.pair section { margin: 0; }
.cards { display: grid; gap: 8px; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); margin-top: 14px; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .9rem; }
figure { margin: 8px 0 0; }
img { display: block; width: 100%; max-width: 620px; height: auto; margin: 0 auto; }
svg { display: block; width: 100%; height: auto; }
svg.legend { max-width: 400px; }
.pair svg.legend { max-width: 540px; }
.parts { display: grid; gap: 0 16px; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.wide { grid-column: 1 / -1; }
.charts { display: grid; gap: 8px 12px; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.pair .charts { grid-template-columns: minmax(0, 1fr); max-width: 540px; }
.charts > svg { max-width: 540px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 7px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.text, th.text { text-align: left; }
td.long { white-space: normal; min-width: 16em; text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
td.good { color: var(--good); font-weight: 600; }
details { border-top: 1px solid var(--line); }
details:first-of-type { margin-top: 8px; }
summary { cursor: pointer; padding: 10px 0; }
pre { overflow-x: auto; background: var(--back); border-radius: 6px; padding: 12px; font-size: .85rem; margin: 8px 0; }
@media (min-width: 860px) { .pair { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, html: str, kind: str = "") -> str:
    """A titled box."""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{html}</section>'


def pair(left: str, right: str) -> str:
    """Two columns of boxes where there is room."""
    return f'<div class="pair"><div>{left}</div><div>{right}</div></div>'


def missing(text: str) -> str:
    """A note where something should have been."""
    return f'<p class="soft">{escape(text)}</p>'


def fold(line: str, html: str, opened: bool = False) -> str:
    """What is shown when its line is touched."""
    return f"<details{' open' if opened else ''}><summary>{escape(line)}</summary>{html}</details>"


def drawing(figure: Figure) -> str:
    """A figure: its legend and as many charts beside each other as there is room for."""
    alone = f'role="img" aria-label="{escape(figure.text)}"'
    charts = "".join(chart_svg(chart, f"{alone[:-1]}: {escape(chart.title)}{alone[-1]}") for chart in figure.charts)
    below = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f'<figure>{legend_svg(figure.charts)}<div class="charts">{charts}</div>{below}</figure>'


def image(data: bytes, kind: str, alt: str, caption: str) -> str:
    """An image embedded in the page, with its caption."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt)}">{below}</figure>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[str] = ()) -> str:
    """A table that scrolls within itself; columns named in `text` are left-aligned, a 'yes' is green.

    Line breaks in the names of columns are kept.
    """
    heads = "".join(cell("th", escape(name).replace("\n", "<br>"), name, text) for name in columns)
    lines = ["".join(cell("td", escape(v), c, text) for v, c in zip(row, columns, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{heads}</tr>{body}</table></div>'


def cell(tag: str, html: str, column: str, text: Sequence[str]) -> str:
    """A cell of a table; a long text may take more than one line."""
    kinds = ["text"] * (column in text) + ["long"] * (tag == "td" and column in text and len(html) > 40)
    kinds += ["good"] * (tag == "td" and html == "yes")
    return f'<{tag} class="{" ".join(kinds)}">{html}</{tag}>' if kinds else f"<{tag}>{html}</{tag}>"


def number(value: float, digits: int, unit: str = "") -> str:
    """A number for people, NOTHING for NaN."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f} {unit}".strip()
