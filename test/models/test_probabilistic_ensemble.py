"""Rollouts and predictions against step-by-step numpy and Monte Carlo."""

import threading

import numpy as np
import pytest
import torch

from mbrl_ros.models import ensemble_kernel
from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.models.serialization import from_bytes, to_bytes

# Positions and angles not in the first places, one learned entry that is nobody's derivative, two actions.
LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)
NY = 3


def random_ensemble(seed: int = 0, members: int = 3) -> ProbabilisticEnsemble:
    config = EnsembleConfig(members=members, width=16)
    arrays = initial_arrays(config, LAYOUT.n_features, NY, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    arrays |= {
        "feature_mean": rng.normal(size=LAYOUT.n_features).astype(np.float32),
        "feature_std": rng.uniform(0.5, 2.0, LAYOUT.n_features).astype(np.float32),
        "target_mean": rng.normal(size=NY).astype(np.float32),
        "target_std": rng.uniform(0.5, 2.0, NY).astype(np.float32),
    }
    return ProbabilisticEnsemble(LAYOUT, arrays)


@pytest.fixture(scope="module")
def model() -> ProbabilisticEnsemble:
    return random_ensemble()


def test_rollout_is_predict_and_integrate_step_by_step(model):
    rng = np.random.default_rng(1)
    x0, actions = rng.standard_normal(5), rng.standard_normal((4, 6, 2))
    states = model.rollout(x0, actions, None, 5)
    assert states.shape == (5, 4, 7, 5)
    for p in range(5):
        x = np.tile(x0, (4, 1))
        for t in range(6):
            np.testing.assert_allclose(states[p, :, t], x, atol=2e-4)
            mean, _ = model.predict(x, actions[:, t])
            x = LAYOUT.integrate(x, mean[p % 3])
        np.testing.assert_allclose(states[p, :, 6], x, atol=2e-4)


@pytest.mark.parametrize("elites, expected", [([2, 0], [2, 0]), ([1], [1]), ([1e9, -7.0], [2, 0])])
def test_only_elites_plan_and_no_index_leads_out_of_the_arrays(model, elites, expected):
    few = model.with_arrays(elites=np.array(elites, np.float32))
    rng = np.random.default_rng(8)
    x, u, actions = rng.standard_normal((3, 5)), rng.standard_normal((3, 2)), rng.standard_normal((2, 4, 2))
    assert few.members == len(expected)
    np.testing.assert_allclose(few.predict(x, u)[0], model.predict(x, u)[0][expected])
    np.testing.assert_allclose(few.step(x, u), LAYOUT.integrate(x, model.predict(x, u)[0][expected].mean(0)), atol=1e-5)
    starts = np.tile(x[0], (len(expected), 1))
    every = model.rollout(x[0], actions, None, 3)
    np.testing.assert_array_equal(few.rollout(starts, actions, None, len(expected)), every[expected])
    weights = rng.standard_normal((len(expected), 17, NY))
    difference = few.with_output_change(weights).predict(x, u)[0] - few.predict(x, u)[0]
    np.testing.assert_allclose(difference, few.basis(x, u) @ weights * few.arrays["target_std"], atol=1e-4)
    read, _ = from_bytes(to_bytes(few, 1, 2, "robot"), "robot", LAYOUT)
    np.testing.assert_array_equal(read.predict(x, u)[0], few.predict(x, u)[0])


def test_the_example_to_measure_with_has_as_many_members_as_will_plan():
    config = EnsembleConfig(members=6, elites=2, width=8)
    assert ProbabilisticEnsemble.example(LAYOUT, config, np.random.default_rng(0)).members == 2


def test_rollout_takes_one_start_a_particle(model):
    starts = np.random.default_rng(2).standard_normal((4, 5))
    actions = np.zeros((2, 3, 2))
    together = model.rollout(starts, actions, None, 4)
    alone = model.rollout(starts[3], actions, None, 4)
    np.testing.assert_array_equal(together[3], alone[3])
    assert not np.allclose(together[2], alone[2])


def test_particles_keep_their_member(model):
    states = model.rollout(np.zeros(5), np.ones((1, 8, 2)), None, 6)
    np.testing.assert_array_equal(states[:3], states[3:])
    assert np.abs(states[0] - states[1]).max() > 1e-2


def test_sampled_noise_has_the_predicted_spread(model):
    x0, u = np.full(5, 0.3), np.full((1, 1, 2), -0.4)
    particles = 60_000
    states = model.rollout(x0, u, np.random.default_rng(3), particles)[:, 0, 1]
    change = (states - x0)[:, LAYOUT.learned]
    mean, std = model.predict(x0[None], u[0])
    for e in range(3):
        mine = change[e::3]
        # 20000 draws: the standard error is 0.7 % of the spread for the mean, 0.5 % for the spread.
        np.testing.assert_allclose(mine.mean(axis=0), mean[e, 0], atol=0.03 * std[e, 0].max())
        np.testing.assert_allclose(mine.std(axis=0), std[e, 0], rtol=0.025)


def test_candidates_share_the_luck_and_the_seed_decides(model):
    x0, actions = np.zeros(5), np.zeros((2, 4, 2))
    first = model.rollout(x0, actions, np.random.default_rng(4), 3)
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    np.testing.assert_array_equal(first, model.rollout(x0, actions, np.random.default_rng(4), 3))
    assert not np.allclose(first, model.rollout(x0, actions, np.random.default_rng(5), 3))


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("particles", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_bits(model, noise, particles, monkeypatch):
    x0, actions = np.full(5, 0.2), np.random.default_rng(6).standard_normal((9, 6, 2))
    callers = set()
    kernel = ensemble_kernel.rollout

    def watched(*args):
        callers.add(threading.get_ident())
        kernel(*args)

    alone = model.rollout(x0, actions, np.random.default_rng(7) if noise else None, particles)
    monkeypatch.setattr(ensemble_kernel, "rollout", watched)
    for threads in (2, 3, 8):
        callers.clear()
        shared = model.with_threads(threads).rollout(
            x0, actions, np.random.default_rng(7) if noise else None, particles
        )
        np.testing.assert_array_equal(shared, alone)
        assert (len(callers) > 1) == (particles > 1)
    assert model.threads == 1


def test_an_error_in_another_thread_is_not_lost(model, monkeypatch):
    def broken(starts, *_):
        if threading.current_thread() is not threading.main_thread():
            raise FloatingPointError("in a helper")

    monkeypatch.setattr(ensemble_kernel, "rollout", broken)
    with pytest.raises(FloatingPointError, match="in a helper"):
        model.with_threads(2).rollout(np.zeros(5), np.zeros((2, 3, 2)), None, 2)
