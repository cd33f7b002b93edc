"""What a trial recorded becomes arrays and a score."""

import numpy as np
import pytest

from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.robots.description import load_robot
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig

TASK = CartpoleSwingup(CartpoleSwingupConfig())
ROBOT = load_robot("cartpole")
DT = 50_000_000


def record(steps, x, **values):
    made = TrialRecord(3, "mpc", **values)
    for k in range(steps + 1):
        made.observations[k * DT] = np.array(x)
        if k < steps:
            made.applied[k * DT] = (np.array([1.0]), "ok")
            version = 4 if k < 10 else 6
            telemetry = {"planning_time": 0.001 * (k + 1), "model_version": version, "deadline_missed": float(k == 5)}
            made.telemetry[k * DT] = telemetry
    return made


def test_upright_all_the_time_is_solved():
    result = record(60, [0.1, 0.05, 0, 0]).result(TASK, ROBOT, 6.0, {"one_step_error": 0.5})
    assert (result.index, result.policy, result.steps, result.solved) == (3, "mpc", 60, True)
    assert result.duration_s == pytest.approx(3.0)
    assert result.time_on_target_s == pytest.approx(3.0)
    assert result.cost == pytest.approx(60 * float(TASK.running_cost(np.array([0.1, 0.05, 0, 0]), np.zeros(1))))
    assert (result.model_version, result.refits, result.deadline_misses) == (6, 1, 1)
    assert result.planning_time_ms["max"] == pytest.approx(60.0)
    assert (result.one_step_error, np.isnan(result.multi_step_error)) == (0.5, True)
    assert (result.experience_before_s, result.flags) == (6.0, {"ok": 60})


def test_hanging_is_not_solved_nor_is_a_trial_that_ended_early():
    assert not record(60, [0.0, np.pi, 0, 0]).result(TASK, ROBOT, 0.0, {}).solved
    early = record(60, [0.0, 0.0, 0, 0], ended_early="cart_slider at its limit")
    assert not early.result(TASK, ROBOT, 0.0, {}).solved
    assert not record(59, [0.0, 0.0, 0, 0]).result(TASK, ROBOT, 0.0, {}).solved


def test_what_is_missing_is_nan_and_order_of_arrival_does_not_matter():
    made = record(3, [0.0, 0.0, 0, 0])
    made.observations = dict(reversed(made.observations.items()))
    del made.applied[DT], made.telemetry[DT]
    arrays = made.arrays(TASK, 4)
    assert arrays.stamp.tolist() == pytest.approx([0, 0.05, 0.1, 0.15])
    assert np.isnan(arrays.u[:, 0]).tolist() == [False, True, False, True]
    assert np.isnan(arrays.planning_time).tolist() == [False, True, False, True]
    assert arrays.model_version.tolist() == [4, 0, 4, 0]


def test_a_trial_without_one_observation_is_not_solved_and_costs_nothing():
    made = TrialRecord(0, "base", ended_early="only 0 of 60 periods came in time")
    result = made.result(TASK, ROBOT, 0.0, {})
    assert (result.steps, result.solved, result.cost) == (0, False, 0.0)
    assert made.arrays(TASK, 4).x.shape == (0, 4)


def test_plans_doubts_and_flags_stand_at_their_ticks():
    made = record(4, [0.0, 0.0, 0, 0])
    states = np.arange(12.0).reshape(3, 4)
    made.plans = {
        DT: (states, np.array([[5.0], [6.0]])),
        2 * DT: (-states[:2], np.array([[7.0]])),
        9 * DT: (states, []),
    }
    made.plans[4 * DT] = (states, np.zeros((2, 1)))  # of the last observation: no motion followed it
    made.applied[2 * DT] = (np.array([0.5]), "limited")
    made.telemetry[DT] = {"spread": 0.1, "entropy": -1.0, "disagreement": 2.0, "cut_short": 1.0}
    made.telemetry[DT] |= {"aleatoric_std": 0.3, "epistemic_std": 0.4}
    arrays = made.arrays(TASK, 4)
    assert arrays.plan_x.shape == (5, 3, 4) and arrays.plan_u.shape == (5, 2, 1)
    np.testing.assert_array_equal(arrays.plan_x[1], states)
    np.testing.assert_array_equal(arrays.plan_u[1:3, :, 0], [[5.0, 6.0], [7.0, np.nan]])
    np.testing.assert_array_equal(arrays.plan_x[2, :, 1], [-1.0, -5.0, np.nan])
    assert np.isnan(arrays.plan_x[[0, 3, 4]]).all()
    assert arrays.flag.tolist() == ["ok", "ok", "limited", "ok", ""]
    assert arrays.cut_short.tolist() == [False, True, False, False, False]
    doubts = [getattr(arrays, n)[1] for n in ("spread", "entropy", "disagreement", "aleatoric_std", "epistemic_std")]
    assert doubts == [0.1, -1.0, 2.0, 0.3, 0.4] and np.isnan(arrays.entropy[[0, 2, 3, 4]]).all()


def test_a_trial_whose_commands_were_never_applied_has_its_plans():
    made = TrialRecord(0, "mpc", observations={0: np.zeros(4), DT: np.zeros(4)})
    made.plans = {0: (np.zeros((2, 4)), np.ones((1, 2)))}
    arrays = made.arrays(TASK, 4)
    assert arrays.u.shape == (2, 2) and arrays.plan_u[0, 0].tolist() == [1.0, 1.0]
