"""The robot description: published values, and messages that name file, key and what is allowed."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.robots import description
from mbrl_ros.robots.description import load_robot, robot_names


@pytest.fixture
def values() -> dict:
    """What the cart-pole's file holds."""
    return yaml.safe_load((load_robot("cartpole").urdf.parent / "cartpole.yaml").read_text())


def load(folder: Path, values) -> description.RobotDescription:
    """Write a robot's file and load it."""
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_robot(str(path))


def test_cartpole_has_the_published_values():
    """Deisenroth 2010, appendix C: 10 N, hanging start; the benchmark's 20 Hz and 3 s."""
    robot = load_robot("cartpole")
    assert robot.name == "cartpole"
    assert robot.task == "cartpole_swingup"
    assert robot.joints == ("cart_slider", "pole_hinge")
    assert robot.angles == ("pole_hinge",)
    assert robot.actuators == ("cart_slider",)
    assert robot.effort_limit == (10.0,)
    assert robot.position_limit == (2.5, np.inf)
    assert robot.start_position == (0.0, np.pi)
    assert (robot.position_noise, robot.velocity_noise) == (0.01, 0.01)
    assert robot.dt == 0.05
    assert robot.trial_steps == 60
    assert robot.urdf.is_file()
    np.testing.assert_array_equal(robot.u_max, [10.0])


def test_cartpole_layout_is_positions_then_velocities():
    layout = load_robot("cartpole").layout
    assert layout.state == (
        "cart_slider/position",
        "pole_hinge/position",
        "cart_slider/velocity",
        "pole_hinge/velocity",
    )
    assert layout.action == ("cart_slider/effort",)
    np.testing.assert_array_equal(layout.angle_mask, [False, True, False, False])
    np.testing.assert_array_equal(layout.derivative_index, [2, 3, -1, -1])
    assert layout.dt == 0.05


def test_unknown_robot_lists_the_known():
    with pytest.raises(UnknownNameError, match=r"unknown robot 'cartpol'; choose one of: .*cartpole"):
        load_robot("cartpol")
    assert "cartpole" in robot_names()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.yaml", "robot: nowhere.yaml: no such file; expected the path of a .yaml or one of: cartpole,"),
        ("robots/arm", "robot: robots/arm: no such file"),
        ("arm.yml", "robot: arm.yml is not allowed; expected a file whose name ends in .yaml"),
    ],
)
def test_a_path_that_is_none_is_not_taken_for_a_name(name, said):
    with pytest.raises(ConfigError) as error:
        load_robot(name)
    assert str(error.value).startswith(said)


def test_a_path_loads_what_the_name_loads(tmp_path, values):
    values["urdf"] = str(load_robot("cartpole").urdf)
    assert load(tmp_path, values) == load_robot("cartpole")


def test_urdf_lies_beside_the_file(tmp_path, values):
    assert load(tmp_path, values).urdf == tmp_path / "cartpole.urdf"


def test_unknown_key_names_file_key_and_known_keys(tmp_path, values):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, values | {"control_rat": 20.0})
    for part in (str(tmp_path / "robot.yaml"), "'control_rat'", "control_rate", "trial_duration"):
        assert part in str(error.value)


def test_keys_that_are_not_names_are_reported(tmp_path, values):
    with pytest.raises(ConfigError, match="unknown key '1'"):
        load(tmp_path, values | {1: 2, "x": 3})


def test_missing_key_names_file_and_key(tmp_path, values):
    del values["actuators"]
    with pytest.raises(ConfigError, match=r"robot\.yaml: missing key 'actuators'"):
        load(tmp_path, values)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", 3, "a string"),
        ("urdf", 3, "a path"),
        ("control_rate", "fast", "a number"),
        ("control_rate", True, "a number"),
        ("joints", "cart_slider", "a list of names"),
        ("joints", [1, 2], "a list of names"),
        ("effort_limit", 10.0, "a list of numbers"),
        ("effort_limit", ["ten"], "a list of numbers"),
        ("effort_limit", [True], "a list of numbers"),
    ],
)
def test_wrong_type_names_file_key_value_and_what_is_expected(tmp_path, values, key, value, expected):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, values | {key: value})
    for part in (str(tmp_path / "robot.yaml"), f"{key}: {value!r}", f"expected {expected}"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "joint"),
    [
        ("effort_limit", [10.0, 10.0], "cart_slider"),
        ("position_limit", [2.5], "pole_hinge"),
        ("start_position", [], "pole_hinge"),
    ],
)
def test_wrong_length_names_the_joints(tmp_path, values, key, value, joint):
    with pytest.raises(ConfigError, match=rf"robot\.yaml: {key}: expected one number for each of .*{joint}"):
        load(tmp_path, values | {key: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("angles", ["elbow"], "angles: 'elbow' is not a joint; choose from: cart_slider, pole_hinge"),
        ("actuators", ["motor"], "actuators: 'motor' is not a joint; choose from: cart_slider, pole_hinge"),
        ("joints", ["cart_slider", "cart_slider"], "joints: .* each only once"),
        ("control_rate", 0.0, "control_rate: 0.0 must be positive"),
        ("control_rate", float("inf"), "control_rate: inf must be positive and finite"),
        ("trial_duration", -3.0, "trial_duration: -3.0 must be positive"),
        ("position_noise", -0.1, "position_noise: -0.1 must not be negative"),
        ("velocity_noise", float("nan"), "velocity_noise: nan"),
        ("effort_limit", [-10.0], r"effort_limit: \[-10.0\] must be positive"),
        ("effort_limit", [float("inf")], r"effort_limit: \[inf\] must be positive and finite"),
        ("position_limit", [0.0, 1.0], r"position_limit: \[0.0, 1.0\] must be positive"),
        ("start_position", [2.6, 0.0], "start_position: 2.6 must be finite and within position_limit 2.5"),
        ("start_position", [0.0, float("inf")], "start_position: inf must be finite"),
        ("command_interface", "speed", "command_interface: 'speed' is not allowed; expected one of: effort"),
    ],
)
def test_bad_value_is_named(tmp_path, values, key, value, message):
    changed = values | {key: value}
    if key == "joints":
        changed |= {"angles": []}
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, changed)


@pytest.mark.parametrize("content", [b"- 1\n", b"", b"{", b"\xff\xfe\xff"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, content):
    path = tmp_path / "robot.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"robot\.yaml: "):
        load_robot(str(path))


def test_a_robot_may_name_its_equation_which_is_then_known(tmp_path, values, monkeypatch):
    monkeypatch.setattr(description, "EQUATIONS", known := {})
    values["urdf"] = str(load_robot("cartpole").urdf)
    assert load(tmp_path, values | {"equation": "mine.module:EQUATION"}).equation == "mine.module:EQUATION"
    assert known == {"mine.module:EQUATION": "mine.module:EQUATION"}, "known, and not imported before it is used"
