"""``mbrl_ros robot``: the graph on a real robot, which is the simulation's without the simulator."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_ros.bringup import Remappings, require_packages
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import LINK, ROBOT_GRAPH, SIMULATOR, NodeSpec
from mbrl_ros.params_file import (
    OPTIONS,
    check_namespace,
    flatten,
    read_params_file,
    resolve,
    stated_robot,
    viewer_parameters,
)
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.safety.link_watchdog import GUARDED
from mbrl_ros.session import run_graph

MARGIN = 0.02  # of a joint's range that is kept from its ends, at most MARGIN_AT_MOST
MARGIN_AT_MOST = 0.05  # m or rad
VELOCITY_MARGIN = 0.1  # of what is commanded; who moves at the limit itself is measured beyond it, for noise
LATE = 0.2  # control periods after the moment at which it should have been sent, from which on a command is late
BASE_POLICY_STD = 0.3  # gentler than the simulation's: nobody knows yet what the robot does
NOT_ON_A_ROBOT = ("lockstep", "gui")  # options that need the simulator


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns the exit code.

    Raises:
        MbrlError: a mistake in the arguments, the robot's YAML or the parameter file; nothing has been started then.
    """
    given = {name: getattr(arguments, name, None) for name in OPTIONS}
    parameters = robot_parameters(given, arguments.params_file)
    if arguments.params_file is not None and is_description(arguments.params_file):
        arguments.params_file = None  # it has said what it has to say
    check_namespace(arguments.namespace)
    require_packages(without=("pybullet",))
    command_line = shlex.join(["mbrl_ros", *sys.argv[1:]])
    print(
        f"on a real robot each trial begins with: ros2 service call {start_service(arguments.namespace)} "
        "std_srvs/srv/Trigger"
    )
    if not arguments.link:
        return run_graph(parameters, arguments, command_line, ROBOT_GRAPH)
    link, remappings = add_link(parameters, arguments.params_file)
    return run_graph(parameters, arguments, command_line, (*ROBOT_GRAPH, link), remappings)


def add_link(parameters: dict[str, dict[str, Any]], params_file: Path | None) -> tuple[NodeSpec, Remappings]:
    """Put the link watchdog between guard and actuators: its parameters, its node, and the guard's other topic.

    Raises:
        ConfigError: a parameter of the watchdog is not allowed.
    """
    robot = load_robot(parameters["command_guard"]["robot"])
    stated = flatten(robot.parameters.get(LINK.name, {}))
    from_file = {} if params_file is None else read_params_file(params_file)[1].get(LINK.name, {})
    parameters[LINK.name] = viewer_parameters(LINK, parameters, None, stated | from_file)
    return LINK, {"command_guard": [(robot.output_topic, GUARDED)]}


def start_service(namespace: str) -> str:
    """Name of the service that begins a trial."""
    return "/".join(["", *filter(None, namespace.split("/")), "trial_manager", "start"])


def robot_parameters(given: Mapping[str, Any], params_file: Path | None) -> dict[str, dict[str, Any]]:
    """Parameters of every node on a real robot.

    From weak to strong: what is safe on a robot, ``parameters`` in its YAML, the parameter file, the options.

    Args:
        given: options by name, None where not given.
        params_file: ROS parameter file, or the robot's YAML itself.

    Raises:
        ConfigError: names file, node, key, value and what is allowed.
    """
    given = dict(given)
    if params_file is not None and is_description(params_file):
        given["robot"], params_file = str(params_file), None
    name = robot_name(given, params_file)
    given["robot"] = str(Path(name).resolve()) if name.endswith(".yaml") else name
    parameters = resolve(given, params_file, safe_defaults(load_robot(given["robot"])))
    for values in parameters.values():
        if wrong := [option for option in NOT_ON_A_ROBOT if values.get(option)]:
            raise ConfigError(f"{wrong[0]}: true is not allowed on a real robot; expected false")
    del parameters[SIMULATOR]
    return parameters


def is_description(path: Path) -> bool:
    """Whether a YAML is a robot's and no parameter file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return False  # whoever reads it next will say what is wrong
    return isinstance(content, dict) and bool({"command_interface", "joints"} & set(content))


def robot_name(given: Mapping[str, Any], params_file: Path | None) -> str:
    """The robot of the options or else of the parameter file.

    Raises:
        ConfigError: there is none: nothing moves without being told which robot it is.
    """
    if given.get("robot"):
        return str(given["robot"])
    if params_file is not None:
        stated = stated_robot(*read_params_file(params_file))
        if stated is not None:
            return stated
    raise ConfigError("robot: there is none; name it with --robot, or give its YAML to --params-file")


def safe_defaults(robot: RobotDescription) -> dict[str, dict[str, Any]]:
    """Parameters by node that are right for a real robot where nothing else is said."""
    delay = robot.delay_ticks(lockstep=False)
    defaults: dict[str, dict[str, Any]] = {
        "state_estimator": {"filter.rate": robot.control_rate},
        "mpc_controller": {"policy.std": BASE_POLICY_STD},
        "command_guard": {
            "guard.observation_timeout": 2.0 + sensing_periods(robot),
            "guard.state_action": "stop",
            "guard.position_margin": position_margin(robot),
            "guard.velocity_margin": VELOCITY_MARGIN if robot.command_interface in ("position", "velocity") else 0.0,
            "guard.stale_after": 2.0 + max(1, delay),  # commands carry the time at which they act
        },
        "trial_manager": {"operator": True},
    }
    if robot.delay is not None:
        defaults["mpc_controller"]["hold_commands"] = True
        defaults["command_guard"]["guard.late_tolerance"] = LATE - robot.delay.actuation_s / robot.dt
    return defaults


def sensing_periods(robot: RobotDescription) -> float:
    """Control periods by which an observation is old when it comes."""
    return float(np.ceil((robot.delay.sensing_s if robot.delay else 0.0) / robot.dt))


def position_margin(robot: RobotDescription) -> float:
    """A small share of the narrowest range of a joint."""
    n = len(robot.joints)
    ranges = (robot.position_high - robot.position_low)[:n]
    narrowest = min(ranges[np.isfinite(ranges)], default=np.inf)
    return float(min(MARGIN * narrowest, MARGIN_AT_MOST))
