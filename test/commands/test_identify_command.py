"""`identify delay` on a robot whose measurements are old when they come, before anything is started."""

from pathlib import Path

import pytest

from mbrl_ros.commands.identify import described
from mbrl_ros.commands.robot import robot_parameters
from mbrl_ros.control.delay_identification import DelayError
from mbrl_ros.robots.description import load_robot

ARM = Path(__file__).resolve().parents[2] / "config" / "robots" / "examples" / "arm.yaml"  # 20 Hz, 30 + 5 ms


@pytest.mark.parametrize("age", [-3.0, 0.0, 0.005, 0.029])
def test_a_robot_as_its_yaml_says_is_taken_as_it_is(tmp_path, age):
    assert described(ARM, load_robot(str(ARM)), age, 0.5, tmp_path) == ARM
    assert list(tmp_path.iterdir()) == []


def test_the_helpers_know_of_measurements_that_are_older_than_the_yaml_says(tmp_path):
    robot, before = load_robot(str(ARM)), ARM.read_text()
    file = described(ARM, robot, 0.24, 0.5, tmp_path)
    told = load_robot(str(file))
    assert (told.delay.actuation_s, told.delay.sensing_s) == (0.03, 0.24)
    assert (told.name, told.layout, told.urdf.resolve()) == (robot.name, robot.layout, robot.urdf.resolve())
    guard = robot_parameters({}, file)["command_guard"]
    assert guard["guard.observation_timeout"] >= 2 + 0.24 * robot.control_rate, "or the guard would not arm"
    assert ARM.read_text() == before


def test_measurements_that_are_older_than_any_delay_are_a_matter_of_clocks(tmp_path):
    with pytest.raises(DelayError, match=r"3600 s old when they come, more than 0.5 s; do the clocks agree"):
        described(ARM, load_robot(str(ARM)), 3600.0, 0.5, tmp_path)
