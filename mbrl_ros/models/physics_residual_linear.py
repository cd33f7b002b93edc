"""Physics plus Bayesian linear regression of what the equations leave, see `residual`."""

from dataclasses import dataclass

from mbrl_ros.models.linear_gaussian import LinearGaussian, LinearGaussianConfig
from mbrl_ros.models.physics import PhysicsConfig
from mbrl_ros.models.residual import ResidualModel, combined_optional, combined_positive, combined_shapes


@dataclass(frozen=True)
class PhysicsResidualLinearConfig(LinearGaussianConfig, PhysicsConfig):
    """The settings of both; `members` and what else both have is one setting for both."""


@dataclass(frozen=True)
class PhysicsResidualLinear(ResidualModel):
    """Equations and Bayesian linear regression, see `ResidualModel`."""

    name = "physics_residual_linear"
    config_class = PhysicsResidualLinearConfig
    rest_class = LinearGaussian
    array_shapes = combined_shapes(LinearGaussian)
    optional_shapes = combined_optional(LinearGaussian)
    array_type = LinearGaussian.array_type
    positive_arrays = combined_positive(LinearGaussian)
