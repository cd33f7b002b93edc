"""The bench of the models: its motion, its marks, its rows, and a peer that fails or cannot be had."""

import json
import sys
from contextlib import ExitStack

import numpy as np
import pytest

from mbrl_ros import cli
from mbrl_ros.benchmarks import models as bench
from mbrl_ros.benchmarks.cartpole_motion import balancing_gain, pumping_force, record
from mbrl_ros.benchmarks.peers import environment
from mbrl_ros.benchmarks.prediction_scores import marks, questions, within
from mbrl_ros.errors import MissingDependencyError
from mbrl_ros.models import model_class
from mbrl_ros.models.evaluation import multi_step_error
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")
KEYS = {"model", "n", "seed", *bench.FIGURES, "peer", *(f"peer_{figure}" for figure in bench.FIGURES)}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "HELD_OUT", 90)
    monkeypatch.setattr(bench, "PARTICLES", 20)
    monkeypatch.setattr(bench, "HORIZONS", (1, 25))


def test_motion_is_whole_trajectories_of_both_kinds():
    data = record(ROBOT, 400, np.random.default_rng(1))
    assert len(data) == 400 and data.trajectory.tolist() == sorted(data.trajectory)
    same = data.trajectory[1:] == data.trajectory[:-1]
    np.testing.assert_array_equal(data.x[1:][same], data.x_next[:-1][same])
    first = np.flatnonzero(np.r_[True, ~same])
    np.testing.assert_allclose(data.x[first], np.tile([0.0, np.pi, 0.0, 0.0], (len(first), 1)), atol=0.06)
    upright = np.cos(data.x[:, 1]) > np.cos(0.3)
    swung = np.bincount(data.trajectory, upright)
    assert (swung[1::2][:3] > 15).sum() >= 2, "swing-ups reach upright and stay a while"
    assert np.abs(data.u).max() <= 10.0 and np.abs(data.x[:, 0]).max() < 2.6
    longer = record(ROBOT, 410, np.random.default_rng(1))
    np.testing.assert_array_equal(longer.x[:400], data.x)


def test_sensor_noise_is_the_robots():
    """Twice the same motion: without noise both would be equal, the difference has twice its variance."""
    data = record(ROBOT, 3000, np.random.default_rng(2))
    steady = data.x_next[:, 0] - data.x[:, 0] - 0.025 * (data.x[:, 2] + data.x_next[:, 2])
    assert 0.9 * 0.01 * 2**0.5 < steady.std() < 1.15 * 0.01 * 2**0.5


def test_pumping_adds_the_energy_that_is_missing():
    rng = np.random.default_rng(0)
    for x in rng.normal(size=(50, 4)) * [0.0, 2.0, 0.0, 4.0]:
        _, _, acceleration, turning = derivative(x, [pumping_force(x, 30.0)])
        energy = 0.5 * (0.5 * 0.5**2 / 3.0) * x[3] ** 2 + 0.5 * 9.81 * 0.25 * (np.cos(x[1]) - 1.0)
        assert acceleration == pytest.approx(30.0 * energy * x[3] * np.cos(x[1]), rel=1e-9, abs=1e-9)
        gained = 0.5 * 0.5**2 / 3.0 * x[3] * turning - 0.5 * 9.81 * 0.25 * np.sin(x[1]) * x[3]
        assert gained * energy <= 1e-12, "towards upright and at rest from either side"


def test_balancing_gain_is_stable_at_the_true_plant():
    small, K = 1e-6, balancing_gain()
    columns = [derivative(small * e, [-K @ (small * e)]) for e in np.eye(4)]
    assert np.linalg.eigvals(np.array(columns).T / small).real.max() < -0.5


def test_error_is_that_of_the_learner():
    data = record(ROBOT, 90, np.random.default_rng(3))
    model = model_class("probabilistic_ensemble").example(
        ROBOT.layout, model_class("probabilistic_ensemble").config_class(), np.random.default_rng(0)
    )
    for h in (1, 7):
        asked = questions(data, [h], 1)
        pairs = zip(asked[f"x_{h}"], asked[f"u_{h}"], strict=True)
        mean = np.array([model.rollout(x, u[None], None, 5)[:, 0, -1].mean(axis=0) for x, u in pairs])
        found = marks(data, {f"mean_{h}": mean, f"samples_{h}": mean[None]}, [h], 1)
        assert found[f"rmse_{h}"] == pytest.approx(multi_step_error(model, data, h), rel=1e-6)


def test_coverage_counts_what_lies_between_the_quantiles():
    rng = np.random.default_rng(0)
    truth, samples = rng.standard_normal((4000, 2)), rng.standard_normal((200, 4000, 2))
    assert within(samples, truth).mean() == pytest.approx(0.9, abs=0.015)
    assert within(0.5 * samples, truth).mean() == pytest.approx(0.589, abs=0.02), "P(|z| < 1.645 / 2)"
    assert within(samples + np.array([0.0, 10.0]), truth).mean(axis=0)[1] == 0.0


