"""Trainers of the models by name; imports torch, so only the learner imports this."""

from collections.abc import Callable

from mbrl_ros.models import ensemble_training, gaussian_process_training, linear_gaussian_training

TRAINERS: dict[str, Callable] = {
    "gaussian_process": gaussian_process_training.fit,
    "linear_gaussian": linear_gaussian_training.fit,
    "probabilistic_ensemble": ensemble_training.fit,
}
