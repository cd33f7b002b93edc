"""Changes one key of a robot's YAML and leaves every other line, comments included, as it is."""

import os
import re
import tempfile
from pathlib import Path

import yaml

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.values import Delay


def write_delay(path: Path, delay: Delay) -> None:
    """Write the delay into the file, in one step: the file is the old or the new one at any moment.

    Raises:
        ConfigError: the file cannot be written, or is laid out so that the line to change cannot be told.
    """
    old = path.read_text()
    values = {"actuation_s": round(delay.actuation_s, 4), "sensing_s": round(delay.sensing_s, 4)}
    line = f"delay: {{actuation_s: {values['actuation_s']}, sensing_s: {values['sensing_s']}}}"
    new = with_line(old, line)
    try:
        fits = yaml.safe_load(new) == yaml.safe_load(old) | {"delay": values}
    except yaml.YAMLError:
        fits = False
    if not fits:
        raise ConfigError(f"{path}: cannot change delay without touching the rest; write it yourself: {line}")
    replace_file(path, new)


def with_line(text: str, line: str) -> str:
    """The text with its top-level key of `line` replaced, or `line` added at the end; a comment beside it stays."""
    key = line.split(":", 1)[0]
    block = re.compile(
        rf"^{key}:[ \t]*(?P<value>[^#\n]*?)(?P<comment>[ \t]+#[^\n]*)?$(?P<more>(\n[ \t]+[^\n]*)*)", re.M
    )
    found = block.search(text)
    if found is None:
        return f"{text.rstrip()}\n{line}\n"
    return text[: found.start()] + line + (found["comment"] or "") + text[found.end() :]


def replace_file(path: Path, text: str) -> None:
    """Write beside the file and rename, with the file's mode."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        os.chmod(new.name, path.stat().st_mode & 0o777)
        os.replace(new.name, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
