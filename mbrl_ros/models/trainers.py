"""Trainers of the models by name; imports torch, so only the learner imports this."""

from collections.abc import Callable

from mbrl_ros.models import (
    ensemble_training,
    gaussian_process_training,
    linear_gaussian_training,
    physics_training,
    residual_training,
)

TRAINERS: dict[str, Callable] = {
    "gaussian_process": gaussian_process_training.fit,
    "linear_gaussian": linear_gaussian_training.fit,
    "physics": physics_training.fit,
    "physics_residual_ensemble": residual_training.fit_ensemble,
    "physics_residual_gp": residual_training.fit_gp,
    "probabilistic_ensemble": ensemble_training.fit,
}
