"""Bring-up without ROS: missing packages, exit codes in words."""

import subprocess
import sys

import pytest

from mbrl_ros import bringup
from mbrl_ros.errors import MissingDependencyError


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(bringup.PACKAGES, "no_such_package", "pip install no-such-package")
    with pytest.raises(MissingDependencyError, match="no_such_package is not installed: pip install no-such-package"):
        bringup.require_packages()


def test_exit_codes_in_words():
    assert bringup.exit_status(-9) == "killed by SIGKILL"
    assert bringup.exit_status(2) == "exit code 2"


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "node.log"
    log.write_text("\n".join(str(k) for k in range(100)))
    assert bringup.tail(log).splitlines() == [str(k) for k in range(88, 100)]
    assert bringup.tail(tmp_path / "none.log") == ""


def test_arguments_of_a_node(tmp_path):
    assert "__ns:=/robot_1" in bringup.node_arguments(tmp_path, "robot_1", "info")
    assert not any("__ns" in a for a in bringup.node_arguments(tmp_path, "", "info"))


class Sleeper:
    """A graph of processes that write down when they are asked to end."""

    CODE = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(float(sys.argv[3])); open(sys.argv[1], 'a').write(sys.argv[2] + '\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)\n"
    )

    def __init__(self, log, **delays):
        self.log = log
        self.graph = bringup.Graph.__new__(bringup.Graph)
        self.graph._logs = log.parent
        self.graph.processes = {
            name: subprocess.Popen(
                [sys.executable, "-c", self.CODE, str(log), name, str(delay)], stdout=subprocess.PIPE, text=True
            )
            for name, delay in delays.items()
        }
        for process in self.graph.processes.values():
            assert process.stdout.readline() == "up\n"


def test_the_guard_has_left_before_the_others_are_asked_to(tmp_path):
    it = Sleeper(tmp_path / "order", mpc_controller=0.0, command_guard=0.3, state_estimator=0.0)
    it.graph.stop()
    assert it.log.read_text().splitlines()[0] == "command_guard"
    assert all(process.poll() == 0 for process in it.graph.processes.values())


def test_a_node_that_was_asked_to_end_has_not_died(tmp_path):
    it = Sleeper(tmp_path / "order", mpc_controller=0.0, trial_manager=0.0)
    assert it.graph.ended() is None
    it.graph.processes["mpc_controller"].terminate()
    it.graph.processes["mpc_controller"].wait()
    assert it.graph.ended() == bringup.Ending(bringup.INTERRUPTED)
    it.graph.processes["trial_manager"].kill()
    it.graph.processes["trial_manager"].wait()
    it.graph.processes.pop("mpc_controller")
    assert (it.graph.ended().code, it.graph.ended().died) == (1, "trial_manager")
