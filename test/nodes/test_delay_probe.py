"""The delay probe's bookkeeping: what reached the robot and when, and where its joints are."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import JointState

from mbrl_ros.control.delay_identification import DelayError
from mbrl_ros.nodes.conversions import to_joint_state
from mbrl_ros.nodes.delay_probe import DelayProbe

S = 10**9
SENT = {k * S: k - 0.5 for k in (1, 2, 3)}  # stamp -> time at which it was published


@pytest.fixture
def probe():
    """A probe without ROS."""
    made = DelayProbe.__new__(DelayProbe)
    made.robot = SimpleNamespace(joints=("a", "b"))
    made._measured, made.ages_s, made._applied = [], [], {}
    return made


def applied(probe, **flags):
    """What the guard did, by stamp in s: (flag, value of the second actuator)."""
    probe._applied = {int(float(s[1:]) * S): (flag, np.array([9.0, value])) for s, (flag, value) in flags.items()}
    times, values = probe._acted(SENT, 1)
    return list(zip(times.tolist(), values.tolist(), strict=True))


def test_commands_count_from_their_publication_and_bridges_from_their_own_time(probe):
    found = applied(probe, _3=("late", 0.3), _1=("ok", 0.1), _2=("limited", 0.2))
    assert found == [(0.5, 0.1), (1.5, 0.2), (2.5, 0.3)]
    assert applied(probe, _1=("ok", 0.1), _4=("timeout", 0.0))[1] == (4.0, 0.0), "the guard has bridged a silence"
    assert applied(probe, _0=("disarmed", 5.0), _1=("ok", 0.1)) == [(0.5, 0.1)], "from before the motion"


def test_what_the_guard_has_replaced_is_no_measurement(probe):
    with pytest.raises(DelayError, match="flag stopped"):
        applied(probe, _1=("ok", 0.1), _2=("stopped", 0.0))
    with pytest.raises(DelayError, match="passed nothing on"):
        applied(probe)


def test_where_the_joints_are_is_what_was_last_measured_of_them(probe):
    for position in ([1.0, 2.0], [3.0, np.nan]):
        probe._on_joints(to_joint_state(S, ("b", "a"), np.array([*position, 0.0, 0.0])))
    probe._on_joints(JointState(name=["gripper"], position=[7.0]))
    assert len(probe._measured) == 2, "the gripper is nobody's joint"
    assert probe._place([0, 1]).tolist() == [2.0, 1.0]
    assert probe._place([1]).tolist() == [3.0]
    probe._measured.clear()
    with pytest.raises(DelayError, match="where the joints are is not measured"):
        probe._place([0])
