"""``mbrl_ros fit``: a model from recorded data, judged on trajectories that it has not seen."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.commands.sources import load_settings, read_sources
from mbrl_ros.commands.text_table import left_out_table, table
from mbrl_ros.control.start_model import data_path
from mbrl_ros.data.store_format import Row
from mbrl_ros.data.transition_store import TransitionStore, to_transitions
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.evaluation import multi_step_error, one_step_error, starts
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.reporting.run_folder import write_atomically
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.types import Transitions

DEFAULT_SHARE = 0.2  # of the trajectories that is held out
VERSION = 1  # of the model in the file; a run that starts from it counts on from its own versions
LEVEL = 0.9  # of the interval whose coverage is measured
PARTICLES = 200


def run(arguments: argparse.Namespace) -> int:
    """Body of the command; returns the exit code."""
    settings = load_settings(
        {name: getattr(arguments, name) for name in ("robot", "model", "seed")}, arguments.params_file
    )
    cfg, robot = settings.learner, load_robot(arguments.robot)
    horizon = cfg.error_horizon if arguments.horizon is None else arguments.horizon
    if horizon < 1:
        raise ConfigError(f"horizon: {horizon} is not allowed; expected a whole number, 1 or more")
    rows, left_out = read_sources(arguments.data, robot, settings, arguments.namespace, arguments.everything)
    if left_out:
        print(left_out_table(left_out))
    train, test = split(to_transitions(rows, robot.layout), arguments.holdout, np.random.default_rng(cfg.seed))
    model, report = TRAINERS[cfg.model](train, robot.layout, settings.model, cfg.seed, None)
    print(f"{cfg.model} of {robot.name}: fitted in {report.seconds:.1f} s")
    lines = [
        evaluated(name, model, part, horizon, cfg.seed) for name, part in (("fitted to", train), ("held out", test))
    ]
    figures = (f"{n}-step {what}" for what in ("error", "coverage") for n in (1, horizon))
    print(table(("", "transitions", "trajectories", *figures), lines))
    print(f"errors in standard deviations of the state; coverage: share within the {LEVEL:.0%} interval")
    write_atomically(arguments.output, to_bytes(model, VERSION, len(train), robot.name))
    write_data(rows, data_path(arguments.output), robot)
    options = f"--robot {arguments.robot} --model {cfg.model} --start-model {arguments.output}"
    print(f"{arguments.output}: to start from it: mbrl_ros sim {options}")
    return 0


def write_data(rows: list[Row], path: Path, robot: RobotDescription) -> None:
    """Keep all transitions beside the model: a run that starts from it goes on learning from them, too."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = Path(folder) / path.name
        with TransitionStore(new, robot.name, robot.layout) as store:
            store.append_all(rows)
        new.replace(path)


def split(data: Transitions, holdout: int | None, rng: np.random.Generator) -> tuple[Transitions, Transitions]:
    """Transitions to fit to, and those of whole trajectories drawn at random to judge by.

    Args:
        data: all transitions.
        holdout: number of trajectories to judge by; None takes a fifth of them, at least one.
        rng: for the draw.

    Raises:
        ConfigError: `holdout` leaves nothing to fit to.
    """
    trajectories = np.unique(data.trajectory)
    most = max(len(trajectories) - 1, 0)
    count = min(max(round(DEFAULT_SHARE * len(trajectories)), 1), most) if holdout is None else holdout
    if not 0 <= count <= most:
        raise ConfigError(
            f"holdout: {count} is not allowed; expected a whole number in [0, {most}], one less than the trajectories"
        )
    held_out = np.isin(data.trajectory, rng.choice(trajectories, count, replace=False))
    return data[~held_out], data[held_out]


def evaluated(name: str, model: Any, data: Transitions, horizon: int, seed: int) -> tuple[str, ...]:
    """One row of the table; a dash where there is nothing to judge by."""
    figures = (
        one_step_error(model, data),
        multi_step_error(model, data, horizon),
        coverage(model, data, 1, np.random.default_rng(seed)),
        coverage(model, data, horizon, np.random.default_rng(seed)),
    )
    counts = (str(len(data)), str(len(np.unique(data.trajectory))))
    return (name, *counts, *("-" if np.isnan(figure) else f"{figure:.3f}" for figure in figures))


def coverage(model: Any, data: Transitions, horizon: int, rng: np.random.Generator) -> float:
    """Share of state entries after `horizon` periods that lie within the central interval of the particles.

    Particles carry the model's noise. NaN where no trajectory is long enough.
    """
    first = starts(data.trajectory, horizon)
    tail = 50.0 * (1.0 - LEVEL)
    hits = []
    for i in first:
        end = model.rollout(data.x[i], data.u[None, i : i + horizon], rng, PARTICLES)[:, 0, -1]
        low, high = np.percentile(end, (tail, 100.0 - tail), axis=0)
        hits.append((low <= data.x_next[i + horizon - 1]) & (data.x_next[i + horizon - 1] <= high))
    return float(np.mean(hits)) if hits else float("nan")
