"""What may change while the robot moves: described, with a range for sliders, and all that people want to turn."""

import dataclasses

import pytest

from mbrl_ros.estimation.joint_filter import FilterConfig
from mbrl_ros.graph import NODES
from mbrl_ros.models import MODELS, model_class
from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.risk import RiskConfig
from mbrl_ros.safety.guard import GuardConfig
from mbrl_ros.tasks import TASKS

CLASSES = {
    **{name: spec.config for name, spec in NODES.items()},
    **{name: planner_class(name).config_class for name in PLANNERS},
    **{name: model_class(name).config_class for name in MODELS},
    **{name: task.config_class for name, task in TASKS.items()},
    **{"risk": RiskConfig, "guard": GuardConfig, "filter": FilterConfig},
}


def dynamic(cls):
    return {field.name for field in dataclasses.fields(cls) if field.metadata["dynamic"]}


@pytest.mark.parametrize("name", CLASSES)
def test_every_parameter_is_described_and_what_may_change_has_a_range(name):
    for field in dataclasses.fields(CLASSES[name]):
        meta = field.metadata
        assert len(meta["description"]) > 5, field.name
        if meta["dynamic"] and field.type in (int, float):
            assert meta["low"] is not None and meta["high"] is not None, field.name


@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("mpc_controller", {"horizon", "particles", "budget", "limit_share"}),
        ("cem", {"samples", "rounds", "elites"}),
        ("mppi", {"samples", "temperature"}),
        ("random_shooting", {"samples"}),
        ("mcts", {"simulations", "exploration"}),
        ("ilqr", {"iterations"}),
        ("cartpole_swingup", {"width", "position_weight", "goal_position"}),
        ("reach", {"goal", "weights", "tolerance"}),
        ("guard", {"position_margin", "velocity_margin", "effort_margin", "command_rate", "command_jerk"}),
        ("model_learner", {"refit_every", "calibrate"}),
        ("trial_manager", {"trials"}),
    ],
)
def test_what_people_turn_may_change(name, turned):
    assert turned <= dynamic(CLASSES[name])


@pytest.mark.parametrize(
    ("name", "built_in"),
    [
        ("mpc_controller", {"planner", "model", "threads", "mode", "seed", "robot", "lockstep"}),
        ("cem", {"refine"}),  # what it needs is compiled before the robot moves
        ("guard", {"timeout", "stale_after", "invalid_limit", "state_action", "heartbeat_timeout", "safe_action"}),
        ("filter", {"rate", "base", "joint_topics"}),
    ],
)
def test_what_is_built_in_may_not(name, built_in):
    assert not built_in & dynamic(CLASSES[name])
