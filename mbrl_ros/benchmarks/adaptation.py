"""``mbrl_ros bench adaptation``: the pole's mass doubles in the midst of a trial; how soon is the task solved again?

In lockstep over real ROS 2, every seed with and without adaptation of the last layer, failures included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting.summary import RunSummary, read_summary

DOMAIN = 78  # ROS domain of the runs
CHANGED_TRIAL = 7  # index of the trial in which the mass changes, long after the task is usually solved
CHANGE_AT = 1.5  # s into that trial: the pole is up
TRIALS = 11


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Run every seed, print a row each and write the rows as JSON where asked."""
    print(f"pole's mass times {arguments.factor:g} at {CHANGE_AT} s of trial {CHANGED_TRIAL}; {arguments.model}")
    print(
        f"{'seed':>4}  {'memory s':>8}  {'same trial':>10}  {'trials until solved':>19}  "
        "until swing-up  on target s in each trial"
    )
    rows = []
    for seed in range(arguments.seeds):
        for memory in (0.0, arguments.memory):
            rows.append(run_seed(seed, memory, arguments))
            print(format_row(rows[-1]), flush=True)
            if arguments.json is not None:  # a long study that is stopped keeps what it has
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def parameters(memory: float, factor: float, duration: float) -> dict[str, Any]:
    """A ROS parameter file: the change, trials that go on after the task is solved, the adaptation."""
    return {
        "pybullet_sim": {"payload_after": CHANGED_TRIAL * duration + CHANGE_AT, "payload_factor": factor},
        "trial_manager": {"stop_after_solved": TRIALS, "trials": TRIALS},
        "mpc_controller": {"adaptation.memory": memory},
    }


def run_seed(seed: int, memory: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of the whole graph in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="mbrl_ros_bench_") as folder:
        params = Path(folder) / "params.yaml"
        values = parameters(memory, arguments.factor, duration=3.0)
        params.write_text(yaml.safe_dump({node: {"ros__parameters": mine} for node, mine in values.items()}))
        command = [sys.executable, "-m", "mbrl_ros.cli", "sim", "--lockstep", "--no-report", "--seed", str(seed)]
        command += ["--model", arguments.model, "--planner", arguments.planner]
        command += ["--params-file", str(params), "--output", f"{folder}/run"]
        environment = dict(os.environ) | {"ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", str(DOMAIN))}
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode == 2:
            raise MbrlError(finished.stderr.strip().removeprefix("mbrl_ros: "))
        try:
            summary = read_summary(Path(folder) / "run")
        except MbrlError as error:
            raise MbrlError(f"seed {seed}: {error}\n{finished.stderr}") from None
    return {"seed": seed, "model": arguments.model, "memory_s": memory, "factor": arguments.factor, **score(summary)}


def score(summary: RunSummary) -> dict[str, Any]:
    """What became of the changed trial and of those after it, each of which begins with a swing-up."""
    solved = [t.solved for t in summary.trials]
    later, swing_ups = solved[CHANGED_TRIAL:], solved[CHANGED_TRIAL + 1 :]
    return {
        "solved_before": sum(solved[CHANGED_TRIAL - 2 : CHANGED_TRIAL]),
        "same_trial": bool(later) and later[0],
        "trials_until_solved": later.index(True) if True in later else None,
        "trials_until_swing_up": 1 + swing_ups.index(True) if True in swing_ups else None,
        "solved": solved,
        "time_on_target_s": [round(t.time_on_target_s, 2) for t in summary.trials],
        "ended": summary.ended,
    }


def format_row(row: dict[str, Any]) -> str:
    """One row as text."""
    counts = (row["trials_until_solved"], row["trials_until_swing_up"])
    until, swing_up = ("never" if count is None else count for count in counts)
    times = " ".join(f"{t:.2f}" for t in row["time_on_target_s"])
    same = "yes" if row["same_trial"] else "no"
    return f"{row['seed']:>4}  {row['memory_s']:>8g}  {same:>10}  {until:>19}  {swing_up:>14}  {times}"
