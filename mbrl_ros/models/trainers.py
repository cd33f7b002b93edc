"""Trainers of the models by name; imports torch, so only the learner imports this."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from mbrl_ros.models import (
    bayesian_network_training,
    ensemble_training,
    gaussian_process_training,
    linear_gaussian_training,
    physics_training,
    residual_training,
)
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.fitting import observation_std
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions


def observing(train: Callable) -> Callable:
    """The trainer, its models also knowing the noise of what is observed but not learned."""

    @wraps(train)
    def fit(data: Transitions, layout: StateLayout, *args: Any, **kwargs: Any) -> tuple[LearnedModel, Any]:
        model, report = train(data, layout, *args, **kwargs)
        return model.with_arrays(observation_std=observation_std(data, layout).astype(model.array_type)), report

    return fit


FITS: dict[str, Callable] = {
    "bayesian_network": bayesian_network_training.fit,
    "gaussian_process": gaussian_process_training.fit,
    "linear_gaussian": linear_gaussian_training.fit,
    "physics": physics_training.fit,
    "physics_residual_bnn": residual_training.fit_bnn,
    "physics_residual_ensemble": residual_training.fit_ensemble,
    "physics_residual_gp": residual_training.fit_gp,
    "physics_residual_linear": residual_training.fit_linear,
    "probabilistic_ensemble": ensemble_training.fit,
}

TRAINERS = {name: observing(fit) for name, fit in FITS.items()}
