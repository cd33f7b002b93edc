"""The delay is written, and nothing else of the file changes."""

import pytest
import yaml

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.values import Delay
from mbrl_ros.robots.yaml_edit import write_delay

DELAY = Delay(0.03141, 0.0052)
WRITTEN = "delay: {actuation_s: 0.0314, sensing_s: 0.0052}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: a  # my robot\n\n# end\n", f"name: a  # my robot\n\n# end\n{WRITTEN}\n"),
        ("name: a\ndelay: {actuation_s: 1.0}  # guessed\nx: 1\n", f"name: a\n{WRITTEN}  # guessed\nx: 1\n"),
        ("delay:\n  actuation_s: 0.1\n  sensing_s: 0.2\nname: a", f"{WRITTEN}\nname: a"),
        ("name: a\ndelay:\n    sensing_s: 0.2\n\n# more\nx: 1\n", f"name: a\n{WRITTEN}\n\n# more\nx: 1\n"),
        ("delay_of_the_bus: 1\n", f"delay_of_the_bus: 1\n{WRITTEN}\n"),
        ("p: {delay: 1}\n", f"p: {{delay: 1}}\n{WRITTEN}\n"),
    ],
)
def test_only_the_line_changes(tmp_path, before, after):
    path = tmp_path / "robot.yaml"
    path.write_text(before)
    path.chmod(0o640)
    write_delay(path, DELAY)
    assert path.read_text() == after
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["robot.yaml"]
    write_delay(path, DELAY)
    assert path.read_text() == after, "once more changes nothing"


def test_a_file_that_cannot_be_changed_by_a_line_is_left_alone(tmp_path):
    path = tmp_path / "robot.yaml"
    text = "delay: {actuation_s: 1.0,\nsensing_s: 2.0}\nname: a\n"
    assert yaml.safe_load(text)["name"] == "a"
    path.write_text(text)
    with pytest.raises(ConfigError, match="write it yourself: delay"):
        write_delay(path, DELAY)
    assert path.read_text() == text
