"""Parameters of a replay: those of the recorded run, and what is to be different."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.config import build
from mbrl_ros.data.bag_folders import PARAMETERS, bags_in
from mbrl_ros.data.bag_reader import BagError
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import NODES, ROS_PARAMETERS, configure, group_classes, node_parameters
from mbrl_ros.params_file import as_used, check_namespace, check_parameters, read_params_file

REPLAYED = {"estimator": "state_estimator", "learner": "model_learner", "planner": "mpc_controller"}  # part -> node
# What a replay takes from the recording, whatever the parameters say.
WITHOUT_EFFECT = {
    "model_learner": ("refit_every", "fleet", "start_model", "output", "lockstep", "autostart"),
    "mpc_controller": ("budget", "model_topic", "output", "lockstep", "autostart", "threads"),
    "state_estimator": ("seed", "output", "lockstep", "autostart"),
}
Parameters = dict[str, dict[str, Any]]


def find_bag(path: Path) -> Path:
    """The bag of a run folder, the newest where there are several; a bag is its own.

    Raises:
        BagError: the run folder has none.
    """
    if not path.is_dir() or (path / "metadata.yaml").exists() or any(path.glob("*.mcap")):
        return path
    bags = bags_in(path)
    if bags:
        return bags[-1]
    if (path / PARAMETERS).exists():
        raise BagError(f"{path}: the run has no bag; it was not recorded (--record, or record:=true)")
    return path


def parameters_file(bag: Path) -> Path | None:
    """The parameters of the run, in the bag or beside it; None where there are none."""
    folder = bag if bag.is_dir() else bag.parent
    return next((p / PARAMETERS for p in (folder, folder.parent) if (p / PARAMETERS).is_file()), None)


def recorded_parameters(bag: Path, robot: str | None) -> tuple[Parameters, str]:
    """Parameters of the replayed nodes as they were when the run began, and the graph's namespace.

    Args:
        bag: the bag.
        robot: the robot, in place of the recorded one.

    Raises:
        BagError: there are no parameters, and no robot is given.
        ConfigError: a parameter is not allowed any more; names file, key, value and what is.
    """
    file = parameters_file(bag)
    if file is None and robot is None:
        raise BagError(f"{bag}: no {PARAMETERS} in it or beside it; --robot and --params-file say what it is of")
    shared, nodes = ({}, {}) if file is None else read_params_file(file)
    given = {} if robot is None else {"robot": robot}
    flat = node_parameters(shared, nodes)
    chosen = {name: flat[name] | given for name in REPLAYED.values()}
    check_parameters(chosen, str(file) if file else "defaults")
    return {name: as_used(NODES[name], values) for name, values in chosen.items()}, recorded_namespace(file)


def recorded_namespace(file: Path | None) -> str:
    """Namespace of the graph, from the names of the nodes in its parameters."""
    names = [] if file is None else [str(name) for name in yaml.safe_load(file.read_text())]
    return next((name.rpartition("/")[0].strip("/") for name in names if "/" in name.strip("/")), "")


def read_changes(texts: Sequence[str], params_file: Path | None) -> Parameters:
    """What is to be different, by node.

    Args:
        texts: such as ``planner.seed=3`` or ``estimator.filter.gate=0.99``; they win over the file.
        params_file: ROS parameter file, or None.

    Raises:
        ConfigError: a text is not of this form, or a key has no effect on a replay.
    """
    changes: Parameters = {name: {} for name in REPLAYED.values()}
    if params_file is not None:
        shared, nodes = read_params_file(params_file)
        for name in changes:
            known = {f for f in NODES[name].config.__dataclass_fields__ if f not in WITHOUT_EFFECT[name]}
            own = {k: v for k, v in nodes.get(name, {}).items() if k not in (*WITHOUT_EFFECT[name], *ROS_PARAMETERS)}
            changes[name] = {k: v for k, v in shared.items() if k in known} | own
    for text in texts:
        node, key, value = read_change(text)
        changes[node][key] = value
    return changes


def read_change(text: str) -> tuple[str, str, Any]:
    """Node, key and value of one change."""
    name, equals, value = text.partition("=")
    part, dot, key = name.partition(".")
    node = REPLAYED.get(part, part)
    if not (equals and dot and key) or node not in REPLAYED.values():
        raise ConfigError(
            f"set: '{text}' is not allowed; expected PART.KEY=VALUE with PART one of: {', '.join(REPLAYED)}"
        )
    if key in WITHOUT_EFFECT[node]:
        raise ConfigError(f"set: {part}.{key} has no effect: a replay takes it from the recording")
    try:
        return node, key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"set: '{value}' is not a value; expected one as in YAML") from None


def configured(node: str, recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Configuration and groups of a node with changed parameters.

    Groups that go with what is no longer there, such as ``cem`` with another planner, are left out.

    Raises:
        ConfigError: names key, value and what is allowed.
    """
    spec = NODES[node]
    merged = {k: v for k, v in {**recorded, **changes}.items() if k not in ROS_PARAMETERS}
    own = build(spec.config, {k: v for k, v in merged.items() if "." not in k}, node)
    prefixes = group_classes(spec, own)
    used = {k: v for k, v in merged.items() if "." not in k or k.split(".")[0] in prefixes or k in changes}
    return configure(spec, used, node)


def check_same_robot(parameters: Parameters, changes: Parameters) -> None:
    """Raise ConfigError where a node is to have another robot: that is an option of its own, for all of them."""
    for node, values in changes.items():
        if values.get("robot", parameters[node]["robot"]) != parameters[node]["robot"]:
            raise ConfigError(f"{node}: robot: '{values['robot']}' is another one; give it with --robot, for all parts")


def check_given_namespace(namespace: str | None) -> None:
    """Raise ConfigError for a namespace that ROS would not take."""
    if namespace is not None:
        check_namespace(namespace)
