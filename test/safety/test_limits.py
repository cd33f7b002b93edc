"""Limits from YAML and URDF, less the margins."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from guard_cases import robot_limits

from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import load_robot
from mbrl_ros.safety.guard_config import GuardConfig, LimitConfig
from mbrl_ros.safety.limits import limits_of, urdf_limits

CARTPOLE = load_robot("cartpole")
EXAMPLES = share_directory() / "config" / "robots" / "examples"

ARM = """<robot name="arm">
  <joint name="lift" type="prismatic"><limit lower="-0.1" upper="0.4" effort="50" velocity="0.5"/></joint>
  <joint name="turn" type="continuous"><limit effort="0" velocity="0"/></joint>
  <joint name="mount" type="fixed"/>
</robot>"""


@pytest.fixture
def arm(tmp_path):
    """A robot whose interface can be chosen, whatever its other values are."""
    path = tmp_path / "arm.urdf"
    path.write_text(ARM)

    def build(interface="effort", **changes):
        fields = {f.name: getattr(CARTPOLE, f.name) for f in dataclasses.fields(CARTPOLE)} | {
            "urdf": path,
            "joints": ("lift", "turn"),
            "actuators": ("lift", "turn"),
            "effort_limit": (60.0, 3.0),
            "position_limit": (0.3, np.inf),
            **changes,
        }
        robot = object.__new__(type(CARTPOLE))
        for name, value in (fields | {"command_interface": interface}).items():
            object.__setattr__(robot, name, value)
        return robot

    return build


def test_a_urdf_as_it_is_written(tmp_path):
    (tmp_path / "arm.urdf").write_text(ARM)
    inf = np.inf
    assert urdf_limits(tmp_path / "arm.urdf") == {"lift": (-0.1, 0.4, 0.5, 50.0), "turn": (-inf, inf, inf, inf)}


def test_the_cartpole_keeps_its_limits_exactly():
    limits = limits_of(CARTPOLE, GuardConfig())
    assert (limits.command_low.tolist(), limits.command_high.tolist()) == ([-10.0], [10.0])
    assert (limits.position_low.tolist(), limits.position_high.tolist()) == ([-2.5, -np.inf], [2.5, np.inf])
    assert limits.velocity.tolist() == [100.0, 100.0]
    assert np.isinf(limits.command_rate).all() and np.isinf(limits.command_jerk).all()


def test_the_narrower_of_yaml_and_urdf_counts(arm):
    limits = limits_of(arm(), LimitConfig())
    assert limits.command_high.tolist() == [50.0, 3.0]
    assert (limits.position_low[0], limits.position_high[0]) == (-0.1, 0.3)


def test_margins_and_rates():
    config = LimitConfig(
        position_margin=0.5, velocity_margin=0.25, effort_margin=0.1, command_rate=(7.0,), command_jerk=(9.0,)
    )
    limits = limits_of(CARTPOLE, config)
    assert (limits.position_low[0], limits.position_high[0]) == (-2.0, 2.0)
    assert limits.velocity[0] == 75.0 and limits.command_high[0] == 9.0
    assert limits.command_rate[0] == 7.0 and limits.command_jerk[0] == 9.0
    relative = limits_of(CARTPOLE, LimitConfig(rate_limit=0.25, command_rate=(60.0,)))
    assert relative.command_rate[0] == pytest.approx(0.25 * 10.0 * 20.0), "2.5 N a period at 20 Hz"


def test_interfaces(arm):
    position = limits_of(arm("position"), LimitConfig(position_margin=0.05))
    np.testing.assert_allclose(position.command_low[0], -0.05)
    np.testing.assert_allclose(position.command_high[0], 0.25)
    assert position.command_rate.tolist() == [0.5, np.inf], "a position may not move faster than the joint"
    with pytest.raises(ConfigError, match="velocity limit of 'turn'"):
        limits_of(arm("velocity"), LimitConfig())


@pytest.mark.parametrize("interface", ["position", "velocity"])
def test_a_robot_may_go_where_it_may_be_sent(interface):
    """Or noise and a little overshoot at the end of the commands' range would latch a stop."""
    robot = replace(load_robot(str(EXAMPLES / "arm.yaml")), command_interface=interface)
    limits = limits_of(robot, LimitConfig(position_margin=0.05, velocity_margin=0.1))
    at_the_end, as_fast = np.array([1.45, 2.35]), np.array([0.9, -0.9])
    over = 0.01  # rad and rad/s of noise
    if interface == "position":
        assert limits.command_high.tolist() == [1.45, pytest.approx(2.35)]
        assert limits.command_rate.tolist() == [0.9, 0.9]
        assert limits.beyond(at_the_end + over, as_fast) == ""
        assert "shoulder" in limits.beyond(np.array([1.51, 1.0]), as_fast), "the stated limit"
    else:
        assert limits.command_high.tolist() == [0.9, 0.9]
        assert "shoulder" in limits.beyond(at_the_end + over, as_fast), "the margin is what is left to stop in"
    assert limits.beyond(np.array([0.0, 1.0]), as_fast * (1 + over)) == ""
    assert "moves at" in limits.beyond(np.array([0.0, 1.0]), np.array([1.01, 0.0]))


def test_a_twist_has_limits_of_its_own(arm):
    driven = arm("twist", actuators=("linear_x", "angular_z"), twist_limit=(0.5, 2.0), command_rate=(1.0, np.inf))
    limits = limits_of(driven, LimitConfig(velocity_margin=0.2, command_rate=(3.0,)))
    assert limits.command_high.tolist() == [0.4, 1.6]
    assert limits.command_rate.tolist() == [1.0, 3.0], "the narrower of the robot's and the guard's"


def test_beyond_names_every_limit_and_the_value():
    said = robot_limits().beyond(np.array([3.5, -4.0]), np.array([-6.0, 5.0]))
    assert said == "a at 3.5, beyond -3 to 3; b at -4, beyond -3 to 3; a moves at -6, faster than 5"
    assert robot_limits().beyond(np.array([3.0, -3.0]), np.array([5.0, -5.0])) == ""


@pytest.mark.parametrize(
    "change, said",
    [
        ({"interface": "force"}, "command_interface: 'force'"),
        ({"command_high": np.array([-20.0, 2.0])}, "leave no room"),
        ({"position_low": np.array([1.0])}, "position_low"),
        ({"command_rate": np.array([0.0, 1.0])}, "command_rate"),
        ({"velocity": np.array([np.nan, 1.0])}, "velocity"),
        ({"command_low": np.array([1.0, -2.0])}, "0 must be allowed"),
        ({"actuators": ("a", "c")}, "'c' is not a joint"),
    ],
)
def test_bad_limits_are_named(change, said):
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(robot_limits(), **change)


def test_bad_settings_and_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="command_rate"):
        limits_of(CARTPOLE, LimitConfig(command_rate=(1.0, 2.0)))
    with pytest.raises(ConfigError, match="leave no room"):
        limits_of(CARTPOLE, LimitConfig(position_margin=2.5))
    with pytest.raises(ConfigError, match="cannot be read"):
        urdf_limits(tmp_path / "none.urdf")
    (tmp_path / "bad.urdf").write_text("<robot")
    with pytest.raises(ConfigError, match="cannot be read"):
        urdf_limits(tmp_path / "bad.urdf")
    (tmp_path / "text.urdf").write_text(ARM.replace('"50"', '"much"'))
    with pytest.raises(ConfigError, match="joint 'lift': limit effort=\"much\""):
        urdf_limits(tmp_path / "text.urdf")
