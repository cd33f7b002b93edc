"""Nodes speak through UDP, however they are started, unless the user says otherwise: Fast DDS must heed it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rclpy
from ros_domain import own_domain

from mbrl_ros.transport import PROFILES, RANGE, TRANSPORTS

DOMAIN = own_domain(__file__)


def shared_memory(pid):
    """Shared memory of Fast DDS that a process has mapped, as the kernel sees it."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in maps if "/dev/shm/fastrtps" in line]


@pytest.fixture
def observer(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("observer", context=context)
    yield node
    node.destroy_node()
    context.shutdown()


@pytest.mark.parametrize("limit", ["LOCALHOST", "SUBNET"])
@pytest.mark.parametrize(
    ("given", "used"), [({}, False), ({TRANSPORTS: "UDPv4"}, False), ({TRANSPORTS: "DEFAULT"}, True)]
)
def test_a_node_started_by_hand(observer, limit, given, used):
    environment = {k: v for k, v in os.environ.items() if k not in (TRANSPORTS, PROFILES)} | given | {RANGE: limit}
    environment["ROS_DOMAIN_ID"] = str(DOMAIN)
    process = subprocess.Popen([sys.executable, "-m", "mbrl_ros.nodes.lifecycle_manager"], env=environment)
    try:
        end = time.monotonic() + 30.0
        while "lifecycle_manager" not in observer.get_node_names():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        assert bool(shared_memory(process.pid)) == used
    finally:
        process.terminate()
        process.wait(10.0)
