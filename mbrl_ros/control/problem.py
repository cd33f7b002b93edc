"""The control problem from the controller's parameters and the robot's description."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.models import MODELS, model_class
from mbrl_ros.models.propagation import PROPAGATIONS
from mbrl_ros.planners.base import Problem
from mbrl_ros.planners.constraints import ConstrainedTask
from mbrl_ros.planners.risk import make_risk
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.safety.limits import one_each, per_actuator
from mbrl_ros.tasks import TASKS
from mbrl_ros.tasks.goals import check_task


def make_problem(config: Any, groups: dict[str, Any], robot: RobotDescription) -> Problem:
    """The control problem; its dynamics is None until the first model comes.

    Args:
        config: `graph.ControllerConfig`.
        groups: its parameter groups; ``task``, ``risk`` and ``adaptation`` are used.
        robot: limits and task.

    Raises:
        ConfigError: the task is not for this robot, its goal is beyond the robot's limits, or a setting has no effect.
    """
    check_particles(config, groups["risk"])
    check_adaptation(config.model, groups["adaptation"].memory)
    task = TASKS[robot.task](groups["task"])
    check_task(task, robot)
    u_min, u_max = command_range(config.command_low, config.command_high, robot)
    problem = Problem(
        dynamics=None,  # type: ignore[arg-type]
        task=task,
        u_min=u_min,
        u_max=u_max,
        horizon=config.horizon,
        particles=1 if config.propagation == "mean" else config.particles,  # all would be alike
        sample_noise=config.sample_noise,
        risk=make_risk(groups["risk"]),
        replan_every=config.replan_every,
        u_step=largest_step(config.command_rate, robot),
        targets=held_entries(robot),
    )
    if config.state_limits == "none":
        return problem
    x_min, x_max = state_range(robot, config.limit_share)
    constrained = ConstrainedTask(task, x_min, x_max, config.state_limits)
    return replace(problem, task=constrained, x_min=x_min, x_max=x_max)


def command_range(
    low: Sequence[float], high: Sequence[float], robot: RobotDescription
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest command (nu,): the narrower of the robot's range and what is stated.

    Raises:
        ConfigError: neither one number nor one an actuator, or nothing is left between them.
    """
    u_min = np.maximum(robot.u_min, one_each("command_low", low, robot.actuators))
    u_max = np.minimum(robot.u_max, one_each("command_high", high, robot.actuators))
    for name, least, most in zip(robot.actuators, u_min, u_max, strict=True):
        if not least < most:
            raise ConfigError(
                f"command_low, command_high: they leave {least:g} to {most:g} for {name}; expected low < high"
            )
    return u_min, u_max


def largest_step(command_rate: Sequence[float], robot: RobotDescription) -> np.ndarray | None:
    """Largest change of the command (nu,) from one period to the next; None where any is allowed.

    Raises:
        ConfigError: neither one number nor one an actuator.
    """
    rate = per_actuator("command_rate", command_rate, robot.actuators)
    return None if np.all(np.isinf(rate)) else rate * robot.dt


def held_entries(robot: RobotDescription) -> np.ndarray | None:
    """State entries (nu,) that position commands are targets of; None for other interfaces."""
    if robot.command_interface != "position":
        return None
    return np.array([robot.joints.index(name) for name in robot.actuators])


def check_particles(config: Any, risk: Any) -> None:
    """Refuse what needs particles that differ where the plan follows the mean.

    Raises:
        ConfigError: names the setting.
    """
    unused = {"sample_noise": config.sample_noise, "risk.measure": risk.measure != "risk_neutral"}
    if config.propagation == "mean" and any(unused.values()):
        name = next(name for name, is_set in unused.items() if is_set)
        value = risk.measure if name == "risk.measure" else config.sample_noise
        raise ConfigError(
            f"{name}: {value} has no effect with propagation 'mean', whose particles are all alike; "
            f"choose propagation {', '.join(sorted(set(PROPAGATIONS) - {'mean'}))}"
        )


def check_adaptation(model: str, memory: float) -> None:
    """Refuse to adapt the last layer of a model that has none.

    Raises:
        ConfigError: names the setting and the models that can be adapted.
    """
    if memory > 0 and not model_class(model).adaptable:
        able = ", ".join(name for name in MODELS if model_class(name).adaptable)
        raise ConfigError(
            f"adaptation.memory: {memory} has no effect with model '{model}', which has no last layer; "
            f"choose model {able}"
        )


def state_range(robot: RobotDescription, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest state (nx,): the share of the range around its middle; velocities of joints are free.

    Where there is a limit on one side only, it is moved by its own share.
    """
    low, high = robot.position_low, robot.position_high
    both = np.isfinite(low) & np.isfinite(high)
    middle = np.where(both, 0.5 * (np.where(both, low, 0.0) + np.where(both, high, 0.0)), 0.0)
    n = len(robot.joints)

    def state(entries: np.ndarray, free: float) -> np.ndarray:
        return np.concatenate([entries[:n], np.full(n, free), entries[n:]])

    return state(middle + share * (low - middle), -np.inf), state(middle + share * (high - middle), np.inf)
