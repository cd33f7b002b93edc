"""The base policy stays on the track, excites the pole and is what its settings say."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.policies.smooth_random import SmoothRandom, SmoothRandomConfig
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")
SEEDS = 200


def actions(config: SmoothRandomConfig, seed: int = 0, steps: int = 60) -> np.ndarray:
    policy = SmoothRandom(config, -ROBOT.u_max, ROBOT.u_max, steps, np.random.default_rng(seed))
    return np.array([policy.action(t) for t in range(steps)])


def swings(config: SmoothRandomConfig) -> np.ndarray:
    """States (T + 1, 4, SEEDS) of the closed-form cart-pole, hanging at first."""
    forces = np.stack([actions(config, seed)[:, 0] for seed in range(SEEDS)], axis=1)
    x = np.repeat([[0.0], [np.pi], [0.0], [0.0]], SEEDS, axis=1)
    path, h = [x], ROBOT.dt / 10
    for force in forces:
        for _ in range(10):
            middle = x + 0.5 * h * np.array(derivative(x, (force,)))
            x = x + h * np.array(derivative(middle, (force,)))
        path.append(x)
    return np.array(path)


def test_cart_stays_on_the_track_and_the_pole_swings():
    path = swings(SmoothRandomConfig())
    on_track = np.abs(path[:, 0]).max(axis=0) < ROBOT.position_limit[0]
    assert on_track.mean() >= 0.9
    assert np.median(np.abs(path[:, 1] - np.pi).max(axis=0)) > np.radians(90.0)


def test_without_returning_the_cart_leaves_the_track():
    path = swings(SmoothRandomConfig(returning=False))
    assert (np.abs(path[:, 0]).max(axis=0) < ROBOT.position_limit[0]).mean() < 0.7


@pytest.mark.parametrize("seed", range(5))
def test_returning_means_no_net_impulse_and_no_net_displacement(seed):
    u = actions(SmoothRandomConfig(std=0.2), seed)[:, 0]  # no clipping at this size
    velocity = np.concatenate([[0.0], np.cumsum(u)])
    displacement = np.sum(0.5 * (velocity[1:] + velocity[:-1]))
    scale = np.abs(u).sum()
    assert abs(velocity[-1]) < 1e-9 * scale and abs(displacement) < 1e-9 * scale * len(u)


def test_std_is_the_root_mean_square():
    for std in (0.1, 0.25):
        u = actions(SmoothRandomConfig(std=std, noise_exponent=2.0))
        assert np.sqrt(np.mean(u**2)) == pytest.approx(10.0 * std)


def test_larger_exponent_is_smoother():
    roughness = [np.std(np.diff(actions(SmoothRandomConfig(0.2, e), 1), axis=0)) for e in (0.0, 1.0, 3.0)]
    assert roughness[0] > 1.5 * roughness[1] > 2.0 * roughness[2]


def test_limits_seed_and_end():
    u = actions(SmoothRandomConfig(std=1.0))
    assert np.abs(u).max() == 10.0
    np.testing.assert_array_equal(u, actions(SmoothRandomConfig(std=1.0)))
    assert not np.allclose(u, actions(SmoothRandomConfig(std=1.0), seed=1))
    policy = SmoothRandom(
        SmoothRandomConfig(), np.array([0.0, -1.0]), np.array([2.0, 3.0]), 5, np.random.default_rng(0)
    )
    assert policy.actions.shape == (5, 2)
    assert (policy.actions >= [0.0, -1.0]).all() and (policy.actions <= [2.0, 3.0]).all()
    np.testing.assert_array_equal(policy.action(9), policy.action(4))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_trials(steps):
    assert np.isfinite(actions(SmoothRandomConfig(), steps=steps)).all()


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="std"):
        SmoothRandomConfig(std=1.5)
