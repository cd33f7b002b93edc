"""Times our own planners, behind the same protocol as the peers, and the rate of the matrix products they rest on."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from serve import Build, Run, serve

from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.planners.cem import CEM, CEMConfig
from mbrl_ros.planners.ilqr import ILQR
from mbrl_ros.planners.ilqr_solver import ILQRConfig
from mbrl_ros.planners.lqr import solve
from mbrl_ros.planners.mppi import MPPI, MPPIConfig
from mbrl_ros.planners.riccati_kernel import backward
from mbrl_ros.robots.cartpole_equations import derivative

Result = tuple[Run, dict[str, Any]]


def quadratic_task(running: np.ndarray, control: np.ndarray, terminal: np.ndarray) -> SimpleNamespace:
    """Cost ``running . x^2 + control . u^2`` a period and ``terminal . x^2`` at the end."""
    return SimpleNamespace(
        running_cost=lambda x, u: (x * x) @ running + (u * u) @ control,
        terminal_cost=lambda x: (x * x) @ terminal,
    )


def ensemble(r: dict[str, Any]) -> ProbabilisticEnsemble:
    """An ensemble of the request's size with random weights; every state entry is learned, none is an angle."""
    rng = np.random.default_rng(0)
    nx, nu, members, width = r["nx"], r["nu"], r["members"], r["width"]
    layout = StateLayout(tuple(f"x{i}" for i in range(nx)), tuple(f"u{i}" for i in range(nu)), (), {}, dt=0.05)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / (2.0 * shape[-2] ** 0.5)).astype(np.float32)

    def full(value: float, *shape: int) -> np.ndarray:
        return np.full(shape, value, np.float32)

    further, n = r["layers"] - 1, nx + nu
    arrays = {
        "w_in": weights(members, n, width), "b_in": full(0, members, width),
        "w_hidden": weights(members, further, width, width), "b_hidden": full(0, members, further, width),
        "w_out": weights(members, width, 2 * nx), "b_out": full(0, members, 2 * nx),
        "feature_mean": full(0, n), "feature_std": full(1, n), "target_mean": full(0, nx), "target_std": full(1, nx),
        "log_var_low": full(-10, nx), "log_var_high": full(0.5, nx),
    }  # fmt: skip
    return ProbabilisticEnsemble(layout, arrays)


def sampling(r: dict[str, Any]) -> Result:
    """CEM, iCEM or MPPI through an ensemble with its noise; population and sizes as the peers'."""
    nx, nu = r["nx"], r["nu"]
    task = quadratic_task(np.ones(nx), 0.01 * np.ones(nu), np.zeros(nx))
    limits = -np.ones(nu), np.ones(nu)
    problem = Problem(
        ensemble(r).with_threads(r["threads"]), task, *limits, r["horizon"], r["particles"], sample_noise=True
    )
    sizes = {"samples": r["samples"], "rounds": r["rounds"]}
    kept = round(0.3 * r["elites"])  # part of the population, as in pytorch-icem
    icem = CEMConfig(
        samples=r["samples"] - kept, rounds=r["rounds"], elites=r["elites"], decay=1.0, smoothing=0.1, add_mean=False,
        refine=0,
    )  # fmt: skip
    plain = CEMConfig(
        **sizes, elites=r["elites"], decay=1.0, smoothing=0.1, noise_exponent=0.0, keep_elites=0.0,
        shift_elites=False, add_mean=False, best_first=False, refine=0,
    )  # fmt: skip
    planners: dict[str, Any] = {"cem": CEM(plain), "icem": CEM(icem), "mppi": MPPI(MPPIConfig(**sizes))}
    planner = planners[r["contestant"]]
    rng, x0 = np.random.default_rng(0), np.array(r["x0"])
    memory = [planner.initial_state(problem)]

    def run() -> None:
        _, memory[0] = planner.plan(problem, x0, memory[0], rng, Deadline())

    return run, {}


