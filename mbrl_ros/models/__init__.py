"""Models of dynamics by name.

The classes are given by address and imported on demand, because every node imports the state layout from this
package, and the command guard must not load compilers for it.
"""

from importlib import import_module

from mbrl_ros.errors import lookup

MODELS = {"probabilistic_ensemble": "mbrl_ros.models.probabilistic_ensemble:ProbabilisticEnsemble"}


def model_class(name: str) -> type:
    """Class of the models called `name`; UnknownNameError lists the known names.

    A model can be written to bytes and read back (see `serialization`) when its class has

    - ``cls(layout, arrays)`` and the attributes `layout` (StateLayout) and `arrays` (by name), which are all of it,
    - `name`, its key in MODELS,
    - `array_shapes`: array name -> names of its dimensions, blank separated. ``features``, ``outputs`` (2 ny),
      ``learned`` (ny) are known from the layout; any other name is one size throughout; ``*`` after it allows zero,
    - `array_type`: dtype of all arrays; `positive_arrays`: names of the arrays whose entries must be above zero.
    """
    module, cls = lookup(MODELS, "model", name).split(":")
    return getattr(import_module(module), cls)
