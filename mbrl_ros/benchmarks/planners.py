"""``mbrl_ros bench planners``: our planners beside their peers, in one run on one machine, every figure as a ratio.

Ours and each peer run in processes of their own and are called in turn (`timing.py`); a ratio is the median of the
turns' ratios. Ours has one thread where a row says nothing else. Each peer is timed with one and with two threads, and
its faster setting counts.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.benchmarks.peers import environment
from mbrl_ros.benchmarks.timing import Contestant, Worker, WorkerError, alternate, paired_ratios
from mbrl_ros.errors import MissingDependencyError, lookup
from mbrl_ros.robots import cartpole_equations

WORTHY = 1.01  # a peer that ends at more than this share of our cost has solved another problem
PEERS = Path(__file__).resolve().parent / "peers"
OURS = PEERS / "ours.py"
SAMPLING_PEERS = tuple(("torch", name) for name in ("pytorch-icem", "pytorch-mppi", "mbrl-lib CEM", "mbrl-lib iCEM"))
ENSEMBLE = {"members": 5, "nx": 4, "nu": 1, "x0": [0.01, 0.0, 0.02, 0.0]}
SMALL = ENSEMBLE | {"layers": 2, "width": 64}
CASE_B = SMALL | {"kind": "sampling", "horizon": 25, "samples": 64, "elites": 6, "rounds": 3, "particles": 5}
CASE_A = CASE_B | {"layers": 3, "width": 200, "samples": 400, "elites": 40, "rounds": 5, "particles": 20}
CARTPOLE = {
    "kind": "ilqr_cartpole",
    "horizon": 100,
    "dt": 0.02,
    "integrator": "rk4",
    "x0": [0.0, np.pi, 0.0, 0.0],
    "running_weights": [0.1, 1.0, 0.01, 0.01],
    "terminal_weights": [100.0, 100.0, 10.0, 10.0],
    "control_weight": 0.01,
    "tolerance": 1e-6,
    "constants": {
        "cart_mass": cartpole_equations.CART_MASS,
        "pole_mass": cartpole_equations.POLE_MASS,
        "pole_length": cartpole_equations.POLE_LENGTH,
        "friction": cartpole_equations.CART_FRICTION,
        "gravity": cartpole_equations.GRAVITY,
    },
}


@dataclass(frozen=True)
class Goal:
    """A bound on one figure of a row: at least `bound` where `at_least`, at most otherwise."""

    figure: str
    bound: float
    at_least: bool = False

    def met(self, row: Mapping[str, Any]) -> bool | None:
        """Whether a row meets it; None where the figure was not measured."""
        value = self.value(row)
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound

    def value(self, row: Mapping[str, Any]) -> float | None:
        """The row's figure."""
        return row["ours_ms"]["median"] if self.figure == "ours_ms" else row[self.figure]

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Case:
    """One problem: settings (sent to every worker), our planners, the peers (group, name) and the goal.

    Attributes:
        calls: calls in a block.
        budget: s, past which no new turn begins; a peer that takes a tenth of it for one call gets one call.
        threads: numbers of threads our planners are timed with.
    """

    settings: Mapping[str, Any]
    planners: tuple[str, ...]
    peers: tuple[tuple[str, str], ...]
    goal: Goal
    calls: int
    budget: float
    threads: tuple[int, ...] = (1,)


def linear_quadratic(nx: int = 12, nu: int = 4, horizon: int = 100) -> dict[str, Any]:
    """A random stable LQR problem as JSON."""
    rng = np.random.default_rng(0)
    A, B = np.eye(nx) + 0.1 * rng.standard_normal((nx, nx)) / nx**0.5, 0.1 * rng.standard_normal((nx, nu))
    arrays = {"A": A, "B": B, "Q": np.eye(nx), "R": 0.1 * np.eye(nu), "S": np.zeros((nx, nu)), "terminal": np.eye(nx)}
    return {"kind": "lqr_backward", "horizon": horizon} | {name: a.tolist() for name, a in arrays.items()}


