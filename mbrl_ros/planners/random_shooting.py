"""Random shooting: try random action sequences, take the cheapest (Rao 2009; CS285, model-based RL)."""

from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.cem import shift
from mbrl_ros.planners.noise import coloured_noise
from mbrl_ros.planners.rollout import evaluate


@dataclass(frozen=True)
class RandomShootingConfig:
    """Settings of random shooting."""

    samples: int = option(512, "candidates a tick", low=1, high=1_000_000, dynamic=True)
    batches: int = option(
        4, "batches they are tried in, between which the deadline is looked at", low=1, high=1000, dynamic=True
    )
    std: float = option(0.7, "spread as a share of half the control range", low=1e-6, high=10.0, dynamic=True)
    noise_exponent: float = option(2.0, "exponent of the coloured noise, 0 white", low=0.0, high=10.0, dynamic=True)

    def __post_init__(self) -> None:
        validate(self)


class RandomShooting:
    """The cheapest of many random sequences; the last tick's winner is tried again, shifted."""

    config_class = RandomShootingConfig

    def __init__(self, config: RandomShootingConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> np.ndarray:
        """The sequence to try again (H, nu): the guess, or the middle of the limits."""
        if guess is not None:
            return guess
        middle = 0.5 * (problem.u_min + problem.u_max)
        return np.broadcast_to(middle, (problem.horizon, problem.dynamics.nu)).copy()

    def plan(
        self, problem: Problem, x0: np.ndarray, state: np.ndarray, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, np.ndarray]:
        """See `Planner.plan`."""
        cfg = self.config
        middle, half = 0.5 * (problem.u_min + problem.u_max), 0.5 * (problem.u_max - problem.u_min)
        best, best_cost, batches = state, np.inf, 0
        while batches < cfg.batches and deadline.allows_round():
            count = -(-cfg.samples // cfg.batches)
            noise = coloured_noise(rng, cfg.noise_exponent, count, problem.horizon, problem.dynamics.nu)
            candidates = np.clip(middle + cfg.std * half * noise, problem.u_min, problem.u_max)
            candidates[0] = best
            costs = evaluate(problem, x0, candidates, rng)
            batches += 1
            if np.min(costs) < best_cost:
                best, best_cost = candidates[np.argmin(costs)], float(np.min(costs))
        return Plan(best, best_cost, batches, complete=batches == cfg.batches), shift(best, problem.replan_every)
