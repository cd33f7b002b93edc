"""Fits physics, then another model to what the physics leaves."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mbrl_ros.models import (
    bayesian_network_training,
    ensemble_training,
    gaussian_process_training,
    linear_gaussian_training,
    physics_training,
)
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.physics import Physics, PhysicsConfig
from mbrl_ros.models.physics_residual_bnn import PhysicsResidualBNN
from mbrl_ros.models.physics_residual_ensemble import PhysicsResidualEnsemble
from mbrl_ros.models.physics_residual_gp import PhysicsResidualGP
from mbrl_ros.models.physics_residual_linear import PhysicsResidualLinear
from mbrl_ros.models.residual import of_class
from mbrl_ros.types import Transitions


@dataclass(frozen=True)
class ResidualReport:
    """What a fit did.

    Attributes:
        loss: of the rest, see its own report.
        steps: of both searches.
        seconds: wall time.
        transitions: size of the data.
        warm: whether both began with the last model.
        physics: report of the physics, with the parameters.
        rest: report of the rest.
    """

    loss: float
    steps: int
    seconds: float
    transitions: int
    warm: bool
    physics: physics_training.PhysicsReport
    rest: Any

    def parameter_table(self) -> str:
        """See `PhysicsReport.parameter_table`."""
        return self.physics.parameter_table()


def left_over(data: Transitions, layout: StateLayout, physics: Physics) -> Transitions:
    """The same transitions, each learned entry changed only by what the physics does not explain."""
    error = layout.targets(data.x, data.x_next) - layout.targets(data.x, physics.step(data.x, data.u))
    x_next = data.x_next.astype(float)
    x_next[:, layout.learned] = data.x[:, layout.learned] + error
    return replace(data, x_next=x_next)


def trainer(cls: Any, fit_rest: Callable) -> Callable:
    """A `fit` for a class of `ResidualModel`s from the trainer of its rest."""

    def fit(
        data: Transitions, layout: StateLayout, config: Any, seed: int, previous: Any = None
    ) -> tuple[Any, ResidualReport]:
        """Fit to transitions; same data, previous model and seed give the same bytes.

        Args:
            data: one transition or more.
            layout: meaning of the state entries.
            config: settings.
            seed: of the members and of the rest's training.
            previous: both parts start from its.

        Raises:
            FitError: no data, non-finite data, or one of the two could not be fitted.
        """
        begin = time.perf_counter()
        last_physics, last_rest = (previous.physics, previous.rest) if previous is not None else (None, None)
        physics, first = physics_training.fit(data, layout, of_class(config, PhysicsConfig), seed, last_physics)
        rest_config = of_class(config, cls.rest_class.config_class)
        rest, second = fit_rest(left_over(data, layout, physics), layout, rest_config, seed, last_rest)
        steps, seconds = first.steps + second.steps, time.perf_counter() - begin
        report = ResidualReport(second.loss, steps, seconds, len(data), first.warm, first, second)
        return cls.of(physics, rest), report

    return fit


fit_gp = trainer(PhysicsResidualGP, gaussian_process_training.fit)
fit_ensemble = trainer(PhysicsResidualEnsemble, ensemble_training.fit)
fit_bnn = trainer(PhysicsResidualBNN, bayesian_network_training.fit)
fit_linear = trainer(PhysicsResidualLinear, linear_gaussian_training.fit)
