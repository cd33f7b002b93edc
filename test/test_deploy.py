"""docs/deploy.md: its robots pass the check, and their YAMLs in the text are the files."""

import re
from pathlib import Path

import pytest

from mbrl_ros.cli import main
from mbrl_ros.robots.description import load_robot

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "config" / "robots" / "examples").glob("*.yaml"))
TEXT = (ROOT / "docs" / "deploy.md").read_text()


def test_there_is_one_of_each_kind():
    interfaces = {load_robot(str(path)).command_interface for path in EXAMPLES}
    assert interfaces == {"position", "effort", "twist"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_pass_the_check(path, capsys):
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "nothing to fix" in said and "look at" not in said.replace("urdf  look at", "")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_text_has_the_exact_yaml(path):
    found = re.search(rf"<!-- config/robots/examples/{path.name} -->\n(.*?)\n<!-- end -->", TEXT, re.DOTALL)
    assert found, f"docs/deploy.md does not show {path.name}"
    assert [line[4:] for line in found[1].splitlines()] == path.read_text().splitlines()


def test_the_table_of_the_arm_is_what_check_prints(capsys):
    main(["check", str(ROOT / "config" / "robots" / "examples" / "arm.yaml")])
    for line in capsys.readouterr().out.splitlines():
        assert line in TEXT


def test_every_key_of_a_description_is_explained():
    from dataclasses import fields

    from mbrl_ros.robots.description import RobotDescription

    keys = {f.name for f in fields(RobotDescription)}
    table = TEXT.split("The keys:")[1].split("What `measures`")[0]
    assert keys <= set(re.findall(r"`([a-z_]+)`", table))
