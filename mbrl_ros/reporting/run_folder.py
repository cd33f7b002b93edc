"""The run folder: the names of its files and the arrays of a trial (see docs/architecture.md)."""

import contextlib
import csv
import io
import os
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
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
FITS = "fits.csv"
FIT_COLUMNS = ("version", "published", "transitions", "fit_seconds")
DIMENSIONS = {"x": 2, "u": 2, "plan_x": 3, "plan_u": 3}  # of the arrays of a trial; all others have one


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
        cut_short: (T,) bool, whether the deadline ended the planning before it was complete.
        flag: (T,) str, what the guard said of the command of the tick, '' where it said nothing.
        spread: (T,) see `Tick.spread`.
        entropy: (T,) nats, of the first period of the plan, as the other three.
        disagreement: (T,) from 0 to 1, the epistemic share of the variance.
        aleatoric_std: (T,) noise of the learned entries, root mean square.
        epistemic_std: (T,) doubt of the learned entries, root mean square.
        plan_x: (T, H + 1, nx) states of the plan whose first action acts at the tick.
        plan_u: (T, H, nu) its actions.

    Those from `cut_short` on are None where the run was recorded before they were.
    """

    stamp: np.ndarray
    x: np.ndarray
    u: np.ndarray
    cost: np.ndarray
    planning_time: np.ndarray
    model_version: np.ndarray
    deadline_missed: np.ndarray
    cut_short: np.ndarray | None = None
    flag: np.ndarray | None = None
    spread: np.ndarray | None = None
    entropy: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    aleatoric_std: np.ndarray | None = None
    epistemic_std: np.ndarray | None = None
    plan_x: np.ndarray | None = None
    plan_u: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, array in self.present().items():
            if array.ndim != DIMENSIONS.get(name, 1) or len(array) != len(self.stamp):
                raise MbrlError(f"{name}: shape {array.shape} does not fit {len(self.stamp)} ticks")

    def present(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in values.items() if array is not None}

    def __len__(self) -> int:
        return len(self.stamp)


def save_trial(folder: Path, index: int, arrays: TrialArrays) -> Path:
    """Write a trial's arrays atomically and return the file's path.

    Raises:
        MbrlError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays.present())
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
            needed = {f.name: f.default is not None for f in fields(TrialArrays)}
            values = {name: file[name] for name, is_needed in needed.items() if is_needed or name in file}
        # NaN stands for "no model" in files written from float arrays.
        values["model_version"] = np.nan_to_num(values["model_version"]).astype(int)
        return TrialArrays(**values | {"deadline_missed": values["deadline_missed"] == 1})
    except FileNotFoundError:
        raise MbrlError(f"{path}: no such trial") from None
    except Exception as error:  # damaged bytes make zipfile, zlib and numpy raise more kinds than they document
        raise MbrlError(f"{path}: damaged trial file: {error}") from None


@dataclass(frozen=True)
class Fit:
    """A published model.

    Attributes:
        version: counted from 1.
        published: ISO 8601.
        transitions: number of those it was fitted to.
        fit_seconds: time of the fit in s.
    """

    version: int
    published: str
    transitions: int
    fit_seconds: float


def note_fit(folder: Path, version: int, transitions: int, seconds: float) -> None:
    """Append a published model to ``fits.csv``.

    Raises:
        MbrlError: the file cannot be written.
    """
    path = folder / FITS
    row = (version, datetime.now(UTC).isoformat(timespec="milliseconds"), transitions, f"{seconds:.4f}")
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*([] if file.tell() else [FIT_COLUMNS]), row])
    except OSError as error:
        raise MbrlError(f"{path}: cannot write: {error.strerror}") from None


def read_fits(folder: Path) -> list[Fit]:
    """The published models in order; none of a run that was recorded before they were noted.

    Raises:
        MbrlError: the file is damaged; names the file and the line.
    """
    path = folder / FITS
    if not path.exists():
        return []
    fits = []
    for number, row in enumerate(csv.reader(path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]), 2):
        try:
            version, published, transitions, seconds = row
            fits.append(Fit(int(version), published, int(transitions), float(seconds)))
        except ValueError:
            raise MbrlError(f"{path}: line {number} is damaged: {','.join(row)[:80]!r}") from None
    return fits
