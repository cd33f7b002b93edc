"""ROS parameter files: read, check and write them without ROS, so that mistakes surface before any node starts."""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_ros.control.problem import make_problem
from mbrl_ros.control.rate_check import RateCheck, check_rate
from mbrl_ros.control.snapshot import keep_start, newest_start
from mbrl_ros.control.start_model import Start, read_start
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.graph import (
    GRAPH,
    LEARNER,
    MANAGED,
    MANAGER,
    NO_BOUND,
    NODES,
    ROBOT_GRAPH,
    ROS_PARAMETERS,
    SIMULATOR,
    NodeSpec,
    SharedConfig,
    configure,
    node_parameters,
)
from mbrl_ros.models import model_class
from mbrl_ros.planners import planner_class
from mbrl_ros.reporting.run_folder import PARAMETERS, SUMMARY, TRANSITIONS, create_run_folder
from mbrl_ros.reporting.summary import read_summary, solved_in_a_row
from mbrl_ros.robots.description import load_robot
from mbrl_ros.safety.limits import limits_of

EVERY_NODE = "/**"
RESUME_OFFSET = 1000.0  # s; the lockstep clock of a resumed run starts at a multiple of it
WALL_CLOCK = 10**18  # ns; stamps from here on, 2001, are of real time, earlier ones of lockstep
# Parameters that are options, too.
OPTIONS = (
    "robot",
    "planner",
    "model",
    "start_model",
    "model_topic",
    "remote_learner",
    "seed",
    "trials",
    "paused",
    "lockstep",
    "autostart",
    "gui",
)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"cem": {"rounds": 3}}`` -> ``{"cem.rounds": 3}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_params_file(path: str | Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read a ROS parameter file.

    Returns:
        Parameters for every node (below ``/**``), and parameters by node name.

    Raises:
        ConfigError: no such file, not YAML, not a parameter file, or an unknown node; names what is known.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"params file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"params file {path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"params file {path}: expected node names, each with 'ros__parameters'")
    shared: dict[str, Any] = {}
    nodes: dict[str, dict[str, Any]] = {}
    for name, body in content.items():
        if not isinstance(body, dict) or not isinstance(body.get("ros__parameters"), dict) or len(body) != 1:
            raise ConfigError(f"params file {path}: {name}: expected one key 'ros__parameters' with a mapping below it")
        values = flatten(body["ros__parameters"])
        if name == EVERY_NODE:
            shared |= values
        elif (bare := str(name).rsplit("/", 1)[-1]) in NODES:
            nodes.setdefault(bare, {}).update(values)
        else:
            raise ConfigError(f"params file {path}: {UnknownNameError('node', name, [*NODES, EVERY_NODE])}")
    check_shared(shared, path)
    return shared, nodes


def check_shared(shared: Mapping[str, Any], path: Path) -> None:
    """A key for every node must be known to at least one of them."""
    known = {field for spec in NODES.values() for field in spec.config.__dataclass_fields__}
    for key in shared:
        if key not in known and key not in ROS_PARAMETERS:
            raise ConfigError(
                f"params file {path}: {EVERY_NODE}: unknown key '{key}'; known: {', '.join(sorted(known))}"
            )


def check_parameters(parameters: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Build every node's configuration once; all problems of all nodes in one ConfigError."""
    problems = []
    for name, values in parameters.items():
        checked = {key: value for key, value in values.items() if key not in ROS_PARAMETERS}
        try:
            configure(NODES[name], checked, f"{where}: {name}")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def check_namespace(namespace: str) -> None:
    """Raise ConfigError where ROS would not take the namespace; empty is none."""
    names = namespace.strip("/").split("/") if namespace.strip("/") else []
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise ConfigError(
            f"namespace: '{namespace}' is not allowed; expected names of letters, digits and '_', "
            "the first of them no digit, with '/' between the names"
        )


def write_params_file(path: Path, parameters: Mapping[str, Mapping[str, Any]], namespace: str = "") -> None:
    """Write the parameters of every node; ``--params-file`` takes the file back."""
    prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else ""
    content = {f"{prefix}{name}": {"ros__parameters": dict(values)} for name, values in parameters.items()}
    path.write_text(yaml.safe_dump(content, sort_keys=True))


def resolve(
    given: Mapping[str, Any],
    params_file: Path | None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Parameters of every node as they will be used, defaults included, checked as a whole.

    From weak to strong: the nodes' own defaults, `defaults`, ``parameters`` in the robot's YAML, the file, the options.

    Args:
        given: options by name; None where an option was not given.
        params_file: ROS parameter file, or None.
        defaults: parameters by node.

    Raises:
        ConfigError: names file (or command line), node, key, value and what is allowed.
    """
    shared: dict[str, Any] = {}
    nodes: dict[str, dict[str, Any]] = {}
    if params_file is not None:
        shared, nodes = read_params_file(params_file)
        check_parameters(node_parameters(shared, nodes), f"params file {params_file}")
    options = {name: value for name, value in given.items() if value is not None}
    for name, values in with_robots_own(defaults or {}, options.get("robot") or stated_robot(shared, nodes)).items():
        nodes[name] = {k: v for k, v in values.items() if k not in shared} | nodes.get(name, {})
    for values in nodes.values():
        for name in options:
            values.pop(name, None)
    parameters = node_parameters(shared | options, nodes)
    check_parameters(parameters, "command line")
    used = {spec.name: as_used(spec, parameters[spec.name]) for spec in GRAPH}
    stated = parameters["mpc_controller"]
    limits = guarded_commands(used["command_guard"])
    used["mpc_controller"] |= {name: values for name, values in limits.items() if name not in stated}
    return used


def guarded_commands(guard: Mapping[str, Any]) -> dict[str, list[float]]:
    """Which commands the guard lets pass, and how fast they may change: the controller plans for it.

    They are the controller's `command_low`, `command_high` and `command_rate`; what bounds nothing is left out.
    """
    groups = configure(NODES["command_guard"], {k: v for k, v in guard.items() if k not in ROS_PARAMETERS})[1]
    try:
        limits = limits_of(load_robot(guard["robot"]), groups["guard"])
    except ConfigError:
        return {}  # the guard itself says what is wrong
    low, high = (np.clip(end, -NO_BOUND, NO_BOUND) for end in (limits.command_low, limits.command_high))
    rate = np.where(limits.command_rate < NO_BOUND, limits.command_rate, 0.0)
    found = {"command_low": low, "command_high": high, "command_rate": rate}
    return {name: values.tolist() for name, values in found.items() if name != "command_rate" or values.any()}


def stated_robot(shared: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The robot that a parameter file names; None where it names none."""
    return next((str(values["robot"]) for values in (shared, *nodes.values()) if "robot" in values), None)


def with_robots_own(defaults: Mapping[str, Mapping[str, Any]], robot_name: str | None) -> dict[str, dict[str, Any]]:
    """Parameters by node: `defaults`, and over them those that the robot's YAML states for its nodes.

    Raises:
        MbrlError: there is no such robot, its YAML is wrong, or it names a node that is not there.
    """
    name = robot_name or SharedConfig.robot
    result = {node: dict(values) for node, values in defaults.items()}
    for node, values in load_robot(name).parameters.items():
        if node not in NODES:
            known = ", ".join(spec.name for spec in ROBOT_GRAPH)
            raise ConfigError(f"{name}: parameters: unknown node '{node}'; choose from: {known}")
        result[node] = result.get(node, {}) | flatten(values)
    task = {k: v for k, v in result.get("mpc_controller", {}).items() if k.startswith("task.")}
    if task:  # who scores must know the goal, too
        result["trial_manager"] = task | result.get("trial_manager", {})
    return result


def viewer_parameters(
    spec: NodeSpec,
    parameters: Mapping[str, Mapping[str, Any]],
    params_file: Path | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Parameters of a viewer: those that the graph shares, the file's, and what is given (None where it is not).

    Raises:
        ConfigError: names node, key, value and what is allowed.
    """
    main = parameters["trial_manager"]
    values = {key: main[key] for key in ("robot", "seed", "lockstep", *ROS_PARAMETERS) if key in main}
    if params_file is not None:
        values |= read_params_file(params_file)[1].get(spec.name, {})
    values |= {key: value for key, value in given.items() if value is not None}
    check_parameters({spec.name: values}, "command line")
    return as_used(spec, values)


def manager_parameters(parameters: Mapping[str, Mapping[str, Any]], params_file: Path | None) -> dict[str, Any]:
    """Parameters of the life-cycle manager; the learner of a fleet is not one robot's to take down.

    Raises:
        ConfigError: names node, key, value and what is allowed.
    """
    of_fleet = "/" in parameters["mpc_controller"]["model_topic"] and parameters["trial_manager"]["remote_learner"]
    own = ",".join(name for name in MANAGED if name != LEARNER)
    given = {"autostart": parameters["command_guard"]["autostart"]} | ({"managed": own} if of_fleet else {})
    stated = {} if params_file is None else read_params_file(params_file)[1].get(MANAGER.name, {})
    return viewer_parameters(MANAGER, parameters, None, given | stated)


def as_used(spec: NodeSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a node with its value, defaults included."""
    ros = {key: value for key, value in values.items() if key in ROS_PARAMETERS}
    config, groups = configure(spec, {key: value for key, value in values.items() if key not in ros})
    result = asdict(config)
    for prefix, group in groups.items():
        result |= {f"{prefix}.{name}": value for name, value in asdict(group).items()}
    return ros | {name: list(v) if isinstance(v, tuple) else v for name, v in result.items()}


def write_run_parameters(
    parameters: dict[str, dict[str, Any]], output: Path | None, namespace: str, command_line: str
) -> Path:
    """Make the run folder, write the parameters into it and return the folder.

    Args:
        parameters: of every node; where they write to is filled in.
        output: run folder; None makes ``runs/<robot>_<planner>_seed<seed>_<time>``.
        namespace: ROS namespace.
        command_line: how the run was started, for the record.

    Raises:
        MbrlError: the model to start from cannot be used, the folder's store is damaged or of another robot, or its
            run has no trial left to make.
    """
    main = parameters["trial_manager"]
    refuse_ended(output, main["trials"], main["stop_after_solved"])
    start = prepare_start(parameters, output)
    name = f"{Path(main['robot']).stem}_{main['planner']}_seed{main['seed']}_{datetime.now():%Y%m%d_%H%M%S}"
    folder = create_run_folder((output or Path("runs") / name).resolve())
    if start is not None:
        keep_start(folder, Path(parameters["model_learner"]["start_model"]), start, load_robot(main["robot"]))
    for values in parameters.values():
        values["output"] = str(folder)
    main["command"] = command_line
    began = start_time(folder, main["robot"])
    if SIMULATOR in parameters:
        parameters[SIMULATOR]["start_time"] = began
    write_params_file(folder / PARAMETERS, parameters, namespace)
    return folder


def refuse_ended(output: Path | None, trials: int, stop_after_solved: int) -> None:
    """A run that has ended is left as it is, with the parameters that it had.

    Raises:
        ConfigError: it has nothing left to do.
    """
    if output is None or not (output / SUMMARY).exists():
        return
    made = read_summary(output).trials
    if solved_in_a_row(made, stop_after_solved):
        more = f"trial_manager.stop_after_solved above {stop_after_solved}"
    elif len(made) >= trials:
        more = f"trials above {len(made)}"
    else:
        return
    raise ConfigError(f"output: the run in {output} has ended; expected another folder, or {more} to go on with it")


def prepare_start(parameters: dict[str, dict[str, Any]], output: Path | None) -> Start | None:
    """Read the model to start from, if there is one; the planner then needs no base trials before it.

    A run that is resumed starts from what it started from or has loaded before, unless another model is given.

    Raises:
        MbrlError: the file cannot be read, or is a model of another robot, layout or kind.
    """
    learner = parameters["model_learner"]
    given = Path(learner["start_model"]) if learner["start_model"] else None if output is None else newest_start(output)
    if given is None:
        return None
    path = given.expanduser().resolve()
    start = read_start(path, load_robot(learner["robot"]), learner["model"])
    learner["start_model"] = str(path)
    parameters["trial_manager"]["base_trials"] = 0
    return start


def start_time(folder: Path, robot_name: str) -> float:
    """First reading of the lockstep clock in s: a resumed run must not repeat a stamp that is stored already.

    Raises:
        MbrlError: the folder's store is damaged or of another robot.
    """
    if not (folder / TRANSITIONS).exists():
        return 0.0
    robot = load_robot(robot_name)
    with TransitionStore(folder / TRANSITIONS, robot.name, robot.layout) as store:
        newest = store.newest_stamp(before=WALL_CLOCK)
    return RESUME_OFFSET * (1 + 1e-9 * newest // RESUME_OFFSET) if newest >= 0 else 0.0


def check_planning_rate(parameters: Mapping[str, Mapping[str, Any]]) -> RateCheck | None:
    """Whether the planner holds the control rate on this machine; None in lockstep, where time waits for it."""
    values = {key: v for key, v in parameters["mpc_controller"].items() if key not in ROS_PARAMETERS}
    config, groups = configure(NODES["mpc_controller"], values)
    if config.lockstep:
        return None
    robot = load_robot(config.robot)
    _, sizes = configure(
        NODES["model_learner"], {k: v for k, v in parameters["model_learner"].items() if k not in ROS_PARAMETERS}
    )
    model = model_class(config.model).example(robot.layout, sizes[config.model], np.random.default_rng(0))
    model = model.with_threads(config.threads).with_propagation(config.propagation)
    problem = replace(make_problem(config, groups, robot), dynamics=model)
    return check_rate(planner_class(config.planner), groups[config.planner], problem, config.budget * robot.dt)
