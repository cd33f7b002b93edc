"""Physics plus a Bayesian network of what the equations leave, see `residual`."""

from dataclasses import dataclass

from mbrl_ros.models.bayesian_network import BayesianNetwork, BayesianNetworkConfig
from mbrl_ros.models.physics import PhysicsConfig
from mbrl_ros.models.residual import ResidualModel, combined_optional, combined_positive, combined_shapes


@dataclass(frozen=True)
class PhysicsResidualBNNConfig(BayesianNetworkConfig, PhysicsConfig):
    """The settings of both; `members` and what else both have is one setting for both."""


@dataclass(frozen=True)
class PhysicsResidualBNN(ResidualModel):
    """Equations and a Bayesian network, see `ResidualModel`."""

    name = "physics_residual_bnn"
    config_class = PhysicsResidualBNNConfig
    rest_class = BayesianNetwork
    array_shapes = combined_shapes(BayesianNetwork)
    optional_shapes = combined_optional(BayesianNetwork)
    array_type = BayesianNetwork.array_type
    positive_arrays = combined_positive(BayesianNetwork)