def all_cases() -> dict[str, Case]:
    """Every case by name."""
    sampling = ("cem", "icem", "mppi")
    five, native = Goal("ratio_to_best_peer", 5.0, True), Goal("ratio_to_best_peer", 1.0 / 1.5, True)
    crocoddyl = ("crocoddyl", "crocoddyl DDP"), ("crocoddyl", "crocoddyl FDDP")
    others = ("torch", "mpc.pytorch"), ("", "anassinator/ilqr")
    ilqr = ("ilqr", "ilqr, cost derivatives given")
    twenty = Goal("ratio_to_best_peer", 20.0, True)
    through_ensemble = SMALL | {"kind": "ilqr_ensemble", "horizon": 50, "iterations": 3}
    return {
        "B": Case(CASE_B, sampling, SAMPLING_PEERS, five, 5, 45.0, (1, 2)),
        "R": Case(CASE_B | {"horizon": 15, "rounds": 2}, sampling, SAMPLING_PEERS, five, 5, 30.0, (1, 2)),
        "A": Case(CASE_A, sampling, SAMPLING_PEERS, Goal("ratio_to_floor", 1.5), 1, 60.0),
        "ilqr_cartpole": Case(CARTPOLE, ilqr, crocoddyl, twenty, 2, 20.0),
        "ilqr_cartpole_euler": Case(CARTPOLE | {"integrator": "euler"}, ilqr, (*crocoddyl, *others), twenty, 2, 20.0),
        "lqr_backward": Case(
            linear_quadratic(), ("riccati_kernel", "lqr"), (("crocoddyl", "crocoddyl"),), native, 50, 15.0
        ),
        "ilqr_ensemble": Case(through_ensemble, ("ilqr",), (), Goal("ours_ms", 20.0), 5, 5.0),
    }


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Measure the chosen cases, print the table, write JSON and plot where asked."""
    known = all_cases()
    chosen = {name: lookup(known, "case", name) for name in arguments.cases or known}
    rows = measure(chosen, arguments.repeats, arguments.with_peers)
    print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.plot is not None:
        from mbrl_ros.benchmarks.planners_plot import plot

        plot(rows, arguments.plot)
    return 0


def measure(cases: Mapping[str, Case], repeats: int, with_peers: bool) -> list[dict[str, Any]]:
    """One row for each case, number of threads and planner of ours."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ours = start(stack, sys.executable, OURS, threads=1)
        groups = sorted({g for c in cases.values() for g, _ in c.peers if g}) if with_peers else []
        workers, missing = start_peers(stack, groups)
        for name, case in cases.items():
            print(f"case {name}", file=sys.stderr, flush=True)
            rows += measure_case(name, case, ours, workers if with_peers else None, missing, repeats)
    return rows


def start(stack: ExitStack, python: str | Path, script: Path, threads: int) -> Worker:
    """A worker that ends with the stack."""
    worker = Worker(python, script, threads)
    stack.callback(worker.close)
    return worker


def start_peers(stack: ExitStack, groups: Sequence[str]) -> tuple[dict[str, Worker], dict[str, str]]:
    """Workers by group, and for those that cannot be had the reason."""
    workers, missing = {}, {}
    for name in groups:
        group = environment.GROUPS[name]
        try:
            workers[name] = start(stack, environment.ensure(group), PEERS / group.script, threads=2)
        except MissingDependencyError as error:
            missing[name] = str(error)
    return workers, missing


def measure_case(
    name: str,
    case: Case,
    ours: Worker,
    workers: Mapping[str, Worker] | None,
    missing: Mapping[str, str],
    repeats: int,
) -> list[dict[str, Any]]:
    """Rows of one case; `workers` None leaves the peers out."""
    planners = [
        Contestant(planner, ours, f"{name} {planner} {threads}", threads, case.calls)
        for threads in case.threads
        for planner in case.planners
    ]
    for planner in planners:
        planner.build(case.settings, planner.name)
    settings = dict(case.settings) | {"reference_cost": planners[0].info.get("cost")}
    peers, skipped = ([], {}) if workers is None else build_peers(name, case, settings, workers, missing)
    floor = None
    if case.goal.figure == "ratio_to_floor":
        floor = Contestant("gemm", ours, f"{name} gemm", 1, 5)
        floor.build({"size": 1024}, "gemm")
    alternate([*planners, *peers, *([floor] if floor else [])], repeats, case.budget)
    return [make_row(name, case, planner, peers, skipped, floor) for planner in planners]


