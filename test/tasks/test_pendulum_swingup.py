"""The pendulum's cost and equations."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import pendulum_equations as equations
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup, PendulumSwingupConfig

TASK = PendulumSwingup(PendulumSwingupConfig())


def test_upright_at_rest_costs_nothing_and_everything_else_something():
    assert TASK.running_cost(np.zeros(2), np.zeros(1)) == 0.0
    for x, u in (([0.1, 0.0], [0.0]), ([0.0, 0.1], [0.0]), ([0.0, 0.0], [0.1])):
        assert TASK.running_cost(np.array(x), np.array(u)) > 0.0


def test_leading_dimensions_and_full_turns():
    x, u = np.random.default_rng(0).normal(size=(3, 4, 2)), np.zeros((3, 4, 1))
    assert TASK.running_cost(x, u).shape == TASK.terminal_cost(x).shape == (3, 4)
    turned = x + np.array([2 * np.pi, 0.0])
    np.testing.assert_allclose(TASK.running_cost(turned, u), TASK.running_cost(x, u), atol=1e-12)
    np.testing.assert_array_equal(TASK.on_target(turned), TASK.on_target(x))


def test_on_target_within_15_degrees():
    angles = np.radians([14.9, -14.9, 15.1, 180.0, 360.0])
    np.testing.assert_array_equal(TASK.on_target(np.stack([angles, 0 * angles], -1)), [True, True, False, False, True])


@pytest.mark.parametrize("name", ["upright_weight", "velocity_weight", "control_weight", "terminal_weight"])
def test_every_weight_counts(name):
    other = PendulumSwingup(PendulumSwingupConfig(**{name: 3.0}))
    x, u = np.array([1.0, 2.0]), np.array([0.5])
    total = [t.running_cost(x, u) + t.terminal_cost(x) for t in (TASK, other)]
    assert total[0] != total[1]


def test_negative_weights_are_refused():
    with pytest.raises(ConfigError, match="control_weight"):
        PendulumSwingupConfig(control_weight=-1.0)


def test_power_is_what_motor_and_friction_bring():
    """dE/dt along the motion equals tau omega - b omega^2."""
    theta, omega, tau = 0.7, -1.3, 0.4
    dtheta, domega = equations.derivative((theta, omega), (tau,))
    inertia = equations.MASS * equations.LENGTH**2 / 3
    weight = 0.5 * equations.MASS * equations.GRAVITY * equations.LENGTH  # E = I omega^2 / 2 + weight cos(theta)
    power = inertia * omega * domega - weight * np.sin(theta) * dtheta
    assert power == pytest.approx(tau * omega - equations.FRICTION * omega**2, rel=1e-12)
    assert equations.derivative((0.1, 0.0), (0.0,))[1] > 0  # upright is unstable
    assert equations.derivative((np.pi + 0.1, 0.0), (0.0,))[1] < 0  # hanging is stable
