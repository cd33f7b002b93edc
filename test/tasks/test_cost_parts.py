"""The parts of a task's cost add up to its running cost, and each part is moved by its own weight alone."""

from dataclasses import replace

import numpy as np
import pytest

from mbrl_ros.tasks import TASKS
from mbrl_ros.tasks.reach import ReachConfig

SIZES = {"cartpole_swingup": (4, 1), "pendulum_swingup": (2, 1), "reach": (4, 2)}
REACH = ReachConfig(goal=(0.3, -0.2, 0.0, 1.0), weights=(1.0, 2.0, 0.0, 0.5), control_weight=0.1, control_rest=(0.5,))
WEIGHTS = {
    "cartpole_swingup": {
        "upright_weight": "pole not upright",
        "position_weight": "cart away from its goal",
        "velocity_weight": "velocities",
        "track_weight": "end of the track",
    },
    "pendulum_swingup": {"upright_weight": "not upright", "velocity_weight": "rate", "control_weight": "torque"},
    "reach": {"control_weight": "action"},
}


def config_of(name):
    return REACH if name == "reach" else TASKS[name].config_class()


def states_and_actions(name, count=200):
    (nx, nu), rng = SIZES[name], np.random.default_rng(0)
    return rng.uniform(-3.0, 3.0, (count, nx)), rng.uniform(-2.0, 2.0, (count, nu)), [f"entry {i}" for i in range(nx)]


@pytest.mark.parametrize("name", TASKS)
def test_parts_add_up_to_the_running_cost_and_none_is_negative(name):
    x, u, state = states_and_actions(name)
    task = TASKS[name](config_of(name))
    parts = task.cost_parts(x, u, state)
    np.testing.assert_allclose(sum(parts.values()), task.running_cost(x, u), rtol=1e-12, atol=1e-12)
    assert all((part >= 0.0).all() and part.shape == (len(x),) for part in parts.values())
    one = task.cost_parts(x[0], u[0], state)
    assert {key: float(value) for key, value in one.items()} == {key: part[0] for key, part in parts.items()}


@pytest.mark.parametrize(
    "name, weight, part", [(n, w, p) for n, entries in WEIGHTS.items() for w, p in entries.items()]
)
def test_each_weight_moves_its_own_part_alone(name, weight, part):
    x, u, state = states_and_actions(name)
    config = config_of(name)
    before = TASKS[name](config).cost_parts(x, u, state)
    after = TASKS[name](replace(config, **{weight: 2.0 * getattr(config, weight)})).cost_parts(x, u, state)
    np.testing.assert_allclose(after[part], 2.0 * before[part])
    assert before[part].max() > 0.0
    for other in set(before) - {part}:
        np.testing.assert_array_equal(after[other], before[other])


def test_parts_of_reach_are_named_after_the_entries():
    x = np.array([1.3, -0.2, 5.0, 1.0])
    parts = TASKS["reach"](REACH).cost_parts(x, np.array([0.5, 0.5]), ["a", "b", "c", "d"])
    assert {name: round(float(value), 12) for name, value in parts.items()} == {
        "a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "action": 0.0,
    }  # fmt: skip
