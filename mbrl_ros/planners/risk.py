"""Risk measures: how the costs of a candidate's particles become one number.

Costs are losses, so risk aversion looks at the expensive tail. All are translation equivariant: a constant
added to every particle is added to the result.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError, lookup
from mbrl_ros.planners.base import Risk, risk_neutral


def worst_case(costs: np.ndarray) -> np.ndarray:
    """Most expensive particle: costs (P, N) -> (N,)."""
    return costs.max(axis=0)


def cvar(alpha: float) -> Risk:
    """Conditional value at risk: mean of the most expensive share `alpha` of the particles.

    Rockafellar and Uryasev (2000) for an empirical distribution: where ``alpha P`` is not whole, the last
    particle of the tail counts in part. alpha = 1 is the mean, alpha <= 1 / P the worst case.

    Args:
        alpha: share of the tail, in (0, 1].

    Raises:
        ConfigError: `alpha` out of range.
    """
    if not 0.0 < alpha <= 1.0:
        raise ConfigError(f"alpha: {alpha} is not allowed; expected a share in (0, 1]")

    def measure(costs: np.ndarray) -> np.ndarray:
        mass = alpha * len(costs)  # particles in the tail, not necessarily whole
        tail = np.sort(costs, axis=0)[::-1][: max(1, int(np.ceil(mass - 1e-9)))]
        weights = np.clip(mass - np.arange(len(tail)), 0.0, 1.0)
        return weights @ tail / weights.sum()

    return measure


def mean_plus_std(weight: float) -> Risk:
    """Mean plus `weight` standard deviations of the particles; negative weights seek risk, and so exploration."""

    def measure(costs: np.ndarray) -> np.ndarray:
        return costs.mean(axis=0) + weight * costs.std(axis=0)

    return measure


@dataclass(frozen=True)
class RiskConfig:
    """Which risk measure, and its parameters."""

    measure: str = option(
        "risk_neutral",
        "how the costs of the particles are summed up",
        choices=("risk_neutral", "worst_case", "cvar", "mean_plus_std"),
        dynamic=True,
    )
    alpha: float = option(
        0.2, "cvar: share of the most expensive particles that counts", low=1e-6, high=1.0, dynamic=True
    )
    std_weight: float = option(
        1.0,
        "mean_plus_std: weight of the standard deviation, negative seeks risk",
        low=-100.0,
        high=100.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        validate(self)


RISKS: dict[str, Callable[[RiskConfig], Risk]] = {
    "risk_neutral": lambda config: risk_neutral,
    "worst_case": lambda config: worst_case,
    "cvar": lambda config: cvar(config.alpha),
    "mean_plus_std": lambda config: mean_plus_std(config.std_weight),
}


def make_risk(config: RiskConfig) -> Risk:
    """The measure a configuration names, costs (P, N) -> (N,)."""
    return lookup(RISKS, "risk measure", config.measure)(config)
