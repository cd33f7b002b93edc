"""The recorder: raw messages as they were, latched ones too, a bag that is ended in order, and no harm without it."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray

from mbrl_ros.data.bag_reader import opened
from mbrl_ros.data.bag_recovery import recover_bag
from mbrl_ros.data.recorded_topics import RecordedTopic
from mbrl_ros.errors import MissingDependencyError
from mbrl_ros.nodes import rosbag2
from mbrl_ros.nodes.pipeline_node import LATCHED
from mbrl_ros.nodes.recorder import Recorder
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.urdf_text import urdf_text

DOMAIN = own_domain(__file__)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def joint_state(second):
    message = JointState(name=["cart_slider"], position=[0.1 * second], velocity=[float("nan")])
    message.header.stamp.sec, message.header.frame_id = second, "remark"
    return message


class Graph:
    """A recorder, and a node that stands in for the others."""

    def __init__(self, tmp_path, *parameters):
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        words = [f"bag:={tmp_path / 'bag'}", "storage:=rosbags", "flush_period:=0.05", *parameters]
        rclpy.init(args=["--ros-args", *(w for word in words for w in ("-p", word))], domain_id=DOMAIN)
        self.node = rclpy.create_node("others")
        self.models = self.node.create_publisher(UInt8MultiArray, "dynamics_model", LATCHED)
        self.models.publish(UInt8MultiArray(data=bytes(range(200))))  # before the recording begins
        self.sensors = self.node.create_publisher(JointState, "joint_states", BEST_EFFORT)
        self.observations = self.node.create_publisher(JointState, "observation", 50)
        self.recorder = Recorder()
        self.executor = SingleThreadedExecutor()
        for node in (self.recorder, self.node):
            self.executor.add_node(node)

    def until(self, done, timeout=10.0):
        end = time.monotonic() + timeout
        while not done() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        return done()

    def close(self):
        self.recorder.leave()
        self.executor.shutdown()
        self.recorder.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A graph that has recorded a few messages, and the bag."""
    tmp_path = tmp_path_factory.mktemp("recorder")
    graph = Graph(tmp_path)
    recording, taken = graph.recorder.recording, Counter()
    put = recording.put
    recording.put = lambda topic, *what: (taken.update([topic]), put(topic, *what))
    assert graph.until(lambda: graph.sensors.get_subscription_count() and graph.observations.get_subscription_count())
    began = graph.recorder.began_ns
    for second in range(5):
        graph.sensors.publish(joint_state(second))
        graph.observations.publish(joint_state(second))
    expected = {"/joint_states": 5, "/observation": 5, "/dynamics_model": 1, "/robot_description": 1, "/diagnostics": 1}
    assert graph.until(lambda: all(taken[name] >= n for name, n in expected.items())), taken
    assert graph.until(lambda: recording.written >= taken.total()), taken
    status = graph.recorder.status()
    graph.close()
    return began, status, tmp_path / "bag"


def messages(bag, topic):
    with opened(bag) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [(time, bytes(data)) for _, time, data in reader.messages(connections)]


@pytest.mark.parametrize("topic", ["/joint_states", "/observation"])
def test_messages_are_in_the_bag_as_they_were_sent(recorded, topic):
    _, _, bag = recorded
    found = [deserialize_message(data, JointState) for _, data in messages(bag, topic)]
    assert list(map(repr, found)) == [repr(joint_state(second)) for second in range(5)]  # NaN is not equal to itself


def test_a_latched_message_from_before_comes_at_the_beginning(recorded):
    began, _, bag = recorded
    ((time, data),) = messages(bag, "/dynamics_model")
    assert deserialize_message(data, UInt8MultiArray) == UInt8MultiArray(data=bytes(range(200)))
    assert time == began
    times = [t for topic in ("/joint_states", "/observation") for t, _ in messages(bag, topic)]
    assert len(times) == 10 and all(began < t < began + 60e9 for t in times)


def test_the_urdf_is_in_the_bag(recorded):
    _, _, bag = recorded
    with opened(bag) as reader:
        connections = [c for c in reader.connections if c.topic == "/robot_description"]
        texts = [reader.deserialize(data, c.msgtype).data for c, _, data in reader.messages(connections)]
    assert texts == [urdf_text(load_robot("cartpole").urdf)]


def test_the_status_says_what_was_written(recorded):
    _, (level, values), bag = recorded
    assert level == b"\x00" and values["bag"] == bag and values["messages"] >= 12 and values["dropped"] == 0


def test_a_small_buffer_drops_what_does_not_fit_and_says_so(tmp_path):
    graph = Graph(tmp_path, "buffer_mb:=0.001")
    assert graph.until(graph.models.get_subscription_count)
    graph.models.publish(UInt8MultiArray(data=bytes(5000)))
    assert graph.until(lambda: graph.recorder.recording.dropped)
    assert graph.recorder.status()[0] == b"\x01"
    graph.close()


