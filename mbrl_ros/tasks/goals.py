"""Goals at run time: what a message asks for, checked, as parameters of the task. No ROS.

A target names entries of the state (``StateLayout.state``) and the values they are to have; entries that it does not
name keep their goal. A task whose goal can be moved has two methods:

    goal_entries(state)                 the goal in force by name, of the entries that matter to the task
    goal_parameters(state, target)      the parameters that make the target its goal

and may have ``goal_of_point(state, position)``, the target that brings the robot's point of interest to a position.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.description import RobotDescription

POSITION, VELOCITY = "/position", "/velocity"
POSE_ENTRIES = ("base_x", "base_y", "base_z", "base_roll", "base_pitch", "base_yaw")


def goal_parameters(task: Any, robot: RobotDescription, target: Mapping[str, float]) -> dict[str, Any]:
    """Parameters of the task, without its prefix, that make `target` the goal.

    Raises:
        ConfigError: the task has no goal that can be moved, or the target has an entry that the state has not, or a
            value that is not finite or beyond a limit of the robot.
    """
    if not hasattr(task, "goal_parameters"):
        raise ConfigError(f"goal: the task {robot.task} has none that can be moved")
    if not target:
        raise ConfigError("goal: it is empty; expected at least one of: " + ", ".join(robot.layout.state))
    check_entries(robot, target)
    parameters: dict[str, Any] = task.goal_parameters(robot.layout.state, target)
    return parameters


def check_task(task: Any, robot: RobotDescription) -> None:
    """Whether a task can be planned for and its goal is within the robot's limits.

    Raises:
        ConfigError: names the parameter or the entry, its value and what is allowed.
    """
    nx, nu = robot.layout.nx, robot.layout.nu
    try:
        costs = task.running_cost(robot.initial_state[None], np.zeros((1, nu)))
        ending = task.terminal_cost(robot.initial_state[None])
    except (IndexError, ValueError) as error:
        raise ConfigError(f"task: {robot.task} is not for {nx} states and {nu} actions: {error}") from None
    if not np.isfinite([costs, ending]).all():
        raise ConfigError(f"task: the cost of the start is {float(costs[0])}; expected parameters that make it finite")
    if hasattr(task, "goal_entries"):
        check_entries(robot, task.goal_entries(robot.layout.state))


def check_entries(robot: RobotDescription, target: Mapping[str, float]) -> None:
    """Raise ConfigError for an entry that the state has not, and for a value that may not be a goal."""
    limits = entry_limits(robot)
    for name, value in target.items():
        if name not in limits:
            raise ConfigError(f"goal: unknown entry '{name}'; choose from: {', '.join(limits)}")
        low, high = limits[name]
        if not (np.isfinite(value) and low <= value <= high):
            raise ConfigError(f"goal: {name} {value:g} is not allowed; expected a number in [{low:g}, {high:g}]")


def entry_limits(robot: RobotDescription) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every entry of the state."""
    limits = dict.fromkeys(robot.layout.state, (-np.inf, np.inf))
    names = (*(f"{joint}{POSITION}" for joint in robot.joints), *robot.base_states)
    limits |= dict(zip(names, zip(robot.position_low, robot.position_high, strict=True), strict=True))
    limits |= {f"{j}{VELOCITY}": (-v, v) for j, v in zip(robot.joints, robot.velocity_limit, strict=True)}
    return limits


def joint_target(robot: RobotDescription, names: Sequence[str], position: Any, velocity: Any) -> dict[str, float]:
    """Target of joints by name: positions (n,), and velocities (n,) or none; others than joints are base entries.

    Raises:
        ConfigError: a name is unknown or there twice, or the lengths do not fit.
    """
    if len(position) != len(names) or len(velocity) not in (0, len(names)):
        sizes = f"{len(names)} names, {len(position)} positions, {len(velocity)} velocities"
        raise ConfigError(f"goal: {sizes}; expected a position for each name, and a velocity for each or for none")
    known = robot.entries
    for name in names:
        if name not in known or list(names).count(name) > 1:
            raise ConfigError(f"goal: '{name}' is unknown or there twice; choose from: {', '.join(known)}")
    target = {f"{n}{POSITION}" if n in robot.joints else n: float(p) for n, p in zip(names, position, strict=True)}
    moving = zip(names, velocity, strict=True) if len(velocity) else ()
    return target | {f"{n}{VELOCITY}": float(v) for n, v in moving if n in robot.joints}


def pose_target(task: Any, robot: RobotDescription, position: np.ndarray, angles: np.ndarray) -> dict[str, float]:
    """Target of a pose: of the base where the robot has one, else of its point of interest where the task says how.

    Args:
        task: the task.
        robot: the robot.
        position: (3,) in m.
        angles: roll, pitch, yaw (3,) in rad; of a base they count where the state has them.

    Raises:
        ConfigError: neither applies.
    """
    state = robot.layout.state
    if robot.base != "none":
        pose = zip(POSE_ENTRIES, (*position, *angles), strict=True)
        return {name: float(value) for name, value in pose if name in state}
    if hasattr(task, "goal_of_point"):
        target: dict[str, float] = task.goal_of_point(state, position)
        return target
    raise ConfigError(
        f"goal: no pose is taken for {robot.name}, which has no moving base and no URDF; send joint positions instead"
    )
