"""Commands on recorded data and on real robots: their arguments. What they do is in a module each, loaded when due."""

import argparse
import math
import os
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = {
    name: f"mbrl_ros.commands.{name}"
    for name in ("data", "bag", "fit", "robot", "check", "identify", "lifecycle", "replay")
} | dict.fromkeys(("trial", "model"), "mbrl_ros.commands.ask")
FORMATS = ("mcap", "sqlite3")
AS_NODES = {  # before numpy is loaded: with more threads, sums differ in their last digits
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
PARTS = ("estimator", "learner", "planner")  # of a replay


def positive(text: str) -> int:
    """An argument that is a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed; expected a whole number, 1 or more")
    return int(text)


def above_zero(text: str) -> float:
    """An argument that is a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed; expected a number above 0")
    return value


def new_file(text: str) -> Path:
    """An argument that names a file to write: said now and not after an hour of work that there is no such folder."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"'{text}' is not allowed; expected the name of a file in a folder that exists"
        )
    return path


def add_commands(commands: Any) -> None:
    """Add the commands of this folder to the subparsers of the command line."""
    add_data(commands.add_parser("data", help="check and recover transition stores"))
    add_bag(commands.add_parser("bag", help="import and export recorded bags"))
    add_replay(commands.add_parser("replay", help="run estimator, learner and planner against a recording"))
    add_fit(commands.add_parser("fit", help="fit a model to recorded data, without a robot"))
    add_robot(commands.add_parser("robot", help="a real robot learns its task"))
    add_check(commands.add_parser("check", help="check the description of a real robot, and the running robot"))
    add_lifecycle(commands.add_parser("lifecycle", help="take the managed nodes of a running graph up and down"))
    add_trial(commands.add_parser("trial", help="start, step and stop the trials of a running graph, or begin anew"))
    add_model(commands.add_parser("model", help="save, load and refit the model of a running graph"))
    identify = commands.add_parser("identify", help="measure what a robot's description needs")
    add_identify(identify.add_subparsers(dest="what", required=True, metavar="WHAT"))


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    if arguments.command == "replay":
        os.environ.update(AS_NODES)
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
    add_all(load)
    recover = actions.add_parser("recover", help="save what a damaged or unfinished bag (MCAP) has into a new one")
    recover.add_argument("bag", type=Path, metavar="BAG", help="folder of the bag, or its file")
    recover.add_argument("out", type=Path, help="folder of the new bag; must not exist")
    save = actions.add_parser("export", help="write the transitions of a run as a bag that `ros2 bag play` reads")
    save.add_argument("data", type=Path, metavar="RUN_FOLDER|STORE", help="run folder or transition store")
    save.add_argument("bag", type=Path, help="folder of the new bag; must not exist")
    save.add_argument("--format", choices=FORMATS, default="mcap", help="storage (default mcap)")
    for action in (load, save):
        action.add_argument("--namespace", default="", help="ROS namespace of the topics")


def add_replay(replay: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros replay``."""
    replay.add_argument("bag", type=Path, metavar="BAG", help="folder of a bag, or the run folder it is in")
    replay.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of: {', '.join(PARTS)} (default all)"
    )
    replay.add_argument(
        "--set",
        dest="changes",
        nargs="+",
        action="extend",
        default=[],
        metavar="PART.KEY=VALUE",
        help="what if: another parameter, such as planner.seed=3 or estimator.filter.gate=0.99",
    )
    replay.add_argument("--params-file", type=Path, help="what if: ROS parameter file; --set wins over it")
    replay.add_argument("--robot", help="robot: a name or the path of its YAML (default the recorded one)")
    replay.add_argument("--namespace", help="ROS namespace of the topics (default that of the bag's parameters)")
    replay.add_argument("--tolerance", type=float, help="difference that still counts as none (default 1e-9)")
    replay.add_argument("--json", type=new_file, help="write every figure to this file")


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
    fit.add_argument("--model", help="dynamics model (default gaussian_process)")
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
    add_all(fit)


def add_all(command: argparse.ArgumentParser) -> None:
    """Option that takes what is of the robot as it was, too."""
    command.add_argument(
        "--all",
        dest="everything",
        action="store_true",
        help="take also what a run has recorded before it noticed that the robot had changed",
    )


