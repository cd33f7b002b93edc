"""The live terminal view of a run: what it shows, as a rich renderable, and as plain lines without a terminal."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

SHOWN_TRIALS = 12


@dataclass
class RunView:
    """What is known of the run right now; filled by the monitor node."""

    title: str
    deadline_ms: float
    trials: list[Mapping[str, float]] = field(default_factory=list)
    planning_ms: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    tick: Mapping[str, float] = field(default_factory=dict)
    nodes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def planning(self) -> str:
        """Planning time so far: p50, p99 and maximum in ms."""
        if not self.planning_ms:
            return "-"
        p50, p99, longest = np.percentile(self.planning_ms, (50, 99, 100))
        return f"{p50:.1f} / {p99:.1f} / {longest:.1f}"


def number(value: float, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "-" if not math.isfinite(value) else f"{value:.{digits}f}"


def whole(value: float) -> str:
    """A count, or a dash where there is none."""
    return "-" if not math.isfinite(value) else str(int(value))


def trial_cells(trial: Mapping[str, float]) -> list[str]:
    """One trial as text, in the order of COLUMNS."""

    def get(name: str) -> float:
        return trial.get(name, math.nan)

    planning = " / ".join(number(get(f"planning_{k}"), 1) for k in ("p50", "p99", "max"))
    return [
        whole(get("trial")),
        "mpc" if get("mpc") else "base",
        number(get("experience"), 1),
        number(get("cost"), 1),
        number(get("time_on_target")),
        "yes" if get("solved") else "no",
        number(get("one_step_error"), 3),
        number(get("multi_step_error"), 3),
        whole(get("refits")),
        planning if math.isfinite(get("planning_p50")) else "-",
        whole(get("deadline_misses")),
    ]


COLUMNS = (
    "trial",
    "policy",
    "experience s",
    "cost",
    "on target s",
    "solved",
    "1-step err",
    "n-step err",
    "refits",
    "plan ms p50/p99/max",
    "misses",
)
WIDTHS = (5, 6, 12, 7, 11, 6, 10, 11, 6, 21, 6)


def plain_header() -> str:
    """Heading of the plain lines."""
    return "  ".join(name.rjust(width) for name, width in zip(COLUMNS, WIDTHS, strict=True))


def plain_line(trial: Mapping[str, float]) -> str:
    """A finished trial as one line."""
    return "  ".join(cell.rjust(width) for cell, width in zip(trial_cells(trial), WIDTHS, strict=True))


def render(view: RunView) -> RenderableType:
    """The whole live view."""
    trials = Table(expand=True, box=None, header_style="bold")
    for name in COLUMNS:
        trials.add_column(name, justify="right", no_wrap=True)
    for trial in view.trials[-SHOWN_TRIALS:]:
        trials.add_row(*trial_cells(trial), style="green" if trial.get("solved") else "")
    nodes = Table(expand=True, box=None, show_header=False)
    nodes.add_column(no_wrap=True)
    nodes.add_column(ratio=1)
    for name, (level, doing) in sorted(view.nodes.items()):
        nodes.add_row(Text(f"● {name}", style=("green", "yellow", "red", "red")[min(level, 3)]), Text(doing))
    get = view.tick.get
    now = (
        f"planning {view.planning()} ms of {view.deadline_ms:.0f} (p50 / p99 / max)   "
        f"misses {whole(get('deadline_misses', 0))}   cost of the plan {number(get('cost', math.nan))}   "
        f"spread {number(get('spread', math.nan))}   model {whole(get('model_version', 0))}"
    )
    parts: list[RenderableType] = [trials, Text(), nodes, Text(), Text(now)]
    return Panel(Group(*parts), title=Text(view.title), border_style="cyan")