def build_peers(
    name: str, case: Case, settings: Mapping[str, Any], workers: Mapping[str, Worker], missing: Mapping[str, str]
) -> tuple[list[Contestant], dict[str, str]]:
    """Every peer with one and two threads, and the reasons of those that are skipped."""
    peers, skipped = [], {}
    for group, peer in case.peers:
        if group not in workers:
            skipped[peer] = environment.NOT_ON_PYPI.get(peer) or missing[group]
            continue
        for threads in (1, 2) if group == "torch" else (1,):
            contestant = Contestant(peer, workers[group], f"{name} {peer} {threads}", threads, case.calls)
            try:
                contestant.build(settings, peer, slow_ms=100.0 * case.budget)
            except WorkerError as error:
                skipped[peer] = str(error)
                break
            peers.append(contestant)
    for peer, reason in skipped.items():
        print(f"case {name}: without {peer}: {reason}", file=sys.stderr, flush=True)
    return peers, skipped


def make_row(
    name: str,
    case: Case,
    ours: Contestant,
    peers: Sequence[Contestant],
    skipped: Mapping[str, str],
    floor: Contestant | None,
) -> dict[str, Any]:
    """The JSON row of one planner.

    ``ratio_to_best_peer`` says how many times faster ours is than the fastest peer, ``ratio_to_floor`` how many times
    slower than the arithmetic alone would be at the rate of a large matrix product on the same thread.
    """
    compared = sorted((compare(ours, peer) for peer in peers), key=lambda c: c["ms"])
    best = next((c for c in compared if as_good(c["info"], ours.info)), None)
    calls = np.concatenate(ours.blocks)
    row: dict[str, Any] = {
        "case": name,
        "planner": ours.name if ours.threads == 1 else f"{ours.name}, {ours.threads} thr",
        "ours_ms": {"median": float(np.median(calls)), "p99": float(np.percentile(calls, 99))},
        "peer": f"{best['peer']}, {best['threads']} thr" if best else None,
        "peer_ms": best["ms"] if best else None,
        "ratio_to_best_peer": best["ratio"] if best else None,
        "ratio_to_floor": floor_ratio(case.settings, ours, floor) if floor else None,
        "goal": str(case.goal),
        "threads": ours.threads,
        "turns": len(ours.blocks),
        "info": ours.info,
        "peers": compared,
        "skipped": dict(skipped),
    }
    return row | {"goal_met": case.goal.met(row)}


def compare(ours: Contestant, peer: Contestant) -> dict[str, Any]:
    """One peer against ours; the spread is that of the turns."""
    ratios = paired_ratios(peer, ours)
    return {
        "peer": peer.name,
        "threads": peer.threads,
        "ms": peer.median,
        "ratio": float(np.median(ratios)),
        "ratio_spread": [float(ratios.min()), float(ratios.max())],
        "info": peer.info,
    }


def as_good(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a peer's solution is worth being compared with, where solutions have a cost."""
    return "cost" not in theirs or theirs["cost"] <= WORTHY * ours["cost"]


def floor_ratio(settings: Mapping[str, Any], ours: Contestant, floor: Contestant) -> float:
    """Our time over that of a decision's multiply-adds at the rate that `floor` reached in the same turns."""
    share = decision_flops(settings) / floor.info["flops"]
    return float(np.median(paired_ratios(ours, floor))) / share


def decision_flops(s: Mapping[str, Any]) -> float:
    """Operations of all networks in one decision, a multiply-add counted as two."""
    row = (s["nx"] + s["nu"]) * s["width"] + (s["layers"] - 1) * s["width"] ** 2 + s["width"] * 2 * s["nx"]
    return 2.0 * row * s["samples"] * s["particles"] * s["horizon"] * s["rounds"]


COLUMNS = ("case", "planner", "ours ms", "p99", "best peer", "peer ms", "times faster", "x floor", "goal", "met")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, then what was skipped and why."""
    lines = [COLUMNS, tuple("-" * len(c) for c in COLUMNS), *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    padded = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    skipped = {f"{peer}: {why}" for row in rows for peer, why in row["skipped"].items()}
    return "\n".join([*padded, *sorted(f"skipped {line}" for line in skipped)])


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row as text."""
    met = {True: "yes", False: "no", None: "-"}[row["goal_met"]]
    ours = row["ours_ms"]
    numbers = (number(ours["median"]), number(ours["p99"]))
    ratios = (number(row["ratio_to_best_peer"]), number(row["ratio_to_floor"]))
    return row["case"], row["planner"], *numbers, row["peer"] or "-", number(row["peer_ms"]), *ratios, row["goal"], met


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
