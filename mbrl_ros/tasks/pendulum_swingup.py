"""Swing a pendulum up with a weak motor and keep it there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate


@dataclass(frozen=True)
class PendulumSwingupConfig:
    """Weights of the swing-up cost."""

    upright_weight: float = option(1.0, "weight of 1 - cos(angle)", low=0.0, high=100.0, dynamic=True)
    velocity_weight: float = option(
        0.05, "weight of the squared rate", unit="s^2/rad^2", low=0.0, high=100.0, dynamic=True
    )
    control_weight: float = option(
        0.01, "weight of the squared torque", unit="1/(N m)^2", low=0.0, high=100.0, dynamic=True
    )
    terminal_weight: float = option(
        10.0, "weight of the state at the end of the horizon, in periods", low=0.0, high=1e4, dynamic=True
    )

    def __post_init__(self) -> None:
        validate(self)


class PendulumSwingup:
    """State ``(theta, omega)``, theta = 0 upright; control: torque in N m. Smooth, with its own expansion."""

    config_class = PendulumSwingupConfig
    target_angle = np.radians(15.0)  # rad from upright

    def __init__(self, config: PendulumSwingupConfig) -> None:
        self.config = config

    def _state_cost(self, x: np.ndarray) -> np.ndarray:
        """What a state costs: (..., 2) -> (...)."""
        cfg = self.config
        return cfg.upright_weight * (1.0 - np.cos(x[..., 0])) + cfg.velocity_weight * x[..., 1] ** 2

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Cost of one period: x (..., 2), u (..., 1) -> (...)."""
        return self._state_cost(x) + self.config.control_weight * u[..., 0] ** 2

    def cost_parts(self, x: np.ndarray, u: np.ndarray, state: Sequence[str]) -> dict[str, np.ndarray]:
        """What each term of the running cost comes to: x (..., 2), u (..., 1) -> (...) by name; for the report."""
        cfg = self.config
        return {
            "not upright": cfg.upright_weight * (1.0 - np.cos(x[..., 0])),
            "rate": cfg.velocity_weight * x[..., 1] ** 2,
            "torque": cfg.control_weight * u[..., 0] ** 2,
        }

    def terminal_cost(self, x: np.ndarray) -> np.ndarray:
        """The state's cost, `terminal_weight` times: (..., 2) -> (...)."""
        return self.config.terminal_weight * self._state_cost(x)

    def running_expansion(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (T, 3) and Hessian (T, 3, 3) of the running cost by (x, u): x (T, 2), u (T, 1)."""
        cfg = self.config
        slope = (cfg.upright_weight * np.sin(x[:, 0]), 2.0 * cfg.velocity_weight * x[:, 1])
        c = np.stack([*slope, 2.0 * cfg.control_weight * u[:, 0]], axis=1)
        C = np.zeros((len(x), 3, 3))
        C[:, 0, 0] = cfg.upright_weight * np.cos(x[:, 0])
        C[:, 1, 1] = 2.0 * cfg.velocity_weight
        C[:, 2, 2] = 2.0 * cfg.control_weight
        return c, C

    def terminal_expansion(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (2,) and Hessian (2, 2) of the terminal cost at x (2,)."""
        c, C = self.running_expansion(x[None], np.zeros((1, 1)))
        return self.config.terminal_weight * c[0, :2], self.config.terminal_weight * C[0, :2, :2]

    def on_target(self, x: np.ndarray) -> np.ndarray:
        """Whether the pendulum is within 15 degrees of upright: (..., 2) -> (...) bool."""
        return np.abs(np.arctan2(np.sin(x[..., 0]), np.cos(x[..., 0]))) < self.target_angle