def add_robot(robot: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros robot``."""
    robot.add_argument(
        "--params-file", type=Path, help="the robot's YAML, or a ROS parameter file; options win over it"
    )
    robot.add_argument("--robot", help="robot: a name or the path of its YAML")
    robot.add_argument("--planner", help="planner (default cem)")
    robot.add_argument("--model", help="dynamics model (default gaussian_process)")
    robot.add_argument("--start-model", help="model file, as `mbrl_ros fit` writes it, to start from")
    add_remote_learner(robot)
    robot.add_argument("--seed", type=int, help="seed of every random generator (default 0)")
    robot.add_argument("--trials", type=int, help="largest number of trials (default 12)")
    robot.add_argument(
        "--autostart",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="nodes configure and activate themselves (default); else they wait to be told",
    )
    robot.add_argument("--output", type=Path, help="run folder; one with a run in it is resumed")
    robot.add_argument("--namespace", default="", help="ROS namespace of the graph")
    robot.add_argument("--log-level", default="info", choices=("debug", "info", "warn", "error", "fatal"))
    robot.add_argument("--fit-rate", action="store_true", help="reduce a planner that is too slow here")
    robot.add_argument(
        "--link", action="store_true", help="start the link watchdog between the guard and the actuators, too"
    )
    robot.add_argument("--no-report", action="store_true", help="leave out the report at the end")
    add_record(robot)
    add_web(robot)


def add_record(command: argparse.ArgumentParser) -> None:
    """Option that records a run."""
    command.add_argument(
        "--record", action="store_true", help="write a bag of all that `mbrl_ros replay` needs into the run folder"
    )


def add_remote_learner(command: argparse.ArgumentParser) -> None:
    """Options for a learner that is started elsewhere, see docs/fleet.md."""
    command.add_argument(
        "--remote-learner", action="store_true", default=None, help="the learner is started elsewhere, not here"
    )
    command.add_argument(
        "--model-topic", help="where models come from (default dynamics_model); a fleet's: docs/fleet.md"
    )


def add_check(check: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros check``."""
    check.add_argument("file", type=Path, metavar="ROBOT", help="the robot's YAML")
    check.add_argument("--live", action="store_true", help="look at the running robot, too; nothing moves")
    check.add_argument("--seconds", type=float, default=3.0, help="how long to listen (default 3)")
    check.add_argument("--namespace", default="", help="ROS namespace of the robot")


def add_identify(what: Any) -> None:
    """Arguments of ``mbrl_ros identify``."""
    delay = what.add_parser("delay", help="measure actuation and sensing delay by a small motion")
    delay.add_argument("file", type=Path, metavar="ROBOT", help="the robot's YAML; the delay is written into it")
    delay.add_argument("--actuator", help="the one that moves (default the first)")
    delay.add_argument("--share", type=float, default=0.1, help="of half the command's range (default 0.1)")
    delay.add_argument("--seconds", type=float, default=3.0, help="length of one repetition (default 3)")
    delay.add_argument("--repeats", type=int, default=5, help="repetitions (default 5)")
    delay.add_argument("--half-period", type=float, default=0.3, help="of the square wave in s (default 0.3)")
    delay.add_argument("--longest", type=float, default=0.5, help="longest delay looked for in s (default 0.5)")
    delay.add_argument("--dry-run", action="store_true", help="measure, and leave the file as it is")
    delay.add_argument("--yes", action="store_true", help="do not ask before the robot moves")
    delay.add_argument("--namespace", default="", help="ROS namespace of the robot")


def add_lifecycle(lifecycle: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros lifecycle``."""
    lifecycle.add_argument("action", choices=("startup", "pause", "resume", "cleanup", "shutdown"))
    lifecycle.add_argument("--namespace", default="", help="ROS namespace of the graph")


def add_trial(trial: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros trial``."""
    trial.add_argument("action", choices=("start", "step", "stop", "reset"))
    add_asking(trial)


def add_model(model: argparse.ArgumentParser) -> None:
    """Arguments of ``mbrl_ros model``."""
    model.add_argument("action", choices=("save", "load", "refit"))
    model.add_argument("file", type=Path, nargs="?", help="load: the model's file (default: the parameter start_model)")
    add_asking(model)


def add_asking(command: argparse.ArgumentParser) -> None:
    """Arguments of a command that asks a running graph."""
    command.add_argument("--namespace", default="", help="ROS namespace of the graph")
    command.add_argument("--timeout", type=float, default=30.0, help="longest wait in s to find it (default 30)")


def add_paused(command: argparse.ArgumentParser) -> None:
    """Argument of a run whose first trial waits."""
    command.add_argument(
        "--paused", action="store_true", default=None, help="the first trial waits for `mbrl_ros trial start` or `step`"
    )


def add_web(command: argparse.ArgumentParser) -> None:
    """Arguments of the live view as a web page."""
    command.add_argument("--web", action="store_true", help="serve the live view as a web page on this machine")
    command.add_argument("--web-port", type=int, help="its port (default 8080)")
    command.add_argument(
        "--web-host", help="its address (default 127.0.0.1: this machine only); 0.0.0.0 opens it to everyone"
    )
