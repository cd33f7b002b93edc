"""Cross-entropy method, plain and with the improvements of iCEM (Pinneri et al. 2020, arXiv 2008.06389)."""

from dataclasses import dataclass, replace

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.ilqr_step import improvements
from mbrl_ros.planners.noise import coloured_noise
from mbrl_ros.planners.rollout import evaluate, reachable


@dataclass(frozen=True)
class CEMConfig:
    """Settings of CEM. Defaults: iCEM. The plain method: noise_exponent 0, refine 0, `keep_`, `add_`, `best_` off."""

    samples: int = option(128, "candidates in the first round", low=2, high=100_000, dynamic=True)
    rounds: int = option(4, "rounds of sampling and refitting", low=1, high=1000, dynamic=True)
    elites: int = option(10, "best candidates the distribution is refitted to", low=1, high=10_000, dynamic=True)
    initial_std: float = option(
        0.3, "initial spread as a share of half the control range", low=1e-6, high=10.0, dynamic=True
    )
    smoothing: float = option(
        0.3, "share of the old mean and spread kept at a refit", low=0.0, high=0.999, dynamic=True
    )
    noise_exponent: float = option(2.0, "exponent of the coloured noise, 0 white", low=0.0, high=10.0, dynamic=True)
    decay: float = option(1.25, "factor by which the population shrinks each round", low=1.0, high=10.0, dynamic=True)
    keep_elites: float = option(1.0, "share of the elites kept for the next round", low=0.0, high=1.0, dynamic=True)
    shift_elites: bool = option(True, "carry the kept elites, shifted, to the next tick", dynamic=True)
    add_mean: bool = option(True, "try the mean as a candidate in the last round", dynamic=True)
    best_first: bool = option(True, "return the best candidate instead of the mean", dynamic=True)
    refine: int = option(
        1, "iterations of iLQR on what is returned, where dynamics and cost have derivatives", low=0, high=100
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class CEMState:
    """What CEM remembers between ticks: mean (H, nu) and kept elites (K, H, nu), already shifted."""

    mean: np.ndarray
    elites: np.ndarray


def shift(actions: np.ndarray, periods: int = 1) -> np.ndarray:
    """Drop the first `periods` actions of (..., H, nu) and repeat the last one as often."""
    ahead = np.minimum(np.arange(actions.shape[-2]) + periods, actions.shape[-2] - 1)
    return actions[..., ahead, :]


class CEM:
    """Samples candidates, refits a Gaussian to the cheapest, again and again."""

    config_class = CEMConfig

    def __init__(self, config: CEMConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> CEMState:
        """Mean in the middle of the limits; the guess, where there is one, as the only elite."""
        shape = (problem.horizon, problem.dynamics.nu)
        middle = np.broadcast_to(0.5 * (problem.u_min + problem.u_max), shape)
        return CEMState(middle.copy(), np.empty((0, *shape)) if guess is None else guess[None])

    def plan(
        self, problem: Problem, x0: np.ndarray, state: CEMState, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, CEMState]:
        """See `Planner.plan`; rounds that the deadline does not allow are left out."""
        cfg = self.config
        mean, kept = state.mean, state.elites
        std = np.broadcast_to(0.5 * cfg.initial_std * (problem.u_max - problem.u_min), mean.shape)
        best, best_cost, rounds = np.clip(mean, problem.u_min, problem.u_max), np.inf, 0
        while rounds < cfg.rounds and deadline.allows_round():
            candidates = self._candidates(problem, mean, std, kept, done=rounds, rng=rng)
            costs = evaluate(problem, x0, candidates, rng)
            order = np.argsort(costs, kind="stable")[: cfg.elites]
            elites = candidates[order[np.isfinite(costs[order])]]
            rounds += 1
            if len(elites) == 0:
                continue
            # Sampled costs of two rounds are not comparable: each round has its own luck.
            if costs[order[0]] < best_cost or problem.sample_noise:
                best, best_cost = elites[0], float(costs[order[0]])
            mean = cfg.smoothing * mean + (1 - cfg.smoothing) * elites.mean(axis=0)
            std = cfg.smoothing * std + (1 - cfg.smoothing) * elites.std(axis=0)
            kept = elites[: round(cfg.keep_elites * len(elites))]
        actions = best if cfg.best_first else np.clip(mean, problem.u_min, problem.u_max)
        plan = self._refined(
            problem, x0, Plan(actions, best_cost, rounds, complete=rounds == cfg.rounds), rng=rng, deadline=deadline
        )
        kept = np.concatenate([plan.actions[None], kept])[: len(kept)] if cfg.refine else kept
        next_state = CEMState(
            shift(mean, problem.replan_every), shift(kept, problem.replan_every) if cfg.shift_elites else kept[:0]
        )
        return plan, next_state

    def _refined(
        self, problem: Problem, x0: np.ndarray, plan: Plan, *, rng: np.random.Generator, deadline: Deadline
    ) -> Plan:
        """The plan after `refine` iterations of iLQR, each only where it makes the plan cheaper under the same luck."""
        for _ in range(self.config.refine):
            if not deadline.allows_round():
                return replace(plan, complete=False)
            better = improvements(problem, x0, reachable(problem, plan.actions))
            if len(better) == 0:
                return plan
            tried = np.concatenate([plan.actions[None], better])
            costs = evaluate(problem, x0, tried, rng)
            cheapest = int(np.argmin(costs))
            plan = replace(plan, actions=tried[cheapest], cost=float(costs[cheapest]))
        return plan

    def _candidates(
        self,
        problem: Problem,
        mean: np.ndarray,
        std: np.ndarray,
        kept: np.ndarray,
        *,
        done: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Candidates of the round after `done` rounds, within the limits: (N, H, nu)."""
        cfg = self.config
        count = max(int(cfg.samples / cfg.decay**done), 2 * cfg.elites)
        noise = coloured_noise(rng, cfg.noise_exponent, count, problem.horizon, problem.dynamics.nu)
        last = done == cfg.rounds - 1
        extra = [kept, mean[None]] if cfg.add_mean and last else [kept]
        return np.clip(np.concatenate([mean + std * noise, *extra]), problem.u_min, problem.u_max)
