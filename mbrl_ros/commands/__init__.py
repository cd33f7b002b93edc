"""Commands that work on recorded data: their arguments. What they do is in a module each, loaded when it is called."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = {"data": "mbrl_ros.commands.data", "bag": "mbrl_ros.commands.bag", "fit": "mbrl_ros.commands.fit"}
FORMATS = ("mcap", "sqlite3")


def add_commands(commands: Any) -> None:
    """Add ``data``, ``bag`` and ``fit`` to the subparsers of the command line."""
    add_data(commands.add_parser("data", help="check and recover transition stores"))
    add_bag(commands.add_parser("bag", help="import and export recorded bags"))
    add_fit(commands.add_parser("fit", help="fit a model to recorded data, without a robot"))


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    return import_module(MODULES[arguments.command]).run(arguments)


def add_data(data: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros data``."""
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="say whether a store is intact, and what can be saved of a damaged one")
    recover = actions.add_parser("recover", help="save the rows of a damaged store into a new one")
    for action in (check, recover):
        action.add_argument("file", type=Path, help="transition store, or the run folder it is in")
        action.add_argument("--robot", help="its robot, where the file does not tell any more: a name or a YAML")
    recover.add_argument("out", type=Path, help="new store; must not exist")


def add_bag(bag: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros bag``."""
    actions = bag.add_subparsers(dest="action", required=True, metavar="ACTION")
    load = actions.add_parser("import", help="build a data set from recorded bags")
    load.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="folder of a bag, or one file of it")
    load.add_argument("--robot", required=True, help="robot: a name or the path of its YAML")
    load.add_argument("--output", type=Path, required=True, help="store to add the transitions to, made where missing")
    load.add_argument("--params-file", type=Path, help="ROS parameter file with the state estimator's settings")
    save = actions.add_parser("export", help="write the transitions of a run as a bag that `ros2 bag play` reads")
    save.add_argument("data", type=Path, metavar="RUN_FOLDER|STORE", help="run folder or transition store")
    save.add_argument("bag", type=Path, help="folder of the new bag; must not exist")
    save.add_argument("--format", choices=FORMATS, default="mcap", help="storage (default mcap)")
    for action in (load, save):
        action.add_argument("--namespace", default="", help="ROS namespace of the topics")


def add_fit(fit: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros fit``."""
    fit.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="STORE|BAG|RUN",
        help="transition stores, bags, run folders",
    )
    fit.add_argument("--robot", required=True, help="robot: a name or the path of its YAML")
    fit.add_argument("--model", help="dynamics model (default probabilistic_ensemble)")
    fit.add_argument(
        "--output", type=Path, required=True, metavar="MODEL", help="file to write the model to (.safetensors)"
    )
    fit.add_argument(
        "--holdout", type=int, metavar="N", help="trajectories to keep for the evaluation (default a fifth); 0 for none"
    )
    fit.add_argument("--horizon", type=int, help="periods of the multi-step error (default of model_learner)")
    fit.add_argument("--seed", type=int, help="seed of the training and of what is held out (default 0)")
    fit.add_argument("--params-file", type=Path, help="ROS parameter file with the settings of model and estimator")
    fit.add_argument("--namespace", default="", help="ROS namespace of the topics in the bags")
