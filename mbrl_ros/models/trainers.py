"""Trainers of the models by name; imports torch, so only the learner imports this."""

from mbrl_ros.models import ensemble_training

TRAINERS = {"probabilistic_ensemble": ensemble_training.fit}
