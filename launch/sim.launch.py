"""A simulated robot learns its task: the same nodes, from the same description, as ``mbrl_ros sim``."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessStarted
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mbrl_ros.bringup import (
    ENCLAVE,
    ENVIRONMENT,
    INTERRUPTED,
    LAST,
    NO_REMAPPINGS,
    Ending,
    Remappings,
    clock_of,
    enclave,
    exit_status,
    pin,
)
from mbrl_ros.config import allowed
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import GRAPH, MANAGER, RECORDER, VISUALIZER, nodes_to_start
from mbrl_ros.models import MODELS
from mbrl_ros.params_file import OPTIONS, manager_parameters, resolve, viewer_parameters, write_run_parameters
from mbrl_ros.planners import PLANNERS
from mbrl_ros.recording import add_recorder, finish_recording
from mbrl_ros.reporting.run_folder import PARAMETERS, SUMMARY
from mbrl_ros.robots.description import load_robot, robot_names
from mbrl_ros.robots.urdf_text import urdf_text
from mbrl_ros.session import finish_summary, look_at_rate, make_report, say_ending
from mbrl_ros.visualisation.rviz import rviz_file

UNSET = "unset"  # leaves the params file, or else the default, in force
BOOLEANS = ["true", "false"]
LEVELS = ["debug", "info", "warn", "error", "fatal"]
CHOICES: dict[str, Iterable[str]] = {"planner": PLANNERS, "model": MODELS}
FIELDS = {f.name: f for spec in reversed(GRAPH) for f in dataclasses.fields(spec.config) if f.name in OPTIONS}


def option(name: str) -> DeclareLaunchArgument:
    """Launch argument of a parameter that is an option of the run, too."""
    field = FIELDS[name]
    default = str(field.default).lower() if field.type is bool else field.default
    text = field.metadata["description"] + (f" (known: {', '.join(robot_names())})" if name == "robot" else "")
    choices = BOOLEANS if field.type is bool else CHOICES.get(name, field.metadata["choices"])
    return DeclareLaunchArgument(
        name,
        default_value=UNSET,
        description=f"{text}; {UNSET}: what params_file says, or else {default}",
        choices=[UNSET, *choices] if choices else None,
    )


ARGUMENTS = (
    *(option(name) for name in OPTIONS),
    DeclareLaunchArgument("namespace", default_value="", description="ROS namespace of the graph"),
    DeclareLaunchArgument(
        "params_file", default_value="", description="ROS parameter file; launch arguments win over it"
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value=UNSET,
        choices=[UNSET, *BOOLEANS],
        description=f"take the nodes' clocks from /clock; {UNSET}: what params_file says, or else false",
    ),
    DeclareLaunchArgument(
        "output", default_value="", description="run folder; empty: runs/<robot>_<planner>_seed<seed>_<time>"
    ),
    DeclareLaunchArgument(
        "fit_rate",
        default_value="false",
        choices=BOOLEANS,
        description="reduce a planner that is too slow here until it holds the rate",
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=BOOLEANS, description="show the robot and what it believes in rviz2"
    ),
    DeclareLaunchArgument(
        "record",
        default_value="false",
        choices=BOOLEANS,
        description="write a bag of all that `mbrl_ros replay` needs into the run folder",
    ),
    DeclareLaunchArgument("log_level", default_value="info", choices=LEVELS, description="level of the ROS loggers"),
)


def setup(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Check every parameter, then start the nodes; a mistake ends the launch with a message (and exit code 1)."""
    value = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    parameters = resolve({name: typed(name, value[name]) for name in OPTIONS}, path(value["params_file"]))
    if value["use_sim_time"] != UNSET:
        for values in parameters.values():
            values["use_sim_time"] = value["use_sim_time"] == "true"
    look_at_rate(parameters, value["fit_rate"] == "true")
    command_line = shlex.join(["ros2", *sys.argv[1:]])
    names = [spec.name for spec in nodes_to_start(parameters)]
    names += managed_by(parameters, path(value["params_file"]))
    seen = prepare_beside(parameters, value, path(value["params_file"]))
    folder = write_run_parameters(parameters, path(value["output"]), value["namespace"], command_line)
    run = Run(folder, names)
    nodes = {name: node(name, run.folder / PARAMETERS, value) for name in names}
    handlers = [handler for name, action in nodes.items() for handler in run.handlers(name, action)]
    return [*handlers, *nodes.values(), *(action for name in seen for action in view(name, folder, parameters, value))]


def managed_by(parameters: dict[str, dict[str, Any]], params_file: Path | None) -> list[str]:
    """The life-cycle manager where the nodes do not start by themselves, with its parameters; else nothing."""
    if parameters["command_guard"]["autostart"]:
        return []
    parameters[MANAGER.name] = manager_parameters(parameters, params_file)
    return [MANAGER.name]


def prepare_beside(parameters: dict[str, dict[str, Any]], value: dict[str, str], params_file: Path | None) -> list[str]:
    """Give what runs beside the graph its parameters; returns what is to be started.

    Raises:
        MbrlError: something that it needs is not installed, or a parameter is not allowed.
    """
    seen = prepare_view(parameters, value) if value["rviz"] == "true" else []
    return [*seen, add_recorder(parameters, params_file).name] if value["record"] == "true" else seen


