"""The link watchdog node on robots of every interface: it repeats the guard, and its safe action is the right one."""

import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState

from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.link_watchdog import GUARDED, LinkWatchdogNode
from mbrl_ros.nodes.pipeline_node import RELIABLE
from mbrl_ros.robots.description import load_robot

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "robots" / "examples"
HELD = [0.5, 1.0]  # rad, where the arm's joints are
CASES = [  # file, interface, message, what it is told, the safe action
    ("arm", "position", "Float64MultiArray", [0.3, 0.8], HELD),
    ("arm", "position", "JointTrajectory", [0.3, 0.8], HELD),
    ("arm", "position", "JointState", [0.3, 0.8], HELD),
    ("arm", "velocity", "Float64MultiArray", [0.3, -0.8], [0.0, 0.0]),
    ("arm", "effort", "JointState", [0.3, -0.8], [0.0, 0.0]),
    ("base", "twist", "TwistStamped", [0.3, -0.8], [0.0, 0.0]),
    ("base", "twist", "Twist", [0.3, -0.8], [0.0, 0.0]),
]


def described(folder, name, interface, message):
    """The YAML of an example with another interface or message."""
    values = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    values |= {"command_interface": interface, "command_message": message, "effort_limit": [1.0, 1.0]}
    values["command_topic"] = "robot/command"
    if name == "base":
        del values["effort_limit"]
    else:
        values["urdf"] = str(EXAMPLES / values["urdf"])
        values["sensors"] = [{"topic": "arm/joint_states", "type": "JointState"}]
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(("name", "interface", "message", "told", "safe"), CASES)
def test_it_repeats_the_guard_and_then_sends_the_safe_action(
    tmp_path, monkeypatch, name, interface, message, told, safe
):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    path = described(tmp_path, name, interface, message)
    output = command_output(load_robot(str(path)))
    rclpy.init(args=["--ros-args", "-p", f"robot:={path}"], domain_id=own_domain(__file__))
    link, others = LinkWatchdogNode(), rclpy.create_node("others")
    try:
        link.bring_up()
        executor, received = SingleThreadedExecutor(), []
        executor.add_node(link)
        executor.add_node(others)
        guard = others.create_publisher(output.kind, GUARDED, RELIABLE)
        joints = others.create_publisher(JointState, "arm/joint_states", RELIABLE)
        others.create_subscription(output.kind, "robot/command", received.append, RELIABLE)

        def until(done):
            end = time.monotonic() + 20.0
            while not done():
                assert time.monotonic() < end, received
                if name == "arm":
                    joints.publish(JointState(name=["shoulder", "elbow"], position=HELD))
                executor.spin_once(timeout_sec=0.02)

        until(lambda: not link.unconnected())
        until(lambda: name == "base" or link.watchdog._state is not None)
        guard.publish(output.write(time.time_ns(), np.array(told)))
        until(lambda: received)
        assert output.read(received[0]).tolist() == told
        until(lambda: len(received) >= 4)
        assert all(output.read(m).tolist() == safe for m in received[1:])
        if message == "TwistStamped":
            stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in received]
            assert stamps == sorted(set(stamps)), "each has a stamp of its own: drivers drop old ones"
        guard.publish(output.write(time.time_ns(), np.full(2, np.nan)))
        until(lambda: link.watchdog.counts["refused"] == 1)
    finally:
        for node in (link, others):
            node.destroy_node()
        rclpy.shutdown()
