"""Predictions against a model whose distribution is known in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.reporting.prediction import (
    LEVELS,
    from_plans,
    load_models,
    one_step,
    open_loop,
    open_loop_segments,
    reliability,
    standardised_errors,
    unbroken,
)
from mbrl_ros.reporting.run_folder import TrialArrays, model_path

STD = 0.1
QUANTILE = 1.6449  # of the standard normal distribution at 95 %


class RandomWalk:
    """``x' = x + gain u + STD noise``: after k periods Gaussian with variance k STD^2."""

    nx = nu = 1

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def observed(self, states, rng):
        return states

    def rollout(self, x0, actions, rng, particles):
        """States (P, 1, H + 1, 1)."""
        steps = self.gain * actions[None, :, :, 0] + STD * rng.standard_normal((particles, 1, actions.shape[1]))
        path = np.cumsum(np.concatenate([np.full((particles, 1, 1), x0[0]), steps], axis=2), axis=2)
        return path[..., None]


def trial(ticks: int = 61, versions=1) -> TrialArrays:
    """Constant action 1 and a straight observation; the last observation has no action."""
    u = np.ones((ticks, 1))
    u[-1] = np.nan
    nothing = np.full(ticks, np.nan)
    version = np.broadcast_to(versions, ticks)
    return TrialArrays(
        0.05 * np.arange(ticks), np.arange(ticks)[:, None] * 1.0, u, nothing, nothing, version, np.zeros(ticks, bool)
    )


def test_open_loop_mean_and_band_are_those_of_the_random_walk():
    draws = [open_loop({1: RandomWalk()}, trial(), 10, 25, np.random.default_rng(s)) for s in range(200)]
    assert draws[0].ticks.tolist() == list(range(10, 36))
    steps = np.arange(26)
    mean = np.mean([d.mean[:, 0] for d in draws], axis=0)
    np.testing.assert_allclose(mean, 10.0 + steps, atol=4 * STD * 5 / np.sqrt(200 * 100))
    for end, sign in (("low", -1), ("high", 1)):
        band = np.mean([getattr(d, end)[:, 0] for d in draws], axis=0) - (10.0 + steps)
        np.testing.assert_allclose(band, sign * QUANTILE * STD * np.sqrt(steps), rtol=0.05, atol=1e-9)


def test_one_step_is_shifted_by_one_tick_and_covers_every_tick_but_the_first():
    prediction = one_step({1: RandomWalk(gain=3.0)}, trial(), np.random.default_rng(0))
    assert np.isnan(prediction.mean[0]).all() and np.isfinite(prediction.mean[1:]).all()
    np.testing.assert_allclose(prediction.mean[1:, 0], np.arange(60) + 3.0, atol=0.05)  # x_t + 3 u_t
    assert (prediction.low[1:] < prediction.mean[1:]).all() and (prediction.mean[1:] < prediction.high[1:]).all()


def test_each_tick_uses_the_model_that_was_active_then():
    models = {1: RandomWalk(gain=1.0), 2: RandomWalk(gain=-5.0)}
    versions = np.where(np.arange(61) < 30, 1, 2)
    prediction = one_step(models, trial(versions=versions), np.random.default_rng(0))
    change = prediction.mean[1:, 0] - np.arange(60)
    np.testing.assert_allclose(change[:30], 1.0, atol=0.05)
    np.testing.assert_allclose(change[30:], -5.0, atol=0.05)
    segments = open_loop_segments(models, trial(versions=versions), np.random.default_rng(0))
    ends = [s.mean[-1, 0] - s.mean[0, 0] for s in segments]
    np.testing.assert_allclose(ends, [25.0, 25.0, -50.0], atol=0.3)  # the version at the start holds for the segment


