"""Intervals of the default models hold what they promise, on whole cart-pole trajectories that nobody has seen."""

import numpy as np
import pytest

from mbrl_ros.benchmarks.cartpole_motion import record
from mbrl_ros.models import model_class
from mbrl_ros.models.calibration import coverage, deviations, horizon_scale
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

ROBOT = load_robot("cartpole")
HORIZON = 25


def motion(seed: int, transitions: int) -> Transitions:
    return record(ROBOT, transitions, np.random.default_rng([77, seed]))


@pytest.mark.parametrize(("name", "low"), [("gaussian_process", 0.85), ("probabilistic_ensemble", 0.8)])
def test_ninety_percent_intervals_cover_as_much_at_step_1_and_at_the_horizon(name, low):
    """Three robots, each with 15 s of motion to learn from, 18 s to calibrate by and 36 s to be judged by."""
    covered = []
    for seed in range(0, 30, 10):
        config = model_class(name).config_class()
        model, _ = TRAINERS[name](motion(seed, 300), ROBOT.layout, config, seed, None)
        scale = horizon_scale(deviations(model, motion(seed + 1, 360), HORIZON))
        calibrated = model.with_arrays(horizon_scale=scale.astype(model.array_type))
        covered.append(coverage(deviations(calibrated, motion(seed + 2, 720), HORIZON), [0.9])[0].mean(axis=-1))
    first, last = np.mean(covered, axis=0)[[0, -1]]
    assert low <= first <= 0.95
    assert low <= last <= 0.95


@pytest.mark.parametrize("name", ["gaussian_process", "probabilistic_ensemble", "bayesian_network"])
def test_what_is_not_known_grows_away_from_the_data(name):
    """Epistemic variance at states that the motion has not come near, against that along the motion itself."""
    seen = motion(0, 120)
    model, _ = TRAINERS[name](seen, ROBOT.layout, model_class(name).config_class(), 0, None)
    far = seen.x + np.array([0.0, 0.0, 15.0, 30.0])
    near_by = model.uncertainty(seen.x, seen.u).epistemic.mean(axis=0)
    away = model.uncertainty(far, seen.u).epistemic.mean(axis=0)
    assert (away > 20.0 * near_by).all()
