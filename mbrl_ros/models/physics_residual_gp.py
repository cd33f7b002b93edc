"""Physics plus a Gaussian process of what the equations leave, see `residual`."""

from dataclasses import dataclass

from mbrl_ros.models.gaussian_process import GaussianProcess, GaussianProcessConfig
from mbrl_ros.models.physics import PhysicsConfig
from mbrl_ros.models.residual import ResidualModel, combined_optional, combined_positive, combined_shapes


@dataclass(frozen=True)
class PhysicsResidualGPConfig(GaussianProcessConfig, PhysicsConfig):
    """The settings of both; `members` and what else both have is one setting for both."""


@dataclass(frozen=True)
class PhysicsResidualGP(ResidualModel):
    """Equations and a Gaussian process, see `ResidualModel`."""

    name = "physics_residual_gp"
    config_class = PhysicsResidualGPConfig
    rest_class = GaussianProcess
    array_shapes = combined_shapes(GaussianProcess)
    optional_shapes = combined_optional(GaussianProcess)
    array_type = GaussianProcess.array_type
    positive_arrays = combined_positive(GaussianProcess)
