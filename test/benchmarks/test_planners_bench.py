"""The bench of the planners: rows, arithmetic with peers whose times are known, and peers that cannot be had."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros import cli
from mbrl_ros.benchmarks import planners as bench
from mbrl_ros.benchmarks.peers import environment
from mbrl_ros.benchmarks.peers.cartpole_model import INTEGRATORS
from mbrl_ros.benchmarks.planners_plot import bars, plot
from mbrl_ros.benchmarks.timing import Contestant, Worker, WorkerError, alternate, paired_ratios
from mbrl_ros.errors import MissingDependencyError, UnknownNameError
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.robots.cartpole_equations import derivative

SMALL = {
    "sampling": {"horizon": 3, "samples": 4, "elites": 2, "rounds": 1, "particles": 2, "members": 2, "width": 4},
    "ilqr_cartpole": {"horizon": 5},
    "ilqr_ensemble": {"horizon": 4, "members": 2, "width": 4},
}
FIELDS = {"case", "planner", "ours_ms", "peer", "peer_ms", "ratio_to_best_peer", "ratio_to_floor", "goal", "goal_met"}
FAKE = """
import sys
sys.path.insert(0, {folder!r})
import serve
times = iter({times})
serve.timed = lambda run: run()
def build(request):
    if request["contestant"] == "broken":
        raise ValueError("no such thing")
    print("noise on stdout")
    return lambda: next(times), {info}
