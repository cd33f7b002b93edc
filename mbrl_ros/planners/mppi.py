"""Model predictive path integral control (Williams et al. 2017, ICRA; 2018, T-RO 34(6), "information-theoretic MPC").

The mean of the control sequence moves to the average of noisy candidates, weighted by ``exp(-cost / temperature)``.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.cem import shift
from mbrl_ros.planners.noise import coloured_noise
from mbrl_ros.planners.rollout import evaluate


@dataclass(frozen=True)
class MPPIConfig:
    """Settings of MPPI; the plain method is one round with noise_exponent 0."""

    samples: int = option(128, "candidates in a round", low=2, high=100_000, dynamic=True)
    rounds: int = option(4, "rounds of sampling and averaging", low=1, high=1000, dynamic=True)
    temperature: float = option(
        0.1,
        "lambda, in units of cost: small follows the best candidate, large averages all",
        low=1e-9,
        high=1e9,
        dynamic=True,
    )
    sigma: tuple[float, ...] = option(
        (0.5,), "spread of each action as a share of half its range; one number serves all", low=1e-6, high=10.0
    )
    sigma_decay: float = option(
        0.5,
        "factor by which the spread shrinks each round (DIAL-MPC, Xue et al. 2024); 1 plain",
        low=0.01,
        high=1.0,
        dynamic=True,
    )
    control_cost: float = option(
        0.0,
        "gamma, weight of u' Sigma^-1 eps, the price of departing from zero control; lambda for the full one",
        low=0.0,
        high=1e9,
        dynamic=True,
    )
    rate_cost: float = option(
        0.0,
        "weight of the squared change of the controls from one period to the next, in shares of half the range",
        low=0.0,
        high=1e9,
        dynamic=True,
    )
    noise_exponent: float = option(1.0, "exponent of the coloured noise, 0 white", low=0.0, high=10.0, dynamic=True)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class MPPIState:
    """What MPPI remembers between ticks: the mean (H, nu), already shifted, and the last action (nu,) if any."""

    mean: np.ndarray
    last: np.ndarray | None = None


def path_integral_weights(costs: np.ndarray, temperature: float) -> np.ndarray:
    """Normalised weights ``exp(-(S - min S) / lambda)`` (Williams et al. 2018, algorithm 2): costs (N,) -> (N,).

    Candidates whose cost is not finite get zero; so do all if none is finite.
    """
    finite = np.isfinite(costs)
    weights = np.zeros(costs.shape)
    if finite.any():
        weights[finite] = np.exp(-(costs[finite] - costs[finite].min()) / temperature)
        weights /= weights.sum()
    return weights


class MPPI:
    """Samples around the mean and moves it to the cost-weighted average, again and again.

    Candidates are clipped to the limits first and the noise is what is left of it, so the mean stays within
    them. The first candidate of a round is the mean itself. For coloured noise Sigma is the covariance of a
    single period.
    """

    config_class = MPPIConfig

    def __init__(self, config: MPPIConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> MPPIState:
        """Mean in the middle of the limits."""
        middle = 0.5 * (problem.u_min + problem.u_max)
        return MPPIState(np.broadcast_to(middle, (problem.horizon, problem.dynamics.nu)).copy())

    def plan(
        self, problem: Problem, x0: np.ndarray, state: MPPIState, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, MPPIState]:
        """See `Planner.plan`; rounds that the deadline does not allow are left out.

        Raises:
            ConfigError: `sigma` has neither one entry nor one for each action.
        """
        cfg = self.config
        if len(cfg.sigma) not in (1, problem.dynamics.nu):
            raise ConfigError(f"sigma: {cfg.sigma} has {len(cfg.sigma)} entries; expected 1 or {problem.dynamics.nu}")
        sigma = 0.5 * (problem.u_max - problem.u_min) * np.array(cfg.sigma)  # (nu,)
        mean, rounds = np.clip(state.mean, problem.u_min, problem.u_max), 0
        while rounds < cfg.rounds and deadline.allows_round():
            mean = self._round(problem, x0, MPPIState(mean, state.last), sigma * cfg.sigma_decay**rounds, rng)
            rounds += 1
        cost = float(evaluate(problem, x0, mean[None], rng)[0])
        last = mean[min(problem.replan_every, problem.horizon) - 1]  # what will have been sent by the next plan
        next_state = MPPIState(shift(mean, problem.replan_every), last)
        return Plan(mean, cost, rounds, complete=rounds == cfg.rounds), next_state

    def _round(
        self, problem: Problem, x0: np.ndarray, state: MPPIState, sigma: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """One round of sampling with spread sigma (nu,) and averaging -> new mean (H, nu)."""
        cfg, mean = self.config, state.mean
        noise = sigma * coloured_noise(rng, cfg.noise_exponent, cfg.samples, *mean.shape)
        noise[0] = 0.0
        candidates = np.clip(mean + noise, problem.u_min, problem.u_max)
        noise = candidates - mean
        costs = evaluate(problem, x0, candidates, rng)
        costs = costs + cfg.control_cost * np.einsum("hu,nhu->n", mean / sigma**2, noise)
        costs = costs + cfg.rate_cost * squared_rate(candidates, state.last, 0.5 * (problem.u_max - problem.u_min))
        weights = path_integral_weights(costs, cfg.temperature)
        mean = mean + np.einsum("n,nhu->hu", weights, noise)
        return np.clip(mean, problem.u_min, problem.u_max)  # against rounding


def squared_rate(candidates: np.ndarray, last: np.ndarray | None, half: np.ndarray) -> np.ndarray:
    """Sum of squared changes of candidates (N, H, nu) in units of `half` (nu,), from `last` (nu,) on: (N,)."""
    total = ((np.diff(candidates, axis=1) / half) ** 2).sum(axis=(1, 2))
    if last is not None:
        total += (((candidates[:, 0] - last) / half) ** 2).sum(axis=-1)
    return total
