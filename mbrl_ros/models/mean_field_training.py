"""Mean-field variational inference: a Gaussian over every weight, the evidence lower bound, its minimisation.

``ELBO = E_q log p(y | z, w) - KL(q || p)`` with q a Gaussian for every weight on its own, p = N(0, s^2), of a weight
s = prior_std / sqrt(inputs) so that the prior's functions do not depend on the width (Neal 1996). What is sampled are
not weights but each layer's outputs, a row each of its own: less noise in the gradient for the same expectation
(Kingma, Salimans and Welling 2015). The divergence begins at nothing and rises, or it would switch units off before
they have learned anything (Sonderby et al. 2016); its final weight below 1 is a cold posterior (Wenzel et al. 2020).
"""

import math
from collections.abc import Callable

import torch
from torch.nn.functional import silu

from mbrl_ros.models.bayesian_network import BayesianNetworkConfig
from mbrl_ros.models.network_training import LARGEST_GRADIENT, cosine, require_finite

FIRST_LOG_VAR = -3.0  # raw, of targets in unit variance: a guess nearer to robots than 0 saves steps
SMALLEST_VARIANCE = 1e-12  # of a layer's output: the slope of a square root at zero is not finite
Likelihood = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Posterior:
    """A Gaussian over every weight of a network of fully connected layers, as two flat vectors.

    Attributes:
        mu: means.
        rho: logarithms of the standard deviations.
        prior: standard deviations of the prior, each mean zero.
    """

    def __init__(self, shapes: list[tuple[int, ...]], mu: torch.Tensor, rho: torch.Tensor, prior: torch.Tensor) -> None:
        """Take weights (inputs, outputs) and biases (outputs,) in turn; one flat vector is far quicker than many."""
        self._shapes, self._lengths = shapes, [math.prod(s) for s in shapes]
        self.mu, self.rho, self.prior = mu.requires_grad_(True), rho.requires_grad_(True), prior

    def parts(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector as the layers' weights and biases in turn."""
        return [t.view(s) for t, s in zip(flat.split(self._lengths), self._shapes, strict=True)]

    def sample(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Outputs (B, n_out) of rows x (B, n_in), every row under a draw of its own (local reparameterisation).

        A layer's outputs are Gaussian given its inputs h: mean ``h mu + mu_b``, variance ``h^2 s^2 + s_b^2``.
        """
        means, variances = self.parts(self.mu), self.parts(torch.exp(2.0 * self.rho))
        h = x
        for i in range(0, len(means), 2):
            h = silu(h) if i else h
            mean = torch.addmm(means[i + 1], h, means[i])
            variance = torch.addmm(variances[i + 1], h * h, variances[i])
            draws = torch.randn(mean.shape, generator=generator)
            h = torch.addcmul(mean, torch.sqrt(variance + SMALLEST_VARIANCE), draws)
        return h

    def divergence(self) -> torch.Tensor:
        """KL from the prior: ``sum log(s / sigma) + (sigma^2 + mu^2) / (2 s^2) - 1/2``."""
        spread = (torch.exp(2.0 * self.rho) + self.mu**2) / (2.0 * self.prior**2)
        return (torch.log(self.prior) - self.rho + spread - 0.5).sum()

    @torch.no_grad()
    def add_divergence_gradient(self, weight: float) -> None:
        """Add that of ``weight * divergence``, ``mu / s^2`` and ``sigma^2 / s^2 - 1``: far quicker than by autograd."""
        assert self.mu.grad is not None and self.rho.grad is not None  # backward comes first
        precision = self.prior**-2
        self.mu.grad.addcmul_(self.mu, precision, value=weight)
        self.rho.grad.addcmul_(torch.exp(2.0 * self.rho), precision, value=weight).sub_(weight)


def fan_in(shapes: list[tuple[int, ...]]) -> torch.Tensor:
    """Inputs of the layer that each entry of a flat vector belongs to."""
    inputs = [shapes[i - i % 2][0] for i in range(len(shapes))]
    return torch.cat([torch.full((math.prod(s),), float(n)) for s, n in zip(shapes, inputs, strict=True)])


def is_weight(shapes: list[tuple[int, ...]]) -> torch.Tensor:
    """Whether each entry of a flat vector is a weight, not a bias."""
    return torch.cat([torch.full((math.prod(s),), len(s) == 2) for s in shapes])


def first_weights(
    shapes: list[tuple[int, ...]], ny: int, config: BayesianNetworkConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mu of variance 1 / fan_in, zero for biases but the last ny, the noise's, and a rho that is small beside it."""
    scale = fan_in(shapes) ** -0.5
    mu = torch.where(is_weight(shapes), scale * torch.randn(scale.shape, generator=generator), 0.0)
    mu[len(mu) - ny :] = FIRST_LOG_VAR
    return mu, torch.log(config.initial_std * scale)


def made(
    shapes: list[tuple[int, ...]], config: BayesianNetworkConfig, start: tuple[torch.Tensor, torch.Tensor]
) -> Posterior:
    """A posterior with the configured prior."""
    prior = config.prior_std * torch.where(is_weight(shapes), fan_in(shapes) ** -0.5, 1.0)
    return Posterior(shapes, *start, prior)


def minimise(
    posterior: Posterior,
    z: torch.Tensor,
    y: torch.Tensor,
    noise: Likelihood,
    config: BayesianNetworkConfig,
    *,
    steps: int,
    generator: torch.Generator,
) -> None:
    """Minimise ``E[-log p] + weight KL / (n ny)`` in place: z (n, n_in), y (n, ny)."""
    parameters = [posterior.mu, posterior.rho]
    adam = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    rising = max(1.0, config.annealing * steps)
    for step in range(steps):
        adam.param_groups[0]["lr"] = config.learning_rate * cosine(step, steps)
        rows = torch.randint(len(z), (config.batch_size,), generator=generator)
        weight = config.kl_weight * min(1.0, (step + 1) / rising)
        loss = noise(posterior.sample(z[rows], generator), y[rows]).mean()
        require_finite(loss.item())
        adam.zero_grad()
        loss.backward()
        posterior.add_divergence_gradient(weight / y.numel())
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        adam.step()
