"""A model that was fitted before, for a run to start from, and the transitions it was fitted to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.data.store_format import read_robot_rows
from mbrl_ros.data.transition_store import to_transitions
from mbrl_ros.errors import ConfigError, ModelRejectedError
from mbrl_ros.models.serialization import ModelHeader, from_bytes
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.types import Transitions

DATA_SUFFIX = ".sqlite"  # of the store beside a model, in place of the model's own suffix


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
        model: the model.
        header: what its file says of it.
        data: what it was fitted to, None where that was not kept. A refit without it would forget it: on the cart-pole,
            the first ten transitions of a run cost a model of two trials all its use.
    """

    model: Any
    header: ModelHeader
    data: Transitions | None

    def holds(self, transitions: int) -> bool:
        """Whether the model stays as it is for now: without its data, until a run has as many `transitions`."""
        return self.data is None and transitions < self.header.data_size

    def with_new(self, new: Transitions) -> Transitions:
        """What it was fitted to, then the transitions of the run."""
        if self.data is None:
            return new
        before = self.data.trajectory - self.data.trajectory.max() - 1  # below 0, the run's own count from 0
        parts = ((self.data.x, new.x), (self.data.u, new.u), (self.data.x_next, new.x_next), (before, new.trajectory))
        return Transitions(*(np.concatenate(part) for part in parts))

    def size(self) -> int:
        """Number of transitions that are kept of it."""
        return 0 if self.data is None else len(self.data)


def data_path(path: Path) -> Path:
    """File of the transitions beside the model file `path`."""
    return path.with_suffix(DATA_SUFFIX)


def read_start(path: Path, robot: RobotDescription, kind: str) -> Start:
    """Read a model file, as ``mbrl_ros fit`` and every run write them, and the store beside it, if there is one.

    Args:
        path: the model's file.
        robot: whose model it must be.
        kind: key of MODELS that it must have, since the run refits that kind.

    Raises:
        ConfigError: the file cannot be read, or is a model of another kind.
        ModelRejectedError: it is damaged, or a model of another robot or layout; the message says which.
        StoreError: the same of the store beside it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"start_model: {path} cannot be read: {error.strerror}") from None
    try:
        model, header = from_bytes(content, robot.name, robot.layout)
    except ModelRejectedError as error:
        raise ModelRejectedError(f"start_model: {path}: {error}") from None
    if header.kind != kind:
        raise ConfigError(
            f"start_model: {path} is a {header.kind}, but the run learns a {kind}; give it --model {header.kind}"
        )
    beside = data_path(path)
    rows = read_robot_rows(beside, robot.name, robot.layout) if beside.exists() else []
    return Start(model, header, to_transitions(rows, robot.layout) if rows else None)
