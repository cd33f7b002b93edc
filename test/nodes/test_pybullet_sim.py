"""The simulator node's time."""

import os
import time

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_srvs.srv import SetBool

from mbrl_ros.nodes.pybullet_sim import PyBulletSim


@pytest.fixture
def simulator(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=[], domain_id=1 + (os.getpid() + 70) % 100)
    node = PyBulletSim()
    yield node
    node.leave()
    node.destroy_node()
    rclpy.shutdown()


def test_the_first_tick_comes_a_whole_period_after_the_start(simulator):
    """Otherwise stamps run ahead of the clock, and the guard takes commands that come too late for ones in time."""
    time.sleep(0.4 * simulator.robot.dt)
    before = time.monotonic_ns()
    simulator.on_run(SetBool.Request(data=True), SetBool.Response())
    ahead = simulator.timer.time_until_next_call()
    assert time.monotonic_ns() - before + ahead >= simulator.dt_ns