def test_segments_follow_one_another_and_the_last_is_short():
    segments = open_loop_segments({1: RandomWalk()}, trial(), np.random.default_rng(0))
    assert [(s.ticks[0], s.ticks[-1]) for s in segments] == [(0, 25), (25, 50), (50, 60)]
    assert all(s.mean[0] == trial().x[s.ticks[0]] for s in segments)
    other = open_loop_segments({1: RandomWalk()}, trial(), np.random.default_rng(0), horizon=7)
    assert [s.ticks[0] for s in other] == list(range(0, 60, 7))


def test_no_model_no_prediction():
    rng = np.random.default_rng(0)
    assert open_loop_segments({1: RandomWalk()}, trial(versions=0), rng) == []
    assert np.isnan(one_step({}, trial(), rng).mean).all()
    assert one_step({}, trial(ticks=1), rng).mean.shape == (1, 1)
    assert open_loop_segments({}, trial(ticks=1), rng) == []


def test_missing_action_ends_a_segment_and_missing_observation_starts_none():
    arrays = trial()
    u, x = arrays.u.copy(), arrays.x.copy()
    u[30], x[50] = np.nan, np.nan
    arrays = replace(arrays, u=u, x=x)
    rng = np.random.default_rng(0)
    segments = open_loop_segments({1: RandomWalk()}, arrays, rng)
    assert [(s.ticks[0], s.ticks[-1]) for s in segments] == [(0, 25), (25, 30)]
    assert np.flatnonzero(np.isnan(one_step({1: RandomWalk()}, arrays, rng).mean)).tolist() == [0, 31, 51]


def test_loads_models_and_names_those_that_it_cannot(tmp_path, runs):
    runs.build(tmp_path, trials=3)
    model_path(tmp_path, 2).write_bytes(model_path(tmp_path, 2).read_bytes()[:-1])
    models, problems = load_models(tmp_path, [1, 2, 3, 9], runs.robot)
    assert sorted(models) == [1, 3]
    assert len(problems) == 2 and "model_0002" in problems[0] and "model_0009" in problems[1]


def test_saved_ensemble_predicts_like_the_one_in_memory(tmp_path, runs):
    runs.build(tmp_path, trials=2)
    arrays = runs.simulate(1)
    loaded, _ = load_models(tmp_path, [1, 2], runs.robot)
    direct = {v: runs.random_ensemble(runs.robot.layout, v) for v in (1, 2)}
    one, two = (one_step(models, arrays, np.random.default_rng(5)) for models in (loaded, direct))
    np.testing.assert_array_equal(one.mean, two.mean)
    assert np.isfinite(one.mean[1:]).all()


@pytest.mark.parametrize("start, horizon, last", [(0, 1, 1), (59, 25, 60), (0, 100, 60)])
def test_horizon_is_cut_at_the_end_of_the_trial(start, horizon, last):
    assert open_loop({1: RandomWalk()}, trial(), start, horizon, np.random.default_rng(0)).ticks[-1] == last


def test_reliability_is_of_the_model_each_trial_began_with(tmp_path):
    """A linear world whose noise the right model knows, and a wrong model takes for half as large."""
    layout = StateLayout(("s",), ("u",), (), {}, 1.0)
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.standard_normal((401, 1)), axis=0)
    nothing, u = np.full(401, np.nan), np.zeros((401, 1))
    versions = np.ones(401, int)
    trial = TrialArrays(np.arange(401.0), x, u, nothing, nothing, versions, np.zeros(401, bool))
    models = {1: Walk(layout, {}), 2: Walk(layout, {"std": 0.5})}
    right = reliability(standardised_errors(models, trial, 25))
    assert list(right) == ["one period ahead", "after 25 periods"]
    np.testing.assert_allclose(right["one period ahead"], LEVELS, atol=0.1)
    versions[:] = 2
    wrong = reliability(standardised_errors(models, trial, 25))
    assert (wrong["one period ahead"][3:] < LEVELS[3:] - 0.1).all()
    assert reliability(standardised_errors({}, trial, 25)) == {}


