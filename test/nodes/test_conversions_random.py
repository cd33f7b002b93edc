"""At least 100,000 random messages through the converters: arrays of the right shape, or a MessageError; never more.

Hypothesis draws bytes; six of them are a message: what it is, how long its arrays are, what is in them. So hundreds of
messages cost one draw.
"""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from collections import Counter

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.data.recorded_topics import LAST_TRIAL
from mbrl_ros.errors import MessageError
from mbrl_ros.nodes import conversions as c
from mbrl_ros.nodes.trial_phase import PHASES, POLICIES, from_phase
from mbrl_ros.robots.command_messages import from_joint_trajectory

EXAMPLES, LEAST, MOST = 250, 400, 800  # sequences, and messages in each
SEEN: Counter[str] = Counter()
JOINTS, BASE = ("a", "b", "c"), ("x", "yaw")
NAMES = ["a", "b", "c", "x", "yaw", "", "nobody", "a", "mbrl: state", "é"]
NUMBERS = [0.0, 1.0, -1.0, 2.5, np.nan, np.inf, -np.inf, 1e308, 5e-324, -0.0]
TEXTS = [
    "run",
    "done",
    "wait",
    "base",
    "mpc",
    "0",
    "7",
    "-1",
    "1e3",
    "9" * 30,
    "",
    "٣",
    "index",
    "policy",
    "waiting_for",
]


def numbers(a: int, b: int) -> list[float]:
    """Up to six numbers."""
    return [NUMBERS[(a * (i + 1) + b) % len(NUMBERS)] for i in range(b % 7)]


def names(a: int, b: int) -> list[str]:
    """Up to six names, some of them twice."""
    return [NAMES[(a * (i + 1) + b) % len(NAMES)] for i in range(b % 7)]


def joint_state(a: int, b: int, d: int, e: int, f: int) -> JointState:
    """A message whose arrays do not care about each other."""
    message = JointState(name=names(a, b), position=numbers(b, d), velocity=numbers(d, e), effort=numbers(e, f))
    message.header.stamp.sec, message.header.stamp.nanosec = (a - 128) * 2**23, f * 2**24
    return message


def trajectory(a: int, b: int, d: int, e: int, f: int) -> JointTrajectory:
    """A trajectory whose points have as many numbers as they like."""
    points = [JointTrajectoryPoint(positions=numbers(d + i, e)) for i in range(f % 3)]
    return JointTrajectory(joint_names=names(a, b), points=points)


def status(a: int, b: int, d: int, e: int, f: int) -> DiagnosticStatus:
    """A status with texts that are nearly right."""
    values = [KeyValue(key=TEXTS[(d + i) % len(TEXTS)], value=TEXTS[(e * (i + 1)) % len(TEXTS)]) for i in range(f % 4)]
    values += [KeyValue(key="index", value=TEXTS[5 + e % 5]), KeyValue(key="policy", value=TEXTS[3 + a % 3])][: f % 3]
    return DiagnosticStatus(name=NAMES[a % len(NAMES)], message=TEXTS[b % 5], values=values)


def expected(message: JointState, values, wanted) -> np.ndarray:
    """What belongs to each name, found the slow way: the last of that name counts."""
    found = dict.fromkeys(wanted, np.nan)
    for i, name in enumerate(message.name):
        if name in found:
            found[name] = values[i] if i < len(values) else np.nan
    return np.array([found[name] for name in wanted])


def check_joint_state(message: JointState) -> None:
    position, velocity = c.from_joint_state(message, JOINTS)
    assert np.array_equal(position, expected(message, message.position, JOINTS), equal_nan=True)
    assert np.array_equal(velocity, expected(message, message.velocity, JOINTS), equal_nan=True)
    SEEN["finite"] += bool(np.isfinite(position).all())


def check_observation(message: JointState) -> None:
    x = c.from_observation(message, JOINTS, BASE)
    assert x.shape == (8,)
    assert np.array_equal(x[6:], expected(message, message.position, BASE), equal_nan=True)


def check_command(message: JointState) -> None:
    for interface in c.COMMAND_FIELDS:
        u = c.from_command(message, JOINTS[:2], interface)
        assert np.array_equal(
            u, expected(message, getattr(message, c.COMMAND_FIELDS[interface]), JOINTS[:2]), equal_nan=True
        )


def check_scalars(message: JointState) -> None:
    values = c.from_scalars(message)
    assert len(values) <= min(len(message.name), len(message.position))
    stamp_ns = c.from_time(message.header.stamp)
    assert c.from_time(c.to_time(stamp_ns)) == stamp_ns


def check_trajectory(message: JointTrajectory) -> None:
    assert from_joint_trajectory(message, JOINTS).shape == (3,)


def check_phase(message: DiagnosticStatus) -> None:
    try:
        phase = from_phase(message)
    except MessageError:
        SEEN["refused"] += 1
        return
    SEEN["phase"] += 1
    assert phase.phase in PHASES and phase.policy in POLICIES and 0 <= phase.index <= LAST_TRIAL


def check_statuses(message: DiagnosticStatus) -> None:
    found = c.own_statuses(DiagnosticArray(status=[message]), "")
    assert [name for name, _ in found] == [message.name.removesuffix(": state")] * message.name.endswith(": state")


KINDS = [
    (joint_state, check_joint_state),
    (joint_state, check_observation),
    (joint_state, check_command),
    (joint_state, check_scalars),
    (trajectory, check_trajectory),
    (status, check_phase),
    (status, check_statuses),
]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=6 * LEAST, max_size=6 * MOST))
def check_all(data):
    for kind, *drawn in zip(*(data[i::6] for i in range(6)), strict=False):
        make, check = KINDS[kind % len(KINDS)]
        check(make(*drawn))
        SEEN["messages"] += 1


def test_whatever_comes_in_the_converters_keep_their_word():
    SEEN.clear()
    check_all()
    assert SEEN["messages"] >= 100_000
    assert min(SEEN["finite"], SEEN["phase"], SEEN["refused"]) > 20, "the messages reach every corner"
