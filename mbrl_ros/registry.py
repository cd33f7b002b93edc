"""Registries: visible dicts from a name to the address of a class, which is imported when it is asked for.

By address, because every node reads the registries to check its parameters, and the command guard must not
load compilers for planners it never runs.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mbrl_ros.errors import lookup


def load_class(registry: Mapping[str, str], kind: str, name: str) -> Any:
    """The class called `name`; UnknownNameError lists the known names.

    Args:
        registry: name -> ``module:class``.
        kind: what the registry holds, for the message.
        name: which one.
    """
    module, attribute = lookup(registry, kind, name).split(":")
    return getattr(import_module(module), attribute)
