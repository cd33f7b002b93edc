"""Models of dynamics by name."""

from typing import Any

from mbrl_ros.registry import load_class

DEFAULT_MODEL = "gaussian_process"
MODELS = {
    "bayesian_network": "mbrl_ros.models.bayesian_network:BayesianNetwork",
    "gaussian_process": "mbrl_ros.models.gaussian_process:GaussianProcess",
    "linear_gaussian": "mbrl_ros.models.linear_gaussian:LinearGaussian",
    "physics": "mbrl_ros.models.physics:Physics",
    "physics_residual_bnn": "mbrl_ros.models.physics_residual_bnn:PhysicsResidualBNN",
    "physics_residual_ensemble": "mbrl_ros.models.physics_residual_ensemble:PhysicsResidualEnsemble",
    "physics_residual_gp": "mbrl_ros.models.physics_residual_gp:PhysicsResidualGP",
    "physics_residual_linear": "mbrl_ros.models.physics_residual_linear:PhysicsResidualLinear",
    "probabilistic_ensemble": "mbrl_ros.models.probabilistic_ensemble:ProbabilisticEnsemble",
}


def model_class(name: str) -> Any:
    """Class of the models called `name`; UnknownNameError lists the known names.

    A model is a `base.LearnedModel`: it implements `members`, `predict_member` and ``cls.example(layout, config,
    rng)``, a model of the configured size with random weights, to compile and to measure with before there are data.
    It is written to bytes and read back (see `serialization`) by what its class says:

    - `name`, its key in MODELS, and `config_class`,
    - `array_shapes`: array name -> names of its dimensions, blank separated. ``features``, ``outputs`` (2 ny),
      ``learned`` (ny) are known from the layout; any other name is one size throughout; ``*`` after it allows zero,
    - `optional_shapes`: the same of arrays that need not be there,
    - `check`: refuses arrays of the right shapes that still make no model,
    - `array_type`: dtype of all arrays; `positive_arrays`: names of the arrays whose entries must be above zero.
    """
    return load_class(MODELS, "model", name)
