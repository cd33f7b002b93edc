"""The errors of mbrl_ros. A user's mistake always ends in one of these, never in a traceback.

Messages name the field, the value and what is allowed.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class MbrlError(Exception):
    """Base of every error that a user can cause; the command line prints it and exits with 2."""


class ConfigError(MbrlError):
    """A configuration value that is unknown, of the wrong type or out of range."""


class UnknownNameError(ConfigError):
    """A name that is not in a registry. The message lists the names that are."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} '{name}'; choose one of: {', '.join(sorted(known))}")


class MissingDependencyError(MbrlError):
    """A package that an optional feature needs is not installed; the message says what to install."""


class ModelRejectedError(MbrlError):
    """Model bytes that are damaged, of another robot or of an unknown format."""


class MessageError(MbrlError):
    """A message that cannot be used: of the wrong form, or with values that no node of ours sends."""


class StoreError(MbrlError):
    """The transition store cannot be opened, read or written."""


def lookup(registry: Mapping[str, T], kind: str, name: str) -> T:
    """Return ``registry[name]`` or raise UnknownNameError that lists the known names."""
    if name not in registry:
        raise UnknownNameError(kind, name, registry)
    return registry[name]
