"""The recorder is added to a run with what it must know of others; a bag of rosbag2 gets the run's parameters."""

import argparse

import pytest
import yaml

from mbrl_ros import recording
from mbrl_ros.commands import robot as robot_command
from mbrl_ros.errors import MissingDependencyError
from mbrl_ros.params_file import resolve
from mbrl_ros.recording import add_recorder, finish_recording


def test_the_recorder_knows_the_sensors_and_the_models(tmp_path):
    file = tmp_path / "params.yaml"
    nodes = {
        "state_estimator": {"filter.joint_topics": "left,right"},
        "mpc_controller": {"model_topic": "/fleet/models"},
        "recorder": {"buffer_mb": 2.0},
    }
    file.write_text(yaml.safe_dump({name: {"ros__parameters": values} for name, values in nodes.items()}))
    parameters = resolve({"lockstep": True}, file)
    assert add_recorder(parameters, file).name == "recorder"
    own = parameters["recorder"]
    assert (own["filter.joint_topics"], own["model_topic"], own["buffer_mb"]) == ("left,right", "/fleet/models", 2.0)
    assert own["lockstep"] is True and own["robot"] == "cartpole"


def test_without_anything_that_writes_bags_the_run_does_not_begin(monkeypatch):
    monkeypatch.setattr(recording, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install -r requirements\.txt for rosbags, or sudo apt"):
        add_recorder(resolve({}, None), None)


def test_a_robot_s_yaml_as_parameter_file_is_none_of_the_recorder_s(monkeypatch):
    """`mbrl_ros robot --record --params-file my_robot.yaml`."""
    path = robot_command.Path(__file__).parents[1] / "config" / "robots" / "examples" / "arm.yaml"
    seen = {}

    def run_graph(parameters, arguments, command_line, nodes):
        seen["node"] = add_recorder(parameters, arguments.params_file).name
        seen["robot"] = parameters["recorder"]["robot"]
        return 0

    monkeypatch.setattr(robot_command, "run_graph", run_graph)
    monkeypatch.setattr(robot_command, "require_packages", lambda without: None)
    arguments = argparse.Namespace(params_file=path, namespace="", robot=None, record=True, link=False)
    assert robot_command.run(arguments) == 0
    assert seen == {"node": "recorder", "robot": str(path)}


def test_the_newest_bag_gets_the_parameters_unless_it_has_them(tmp_path):
    (tmp_path / "parameters.yaml").write_text("new: {}\n")
    finish_recording(tmp_path)  # there is no bag
    for name in ("bag", "bag_2"):
        (tmp_path / name).mkdir()
    finish_recording(tmp_path)
    assert (tmp_path / "bag_2" / "parameters.yaml").read_text() == "new: {}\n"
    assert not (tmp_path / "bag" / "parameters.yaml").exists()
    (tmp_path / "bag_2" / "parameters.yaml").write_text("old: {}\n")
    finish_recording(tmp_path)
    assert (tmp_path / "bag_2" / "parameters.yaml").read_text() == "old: {}\n"
