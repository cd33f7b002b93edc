"""The safe actions by hand."""

import numpy as np
import pytest
from guard_cases import robot_limits

from mbrl_ros.errors import ConfigError
from mbrl_ros.safety.guard_config import LimitConfig
from mbrl_ros.safety.safe_action import SafeAction

X, V = np.array([0.5, -0.25]), np.array([1.0, -0.5])


def act(interface="effort", state=(X, V), held=None, angles=(), **config):
    return SafeAction(LimitConfig(**config), robot_limits(interface), angles).action(state, held)


@pytest.mark.parametrize("interface", ["effort", "velocity", "twist"])
def test_zero_is_what_most_interfaces_suggest(interface):
    np.testing.assert_array_equal(act(interface), [0.0, 0.0])
    np.testing.assert_array_equal(act(interface, state=None), [0.0, 0.0])


def test_a_position_is_held_within_its_limits():
    np.testing.assert_array_equal(act("position", held=np.array([1.0, -9.0])), [1.0, -3.0])
    assert act("position", held=None) is None


def test_damping_works_against_the_velocity_within_the_limits():
    np.testing.assert_array_equal(act(safe_action="damp", damping=2.0), [-2.0, 1.0])
    np.testing.assert_array_equal(act(safe_action="damp", damping=1e3), [-10.0, 2.0])
    np.testing.assert_array_equal(act(safe_action="damp", damping=2.0, state=None), [0.0, 0.0])
    unknown = (X, np.array([np.nan, -0.5]))
    np.testing.assert_array_equal(act(safe_action="damp", damping=2.0, state=unknown), [0.0, 1.0], "the others are")


GAIN = (1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 4.0)


def test_feedback_pulls_towards_the_reference_within_the_limits():
    K = np.array(GAIN).reshape(2, 4)
    reference = np.array([0.1, -0.2, 0.0, -0.1])
    wish = -K @ (np.concatenate([X, V]) - reference)
    sent = act(safe_action="feedback", feedback_gain=GAIN, feedback_reference=tuple(reference))
    np.testing.assert_allclose(sent, np.clip(wish, [-10, -2], [10, 2]))
    assert wish[0] == pytest.approx(-2.4), "by hand: -(0.4 + 2 * 1.0)"
    assert act(safe_action="feedback", feedback_gain=(0.0,)).tolist() == [0.0, 0.0]


def test_an_angle_is_taken_the_short_way_round():
    state = np.array([0.0, 2 * np.pi + 0.25]), np.zeros(2)
    turning = act(safe_action="feedback", feedback_gain=GAIN, state=state, angles=("b",))
    np.testing.assert_allclose(turning, [0.0, -0.75])
    assert act(safe_action="feedback", feedback_gain=GAIN, state=state)[1] == -2.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e308])
def test_whatever_the_state_the_action_is_finite(bad):
    state = np.array([bad, -bad]), np.array([bad, bad])
    for kind in ("damp", "feedback"):
        sent = act(safe_action=kind, damping=1e6, feedback_gain=(1e308,), state=state)
        assert np.all(np.isfinite(sent)) and np.all(np.abs(sent) <= [10, 2])


def test_what_may_stand_for_ever():
    for interface, kind, expected in (("effort", "damp", [0.0, 0.0]), ("position", "auto", [1.0, 2.0])):
        action = SafeAction(LimitConfig(safe_action=kind, damping=1.0), robot_limits(interface))
        np.testing.assert_array_equal(action.resting(np.array([1.0, 2.0])), expected)


@pytest.mark.parametrize(
    "interface, config, said",
    [
        ("position", {"safe_action": "zero"}, "'zero' is not allowed for the interface position"),
        ("velocity", {"safe_action": "damp"}, "it is for: effort"),
        ("effort", {"safe_action": "hold"}, "it is for: position"),
        ("effort", {"feedback_gain": (1.0, 2.0)}, "expected 8 finite numbers"),
        ("effort", {"feedback_reference": (np.inf,)}, "expected 4 finite numbers"),
    ],
)
def test_what_does_not_fit_is_named(interface, config, said):
    with pytest.raises(ConfigError, match=said):
        act(interface, **config)