def test_questions_stay_within_trajectories():
    data = record(ROBOT, 200, np.random.default_rng(1))
    asked = questions(data, [25], 3)
    rows = [int(np.flatnonzero((data.x == x).all(axis=1))[0]) for x in asked["x_25"]]
    assert all(data.trajectory[i] == data.trajectory[i + 24] for i in rows) and len(rows) > 20
    np.testing.assert_array_equal(asked["u_25"][5], data.u[rows[5] : rows[5] + 25])


def test_our_worker_fits_what_the_trainer_fits(small, tmp_path):
    case = bench.Case.draw(0, 50)
    with ExitStack() as stack:
        worker = bench.start(stack, sys.executable, "our_models.py")
        figures = bench.judge(worker, "gaussian_process", case, tmp_path)
        wrong = bench.judge(worker, "nothing", case, tmp_path)
    config = model_class("gaussian_process").config_class()
    model = TRAINERS["gaussian_process"](case.data[:50], ROBOT.layout, config, 0, None)[0]
    asked = questions(case.held_out, [25], bench.STRIDE)
    pairs = zip(asked["x_25"], asked["u_25"], strict=True)
    mean = np.array([model.rollout(x, u[None], None, model.members)[:, 0, -1].mean(axis=0) for x, u in pairs])
    expected = marks(case.held_out, {"mean_25": mean, "samples_25": mean[None]}, [25], bench.STRIDE)["rmse_25"]
    assert figures["rmse_25"] == pytest.approx(expected, rel=1e-3)
    assert all(figures[name] > 0.0 for name in ("fit_s", "refit_s", "fit_cpu_s", "refit_cpu_s", "rmse_1"))
    assert 0.0 < figures["coverage_1"] <= 1.0 and len(figures["coverage_25_entries"]) == 4
    assert "nothing" in wrong["error"] and wrong["fit_s"] is None and wrong["rmse_25"] is None


def figures(model, rmse_25, **others):
    return {"model": model} | dict.fromkeys(bench.FIGURES, 1.0) | {"rmse_25": rmse_25} | others


def test_the_row_holds_the_best_variant_of_the_peer_and_all_of_them(small):
    case = bench.Case.draw(0, 5)
    peers = [figures("a", 2.0), figures("b", 0.5), figures("c", None, error="why"), figures("d", float("nan"))]
    row = bench.make_row(case, figures("gaussian_process", 0.1), peers, None)
    assert row.keys() >= KEYS and (row["model"], row["n"], row["seed"]) == ("gaussian_process", 5, 0)
    assert row["peer"] == "b" and row["peer_rmse_25"] == 0.5 and row["rmse_25"] == 0.1
    assert [p["model"] for p in row["peers"]] == ["a", "b", "c", "d"]
    failed = bench.make_row(case, figures("x", None, error="no data"), [], "no index")
    assert failed["peer"] is None and failed["peer_fit_s"] is None and failed["peer_missing"] == "no index"
    assert bench.line(failed).endswith("no data") and "b" in bench.line(row)


def test_command_prints_and_writes_a_row_a_case(small, tmp_path, monkeypatch, capsys):
    def refuse(_group):
        raise MissingDependencyError("ERROR: no index")

    monkeypatch.setattr(environment, "ensure", refuse)
    file = tmp_path / "rows.json"
    options = ["--models", "gaussian_process", "--sizes", "20", "30", "--seeds", "1", "--json", str(file)]
    assert cli.main(["bench", "models", "--with-peers", *options]) == 0
    rows = json.loads(file.read_text())
    assert [(row["model"], row["n"], row["seed"]) for row in rows] == [("gaussian_process", n, 0) for n in (20, 30)]
    assert all(row.keys() >= KEYS and row["peer_missing"] == "ERROR: no index" for row in rows)
    printed = capsys.readouterr()
    assert "gaussian_process" in printed.out and "without mbrl-lib: ERROR: no index" in printed.err
    assert cli.main(["bench", "models", "--models", "nothing"]) == 2
    assert "choose one of: " in capsys.readouterr().err


@pytest.mark.skipif(not (environment.folder(bench.MBRL_LIB) / ".ready").exists(), reason="mbrl-lib is not installed")
def test_the_peer_learns_from_the_same_data(small, tmp_path):
    """It predicts one step ahead far better than the mean of the data, covers most of it, and its seed is its own."""
    case = bench.Case.draw(0, 60)
    with ExitStack() as stack:
        worker, missing = bench.start_peer(stack)
        assert missing is None
        default = bench.judge(worker, "mbrl-lib defaults", case, tmp_path)
        again = bench.judge(worker, "mbrl-lib defaults", case, tmp_path)
    assert "error" not in default and default["rmse_1"] < 0.5 and 0.5 < default["coverage_1"] <= 1.0
    assert again["rmse_1"] == default["rmse_1"], "the seed is the training's"
