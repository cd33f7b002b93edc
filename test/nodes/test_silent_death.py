"""Nodes that nobody watches over, as with ros2 run: who dies without a word is named in the others' diagnostics."""

import os
import subprocess
import sys
import time

import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor

from mbrl_ros.nodes.pipeline_node import RELIABLE

DOMAIN = own_domain(__file__)
NODES = ("state_estimator", "model_learner", "command_guard", "trial_manager")
WATCHERS = ("state_estimator", "trial_manager")


def start(name, folder):
    environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    arguments = ["--ros-args", "-p", f"output:={folder}"]
    return subprocess.Popen([sys.executable, "-m", f"mbrl_ros.nodes.{name}", *arguments], env=environment)


@pytest.fixture
def graph(tmp_path):
    processes = {name: start(name, tmp_path) for name in NODES}
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


def test_who_dies_is_named_and_who_comes_back_is_not(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node, said = rclpy.create_node("observer", context=context), {}
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def note(message):
        said.update({s.name: s for s in message.status})

    node.create_subscription(DiagnosticArray, "/diagnostics", note, RELIABLE)

    def until(done):
        end = time.monotonic() + 120.0
        while not done():
            assert time.monotonic() < end, {n: (s.level, s.message) for n, s in said.items() if "streams" in n}
            executor.spin_once(timeout_sec=0.1)

    def streams(watcher):
        return said.get(f"{watcher}: streams", DiagnosticStatus())

    def names(watcher, who):
        status = streams(watcher)
        return status.level == DiagnosticStatus.STALE and f"{who} (node): silent" in status.message

    def knows(watcher, who):
        return who == watcher or any(v.key == f"{who} (node) count" for v in streams(watcher).values)

    try:
        until(lambda: all(knows(watcher, who) for watcher in WATCHERS for who in NODES))
        for who in ("model_learner", "command_guard"):
            assert not any(names(watcher, who) for watcher in WATCHERS)
            graph[who].kill()
            until(lambda who=who: all(names(watcher, who) for watcher in WATCHERS))
        graph["command_guard"] = start("command_guard", tmp_path)
        until(lambda: not any(names(watcher, "command_guard") for watcher in WATCHERS))
        graph["trial_manager"].kill()
        until(lambda: names("state_estimator", "trial_manager"))
    finally:
        node.destroy_node()
        context.shutdown()
