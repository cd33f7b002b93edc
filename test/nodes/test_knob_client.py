"""Knobs of a running node: found, turned, refused with a reason."""

import os
import time

import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor

from mbrl_ros.nodes.knob_client import KnobClient
from mbrl_ros.nodes.visualizer import Visualizer


@pytest.fixture(scope="module")
def viewer():
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    rclpy.init(args=[], domain_id=own_domain(__file__))
    node = Visualizer()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()


def test_a_knob_is_found_turned_and_refused(viewer):
    node, executor = viewer
    found, answers = {}, []
    client = KnobClient(node, ["visualizer", "mpc_controller"], lambda name, knobs: found.update({name: knobs}))

    def until(done):
        end = time.monotonic() + 10.0
        while not done() and time.monotonic() < end:
            client.poll(lambda *answer: answers.append(answer))
            executor.spin_once(timeout_sec=0.02)
        assert done()

    until(lambda: found)
    knobs = {knob.name: knob for knob in found["visualizer"]}
    assert set(knobs) == {"rate", "particles", "candidates"} and knobs["particles"].value == 10
    client.turn(knobs["particles"], 3)
    client.turn(knobs["particles"], 20)  # the newest counts
    until(lambda: answers)
    assert answers == [("visualizer", "particles", 20, "")] and node.config.particles == 20
    client.turn(knobs["rate"], 7)  # sliders may send a whole number
    until(lambda: len(answers) == 2)
    assert node.config.rate == 7.0 and node.timer.timer_period_ns == round(1e9 / 7)
    client.turn(knobs["rate"], 500.0)
    until(lambda: len(answers) == 3)
    _, name, value, reason = answers[2]
    assert (name, value, node.config.rate) == ("rate", 7.0, 7.0) and "rate" in reason
