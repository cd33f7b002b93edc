"""The trial manager goes on where its run folder cannot be written."""

import os

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.errors import MbrlError
from mbrl_ros.nodes.trial_manager import ARM_EVERY, TrialManager


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


class Answer:
    """A service call that is over."""

    def __init__(self, success):
        self.success, self.message = success, "" if success else "not armed: the observation's stamp is old"

    def done(self):
        return True

    def result(self):
        return self


class Guard:
    """Refuses to arm a few times."""

    srv_name = "command_guard/arm"

    def __init__(self, refusals):
        self.refusals, self.asked = refusals, 0

    def call_async(self, request):
        self.asked += 1
        return Answer(self.asked > self.refusals)


@pytest.fixture
def in_simulation(manager, monkeypatch):
    """The manager with services that answer at once."""
    called = []
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(manager)
    monkeypatch.setattr(manager, "call", lambda name, request: called.append((name, getattr(request, "data", None))))
    monkeypatch.setattr(manager, "announce", lambda phase, index, policy: called.append((phase, index)))
    yield called
    executor.shutdown()


def test_what_prevents_arming_for_a_moment_does_not_end_the_run(manager, in_simulation):
    manager.service_clients["arm"] = Guard(refusals=2)
    manager.start_in_simulation(3, "mpc")
    assert in_simulation == [("reset", None), ("run", 3), ("run", True)]
    assert manager.record is not None


def test_what_prevents_arming_for_long_ends_the_run_with_the_reason(manager, in_simulation):
    manager.service_clients["arm"] = Guard(refusals=1000)
    with pytest.raises(MbrlError, match="command_guard/arm: not armed: the observation's stamp is old"):
        manager.start_in_simulation(3, "mpc")
    assert ("run", True) not in in_simulation, "the robot does not move"
    assert manager.service_clients["arm"].asked <= 2 + ARM_EVERY / manager.robot.dt
