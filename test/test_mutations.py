"""Known mistakes put back, one at a time: each must make a test of this suite fail.

They are the ones that libraries of this kind have shipped: ensemble members resampled in every round of training,
truncated noise whose spread nobody corrected, returns that are NaN and rank first. A mutant changes one piece of text
in the source of one function; where the text is not there any more the test says so, so mutants cannot grow stale.
"""

import importlib.util
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from mbrl_ros.models import ensemble_data, propagation
from mbrl_ros.planners import noise, rollout
from mbrl_ros.planners.cem import CEM
from mbrl_ros.planners.mppi import MPPI

HERE = Path(__file__).resolve().parent


@cache
def suite(name: str) -> ModuleType:
    """A file of this suite as a module, `models/test_x` for example."""
    spec = importlib.util.spec_from_file_location(f"guards_{name.replace('/', '_')}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutant(function: Callable, old: str, new: str) -> CodeType:
    """Code of the function with one piece of its text replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{function.__qualname__} does not hold the text '{old}' once any more"
    made: dict = {}
    exec(compile(source.replace(old, new), f"<mutant of {function.__qualname__}>", "exec"), function.__globals__, made)
    return made[function.__name__].__code__


def guard(file: str, test: str, *args) -> Callable[[], None]:
    """A test of the suite with its arguments; those that are functions make them from the test's module."""
    module = suite(file)
    return lambda: getattr(module, test)(*(a(module) if callable(a) else a for a in args))


def an_ensemble(module: ModuleType):
    return module.random_ensemble()


MUTANTS = {
    "members resampled in every round of training": (
        ensemble_data.bootstrap_counts,
        "[seed, e]",
        "[seed, e, count]",
        [
            ("models/test_ensemble_data", "test_a_row_keeps_its_counts_when_rows_are_appended"),
            ("models/test_ensemble_training", "test_members_keep_their_resamples_in_a_refit_to_more_data"),
        ],
    ),
    "all members with the same resample": (
        ensemble_data.bootstrap_counts,
        "[seed, e]",
        "[seed]",
        [("models/test_ensemble_data", "test_members_and_seeds_have_resamples_of_their_own")],
    ),
    "particles that change their member at every step": (
        propagation.ts_inf,
        "np.broadcast_to(kept, (particles, actions.shape[1]))",
        "schedule(model.members, particles, actions.shape[1], rng)",
        [("models/test_probabilistic_ensemble", "test_particles_keep_their_member", an_ensemble)],
    ),
    "coloured noise truncated, its spread not corrected": (
        noise.coloured_noise,
        "return sequences.transpose(0, 2, 1)",
        "return np.clip(sequences, -2.0, 2.0).transpose(0, 2, 1)",
        [("planners/test_noise", "test_unit_variance_and_zero_mean_at_every_step", 2.0, 24)],
    ),
    "white noise truncated, its spread not corrected": (
        noise.coloured_noise,
        "return rng.standard_normal((horizon, samples, nu)).transpose(1, 0, 2)",
        "return np.clip(rng.standard_normal((horizon, samples, nu)), -2.0, 2.0).transpose(1, 0, 2)",
        [("planners/test_noise", "test_unit_variance_and_zero_mean_at_every_step", 0.0, 24)],
    ),
    "noise of the dynamics truncated": (
        propagation.prepared,
        "rng.standard_normal(draws, dtype=np.float32)",
        "np.clip(rng.standard_normal(draws, dtype=np.float32), -2.0, 2.0)",
        [("models/test_probabilistic_ensemble", "test_sampled_noise_has_the_predicted_spread", an_ensemble)],
    ),
    "weights for noise that clipping has taken away": (
        MPPI._round,
        "noise = candidates - mean",
        "pass",
        [("planners/test_mppi", "test_noise_is_what_clipping_leaves")],
    ),
    "candidates beyond the limits": (
        CEM._candidates,
        "np.clip(np.concatenate([mean + std * noise, *extra]), problem.u_min, problem.u_max)",
        "np.concatenate([mean + std * noise, *extra])",
        [("planners/test_cem", "test_keeps_the_limits_and_meets_them_where_they_bind")],
    ),
    "returns that are NaN rank first": (
        rollout.evaluate,
        "np.where(np.isfinite(costs), costs, np.inf)",
        "np.where(np.isfinite(costs), costs, -np.inf)",
        [
            ("planners/test_rollout", "test_costs_that_are_no_numbers_become_infinite"),
            ("planners/test_cem", "test_a_rollout_that_is_nan_never_wins"),
            ("planners/test_random_shooting", "test_nan_never_wins_and_a_round_of_nan_is_survived"),
        ],
    ),
    "returns that are NaN pass": (
        rollout.evaluate,
        "np.where(np.isfinite(costs), costs, np.inf)",
        "costs",
        [("planners/test_rollout", "test_costs_that_are_no_numbers_become_infinite")],
    ),
}
CASES = [(name, *test) for name, (*_, tests) in MUTANTS.items() for test in tests]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[2]}")
def test_the_suite_fails_where_a_known_mistake_is_put_back(case, monkeypatch):
    name, file, test, *args = case
    function, old, new, _ = MUTANTS[name]
    check = guard(file, test, *args)
    check()  # or it would prove nothing that it fails below
    monkeypatch.setattr(function, "__code__", mutant(function, old, new))
    with pytest.raises(AssertionError):
        check()


def test_a_mutant_whose_text_is_gone_is_noticed():
    with pytest.raises(AssertionError, match="does not hold the text"):
        mutant(rollout.evaluate, "no such text", "")
