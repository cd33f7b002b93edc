"""Bring-up without ROS: missing packages, exit codes in words."""

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
