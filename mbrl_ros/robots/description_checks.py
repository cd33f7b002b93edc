"""What may be wrong with a robot's description: each problem in words that name field, value and what is allowed."""

from typing import Any

import numpy as np

from mbrl_ros.estimation.config import BASES, TOPIC
from mbrl_ros.robots.interfaces import COMMAND_INTERFACES, TWIST_ACTIONS
from mbrl_ros.robots.sensors import BASE_STATES


def name_problems(robot: Any) -> list[str]:
    """Names that are not there, or twice."""
    problems = []
    if len(set(robot.joints)) != len(robot.joints) or not robot.entries:
        problems.append(f"joints: {list(robot.joints)} is not allowed; expected at least one, each only once")
    for name in robot.angles:
        if name not in robot.joints:
            problems.append(f"angles: '{name}' is not a joint; choose from: {', '.join(robot.joints)}")
    if robot.command_interface == "twist":
        if robot.actuators != TWIST_ACTIONS:
            problems.append(f"actuators: {list(robot.actuators)} is not allowed; expected {list(TWIST_ACTIONS)}")
    elif unknown := [name for name in robot.actuators if name not in robot.joints]:
        problems.append(f"actuators: '{unknown[0]}' is not a joint; choose from: {', '.join(robot.joints)}")
    if len(set(robot.actuators)) != len(robot.actuators) or not robot.actuators:
        problems.append(f"actuators: {list(robot.actuators)} is not allowed; expected at least one, each only once")
    if robot.base not in BASES:
        problems.append(f"base: '{robot.base}' is not allowed; expected one of: {', '.join(BASES)}")
    else:
        known = BASE_STATES[robot.base]
        for name in robot.base_states:
            if name not in known or robot.base_states.count(name) > 1:
                allowed = ", ".join(known) or "none, as base is none"
                problems.append(f"base_states: '{name}' is not allowed; expected each once of: {allowed}")
    if robot.command_interface == "twist" and robot.base == "none":
        problems.append(f"base: none is not allowed with twist commands; expected one of: {', '.join(BASES[1:])}")
    return problems


def length_problems(robot: Any) -> list[str]:
    """Lists that are too short or too long."""
    expected = [("position_limit", "entries"), ("velocity_limit", "joints"), ("command_rate", "actuators")]
    needed = COMMAND_INTERFACES.get(robot.command_interface)
    if robot.effort_limit or (needed and needed.limit == "effort_limit"):
        expected.append(("effort_limit", "actuators"))
    if robot.twist_limit or (needed and needed.limit == "twist_limit"):
        expected.append(("twist_limit", "actuators"))
    if robot.start_position:
        expected.append(("start_position", "joints"))
    return [
        f"{key}: expected one number for each of {what} {list(getattr(robot, what))}"
        for key, what in expected
        if len(getattr(robot, key)) != len(getattr(robot, what))
    ]


def number_problems(robot: Any) -> list[str]:
    """Numbers that are out of range."""
    problems = []
    for key in ("control_rate", "trial_duration"):
        if not 0 < getattr(robot, key) < np.inf:
            problems.append(f"{key}: {getattr(robot, key)} must be positive and finite")
    for key in ("position_noise", "velocity_noise"):
        if not 0 <= getattr(robot, key) < np.inf:
            problems.append(f"{key}: {getattr(robot, key)} must not be negative, and finite")
    for key in ("effort_limit", "twist_limit"):
        if not all(0 < limit < np.inf for limit in getattr(robot, key)):
            problems.append(f"{key}: {list(getattr(robot, key))} must be positive and finite")
    for key in ("velocity_limit", "command_rate"):
        if not all(limit > 0 for limit in getattr(robot, key)):
            problems.append(f"{key}: {list(getattr(robot, key))} must be positive; .inf where there is none")
    return problems


def limit_problems(robot: Any) -> list[str]:
    """Ranges that hold nothing, or not the start; limits that the interface needs and that are not there."""
    problems = []
    for limit, low, high in zip(robot.position_limit, robot.position_low, robot.position_high, strict=True):
        if isinstance(limit, tuple) and not low < high:
            problems.append(f"position_limit: {list(limit)} is not allowed; expected [low, high] with low < high")
        if not isinstance(limit, tuple) and not limit > 0:
            stated = list(robot.position_limit)
            problems.append(f"position_limit: {stated} must be positive; .inf where there is none")
    for i, start in enumerate(robot.start_position):
        if not (robot.position_low[i] <= start <= robot.position_high[i] and abs(start) < np.inf):
            limit = robot.position_limit[i]
            problems.append(f"start_position: {start} must be finite and within position_limit {limit}")
    if robot.command_interface in ("position", "velocity") and not problems:
        high = robot.u_max - robot.u_min
        for name in [a for a, span in zip(robot.actuators, high, strict=True) if not np.isfinite(span)]:
            key = COMMAND_INTERFACES[robot.command_interface].limit
            problems.append(
                f"{key}: there is none for '{name}', but {robot.command_interface} commands need one; "
                "expected a finite number"
            )
    return problems


def interface_problems(robot: Any) -> list[str]:
    """A command interface that is not known, or not with this message or topic."""
    if robot.command_interface not in COMMAND_INTERFACES:
        known = ", ".join(COMMAND_INTERFACES)
        return [f"command_interface: '{robot.command_interface}' is not allowed; expected one of: {known}"]
    problems, messages = [], COMMAND_INTERFACES[robot.command_interface].messages
    if robot.output_message not in messages:
        problems.append(
            f"command_message: '{robot.command_message}' is not allowed for {robot.command_interface} commands; "
            f"expected one of: {', '.join(messages)}"
        )
    if robot.command_topic and not TOPIC.fullmatch(robot.command_topic):
        problems.append(f"command_topic: '{robot.command_topic}' is not allowed; expected a ROS topic such as cmd_vel")
    return problems
