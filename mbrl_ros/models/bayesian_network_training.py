"""Fits a BayesianNetwork: mean-field variational inference (`mean_field_training`), then the members' draws."""

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from mbrl_ros.models.bayesian_network import POSTERIOR, BayesianNetwork, BayesianNetworkConfig
from mbrl_ros.models.fitting import centred, checked, normaliser, stream
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.mean_field_training import Likelihood, Posterior, first_weights, made, minimise
from mbrl_ros.models.network_training import (
    LOG_VAR_HIGH,
    LOG_VAR_LOW,
    bounded,
    far_apart,
    negative_log_likelihood,
    one_thread,
    require_finite,
)
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS
from mbrl_ros.types import Transitions


@dataclass(frozen=True)
class BayesianNetworkReport:
    """What a fit did.

    Attributes:
        loss: mean negative log-likelihood of a target entry over all data under draws of the outputs, targets in unit
            variance, constant left out.
        divergence: KL of the posterior from the prior, per target entry.
        steps: gradient steps made.
        seconds: wall time.
        transitions: size of the data.
        warm: whether it began with the last model's posterior.
    """

    loss: float
    divergence: float
    steps: int
    seconds: float
    transitions: int
    warm: bool


def fit(
    data: Transitions,
    layout: StateLayout,
    config: BayesianNetworkConfig,
    seed: int,
    previous: BayesianNetwork | None = None,
) -> tuple[BayesianNetwork, BayesianNetworkReport]:
    """Fit to transitions; same data, previous model and seed give the same bytes.

    Args:
        data: one transition or more.
        layout: meaning of the state entries.
        config: settings.
        seed: of first weights, minibatches and draws, together with the number of transitions; of the members' draws
            alone, so that a member stays the same deviation from the mean.
        previous: start from its posterior, re-expressed for the new normaliser, and take `refit_steps` only. A model of
            another shape, or whose normaliser is far from the new data's, is passed over.

    Raises:
        FitError: no data, non-finite data or a loss that became non-finite.
    """
    begin = time.perf_counter()
    inputs, targets = checked(data, layout)
    scales = normaliser(inputs, targets)
    start = reusable(previous, config, scales)
    steps = config.refit_steps if start else config.steps
    with one_thread():
        generator = torch.Generator().manual_seed(stream(seed, len(data)))
        z = torch.as_tensor((inputs - scales["feature_mean"]) / scales["feature_std"], dtype=torch.float32)
        y = torch.as_tensor((targets - scales["target_mean"]) / scales["target_std"], dtype=torch.float32)
        shapes = shapes_of(config, z.shape[1], y.shape[1])
        posterior = made(shapes, config, start or first_weights(shapes, y.shape[1], config, generator))
        noise = noise_model(posterior, y.shape[1], config)
        minimise(posterior, z, y, noise, config, steps=steps, generator=generator)
        with torch.no_grad():
            loss = noise(posterior.sample(z, generator), y).mean().item()
            divergence = posterior.divergence().item() / y.numel()
    require_finite(loss + divergence)
    arrays = as_arrays(posterior, config, y.shape[1], np.random.default_rng(seed))
    report = BayesianNetworkReport(
        loss, divergence, steps, time.perf_counter() - begin, len(data), warm=start is not None
    )
    return BayesianNetwork(layout, arrays | scales), report


def shapes_of(config: BayesianNetworkConfig, n_in: int, ny: int) -> list[tuple[int, ...]]:
    """Shapes of the layers' weights and biases in turn."""
    sizes = [n_in, *[config.width] * config.layers, 2 * ny]
    return [shape for a, b in pairwise(sizes) for shape in ((a, b), (b,))]