serve.serve(build)
"""


def fake(tmp_path, name, times, info=None) -> Worker:
    """A worker whose first call and further calls take the given times."""
    script = tmp_path / f"{name}.py"
    script.write_text(FAKE.format(folder=str(bench.PEERS), times=times, info=info or {}))
    return Worker(sys.executable, script, threads=1)


def contestant(name, blocks, info=None) -> Contestant:
    return Contestant(name, None, name, 1, len(blocks[0]), info or {}, blocks)


def small(case: bench.Case) -> bench.Case:
    settings = dict(case.settings) | SMALL.get(case.settings["kind"], {})
    if case.settings["kind"] == "lqr_backward":
        settings = bench.linear_quadratic(2, 1, 3)
    return dataclasses.replace(case, settings=settings, calls=2)


@pytest.fixture(scope="module")
def rows():
    return bench.measure({name: small(case) for name, case in bench.all_cases().items()}, 2, with_peers=False)


def test_every_case_and_planner_has_a_row_that_json_holds(rows):
    expected = [
        (name, planner if threads == 1 else f"{planner}, {threads} thr", threads)
        for name, case in bench.all_cases().items()
        for threads in case.threads
        for planner in case.planners
    ]
    assert [(row["case"], row["planner"], row["threads"]) for row in rows] == expected
    assert ("B", "cem, 2 thr", 2) in expected
    for row in json.loads(json.dumps(rows)):
        assert row.keys() >= FIELDS
        assert 0.0 < row["ours_ms"]["median"] <= row["ours_ms"]["p99"] and row["turns"] == 2
        assert row["peer"] is None and row["peer_ms"] is None and row["ratio_to_best_peer"] is None
        assert (row["ratio_to_floor"] is not None) == (row["case"] == "A")
        assert (row["goal_met"] is None) == (row["goal"].startswith("ratio_to_best_peer"))


def test_our_solvers_did_what_they_are_timed_for(rows):
    info = {(row["case"], row["planner"]): row["info"] for row in rows}
    assert info["ilqr_cartpole", "ilqr"]["status"] == "converged"
    assert info["ilqr_cartpole", "ilqr"]["compile_s"] > 0.0
    both = [info["ilqr_cartpole", planner]["cost"] for planner in ("ilqr", "ilqr, cost derivatives given")]
    assert both[0] == pytest.approx(both[1], rel=1e-5)
    assert info["lqr_backward", "riccati_kernel"]["gain"] == pytest.approx(
        info["lqr_backward", "lqr"]["gain"], rel=1e-9
    )
    assert info["ilqr_ensemble", "ilqr"]["iterations"] == 3


def test_ratios_are_medians_of_the_turns_ratios():
    ours, peer = contestant("cem", [[1.0, 3.0], [4.0, 4.0], [1.0, 1.0]]), contestant("p", [[10.0], [80.0], [3.0]])
    np.testing.assert_allclose(paired_ratios(peer, ours), [5.0, 20.0, 3.0])
    other = contestant("q", [[100.0], [100.0], [100.0]])
    row = bench.make_row("B", bench.all_cases()["B"], ours, [other, peer], {"z": "why"}, None)
    assert (row["peer"], row["peer_ms"], row["ratio_to_best_peer"]) == ("p, 1 thr", 10.0, 5.0)
    assert row["peers"][0]["ratio_spread"] == [3.0, 20.0] and row["ours_ms"]["median"] == 2.0
    assert row["goal_met"] is True and row["skipped"] == {"z": "why"}
    slower = contestant("cem", [[1.0, 3.1], [4.0, 4.0], [1.0, 1.0]])
    assert bench.make_row("B", bench.all_cases()["B"], slower, [peer], {}, None)["goal_met"] is False


def test_a_single_call_is_compared_with_every_turn():
    ours, slow = contestant("cem", [[1.0], [2.0], [4.0]]), contestant("p", [[8.0]])
    np.testing.assert_allclose(paired_ratios(slow, ours), [8.0, 4.0, 2.0])


def test_a_peer_that_ends_at_a_worse_cost_is_not_the_best():
    ours = contestant("ilqr", [[1.0]], {"cost": 10.0})
    peers = [contestant("bad", [[2.0]], {"cost": 11.0}), contestant("good", [[30.0]], {"cost": 10.05})]
    row = bench.make_row("ilqr_cartpole", bench.all_cases()["ilqr_cartpole"], ours, peers, {}, None)
    assert row["peer"] == "good, 1 thr" and row["ratio_to_best_peer"] == 30.0 and len(row["peers"]) == 2


def test_floor_is_the_arithmetic_at_the_rate_of_the_product():
    """Hand count: 5 x 3 + 3 x 3 + 3 x 8 multiply-adds a row; 2 x 2 x 3 x 1 rows."""
    settings = {"nx": 4, "nu": 1, "width": 3, "layers": 2, "samples": 2, "particles": 2, "horizon": 3, "rounds": 1}
    assert bench.decision_flops(settings) == 2 * 48 * 12
    ours, product = contestant("cem", [[6.0], [12.0]]), contestant("gemm", [[1.0], [2.0]], {"flops": 2 * 48 * 12 / 4})
    assert bench.floor_ratio(settings, ours, product) == pytest.approx(1.5)
    row = bench.make_row("A", dataclasses.replace(bench.all_cases()["A"], settings=settings), ours, [], {}, product)
    assert row["ratio_to_floor"] == pytest.approx(1.5) and row["goal_met"] is True


def test_workers_are_called_in_turn_and_answer_with_their_own_times(tmp_path):
    workers = fake(tmp_path, "a", [9.0, 1.0, 2.0, 3.0, 4.0]), fake(tmp_path, "b", [9.0, 5.0, 6.0])
    a, b = Contestant("a", workers[0], "k", 1, 2), Contestant("b", workers[1], "k", 1, 1)
    for c in (a, b):
        c.build({}, "x")
    alternate([a, b], repeats=2)
    assert a.blocks == [[1.0, 2.0], [3.0, 4.0]] and b.blocks == [[5.0], [6.0]]
    for worker in workers:
        worker.close()


def test_a_slow_contestant_is_called_once_and_a_budget_ends_the_turns(tmp_path):
    worker = fake(tmp_path, "a", [9.0, 1.0, 9.0, *range(20)])
    slow, quick = Contestant("s", worker, "s", 1, 1), Contestant("q", worker, "q", 1, 1)
    slow.build({}, "x", slow_ms=5.0)
    quick.build({}, "x", slow_ms=5.0)
    assert slow.slow and not quick.slow
    alternate([slow, quick], repeats=10, budget=0.0)
    assert slow.blocks == [[9.0]] and len(quick.blocks) == 2
    worker.close()


def test_a_worker_that_fails_or_ends_says_so(tmp_path):
    worker = fake(tmp_path, "a", [1.0])
    with pytest.raises(WorkerError, match="ValueError: no such thing"):
        Contestant("a", worker, "k", 1, 1).build({}, "broken")
    worker.close()
    silent = tmp_path / "silent.py"
    silent.write_text("import time\ntime.sleep(60)\n")
    worker = Worker(sys.executable, silent, threads=1)
    with pytest.raises(WorkerError, match="ended with exit status"):
        worker.ask({}, timeout=0.2)
    worker.close()


def test_peers_that_cannot_be_had_are_skipped_with_their_reason(tmp_path, monkeypatch, capsys):
    def refuse(group):
        if group.script == "torch_peers.py":
            raise MissingDependencyError("ERROR: no index")
        return Path(sys.executable)

    (tmp_path / "crocoddyl_peers.py").write_text(
        FAKE.format(folder=str(bench.PEERS), times=[5.0] * 99, info={"cost": 0})
    )
    monkeypatch.setattr(environment, "ensure", refuse)
    monkeypatch.setattr(bench, "PEERS", tmp_path)
    case = small(bench.all_cases()["ilqr_cartpole_euler"])
    row = bench.measure({"ilqr_cartpole_euler": case}, 2, with_peers=True)[0]
    assert row["skipped"]["mpc.pytorch"] == "ERROR: no index"
    assert "not on PyPI" in row["skipped"]["anassinator/ilqr"]
    assert row["peer_ms"] == 5.0 and row["peer"] == "crocoddyl DDP, 1 thr"
    assert "without mpc.pytorch: ERROR: no index" in capsys.readouterr().err
    assert "skipped mpc.pytorch: ERROR: no index" in bench.table([row])


def test_a_failed_installation_leaves_pips_reason_and_no_ready_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    commands = []

    def fail(command):
        commands.append(command)
        if "install" in command:
            raise MissingDependencyError("ERROR: nothing found")

    monkeypatch.setattr(environment, "run", fail)
    group = environment.Group("x.py", ("nothing==1",), ("alone==2",))
    for _ in range(2):
        with pytest.raises(MissingDependencyError, match="nothing found"):
            environment.ensure(group)
    assert len(commands) == 4 and environment.folder(group).is_relative_to(tmp_path)
    monkeypatch.setattr(
        environment, "run", lambda command: environment.folder(group).mkdir(parents=True, exist_ok=True)
    )
    assert environment.ensure(group) == environment.folder(group) / "bin" / "python"
    monkeypatch.setattr(environment, "run", fail)
    environment.ensure(group)
    assert len(commands) == 4, "ready: not installed again"
    assert environment.folder(environment.Group("x.py", ("nothing==2",))) != environment.folder(group)


def test_the_reason_is_the_last_error_of_the_command():
    code = "import sys; print('ERROR: first'); print('ERROR: last', file=sys.stderr); print('after'); sys.exit(1)"
    with pytest.raises(MissingDependencyError, match=r"^ERROR: last$"):
        environment.run([sys.executable, "-c", code])


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_the_peers_cart_pole_is_ours_and_its_jacobian_right(integrator):
    """Ours differentiates by the complex step, the peers' by hand: both to rounding."""
    model = INTEGRATORS[integrator](**bench.CARTPOLE["constants"], dt=0.02)
    dynamics = AnalyticDynamics(derivative, 4, 1, 0.02, integrator)
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(20, 4)) * [1, 3, 2, 5], rng.normal(size=(20, 1)) * 10
    np.testing.assert_allclose(
        [model.step(*row) for row in zip(x, u[:, 0], strict=True)], dynamics.step(x, u), rtol=1e-12
    )
    jacobians = [model.jacobian(*row) for row in zip(x, u[:, 0], strict=True)]
    np.testing.assert_allclose(jacobians, np.concatenate(dynamics.linearize(x, u), axis=2), rtol=1e-11, atol=1e-13)