def prepare_view(parameters: dict[str, dict[str, Any]], value: dict[str, str]) -> list[str]:
    """Give the visualizer its parameters; returns what is to be started beside the graph.

    Raises:
        MbrlError: rviz2 is not installed, or a parameter of the visualizer is not allowed.
    """
    if not installed("rviz2"):
        raise MbrlError("rviz: rviz2 is not installed: sudo apt install ros-jazzy-rviz2; or leave out rviz:=true")
    parameters[VISUALIZER.name] = viewer_parameters(VISUALIZER, parameters, path(value["params_file"]), {})
    if installed("robot_state_publisher"):
        return [VISUALIZER.name, "robot_state_publisher", "rviz2"]
    print("rviz: no robot_state_publisher, so the robot is not shown: sudo apt install ros-jazzy-robot-state-publisher")
    return [VISUALIZER.name, "rviz2"]


def installed(package: str) -> bool:
    """Whether a ROS package is there."""
    try:
        return bool(get_package_prefix(package))
    except PackageNotFoundError:
        return False


def view(name: str, folder: Path, parameters: dict[str, dict[str, Any]], value: dict[str, str]) -> list[Node]:
    """A node that shows or records the run and is no part of it: closing it ends nothing."""
    if name in (VISUALIZER.name, RECORDER.name):
        return [node(name, folder / PARAMETERS, value)]
    main = parameters[LAST]
    robot = load_robot(main["robot"])
    if name == "robot_state_publisher" and robot.urdf is None:
        return []
    settings: dict[str, Any] = {"use_sim_time": bool(main["lockstep"] or main.get("use_sim_time"))}
    if name == "robot_state_publisher":
        settings["robot_description"] = ParameterValue(urdf_text(robot.urdf), value_type=str)
    return [
        Node(
            package=name,
            executable=name,
            name=name,
            namespace=value["namespace"],
            parameters=[settings],
            remappings=[clock_of(value["namespace"])],
            arguments=["-d", str(rviz_file(robot, folder))] if name == "rviz2" else [],
            output="log",
        )
    ]


def typed(name: str, text: str) -> object:
    """Value of an option, None where it is not given."""
    field = FIELDS[name]
    if text == UNSET:
        return None
    if field.type is bool:
        return text == "true"
    try:
        return field.type(os.path.expanduser(text))  # the shell leaves the ~ of robot:=~/my_robot.yaml alone
    except ValueError:
        raise MbrlError(f"{name}: '{text}' is not allowed; expected {allowed(field)}") from None


def path(text: str) -> Path | None:
    """Path that a launch argument names, None for the empty text."""
    return Path(text).expanduser() if text else None


def node(name: str, params_file: Path, value: dict[str, str], remappings: Remappings = NO_REMAPPINGS) -> Node:
    """One node of the graph."""
    return Node(
        package="mbrl_ros",
        executable=name,
        name=name,
        namespace=value["namespace"],
        parameters=[str(params_file)],
        remappings=[clock_of(value["namespace"]), *remappings.get(name, ())],
        arguments=["--ros-args", "--log-level", value["log_level"]],
        additional_env=ENVIRONMENT | {ENCLAVE: enclave(name)},
        output="both",
    )


class Run:
    """One run: what is to be done when its processes start and end."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self.running = set(names)
        self.ending: Ending | None = None

    def handlers(self, name: str, action: Node) -> list[RegisterEventHandler]:
        """Event handlers of one node."""
        start = OnProcessStart(target_action=action, on_start=partial(self.started, name))
        end = OnProcessExit(target_action=action, on_exit=partial(self.ended, name))
        return [RegisterEventHandler(start), RegisterEventHandler(end)]

    def started(self, name: str, event: ProcessStarted, _: LaunchContext) -> None:
        """Learning must not take time from control."""
        pin({name: event})

    def ended(self, name: str, event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
        """The end of any node is the end of the run; the end of the last one leads to the report."""
        self.running.discard(name)
        if self.ending is None:
            self.ending = how_it_ended(name, event.returncode, context.is_shutdown)
        if not self.running:
            self.finish(self.ending)
        return None if context.is_shutdown else EmitEvent(event=Shutdown(reason=f"{name} has ended"))

    def finish(self, ending: Ending) -> None:
        """Write the report and say how the run ended, with an error (and exit code 1) where a node died."""
        finish_summary(self.folder, ending)
        finish_recording(self.folder)
        if ending.code != INTERRUPTED:
            make_report(self.folder)
        elif (self.folder / SUMMARY).exists():  # who presses Ctrl-C wants the terminal back
            print(f"for the report: ros2 run mbrl_ros mbrl_ros report {shlex.quote(str(self.folder))}")
        if ending.died:
            raise MbrlError(f"{ending.died} died: {ending.why}")
        say_ending(self.folder, ending)


def how_it_ended(name: str, code: int, interrupted: bool) -> Ending:
    """What the first end of a process says about the run; a node that was asked to end exits with 0."""
    if code != 0 and not interrupted:
        return Ending(1, name, exit_status(code))
    return Ending(0) if name == LAST and not interrupted else Ending(INTERRUPTED)


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=setup)])
