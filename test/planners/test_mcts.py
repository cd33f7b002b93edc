"""MCTS as a planner: grid, macro-actions, the kept subtree, and the pendulum swing-up."""

import itertools

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.mcts import MCTS, ControlSequences, MCTSConfig
from mbrl_ros.planners.rollout import evaluate

DT = 0.05


class Pendulum:
    """Unit pendulum, angle 0 upright, torque 4 u against 9.81: it must swing to get up. Semi-implicit Euler."""

    nx, nu = 2, 1

    def rollout(self, x0, actions, rng, particles):
        angle, rate = np.moveaxis(np.broadcast_to(x0, (particles, len(actions), 2)).astype(float), -1, 0)
        states = [(angle, rate)]
        for t in range(actions.shape[1]):
            rate = rate + DT * (9.81 * np.sin(angle) + 4.0 * actions[:, t, 0] - 0.1 * rate)
            angle = angle + DT * rate
            states.append((angle, rate))
        return np.moveaxis(np.array(states), (0, 1), (2, 3))


class Upright:
    """1 - cos(angle) and a small price of speed."""

    def running_cost(self, x, u):
        return 1.0 - np.cos(x[..., 0]) + 0.01 * x[..., 1] ** 2 + 0.0 * u[..., 0]

    def terminal_cost(self, x):
        return 5.0 * self.running_cost(x, np.zeros(1))


class TwoInputs(Pendulum):
    """The pendulum with two motors."""

    nu = 2

    def rollout(self, x0, actions, rng, particles):
        return super().rollout(x0, actions.sum(axis=-1, keepdims=True), rng, particles)


def problem(horizon=30, task=None):
    return Problem(Pendulum(), task or Upright(), np.array([-1.0]), np.array([1.0]), horizon)


X0 = np.array([np.pi, 0.3])


def run(the_problem=None, state=None, seed=0, budget=np.inf, x0=X0, **config):
    planner, the_problem = MCTS(MCTSConfig(**{"levels": 3, "repeat": 3} | config)), the_problem or problem()
    state = state or planner.initial_state(the_problem)
    return planner.plan(the_problem, x0, state, np.random.default_rng(seed), Deadline(budget))


def after(action, x0=X0):
    """State one period later."""
    return Pendulum().rollout(x0, np.full((1, 1, 1), action), None, 1)[0, 0, 1]


def test_grid_and_macro_actions():
    limits = np.array([2.0, 10.0])
    two = Problem(TwoInputs(), Upright(), -limits, limits, horizon=7)
    sequences = ControlSequences(two, X0, MCTSConfig(levels=3, repeat=3), phase=1)
    assert sequences.actions == 9 and sequences.depth == 3  # 2 + 3 + 2 periods
    assert {tuple(u) for u in sequences.grid} == set(itertools.product((-2.0, 0.0, 2.0), (-10.0, 0.0, 10.0)))
    controls = sequences.controls(np.array([[0, 4, 8]]))[0]
    np.testing.assert_array_equal(controls[:, 0], [-2.0, -2.0, 0.0, 0.0, 0.0, 2.0, 2.0])


def test_default_policies_complete_within_the_grid():
    limits = np.ones(2)
    two = Problem(TwoInputs(), Upright(), -limits, limits, horizon=20)
    rng, prefix = np.random.default_rng(0), np.tile([[3, 12]], (1000, 1))
    walks = {}
    for policy in ("random", "smooth"):
        sequences = ControlSequences(two, X0, MCTSConfig(levels=5, repeat=1, default_policy=policy))
        complete = sequences.complete(prefix, rng)
        assert complete.shape == (1000, 20) and complete.min() >= 0 and complete.max() < 25
        np.testing.assert_array_equal(complete[:, :2], prefix)
        walks[policy] = sequences.controls(complete)[:, 1:]
        assert len(np.unique(complete[:, -1])) == 25  # every action is reached
    assert np.abs(np.diff(walks["smooth"], axis=1)).max() <= 0.5  # one level
    assert np.abs(np.diff(walks["random"], axis=1)).max() == 2.0


def test_finds_the_best_sequence_of_a_small_grid():
    """Exhaustive search over all 3^4 sequences is the oracle."""
    small = problem(horizon=8)
    sequences = ControlSequences(small, X0, MCTSConfig(levels=3, repeat=2))
    every = np.array(list(itertools.product(range(3), repeat=4)))
    best = evaluate(small, X0, sequences.controls(every), None).min()
    plan, _ = run(small, repeat=2, simulations=60)
    assert np.isclose(plan.cost, best)
    assert np.isclose(evaluate(small, X0, plan.actions[None], None)[0], plan.cost)


