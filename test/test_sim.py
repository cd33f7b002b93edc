"""The whole graph: real processes, real ROS, real PyBullet."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ros_domain import own_domain

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.graph import GRAPH
from mbrl_ros.reporting.run_folder import load_trial, model_versions, trial_indices
from mbrl_ros.reporting.summary import read_summary
from mbrl_ros.robots.description import load_robot

QUICK = {  # small enough for a test; what it learns does not matter here
    "mpc_controller": {"horizon": 8, "cem": {"samples": 16, "rounds": 2, "elites": 4}},
    "model_learner": {"refit_every": 15, "gaussian_process": {"max_data": 40, "iterations": 5, "refit_iterations": 2}},
    "trial_manager": {"trials": 2},
}


def params_file(tmp_path, **nodes):
    merged = {name: {"ros__parameters": QUICK.get(name, {}) | nodes.get(name, {})} for name in {**QUICK, **nodes}}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(merged))
    return path


def command(*arguments):
    return [sys.executable, "-m", "mbrl_ros.cli", *map(str, arguments)]


def environment(case):
    """A ROS domain of its own for each test, and for each of several test runs on one machine."""
    domain = own_domain(__file__, case)
    return dict(os.environ) | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def sim(tmp_path, case, *arguments, output="run"):
    arguments = ("sim", "--params-file", params_file(tmp_path), "--output", tmp_path / output, *arguments)
    run = subprocess.run(
        command(*arguments), env=environment(case), capture_output=True, text=True, timeout=240, check=False
    )
    return run, tmp_path / output


@pytest.fixture(scope="module")
def two_lockstep_runs(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("lockstep")
    first = sim(tmp_path, 0, "--lockstep", "--seed", 5, output="first")
    second = sim(tmp_path, 0, "--lockstep", "--seed", 5, "--no-report", output="second")
    return first, second


def test_lockstep_gives_the_same_trajectory_bit_for_bit(two_lockstep_runs):
    for run, _ in two_lockstep_runs:
        assert run.returncode == 0, run.stderr
    (_, first), (_, second) = two_lockstep_runs
    assert trial_indices(first) == trial_indices(second) == [0, 1]
    for index in (0, 1):
        a, b = load_trial(first, index), load_trial(second, index)
        assert np.isfinite(a.x).all()
        for name in ("stamp", "x", "u", "model_version"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    assert [p.read_bytes() for p in sorted(first.glob("models/*"))] == [
        p.read_bytes() for p in sorted(second.glob("models/*"))
    ]


def test_a_run_moves_learns_and_leaves_its_folder(two_lockstep_runs):
    (run, folder), _ = two_lockstep_runs
    base, planned = (load_trial(folder, index) for index in (0, 1))
    assert len(base) == 61
    assert np.abs(base.u[:60]).max() > 1.0
    assert set(base.model_version) == {0}
    assert len(set(planned.model_version[:60])) == 4, "refitted after 15, 30 and 45 transitions of the trial"
    assert np.isfinite(planned.planning_time[:60]).all()
    assert len(model_versions(folder)) == 1 + 4 + 1, "one more at the last tick, one after each trial"
    summary = read_summary(folder)
    assert [t.policy for t in summary.trials] == ["base", "mpc"]
    assert summary.trials[1].experience_before_s == pytest.approx(3.0)
    assert np.isfinite(summary.trials[1].one_step_error)
    assert (summary.ended, summary.seed, summary.lockstep) == ("trials used up", 5, True)
    for name in ("parameters.yaml", "transitions.sqlite", "report.html", "animation.gif"):
        assert (folder / name).stat().st_size > 0
    assert "Traceback" not in run.stdout + run.stderr + "".join(p.read_text() for p in folder.glob("logs/*"))


def test_a_run_is_resumed_from_its_store(two_lockstep_runs, tmp_path):
    (_, folder), _ = two_lockstep_runs
    run, _ = sim(tmp_path, 0, "--lockstep", "--seed", 5, "--trials", 3, "--no-report", output=folder)
    assert run.returncode == 0, run.stderr
    trials = json.loads((folder / "summary.json").read_text())["trials"]
    assert [t["policy"] for t in trials] == ["base", "mpc", "mpc"]
    assert trials[2]["experience_before_s"] == pytest.approx(6.0)
    assert load_trial(folder, 2).model_version[:-1].min() > 0, "it plans from the first tick on"
    with TransitionStore(folder / "transitions.sqlite", "cartpole", load_robot("cartpole").layout) as store:
        assert len(store) == 3 * 60


def start(tmp_path, case, *arguments):
    arguments = ("sim", "--params-file", params_file(tmp_path), "--output", tmp_path / "run", *arguments)
    return subprocess.Popen(
        command(*arguments), env=environment(case), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def node_processes(folder):
    """Process number of each node of the run in `folder`, by looking at their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        names = [spec.name for spec in GRAPH if f"mbrl_ros.nodes.{spec.name}" in words]
        if names and str(folder / "parameters.yaml") in words:
            found[names[0]] = int(path.parent.name)
    return found


def wait_for_motion(folder, timeout=60):
    end = time.monotonic() + timeout
    while not (folder / "trials" / "trial_000.npz").exists():
        assert time.monotonic() < end, "no trial was finished in time"
        time.sleep(0.1)


def test_ctrl_c_ends_everything_and_leaves_the_report(tmp_path):
    process = start(tmp_path, 1, "--trials", "50")
    wait_for_motion(tmp_path / "run")
    nodes = node_processes(tmp_path / "run")
    assert set(nodes) == {spec.name for spec in GRAPH}
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in nodes.values())
    logs = "".join(p.read_text() for p in (tmp_path / "run" / "logs").iterdir())
    assert "Traceback" not in out + err + logs
    assert "interrupted" in out
    assert read_summary(tmp_path / "run").ended == "interrupted"
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("victim", ["mpc_controller", "model_learner"])
def test_a_dead_node_stops_the_rest_and_is_named(tmp_path, victim):
    process = start(tmp_path, 2, "--trials", "50", "--no-report")
    wait_for_motion(tmp_path / "run")
    nodes = node_processes(tmp_path / "run")
    os.kill(nodes[victim], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.strip().splitlines()[0] == f"{victim} died: killed by SIGKILL"
    assert not any(Path(f"/proc/{pid}").exists() for pid in nodes.values())
    assert read_summary(tmp_path / "run").ended == f"node died: {victim} (killed by SIGKILL)"
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--robot", "cartpool"], "unknown robot 'cartpool'; choose one of: cartpole"),
        (["--planner", "cme"], "unknown planner 'cme'; choose one of: cem"),
        (["--model", "gpp"], "unknown model 'gpp'; choose one of: bayesian_network, gaussian_process"),
        (["--seed", "-1"], "seed: -1 is not allowed; expected int in [0, 2.14748e+09]"),
        (["--params-file", "none.yaml"], "none.yaml: No such file"),
        (["--gui"], "gui: needs a display"),
    ],
)
def test_a_mistake_is_a_message_before_any_node_starts(tmp_path, arguments, said):
    run = subprocess.run(
        command("sim", "--output", tmp_path / "run", *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "run").exists()
