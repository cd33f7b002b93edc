"""The relay, the stranger and the observer of `mbrl_ros bench faults`, with real messages."""

import time

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray

from mbrl_ros.benchmarks.faults.actions import NotANumber
from mbrl_ros.benchmarks.faults.disturbances import Delayed, Silent
from mbrl_ros.errors import MbrlError
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import from_command, to_command, to_status
from mbrl_ros.nodes.fault_observer import FaultObserver, Served
from mbrl_ros.nodes.fault_relay import FaultRelay, Stranger
from mbrl_ros.nodes.pipeline_node import OK, RELIABLE
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import load_robot

EXAMPLES = share_directory() / "config" / "robots" / "examples"
CARTPOLE, ARM, BASE = map(load_robot, ("cartpole", str(EXAMPLES / "arm.yaml"), str(EXAMPLES / "base.yaml")))


def until(done, timeout=20.0):
    end = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def bench(monkeypatch):
    """A thread that serves the nodes, and a node that is all the others."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(own_domain(__file__)))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    served = Served()
    others = rclpy.create_node("others", context=served.context)
    served.add(others)
    yield served, others
    served.close()


def stamps(messages):
    return [m.header.stamp.sec for m in messages]


def test_the_relay_passes_on_delays_and_silences(bench):
    served, others = bench
    relay, got = served.add(FaultRelay(CARTPOLE, served.context)), []
    others.create_subscription(JointState, "command", got.append, RELIABLE)
    owner = others.create_publisher(JointState, "command/original", RELIABLE)
    served.start()
    until(lambda: owner.get_subscription_count() and relay.connected("command"))

    def send(second):
        owner.publish(to_command(second * 10**9, ("a",), [1.0]))

    send(1)
    until(lambda: stamps(got) == [1])
    relay.disturb("command", Silent())
    send(2)
    time.sleep(0.3)
    relay.heal("command")
    relay.disturb("command", Delayed(0.2))
    before = time.monotonic()
    send(3)
    until(lambda: stamps(got) == [1, 3])
    assert time.monotonic() - before >= 0.2, "not before its time"
    relay.heal("command")
    send(4)
    until(lambda: stamps(got) == [1, 3, 4])


def test_the_stranger_knows_the_genuine_message_and_speaks_until_it_is_told_to_stop(bench):
    served, others = bench
    stranger, got = served.add(Stranger(CARTPOLE, served.context)), []
    others.create_subscription(JointState, "command", got.append, RELIABLE)
    owner = others.create_publisher(JointState, "command", RELIABLE)
    served.start()
    until(lambda: owner.get_subscription_count() == 2)
    owner.publish(to_command(7, ("a",), [1.0], "genuine"))
    until(lambda: "command" in stranger.samples)
    stranger.begin("command", [to_command(0, ("a",), [2.0], "foreign")], fresh=True)
    until(lambda: len(got) > 3)
    spoke_ns = time.time_ns()
    stranger.end()
    stranger.note("command", got[-1], {"source_timestamp": spoke_ns})  # one of them that comes late
    assert got[-1].header.frame_id == "foreign"
    assert got[-1].header.stamp.sec > 1_500_000_000, "with a stamp of now"
    assert stranger.samples["command"].header.frame_id == "genuine", "its own are none"


def test_the_observer_notes_what_comes_and_when(bench):
    served, others = bench
    observer = served.add(FaultObserver(CARTPOLE, served.context))
    publishers = [
        others.create_publisher(kind, topic, RELIABLE)
        for kind, topic in (
            (Float64MultiArray, "effort_controller/commands"),
            (JointState, "applied_command"),
            (DiagnosticArray, "/diagnostics"),
        )
    ]
    served.start()
    until(lambda: all(p.get_subscription_count() for p in publishers))
    before, seen = time.monotonic(), observer.recording
    values = {"transitions": 12, "not_stored_yet": 2, "problem": ""}
    publishers[0].publish(Float64MultiArray(data=[3.0]))
    publishers[1].publish(to_command(0, ("a",), [3.0], "limited"))
    publishers[2].publish(DiagnosticArray(status=[to_status("model_learner: model", "", OK, "fitting", values)]))
    until(lambda: seen.actuators and seen.applied and seen.acknowledged)
    assert [v for _, v in seen.actuators] == [(3.0,)]
    assert [flag for _, flag in seen.applied] == ["limited"]
    assert seen.acknowledged == 10, "what waits in memory is not acknowledged"
    assert [t for _, t in seen.said][:2] == ["model_learner: model: fitting", "model_learner: model: transitions: 12"]
    assert all(before <= t <= time.monotonic() for t, _ in (*seen.actuators, *seen.applied, *seen.said))


@pytest.mark.parametrize("robot", [ARM, BASE], ids=lambda robot: robot.name)
def test_the_observer_reads_the_commands_of_any_interface(bench, robot):
    served, others = bench
    observer = served.add(FaultObserver(robot, served.context))
    output = command_output(robot)
    actuators = others.create_publisher(output.kind, robot.output_topic, RELIABLE)
    served.start()
    until(actuators.get_subscription_count)
    actuators.publish(output.write(7, np.array([0.25, -0.5])))
    until(lambda: observer.recording.actuators)
    assert [v for _, v in observer.recording.actuators] == [(0.25, -0.5)]


def test_the_relay_stands_in_the_sensors_of_the_robot(bench):
    served, others = bench
    relay, got = served.add(FaultRelay(BASE, served.context)), []
    others.create_subscription(Imu, "imu/data", got.append, RELIABLE)
    owner = others.create_publisher(Imu, "imu/data/original", RELIABLE)
    served.start()
    until(lambda: owner.get_subscription_count() and relay.connected("imu/data"))
    message = Imu()
    message.angular_velocity.z = 0.5
    owner.publish(message)
    until(lambda: [m.angular_velocity.z for m in got] == [0.5])


@pytest.mark.parametrize("robot", [CARTPOLE, ARM, BASE], ids=lambda robot: robot.name)
def test_a_link_that_turns_commands_into_nan_does_so_in_the_field_of_the_interface(robot):
    genuine = to_command(5, robot.actuators, np.full(len(robot.actuators), 0.5), interface=robot.command_interface)
    ((_, wrong),) = NotANumber(robot.command_interface).take(genuine, 1.0)
    assert np.isnan(from_command(wrong, robot.actuators, robot.command_interface)).all()
    assert np.isfinite(from_command(genuine, robot.actuators, robot.command_interface)).all(), "a copy"


def test_the_stranger_comes_and_goes_while_its_thread_is_busy(bench):
    """A publisher that is destroyed while the executor waits for it would end the thread in silence."""
    served, others = bench
    stranger, got = served.add(Stranger(CARTPOLE, served.context)), []
    others.create_subscription(JointState, "command", got.append, RELIABLE)
    others.create_timer(1e-3, lambda: None)
    served.start()
    for k in range(30):
        stranger.begin("command", [to_command(0, ("a",), [float(k)])], fresh=True)
        until(lambda: stranger.sent)
        stranger.end()
    until(lambda: got and got[-1].effort[0] == 29.0)


def test_a_stranger_whose_thread_has_ended_says_so(bench, monkeypatch):
    served, _ = bench
    stranger = served.add(Stranger(CARTPOLE, served.context))
    monkeypatch.setattr("mbrl_ros.nodes.fault_relay.ANSWER", 0.1)
    with pytest.raises(MbrlError, match="nobody serves it"):
        stranger.begin("command", [to_command(0, ("a",), [1.0])], fresh=True)