def test_a_model_is_not_judged_on_what_came_before_it():
    """The first model of a trial may have been fitted to the part before it was taken up."""
    layout = StateLayout(("s",), ("u",), (), {}, 1.0)
    x, nothing = np.concatenate([np.full(40, 100.0), np.zeros(61)])[:, None], np.full(101, np.nan)
    versions = np.where(np.arange(101) < 50, 0, 3)
    trial = TrialArrays(np.arange(101.0), x, np.zeros((101, 1)), nothing, nothing, versions, np.zeros(101, bool))
    errors = standardised_errors({3: Walk(layout, {})}, trial, 5)
    assert np.abs(errors).max() < 1.0  # the jump of 100 at tick 40 is not in them
    assert len(errors) == len(range(0, 50 - 5 + 1, 3))


def test_prediction_from_plans_is_that_of_the_plan_made_a_horizon_before():
    ticks, horizon = 30, 4
    plan_u = np.full((ticks, horizon, 1), np.nan, np.float32)
    plan_x = np.full((ticks, horizon + 1, 1), np.nan, np.float32)
    plan_u[5:20] = 2.0
    plan_x[5:20, :, 0] = np.arange(5, 20)[:, None] + 2.0 * np.arange(horizon + 1)
    made = replace(trial(ticks), plan_x=plan_x, plan_u=plan_u)
    prediction = from_plans({1: RandomWalk()}, made, 0, np.random.default_rng(0))
    known = np.flatnonzero(np.isfinite(prediction.mean[:, 0]))
    assert known.tolist() == list(range(9, 24))
    np.testing.assert_allclose(prediction.mean[known, 0], known - horizon + 2.0 * horizon)
    half = (prediction.high - prediction.low)[known, 0].mean() / 2
    assert half == pytest.approx(QUANTILE * STD * np.sqrt(horizon), rel=0.1)
    middle = (prediction.high + prediction.low)[known, 0] / 2
    np.testing.assert_allclose(middle, prediction.mean[known, 0], atol=6 * STD)


def test_band_of_a_plan_is_of_the_model_in_use_when_it_was_made():
    """With a delay of two ticks the plan whose first action acts at tick t was made from the observation at t - 2."""
    versions = np.where(np.arange(30) < 10, 1, 2)
    plan_u, plan_x = np.ones((30, 3, 1), np.float32), np.zeros((30, 4, 1), np.float32)
    made = replace(trial(30, versions), plan_x=plan_x, plan_u=plan_u)
    models = {1: RandomWalk(gain=1.0), 2: RandomWalk(gain=-5.0)}
    prediction = from_plans(models, made, 2, np.random.default_rng(0))
    middle = (prediction.high + prediction.low)[:, 0] / 2
    np.testing.assert_allclose(middle[3 : 12 + 3], 3.0, atol=0.5)
    np.testing.assert_allclose(middle[12 + 3 :], -15.0, atol=0.5)
    only_mean = from_plans({}, made, 2, np.random.default_rng(0))
    assert np.isnan(only_mean.low).all() and np.isfinite(only_mean.mean[3:]).all()


def test_no_plans_no_prediction_from_them():
    rng = np.random.default_rng(0)
    assert from_plans({}, trial(), 0, rng) is None
    empty = replace(trial(), plan_x=np.full((61, 1, 1), np.nan), plan_u=np.full((61, 0, 1), np.nan))
    assert from_plans({}, empty, 0, rng) is None


def test_a_gap_in_a_trial_is_not_predicted_over():
    nothing, versions = np.full(6, np.nan), np.ones(6, int)
    u = np.array([[0.0], [0.0], [np.nan], [0.0], [0.0], [np.nan]])
    motion = unbroken(TrialArrays(np.arange(6.0), np.zeros((6, 1)), u, nothing, nothing, versions, versions > 1))
    assert motion.trajectory.tolist() == [0, 0, 1, 1]


class Walk(LearnedModel):
    members = 1

    def predict_member(self, member, x, u):
        return np.zeros((len(x), 1)), np.full((len(x), 1), float(self.arrays.get("std", 1.0)))
