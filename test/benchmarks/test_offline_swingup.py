"""The study's plant against scipy, its score, and that a seed repeats itself."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mbrl_ros.benchmarks.offline_swingup import Settings, Study, Trial, experience, run, step
from mbrl_ros.models.gaussian_process import GaussianProcessConfig
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig
from mbrl_ros.planners.cem import CEMConfig
from mbrl_ros.robots.cartpole_equations import derivative

QUICK = Settings(
    model="probabilistic_ensemble",
    model_config=EnsembleConfig(members=2, width=8, steps=20, refit_steps=10),
    cem=CEMConfig(samples=8, rounds=1, elites=2),
    horizon=5,
    particles=2,
    propagation="ts_inf",
    refit_interval=4,
    trials=2,
)


def trial(before: float, solved: bool) -> Trial:
    return Trial(before, solved, on_target=0.0, cost=0.0, planning_ms=0.0)


def test_plant_is_the_closed_form():
    x, u = np.array([0.1, 2.5, -0.4, 3.0]), np.array([7.0])
    exact = solve_ivp(lambda t, s: derivative(s, u), (0.0, 0.05), x, rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(step(x, u, 0.05), exact, atol=1e-7)


@pytest.mark.parametrize(
    ("solved", "expected"),
    [
        ([False, True, True], 3.0),
        ([False, True, False, True, True], 9.0),
        ([False, True, False], None),
        ([False], None),
    ],
)
def test_experience_is_the_motion_before_the_first_of_two_solved_trials_in_a_row(solved, expected):
    assert experience([trial(3.0 * i, s) for i, s in enumerate(solved)]) == expected


def test_a_seed_repeats_itself_and_seeds_differ():
    first, again, other = run(0, QUICK), run(0, QUICK), run(1, QUICK)
    assert [t.cost for t in first] == [t.cost for t in again]
    assert [t.cost for t in first] != [t.cost for t in other]
    assert [t.experience_before for t in first] == [0.0, pytest.approx(3.0)]


@pytest.mark.parametrize(
    "change",
    [
        {"horizon": 8},
        {"particles": 1},
        {"sample_noise": True},
        {"propagation": "mean"},
        {"refit_interval": 0},
        {"refit_interval": 6},
        {"refit_warm": False},
        {"refit_ticks": 2},
        {"delay_ticks": 1},
    ],
    ids=str,
)
def test_each_setting_changes_the_motion(change):
    costs = [run(0, dataclasses.replace(QUICK, **c))[1].cost for c in ({}, change)]
    assert costs[0] != costs[1]


def test_the_model_can_be_chosen():
    chosen = dataclasses.replace(QUICK, model="gaussian_process", model_config=None)
    study = Study(0, chosen)
    study.trial()
    assert study.fit(warm=False).name == "gaussian_process"
    assert study.config == GaussianProcessConfig()


def test_trials_limits_the_run():
    assert len(run(0, dataclasses.replace(QUICK, trials=1))) == 1


def test_a_trial_ends_at_the_end_of_the_track():
    study = Study(0, QUICK)
    study.base_policy = lambda: lambda tick, z: np.array([10.0])
    result = study.trial()
    assert not result.solved and len(study.rows) < study.robot.trial_steps
    assert abs(study.rows[-1][2][0]) > 2.4
