"""The bench of the swing-up without its runs, and the cart-pole of Black-DROPS."""

import dataclasses
import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_ros import cli
from mbrl_ros.benchmarks import swingup
from mbrl_ros.errors import MbrlError
from mbrl_ros.robots.cartpole_equations import GRAVITY, derivative
from mbrl_ros.robots.description import load_robot


@pytest.fixture
def commands(monkeypatch):
    """The command lines of the runs, which are not started; seed 1 of the second model breaks down."""
    seen = []

    def run(command, **_kwargs):
        seen.append(command)
        return SimpleNamespace(returncode=0, stderr="boom")

    def read(_folder):
        seed, model = (seen[-1][seen[-1].index(name) + 1] for name in ("--seed", "--model"))
        if (seed, model) == ("1", "gaussian_process"):
            raise MbrlError("no summary")
        trial = SimpleNamespace(time_on_target_s=1.234)
        return SimpleNamespace(
            seed=int(seed), solved=True, experience_s=6.0, trials=[trial], wall_time_s=9.87, ended="solved"
        )

    monkeypatch.setattr(swingup.subprocess, "run", run)
    monkeypatch.setattr(swingup, "read_summary", read)
    return seen


def test_every_model_and_seed_has_a_row_failures_included(commands, tmp_path, capsys):
    file = tmp_path / "rows.json"
    options = ["--robot", "cartpole_blackdrops", "--models", "probabilistic_ensemble", "gaussian_process"]
    assert cli.main(["bench", "swingup", "--seeds", "2", "--json", str(file), *options]) == 0
    rows = json.loads(file.read_text())
    expected = [(m, s) for m in ("probabilistic_ensemble", "gaussian_process") for s in (0, 1)]
    assert [(row["model"], row["seed"]) for row in rows] == expected
    assert all(row["robot"] == "cartpole_blackdrops" for row in rows)
    assert [row["solved"] for row in rows] == [True, True, True, False] and "boom" in rows[3]["ended"]
    assert all(command[command.index("--robot") + 1] == "cartpole_blackdrops" for command in commands)
    out = capsys.readouterr().out
    assert "solved 2 of 2; median 6.0 s; published on this plant: Black-DROPS" in out
    assert "solved 1 of 2" in out


def test_one_model_and_the_benchmark_plant_without_options(commands):
    assert cli.main(["bench", "swingup", "--seeds", "1", "--model", "probabilistic_ensemble"]) == 0
    assert cli.main(["bench", "swingup", "--seeds", "1"]) == 0
    assert [c[c.index("--model") + 1] for c in commands] == ["probabilistic_ensemble", "gaussian_process"]
    assert {c[c.index("--robot") + 1] for c in commands} == {"cartpole"}


def test_a_users_mistake_ends_the_bench(monkeypatch, capsys):
    broken = subprocess.CompletedProcess([], 2, "", "mbrl_ros: unknown robot 'x'")
    monkeypatch.setattr(swingup.subprocess, "run", lambda *_args, **_kwargs: broken)
    for study in ("swingup", "adaptation"):
        assert cli.main(["bench", study, *(["--robot", "x"] if study == "swingup" else [])]) == 2
        assert capsys.readouterr().err == "mbrl_ros: unknown robot 'x'\n"


def test_black_drops_is_the_benchmark_plant_at_its_own_rate_and_trial_length():
    ours, theirs = load_robot("cartpole"), load_robot("cartpole_blackdrops")
    changed = {"name": "cartpole_blackdrops", "control_rate": 10.0, "trial_duration": 4.0}
    assert dataclasses.replace(theirs, parameters={}) == dataclasses.replace(ours, **changed)
    assert theirs.trial_steps == 40 and theirs.urdf.is_file()


def test_our_equations_are_those_of_black_drops():
    """Solved for the accelerations as in Deisenroth (2010, appendix C), angle from hanging, to rounding."""
    rng = np.random.default_rng(0)
    v, omega, force = rng.normal(size=(3, 50)) * np.array([[2.0], [5.0], [5.0]])
    angle = rng.uniform(-4.0, 4.0, 50)
    length = mass = cart = 0.5
    s, c, push = np.sin(angle), np.cos(angle), force - 0.1 * v
    share = 4.0 * (cart + mass) - 3.0 * mass * c**2
    acceleration = (2.0 * mass * length * omega**2 * s + 3.0 * mass * GRAVITY * s * c + 4.0 * push) / share
    turning = -3.0 * mass * length * omega**2 * s * c - 6.0 * (cart + mass) * GRAVITY * s - 6.0 * push * c
    zero = np.zeros(50)
    # theirs counts the angle from hanging and turns the other way round the same axis
    found = derivative((zero, np.pi - angle, v, -omega), (force,))
    np.testing.assert_allclose(found[2], acceleration, rtol=1e-10)
    np.testing.assert_allclose(-found[3], turning / (length * share), rtol=1e-10)