def test_command_prints_a_table_and_writes_json_and_plot(tmp_path, monkeypatch, capsys):
    case = small(bench.all_cases()["ilqr_ensemble"])
    monkeypatch.setattr(bench, "all_cases", lambda: {"ilqr_ensemble": case})
    files = tmp_path / "rows.json", tmp_path / "rows.png"
    arguments = ["bench", "planners", "--repeats", "1", "--json", str(files[0]), "--plot", str(files[1])]
    assert cli.main([*arguments, "--cases", "ilqr_ensemble"]) == 0
    assert "| ilqr_ensemble | ilqr " in capsys.readouterr().out
    assert json.loads(files[0].read_text())[0]["turns"] == 1
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert cli.main(["bench", "planners", "--cases", "Z"]) == 2
    assert "choose one of: ilqr_ensemble" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["bench", "planners", "--repeats", "0"])


def test_bars_point_the_same_way_and_carry_their_goals(tmp_path):
    row = {"case": "A", "planner": "cem", "peer": "p", "ours_ms": {"median": 10.0}}
    ratios = {"ratio_to_best_peer": 4.0, "ratio_to_floor": 2.0}
    assert [b[1:] for b in bars(row | ratios | {"goal": "ratio_to_floor <= 1.5"})] == [(4.0, None), (0.5, 1 / 1.5)]
    none = {"ratio_to_best_peer": None, "ratio_to_floor": None}
    assert [b[1:] for b in bars(row | none | {"goal": "ours_ms <= 20"})] == [(2.0, 1.0)]
    plot([], tmp_path / "empty.png")


def test_an_unknown_case_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="lqr_backward"):
        bench.lookup(bench.all_cases(), "case", "Q")
