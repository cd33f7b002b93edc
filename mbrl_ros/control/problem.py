"""The control problem from the controller's parameters and the robot's description."""

from dataclasses import replace
from typing import Any

import numpy as np

from mbrl_ros.planners.base import Problem
from mbrl_ros.planners.constraints import ConstrainedTask
from mbrl_ros.planners.risk import make_risk
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.tasks import TASKS


def make_problem(config: Any, groups: dict[str, Any], robot: RobotDescription) -> Problem:
    """The control problem; its dynamics is None until the first model comes.

    Args:
        config: `graph.ControllerConfig`.
        groups: its parameter groups; ``task`` and ``risk`` are used.
        robot: limits and task.
    """
    problem = Problem(
        dynamics=None,  # type: ignore[arg-type]
        task=TASKS[robot.task](groups["task"]),
        u_min=-robot.u_max,
        u_max=robot.u_max,
        horizon=config.horizon,
        particles=config.particles,
        sample_noise=config.sample_noise,
        risk=make_risk(groups["risk"]),
        replan_every=config.replan_every,
    )
    if config.state_limits == "none":
        return problem
    free = np.full(len(robot.joints), np.inf)  # velocities
    x_max = np.concatenate([config.limit_share * np.array(robot.position_limit), free])
    task = ConstrainedTask(problem.task, -x_max, x_max, config.state_limits)
    return replace(problem, task=task, x_min=-x_max, x_max=x_max)
