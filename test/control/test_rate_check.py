"""The check of the control rate, with a planner whose time is known."""

import time
from dataclasses import dataclass

import numpy as np
import pytest

from mbrl_ros import params_file
from mbrl_ros.config import option
from mbrl_ros.control.rate_check import check_rate
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.planners.base import Plan, Problem

LAYOUT = StateLayout(("p", "v"), ("u",), (), {"p": "v"}, 0.1)
SMALL = ProbabilisticEnsemble.example(LAYOUT, EnsembleConfig(members=2, width=4), np.random.default_rng(0))


@dataclass(frozen=True)
class SleeperConfig:
    """Sleeps one unit a sample."""

    samples: int = option(16, "units of sleep", low=4)


class Sleeper:
    """A planner that takes `samples` times 4 ms."""

    def __init__(self, config):
        self.config = config

    def initial_state(self, problem, guess=None):
        return None

    def plan(self, problem, x0, state, rng, deadline):
        time.sleep(0.004 * self.config.samples)
        return Plan(np.zeros((problem.horizon, 1)), 0.0, 1), None


def check(budget, samples=16):
    problem = Problem(SMALL, None, -np.ones(1), np.ones(1), 3)
    return check_rate(Sleeper, SleeperConfig(samples), problem, budget)


def test_a_planner_that_holds_the_rate_is_left_alone():
    found = check(budget=10.0)
    assert found.holds
    assert found.message("sleeper") == ""


def test_the_offer_is_below_the_setting_and_was_measured_within_the_budget():
    found = check(budget=0.04)
    assert not found.holds
    assert found.setting == "samples"
    assert found.offer <= 10, "16 samples take 64 ms at least, 11 more than 40"
    assert found.offer_seconds <= 0.04
    assert f"sleeper.samples: {found.offer}" in found.message("sleeper")


def test_where_nothing_holds_the_rate_it_says_so():
    found = check(budget=0.002)
    assert found.offer is None
    assert "shorter horizon" in found.message("sleeper")


@pytest.mark.parametrize(
    ("model", "setting", "array", "size"),
    [("gaussian_process", "max_data", "inputs", 40), ("probabilistic_ensemble", "members", "w_in", 3)],
)
def test_the_rate_is_checked_over_the_model_that_will_be_learned(monkeypatch, model, setting, array, size):
    seen = {}
    monkeypatch.setattr(params_file, "check_rate", lambda planner, config, problem, budget: seen.update(p=problem))
    parameters = params_file.resolve({"model": model}, None)
    parameters["model_learner"][f"{model}.{setting}"] = size
    params_file.check_planning_rate(parameters)
    assert seen["p"].dynamics.name == model
    assert len(seen["p"].dynamics.arrays[array]) == size


def test_the_rate_is_checked_as_the_model_will_be_used(monkeypatch):
    seen = {}
    monkeypatch.setattr(params_file, "check_rate", lambda planner, config, problem, budget: seen.update(p=problem))
    for propagation, particles in (("mean", 1), ("ts_inf", 5)):
        params_file.check_planning_rate(params_file.resolve({"propagation": propagation}, None))
        assert (seen["p"].dynamics.propagation, seen["p"].particles) == (propagation, particles)
