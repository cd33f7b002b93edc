"""Can this machine hold the control rate with this planner? Measured before the robot moves."""

import time
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Planner, Problem

EFFORT = ("samples", "simulations", "iterations")  # the setting of a planner's work, whichever it has
REPEATS = 5
SHRINK = 0.75  # factor from one offer to the next


@dataclass(frozen=True)
class RateCheck:
    """Outcome of the check.

    Attributes:
        seconds: median planning time with the given settings.
        budget: time there is, s.
        setting: name of the setting that was reduced, empty where none was.
        offer: its largest tried value that holds the rate, None where none does or none is needed.
        offer_seconds: median planning time with the offer.
    """

    seconds: float
    budget: float
    setting: str = ""
    offer: int | None = None
    offer_seconds: float = float("nan")

    @property
    def holds(self) -> bool:
        """Whether the given settings hold the rate."""
        return self.seconds <= self.budget

    def message(self, planner: str) -> str:
        """What to tell the user; empty where the rate holds."""
        if self.holds:
            return ""
        said = f"planner {planner} takes {1e3 * self.seconds:.0f} ms of the {1e3 * self.budget:.0f} ms it has here"
        if self.offer is None:
            return f"{said}; no smaller setting of its own holds the rate: try a shorter horizon"
        offer = f"{planner}.{self.setting}: {self.offer} ({1e3 * self.offer_seconds:.0f} ms)"
        return f"{said}; the nearest setting that holds the rate is {offer}"


def check_rate(planner_class: Any, config: Any, problem: Problem, budget: float) -> RateCheck:
    """Time the planner; where it is too slow, look for a setting that is not.

    Args:
        planner_class: class of the planner.
        config: its configuration.
        problem: the control problem, over an `example` of the model that will be learned.
        budget: time a plan may take, s.
    """
    seconds = planning_time(planner_class(config), problem)
    setting = next((f.name for f in fields(config) if f.name in EFFORT), "")
    if seconds <= budget or not setting:
        return RateCheck(seconds, budget)
    value = getattr(config, setting)
    while (value := int(SHRINK * value)) >= 1:
        try:
            offered = planning_time(planner_class(replace(config, **{setting: value})), problem)
        except ConfigError:
            break
        if offered <= budget:
            return RateCheck(seconds, budget, setting, value, offered)
    return RateCheck(seconds, budget, setting)


def planning_time(planner: Planner, problem: Problem) -> float:
    """Median time in s of a plan without a deadline, warm-started; the first, which compiles, is left out."""
    rng = np.random.default_rng(0)
    x0, state = np.zeros(problem.dynamics.nx), planner.initial_state(problem)
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        _, state = planner.plan(problem, x0, state, rng, Deadline())
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))
