"""``mbrl_ros identify delay``: a small motion through the guard, the delay it shows, and the robot's YAML with it."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_ros.bringup import Graph
from mbrl_ros.commands.robot import robot_parameters
from mbrl_ros.control.delay_identification import DelayError, actuation_delay, agreed
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NODES
from mbrl_ros.params_file import check_namespace, write_params_file
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.robots.values import Delay
from mbrl_ros.robots.yaml_edit import write_delay
from mbrl_ros.transport import dds_environment

HELPERS = ("state_estimator", "command_guard")  # the processes that the motion needs
ARM_TIMEOUT = 20.0  # s
LOOK = 1.0  # s of looking at the measurements before anything is started
UNEXPECTED = 0.5  # periods by which measurements may be older than the YAML says
MOST_FAILED = 0.5  # share of the repetitions that may show nothing
MORE = "use a larger --share, more --repeats or longer --seconds"
STEADIER = "is this computer, or the network, too busy?"


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns the exit code.

    Raises:
        MbrlError: a mistake in the arguments or the YAML, or the robot cannot be armed or does not follow.
    """
    check_arguments(arguments)
    robot = load_robot(str(arguments.file))
    actuator = chosen(robot, arguments.actuator)
    amplitude = arguments.share * 0.5 * float(robot.u_max[actuator] - robot.u_min[actuator])
    ask(robot, actuator, amplitude, arguments)
    os.environ.update(dds_environment(os.environ))
    with tempfile.TemporaryDirectory(prefix="mbrl_ros_identify_") as folder:
        actuation, sensing = measured_in(Path(folder), robot, actuator, amplitude, arguments)
    report(actuation, sensing)
    actuation_s = agreed(actuation, robot.dt, "repetitions", MORE)
    sensing_s = agreed(sensing, robot.dt, "ages of the measurements", STEADIER)
    delay = Delay(max(0.0, actuation_s), max(0.0, sensing_s))
    if not arguments.dry_run:
        write_delay(arguments.file, delay)
        print(f"written to {arguments.file}")
    return 0


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for an argument out of range, or for a namespace that is none."""
    allowed = {
        "share": (0.001, 0.5),
        "seconds": (0.5, 60.0),
        "repeats": (1, 100),
        "half_period": (0.02, 10.0),
        "longest": (0.01, 5.0),
    }
    for name, (low, high) in allowed.items():
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name.replace('_', '-')}: {value:g} is not allowed; expected {low:g} to {high:g}")
    check_namespace(arguments.namespace)


def chosen(robot: RobotDescription, name: str | None) -> int:
    """Number of the actuator that is to move."""
    if name is None:
        return 0
    if name not in robot.actuators:
        raise ConfigError(f"--actuator: '{name}' is not allowed; choose from: {', '.join(robot.actuators)}")
    return robot.actuators.index(name)


def ask(robot: RobotDescription, actuator: int, amplitude: float, arguments: argparse.Namespace) -> None:
    """Say what will move, and go on only where somebody agrees."""
    print(
        f"{robot.name}: {robot.actuators[actuator]} will move {arguments.repeats} times for {arguments.seconds:g} s "
        f"by a square wave of {amplitude:.4g} ({robot.command_interface}), through the command guard"
    )
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("--yes: is needed where nobody can be asked, because the robot will move")
    if input("is the robot free to move? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was moved")


def measured_in(
    folder: Path, robot: RobotDescription, actuator: int, amplitude: float, arguments: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """See `measure`; the processes that it needs live as long, and have their files in the folder."""
    from mbrl_ros.nodes.delay_probe import DelayProbe

    probe: Any = DelayProbe(robot, arguments.namespace)
    try:
        age = probe.age(LOOK)
        parameters = robot_parameters({}, described(arguments.file, robot, age, arguments.longest, folder))
        path = folder / "parameters.yaml"
        write_params_file(path, {name: parameters[name] for name in HELPERS}, arguments.namespace)
        graph = Graph(path, folder, arguments.namespace, "warn", [NODES[name] for name in HELPERS])
        try:
            return measure(robot, actuator, amplitude, arguments, graph, probe)
        finally:
            probe.close()  # disarms the guard before its process is ended
            graph.stop()
    finally:
        probe.close()


def described(file: Path, robot: RobotDescription, age_s: float, longest_s: float, folder: Path) -> Path:
    """The robot's YAML, or a copy that knows of measurements which are old when they come: they would be refused.

    Args:
        file: the robot's YAML.
        robot: as it says.
        age_s: of the measurements when they come.
        longest_s: longest delay that is allowed.
        folder: for the copy.

    Raises:
        DelayError: they are older than that.
    """
    stated = robot.delay or Delay(0.0, 0.0)
    if age_s > longest_s:
        raise DelayError(
            f"measurements are {age_s:.4g} s old when they come, more than {longest_s:g} s; do the clocks agree? "
            "Where they do, use a larger --longest"
        )
    if age_s <= stated.sensing_s + UNEXPECTED * robot.dt:
        return file
    values = yaml.safe_load(file.read_text())
    values["delay"] = {"actuation_s": stated.actuation_s, "sensing_s": age_s}
    if robot.urdf is not None:
        values["urdf"] = str(robot.urdf.resolve())
    copy = folder / file.name
    copy.write_text(yaml.safe_dump(values))
    return copy


def measure(
    robot: RobotDescription, actuator: int, amplitude: float, arguments: argparse.Namespace, graph: Graph, probe: Any
) -> tuple[list[float], list[float]]:
    """Actuation delay of each repetition and age of each measurement, in s."""
    found, failed = [], []
    for number in range(arguments.repeats):
        if died := graph.ended():
            raise DelayError(f"{died.died} died: {died.why}")
        probe.arm(ARM_TIMEOUT)
        try:
            recording = probe.excite(actuator, amplitude, arguments.seconds, arguments.half_period)
            found.append(actuation_delay(recording, robot.command_interface, arguments.longest))
            print(f"repetition {number + 1}: {1e3 * found[-1]:.1f} ms", flush=True)
        except DelayError as error:
            failed.append(error)
            print(f"repetition {number + 1}: {error}", flush=True)
        time.sleep(robot.dt * float(np.random.default_rng(number).random()))  # another phase to the sensors
    if failed and len(failed) >= MOST_FAILED * arguments.repeats:
        raise failed[-1]
    return found, probe.ages_s


def report(actuation: list[float], sensing: list[float]) -> None:
    """Median and spread of both."""
    for name, values in (("actuation", actuation), ("sensing", sensing)):
        low, middle, high = 1e3 * np.percentile(values, [25, 50, 75])
        print(f"{name} delay: median {middle:.1f} ms, half of them from {low:.1f} to {high:.1f} ms, n = {len(values)}")
    if np.median(sensing) < 0:
        print("measurements come before their stamps: the clocks do not agree; sensing delay taken as 0")
