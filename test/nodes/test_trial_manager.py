"""The trial manager goes on where its run folder cannot be written."""

import os

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.nodes.trial_manager import TrialManager


@pytest.fixture
def manager(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=["--ros-args", "-p", f"output:={tmp_path}/run"], domain_id=1 + (os.getpid() + 57) % 100)
    node = TrialManager()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_a_full_disk_is_reported_and_the_trials_go_on(manager, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    record = TrialRecord(0, "base")
    for k in range(3):
        record.observations[k] = np.array([0.0, 3.1, 0.0, 0.0])
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full)
        manager.keep(record)
        manager.write("interrupted")
        assert "No space left on device" in manager.trouble
    assert len(manager.results) == 1, "the score is kept"
    manager.write("interrupted")
    assert manager.trouble == ""
    assert (manager.folder / "summary.json").exists()
