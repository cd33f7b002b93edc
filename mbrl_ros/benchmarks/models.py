"""``mbrl_ros bench models``: time to fit, error and honesty of every model, by size of the data, beside mbrl-lib.

The data are whole trajectories of the benchmark cart-pole with the robot's sensor noise (`cartpole_motion.py`); those
that are predicted come from other seeds. Our models, and the peer, are fitted in processes of their own with one
thread, to the same transitions, and answer the same questions (`prediction_scores.py`). A row is one model, size and
seed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.benchmarks.cartpole_motion import record
from mbrl_ros.benchmarks.peers import environment
from mbrl_ros.benchmarks.prediction_scores import marks, questions
from mbrl_ros.benchmarks.timing import Worker, WorkerError
from mbrl_ros.errors import MissingDependencyError, lookup
from mbrl_ros.models import MODELS
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

SIZES = (60, 120, 300, 1000, 5000)  # transitions: 3 s, 6 s, 15 s, 50 s, 250 s of motion
NEW = 10  # transitions that a refit takes in: half a second
HORIZONS = (1, 25)  # periods
HELD_OUT = 720  # transitions: 12 trials where none ends early
CALIBRATION = 180  # transitions, 3 trials: as many as the learner calibrates by
STRIDE = 3  # of the starts that are asked for: neighbours tell the same
PARTICLES = 200
PATIENCE = 1800.0  # s, the longest wait for one fit
PEERS = Path(__file__).resolve().parent / "peers"
MBRL_LIB = replace(environment.GROUPS["torch"], script="mbrl_lib_models.py")  # shares the planners' peers' packages
VARIANTS = ("mbrl-lib defaults", "mbrl-lib long")
FIGURES = ("fit_s", "refit_s", "rmse_1", "rmse_25", "coverage_1", "coverage_25")


@dataclass(frozen=True)
class Case:
    """Data of one size and seed.

    Attributes:
        seed: of the data and of the training.
        n: transitions of the first fit.
        data: n + NEW transitions; a refit takes in all of them.
        held_out: transitions of other trials.
        calibration: transitions of yet other trials, by which our models are calibrated once their raw coverage
            (``coverage_h_raw``) is known; the peer has no such step.
    """

    seed: int
    n: int
    data: Transitions
    held_out: Transitions
    calibration: Transitions

    @classmethod
    def draw(cls, seed: int, n: int) -> "Case":
        """The case of a seed and a size; the data of a size begin with those of a smaller one."""
        robot = load_robot("cartpole")
        seen, unseen, third = (np.random.default_rng([seed, k]) for k in range(3))
        data, held_out = record(robot, n + NEW, seen), record(robot, HELD_OUT, unseen)
        return cls(seed, n, data, held_out, record(robot, CALIBRATION, third))


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Measure the chosen models, sizes and seeds, print a row each and write the rows as JSON where asked."""
    names = arguments.models or sorted(MODELS)
    for name in names:
        lookup(MODELS, "model", name)
    print(header(), flush=True)
    rows = []
    for row in measure(names, arguments.sizes or SIZES, range(arguments.seeds), arguments.with_peers):
        rows.append(row)
        print(line(row), flush=True)
        if arguments.json is not None:  # a long study that is stopped keeps what it has
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def measure(
    names: Sequence[str], sizes: Sequence[int], seeds: Sequence[int], with_peers: bool
) -> Iterator[dict[str, Any]]:
    """Rows, one after the other."""
    with ExitStack() as stack:
        ours = start(stack, sys.executable, "our_models.py")
        theirs, missing = start_peer(stack) if with_peers else (None, None)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mbrl_ros_bench_")))
        for n in sizes:
            for seed in seeds:
                case = Case.draw(seed, n)
                peers = [] if theirs is None else [judge(theirs, variant, case, folder) for variant in VARIANTS]
                for name in names:
                    yield make_row(case, judge(ours, name, case, folder), peers, missing)


def start(stack: ExitStack, python: str | Path, script: str) -> Worker:
    """A worker with one thread, which ends with the stack."""
    worker = Worker(python, PEERS / script, threads=1)
    stack.callback(worker.close)
    return worker


