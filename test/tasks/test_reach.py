"""The reach task: a quadratic about a goal."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.tasks.reach import Reach, ReachConfig

CONFIG = ReachConfig(goal=(1.0, -2.0, 0.0), weights=(1.0, 0.5, 0.0), control_weight=0.1, control_rest=(0.3,))
TASK = Reach(CONFIG)


def test_the_goal_costs_nothing_and_counts_as_reached():
    x = np.array([1.0, -2.0, 77.0])
    assert TASK.running_cost(x, np.array([0.3, 0.3])) == 0.0
    assert TASK.on_target(x)
    assert not TASK.on_target(x + np.array([0.06, 0.0, 0.0])) and TASK.on_target(x + np.array([0.04, -0.04, 0.0]))
    assert TASK.running_cost(x + np.array([2.0, 2.0, 0.0]), np.array([0.3, 1.3])) == pytest.approx(4.0 + 2.0 + 0.1)
    assert TASK.terminal_cost(x + np.array([2.0, 0.0, 0.0])) == pytest.approx(5.0 * 4.0)


def test_one_number_counts_for_every_entry():
    task = Reach(ReachConfig(goal=(2.0,)))
    assert task.running_cost(np.zeros((4, 7)), np.zeros((4, 2))).tolist() == [28.0] * 4


def test_the_expansion_is_that_of_the_cost():
    rng = np.random.default_rng(0)
    x, u, h = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), 1e-5
    c, C = TASK.running_expansion(x, u)
    z = np.concatenate([x, u], axis=1)
    for i in range(5):
        step = h * np.eye(5)[i]
        up, down = ((z + s * step) for s in (1, -1))
        slope = (TASK.running_cost(up[:, :3], up[:, 3:]) - TASK.running_cost(down[:, :3], down[:, 3:])) / (2 * h)
        np.testing.assert_allclose(c[:, i], slope, atol=1e-8)
        bend = TASK.running_expansion(up[:, :3], up[:, 3:])[0] - TASK.running_expansion(down[:, :3], down[:, 3:])[0]
        np.testing.assert_allclose(C[:, i], bend / (2 * h), atol=1e-8)
    c, C = TASK.terminal_expansion(x[0])
    np.testing.assert_allclose(c, 5.0 * TASK.running_expansion(x[:1], u[:1])[0][0, :3])
    np.testing.assert_allclose(C, 5.0 * TASK.running_expansion(x[:1], u[:1])[1][0, :3, :3])


@pytest.mark.parametrize(
    "change",
    [
        {"goal": (0.0,)},
        {"weights": (2.0,)},
        {"control_weight": 1.0},
        {"control_rest": (0.0,)},
        {"terminal_weight": 1.0},
    ],
)
def test_every_setting_counts(change):
    from dataclasses import replace

    other = Reach(replace(CONFIG, **change))
    x, u = np.array([0.2, 0.3, 0.4]), np.array([1.0])
    total = [t.running_cost(x, u) + t.terminal_cost(x) for t in (TASK, other)]
    assert total[0] != total[1]
    assert Reach(ReachConfig(tolerance=2.0)).on_target(np.ones(2)) and not Reach(ReachConfig()).on_target(np.ones(2))


def test_wrong_sizes_are_named():
    with pytest.raises(ConfigError, match=r"task\.goal: .* expected one number, or 2"):
        TASK.running_cost(np.zeros(2), np.zeros(1))