def test_most_visited_sequence_is_the_best_after_many_simulations():
    small = problem(horizon=4)
    cheapest, _ = run(small, repeat=2, simulations=500)
    visited, _ = run(small, repeat=2, simulations=500, choose="visits")
    np.testing.assert_array_equal(visited.actions, cheapest.actions)
    assert np.isclose(visited.cost, cheapest.cost)


def test_swings_the_pendulum_up_and_holds_it():
    """From hanging; threshold: the last 20 of 80 periods upright within 30 degrees."""
    planner, x, rng = (
        MCTS(MCTSConfig(simulations=20, levels=3, repeat=5)),
        np.array([np.pi, 0.0]),
        np.random.default_rng(0),
    )
    state, heights = planner.initial_state(problem()), []
    for _ in range(80):
        plan, state = planner.plan(problem(), x, state, rng, Deadline())
        x = after(plan.actions[0, 0], x)
        heights.append(np.cos(x[0]))
    assert heights[0] < -0.9 and min(heights[-20:]) > np.cos(np.radians(30.0))


def test_the_subtree_of_the_executed_action_is_kept():
    before, state = run(repeat=1)
    kept = state.root.visits.sum()
    assert kept > 0 and state.phase == 0
    _, later = run(state=state, x0=after(before.actions[0, 0]), repeat=1, simulations=1)
    assert state.root.visits.sum() > kept  # the tree went on growing
    assert len(state.best) == 29 and len(later.best) == 29
    _, alone = run(repeat=1, reuse=False)
    assert alone.root.visits.sum() == 0


def test_within_a_macro_action_only_the_executed_one_is_kept():
    plan, state = run(repeat=3)
    chosen = int(state.best[0])
    assert state.phase == 1
    assert state.root.visits[chosen] > 0 and np.all(np.delete(state.root.visits, chosen) == 0)
    assert set(state.root.children) == {chosen}
    visits = state.root.visits[chosen]
    _, state = run(state=state, x0=after(plan.actions[0, 0]), repeat=3, simulations=1, rollouts=2)
    if int(state.best[0]) == chosen:  # the alternatives were tried first, the kept subtree was not touched
        assert state.root.visits[chosen] == visits
    assert state.phase == 2
    _, state = run(state=state, x0=after(plan.actions[0, 0]), repeat=3, simulations=1)
    assert state.phase == 0 and len(state.best) == 10


def test_kept_values_agree_with_new_costs():
    """The kept best sequence, costed anew and offset, has the cost it had in the tree, so it is found again."""
    plan, state = run(repeat=1)
    x = after(plan.actions[0, 0])
    again, later = run(state=state, x0=x, repeat=1, simulations=1)
    held = np.concatenate([plan.actions[1:], plan.actions[-1:]])
    assert again.cost <= evaluate(problem(), x, held[None], None)[0] + 1e-9
    assert later.best_cost <= state.best_cost + 1e-9


@pytest.mark.parametrize(
    "change",
    [
        {"simulations": 1},
        {"levels": 5},
        {"repeat": 2},
        {"exploration": 5.0},
        {"rollouts": 2},
        {"default_policy": "random"},
        {"choose": "visits"},
        {"reuse": False},
    ],
)
def test_every_parameter_changes_the_plan(change):
    plans = []
    for config in ({"simulations": 10}, {"simulations": 10} | change):
        plan, state = run(**config)
        second, _ = run(state=state, x0=after(plan.actions[0, 0]), **config)
        plans.append(np.concatenate([plan.actions, second.actions]))
    assert np.any(plans[0] != plans[1])


def test_limits_seed_and_deadline():
    (one, _), (two, _) = run(seed=1), run(seed=1)
    np.testing.assert_array_equal(one.actions, two.actions)
    assert one.actions.shape == (30, 1) and np.abs(one.actions).max() <= 1.0
    cut, state = run(budget=0.0)
    assert cut.rounds == 1 and not cut.complete and np.isfinite(cut.cost)
    _, _ = run(state=state, budget=0.0)


def test_diverging_actions_never_win_and_all_diverging_is_survived():
    class Breaks(Upright):
        def __init__(self, above):
            self.above = above

        def running_cost(self, x, u):
            return np.where(u[..., 0] > self.above, np.nan, super().running_cost(x, u))

    plan, _ = run(problem(task=Breaks(0.5)))
    assert np.all(plan.actions < 0.5) and np.isfinite(plan.cost)
    plan, state = run(problem(task=Breaks(-2.0)))
    assert plan.cost == np.inf and np.all(np.abs(plan.actions) <= 1.0)
    plan, _ = run(problem(), state=state)
    assert np.isfinite(plan.cost)


def test_too_fine_a_grid_is_named():
    limits = np.ones(2)
    with pytest.raises(ConfigError, match=r"40\^2"):
        run(Problem(TwoInputs(), Upright(), -limits, limits, 5), levels=40)
