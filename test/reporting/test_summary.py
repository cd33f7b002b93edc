"""The score of a trial, the experience of a run, and the file they are kept in."""

import dataclasses
import json
import math

import numpy as np
import pytest

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.summary import (
    RunSummary,
    TrialResult,
    experience_until_solved,
    planning_percentiles,
    read_summary,
    score_trial,
    software_versions,
    write_summary,
)
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig

DT, DURATION, STEPS = 0.05, 3.0, 60
TASK = CartpoleSwingup(CartpoleSwingupConfig())


def balanced(steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """States of a pole that stands still upright, and no effort."""
    return np.zeros((steps, 4)), np.zeros((steps, 1))


def trial(index: int, solved: bool = False, **changes) -> TrialResult:
    values = {"policy": "mpc" if index else "base", "steps": 60, "duration_s": 3.0, "experience_before_s": 3.0 * index}
    values |= {"cost": 40.0, "time_on_target_s": 1.5}
    return TrialResult(index=index, solved=solved, **values | changes)


def run(*trials: TrialResult, **changes) -> RunSummary:
    values = {"robot": "cartpole", "task": "cartpole_swingup", "planner": "cem", "model": "probabilistic_ensemble"}
    values |= {"seed": 3, "lockstep": True, "versions": {"python": "3.11"}, "started": "2026-01-02T03:04:05+00:00"}
    values |= {"wall_time_s": 12.5, "control_rate": 20.0, "ended": "trials used up", "trials": trials}
    return RunSummary(**values | changes)


def test_balanced_trial_is_solved_and_its_time_on_target_is_the_whole_trial():
    cost, on_target, solved = score_trial(TASK, *balanced(), DT, DURATION)
    assert (cost, solved) == (0.0, True)
    assert on_target == pytest.approx(DURATION)


def test_cost_is_the_sum_over_ticks_written_out():
    states = np.random.default_rng(0).normal(size=(7, 4))
    actions = np.ones((7, 1))
    expected = sum(float(TASK.running_cost(x, u)) for x, u in zip(states, actions, strict=True))
    assert score_trial(TASK, states, actions, DT, DURATION)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("tick, solved", [(39, True), (40, False), (50, False), (59, False)])
def test_leaving_the_target_once_in_the_last_second_fails(tick, solved):
    states, actions = balanced()
    states[tick, 1] = np.radians(15.5)
    assert score_trial(TASK, states, actions, DT, DURATION)[2] is solved


@pytest.mark.parametrize("angle, solved", [(14.9, True), (-14.9, True), (15.1, False), (-15.1, False)])
def test_unwrapped_angle_counts_after_any_number_of_turns(angle, solved):
    states, actions = balanced()
    for turns in (-2, -1, 1, 3):
        states[:, 1] = 2 * np.pi * turns + np.radians(angle)
        assert score_trial(TASK, states, actions, DT, DURATION)[2] is solved


def test_trial_that_ended_early_is_not_solved():
    _, on_target, solved = score_trial(TASK, *balanced(STEPS - 1), DT, DURATION)
    assert not solved
    assert on_target == pytest.approx(DURATION - DT)


def test_observation_at_the_end_counts_for_solved_but_starts_no_tick():
    states, actions = balanced(STEPS + 1)
    actions[-1] = np.nan
    _, on_target, solved = score_trial(TASK, states, actions, DT, DURATION)
    assert solved
    assert on_target == pytest.approx(DURATION)
    states[-1, 0] = 1.0
    assert score_trial(TASK, states, actions, DT, DURATION)[2] is False


def test_late_action_after_a_full_trial_adds_no_tick():
    states, actions = balanced(STEPS + 1)
    states[:, 0] = 0.3
    cost, on_target, solved = score_trial(TASK, states, actions, DT, DURATION)
    assert (cost, on_target, solved) == score_trial(TASK, states[:-1], actions[:-1], DT, DURATION)
    assert on_target == pytest.approx(DURATION)


def test_missing_actions_are_no_effort_and_cost_no_tick():
    class Effort(CartpoleSwingup):
        def running_cost(self, x, u):
            return u[..., 0] ** 2

    states, actions = balanced()
    actions[:] = 2.0
    actions[20] = np.nan
    assert score_trial(Effort(TASK.config), states, actions, DT, DURATION)[0] == 59 * 4.0
    assert score_trial(Effort(TASK.config), states, actions[:-1], DT, DURATION)[0] == 58 * 4.0


def test_full_length_is_seen_in_the_observations_even_if_the_last_action_got_lost():
    states, actions = balanced(STEPS + 1)
    actions[-2:] = np.nan
    assert score_trial(TASK, states, actions, DT, DURATION)[2] is True
    assert score_trial(TASK, states[:-1], actions[:-1], DT, DURATION)[2] is False  # nothing was seen of the last period


def test_nothing_scores_nothing():
    states, actions = balanced()
    assert score_trial(TASK, states[:0], actions[:0], DT, DURATION) == (0.0, 0.0, False)


def test_non_finite_observation_is_not_on_target():
    states, actions = balanced()
    states[55] = np.nan
    assert score_trial(TASK, states, actions, DT, DURATION)[2] is False


def test_last_second_is_counted_in_ticks_of_the_rate():
    states, actions = balanced(300)
    states[: 300 - 100, 0] = 1.0  # at 100 Hz the last second is 100 observations
    assert score_trial(TASK, states, actions, 0.01, 3.0)[2] is True
    states[200, 0] = 1.0
    assert score_trial(TASK, states, actions, 0.01, 3.0)[2] is False


@pytest.mark.parametrize(
    "solved, expected",
    [("", None), ("1", None), ("0101", None), ("0110", 3.0), ("00111", 6.0), ("01011", 9.0), ("11", 0.0)],
)
def test_experience_is_the_motion_before_the_first_of_two_solved_in_a_row(solved, expected):
    trials = [trial(i, solved=s == "1") for i, s in enumerate(solved)]
    assert experience_until_solved(trials) == expected
    assert run(*trials).solved is (expected is not None)


def test_planning_percentiles_in_milliseconds_without_nan():
    times = np.concatenate([np.arange(1, 102) / 1000, [np.nan]])
    assert planning_percentiles(times) == pytest.approx({"p50": 51.0, "p99": 100.0, "max": 101.0})
    assert all(math.isnan(v) for v in planning_percentiles(np.array([np.nan])).values())


def test_round_trip_and_null_for_nan(tmp_path):
    first = trial(0, planning_time_ms=planning_percentiles(np.array([])), flags={"ok": 58, "limited": 2})
    second = trial(1, ended_early="track end", cost=math.inf, steps=np.int64(12), one_step_error=np.float64(0.1))
    summary = run(first, second, ended="node died: model_learner")
    path = write_summary(summary, tmp_path)
    text = path.read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["trials"][0]["one_step_error"] is None
    assert json.loads(text)["experience_s"] is None
    again = read_summary(tmp_path)
    assert repr(again) == repr(summary).replace("inf,", "nan,").replace("np.int64(12)", "12").replace(
        "np.float64(0.1)", "0.1"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_derived_values_are_written_but_computed_again(tmp_path):
    path = write_summary(run(trial(0), trial(1, True), trial(2, True), ended="solved"), tmp_path)
    values = json.loads(path.read_text())
    assert (values["solved"], values["experience_s"]) == (True, 3.0)
    path.write_text(json.dumps(values | {"solved": False, "experience_s": 99.0}))
    assert read_summary(tmp_path).experience_s == 3.0


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda v: v.pop("seed"), "'seed' is missing"),
        (lambda v: v.update(colour="red"), "'colour' is unknown"),
        (lambda v: v.update(seed="three"), "run.seed: 'three' is not a int"),
        (lambda v: v.update(lockstep=1), "run.lockstep: '1' is not a bool"),
        (lambda v: v.update(ended="bored"), "ended: 'bored' is not allowed"),
        (lambda v: v.update(trials={}), "run.trials"),
        (lambda v: v["trials"][0].update(cost=True), "run.trials[0].cost: 'True' is not a float"),
        (lambda v: v["trials"][0].update(policy="pid"), "expected one of: base, mpc"),
        (lambda v: v["trials"][0].update(flags={"ok": "many"}), "run.trials[0].flags.ok"),
    ],
)
def test_damaged_values_are_named(tmp_path, damage, complaint):
    path = write_summary(run(trial(0)), tmp_path)
    values = json.loads(path.read_text())
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(MbrlError) as error:
        read_summary(tmp_path)
    assert complaint in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_anything_else_is_a_clear_error(tmp_path, content):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(MbrlError, match="damaged summary"):
        read_summary(tmp_path)


def test_missing_summary_and_unwritable_folder(tmp_path):
    with pytest.raises(MbrlError, match="is this the folder of a run"):
        read_summary(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(MbrlError, match="cannot write"):
        write_summary(run(), tmp_path / "file")


def test_results_refuse_unknown_policy_and_ending():
    with pytest.raises(MbrlError, match="policy"):
        trial(0, policy="pid")
    with pytest.raises(MbrlError, match="ended"):
        run(ended="")
    assert dataclasses.replace(run(), ended="node died: model_learner").ended.endswith("model_learner")


def test_software_versions_name_what_is_installed():
    versions = software_versions()
    assert set(versions) == {"python", "ros", "mbrl_ros", "numpy", "torch"}
    assert versions["numpy"] == np.__version__
