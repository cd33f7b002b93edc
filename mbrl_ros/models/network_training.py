"""What the trainers of networks share: the data as tensors, the Gaussian head, the likelihood of rollouts."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import silu, softplus

from mbrl_ros.models.ensemble_data import remaining
from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

LOG_VAR_LOW, LOG_VAR_HIGH = -9.0, 0.5  # soft bounds of the log-variance, targets having unit variance
LARGEST_GRADIENT = 100.0  # norm over all weights, far above what training meets without outliers
LARGEST_RESCALE = 10.0  # a normaliser that changed by more than this makes the last weights worthless
FARTHEST = 10.0  # spreads of the data off their mean beyond which a rollout's inputs are held: it must not run away
CHUNK = 4096  # rows of one pass where all data are looked at: bounds the memory


@dataclass(frozen=True)
class TrainingData:
    """Transitions as tensors, n rows.

    Attributes:
        features: normalised inputs (n, n_features).
        targets: normalised changes of the learned entries (n, ny).
        x: states (n, nx) and
        u: actions (n, nu), from which rollouts go on.
        remaining: (n,) transitions from each row to the end of its trajectory, at most the horizon of the loss.
        layout: meaning of the state entries.
        scales: the normaliser.
    """

    features: torch.Tensor
    targets: torch.Tensor
    x: torch.Tensor
    u: torch.Tensor
    remaining: torch.Tensor
    layout: StateLayout
    scales: dict[str, torch.Tensor]

    def advance(self, x: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """`StateLayout.integrate` of normalised changes (..., ny): linear, so its matrices are taken from itself."""
        nx, ny = self.layout.nx, len(self.layout.learned)
        of_x = self.layout.integrate(np.eye(nx), np.zeros((nx, ny)))
        of_change = self.layout.integrate(np.zeros((ny, nx)), np.eye(ny))
        raw = change * self.scales["target_std"] + self.scales["target_mean"]
        return x @ torch.as_tensor(of_x, dtype=x.dtype) + raw @ torch.as_tensor(of_change, dtype=x.dtype)

    def inputs(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Normalised `StateLayout.features` of states (..., nx) and actions (..., nu), within FARTHEST."""
        mask = torch.as_tensor(self.layout.angle_mask)
        raw = torch.cat([torch.where(mask, torch.sin(x), x), torch.cos(x[..., mask]), u], dim=-1)
        return ((raw - self.scales["feature_mean"]) / self.scales["feature_std"]).clamp(-FARTHEST, FARTHEST)


def training_data(
    data: Transitions,
    inputs: np.ndarray,
    targets: np.ndarray,
    layout: StateLayout,
    scales: dict[str, np.ndarray],
    horizon: int = 1,
) -> TrainingData:
    """Tensors of transitions with their unnormalised inputs and targets; mirrored rows are a second half."""
    copies = len(inputs) // len(data)  # 2 where the inputs are those of mirrored data
    left = np.tile(remaining(data.trajectory, horizon), copies)
    signs = [1.0, -1.0][:copies]
    x, u = (np.concatenate([s * a for s in signs]) for a in (data.x, data.u))
    z = (inputs - scales["feature_mean"]) / scales["feature_std"]
    y = (targets - scales["target_mean"]) / scales["target_std"]
    features, goals, states, actions = (torch.as_tensor(a, dtype=torch.float32) for a in (z, y, x, u))
    tensors = {k: torch.as_tensor(v) for k, v in scales.items()}
    return TrainingData(features, goals, states, actions, torch.as_tensor(left), layout, tensors)


def network(tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Raw outputs of every member: x (E, B, n_features) -> (E, B, 2 ny), means then raw log-variances."""
    h = silu(torch.baddbmm(tensors["b_in"][:, None], x, tensors["w_in"]))
    for i in range(tensors["w_hidden"].shape[1]):
        h = silu(torch.baddbmm(tensors["b_hidden"][:, i, None], h, tensors["w_hidden"][:, i]))
    return torch.baddbmm(tensors["b_out"][:, None], h, tensors["w_out"])


def bounded(raw: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Softly bounded log-variance (PETS, Chua et al. 2018, A.1) of a raw one (..., ny)."""
    log_var = tensors["log_var_high"] - softplus(tensors["log_var_high"] - raw)
    return tensors["log_var_low"] + softplus(log_var - tensors["log_var_low"])


def negative_log_likelihood(error: torch.Tensor, log_var: torch.Tensor, beta: float) -> torch.Tensor:
    """Mean over entries (..., ny) -> (...), constant left out, each weighted with its variance to the power beta."""
    loss = 0.5 * (error**2 * torch.exp(-log_var) + log_var)
    return (loss * torch.exp(beta * log_var.detach()) if beta else loss).mean(dim=-1)


def rollout_losses(
    tensors: dict[str, torch.Tensor], data: TrainingData, rows: torch.Tensor, horizon: int, beta: float
) -> torch.Tensor:
    """Negative log-likelihood of motion from `rows` (E, B) on, mean over entries and steps: (E, B).

    A member's mean is rolled out through `StateLayout.integrate` under the recorded actions for `horizon` periods, or
    to the end of the trajectory. After each the learned entries are Gaussian around the rollout with the sum of the
    variances so far. Horizon 1 is the one-step likelihood.
    """
    if horizon == 1:  # the same sum, without what only rollouts need
        mean, raw = network(tensors, data.features[rows]).chunk(2, dim=-1)
        return negative_log_likelihood(data.targets[rows] - mean, bounded(raw, tensors), beta)
    left = data.remaining[rows]
    last = rows + left - 1
    features, x = data.features[rows], data.x[rows]
    deviation, log_total, total = torch.zeros(()), torch.full((), -torch.inf), torch.zeros(())
    for s in range(horizon):
        at = torch.minimum(rows + s, last)
        if s > 0:
            features = data.inputs(x, data.u[at])
        mean, raw = network(tensors, features).chunk(2, dim=-1)
        # The changes add up, so do their errors: the normaliser's mean drops out of the difference.
        deviation = deviation + data.targets[at] - mean
        log_total = torch.logaddexp(log_total, bounded(raw, tensors)) if s > 0 else bounded(raw, tensors)
        loss = negative_log_likelihood(deviation, log_total, beta)
        total = total + torch.where(s < left, loss, 0.0)
        if s + 1 < horizon:
            x = data.advance(x, mean)
    return total / left


def member_losses(
    tensors: dict[str, torch.Tensor], data: TrainingData, rows: torch.Tensor, horizon: int
) -> torch.Tensor:
    """Mean of `rollout_losses` over `rows` (m,) of each member: (E,), no gradients."""
    members = len(tensors["w_in"])
    with torch.no_grad():
        parts = [
            rollout_losses(tensors, data, part.expand(members, -1), horizon, 0.0).sum(dim=1)
            for part in rows.split(CHUNK)
        ]
    return torch.stack(parts).sum(dim=0) / len(rows)


def cosine(step: int, steps: int) -> float:
    """Share of the first step size, from 1 to 0.02 along half a cosine."""
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def far_apart(previous: dict[str, np.ndarray], scales: dict[str, np.ndarray]) -> bool:
    """Whether a normaliser changed so much that the weights under the last one are of no use."""
    ratios = np.concatenate([previous[k] / scales[k] for k in ("feature_std", "target_std")])
    return bool(np.abs(np.log(ratios)).max() > math.log(LARGEST_RESCALE))


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
