"""Adds the recorder to a run, and finds what a run has recorded."""

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mbrl_ros.data.bag_folders import PARAMETERS, bags_in
from mbrl_ros.errors import MissingDependencyError
from mbrl_ros.graph import RECORDER, NodeSpec
from mbrl_ros.params_file import viewer_parameters


def add_recorder(parameters: dict[str, dict[str, Any]], params_file: Path | None) -> NodeSpec:
    """Give the recorder its parameters and return its node.

    Raises:
        MissingDependencyError: nothing that writes bags is installed.
        ConfigError: a parameter of the recorder is not allowed.
    """
    if find_spec("rosbags") is None and find_spec("ros2bag") is None:
        raise MissingDependencyError(
            "record: nothing that writes bags is installed: pip install -r requirements.txt for rosbags, "
            "or sudo apt install ros-jazzy-rosbag2 ros-jazzy-rosbag2-storage-mcap"
        )
    parameters[RECORDER.name] = viewer_parameters(RECORDER, parameters, params_file, shared_with(parameters))
    return RECORDER


def shared_with(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the recorder must know of others: where the sensors are, and where the models come from."""
    sensors = {k: v for k, v in parameters["state_estimator"].items() if k.startswith("filter.")}
    return sensors | {"model_topic": parameters["mpc_controller"]["model_topic"]}


def finish_recording(folder: Path) -> None:
    """Put the run's parameters into its newest bag, where ros2 bag record has written it."""
    bags = bags_in(folder)
    if bags and not (bags[-1] / PARAMETERS).exists() and (folder / PARAMETERS).exists():
        shutil.copy(folder / PARAMETERS, bags[-1] / PARAMETERS)
