"""Fits a ProbabilisticEnsemble by maximum likelihood, all members in one batched torch computation.

PETS (Chua et al. 2018) with the beta-weighted likelihood of Seitzer et al. (2022, arXiv 2203.09168). Members
see the same data and differ by their first weights and their minibatches.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import silu, softplus

from mbrl_ros.models.fitting import FitError, checked, normaliser
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import BOUNDS, WEIGHTS, EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.types import Transitions

LOG_VAR_LOW, LOG_VAR_HIGH = -9.0, 0.5  # soft bounds of the log-variance, targets having unit variance
LARGEST_RESCALE = 10.0  # a normaliser that changed by more than this makes the last weights worthless
LARGEST_GRADIENT = 100.0  # norm over all members, far above what training meets without outliers


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        loss: mean negative log-likelihood of a target entry over all data, targets in unit variance, constant left out.
        steps: gradient steps made.
        seconds: wall time.
        transitions: size of the data.
        warm: whether it began with the last model's weights.
        stopped: whether `stop` ended it early.
    """

    loss: float
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
        seed: of the first weights and the minibatches.
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
        generator = torch.Generator().manual_seed(seed)
        arrays = start or initial_arrays(config, inputs.shape[1], targets.shape[1], generator)
        x = torch.as_tensor((inputs - scales["feature_mean"]) / scales["feature_std"], dtype=torch.float32)
        y = torch.as_tensor((targets - scales["target_mean"]) / scales["target_std"], dtype=torch.float32)
        tensors = {k: torch.as_tensor(arrays[k]).clone() for k in (*WEIGHTS, *BOUNDS)}
        steps = config.refit_steps if start else config.steps
        done = train(tensors, x, y, config, steps=steps, generator=generator, stop=stop)
        with torch.no_grad():
            loss = likelihood_loss(network(tensors, x.expand(config.members, *x.shape)), y, tensors, 0.0).item()
    require_finite(loss)
    model = ProbabilisticEnsemble(layout, {k: v.detach().numpy() for k, v in tensors.items()} | scales)
    return model, FitReport(loss, done, time.perf_counter() - begin, len(data), start is not None, done < steps)


def mirrored(data: Transitions) -> Transitions:
    """The transitions, then all of them with every sign reversed: twice the data for a symmetric robot."""
    x, u, x_next = (np.concatenate([a, -a]) for a in (data.x, data.u, data.x_next))
    return Transitions(x, u, x_next, np.concatenate([data.trajectory, data.trajectory]))


def reusable(
    previous: ProbabilisticEnsemble | None, config: EnsembleConfig, scales: dict[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    """Arrays of `previous` for new SCALES, or None where it has another shape or its scales are too far away."""
    if previous is None:
        return None
    expected = shapes(config, len(scales["feature_mean"]), len(scales["target_mean"]))
    if any(previous.arrays[k].shape != shape for k, shape in expected.items()):
        return None
    ratios = np.concatenate([previous.arrays[k] / scales[k] for k in ("feature_std", "target_std")])
    if np.abs(np.log(ratios)).max() > math.log(LARGEST_RESCALE):
        return None
    return rescaled(previous, scales)


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


def train(
    tensors: dict[str, torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    config: EnsembleConfig,
    *,
    steps: int,
    generator: torch.Generator,
    stop: Callable[[], bool] | None,
) -> int:
    """Minimise the loss over WEIGHTS in place: x (n, n_features), y (n, ny), normalised. Returns the steps made."""
    parameters = [tensors[k].requires_grad_(True) for k in WEIGHTS]
    groups = [
        {"params": [tensors[k] for k in WEIGHTS if k.startswith("w")], "weight_decay": 2.0 * config.weight_decay},
        {"params": [tensors[k] for k in WEIGHTS if k.startswith("b")], "weight_decay": 0.0},
    ]
    adam = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
    for step in range(steps):
        if stop is not None and stop():
            return step
        for group in adam.param_groups:
            group["lr"] = config.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        rows = torch.randint(len(x), (config.members, min(config.batch_size, len(x))), generator=generator)
        # A sum over members: each is trained as if it were alone.
        loss = config.members * likelihood_loss(network(tensors, x[rows]), y[rows], tensors, config.beta)
        require_finite(loss.item())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        adam.step()
    return steps


def network(tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Raw outputs of every member: x (E, B, n_features) -> (E, B, 2 ny), means then raw log-variances."""
    h = silu(torch.baddbmm(tensors["b_in"][:, None], x, tensors["w_in"]))
    for i in range(tensors["w_hidden"].shape[1]):
        h = silu(torch.baddbmm(tensors["b_hidden"][:, i, None], h, tensors["w_hidden"][:, i]))
    return torch.baddbmm(tensors["b_out"][:, None], h, tensors["w_out"])


def likelihood_loss(
    heads: torch.Tensor, y: torch.Tensor, tensors: dict[str, torch.Tensor], beta: float
) -> torch.Tensor:
    """Mean Gaussian negative log-likelihood of y (..., ny), each term weighted with its variance to the power beta."""
    mean, raw = heads.chunk(2, dim=-1)
    log_var = tensors["log_var_high"] - softplus(tensors["log_var_high"] - raw)
    log_var = tensors["log_var_low"] + softplus(log_var - tensors["log_var_low"])
    loss = 0.5 * ((y - mean) ** 2 * torch.exp(-log_var) + log_var)
    return (loss * torch.exp(beta * log_var.detach())).mean()


def require_finite(loss: float) -> None:
    """Raise FitError where the loss is not a number any more."""
    if not math.isfinite(loss):
        raise FitError(f"fit: the loss became {loss}; the last good model stays in use")


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small products gain nothing from more, and sums keep one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
