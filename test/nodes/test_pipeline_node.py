"""What the nodes share: links of the graph in lockstep and in real time."""

import signal
import time

import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

from mbrl_ros.nodes.pipeline_node import PipelineNode, run


@pytest.fixture
def ros(request, monkeypatch):
    """Two nodes of a graph, one after the other, in a ROS domain of their own."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    arguments = ["--ros-args", "-p", f"lockstep:={request.param}"]
    rclpy.init(args=arguments, domain_id=own_domain(__file__))
    nodes = []

    def make(name):
        nodes.append(PipelineNode(name))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def receive(node, publisher, received):
    """Serve until something came in; a second after both ends are connected nothing will come any more."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    connected, limit = None, time.monotonic() + 20.0
    while not received and time.monotonic() < limit:
        executor.spin_once(timeout_sec=0.05)
        if publisher.get_subscription_count():
            connected = connected or time.monotonic()
            limit = connected + 1.0
    assert connected is not None
    return received


@pytest.mark.parametrize(("ros", "expected"), [("true", ["first tick"]), ("false", [])], indirect=["ros"])
def test_only_in_lockstep_a_late_listener_gets_what_was_sent_before(ros, expected):
    publisher = ros("state_estimator").publish_to(String, "observation")
    publisher.publish(String(data="first tick"))
    listener, received = ros("command_guard"), []
    listener.listen_to(String, "observation", lambda message: received.append(message.data))
    assert receive(listener, publisher, received) == expected


def test_a_node_is_left_in_order_whatever_ends_it(monkeypatch):
    left = []

    class Frail(PipelineNode):
        def __init__(self):
            super().__init__("state_estimator")

        def leave(self):
            left.append(self.get_name())

    def fail(node):
        raise RuntimeError("unexpected")

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setattr("sys.argv", ["node"])
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(RuntimeError, match="unexpected"):
            run(Frail, fail)
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    assert left == ["state_estimator"]
