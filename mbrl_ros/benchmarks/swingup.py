"""``mbrl_ros bench swingup``: experience until solved, in lockstep over real ROS 2, seed by seed, failures included."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.summary import RunSummary, read_summary

DOMAIN = 77  # ROS domain of the runs, so that they do not meet a robot's graph
RECORDS = {  # published for these robots
    "cartpole": "published on this plant: PILCO 17.5 s (real hardware), MC-PILCO about 18 s",
    "cartpole_blackdrops": "published on this plant: Black-DROPS 16 to 20 s in the median, a few runs never",
}


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Run every seed with every model, print a row each and write the rows as JSON where asked."""
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        print(f"{arguments.robot}, {arguments.planner} over {model}")
        print(
            f"{'seed':>4}  {'solved':>6}  {'experience s':>12}  {'trials':>6}  {'wall s':>6}  on target s in each trial"
        )
        mine = [show(run_seed(seed, model, arguments)) for seed in range(arguments.seeds)]
        print(f"{conclusion(mine)}; {RECORDS.get(arguments.robot, 'nothing published on this plant')}")
        rows += mine
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def show(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row at once: the next one takes a while."""
    print(format_row(row), flush=True)
    return row


def conclusion(rows: list[dict[str, Any]]) -> str:
    """How many of a model's seeds were solved, and after what experience in the median."""
    solved = [r["experience_s"] for r in rows if r["solved"]]
    median = sorted(solved)[len(solved) // 2] if solved else float("nan")
    return f"solved {len(solved)} of {len(rows)}; median {median:.1f} s"


def run_seed(seed: int, model: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of the whole graph in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="mbrl_ros_bench_") as folder:
        command = [sys.executable, "-m", "mbrl_ros.cli", "sim", "--lockstep", "--no-report"]
        command += ["--seed", str(seed), "--trials", str(arguments.trials), "--output", folder]
        command += ["--robot", arguments.robot, "--planner", arguments.planner, "--model", model]
        if arguments.params_file is not None:
            command += ["--params-file", str(arguments.params_file)]
        environment = dict(os.environ) | {"ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", str(DOMAIN))}
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode == 2:
            raise MbrlError(finished.stderr.strip().removeprefix("mbrl_ros: "))
        try:
            return {"robot": arguments.robot} | summary_row(read_summary(Path(folder)), model)
        except MbrlError as error:
            return {"robot": arguments.robot} | failed_row(seed, model, f"{error}\n{finished.stderr}")


def summary_row(summary: RunSummary, model: str) -> dict[str, Any]:
    """The row of one seed."""
    return {
        "seed": summary.seed,
        "solved": summary.solved,
        "experience_s": summary.experience_s,
        "trials": len(summary.trials),
        "model": model,
        "wall_time_s": round(summary.wall_time_s, 1),
        "time_on_target_s": [round(t.time_on_target_s, 2) for t in summary.trials],
        "ended": summary.ended,
    }


def failed_row(seed: int, model: str, why: str) -> dict[str, Any]:
    """A seed whose run broke down counts as not solved, and says why."""
    row = {"seed": seed, "solved": False, "experience_s": None, "trials": 0, "model": model}
    return row | {"wall_time_s": None, "time_on_target_s": [], "ended": why}


def format_row(row: dict[str, Any]) -> str:
    """One row as text."""
    experience = "-" if row["experience_s"] is None else f"{row['experience_s']:.1f}"
    wall = "-" if row["wall_time_s"] is None else f"{row['wall_time_s']:.0f}"
    times = " ".join(f"{t:.2f}" for t in row["time_on_target_s"]) or row["ended"]
    solved = "yes" if row["solved"] else "no"
    return f"{row['seed']:>4}  {solved:>6}  {experience:>12}  {row['trials']:>6}  {wall:>6}  {times}"
