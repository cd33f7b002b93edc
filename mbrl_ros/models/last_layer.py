"""Adaptation of a model's last layer at every tick: recursive Bayesian linear regression.

The features of a fitted model stay, the weights of its last layer follow the newest transitions: ``y = f(z) + phi(z) W
+ e`` with ``W ~ N(0, prior_std^2)`` around what the fit has found and e the model's own aleatoric noise. With memory of
one time constant the old evidence fades and the weights return to the fit (stabilised forgetting, Kulhavy and Zarrop
1993): the information matrix stays between the prior's and a bounded one, whatever the robot does.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.models.base import LearnedModel

LARGEST_SURPRISE = 10.0  # standard deviations an error counts as at most: a collision must not bend the model


@dataclass(frozen=True)
class AdaptationConfig:
    """Settings of the adaptation."""

    memory: float = option(
        0.0, "time constant after which a transition counts for little; 0 is no adaptation", unit="s", low=0.0, high=1e6
    )
    prior_std: float = option(
        0.1, "how far a weight may be off the fit, in standard deviations of the target", low=1e-6, high=100.0
    )

    def __post_init__(self) -> None:
        validate(self)


class LastLayer:
    """The weights of one model's last layer, in information form.

    Attributes:
        fitted: the model as it was fitted.
    """

    def __init__(self, fitted: LearnedModel, config: AdaptationConfig, dt: float) -> None:
        """Begin with the fit.

        Args:
            fitted: a model that is `adaptable`.
            config: settings; `memory` above 0.
            dt: control period in s.
        """
        self.fitted = fitted
        self._keep = float(np.exp(-dt / config.memory))
        self._prior = config.prior_std**-2
        self._information: np.ndarray | None = None  # (E', ny, F, F) beyond the prior's
        self._evidence: np.ndarray | None = None  # (E', ny, F)

    def update(self, x: np.ndarray, u: np.ndarray, x_next: np.ndarray) -> None:
        """Take in one transition: x (nx,), u (nu,), x_next (nx,). One that is not finite is passed over."""
        if not np.isfinite(np.concatenate([x, u, x_next])).all():
            return
        phi = self.fitted.basis(x[None], u[None])[:, 0]  # (E', F)
        error, noise = self._error(x, u, x_next, len(phi))
        weight = 1.0 / noise**2  # (ny,)
        gained = np.einsum("k,ef,eg->ekfg", weight, phi, phi)
        evidence = np.einsum("k,ek,ef->ekf", weight, error, phi)
        if self._information is None or self._evidence is None:
            self._information, self._evidence = np.zeros_like(gained), np.zeros_like(evidence)
        self._information = self._keep * self._information + gained
        self._evidence = self._keep * self._evidence + evidence

    def _error(self, x: np.ndarray, u: np.ndarray, x_next: np.ndarray, networks: int) -> tuple[np.ndarray, np.ndarray]:
        """Errors of the fit's means (E', ny) and its noise (ny,), in standard deviations of the target."""
        scale = self.fitted.output_scale
        target = self.fitted.layout.targets(x, x_next)
        means, stds = self.fitted.predict(x[None], u[None])
        noise = np.sqrt((stds[:, 0] ** 2).mean(axis=0)) / scale
        means = means[:, 0] if networks == len(means) else np.repeat(means[:, 0].mean(axis=0)[None], networks, axis=0)
        error = (target - means) / scale
        return np.clip(error, -LARGEST_SURPRISE, LARGEST_SURPRISE), np.maximum(noise, 1e-4)

    def weights(self) -> np.ndarray:
        """Posterior mean of the change of the weights: (E', F, ny)."""
        if self._information is None or self._evidence is None:
            shape = self.fitted.basis(np.zeros((1, self.fitted.nx)), np.zeros((1, self.fitted.nu))).shape
            return np.zeros((shape[0], shape[2], len(self.fitted.layout.learned)))
        prior = self._prior * np.eye(self._information.shape[-1])
        found = np.empty_like(self._evidence)
        for e, k in np.ndindex(found.shape[:2]):
            found[e, k] = np.linalg.solve(self._information[e, k] + prior, self._evidence[e, k])
        return found.swapaxes(1, 2)

    def adapted(self) -> LearnedModel:
        """The model with the weights as they are believed now."""
        return self.fitted if self._information is None else self.fitted.with_output_change(self.weights())
