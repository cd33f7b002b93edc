"""``mbrl_ros bench closed_loop``: how well each planner, and each option of CEM, drives the known cart-pole.

Every case plans at every tick of a 4 s swing-up through the true equations, from hanging, without a deadline, so that
only the planning counts. Beside it stands what a decision takes through a learned ensemble of the default size.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.planners import PLANNERS, planner_class
from mbrl_ros.planners.base import Deadline, Problem
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig

HORIZON = 16  # periods, the default of the main job
PERIODS = 80
TIMED = 30  # decisions that are timed through the ensemble
SCARCE: dict[str, Any] = {
    "samples": 32,
    "rounds": 3,
    "elites": 6,
}  # few candidates: where the improvements of iCEM matter
PLAIN: dict[str, Any] = {
    "noise_exponent": 0.0,
    "keep_elites": 0.0,
    "shift_elites": False,
    "add_mean": False,
    "best_first": False,
    "refine": 0,
}
ICEM_OPTIONS: dict[str, dict[str, Any]] = {  # what is switched off, one at a time
    "noise_exponent 0": {"noise_exponent": 0.0},
    "keep_elites 0": {"keep_elites": 0.0},
    "shift_elites off": {"shift_elites": False},
    "add_mean off": {"add_mean": False},
    "best_first off": {"best_first": False},
    "refine 0": {"refine": 0},
    "decay 1, as many samples": {"decay": 1.0, "samples": 26},  # 32 + 25 + 20 candidates are 3 x 26
    "plain CEM, as many samples": PLAIN | {"decay": 1.0, "samples": 26},
}


@dataclass(frozen=True)
class Case:
    """One planner with some settings."""

    group: str
    planner: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    """Every planner that can swing up at its defaults, then CEM with scarce samples, option by option."""
    for name in sorted(set(PLANNERS) - {"lqr"}):  # a regulator does not swing up
        yield Case("planners", name, "defaults")
    yield Case("cem options", "cem", "all on", SCARCE)
    for name, off in ICEM_OPTIONS.items():
        yield Case("cem options", "cem", name, SCARCE | off)


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Run every case and seed, print a row each and write the rows as JSON where asked."""
    rows = []
    print(f"| {'case':<32} | mean cost | held | ms over the ensemble | cost of each seed |")
    print(f"|{'-' * 34}|---:|---:|---:|---|")
    for case in cases():
        rows.append(run_case(case, arguments.seeds))
        print(format_row(rows[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def run_case(case: Case, seeds: int) -> dict[str, Any]:
    """The row of one case: cost and share of the last second held upright of every seed, time of a decision."""
    cls = planner_class(case.planner)
    planner = cls(cls.config_class(**case.settings))
    results = [swing_up(planner, seed) for seed in range(seeds)]
    return {
        "group": case.group,
        "planner": case.planner,
        "case": case.name,
        "settings": case.settings,
        "costs": [round(cost, 2) for cost, _ in results],
        "mean_cost": round(float(np.mean([cost for cost, _ in results])), 2),
        "held": [round(held, 2) for _, held in results],
        "ensemble_ms": round(decision_ms(planner), 2),
    }


def format_row(row: dict[str, Any]) -> str:
    """One row of the table."""
    name = f"{row['planner']}, {row['case']}"
    held = f"{sum(h == 1.0 for h in row['held'])} of {len(row['held'])}"
    costs = " ".join(f"{cost:.1f}" for cost in row["costs"])
    return f"| {name:<32} | {row['mean_cost']:.1f} | {held} | {row['ensemble_ms']:.1f} | {costs} |"


def problem() -> Problem:
    """Swing-up of the known cart-pole."""
    robot = load_robot("cartpole")
    dynamics = AnalyticDynamics(derivative, 4, 1, robot.dt)
    task = CartpoleSwingup(CartpoleSwingupConfig())
    return Problem(dynamics, task, -robot.u_max, robot.u_max, HORIZON)


def swing_up(planner: Any, seed: int) -> tuple[float, float]:
    """Sum of the running cost over a swing-up in closed loop, and share of the last second on target."""
    setting = problem()
    x, state = np.array([*load_robot("cartpole").start_position, 0.0, 0.0]), planner.initial_state(setting)
    states, actions = [], []
    for tick in range(PERIODS):
        plan, state = planner.plan(setting, x, state, np.random.default_rng([seed, tick]), Deadline())
        states.append(x)
        actions.append(plan.actions[0])
        x = setting.dynamics.step(x[None], plan.actions[:1])[0]  # type: ignore[attr-defined]
    task = CartpoleSwingup(CartpoleSwingupConfig())
    cost = task.running_cost(np.array(states), np.array(actions)).sum()
    return float(cost), float(task.on_target(np.array(states[-20:])).mean())


def decision_ms(planner: Any) -> float:
    """Median time in ms of a decision through an ensemble of the default size with 5 particles."""
    model = ProbabilisticEnsemble.example(load_robot("cartpole").layout, EnsembleConfig(), np.random.default_rng(0))
    setting = replace(problem(), dynamics=model, particles=5)
    state, times = planner.initial_state(setting), []
    for tick in range(TIMED + 2):
        begin = time.perf_counter()
        _, state = planner.plan(setting, np.zeros(4), state, np.random.default_rng(tick), Deadline())
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times[2:]))
