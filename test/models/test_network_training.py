"""The likelihood of rollouts against numpy, step by step, with the model's own inference."""

import numpy as np
import pytest
import torch

from mbrl_ros.models.ensemble_data import mirrored
from mbrl_ros.models.ensemble_training import EnsembleConfig, initial_arrays
from mbrl_ros.models.fitting import checked, normaliser
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.network_training import cosine, member_losses, rollout_losses, training_data
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.types import Transitions

LAYOUT = StateLayout(("v", "p", "w", "theta", "s"), ("f", "g"), ("theta",), {"p": "v", "theta": "w"}, 0.05)
LENGTHS = (6, 1, 4)


def motion(seed: int = 0) -> Transitions:
    """Three trajectories, each row beginning where the last one ended."""
    rng = np.random.default_rng(seed)
    states = [rng.normal(size=(n + 1, 5)).cumsum(axis=0) for n in LENGTHS]
    x, x_next = (np.concatenate([s[cut] for s in states]) for cut in (slice(None, -1), slice(1, None)))
    return Transitions(x, rng.normal(size=(len(x), 2)), x_next, np.repeat([4, 8, 9], LENGTHS))


def prepared(horizon: int, mirror: bool = False):
    data = motion()
    inputs, targets = checked(mirrored(data) if mirror else data, LAYOUT)
    scales = normaliser(inputs, targets)
    config = EnsembleConfig(members=2, width=8)
    arrays = initial_arrays(config, inputs.shape[1], 3, torch.Generator().manual_seed(0))
    tensors = {k: torch.as_tensor(v) for k, v in arrays.items()}
    return data, ProbabilisticEnsemble(LAYOUT, arrays | scales), tensors, (inputs, targets, scales, horizon)


def by_hand(model: ProbabilisticEnsemble, data: Transitions, member: int, row: int, horizon: int, beta: float) -> float:
    """Mean over steps and entries of one window's loss, through `predict_member` and `StateLayout.integrate`."""
    scale, learned = model.arrays["target_std"], LAYOUT.learned
    x, variance, losses = data.x[row : row + 1], np.zeros(3), []
    for at in range(row, min(row + horizon, len(data))):
        if data.trajectory[at] != data.trajectory[row]:
            break
        mean, std = model.predict_member(member, x, data.u[at : at + 1])
        x = LAYOUT.integrate(x, mean.astype(float))
        variance = variance + (std[0] / scale) ** 2
        error = (x[0, learned] - data.x_next[at, learned]) / scale
        losses.append(0.5 * (error**2 / variance + np.log(variance)) * variance**beta)
    return float(np.mean(losses))


@pytest.mark.parametrize("horizon", [1, 2, 4])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_loss_is_the_likelihood_of_the_rollout_within_one_trajectory(horizon, beta):
    data, model, tensors, (inputs, targets, scales, _) = prepared(horizon)
    tensors_of = training_data(data, inputs, targets, LAYOUT, scales, horizon)
    rows = torch.arange(len(data)).expand(2, -1)
    got = rollout_losses(tensors, tensors_of, rows, horizon, beta).numpy()
    expected = [[by_hand(model, data, e, row, horizon, beta) for row in range(len(data))] for e in range(2)]
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-4)


def test_windows_of_mirrored_data_do_not_run_from_one_half_into_the_other():
    data, model, tensors, (inputs, targets, scales, _) = prepared(3, mirror=True)
    both = mirrored(data)
    n = len(data)
    tensors_of = training_data(data, inputs, targets, LAYOUT, scales, 3)
    np.testing.assert_allclose(tensors_of.x, both.x, rtol=1e-6)
    got = rollout_losses(tensors, tensors_of, torch.arange(2 * n).expand(2, -1), 3, 0.0).numpy()
    first, second = both[slice(0, n)], both[slice(n, 2 * n)]
    for part, half in ((got[:, :n], first), (got[:, n:], second)):
        expected = [[by_hand(model, half, e, row, 3, 0.0) for row in range(n)] for e in range(2)]
        np.testing.assert_allclose(part, expected, rtol=2e-3, atol=1e-4)


def test_member_losses_are_the_mean_over_rows(monkeypatch):
    data, _, tensors, (inputs, targets, scales, _) = prepared(2)
    tensors_of = training_data(data, inputs, targets, LAYOUT, scales, 2)
    rows = torch.tensor([0, 3, 5, 7, 10])
    expected = rollout_losses(tensors, tensors_of, rows.expand(2, -1), 2, 0.0).mean(dim=1)
    monkeypatch.setattr("mbrl_ros.models.network_training.CHUNK", 2)
    np.testing.assert_allclose(member_losses(tensors, tensors_of, rows, 2), expected, rtol=1e-5)


def test_the_step_size_falls_along_half_a_cosine():
    assert cosine(0, 100) == pytest.approx(1.0) and cosine(50, 100) == pytest.approx(0.51)
    assert cosine(100, 100) == pytest.approx(0.02)
