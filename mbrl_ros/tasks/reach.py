"""Bring the state to a goal and keep it there: quadratic cost, for arms and mobile bases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError


@dataclass(frozen=True)
class ReachConfig:
    """Goal and weights; a list has one number for all entries of the state, or one for each, in the robot's order."""

    goal: tuple[float, ...] = option((0.0,), "state to reach", dynamic=True)
    weights: tuple[float, ...] = option(
        (1.0,),
        "weight of the squared distance of each entry; 0 where it does not matter",
        low=0.0,
        high=1e6,
        dynamic=True,
    )
    control_weight: float = option(
        0.0, "weight of the squared action, about control_rest", low=0.0, high=1e6, dynamic=True
    )
    control_rest: tuple[float, ...] = option((0.0,), "action that costs nothing", dynamic=True)
    terminal_weight: float = option(
        5.0, "weight of the state at the end of the horizon, in periods", low=0.0, high=1e4, dynamic=True
    )
    tolerance: float = option(
        0.05,
        "distance of each entry that has a weight within which the goal is reached",
        low=1e-6,
        high=1e3,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        validate(self)


class Reach:
    """State (nx,) of any robot, as its layout has it; control (nu,). Smooth, with its own expansion."""

    config_class = ReachConfig

    def __init__(self, config: ReachConfig) -> None:
        self.config = config

    def _state_cost(self, x: np.ndarray) -> np.ndarray:
        """What a state costs: (..., nx) -> (...)."""
        goal, weights = self._of_state(x.shape[-1])
        return ((x - goal) ** 2) @ weights

    def _of_state(self, nx: int) -> tuple[np.ndarray, np.ndarray]:
        """Goal (nx,) and weights (nx,)."""
        return sized("goal", self.config.goal, nx), sized("weights", self.config.weights, nx)

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Cost of one period: x (..., nx), u (..., nu) -> (...)."""
        rest = sized("control_rest", self.config.control_rest, u.shape[-1])
        return self._state_cost(x) + self.config.control_weight * ((u - rest) ** 2).sum(axis=-1)

    def cost_parts(self, x: np.ndarray, u: np.ndarray, state: Sequence[str]) -> dict[str, np.ndarray]:
        """What each term of the running cost comes to: x (..., nx), u (..., nu) -> (...) by name; for the report."""
        goal, weights = self._of_state(x.shape[-1])
        rest = sized("control_rest", self.config.control_rest, u.shape[-1])
        parts = {name: w * (x[..., i] - goal[i]) ** 2 for i, (name, w) in enumerate(zip(state, weights, strict=True))}
        return parts | {"action": self.config.control_weight * ((u - rest) ** 2).sum(axis=-1)}

    def terminal_cost(self, x: np.ndarray) -> np.ndarray:
        """The state's cost, `terminal_weight` times: (..., nx) -> (...)."""
        return self.config.terminal_weight * self._state_cost(x)

    def running_expansion(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (T, n) and Hessian (T, n, n) of the running cost by (x, u), n = nx + nu: x (T, nx), u (T, nu)."""
        goal, weights = self._of_state(x.shape[-1])
        rest = sized("control_rest", self.config.control_rest, u.shape[-1])
        c = 2.0 * np.concatenate([weights * (x - goal), self.config.control_weight * (u - rest)], axis=1)
        diagonal = 2.0 * np.concatenate([weights, np.full(u.shape[-1], self.config.control_weight)])
        return c, np.tile(np.diag(diagonal), (len(x), 1, 1))

    def terminal_expansion(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (nx,) and Hessian (nx, nx) of the terminal cost at x (nx,)."""
        goal, weights = self._of_state(len(x))
        factor = 2.0 * self.config.terminal_weight
        return factor * weights * (x - goal), factor * np.diag(weights)

    def on_target(self, x: np.ndarray) -> np.ndarray:
        """Whether every entry that has a weight is within the tolerance: (..., nx) -> (...) bool."""
        goal, weights = self._of_state(x.shape[-1])
        return np.all((np.abs(x - goal) <= self.config.tolerance) | (weights == 0), axis=-1)

    def goal_entries(self, state: Sequence[str]) -> dict[str, float]:
        """The goal by entry of the state, of those that have a weight."""
        goal, weights = self._of_state(len(state))
        return {name: float(g) for name, g, w in zip(state, goal, weights, strict=True) if w > 0}

    def goal_parameters(self, state: Sequence[str], target: Mapping[str, float]) -> dict[str, list[float]]:
        """Parameters that make the target, by entry of the state, the goal; other entries keep theirs."""
        goal, _ = self._of_state(len(state))
        return {"goal": [float(target.get(name, g)) for name, g in zip(state, goal, strict=True)]}


def sized(field: str, values: Sequence[float], size: int) -> np.ndarray:
    """One number for all or `size` of them as an array, or ConfigError."""
    if len(values) not in (1, size):
        raise ConfigError(f"task.{field}: {[*values]} is not allowed; expected one number, or {size}")
    return np.broadcast_to(np.array(values, dtype=float), size)
