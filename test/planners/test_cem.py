"""CEM against a dense least-squares oracle, and what each setting does."""

import dataclasses

import numpy as np
import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.cem import CEM, CEMConfig, shift

H = 6
A = np.array([[1.0, 0.2], [-0.1, 0.9]])
B = np.array([[0.0], [0.5]])
X0 = np.array([2.0, -3.0])
CONTROL_WEIGHT = 0.1


class Linear:
    """``x' = A x + B u``; `broken` marks candidates whose rollout is NaN, `calls` counts rollouts."""

    nx, nu = 2, 1

    def __init__(self, broken=lambda call, actions: np.zeros(len(actions), bool)) -> None:
        self.broken, self.calls = broken, 0

    def rollout(self, x0, actions, rng, particles):
        states = np.empty((particles, len(actions), actions.shape[1] + 1, 2))
        states[:, :, 0] = x0
        for t in range(actions.shape[1]):
            states[:, :, t + 1] = states[:, :, t] @ A.T + actions[:, t] @ B.T
            if rng is not None:
                states[:, :, t + 1] += rng.standard_normal((particles, 1, 2))
        states[:, self.broken(self.calls, actions), 1:] = np.nan
        self.calls += 1
        return states


class Differentiable(Linear):
    """With derivatives, which may be wrong."""

    jacobian = A

    def step(self, x, u):
        return x @ A.T + u @ B.T

    def linearize(self, x, u):
        return np.tile(self.jacobian, (len(x), 1, 1)), np.tile(B, (len(x), 1, 1))


class Quadratic:
    """``|x|^2 + w u^2``, terminal ``|x|^2``."""

    def running_cost(self, x, u):
        return np.sum(x**2, axis=-1) + CONTROL_WEIGHT * np.sum(u**2, axis=-1)

    def terminal_cost(self, x):
        return np.sum(x**2, axis=-1)


def problem(limit: float = 10.0, dynamics=None, **changes) -> Problem:
    return Problem(dynamics or Linear(), Quadratic(), np.array([-limit]), np.array([limit]), H, **changes)


def optimum() -> tuple[np.ndarray, float]:
    """Action sequence and cost of the unlimited problem by dense least squares over all actions."""
    powers = [np.linalg.matrix_power(A, t) for t in range(H + 1)]
    effect = np.zeros((2 * (H + 1), H))
    for t in range(H + 1):
        for k in range(t):
            effect[2 * t : 2 * t + 2, k] = (powers[t - 1 - k] @ B)[:, 0]
    free = np.concatenate([p @ X0 for p in powers])
    rows = np.concatenate([effect, np.sqrt(CONTROL_WEIGHT) * np.eye(H)])
    aim = np.concatenate([-free, np.zeros(H)])
    u = np.linalg.lstsq(rows, aim, rcond=None)[0]
    return u[:, None], float(np.sum((rows @ u - aim) ** 2))


def plan(config=None, seed=0, prob=None, state=None, budget=float("inf")):
    planner, prob = CEM(config or CEMConfig()), prob or problem()
    state = planner.initial_state(prob) if state is None else state
    return planner.plan(prob, X0, state, np.random.default_rng(seed), Deadline(budget))


def test_approaches_the_least_squares_optimum_as_samples_grow():
    best_actions, best_cost = optimum()
    gaps = []
    for samples, rounds in ((20, 2), (60, 5), (500, 20)):
        config = CEMConfig(
            samples=samples, rounds=rounds, noise_exponent=0.0, decay=1.0, smoothing=0.0, initial_std=0.2
        )
        results = [plan(config, seed)[0] for seed in range(5)]
        gaps.append(np.mean([r.cost for r in results]) - best_cost)
    assert gaps[0] > gaps[1] > gaps[2] >= -1e-9
    assert gaps[2] < 1e-4 * best_cost
    np.testing.assert_allclose(results[0].actions, best_actions, atol=0.02)


def test_keeps_the_limits_and_meets_them_where_they_bind():
    prob = problem(limit=0.3)
    result, state = plan(CEMConfig(samples=200, rounds=8), prob=prob)
    assert np.all(np.abs(result.actions) <= 0.3) and np.all(np.abs(state.elites) <= 0.3)
    assert np.abs(optimum()[0]).max() > 0.6 and np.abs(result.actions).max() > 0.29


