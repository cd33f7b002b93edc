"""docs/planners.md and docs/models.md say what the code does: tables, sections, the files they name, an example."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

import mbrl_ros
from mbrl_ros.config import option
from mbrl_ros.models import MODELS, model_class
from mbrl_ros.parameter_tables import as_yaml, main, render, tables, updated
from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.risk import RISKS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "planners.md").read_text()
MODELS_PAGE = (ROOT / "docs" / "models.md").read_text()
SECTIONS, MODEL_SECTIONS = (
    dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)) for page in (PAGE, MODELS_PAGE)
)
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One option of each kind."""

    rate: float = option(1e-5, "a | b", unit="s", low=0.0, high=2.0)
    names: tuple[float, ...] = option((0.5,), "several")
    switch: str = option("off", "on or off", choices=("on", "off"))


@pytest.mark.parametrize("page", [PAGE, MODELS_PAGE], ids=["planners", "models"])
def test_the_tables_are_those_of_the_code(page):
    assert updated(page) == page, "run: python -m mbrl_ros.parameter_tables docs/planners.md docs/models.md"


def test_every_table_is_on_one_page_once():
    assert sorted(re.findall(r"<!-- parameters (\S+) -->\n", PAGE + MODELS_PAGE)) == sorted(tables())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_section_with_source_equation_and_all_its_parameters(name):
    section = MODEL_SECTIONS[name]
    assert re.search(r"^Source: .*\d{4}", section, re.MULTILINE), "a name and a year"
    assert re.search(r"^When: ", section, re.MULTILINE)
    assert re.search(r"^    .*=", section, re.MULTILINE), "the equation, indented"
    assert f"`models/{name}.py`" in section and f"| `{name}` |" in MODEL_SECTIONS["Which one"]
    for field in dataclasses.fields(model_class(name).config_class):
        assert f"| `{name}.{field.name}` |" in section


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_has_a_section_with_source_equation_and_all_its_parameters(name):
    section = SECTIONS[name]
    assert re.search(r"^Source: .*\d{4}", section, re.MULTILINE), "a name and a year"
    assert re.search(r"^When: ", section, re.MULTILINE)
    assert re.search(r"^    .*=", section, re.MULTILINE), "the equation, indented"
    assert f"`planners/{name}.py`" in section
    for field in dataclasses.fields(planner_class(name).config_class):
        assert f"| `{name}.{field.name}` |" in section


@pytest.mark.parametrize("section", ["Which one", "What they cost", "The protocol"])
def test_every_planner_is_in_the_comparisons(section):
    text = SECTIONS[section]
    needed = ("cem", "mppi", "mcts", "random_shooting") if section == "What they cost" else PLANNERS
    assert all(f"`{name}`" in text for name in needed)


def test_the_controllers_section_has_every_risk_measure_and_the_controllers_own_parameters():
    section = SECTIONS["The controller's parameters"]
    assert all(re.search(rf"^    {name} ", section, re.MULTILINE) for name in RISKS)
    own = ["horizon", "particles", "sample_noise", "mode", "replan_every", "budget", "state_limits", "limit_share"]
    assert all(f"| `{name}` |" in section for name in own)
    assert "| `seed` |" not in section, "what all nodes share is not the controller's own"


def test_files_that_are_named_exist():
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)`", PAGE + MODELS_PAGE)
    assert len(set(named)) > 15
    package = Path(mbrl_ros.__file__).parent
    assert [name for name in named if not ((package / name).exists() or (ROOT / name).exists())] == []


def test_the_example_runs_and_does_what_it_says(capsys):
    # The code comes from a page of this repository, reviewed like any other file of it; running it as it stands there
    # is the point: a copy of it in this test could drift from what a reader would paste.
    assert len(EXAMPLES) == 1
    exec(EXAMPLES[0], {"__name__": "example"})
    degrees = re.fullmatch(r"([\d.]+) degrees from upright\n", capsys.readouterr().out)
    assert degrees and float(degrees[1]) < 5.0


def test_a_table_by_hand():
    lines = render({f"x.{field.name}": field for field in dataclasses.fields(Sample)}).splitlines()
    assert lines[0] == "| parameter | default | unit | allowed | meaning |"
    assert lines[2] == r"| `x.rate` | `1.0e-05` | s | float in [0, 2] s | a \| b |"
    assert lines[3] == "| `x.names` | `[0.5]` |  | list of float | several |"
    assert lines[4] == "| `x.switch` | `'off'` |  | one of: on, off | on or off |"


@pytest.mark.parametrize("value", [1e-5, 1e10, 3, True, "off", "cem", "", (), (0.5, 1.0)])
def test_defaults_are_read_back_from_yaml(value):
    read = yaml.safe_load(as_yaml(value))
    assert (tuple(read) if isinstance(read, list) else read) == value
    assert type(read) is (list if isinstance(value, tuple) else type(value))


def test_only_what_stands_between_the_marks_is_rendered_anew(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- parameters lqr -->\nold\n<!-- end parameters -->\nafter\n")
    assert main([str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- parameters lqr -->\n| parameter |")
    assert text.endswith("|\n<!-- end parameters -->\nafter\n") and "old" not in text
    assert main([str(page)]) == 0 and page.read_text() == text


def test_mistakes_are_named(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- parameters cme -->\n<!-- end parameters -->\n")
    assert main([str(page)]) == 2
    assert "'cme'" in (said := capsys.readouterr().err) and "cem" in said
    assert main([str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err
