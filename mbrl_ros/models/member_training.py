"""Trains the members of an ensemble side by side: who learns from which rows, the steps, early stopping."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mbrl_ros.models.ensemble_data import bootstrap_counts, held_out, resamples
from mbrl_ros.models.network_training import (
    LARGEST_GRADIENT,
    TrainingData,
    cosine,
    member_losses,
    require_finite,
    rollout_losses,
)
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS, EnsembleConfig

CHECK_EVERY = 20  # steps from one look at the held-out likelihood to the next, at most
LARGEST_HELD_OUT = 2048  # rows looked at, evenly spread: more would cost as much as the training


@dataclass
class Split:
    """Rows of the data as tensors: those each member learns from (with repetitions), those all are judged by."""

    own: list[torch.Tensor]
    judge: torch.Tensor  # held-out rows, or all where nothing is held out
    held_out: bool


def split_rows(trajectory: np.ndarray, copies: int, config: EnsembleConfig, seed: int) -> Split:
    """Who learns from which of the ``copies * n`` rows; a mirrored row goes where its original goes."""
    mask = np.tile(held_out(trajectory, config.holdout), copies)
    rows, judge = np.flatnonzero(~mask), np.flatnonzero(mask)
    own = [rows] * config.members
    if config.bootstrap:
        own = resamples(np.tile(bootstrap_counts(seed, config.members, len(trajectory)), copies), rows)
    seen = judge if len(judge) else rows
    some = seen[np.unique(np.linspace(0, len(seen) - 1, LARGEST_HELD_OUT).round().astype(int))]
    return Split([torch.as_tensor(r) for r in own], torch.as_tensor(some), len(judge) > 0)


def train(
    tensors: dict[str, torch.Tensor],
    data: TrainingData,
    split: Split,
    config: EnsembleConfig,
    *,
    steps: int,
    generator: torch.Generator,
    stop: Callable[[], bool] | None,
) -> tuple[int, bool]:
    """Minimise the loss over WEIGHTS in place. Returns the steps made and whether `stop` ended it."""
    parameters = [tensors[k].requires_grad_(True) for k in WEIGHTS]
    groups = [
        {"params": [tensors[k] for k in WEIGHTS if k.startswith("w")], "weight_decay": 2.0 * config.weight_decay},
        {"params": [tensors[k] for k in WEIGHTS if k.startswith("b")], "weight_decay": 0.0},
    ]
    adam = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
    best = Best(tensors, data, split, config) if config.patience and split.held_out else None
    check_every = min(CHECK_EVERY, max(config.patience, 1))  # or patience would end before the first look
    step, stopped = 0, False
    while step < steps and not (best and step - best.step >= config.patience):
        if stopped := stop is not None and stop():
            break
        for group in adam.param_groups:
            group["lr"] = config.learning_rate * cosine(step, steps)
        rows = minibatch(split.own, min(config.batch_size, len(data.features)), generator)
        # A sum over members: each is trained as if it were alone.
        loss = rollout_losses(tensors, data, rows, config.loss_horizon, config.beta).mean(dim=1).sum()
        require_finite(loss.item())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        adam.step()
        step += 1
        if best and (step % check_every == 0 or step == steps):
            best.look(step)
    if best:
        best.restore()
    return step, stopped


def minibatch(own: list[torch.Tensor], size: int, generator: torch.Generator) -> torch.Tensor:
    """Rows (E, size), drawn with replacement from those each member learns from."""
    return torch.stack([rows[torch.randint(len(rows), (size,), generator=generator)] for rows in own])


class Best:
    """Early stopping: each member's weights where its held-out likelihood was best, for members know nothing of others.

    Attributes:
        step: the last step at which any member was better than ever.
    """

    def __init__(
        self, tensors: dict[str, torch.Tensor], data: TrainingData, split: Split, config: EnsembleConfig
    ) -> None:
        self._tensors, self.step = tensors, 0
        self._judge = lambda: member_losses(tensors, data, split.judge, config.loss_horizon)
        self._losses = self._judge()
        self._kept = {k: tensors[k].detach().clone() for k in WEIGHTS}

    def look(self, step: int) -> None:
        """Keep the weights of the members that are better than ever after `step` steps."""
        losses = self._judge()
        better = losses < self._losses
        self._losses = torch.where(better, losses, self._losses)
        for k, kept in self._kept.items():
            kept[better] = self._tensors[k].detach()[better]
        if better.any():
            self.step = step

    def restore(self) -> None:
        """Put the best weights back."""
        with torch.no_grad():
            for k, kept in self._kept.items():
                self._tensors[k].copy_(kept)
