"""A simulated robot learns its task: the same nodes, from the same description, as ``mbrl_ros sim``."""

import shlex
import sys
from pathlib import Path

from launch import LaunchDescription, LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from mbrl_ros.bringup import ENVIRONMENT
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import GRAPH
from mbrl_ros.models import MODELS
from mbrl_ros.params_file import resolve, write_run_parameters
from mbrl_ros.planners import PLANNERS
from mbrl_ros.reporting.run_folder import PARAMETERS

BOOLEANS = ["true", "false"]
UNSET = ""  # leaves the params file, or else the default, in force
ARGUMENTS = (
    DeclareLaunchArgument(
        "robot", default_value=UNSET, description="robot: a name or the path of its YAML (default cartpole)"
    ),
    DeclareLaunchArgument(
        "planner", default_value=UNSET, choices=[UNSET, *PLANNERS], description="planning method (default cem)"
    ),
    DeclareLaunchArgument(
        "model",
        default_value=UNSET,
        choices=[UNSET, *MODELS],
        description="dynamics model (default probabilistic_ensemble)",
    ),
    DeclareLaunchArgument("seed", default_value=UNSET, description="seed of every random generator (default 0)"),
    DeclareLaunchArgument("trials", default_value=UNSET, description="largest number of trials (default 12)"),
    DeclareLaunchArgument("namespace", default_value="", description="ROS namespace of the graph"),
    DeclareLaunchArgument(
        "params_file", default_value="", description="ROS parameter file; launch arguments win over it"
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=BOOLEANS, description="take the nodes' clocks from /clock"
    ),
    DeclareLaunchArgument(
        "lockstep",
        default_value="false",
        choices=BOOLEANS,
        description="deterministic, as fast as it goes, instead of real time",
    ),
    DeclareLaunchArgument("gui", default_value="false", choices=BOOLEANS, description="show the PyBullet window"),
    DeclareLaunchArgument(
        "output", default_value="", description="run folder (default runs/<robot>_<planner>_seed<seed>_<time>)"
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="level of the ROS loggers",
    ),
)


def setup(context: LaunchContext) -> list:
    """Check every parameter, then start the nodes; a mistake ends the launch with a message."""
    value = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    try:
        given = options(value)
        parameters = resolve(given, Path(value["params_file"]) if value["params_file"] else None)
        for values in parameters.values():
            values["use_sim_time"] = value["use_sim_time"] == "true"
        output = Path(value["output"]) if value["output"] else None
        folder = write_run_parameters(parameters, output, value["namespace"], shlex.join(["ros2", *sys.argv[1:]]))
    except MbrlError as error:
        return [LogInfo(msg=f"mbrl_ros: {error}"), EmitEvent(event=Shutdown(reason="mistake in the arguments"))]
    nodes = {spec.name: node(spec.name, folder / PARAMETERS, value) for spec in GRAPH}
    return [*nodes.values(), *(when_it_ends(name, action, folder) for name, action in nodes.items())]


def options(value: dict[str, str]) -> dict[str, object]:
    """Launch arguments as typed options, None where they are not given."""
    integers = {name: integer(name, value[name]) for name in ("seed", "trials")}
    strings = {name: value[name] or None for name in ("robot", "planner", "model")}
    switches = {name: True if value[name] == "true" else None for name in ("lockstep", "gui")}
    return strings | integers | switches


def integer(name: str, text: str) -> int | None:
    """A whole number, None for the empty text."""
    try:
        return int(text) if text else None
    except ValueError:
        raise MbrlError(f"{name}: '{text}' is not allowed; expected a whole number") from None


def node(name: str, params_file: Path, value: dict[str, str]) -> Node:
    """One node of the graph."""
    return Node(
        package="mbrl_ros",
        executable=name,
        name=name,
        namespace=value["namespace"],
        parameters=[str(params_file)],
        arguments=["--ros-args", "--log-level", value["log_level"]],
        additional_env=ENVIRONMENT,
        output="both",
    )


def when_it_ends(name: str, action: Node, folder: Path) -> RegisterEventHandler:
    """The end of any node is the end of the run; the trial manager's is the regular one and leads to the report."""
    reason = "the run has ended" if name == "trial_manager" else f"{name} died"
    stop = EmitEvent(event=Shutdown(reason=reason))
    if name != "trial_manager":
        return RegisterEventHandler(OnProcessExit(target_action=action, on_exit=[stop]))
    report = ExecuteProcess(cmd=[sys.executable, "-m", "mbrl_ros.cli", "report", str(folder)], output="screen")
    end = RegisterEventHandler(OnProcessExit(target_action=report, on_exit=[stop]))
    return RegisterEventHandler(OnProcessExit(target_action=action, on_exit=[end, report]))


def generate_launch_description() -> LaunchDescription:
    """See the module."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=setup)])
