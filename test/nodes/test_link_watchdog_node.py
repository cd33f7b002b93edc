"""The link watchdog node with real messages."""

import time

import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Float64MultiArray

from mbrl_ros.nodes.link_watchdog import LinkWatchdogNode
from mbrl_ros.nodes.pipeline_node import RELIABLE, WARN


def test_it_repeats_the_guard_and_takes_over_when_the_guard_is_silent(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=["--ros-args", "-p", "timeout:=4.0"], domain_id=own_domain(__file__))
    link, others = LinkWatchdogNode(), rclpy.create_node("others")
    try:
        link.bring_up()
        executor, received = SingleThreadedExecutor(), []
        executor.add_node(link)
        executor.add_node(others)
        guard = others.create_publisher(Float64MultiArray, "guarded_commands", RELIABLE)
        others.create_subscription(
            Float64MultiArray, "effort_controller/commands", lambda m: received.append(list(m.data)), RELIABLE
        )

        def until(done):
            end = time.monotonic() + 20.0
            while not done():
                assert time.monotonic() < end, received
                executor.spin_once(timeout_sec=0.02)

        until(lambda: guard.get_subscription_count() and link.unconnected() == ["joint_states"])
        guard.publish(Float64MultiArray(data=[7.0]))
        until(lambda: [7.0] in received)
        guard.publish(Float64MultiArray(data=[float("nan")]))
        guard.publish(Float64MultiArray(data=[-99.0]))
        until(lambda: [-10.0] in received)
        until(lambda: received.count([0.0]) >= 3)
        assert received[:2] == [[7.0], [-10.0]] and set(map(tuple, received[2:])) == {(0.0,)}
        level, values = link.status()
        assert level == WARN and values["refused"] == 1 and "the guard is silent for" in values["reason"]
        guard.publish(Float64MultiArray(data=[1.0]))
        until(lambda: received[-1] == [1.0])
        link.trigger_deactivate()
        until(lambda: received[-1] == [0.0])
    finally:
        for node in (link, others):
            node.destroy_node()
        rclpy.shutdown()
