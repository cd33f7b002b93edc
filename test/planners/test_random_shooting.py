"""Random shooting: the cheapest of what it tried, and robust against what goes wrong."""

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.random_shooting import RandomShooting, RandomShootingConfig

H = 4
GOAL = np.array([0.3, -0.2, 0.5, 0.1])


class Integrator:
    """``x' = u``: the cost below is then the distance of the actions from GOAL. NaN where `broken` says so."""

    nx = nu = 1

    def __init__(self, broken=lambda call, actions: np.zeros(len(actions), bool)) -> None:
        self.broken, self.tried = broken, []

    def rollout(self, x0, actions, rng, particles):
        states = np.zeros((particles, len(actions), H + 1, 1))
        states[:, :, 1:] = actions
        states[:, self.broken(len(self.tried), actions)] = np.nan
        self.tried.append(actions)
        return states


class Distance:
    """Squared distance of the actions from GOAL."""

    def running_cost(self, x, u):
        return (u[..., 0] - GOAL) ** 2 + 0.0 * x[..., 0]

    def terminal_cost(self, x):
        return 0.0 * x[..., 0]


def plan(config=None, seed=0, *, dynamics=None, state=None, budget=float("inf"), limit=1.0):
    prob = Problem(dynamics or Integrator(), Distance(), np.array([-limit]), np.array([limit]), H)
    planner = RandomShooting(config or RandomShootingConfig(noise_exponent=0.0))
    state = planner.initial_state(prob) if state is None else state
    return planner.plan(prob, np.zeros(1), state, np.random.default_rng(seed), Deadline(budget))


def test_returns_the_cheapest_of_all_it_tried():
    dynamics = Integrator()
    result, _ = plan(dynamics=dynamics)
    tried = np.concatenate(dynamics.tried)
    costs = np.sum((tried[..., 0] - GOAL) ** 2, axis=1)
    assert len(tried) == 512
    assert result.cost == pytest.approx(costs.min())
    np.testing.assert_array_equal(result.actions, tried[costs.argmin()])


def test_approaches_the_optimum_as_samples_grow():
    costs = [
        np.mean([plan(RandomShootingConfig(samples=n, noise_exponent=0.0), s)[0].cost for s in range(5)])
        for n in (10, 100, 20_000)
    ]
    assert costs[0] > costs[1] > costs[2]
    assert costs[2] < 0.02  # the optimum is 0


def test_keeps_the_limits_and_the_seed():
    result, _ = plan(limit=0.2)
    assert np.all(np.abs(result.actions) <= 0.2)
    np.testing.assert_array_equal(plan(seed=3)[0].actions, plan(seed=3)[0].actions)
    assert not np.allclose(plan(seed=3)[0].actions, plan(seed=4)[0].actions)


def test_nan_never_wins_and_a_round_of_nan_is_survived():
    result, _ = plan(dynamics=Integrator(lambda call, actions: actions[:, 0, 0] > 0.0))
    assert np.isfinite(result.cost) and result.actions[0, 0] <= 0.0
    result, _ = plan(dynamics=Integrator(lambda call, actions: np.full(len(actions), call == 0)))
    assert np.isfinite(result.cost) and result.complete
    result, _ = plan(dynamics=Integrator(lambda call, actions: np.ones(len(actions), bool)))
    assert result.cost == np.inf and np.isfinite(result.actions).all()


def test_an_expired_deadline_still_gives_a_plan():
    result, state = plan(budget=0.0)
    assert result.rounds == 1 and not result.complete
    assert np.isfinite(result.cost) and state.shape == (H, 1)


def test_the_last_winner_is_tried_again_shifted():
    result, state = plan()
    np.testing.assert_array_equal(state[:-1], result.actions[1:])
    dynamics = Integrator()
    plan(dynamics=dynamics, state=state)
    np.testing.assert_array_equal(dynamics.tried[0][0], state)


@pytest.mark.parametrize("change", [{"samples": 100}, {"batches": 3}, {"std": 0.3}, {"noise_exponent": 2.0}])
def test_each_setting_changes_the_plan(change):
    base = RandomShootingConfig(noise_exponent=0.0)
    changed = RandomShootingConfig(**{"noise_exponent": 0.0} | change)
    assert not np.allclose(plan(base)[0].actions, plan(changed)[0].actions)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="batches"):
        RandomShootingConfig(batches=0)
