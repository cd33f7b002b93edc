"""Bags: what is exported comes back bit for bit, and what is left out of a recording has a stated reason."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from mbrl_ros.data import bag_import
from mbrl_ros.data.bag_export import FORMATS, PAUSE_NS, TYPES, export_bag, joint_state, trial_message
from mbrl_ros.data.bag_import import import_events, shifted
from mbrl_ros.data.bag_reader import JOINT_STATE, STATUS, Applied, BagError, Observed, TrialBegins, read_events
from mbrl_ros.data.store_format import Row
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.joint_filter import JointFilter
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.sensors import Sensor

ROBOT = load_robot("cartpole")
DT = round(1e9 * ROBOT.dt)
DAY = 86_400_000_000_000


def motion(trial, trajectory, start, n, rng, flag="ok"):
    """N transitions in a row; each begins where the one before ended."""
    x = rng.standard_normal((n + 1, ROBOT.layout.nx))
    u = rng.standard_normal((n, ROBOT.layout.nu))
    return [Row(start + k * DT, trial, trajectory, x[k], u[k], x[k + 1], flag) for k in range(n)]


@pytest.fixture
def rows():
    """Two trials a day apart, the first with a period missing in its midst."""
    rng = np.random.default_rng(0)
    first = motion(0, 0, 7, 5, rng) + motion(0, 1, 7 + 6 * DT, 4, rng, "limited")
    return first + motion(1, 2, DAY + 13, 6, rng)


def content(row):
    return (row.stamp_ns, row.trial, row.trajectory, row.flag, *(v.tobytes() for v in (row.x, row.u, row.x_next)))


def load(path, namespace=""):
    return import_events(read_events(path, ROBOT, FilterConfig(), namespace), DT)


def export(rows, path, kind="mcap", namespace=""):
    return export_bag(rows, ROBOT.layout, ROBOT.name, path, kind, namespace)


@pytest.mark.parametrize("kind", FORMATS)
def test_export_and_import_give_the_same_transitions(rows, tmp_path, kind):
    export(rows, tmp_path / "bag", kind)
    found = load(tmp_path / "bag")
    assert [content(row) for row in found.rows] == [content(row) for row in rows]
    assert found.left_out == {bag_import.NO_COMMAND: 1, bag_import.TRIAL_END: 1, bag_import.RECORDING_END: 1}


def test_a_base_and_any_command_interface_go_the_same_way(tmp_path):
    sensors = (Sensor("joint_states", "JointState"), Sensor("odom", "Odometry"))
    twist = {"command_interface": "twist", "actuators": ("linear_x", "angular_z"), "twist_limit": (1.0, 2.0)}
    rover = dataclasses.replace(
        ROBOT,
        base="diff_drive",
        sensors=sensors,
        effort_limit=(),
        start_position=(),
        command_rate=(),
        **twist,
    )
    nx, rng = rover.layout.nx, np.random.default_rng(1)
    assert nx > 4 and rover.layout.nu == 2
    states = rng.standard_normal((5, nx))
    rows = [Row(k * DT, 0, 0, states[k], rng.standard_normal(2), states[k + 1]) for k in range(4)]
    export_bag(rows, rover.layout, rover.name, tmp_path / "bag", "mcap")
    found = import_events(read_events(tmp_path / "bag", rover, FilterConfig()), DT)
    assert [content(row) for row in found.rows] == [content(row) for row in rows]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_single_file_of_a_bag_will_do(rows, tmp_path, kind):
    export(rows, tmp_path / "bag", kind)
    (file,) = (p for p in (tmp_path / "bag").iterdir() if p.suffix != ".yaml")
    assert len(load(file).rows) == len(rows)


def test_a_day_between_two_trials_is_a_short_pause_when_played_and_a_day_in_the_stamps(rows, tmp_path):
    export(rows, tmp_path / "bag")
    with AnyReader([tmp_path / "bag"]) as reader:
        times = [time for _, time, _ in reader.messages()]
    assert max(np.diff(times)) == pytest.approx(PAUSE_NS, abs=10) and min(np.diff(times)) >= 0
    assert sum(np.diff(times)) == pytest.approx(15 * DT + DT + PAUSE_NS, abs=10), "the rest keeps its time"
    assert load(tmp_path / "bag").rows[-1].stamp_ns == rows[-1].stamp_ns


def test_what_ros2_bag_play_needs_to_know_is_there(rows, tmp_path):
    export(rows, tmp_path / "bag", namespace="/lab/")
    with AnyReader([tmp_path / "bag"]) as reader:
        kinds = {c.topic: (c.msgtype, c.ext.offered_qos_profiles[0]) for c in reader.connections}
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert {topic: kind for topic, (kind, _) in kinds.items()} == {
        "/lab/joint_states": JOINT_STATE,
        "/lab/observation": JOINT_STATE,
        "/lab/applied_command": JOINT_STATE,
        "/lab/trial": STATUS,
    }
    assert all(qos.reliability.name == "RELIABLE" for _, qos in kinds.values())
    latched = {topic: qos.durability.name == "TRANSIENT_LOCAL" for topic, (_, qos) in kinds.items()}
    assert [topic for topic, is_latched in latched.items() if is_latched] == ["/lab/trial"]
    assert counts["/lab/applied_command"] == 15 and counts["/lab/observation"] == 18 and counts["/lab/trial"] == 2
    assert len(load(tmp_path / "bag", "lab").rows) == 15


def test_ros_reads_the_messages(rows, tmp_path):
    serialization = pytest.importorskip("rclpy.serialization", reason="ROS 2 is not installed")
    from diagnostic_msgs.msg import DiagnosticStatus
    from sensor_msgs.msg import JointState

    export(rows, tmp_path / "bag")
    with AnyReader([tmp_path / "bag"]) as reader:
        raw = [(c.topic, bytes(data)) for c, _, data in reader.messages()]
    trial = serialization.deserialize_message(next(d for t, d in raw if t == "/trial"), DiagnosticStatus)
    assert (trial.message, trial.values[0].key, trial.values[0].value) == ("run", "index", "0")
    assert trial.level == DiagnosticStatus.OK
    applied = [serialization.deserialize_message(d, JointState) for t, d in raw if t == "/applied_command"]
    assert [list(m.effort) for m in applied] == [row.u.tolist() for row in rows]
    assert [m.header.frame_id for m in applied] == [row.flag for row in rows]
    seen = serialization.deserialize_message(next(d for t, d in raw if t == "/observation"), JointState)
    assert list(seen.name) == list(ROBOT.joints)
    assert [*seen.position, *seen.velocity] == rows[0].x.tolist()
    assert (seen.header.stamp.sec, seen.header.stamp.nanosec) == (0, 7)


def test_what_cannot_be_said_as_a_bag_is_refused_and_leaves_nothing(rows, tmp_path):
    rng = np.random.default_rng(1)
    torn = motion(0, 0, 0, 1, rng) + motion(0, 0, DT, 1, rng)
    beyond = motion(0, 0, 2**62, 1, rng)
    for bad, message in (
        (torn, "disagree about the state"),
        (beyond, "beyond what a ROS time"),
        ([], "no transitions"),
    ):
        with pytest.raises(BagError, match=message):
            export(bad, tmp_path / "bag")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists already"):
        export(rows, tmp_path / "bag")


# what is left out


def events(ticks, flags=None, problems=None):
    """Observation, then command of each tick."""
    flags, problems = flags or {}, problems or {}
    for k in ticks:
        yield Observed(k * DT, np.full(4, float(k)), problems.get(k, ""))
        yield Applied(k * DT, np.ones(1), flags.get(k, "ok"))


def left_out(found):
    return dict(found.left_out)


END = {bag_import.RECORDING_END: 1}


@pytest.mark.parametrize("flag", ["late", "stale", "timeout", "disarmed", "stopped", "invalid"])
def test_an_override_is_left_out_and_breaks_the_trajectory(flag):
    found = import_events(events(range(6), flags={2: flag}), DT)
    assert [(r.stamp_ns // DT, r.trajectory) for r in found.rows] == [(0, 0), (1, 0), (3, 1), (4, 1)]
    assert left_out(found) == {f"command '{flag}'": 1} | END


def test_a_limited_command_is_kept_with_its_flag():
    found = import_events(events(range(3), flags={0: "limited"}), DT)
    assert [r.flag for r in found.rows] == ["limited", "ok"] and left_out(found) == END


def test_an_observation_that_was_bridged_is_left_out_on_both_its_sides():
    found = import_events(events(range(6), problems={3: "bridged: not measured"}), DT)
    assert [r.stamp_ns // DT for r in found.rows] == [0, 1, 4]
    problem = "observation bridged: not measured"
    assert left_out(found) == {problem: 1, f"next {problem}": 1} | END


def test_a_gap_is_left_out():
    found = import_events(events([0, 1, 2, 5, 6]), DT)
    assert [(r.stamp_ns // DT, r.trajectory, r.trial) for r in found.rows] == [(0, 0, 0), (1, 0, 0), (5, 1, 1)]
    assert left_out(found) == {bag_import.GAP: 1} | END


def test_a_reset_is_told_from_a_gap_by_the_trial():
    stream = [TrialBegins(3), *events([0, 1, 2]), TrialBegins(4), *events([20, 21])]
    found = import_events(stream, DT)
    assert [(r.stamp_ns // DT, r.trial) for r in found.rows] == [(0, 3), (1, 3), (20, 4)]
    assert left_out(found) == {bag_import.TRIAL_END: 1} | END


def test_other_reasons():
    stream = [e for e in events(range(8)) if not (isinstance(e, Applied) and e.stamp_ns == DT)]
    stream = [e for e in stream if not (isinstance(e, Observed) and e.stamp_ns == 3 * DT)]
    stream.insert(-6, Applied(5 * DT, np.array([np.nan]), "ok"))
    stream = [e for e in stream if not (isinstance(e, Applied) and e.stamp_ns == 5 * DT and np.isfinite(e.u[0]))]
    found = import_events(stream, DT)
    assert [r.stamp_ns // DT for r in found.rows] == [0, 4, 6]
    assert (
        left_out(found)
        == {
            bag_import.NO_COMMAND: 1,
            bag_import.NO_OBSERVATION: 1,
            bag_import.GAP: 1,
            "command not finite, or not of this robot's actuators": 1,
        }
        | END
    )


def test_what_comes_long_after_its_turn_is_left_out():
    whole = list(events(range(4)))
    found = import_events([*whole[2:], *whole[:2]], DT)
    assert [r.stamp_ns // DT for r in found.rows] == [1, 2]
    assert left_out(found) == {bag_import.OUT_OF_ORDER: 1} | END


def test_several_bags_count_on():
    rows = shifted(import_events(events([0, 1, 2, 5, 6]), DT).rows, 7, 100)
    assert [(r.trajectory, r.trial) for r in rows] == [(7, 100), (7, 100), (8, 101)]


# reading


def record(path: Path, messages, kind=StoragePlugin.MCAP):
    """A bag of messages (topic, type, message), one a microsecond."""
    with Writer(path, version=8, storage_plugin=kind) as writer:
        connections = {}
        for time, (topic, msgtype, message) in enumerate(messages):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=TYPES)
            writer.write(connections[topic], 1000 * time, TYPES.serialize_cdr(message, msgtype))
    return path


def measured(n, rng, frame=""):
    """Joint states and commands as a robot with noise gives them: another order of joints, one of no interest."""
    names = [*reversed(ROBOT.joints), "gripper"]
    for k in range(n):
        z = np.sin(0.1 * k) + 0.01 * rng.standard_normal((3, 2))
        yield "/joint_states", JOINT_STATE, joint_state(k * DT, frame, names, position=z[:, 0], velocity=z[:, 1])
        yield "/applied_command", JOINT_STATE, joint_state(k * DT, "ok", list(ROBOT.actuators), effort=np.ones(1))


def test_without_observations_the_estimators_filter_makes_them(tmp_path):
    path = record(tmp_path / "bag", measured(40, np.random.default_rng(2)), StoragePlugin.SQLITE3)
    found = load(path)
    joint_filter = JointFilter(FilterConfig(), 2, ROBOT.position_noise, ROBOT.velocity_noise)
    expected = []
    for _, _, message in list(measured(40, np.random.default_rng(2)))[::2]:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        result = joint_filter.update(stamp, message.position[1::-1], message.velocity[1::-1])
        expected.append(np.concatenate([result.position, result.velocity]))
    assert len(found.rows) == 39
    np.testing.assert_allclose([row.x for row in found.rows], expected[:-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose([row.x_next for row in found.rows], expected[1:], rtol=0, atol=1e-12)


def test_the_filters_settings_count(tmp_path):
    path = record(tmp_path / "bag", measured(40, np.random.default_rng(2)))
    stiff = FilterConfig(acceleration_density=0.01)
    other = import_events(read_events(path, ROBOT, stiff), DT)
    assert len(load(path).rows) != len(other.rows) or any(
        not np.array_equal(a.x, b.x) for a, b in zip(load(path).rows, other.rows, strict=True)
    )


def test_observations_that_were_recorded_win_over_joint_states(tmp_path):
    messages = []
    for topic, kind, message in measured(5, np.random.default_rng(3)):
        if topic == "/joint_states":
            stamp = message.header.stamp.nanosec
            state = joint_state(stamp, "late" if stamp == 3 * DT else "", list(ROBOT.joints), **ones())
            messages.append(("/observation", JOINT_STATE, state))
        messages.append((topic, kind, message))
    found = load(record(tmp_path / "bag", messages))
    assert [row.stamp_ns // DT for row in found.rows] == [0, 1] and all(
        row.x.tolist() == [1.0] * 4 for row in found.rows
    )
    assert found.left_out["observation bridged: late"] == 1


def ones():
    return {"position": np.ones(2), "velocity": np.ones(2)}


def test_of_two_sensors_that_measure_at_one_moment_there_is_one_observation(tmp_path):
    """Else the state at which a transition ends would not be the one at which the next begins."""
    robot = dataclasses.replace(ROBOT, sensors=(Sensor("joint_states", "JointState"), Sensor("again", "JointState")))
    messages = []
    for topic, kind, message in measured(20, np.random.default_rng(6)):
        messages.append((topic, kind, message))
        if topic == "/joint_states":
            messages.append(("/again", kind, dataclasses.replace(message, position=message.position + 0.01)))
    rows = import_events(read_events(record(tmp_path / "bag", messages), robot, FilterConfig()), DT).rows
    assert len(rows) == 19
    for a, b in pairwise(rows):
        np.testing.assert_array_equal(a.x_next, b.x)


def test_trials_are_read(tmp_path):
    messages = [("/trial", STATUS, trial_message(6, "cartpole")), *measured(3, np.random.default_rng(4))]
    assert {row.trial for row in load(record(tmp_path / "bag", messages)).rows} == {6}


@pytest.mark.parametrize("index", ["9" * 30, "9" * 5000, str(2**63), "²", "٣", "-1", ""])
def test_a_trial_with_an_index_that_is_none_is_passed_over(tmp_path, index):
    announced = trial_message(6, "cartpole")
    announced.values[0].value = index
    messages = [("/trial", STATUS, announced), *measured(3, np.random.default_rng(4))]
    assert {row.trial for row in load(record(tmp_path / "bag", messages)).rows} == {0}, "its trajectory is one"


def test_observations_of_a_clock_below_zero_are_left_out():
    stamps = [k * DT for k in range(-2, 3)]
    events = [Observed(s, np.ones(4)) for s in stamps] + [Applied(s, np.ones(1), "ok") for s in stamps]
    found = import_events(events, DT)
    assert [row.stamp_ns for row in found.rows] == [0, DT]
    assert found.left_out["observation from before the year 1970"] == 2


@pytest.mark.parametrize("missing", ["/joint_states", "/applied_command"])
def test_a_topic_that_was_not_recorded_is_named_with_those_that_were(tmp_path, missing):
    messages = [m for m in measured(3, np.random.default_rng(5)) if m[0] != missing]
    with pytest.raises(BagError, match=f"{missing}.*it has /"):
        load(record(tmp_path / "bag", messages))


def test_a_bag_of_another_robot_is_refused(tmp_path):
    messages = [
        ("/observation", JOINT_STATE, joint_state(0, "", ["knee", "hip"], **ones())),
        ("/applied_command", JOINT_STATE, joint_state(0, "ok", ["knee"], effort=np.ones(1))),
    ]
    with pytest.raises(BagError, match=r"\['knee', 'hip'\], the robot 'cartpole' has"):
        load(record(tmp_path / "bag", messages))


def test_sensors_of_another_robot_are_refused(tmp_path):
    messages = [
        ("/joint_states", JOINT_STATE, joint_state(0, "", ["knee", "hip"], **ones())),
        ("/applied_command", JOINT_STATE, joint_state(0, "ok", list(ROBOT.actuators), effort=np.ones(1))),
    ]
    with pytest.raises(BagError, match=r"\['knee', 'hip'\], the robot 'cartpole' has"):
        load(record(tmp_path / "bag", messages))


def test_a_gripper_on_the_topic_of_the_joints_is_passed_over(tmp_path):
    """It comes first and at the same stamps, as two broadcasters on one topic do; what is learned stays the same."""
    messages = list(measured(20, np.random.default_rng(8)))
    with_gripper = []
    for k, (topic, kind, message) in enumerate(messages):
        if topic == "/joint_states":
            fingers = joint_state(k // 2 * DT, "", ["finger"], position=np.ones(1), velocity=np.ones(1))
            with_gripper.append((topic, JOINT_STATE, fingers))
        with_gripper.append((topic, kind, message))
    alone, both = load(record(tmp_path / "alone", messages)), load(record(tmp_path / "both", with_gripper))
    assert len(alone.rows) == len(both.rows) == 19 and alone.left_out == both.left_out
    np.testing.assert_array_equal([row.x_next for row in alone.rows], [row.x_next for row in both.rows])


def test_what_is_no_bag_or_a_damaged_one_is_refused(rows, tmp_path):
    with pytest.raises(BagError, match="no such bag"):
        load(tmp_path / "nothing")
    (tmp_path / "killed").mkdir()
    with pytest.raises(BagError, match=r"metadata.yaml is missing.*mbrl_ros bag recover"):
        load(tmp_path / "killed")
    for kind in FORMATS:
        export(rows, tmp_path / kind, kind)
        (file,) = (p for p in (tmp_path / kind).iterdir() if p.suffix != ".yaml")
        file.write_bytes(file.read_bytes()[:2000])
        with pytest.raises(BagError, match=str(tmp_path / kind)):
            load(tmp_path / kind)
