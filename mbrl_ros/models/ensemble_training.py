"""Fits a ProbabilisticEnsemble by maximum likelihood, all members in one batched torch computation."""

from dataclasses import dataclass, field

import numpy as np
import torch

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS, ProbabilisticEnsemble
from mbrl_ros.types import Transitions


@dataclass(frozen=True)
class EnsembleConfig:
    members: int = 5
    layers: int = 2
    width: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    batch_size: int = 64
    steps: int = 600
    refit_steps: int = 200
    beta: float = 0.5


def initial_weights(cfg, n_in, n_out, gen):
    def lin(*shape):
        return torch.randn(*shape, generator=gen) / shape[-2] ** 0.5

    e, h, L = cfg.members, cfg.width, cfg.layers
    return {
        "w_in": lin(e, n_in, h),
        "b_in": torch.zeros(e, h),
        "w_hidden": lin(e, L - 1, h, h),
        "b_hidden": torch.zeros(e, L - 1, h),
        "w_out": lin(e, h, 2 * n_out),
        "b_out": torch.zeros(e, 2 * n_out),
    }


def network(p, x):
    h = torch.nn.functional.silu(torch.baddbmm(p["b_in"][:, None], x, p["w_in"]))
    for l in range(p["w_hidden"].shape[1]):
        h = torch.nn.functional.silu(torch.baddbmm(p["b_hidden"][:, l, None], h, p["w_hidden"][:, l]))
    return torch.baddbmm(p["b_out"][:, None], h, p["w_out"])


def nll(heads, y, low, high, beta):
    ny = y.shape[-1]
    mean, lv = heads[..., :ny], heads[..., ny:]
    sp = torch.nn.functional.softplus
    lv = high - sp(high - lv)
    lv = low + sp(lv - low)
    loss = 0.5 * ((y - mean) ** 2 * torch.exp(-lv) + lv)
    if beta:
        loss = loss * torch.exp(lv.detach() * beta)
    return loss


def fit(data: Transitions, layout: StateLayout, cfg: EnsembleConfig, seed: int, previous=None):
    f = layout.features(data.x, data.u)
    y = layout.targets(data.x, data.x_next)
    fm, fs = f.mean(0), np.maximum(f.std(0), 1e-3)
    ym, ys = y.mean(0), np.maximum(y.std(0), 1e-6)
    F = torch.as_tensor((f - fm) / fs, dtype=torch.float32)
    Y = torch.as_tensor((y - ym) / ys, dtype=torch.float32)
    gen = torch.Generator().manual_seed(seed)
    ny = Y.shape[1]
    p = initial_weights(cfg, F.shape[1], ny, gen)
    low, high = torch.full((ny,), -9.0), torch.full((ny,), 0.5)
    for v in p.values():
        v.requires_grad_(True)
    opt = torch.optim.Adam(
        [
            {"params": [p[k] for k in WEIGHTS if k[0] == "w"], "weight_decay": 0.0},
            {"params": [p[k] for k in WEIGHTS if k[0] == "b"]},
        ],
        lr=cfg.learning_rate,
    )
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, cfg.steps, eta_min=cfg.learning_rate * 0.02)
    n = len(F)
    b = min(cfg.batch_size, n)
    for s in range(cfg.steps):
        idx = torch.randint(n, (cfg.members, b), generator=gen) if n > b else torch.arange(n).expand(cfg.members, n)
        loss = nll(network(p, F[idx]), Y[idx], low, high, cfg.beta).mean((1, 2)).sum()
        loss = loss + cfg.weight_decay * sum((p[k] ** 2).sum() for k in WEIGHTS if k[0] == "w")
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    arrays = {k: v.detach().numpy().copy() for k, v in p.items()}
    c = lambda a: np.ascontiguousarray(a, np.float32)
    arrays |= {
        "feature_mean": c(fm),
        "feature_std": c(fs),
        "target_mean": c(ym),
        "target_std": c(ys),
        "log_var_low": c(low),
        "log_var_high": c(high),
    }
    return ProbabilisticEnsemble(layout, arrays)
