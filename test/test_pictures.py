"""Every picture in README and docs is there, is shown somewhere, and has the command that makes it beside it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [(page, text, link) for page in PAGES for text, link in re.findall(r"!\[([^]]*)]\(([^)]+)\)", page.read_text())]
COMMANDS = ("mbrl_ros ", "make sim", "screenshot.py ")
NEAR = 9  # lines below a picture within which its command stands


@pytest.mark.parametrize("page, text, link", SHOWN, ids=lambda value: getattr(value, "name", value))
def test_a_picture_is_in_the_repository_has_a_text_and_a_command(page, text, link):
    assert (page.parent / link).is_file() and len(text) > 10
    lines = page.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if f"({link})" in line)
    below = "\n".join(lines[at + 1 : at + 1 + NEAR])
    assert any(command in below for command in COMMANDS), f"{page.name}: no command below {link}"


def test_no_picture_lies_about():
    used = {(page.parent / link).resolve() for page, _, link in SHOWN}
    pictures = {path for path in (ROOT / "docs" / "images").iterdir() if path.suffix not in (".py", ".yaml")}
    assert pictures == used