def noise_model(posterior: Posterior, ny: int, config: BayesianNetworkConfig) -> Likelihood:
    """Negative log-likelihood (B,) of targets (B, ny) given outputs (B, 2 ny), means then raw log-variances.

    Where the noise is the same everywhere its raw log-variance is the bias of the last outputs, a number that is
    learned without a posterior.
    """
    low, high = torch.full((ny,), LOG_VAR_LOW), torch.full((ny,), LOG_VAR_HIGH)
    bounds = {"log_var_low": low, "log_var_high": high}

    def likelihood(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        mean, raw = outputs.chunk(2, dim=-1)
        if not config.heteroscedastic:
            raw = posterior.mu[-ny:].expand_as(mean)
        return negative_log_likelihood(y - mean, bounded(raw, bounds), 0.0)

    return likelihood


def as_arrays(
    posterior: Posterior, config: BayesianNetworkConfig, ny: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The posterior and its draws as the model's arrays.

    Draws are centred: each is still one from the posterior, and the mean over members has the mean weights.
    """
    mu, rho = (named([p.numpy() for p in posterior.parts(v.detach())]) for v in (posterior.mu, posterior.rho))
    arrays = {f"mu_{k}": v for k, v in mu.items()} | {f"rho_{k}": v for k, v in rho.items()}
    for k, mean in mu.items():
        arrays[k] = mean + np.exp(rho[k]) * centred(rng.standard_normal((config.members, *mean.shape)))
    if not config.heteroscedastic:
        arrays["w_out"][..., ny:] = 0.0
        arrays["b_out"][..., ny:] = mu["b_out"][ny:]
    arrays |= {"log_var_low": np.full(ny, LOG_VAR_LOW), "log_var_high": np.full(ny, LOG_VAR_HIGH)}
    return {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()}


def named(parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Weights and biases in turn as WEIGHTS, hidden layers stacked."""
    width = len(parts[1])
    hidden = (
        np.reshape(parts[2:-2:2], (-1, width, width)),
        np.reshape(parts[3:-2:2], (-1, width)),
    )
    return dict(zip(WEIGHTS, (*parts[:2], *hidden, *parts[-2:]), strict=True))


def in_turn(arrays: dict[str, np.ndarray], part: str) -> list[np.ndarray]:
    """The reverse of `named`, for the arrays whose names begin with `part`."""
    w_in, b_in, w_hidden, b_hidden, w_out, b_out = (arrays[f"{part}_{k}"] for k in WEIGHTS)
    hidden = [a for pair in zip(w_hidden, b_hidden, strict=True) for a in pair]
    return [w_in, b_in, *hidden, w_out, b_out]


def reusable(
    previous: BayesianNetwork | None, config: BayesianNetworkConfig, scales: dict[str, np.ndarray]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mu and rho of `previous` for new SCALES, or None where it has another shape or its scales are too far away."""
    if previous is None:
        return None
    shapes = shapes_of(config, len(scales["feature_mean"]), len(scales["target_mean"]))
    if [a.shape for a in in_turn(previous.arrays, "mu")] != shapes or far_apart(previous.arrays, scales):
        return None
    arrays = rescaled(previous.arrays, scales)
    flat = (np.concatenate([a.ravel() for a in in_turn(arrays, part)]) for part in ("mu", "rho"))
    mu, rho = (torch.as_tensor(v, dtype=torch.float32) for v in flat)
    return mu, rho


def rescaled(arrays: dict[str, np.ndarray], scales: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Posterior of the same functions with other SCALES, as `ensemble_training.rescaled`.

    Exact for the mean weights and all variances; that first biases and weights would now hang together is left out.
    """
    old = {k: arrays[k].astype(np.float64) for k in (*POSTERIOR, *scales)}
    r = scales["feature_std"] / old["feature_std"]
    d = (scales["feature_mean"] - old["feature_mean"]) / old["feature_std"]
    q = old["target_std"] / scales["target_std"]
    gain = np.concatenate([q, np.ones_like(q)])
    offset = np.concatenate([(old["target_mean"] - scales["target_mean"]) / scales["target_std"], 2.0 * np.log(q)])
    variance = np.exp(2.0 * old["rho_b_in"]) + d**2 @ np.exp(2.0 * old["rho_w_in"])
    return old | {
        "mu_w_in": old["mu_w_in"] * r[:, None],
        "rho_w_in": old["rho_w_in"] + np.log(r)[:, None],
        "mu_b_in": old["mu_b_in"] + d @ old["mu_w_in"],
        "rho_b_in": 0.5 * np.log(variance),
        "mu_w_out": old["mu_w_out"] * gain,
        "rho_w_out": old["rho_w_out"] + np.log(gain),
        "mu_b_out": old["mu_b_out"] * gain + offset,
        "rho_b_out": old["rho_b_out"] + np.log(gain),
    }
