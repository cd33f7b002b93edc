"""Planners by name."""

from typing import Any

from mbrl_ros.registry import load_class

PLANNERS = {
    "cem": "mbrl_ros.planners.cem:CEM",
    "collocation": "mbrl_ros.planners.collocation:Collocation",
    "ddp": "mbrl_ros.planners.ddp:DDP",
    "ilqr": "mbrl_ros.planners.ilqr:ILQR",
    "lqr": "mbrl_ros.planners.lqr:LQR",
    "mcts": "mbrl_ros.planners.mcts:MCTS",
    "mppi": "mbrl_ros.planners.mppi:MPPI",
    "random_shooting": "mbrl_ros.planners.random_shooting:RandomShooting",
}


def planner_class(name: str) -> Any:
    """Class of the planner called `name`; UnknownNameError lists the known names."""
    return load_class(PLANNERS, "planner", name)
