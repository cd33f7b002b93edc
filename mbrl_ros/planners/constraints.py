"""State limits for sampling planners: a cost around any task that rises where a limit is near or broken."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mbrl_ros.errors import ConfigError, lookup
from mbrl_ros.planners.base import Task


def penalty(slack: np.ndarray) -> np.ndarray:
    """Quadratic outside, nothing inside: relative distance to a limit, negative outside (...) -> (...)."""
    return np.where(slack.real < 0.0, slack**2, 0.0)


def barrier(slack: np.ndarray, relaxation: float = 0.01) -> np.ndarray:
    """Relaxed recentred logarithmic barrier (Feller and Ebenbauer 2017): ``-log s + s - 1`` for 0 < s < 1.

    It is zero with zero slope from s = 1 inwards. Below `relaxation` a quadratic with the same value, slope and
    curvature takes over: steep, but finite, so that a robot that is already outside still has a way back.

    Args:
        slack: relative distance to the limit, 0 at the limit, negative outside (...).
        relaxation: slack below which the quadratic begins.
    """
    inside = np.where(slack.real > relaxation, slack, relaxation)
    logarithm = np.where(inside.real < 1.0, -np.log(inside) + inside - 1.0, 0.0)
    below = np.where(slack.real > relaxation, 0.0, slack - relaxation)
    slope, curvature = 1.0 - 1.0 / relaxation, 1.0 / relaxation**2
    return logarithm + slope * below + 0.5 * curvature * below**2


CONSTRAINTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"penalty": penalty, "barrier": barrier}


@dataclass(frozen=True)
class ConstrainedTask:
    """A task whose costs also charge for states near or outside limits; complex-differentiable where the task is.

    ``penalty`` costs nothing inside, `weight` one margin outside. ``barrier`` begins one margin inside.

    Attributes:
        task: running and terminal cost to add to.
        x_low: lower limits (nx,), -inf for none.
        x_high: upper limits (nx,), inf for none.
        kind: ``penalty`` or ``barrier``.
        weight: factor of the added cost, which is charged at every state of the horizon and its end.
        margin: unit of the distance to a limit, as a share of half the distance of the two limits, or in units of
            the state where there is only one.

    Raises:
        UnknownNameError: no such kind.
        ConfigError: limits of different lengths or crossed, or a weight or margin that is not positive.
    """

    task: Task
    x_low: np.ndarray
    x_high: np.ndarray
    kind: str = "penalty"
    weight: float = 10.0
    margin: float = 0.2
    scale: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lookup(CONSTRAINTS, "constraint", self.kind)
        low, high = np.asarray(self.x_low, float), np.asarray(self.x_high, float)
        if low.shape != high.shape or not np.all(low < high):
            raise ConfigError(f"x_low: {low} must have as many entries as x_high: {high} and be below it")
        if not (self.weight > 0.0 and self.margin > 0.0):
            raise ConfigError(f"weight: {self.weight} and margin: {self.margin} must be positive")
        width = high - low
        object.__setattr__(self, "x_low", low)
        object.__setattr__(self, "x_high", high)
        object.__setattr__(self, "scale", self.margin * np.where(np.isfinite(width), 0.5 * width, 1.0))

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The task's cost and the charge of x: x (..., nx), u (..., nu) -> (...)."""
        return self.task.running_cost(x, u) + self._charge(x)

    def terminal_cost(self, x: np.ndarray) -> np.ndarray:
        """The task's cost and the charge of x: (..., nx) -> (...)."""
        return self.task.terminal_cost(x) + self._charge(x)

    def _charge(self, x: np.ndarray) -> np.ndarray:
        """Added cost: (..., nx) -> (...)."""
        shape = CONSTRAINTS[self.kind]
        below, above = np.isfinite(self.x_low), np.isfinite(self.x_high)
        to_low = (x[..., below] - self.x_low[below]) / self.scale[below]
        to_high = (self.x_high[above] - x[..., above]) / self.scale[above]
        return self.weight * (shape(to_low).sum(axis=-1) + shape(to_high).sum(axis=-1))
