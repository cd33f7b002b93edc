"""The swing-up cost: zero at the goal, symmetric, and each weight felt."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig

U = np.zeros(1)
TASK = CartpoleSwingup(CartpoleSwingupConfig())


def test_zero_at_the_goal_and_positive_elsewhere():
    assert TASK.running_cost(np.zeros(4), U) == 0.0
    assert TASK.running_cost(np.array([0.0, 2.0 * np.pi, 0.0, 0.0]), U) == pytest.approx(0.0, abs=1e-12)
    states = np.random.default_rng(0).uniform(-3.0, 3.0, (1000, 4))
    assert (TASK.running_cost(states, U) > 0.0).all()


def test_symmetric_under_reflection_and_full_turns():
    states = np.random.default_rng(1).uniform(-3.0, 3.0, (1000, 4))
    costs = TASK.running_cost(states, U)
    np.testing.assert_allclose(TASK.running_cost(-states, U), costs)
    np.testing.assert_allclose(TASK.running_cost(states + np.array([0.0, 2.0 * np.pi, 0.0, 0.0]), U), costs)
    assert not np.allclose(TASK.running_cost(states * [-1.0, 1.0, 1.0, 1.0], U), costs)  # the tip moves


def test_hanging_is_worst_at_the_middle_and_upright_is_downhill():
    angles = np.linspace(0.0, np.pi, 50)
    costs = TASK.running_cost(np.stack([0 * angles, angles, 0 * angles, 0 * angles], axis=-1), U)
    assert (np.diff(costs) > 0.0).all()


def test_saturating_part_is_a_gaussian_of_the_tip_distance():
    only = CartpoleSwingup(CartpoleSwingupConfig(upright_weight=0.0, position_weight=0.0, velocity_weight=0.0))
    p, theta = 0.3, 0.7
    tip = np.array([p + 0.5 * np.sin(theta), 0.5 * np.cos(theta)])
    distance = np.linalg.norm(tip - [0.0, 0.5])
    expected = 1.0 - np.exp(-0.5 * (distance / only.config.width) ** 2)
    assert only.running_cost(np.array([p, theta, 1.0, -2.0]), U) == pytest.approx(expected)


def test_the_end_of_the_track_costs_the_squared_distance_past_it():
    config = CartpoleSwingupConfig()
    free = CartpoleSwingup(dataclasses.replace(config, track_weight=0.0))
    for past in (0.0, 0.5):
        for side in (-1.0, 1.0):
            x = np.array([side * (config.track_limit + past), 0.0, 0.0, 0.0])
            extra = TASK.running_cost(x, U) - free.running_cost(x, U)
            assert extra == pytest.approx(config.track_weight * past**2)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(CartpoleSwingupConfig)])
def test_each_setting_changes_the_cost(field):
    x = np.array([2.4, 0.5, 1.0, -1.0]) if field.startswith("track") else np.array([0.2, 0.5, 1.0, -1.0])
    config = CartpoleSwingupConfig()
    changed = CartpoleSwingup(dataclasses.replace(config, **{field: 0.5 * getattr(config, field) + 0.01}))
    assert changed.running_cost(x, U) != pytest.approx(float(TASK.running_cost(x, U)), rel=1e-9)


def test_shapes_and_terminal_cost():
    states = np.random.default_rng(2).standard_normal((3, 5, 4))
    assert TASK.running_cost(states, np.zeros((1, 5, 1))).shape == (3, 5)
    np.testing.assert_allclose(TASK.terminal_cost(states), TASK.running_cost(states, U))


@pytest.mark.parametrize(
    ("p", "degrees", "expected"),
    [
        (0.0, 0, True),
        (0.0, 14.9, True),
        (0.0, -14.9, True),
        (0.0, 15.1, False),
        (0.0, 360 + 14, True),
        (0.0, 180, False),
        (0.0, -720 - 16, False),
        (0.49, 0, True),
        (-0.49, 0, True),
        (0.51, 0, False),
        (-0.51, 0, False),
    ],
)
def test_on_target(p, degrees, expected):
    assert bool(TASK.on_target(np.array([p, np.radians(degrees), 9.0, 9.0]))) is expected


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="width"):
        CartpoleSwingupConfig(width=0.0)


def test_a_moved_goal_moves_the_cost_with_it_but_not_the_track():
    moved = CartpoleSwingup(CartpoleSwingupConfig(goal_position=1.2))
    x, u = np.random.default_rng(4).uniform(-0.7, 0.7, (50, 4)), np.zeros((50, 1))
    there = x + np.array([1.2, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(moved.running_cost(there, u), TASK.running_cost(x, u))
    for a, b in zip(moved.running_expansion(there, u), TASK.running_expansion(x, u), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    past = np.array([2.3, 0.0, 0.0, 0.0])
    free = CartpoleSwingup(CartpoleSwingupConfig(goal_position=1.2, track_weight=0.0))
    assert moved.running_cost(past, U) - free.running_cost(past, U) == pytest.approx(10.0 * 0.3**2)
    assert moved.on_target(np.array([1.6, 0.1, 0.0, 0.0])) and not moved.on_target(np.array([0.6, 0.1, 0.0, 0.0]))
