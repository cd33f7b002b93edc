"""`mbrl_ros trial` and `mbrl_ros model`: what is wrong with the words is said before anything is asked."""

import pytest
from ros_domain import own_domain

from mbrl_ros.cli import main


def test_a_file_belongs_to_load_only(capsys):
    assert main(["model", "save", "model.safetensors"]) == 2
    assert "file: 'model.safetensors' is not allowed with save; expected none" in capsys.readouterr().err


def test_unknown_words_list_the_known_ones(capsys):
    for words in (["trial", "begin"], ["model", "forget"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "choose from" in capsys.readouterr().err


def test_where_nothing_runs_that_is_said(capsys, monkeypatch):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(own_domain(__file__)))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    assert main(["trial", "stop", "--timeout", "0.3", "--namespace", "lab"]) == 2
    assert capsys.readouterr().err == (
        "mbrl_ros: no /lab/trial_manager/stop here: is the graph running, in ROS domain "
        f"{own_domain(__file__)} (ROS_DOMAIN_ID) and in that namespace (--namespace)?\n"
    )
