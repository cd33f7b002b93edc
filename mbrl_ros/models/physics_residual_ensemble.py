"""Physics plus a probabilistic ensemble of what the equations leave, see `residual`."""

from dataclasses import dataclass

from mbrl_ros.errors import ConfigError
from mbrl_ros.models.physics import PhysicsConfig
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.residual import ResidualModel, combined_optional, combined_positive, combined_shapes


@dataclass(frozen=True)
class PhysicsResidualEnsembleConfig(EnsembleConfig, PhysicsConfig):
    """The settings of both; `members` and what else both have is one setting for both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_horizon != 1:  # rolled out, the rest alone is no motion
            raise ConfigError(f"loss_horizon: {self.loss_horizon} is not allowed; expected 1 with physics")


@dataclass(frozen=True)
class PhysicsResidualEnsemble(ResidualModel):
    """Equations and a probabilistic ensemble, see `ResidualModel`."""

    name = "physics_residual_ensemble"
    config_class = PhysicsResidualEnsembleConfig
    rest_class = ProbabilisticEnsemble
    array_shapes = combined_shapes(ProbabilisticEnsemble)
    optional_shapes = combined_optional(ProbabilisticEnsemble)
    array_type = ProbabilisticEnsemble.array_type
    positive_arrays = combined_positive(ProbabilisticEnsemble)