def test_same_seed_same_plan():
    first, again, other = (plan(seed=s)[0].actions for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_rollout_that_is_nan_never_wins():
    dynamics = Linear(broken=lambda call, actions: actions[:, 0, 0] > 0.0)  # the optimum begins with a positive action
    assert optimum()[0][0, 0] > 0.0
    result, state = plan(prob=problem(dynamics=dynamics))
    assert np.isfinite(result.cost) and result.actions[0, 0] <= 0.0
    assert np.isfinite(state.mean).all()


@pytest.mark.parametrize("bad_round", [0, 1, 3])
def test_a_round_of_nan_only_is_survived(bad_round):
    dynamics = Linear(broken=lambda call, actions: np.full(len(actions), call == bad_round))
    result, state = plan(prob=problem(dynamics=dynamics))
    assert np.isfinite(result.cost) and result.complete and result.rounds == CEMConfig().rounds
    assert np.isfinite(result.actions).all() and np.isfinite(state.mean).all()


def test_nothing_but_nan_leaves_the_mean():
    dynamics = Linear(broken=lambda call, actions: np.ones(len(actions), bool))
    result, _ = plan(prob=problem(dynamics=dynamics))
    assert result.cost == np.inf
    np.testing.assert_array_equal(result.actions, np.zeros((H, 1)))


def test_an_expired_deadline_still_gives_a_plan():
    result, state = plan(budget=0.0)
    assert result.rounds == 1 and not result.complete
    assert result.actions.shape == (H, 1) and np.isfinite(result.cost)
    assert state.mean.shape == (H, 1)


def test_the_state_is_shifted_and_warm_starts():
    first, state = plan(CEMConfig(rounds=8))
    np.testing.assert_array_equal(state.elites[0, :-1], first.actions[1:])
    cold = plan(CEMConfig(rounds=1))[0]
    again = plan(CEMConfig(rounds=1), state=dataclasses.replace(state, mean=first.actions))[0]
    assert again.cost < cold.cost


def test_a_guess_is_tried_in_the_first_round():
    best_actions, best_cost = optimum()
    config = CEMConfig(rounds=1, initial_std=1e-6, refine=0)
    prob = problem()
    planner = CEM(config)
    without, given = (plan(config, prob=prob, state=planner.initial_state(prob, g))[0] for g in (None, best_actions))
    assert without.cost > 1.1 * best_cost
    np.testing.assert_allclose(given.cost, best_cost, rtol=1e-9)


def test_shift_repeats_the_last_action():
    np.testing.assert_array_equal(shift(np.arange(3.0)[:, None]), [[1.0], [2.0], [2.0]])


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 64},
        {"rounds": 3},
        {"elites": 5},
        {"initial_std": 0.2},
        {"smoothing": 0.5},
        {"noise_exponent": 0.0},
        {"decay": 2.0},
        {"keep_elites": 0.0},
        {"best_first": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_changes_the_plan(change):
    assert not np.allclose(plan()[0].actions, plan(CEMConfig(**change))[0].actions)


def test_add_mean_tries_the_mean_in_the_last_round():
    class Spy(Linear):
        tried = None

        def rollout(self, x0, actions, rng, particles):
            self.tried = actions
            return super().rollout(x0, actions, rng, particles)

    counts = []
    for add_mean in (False, True):
        spy = Spy()
        plan(CEMConfig(add_mean=add_mean), prob=problem(dynamics=spy))
        counts.append(len(spy.tried))
    assert counts[1] == counts[0] + 1


def test_shift_elites_carries_them_to_the_next_tick():
    assert len(plan(CEMConfig(shift_elites=True))[1].elites) == CEMConfig().elites
    assert len(plan(CEMConfig(shift_elites=False))[1].elites) == 0


def test_with_sampled_noise_the_last_round_decides():
    spy = Linear()
    prob = problem(dynamics=spy, particles=3, sample_noise=True)
    first, again = (plan(seed=4, prob=prob)[0] for _ in range(2))
    np.testing.assert_array_equal(first.actions, again.actions)
    assert np.isfinite(first.cost)


def test_plain_cem_returns_the_mean_without_extras():
    plain = CEMConfig(
        noise_exponent=0.0, decay=1.0, keep_elites=0.0, shift_elites=False, add_mean=False, best_first=False
    )
    result, state = plan(plain)
    np.testing.assert_array_equal(result.actions[1:], state.mean[:-1])


def test_one_iteration_of_ilqr_ends_a_linear_quadratic_problem():
    best_actions, best_cost = optimum()
    rough = plan(CEMConfig(refine=0), prob=problem(dynamics=Differentiable()))[0]
    result, state = plan(CEMConfig(refine=1), prob=problem(dynamics=Differentiable()))
    assert rough.cost > 1.0001 * best_cost
    np.testing.assert_allclose(result.cost, best_cost, rtol=1e-9)
    np.testing.assert_allclose(result.actions, best_actions, atol=1e-5)
    np.testing.assert_array_equal(state.elites[0, :-1], result.actions[1:])


def test_refinement_keeps_the_limits():
    prob = problem(limit=0.5, dynamics=Differentiable())
    rough, result = (plan(CEMConfig(refine=n), prob=prob)[0] for n in (0, 3))
    assert np.all(np.abs(result.actions) <= 0.5) and result.cost < rough.cost


def test_refinement_with_wrong_derivatives_does_no_harm():
    wrong = Differentiable()
    wrong.jacobian = -3.0 * A
    rough, result = (plan(CEMConfig(refine=n), prob=problem(dynamics=wrong))[0] for n in (0, 1))
    assert result.cost <= rough.cost


def test_refinement_needs_a_cost_with_derivatives():
    class Absolute(Quadratic):
        def running_cost(self, x, u):
            return np.abs(x).sum(axis=-1)

    prob = dataclasses.replace(problem(dynamics=Differentiable()), task=Absolute())
    rough, result = (plan(CEMConfig(refine=n), prob=prob)[0] for n in (0, 1))
    np.testing.assert_array_equal(result.actions, rough.actions)


def test_a_deadline_leaves_the_refinement_out():
    clock = iter(np.arange(0.0, 10.0, 0.1))
    deadline = Deadline(0.55, clock=lambda: next(clock))  # four rounds and no more
    planner, prob = CEM(CEMConfig()), problem(dynamics=Differentiable())
    result, _ = planner.plan(prob, X0, planner.initial_state(prob), np.random.default_rng(0), deadline)
    assert result.rounds == 4 and not result.complete


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="smoothing"):
        CEMConfig(smoothing=1.0)
    with pytest.raises(ConfigError, match="samples"):
        CEMConfig(samples=1)
