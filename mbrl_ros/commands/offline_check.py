"""What can be said of a robot's YAML without the robot: URDF, limits, task, rates, delay, parameters."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from mbrl_ros.commands.robot import robot_parameters
from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.graph import NODES, ROS_PARAMETERS, configure
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.findings import FIX, OK, WARN, Finding, judged
from mbrl_ros.safety.limits import limits_of, urdf_limits
from mbrl_ros.tasks import TASKS

RATES = (1.0, 500.0)  # Hz; above, a period is too short for messages between processes
SHORTEST_TRIAL = 10  # control periods
LONGEST_DELAY = 10  # control periods


def offline_findings(robot: RobotDescription, path: Path) -> list[Finding]:
    """Every row that needs no robot."""
    rows = [*urdf_findings(robot), rate_finding(robot), delay_finding(robot), task_finding(robot)]
    try:
        parameters = robot_parameters({}, path)
    except MbrlError as error:
        return [*rows, Finding("parameters", FIX, str(error))]
    rows.append(Finding("parameters", OK, "of every node are allowed"))
    guard = {k: v for k, v in parameters["command_guard"].items() if k not in ROS_PARAMETERS}
    return [*rows, *guard_findings(robot, configure(NODES["command_guard"], guard)[1]["guard"])]


def urdf_findings(robot: RobotDescription) -> list[Finding]:
    """Joints and limits of the YAML against those of the URDF."""
    if robot.urdf is None:
        verdict = WARN if robot.joints else OK
        return [Finding("urdf", verdict, "none; velocity and effort limits must all be in the YAML")]
    try:
        stated, kinds = urdf_limits(robot.urdf), joint_kinds(robot.urdf)
    except ConfigError as error:
        return [Finding("urdf", FIX, str(error))]
    movable = [name for name, kind in kinds.items() if kind != "fixed"]
    missing = [f"no movable joint '{j}'; the URDF has: {', '.join(movable)}" for j in robot.joints if j not in movable]
    rows = [judged("urdf joints", missing, f"{len(robot.joints)} of {len(movable)} movable joints are used")]
    turning = [
        f"{j} turns without end, but is not in angles"
        for j in robot.joints
        if kinds.get(j) == "continuous" and j not in robot.angles
    ]
    sliding = [f"{j} is prismatic, but is in angles" for j in robot.angles if kinds.get(j) == "prismatic"]
    rows.append(judged("angles", [*turning, *sliding], ", ".join(robot.angles) or "none", FIX if sliding else WARN))
    return [*rows, judged("limits of the urdf", wider_limits(robot, stated), "the YAML is nowhere wider", WARN)]


def joint_kinds(path: Path) -> dict[str, str]:
    """Joint -> type in a URDF that can be read."""
    return {joint.get("name", ""): joint.get("type", "") for joint in ET.parse(path).getroot().findall("joint")}


def wider_limits(robot: RobotDescription, stated: dict[str, tuple[float, float, float, float]]) -> list[str]:
    """Limits of the YAML that the URDF does not allow: the narrower one will count."""
    problems = []
    for i, joint in enumerate(robot.joints):
        if joint not in stated:
            continue
        low, high, velocity, effort = stated[joint]
        if robot.position_high[i] > high and np.isfinite(robot.position_high[i]):
            problems.append(f"{joint}: position_limit up to {robot.position_high[i]:g}, the URDF's ends at {high:g}")
        if robot.position_low[i] < low and np.isfinite(robot.position_low[i]):
            problems.append(f"{joint}: position_limit down to {robot.position_low[i]:g}, the URDF's begins at {low:g}")
        if velocity < robot.velocity_limit[i] < np.inf:
            problems.append(f"{joint}: velocity_limit {robot.velocity_limit[i]:g}, the URDF's is {velocity:g}")
        if robot.effort_limit and joint in robot.actuators:
            limit = robot.effort_limit[robot.actuators.index(joint)]
            if limit > effort:
                problems.append(f"{joint}: effort_limit {limit:g}, the URDF's is {effort:g}")
    return problems


def rate_finding(robot: RobotDescription) -> Finding:
    """Control rate and trial length."""
    problems = []
    if not RATES[0] <= robot.control_rate <= RATES[1]:
        problems.append(f"control_rate: {robot.control_rate:g} Hz; expected {RATES[0]:g} to {RATES[1]:g}")
    if robot.trial_steps < SHORTEST_TRIAL:
        problems.append(f"trial_duration: {robot.trial_steps} periods; expected {SHORTEST_TRIAL} or more")
    return judged("rates", problems, f"{robot.control_rate:g} Hz, {robot.trial_steps} periods a trial")


def delay_finding(robot: RobotDescription) -> Finding:
    """Whether the delay is known, and how many periods it is."""
    if robot.delay is None:
        return Finding("delay", WARN, "not known; measure it: mbrl_ros identify delay")
    ticks = robot.delay_ticks(lockstep=False)
    text = f"{1e3 * robot.delay.actuation_s:g} + {1e3 * robot.delay.sensing_s:g} ms, {ticks} periods with planning"
    return Finding("delay", WARN if ticks > LONGEST_DELAY else OK, text)


def task_finding(robot: RobotDescription) -> Finding:
    """Whether there is such a task, and whether it is for a state and an action of this size."""
    if robot.task not in TASKS:
        return Finding("task", FIX, f"unknown task '{robot.task}'; choose one of: {', '.join(sorted(TASKS))}")
    cls, layout = TASKS[robot.task], robot.layout
    try:
        task = cls(configured(robot, cls.config_class))
        cost = task.running_cost(robot.initial_state[None], np.zeros((1, layout.nu)))
        task.terminal_cost(robot.initial_state[None])
    except (IndexError, ValueError) as error:
        return Finding("task", FIX, f"{robot.task} is not for {layout.nx} states and {layout.nu} actions: {error}")
    except ConfigError as error:
        return Finding("task", FIX, str(error))
    fine = np.shape(cost) == (1,) and np.isfinite(cost).all()
    return Finding("task", OK if fine else FIX, f"{robot.task}, cost {np.ravel(cost)[0]:.3g} at the start")


def configured(robot: RobotDescription, config_class: type) -> object:
    """The task's settings as the robot's YAML wants them."""
    from mbrl_ros.config import build
    from mbrl_ros.params_file import flatten

    values = flatten(robot.parameters.get("mpc_controller", {}))
    return build(config_class, {k.removeprefix("task."): v for k, v in values.items() if k.startswith("task.")}, "task")


def guard_findings(robot: RobotDescription, config: object) -> list[Finding]:
    """What the guard makes of the limits."""
    try:
        limits = limits_of(robot, config)  # type: ignore[arg-type]
    except ConfigError as error:
        return [Finding("limits of the guard", FIX, str(error))]
    low, high = limits.command_low, limits.command_high
    ranges = [f"{a} {lo:.4g} to {hi:.4g}" for a, lo, hi in zip(limits.actuators, low, high, strict=True)]
    rows = [Finding("commands", OK, f"{robot.command_interface}: {', '.join(ranges)}")]
    free = [a for a, rate in zip(limits.actuators, limits.command_rate, strict=True) if not np.isfinite(rate)]
    if free and robot.command_interface != "effort":
        advice = f"nothing bounds how fast commands to {', '.join(free)} change; set command_rate"
        must = robot.command_interface == "position"
        rows.append(Finding("command rate", FIX if must else WARN, advice))
    n = len(robot.joints)
    start = robot.initial_state[:n]
    if robot.start_position and (
        beyond := limits.beyond(np.concatenate([start, np.zeros(len(limits.joints) - n)]), np.zeros(len(limits.joints)))
    ):
        rows.append(Finding("start", FIX, f"the guard does not arm there: {beyond}"))
    return rows