def process(tmp_path, *parameters):
    """The recorder as a process."""
    words = [f"bag:={tmp_path / 'bag'}", "storage:=rosbags", "flush_period:=0.1", *parameters]
    arguments = [w for word in words for w in ("-p", word)]
    environment = dict(os.environ) | {"ROS_DOMAIN_ID": str(DOMAIN), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return subprocess.Popen(
        [sys.executable, "-m", "mbrl_ros.nodes.recorder", "--ros-args", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_messages(bag):
    """Until something of its own (diagnostics, the URDF) is on the disk."""
    end = time.monotonic() + 30
    while not (bag / "bag.mcap").exists() or (bag / "bag.mcap").stat().st_size < 15400:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_leaves_a_whole_bag(tmp_path, signum):
    recorder = process(tmp_path)
    wait_for_messages(tmp_path / "bag")
    recorder.send_signal(signum)
    said, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 0 and "Traceback" not in said, said
    assert len(messages(tmp_path / "bag", "/diagnostics")) > 0


def test_killed_it_leaves_what_was_written_up_to_the_last_flush(tmp_path):
    recorder = process(tmp_path)
    wait_for_messages(tmp_path / "bag")
    recorder.kill()
    recorder.communicate(timeout=20)
    recover_bag(tmp_path / "bag", tmp_path / "saved")
    assert len(messages(tmp_path / "saved", "/robot_description")) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (("bag:=.",), "bag: . exists already; expected the name of a new folder"),
        (("bag:=''",), "bag: empty, and there is no run folder"),
        (("storage:=tape",), "storage: 'tape' is not allowed"),
        (("storage:=rosbag2",), "storage: rosbag2 needs"),
    ],
)
def test_a_mistake_is_a_message(tmp_path, parameters, message):
    if message.endswith("needs") and not rosbag2.missing_packages():
        pytest.skip("rosbag2 is installed")
    recorder = process(tmp_path, *parameters)
    said, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 2 and message in said and "Traceback" not in said, said


# rosbag2, which is not on every machine

TOPICS = [
    RecordedTopic("/lab/joint_states", "sensor_msgs/msg/JointState", reliable=False),
    RecordedTopic("/lab/trial", "diagnostic_msgs/msg/DiagnosticStatus", latched=True),
]


def test_rosbag2_is_asked_for_mcap_every_topic_and_a_qos_that_fits(tmp_path):
    command = rosbag2.record_command(tmp_path / "bag", TOPICS, tmp_path / "qos.yaml")
    assert command[:3] == ["ros2", "bag", "record"]
    assert command[command.index("--storage") + 1] == "mcap"
    assert command[command.index("--output") + 1] == str(tmp_path / "bag")
    assert command[command.index("--topics") + 1 :] == ["/lab/joint_states", "/lab/trial"]
    qos = yaml.safe_load(rosbag2.qos_overrides(TOPICS))
    assert qos["/lab/joint_states"]["reliability"] == "best_effort"
    assert qos["/lab/trial"] == {
        "history": "keep_last",
        "depth": rosbag2.DEPTH,
        "reliability": "reliable",
        "durability": "transient_local",
    }


def fake_ros2(tmp_path, monkeypatch, script):
    """A program called ros2 that stands in for the real one."""
    program = tmp_path / "bin" / "ros2"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(rosbag2, "missing_packages", list)


def test_rosbag2_runs_until_it_is_asked_to_end(tmp_path, monkeypatch):
    script = """
import signal, sys, time
def end(*_):
    open(sys.argv[sys.argv.index("--output") + 1], "w").write("ended")
    sys.exit(0)
signal.signal(signal.SIGINT, end)
open(sys.argv[sys.argv.index("--output") + 1] + ".up", "w")
time.sleep(60)
"""
    fake_ros2(tmp_path, monkeypatch, script)
    recording = rosbag2.Rosbag2Recording(tmp_path / "bag", TOPICS)
    end = time.monotonic() + 10
    while not Path(f"{tmp_path / 'bag'}.up").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert recording.problem == ""
    recording.close()
    assert (tmp_path / "bag").read_text() == "ended"


def test_rosbag2_that_ends_by_itself_is_a_problem(tmp_path, monkeypatch):
    fake_ros2(tmp_path, monkeypatch, "raise SystemExit(3)")
    recording = rosbag2.Rosbag2Recording(tmp_path / "bag", TOPICS)
    end = time.monotonic() + 10
    while not recording.problem and time.monotonic() < end:
        time.sleep(0.02)
    assert recording.problem.endswith("ros2 bag record has ended with exit code 3")
    recording.close()


def test_without_rosbag2_who_asks_for_it_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(rosbag2, "missing_packages", lambda: ["ros2bag"])
    with pytest.raises(MissingDependencyError, match="rosbag2 needs ros2bag: sudo apt install ros-jazzy-rosbag2"):
        rosbag2.Rosbag2Recording(tmp_path / "bag", TOPICS)
