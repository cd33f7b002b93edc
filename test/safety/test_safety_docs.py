"""docs/safety.md says what the code does: every parameter, flag, safe action and reason for not arming."""

import dataclasses
import re
from pathlib import Path

import pytest

from mbrl_ros.data.pairing import USABLE
from mbrl_ros.parameter_tables import prefixed, render
from mbrl_ros.safety.decision import FLAGS
from mbrl_ros.safety.guard_config import SAFE_ACTIONS, GuardConfig, LimitConfig
from mbrl_ros.safety.link_watchdog import LinkConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "safety.md"
OWN = {
    f.name: f for f in dataclasses.fields(LinkConfig) if f.name not in {g.name for g in dataclasses.fields(LimitConfig)}
}
TABLES = {"guard": prefixed("guard", GuardConfig), "link": OWN}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_the_code(name):
    shown = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)[1]
    assert shown == render(TABLES[name]), "python test/safety/test_safety_docs.py writes them anew"


def test_every_flag_and_safe_action_is_explained():
    flags, actions = (
        dict(re.findall(r"^\| `(\w+)` \| .* \| ([^|]*) \|$", section(title), re.MULTILINE))
        for title in ("Flags", "The safe action")
    )
    assert set(flags) == set(FLAGS) and set(actions) == set(SAFE_ACTIONS)
    assert {flag for flag in FLAGS if flags[flag].startswith("yes")} == set(USABLE)


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)^## ", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]


def write() -> None:
    """Render the tables anew."""
    text = PAGE.read_text()
    for name, table in TABLES.items():
        new = render(table)
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, new=new: m[1] + new + m[2], text, flags=re.DOTALL
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    write()
