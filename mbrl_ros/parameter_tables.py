"""Tables of parameters for the documentation, rendered from the configuration dataclasses, so that they cannot drift.

``python -m mbrl_ros.parameter_tables docs/planners.md docs/models.md`` renders anew whatever stands between the lines
``<!-- parameters NAME -->`` and ``<!-- end parameters -->`` of a page.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.config import allowed
from mbrl_ros.control.change_detection import ChangeConfig
from mbrl_ros.errors import MbrlError, lookup
from mbrl_ros.graph import ControllerConfig, LearnerConfig, SharedConfig
from mbrl_ros.models import MODELS, model_class
from mbrl_ros.models.last_layer import AdaptationConfig
from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.collocation_solver import CollocationSettings
from mbrl_ros.planners.risk import RiskConfig

HEADER = ("parameter", "default", "unit", "allowed", "meaning")
MARKED = re.compile(r"(<!-- parameters (\S+) -->\n).*?(?=<!-- end parameters -->)", re.DOTALL)


def tables() -> dict[str, dict[str, Field]]:
    """Every table by name: parameter as it is written in YAML -> field."""
    shared = {field.name for field in fields(SharedConfig)}
    result = {
        "controller": {f.name: f for f in fields(ControllerConfig) if f.name not in shared},
        "learner": {f.name: f for f in fields(LearnerConfig) if f.name not in shared},
        "risk": prefixed("risk", RiskConfig),
        "adaptation": prefixed("adaptation", AdaptationConfig),
        "change": prefixed("change", ChangeConfig),
        "collocation_solver": {f.name: f for f in fields(CollocationSettings)},
    }
    models = {name: prefixed(name, model_class(name).config_class) for name in MODELS}
    return result | models | {name: prefixed(name, planner_class(name).config_class) for name in PLANNERS}


def prefixed(group: str, cls: Any) -> dict[str, Field]:
    """Fields of a group of parameters, ``cem.samples`` and so on."""
    return {f"{group}.{field.name}": field for field in fields(cls)}


def render(table: Mapping[str, Field]) -> str:
    """A Markdown table, one row a parameter; a blank unit is a pure number."""
    rows = [
        (f"`{name}`", f"`{as_yaml(f.default)}`", f.metadata["unit"], allowed(f), f.metadata["description"])
        for name, f in table.items()
    ]
    lines = [HEADER, ("---",) * len(HEADER), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def as_yaml(value: Any) -> str:
    """A default as YAML takes it back; 1e-05 without the point would be read as text."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


def updated(page: str) -> str:
    """The page with its tables rendered anew.

    Raises:
        UnknownNameError: a mark names no table.
    """
    known = tables()
    return MARKED.sub(lambda mark: mark[1] + render(lookup(known, "table", mark[2])), page)


def main(argv: list[str] | None = None) -> int:
    """Bring the pages up to date; returns the exit code."""
    try:
        for page in map(Path, sys.argv[1:] if argv is None else argv):
            page.write_text(updated(page.read_text()))
    except (MbrlError, OSError) as error:
        print(f"parameter_tables: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