def start_peer(stack: ExitStack) -> tuple[Worker | None, str | None]:
    """The peer's worker, or the reason why there is none."""
    try:
        return start(stack, environment.ensure(MBRL_LIB), MBRL_LIB.script), None
    except MissingDependencyError as error:
        print(f"without mbrl-lib: {error}", file=sys.stderr, flush=True)
        return None, str(error)


def judge(worker: Worker, name: str, case: Case, folder: Path) -> dict[str, Any]:
    """Fit, answer, refit: the figures of one model; what went wrong, where it did, under ``error``."""
    figures: dict[str, Any] = {"model": name} | dict.fromkeys(FIGURES)
    files = {key: str(folder / f"{key}.npz") for key in ("data", "questions", "answers", "calibration")}
    save(files["calibration"], vars(case.calibration))
    save(files["questions"], questions(case.held_out, HORIZONS, STRIDE))
    ask = {"op": "build", "key": "model", "threads": 1, "model": name, "seed": case.seed, **files}
    try:
        save(files["data"], vars(case.data[: case.n]))
        figures |= seconds("fit", worker.ask(ask | {"contestant": "fit", "previous": False}, PATIENCE))
        predict = ask | {"contestant": "predict", "horizons": HORIZONS, "particles": PARTICLES}
        worker.ask(predict | {"calibrate": False}, PATIENCE)
        figures |= answered(case, files)
        if name in MODELS:
            raw = {f"coverage_{h}_raw": figures[f"coverage_{h}"] for h in HORIZONS}
            worker.ask(predict | {"calibrate": True}, PATIENCE)
            figures |= answered(case, files) | raw
        save(files["data"], vars(case.data))
        figures |= seconds("refit", worker.ask(ask | {"contestant": "fit", "previous": True}, PATIENCE))
    except WorkerError as error:
        figures["error"] = str(error)
    return figures


def answered(case: Case, files: Mapping[str, str]) -> dict[str, Any]:
    """Marks of the answers that a worker has written."""
    with np.load(files["answers"]) as answers:
        return dict(marks(case.held_out, answers, HORIZONS, STRIDE))


def save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name for a worker."""
    np.savez(path, allow_pickle=False, **arrays)


def seconds(what: str, reply: Mapping[str, Any]) -> dict[str, float]:
    """Wall time, and processor time, of a fit."""
    return {f"{what}_s": 1e-3 * reply["first_ms"], f"{what}_cpu_s": reply["info"]["cpu_s"]}


def make_row(case: Case, ours: dict[str, Any], peers: Sequence[dict[str, Any]], missing: str | None) -> dict[str, Any]:
    """The JSON row of one model: its figures, and those of the peer's variant that errs least 25 periods ahead."""
    fit = [p for p in peers if p["rmse_25"] is not None and np.isfinite(p["rmse_25"])]
    best = min(fit, key=lambda p: p["rmse_25"], default=None)
    row = {"model": ours["model"], "n": case.n, "seed": case.seed} | ours
    row |= {"peer": best["model"] if best else None}
    row |= {f"peer_{figure}": best[figure] if best else None for figure in FIGURES}
    return row | {"peers": list(peers)} | ({"peer_missing": missing} if missing else {})


COLUMNS = (
    "model",
    "n",
    "seed",
    "fit s",
    "refit s",
    "rmse 1",
    "rmse 25",
    "cover 1",
    "cover 25",
)  # ours is covered after calibration
WIDTHS = (22, 5, 4, 7, 7, 7, 7, 7, 8)


def header() -> str:
    """Head of the table: our figures, then those of the best variant of the peer."""
    names = [*COLUMNS, "| peer", *COLUMNS[3:]]
    widths = [*WIDTHS, 19, *WIDTHS[3:]]
    return "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    ours, theirs = ([row[f"{who}{figure}"] for figure in FIGURES] for who in ("", "peer_"))
    cells = [row["model"], str(row["n"]), str(row["seed"]), *map(number, ours)]
    cells += [f"| {row['peer'] or '-'}", *map(number, theirs)]
    text = "  ".join(cell.rjust(width) for cell, width in zip(cells, [*WIDTHS, 19, *WIDTHS[3:]], strict=True))
    return f"{text}  {row['error']}" if "error" in row else text


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"
