"""The run folder: the names of its files and the arrays of a trial (see docs/architecture.md)."""

import contextlib
import io
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from mbrl_ros.errors import MbrlError

PARAMETERS = "parameters.yaml"
TRANSITIONS = "transitions.sqlite"
SUMMARY = "summary.json"
REPORT = "report.html"
ANIMATION = "animation.gif"
TRIALS = "trials"
MODELS = "models"
PLOTS = "plots"


def create_run_folder(folder: Path) -> Path:
    """Make the folder and its subfolders where they are missing.

    Raises:
        MbrlError: the folder cannot be made; names path and reason.
    """
    try:
        for name in (TRIALS, MODELS, PLOTS):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MbrlError(f"{folder}: cannot make the run folder: {error.strerror}") from None
    return folder


def trial_path(folder: Path, index: int) -> Path:
    """File of the trial `index`, counted from 0."""
    return folder / TRIALS / f"trial_{index:03d}.npz"


def model_path(folder: Path, version: int) -> Path:
    """File of the model `version`, counted from 1."""
    return folder / MODELS / f"model_{version:04d}.safetensors"


def trial_indices(folder: Path) -> list[int]:
    """Indices of the trials in the folder, ascending."""
    return numbered(folder / TRIALS, r"trial_(\d+)\.npz")


def model_versions(folder: Path) -> list[int]:
    """Versions of the models in the folder, ascending."""
    return numbered(folder / MODELS, r"model_(\d+)\.safetensors")


def numbered(folder: Path, pattern: str) -> list[int]:
    """Numbers of the files whose whole name matches `pattern`; none where there is no folder."""
    names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(match[1]) for match in (re.fullmatch(pattern, name) for name in names) if match)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a reader, or a crash, never sees half of it.

    Raises:
        MbrlError: the file cannot be written; names path and reason.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise MbrlError(f"{path}: cannot write: {error.strerror}") from None


@dataclass(frozen=True)
class TrialArrays:
    """One trial, tick by tick; NaN where there is none.

    A last observation that no action followed is kept with ``u`` NaN.

    Attributes:
        stamp: (T,) s, start of the tick.
        x: (T, nx) observation at the start of the tick.
        u: (T, nu) action that was applied during the tick.
        cost: (T,) running cost of the tick.
        planning_time: (T,) s, NaN where nothing was planned.
        model_version: (T,) int, model the controller used, 0 where it used none.
        deadline_missed: (T,) bool.
    """

    stamp: np.ndarray
    x: np.ndarray
    u: np.ndarray
    cost: np.ndarray
    planning_time: np.ndarray
    model_version: np.ndarray
    deadline_missed: np.ndarray

    def __post_init__(self) -> None:
        for field in fields(self):
            shape = getattr(self, field.name).shape
            dimensions = 2 if field.name in ("x", "u") else 1
            if len(shape) != dimensions or shape[0] != len(self.stamp):
                raise MbrlError(f"{field.name}: shape {shape} does not fit {len(self.stamp)} ticks")

    def __len__(self) -> int:
        return len(self.stamp)


def save_trial(folder: Path, index: int, arrays: TrialArrays) -> Path:
    """Write a trial's arrays atomically and return the file's path.

    Raises:
        MbrlError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f.name: getattr(arrays, f.name) for f in fields(arrays)})
    path = trial_path(folder, index)
    write_atomically(path, buffer.getvalue())
    return path


def load_trial(folder: Path, index: int) -> TrialArrays:
    """Read a trial's arrays.

    Raises:
        MbrlError: the file is missing or damaged; names the file and what is wrong with it.
    """
    path = trial_path(folder, index)
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {f.name: file[f.name] for f in fields(TrialArrays)}
        # NaN stands for "no model" in files written from float arrays.
        values["model_version"] = np.nan_to_num(values["model_version"]).astype(int)
        return TrialArrays(**values | {"deadline_missed": values["deadline_missed"] == 1})
    except FileNotFoundError:
        raise MbrlError(f"{path}: no such trial") from None
    except Exception as error:  # damaged bytes make zipfile, zlib and numpy raise more kinds than they document
        raise MbrlError(f"{path}: damaged trial file: {error}") from None
