"""Fits a ProbabilisticEnsemble by maximum likelihood, all members in one batched torch computation.

PETS (Chua et al. 2018) with the beta-weighted likelihood of Seitzer et al. (2022, arXiv 2203.09168). Members
differ by their first weights, their minibatches and, where `bootstrap` says so, their resamples of the data
(`ensemble_data`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_ros.models.ensemble_data import mirrored
from mbrl_ros.models.fitting import checked, normaliser, stream
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.member_training import split_rows, train
from mbrl_ros.models.network_training import (
    LOG_VAR_HIGH,
    LOG_VAR_LOW,
    far_apart,
    member_losses,
    one_thread,
    require_finite,
    training_data,
)
from mbrl_ros.models.probabilistic_ensemble import BOUNDS, WEIGHTS, EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.types import Transitions


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        loss: mean negative log-likelihood of a target entry over all data, targets in unit variance, constant left out.
        held_out: the same over the held-out trajectories for the members that plan; NaN where nothing is held out.
        steps: gradient steps made.
        seconds: wall time.
        transitions: size of the data.
        warm: whether it began with the last model's weights.
        stopped: whether `stop` ended it early.
    """

    loss: float
    held_out: float
    steps: int
    seconds: float
    transitions: int
    warm: bool
    stopped: bool


def fit(
    data: Transitions,
    layout: StateLayout,
    config: EnsembleConfig,
    seed: int,
    previous: ProbabilisticEnsemble | None = None,
    *,
    stop: Callable[[], bool] | None = None,
) -> tuple[ProbabilisticEnsemble, FitReport]:
    """Fit an ensemble to transitions; same data, previous model and seed give the same bytes.

    Args:
        data: one transition or more.
        layout: meaning of the state entries.
        config: settings.
        seed: of the first weights, the minibatches (both together with the number of transitions, so that refits
            differ) and the resamples, which stay the same for the same seed.
        previous: start from its weights, re-expressed for the new normaliser, and take `refit_steps` only. A model
            of another shape, or whose normaliser is far from the new data's, is passed over.
        stop: asked before each step; True ends the training with the weights reached so far.

    Raises:
        FitError: no data, non-finite data or a loss that became non-finite.
    """
    begin = time.perf_counter()
    inputs, targets = checked(mirrored(data) if config.mirror else data, layout)
    scales = normaliser(inputs, targets)
    start = reusable(previous, config, scales)
    with one_thread():
        generator = torch.Generator().manual_seed(stream(seed, len(inputs)))
        arrays = start or initial_arrays(config, inputs.shape[1], targets.shape[1], generator)
        tensors = {k: torch.as_tensor(arrays[k]).clone() for k in (*WEIGHTS, *BOUNDS)}
        rows = training_data(data, inputs, targets, layout, scales, config.loss_horizon)
        split = split_rows(data.trajectory, len(inputs) // len(data), config, seed)
        steps = config.refit_steps if start else config.steps
        done, stopped = train(tensors, rows, split, config, steps=steps, generator=generator, stop=stop)
        loss = member_losses(tensors, rows, torch.arange(len(inputs)), config.loss_horizon).mean().item()
        judged = member_losses(tensors, rows, split.judge, config.loss_horizon)
    require_finite(loss)
    fitted = {k: v.detach().numpy() for k, v in tensors.items()} | scales
    planning = np.arange(config.members)
    if config.elites:
        planning = np.argsort(judged.numpy(), kind="stable")[: config.elites]
        fitted["elites"] = planning.astype(np.float32)
    held = judged[planning].mean().item() if split.held_out else float("nan")
    seconds = time.perf_counter() - begin
    return ProbabilisticEnsemble(layout, fitted), FitReport(
        loss, held, done, seconds, len(data), start is not None, stopped
    )


def reusable(
    previous: ProbabilisticEnsemble | None, config: EnsembleConfig, scales: dict[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    """Arrays of `previous` for new SCALES, or None where it has another shape or its scales are too far away."""
    if previous is None:
        return None
    expected = shapes(config, len(scales["feature_mean"]), len(scales["target_mean"]))
    if any(previous.arrays[k].shape != shape for k, shape in expected.items()):
        return None
    return None if far_apart(previous.arrays, scales) else rescaled(previous, scales)


def rescaled(model: ProbabilisticEnsemble, scales: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of the same function with other SCALES.

    With ``z = (f - m) / s`` on both sides, ``z_old = r z_new + d``; the outputs follow in the same way, and the
    log-variance with its bounds moves by ``2 log(s_old / s_new)``.
    """
    old = {k: v.astype(np.float64) for k, v in model.arrays.items()}
    r = scales["feature_std"] / old["feature_std"]
    d = (scales["feature_mean"] - old["feature_mean"]) / old["feature_std"]
    q = old["target_std"] / scales["target_std"]
    shift = 2.0 * np.log(q)
    gain = np.concatenate([q, np.ones_like(q)])
    offset = np.concatenate([(old["target_mean"] - scales["target_mean"]) / scales["target_std"], shift])
    new = {
        "w_in": old["w_in"] * r[:, None],
        "b_in": old["b_in"] + d @ old["w_in"],
        "w_out": old["w_out"] * gain,
        "b_out": old["b_out"] * gain + offset,
        "log_var_low": old["log_var_low"] + shift,
        "log_var_high": old["log_var_high"] + shift,
    }
    return {k: v.astype(np.float32) for k, v in (old | new | scales).items()}


def shapes(config: EnsembleConfig, n_in: int, ny: int) -> dict[str, tuple[int, ...]]:
    """Shape of each of WEIGHTS."""
    e, h, hidden = config.members, config.width, config.layers - 1
    return {
        "w_in": (e, n_in, h),
        "b_in": (e, h),
        "w_hidden": (e, hidden, h, h),
        "b_hidden": (e, hidden, h),
        "w_out": (e, h, 2 * ny),
        "b_out": (e, 2 * ny),
    }


def initial_arrays(config: EnsembleConfig, n_in: int, ny: int, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Random weights of variance 1 / fan-in, zero biases, default bounds."""
    arrays = {
        "log_var_low": np.full(ny, LOG_VAR_LOW, np.float32),
        "log_var_high": np.full(ny, LOG_VAR_HIGH, np.float32),
    }
    for name, shape in shapes(config, n_in, ny).items():
        scale = shape[-2] ** -0.5 if name.startswith("w") else 0.0
        arrays[name] = (scale * torch.randn(*shape, generator=generator)).numpy()
    return arrays