def ilqr_cartpole(r: dict[str, Any]) -> Result:
    """A cold solve to convergence, the user's `derivative` in plain Python; compiling it is timed apart."""
    weights = [0.5 * np.array(r[name]) for name in ("running_weights", "terminal_weights")]
    control = np.array([0.5 * r["control_weight"]])
    task = quadratic_task(weights[0], control, weights[1])
    if r["contestant"] == "ilqr, cost derivatives given":
        add_expansions(task, weights[0], control, weights[1])
    free = np.full(1, 1e6)
    start = time.perf_counter()
    dynamics = AnalyticDynamics(derivative, 4, 1, r["dt"], r["integrator"])
    problem = Problem(dynamics, task, -free, free, r["horizon"])
    planner = ILQR(ILQRConfig(iterations=500, tolerance=r["tolerance"]))
    x0, guess = np.array(r["x0"]), np.zeros((r["horizon"], 1))
    report = planner.solve(problem, x0, guess).report
    first = time.perf_counter() - start
    info = {"cost": report.costs[-1], "iterations": report.iterations, "status": report.status, "compile_s": first}
    return lambda: planner.solve(problem, x0, guess), info


def add_expansions(task: SimpleNamespace, running: np.ndarray, control: np.ndarray, terminal: np.ndarray) -> None:
    """The closed forms a task may bring, see `planners/cost_expansion.py`."""
    weights = 2.0 * np.concatenate([running, control])
    task.running_expansion = lambda x, u: (
        np.concatenate([x, u], axis=1) * weights,
        np.broadcast_to(np.diag(weights), (len(x), len(weights), len(weights))),
    )
    task.terminal_expansion = lambda x: (2.0 * terminal * x, np.diag(2.0 * terminal))


def ilqr_ensemble(r: dict[str, Any]) -> Result:
    """A fixed number of iLQR iterations through an ensemble's mean, from small random actions."""
    nx, nu, horizon = r["nx"], r["nu"], r["horizon"]
    task = quadratic_task(np.ones(nx), 0.01 * np.ones(nu), np.ones(nx))
    problem = Problem(ensemble(r), task, -np.ones(nu), np.ones(nu), horizon)
    planner = ILQR(ILQRConfig(iterations=r["iterations"], tolerance=0.0))
    x0, guess = np.array(r["x0"]), 0.1 * np.random.default_rng(0).standard_normal((horizon, nu))
    report = planner.solve(problem, x0, guess).report
    info = {"iterations": report.iterations, "status": report.status, "steps": list(report.step_lengths)}
    return lambda: planner.solve(problem, x0, guess), info


def lqr_backward(r: dict[str, Any]) -> Result:
    """One backward pass: iLQR's compiled one, or the LQR planner's."""
    A, B, Q, R, S, terminal = (np.array(r[name]) for name in ("A", "B", "Q", "R", "S", "terminal"))
    (nx, nu), horizon = B.shape, r["horizon"]
    F = np.tile(np.hstack([A, B]), (horizon, 1, 1))
    C = np.tile(np.block([[Q, S], [S.T, R]]), (horizon, 1, 1))
    c, zero = np.zeros((horizon, nx + nu)), np.zeros(nx)
    if r["contestant"] == "lqr":
        f = np.zeros((horizon, nx))
        K = solve(F, f, C, c, (terminal, zero)).K
        return lambda: solve(F, f, C, c, (terminal, zero)), {"gain": float(np.linalg.norm(K[0]))}
    k, K = np.zeros((horizon, nu)), np.zeros((horizon, nu, nx))
    free = np.full(nu, np.inf)
    fzz, actions = np.empty((horizon, 0, nx + nu, nx + nu)), np.zeros((horizon, nu))

    def run() -> None:
        backward(F, c, C, fzz, (zero, terminal), actions, (-free, free), 0.0, k, K)

    run()
    return run, {"gain": float(np.linalg.norm(K[0]))}


def gemm(r: dict[str, Any]) -> Result:
    """Float32 product of two square matrices, the fastest arithmetic there is here."""
    n = r["size"]
    a, b, out = np.ones((n, n), np.float32), np.ones((n, n), np.float32), np.empty((n, n), np.float32)
    return lambda: np.dot(a, b, out=out), {"flops": 2.0 * n**3}


KINDS: dict[str, Callable[[dict[str, Any]], Result]] = {
    "sampling": sampling,
    "ilqr_cartpole": ilqr_cartpole,
    "ilqr_ensemble": ilqr_ensemble,
    "lqr_backward": lqr_backward,
}


def build(request: dict[str, Any]) -> Result:
    """The contestant of a request: its kind of case, or the matrix product."""
    chosen: Build = gemm if request["contestant"] == "gemm" else KINDS[request["kind"]]
    return chosen(request)


if __name__ == "__main__":
    serve(build)
