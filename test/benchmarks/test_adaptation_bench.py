"""The bench of the adaptation without its runs."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from mbrl_ros import cli
from mbrl_ros.benchmarks import adaptation
from mbrl_ros.errors import MbrlError
from mbrl_ros.params_file import resolve

BEFORE = [False, False, True, True, True, False, True]  # trials 0 to 6


def summary(*after):
    """A run whose trials from the changed one on were solved or not."""
    trials = [SimpleNamespace(solved=solved, time_on_target_s=1.234) for solved in (*BEFORE, *after)]
    return SimpleNamespace(trials=trials, ended="trials")


@pytest.mark.parametrize(
    ("after", "same_trial", "until_solved", "until_swing_up"),
    [
        ((True, False, True, True), True, 0, 2),
        ((False, True, True, True), False, 1, 1),
        ((True, False, False, False), True, 0, None),
        ((False, False, False, False), False, None, None),
        ((), False, None, None),
    ],
)
def test_a_trial_that_was_up_already_is_told_from_a_new_swing_up(after, same_trial, until_solved, until_swing_up):
    row = adaptation.score(summary(*after))
    assert row["same_trial"] is same_trial and row["solved_before"] == 1
    assert (row["trials_until_solved"], row["trials_until_swing_up"]) == (until_solved, until_swing_up)
    assert row["solved"] == [*BEFORE, *after] and row["time_on_target_s"][0] == 1.23


@pytest.fixture
def runs(monkeypatch):
    """The parameters that each run would have had; the third breaks down."""
    seen = []

    def run(command, **_kwargs):
        path = Path(command[command.index("--params-file") + 1])
        seen.append(resolve({}, path) | {"text": yaml.safe_load(path.read_text())})
        return SimpleNamespace(returncode=0, stderr="boom")

    def read(_folder):
        if len(seen) == 3:
            raise MbrlError("no summary")
        return summary(True, False, True, True)

    monkeypatch.setattr(adaptation.subprocess, "run", run)
    monkeypatch.setattr(adaptation, "read_summary", read)
    return seen


def test_every_seed_runs_with_and_without_and_a_broken_study_keeps_its_rows(runs, tmp_path, capsys):
    file = tmp_path / "rows.json"
    options = ["--seeds", "2", "--memory", "0.5", "--factor", "3", "--json", str(file)]
    assert cli.main(["bench", "adaptation", *options]) == 2
    rows = json.loads(file.read_text())
    assert [(row["seed"], row["memory_s"], row["factor"]) for row in rows] == [(0, 0.0, 3.0), (0, 0.5, 3.0)]
    printed = capsys.readouterr()
    assert "until swing-up" in printed.out and "seed 1: no summary\nboom" in printed.err
    assert [run["mpc_controller"]["adaptation.memory"] for run in runs] == [0.0, 0.5, 0.0]
    plant = runs[0]["pybullet_sim"]
    assert (plant["payload_after"], plant["payload_factor"]) == (7 * 3.0 + 1.5, 3.0)
