"""A run folder as a run would leave it: closed-form cart-pole, small ensembles with random weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.reporting.run_folder import (
    TrialArrays,
    create_run_folder,
    model_path,
    note_fit,
    save_trial,
    write_atomically,
)
from mbrl_ros.reporting.summary import RunSummary, TrialResult, planning_percentiles, score_trial, write_summary
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig

ROBOT = load_robot("cartpole")
TASK = CartpoleSwingup(CartpoleSwingupConfig())


def random_ensemble(layout: StateLayout, seed: int, members: int = 3, width: int = 8) -> ProbabilisticEnsemble:
    """An ensemble that predicts something, in the form that training gives."""
    rng = np.random.default_rng(seed)
    n, ny = layout.n_features, len(layout.learned)
    shapes = {"w_in": (members, n, width), "b_in": (members, width), "w_hidden": (members, 1, width, width)}
    shapes |= {"b_hidden": (members, 1, width), "w_out": (members, width, 2 * ny), "b_out": (members, 2 * ny)}
    arrays = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays |= {"feature_mean": np.zeros(n), "feature_std": np.ones(n), "target_mean": np.zeros(ny)}
    arrays |= {"target_std": 0.1 * np.ones(ny), "log_var_low": -9.0 * np.ones(ny), "log_var_high": 0.5 * np.ones(ny)}
    return ProbabilisticEnsemble(layout, {name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()})


def simulate(index: int, steps: int = 60) -> TrialArrays:
    """One trial of random forces with its last observation; trials after the first use the models `index`, then + 1."""
    rng = np.random.default_rng(index)
    u = rng.uniform(-4.0, 4.0, size=(steps + 1, 1))
    x = np.empty((steps + 1, 4))
    x[0] = *ROBOT.start_position, 0.0, 0.0
    for t in range(steps):
        x[t + 1] = x[t]
        for _ in range(50):
            x[t + 1] += ROBOT.dt / 50 * np.array(derivative(x[t + 1], u[t]))
    u[-1] = np.nan
    version = np.where(np.arange(steps + 1) < steps // 2, index, index + 1) if index else np.zeros(steps + 1, int)
    planning = 0.01 + 0.002 * rng.random(steps + 1) if index else np.full(steps + 1, np.nan)
    planning[-1] = np.nan
    cost = np.append(TASK.running_cost(x[:-1], u[:-1]), np.nan)
    return TrialArrays(1e9 + ROBOT.dt * np.arange(steps + 1), x, u, cost, planning, version, np.zeros(steps + 1, bool))


def result_of(index: int, arrays: TrialArrays, **changes) -> TrialResult:
    """The trial's score, and figures of the size that a run has."""
    cost, on_target, solved = score_trial(TASK, arrays.x, arrays.u, ROBOT.dt, ROBOT.trial_duration)
    values = {"index": index, "policy": "mpc" if index else "base", "steps": len(arrays) - 1, "cost": cost}
    values |= {"duration_s": ROBOT.dt * (len(arrays) - 1), "experience_before_s": 3.0 * index, "solved": solved}
    values |= {"time_on_target_s": on_target, "model_version": int(arrays.model_version[-1]), "refits": 1}
    values |= {"planning_time_ms": planning_percentiles(arrays.planning_time), "flags": {"ok": 59, "limited": 1}}
    if index:
        values |= {"one_step_error": 0.1 / index, "multi_step_error": 1.0 / index}
    return TrialResult(**values | changes)


def summarise(*trials: TrialResult, **changes) -> RunSummary:
    """A run of these trials."""
    values = {"robot": "cartpole", "task": "cartpole_swingup", "planner": "cem", "model": "probabilistic_ensemble"}
    values |= {"seed": 3, "lockstep": True, "versions": {"python": "3.11", "ros": ""}, "wall_time_s": 12.5}
    values |= {"started": "2026-01-02T03:04:05+00:00", "control_rate": 20.0, "ended": "trials used up"}
    return RunSummary(**values | {"command": "mbrl_ros sim --seed 3", "trials": trials} | changes)


def with_plans(arrays: TrialArrays, horizon: int = 10) -> TrialArrays:
    """The trial with what newer runs record: the guard's flags, how sure the model was, and plans that come true.

    A plan's actions are those that were applied and its states those that followed, but for an offset of 0.5 in the
    cart's position. Tick 5 was limited, ticks 6 and 7 ran into the deadline, of which 6 was cut short.
    """
    ticks, number = len(arrays), np.arange(len(arrays), dtype=float)
    plan_x, plan_u = (
        np.full((ticks, horizon + 1, 4), np.nan, np.float32),
        np.full((ticks, horizon, 1), np.nan, np.float32),
    )
    for t in range(ticks - 1):
        rest = min(horizon, ticks - 1 - t)
        plan_x[t, : rest + 1], plan_u[t, :rest] = arrays.x[t : t + rest + 1], arrays.u[t : t + rest]
        plan_x[t, 1:, 0] += 0.5
    flags = np.array(["ok"] * (ticks - 1) + [""], dtype="<U8")
    flags[5] = "limited"
    doubts = {"spread": 0.1 + 0.01 * number, "entropy": -2.0 + 0.1 * number, "disagreement": 0.02 * number}
    doubts |= {"aleatoric_std": np.full(ticks, 0.05), "epistemic_std": 0.2 / (1.0 + number)}
    missed = (number == 6) | (number == 7)
    more = {"deadline_missed": missed, "cut_short": number == 6, "flag": flags, "plan_x": plan_x, "plan_u": plan_u}
    return replace(arrays, **doubts, **more)


def build_run(folder: Path, trials: int = 3, plans: bool = True, **changes) -> RunSummary:
    """Write a run folder; without plans one as it was before they were recorded."""
    create_run_folder(folder)
    results = []
    for index in range(trials):
        arrays = with_plans(simulate(index)) if plans and index else simulate(index)
        save_trial(folder, index, arrays)
        results.append(result_of(index, arrays))
    for version in range(1, trials + 1):
        data = to_bytes(random_ensemble(ROBOT.layout, version), version, 60 * version, ROBOT.name)
        write_atomically(model_path(folder, version), data)
        if plans:
            note_fit(folder, version, 60 * version, 0.25 * version)
    (folder / "parameters.yaml").write_text("mpc_controller:\n  ros__parameters:\n    horizon: 25\n")
    summary = summarise(*results, **changes)
    write_summary(summary, folder)
    return summary


@pytest.fixture
def runs():
    """The builders above, for tests that want a part."""

    class Runs:
        robot = ROBOT
        build = staticmethod(build_run)
        simulate = staticmethod(simulate)
        with_plans = staticmethod(with_plans)
        result_of = staticmethod(result_of)
        summarise = staticmethod(summarise)
        random_ensemble = staticmethod(random_ensemble)

    return Runs
