"""Bayesian neural network: a Gaussian over every weight, its members networks drawn from it.

Mean-field variational inference (Blundell et al. 2015, "Weight uncertainty in neural networks"). The posterior is
``w ~ N(mu, exp(rho)^2)``, independent for each weight; members are draws of all weights that stay as they are until the
next fit, so a particle is one possible robot over the whole horizon. A draw is a network like a member of the
probabilistic ensemble, and everything planners ask of it is answered by the same compiled code.
`bayesian_network_training` fits it.
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.models.probabilistic_ensemble import WEIGHTS, ProbabilisticEnsemble

POSTERIOR = tuple(f"{part}_{name}" for part in ("mu", "rho") for name in WEIGHTS)


@dataclass(frozen=True)
class BayesianNetworkConfig:
    """Settings of the Bayesian network and its training."""

    members: int = option(5, "networks drawn from the posterior; 1 is the network of the mean weights", low=1, high=100)
    layers: int = option(2, "hidden layers", low=1, high=10)
    width: int = option(64, "units of each hidden layer", low=1, high=2048)
    prior_std: float = option(
        1.0, "standard deviation of the prior of a bias; of a weight divided by sqrt(inputs)", low=1e-3, high=1e3
    )
    initial_std: float = option(
        0.1, "first standard deviation of the posterior, in those of first weights", low=1e-6, high=1.0
    )
    kl_weight: float = option(
        0.3, "weight of the divergence from the prior; 1 is the evidence bound", low=0.0, high=1e3
    )
    annealing: float = option(0.5, "share of the steps over which that weight rises from zero", low=0.0, high=1.0)
    heteroscedastic: bool = option(False, "the noise depends on state and action, by outputs of the network")
    learning_rate: float = option(2e-2, "first step size of Adam, falling along a cosine", low=1e-7, high=1.0)
    batch_size: int = option(64, "transitions in a minibatch", low=1, high=100_000)
    steps: int = option(1000, "gradient steps of a fit from scratch", low=1, high=1_000_000)
    refit_steps: int = option(400, "gradient steps of a refit that starts from the last model", low=1, high=1_000_000)

    def __post_init__(self) -> None:
        validate(self)

    @property
    def planning(self) -> int:
        """Members that plan."""
        return self.members


@dataclass(frozen=True)
class BayesianNetwork(ProbabilisticEnsemble):
    """A fitted posterior and E networks drawn from it.

    Attributes:
        layout: meaning of the state entries.
        arrays: those of the ensemble, its weights being the draws, and POSTERIOR: mean and logarithm of the standard
            deviation of every weight, as ``mu_w_in`` and ``rho_w_in`` and so on.
    """

    name = "bayesian_network"
    config_class = BayesianNetworkConfig
    array_shapes = MappingProxyType(
        ProbabilisticEnsemble.array_shapes
        | {
            f"{part}_{name}": ProbabilisticEnsemble.array_shapes[name].removeprefix("members ")
            for part in ("mu", "rho")
            for name in WEIGHTS
        }
    )
    optional_shapes = MappingProxyType({})

    def posterior(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the weights called `name`, one of WEIGHTS."""
        return self.arrays[f"mu_{name}"], np.exp(self.arrays[f"rho_{name}"])
