"""Saving what was learned, and setting it aside: folders below the run folder, whole or not there at all.

saved/001/model.safetensors, model.sqlite    a model and the transitions it learned from, as `read_start` reads them
start/001/model.safetensors, model.sqlite    the same of the model that the run was started from; the newest counts
set_aside/001/transitions.sqlite, fits.csv   the run's store, from before a reset, and the models made of it
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mbrl_ros.control.start_model import Start, data_path
from mbrl_ros.data.store_format import Row
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.run_folder import FITS, TRANSITIONS, numbered, write_atomically
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.types import Transitions

SAVED, STARTS, SET_ASIDE = "saved", "start", "set_aside"
MODEL = "model.safetensors"


def save_snapshot(
    folder: Path, model: bytes, data: Transitions | None, robot: RobotDescription, kind: str = SAVED
) -> Path:
    """Write a model and what it learned from, if that is known, into a folder below `folder` / `kind`.

    It is on the disk when this returns the path of the model's file.

    Raises:
        MbrlError: it cannot be written; nothing is left of it then.
    """
    with explained(folder / kind) as parent:
        target = parent / f"{next_number(parent):03d}"
        with tempfile.TemporaryDirectory(dir=parent, prefix=".", ignore_cleanup_errors=True) as name:
            new = Path(name)
            write_atomically(new / MODEL, model)
            if data is not None:
                with TransitionStore(data_path(new / MODEL), robot.name, robot.layout) as store:
                    store.append_all(as_rows(data, round(1e9 * robot.dt)))
            to_disk(new)
            new.rename(target)
        to_disk(parent)
    return target / MODEL


def newest_start(folder: Path) -> Path | None:
    """File of the model that the run in this folder was last started from or has loaded; None without."""
    numbers = numbered(folder / STARTS, r"(\d+)")
    return folder / STARTS / f"{numbers[-1]:03d}" / MODEL if numbers else None


def keep_start(folder: Path, path: Path, start: Start, robot: RobotDescription) -> None:
    """Keep a copy of the model's file and of its transitions: when the run is resumed, it starts from them again.

    Raises:
        MbrlError: it cannot be written.
    """
    content, kept = path.read_bytes(), newest_start(folder)
    if kept is None or kept.read_bytes() != content or data_path(kept).exists() != (start.data is not None):
        save_snapshot(folder, content, start.data, robot, STARTS)


def set_aside(folder: Path) -> Path:
    """Move the run's store, which must be closed, out of the way, and return the folder it is in. Nothing is deleted.

    The notes of its fits are copied: the models and the trials that they tell of stay in the run folder, too.

    Raises:
        MbrlError: it cannot be moved.
    """
    with explained(folder / SET_ASIDE) as parent:
        target = parent / f"{next_number(parent):03d}"
        target.mkdir()
        if (fits := folder / FITS).exists():
            shutil.copy2(fits, target / FITS)
        for path in sorted(folder.glob(f"{TRANSITIONS}*"), reverse=True):  # what SQLite has beside it goes first
            path.replace(target / path.name)
        for changed in (target, parent, folder):
            to_disk(changed)
    return target


def next_number(parent: Path) -> int:
    """The first number that no folder has."""
    return max(numbered(parent, r"(\d+)"), default=0) + 1


@contextmanager
def explained(parent: Path) -> Iterator[Path]:
    """Make the folder where it is missing; what cannot be written is said.

    Raises:
        MbrlError: names the folder and the reason.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        yield parent
    except OSError as error:
        raise MbrlError(f"{parent}: cannot write: {error.strerror}") from None


def to_disk(folder: Path) -> None:
    """Have the entries of a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_rows(data: Transitions, dt_ns: int) -> list[Row]:
    """Transitions as rows of a store: stamps count from 0, with a gap between two trajectories."""
    _, trajectory = np.unique(data.trajectory, return_inverse=True)
    gaps = np.concatenate([[0], np.cumsum(np.diff(data.trajectory) != 0)])
    return [
        Row(int(k + 2 * gap) * dt_ns, int(t), int(t), x, u, x_next, "ok")
        for k, (gap, t, x, u, x_next) in enumerate(zip(gaps, trajectory, data.x, data.u, data.x_next, strict=True))
    ]
