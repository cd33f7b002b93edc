"""Swing the pole of a cart-pole up and keep it there, the cart where it is asked to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError


@dataclass(frozen=True)
class CartpoleSwingupConfig:
    """Weights of the swing-up cost."""

    pole_length: float = option(0.5, "length of the pole", unit="m", low=0.01, high=10.0)
    width: float = option(
        0.25,
        "distance of the tip from its goal at which the cost saturates",
        unit="m",
        low=0.01,
        high=10.0,
        dynamic=True,
    )
    upright_weight: float = option(
        1.0, "weight of 1 - cos(angle), which points the way from afar", low=0.0, high=100.0, dynamic=True
    )
    position_weight: float = option(
        0.1,
        "weight of the squared distance of the cart from goal_position",
        unit="1/m^2",
        low=0.0,
        high=100.0,
        dynamic=True,
    )
    velocity_weight: float = option(0.003, "weight of the squared velocities", low=0.0, high=100.0, dynamic=True)
    track_limit: float = option(2.0, "cart position past which the track's end is felt", unit="m", low=0.0, high=100.0)
    track_weight: float = option(
        10.0, "weight of the squared distance past track_limit", unit="1/m^2", low=0.0, high=1e6
    )
    goal_position: float = option(
        0.0, "where the cart is to be, the pole upright above it", unit="m", low=-100.0, high=100.0, dynamic=True
    )

    def __post_init__(self) -> None:
        validate(self)


class CartpoleSwingup:
    """State ``(p, theta, v, omega)``, theta = 0 upright; control: force on the cart in N."""

    config_class = CartpoleSwingupConfig
    target_angle = np.radians(15.0)  # rad from upright
    target_position = 0.5  # m from the goal
    goal_state = np.zeros(4)  # of the default settings, for pictures

    def __init__(self, config: CartpoleSwingupConfig) -> None:
        self.config = config

    def running_cost(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Saturating distance of the tip from upright (PILCO, Deisenroth and Rasmussen 2011) plus small terms.

        Args:
            x: (..., 4).
            u: (..., 1), not charged for.

        Returns:
            (...)
        """
        cfg = self.config
        p, theta, v, omega = x[..., 0], x[..., 1], x[..., 2], x[..., 3]
        sine, cosine, away = np.sin(theta), np.cos(theta), p - cfg.goal_position
        tip = (away + cfg.pole_length * sine) ** 2 + cfg.pole_length**2 * (cosine - 1.0) ** 2
        saturating = 1.0 - np.exp(-0.5 * tip / cfg.width**2)
        small = (
            cfg.upright_weight * (1.0 - cosine)
            + cfg.position_weight * away**2
            + cfg.velocity_weight * (v**2 + omega**2)
        )
        return saturating + small + self._past_track(p)

    def cost_parts(self, x: np.ndarray, u: np.ndarray, state: Sequence[str]) -> dict[str, np.ndarray]:
        """What each term of the running cost comes to: x (..., 4), u (..., 1) -> (...) by name; for the report."""
        cfg = self.config
        p, sine, cosine = x[..., 0], np.sin(x[..., 1]), np.cos(x[..., 1])
        away = p - cfg.goal_position
        tip = (away + cfg.pole_length * sine) ** 2 + cfg.pole_length**2 * (cosine - 1.0) ** 2
        return {
            "tip away from its goal": 1.0 - np.exp(-0.5 * tip / cfg.width**2),
            "pole not upright": cfg.upright_weight * (1.0 - cosine),
            "cart away from its goal": cfg.position_weight * away**2,
            "velocities": cfg.velocity_weight * (x[..., 2] ** 2 + x[..., 3] ** 2),
            "end of the track": self._past_track(p),
        }

    def terminal_cost(self, x: np.ndarray) -> np.ndarray:
        """The running cost once more: (..., 4) -> (...)."""
        return self.running_cost(x, np.zeros((1,)))

    def running_expansion(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (T, 5) and Hessian (T, 5, 5) of the running cost by (x, u): x (T, 4), u (T, 1)."""
        cfg, length, narrow = self.config, self.config.pole_length, 0.5 / self.config.width**2
        p, sine, cosine = x[:, 0], np.sin(x[:, 1]), np.cos(x[:, 1])
        away = p - cfg.goal_position
        tip = (away + length * sine) ** 2 + length**2 * (cosine - 1.0) ** 2
        # Derivatives of narrow * tip, the exponent with its sign turned.
        by_p, by_theta = 2.0 * narrow * (away + length * sine), 2.0 * narrow * length * (away * cosine + length * sine)
        left = np.exp(-narrow * tip)  # what is left to saturation
        past, beyond = np.sign(p) * np.maximum(np.abs(p) - cfg.track_limit, 0.0), np.abs(p) > cfg.track_limit
        c, C = np.zeros((len(x), 5)), np.zeros((len(x), 5, 5))
        c[:, 0] = left * by_p + 2.0 * (cfg.position_weight * away + cfg.track_weight * past)
        c[:, 1] = left * by_theta + cfg.upright_weight * sine
        c[:, 2:4] = 2.0 * cfg.velocity_weight * x[:, 2:4]
        C[:, 0, 0] = left * (2.0 * narrow - by_p**2) + 2.0 * (cfg.position_weight + cfg.track_weight * beyond)
        C[:, 0, 1] = C[:, 1, 0] = left * (2.0 * narrow * length * cosine - by_p * by_theta)
        bend = 2.0 * narrow * length * (length * cosine - away * sine) - by_theta**2
        C[:, 1, 1] = left * bend + cfg.upright_weight * cosine
        C[:, 2, 2] = C[:, 3, 3] = 2.0 * cfg.velocity_weight
        return c, C

    def terminal_expansion(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (4,) and Hessian (4, 4) of the terminal cost at x (4,)."""
        c, C = self.running_expansion(x[None], np.zeros((1, 1)))
        return c[0, :4], C[0, :4, :4]

    def on_target(self, x: np.ndarray) -> np.ndarray:
        """Whether the pole is within 15 degrees of upright and the cart within 0.5 m of its goal."""
        deviation = np.abs(np.arctan2(np.sin(x[..., 1]), np.cos(x[..., 1])))
        return (deviation < self.target_angle) & (np.abs(x[..., 0] - self.config.goal_position) < self.target_position)

    def goal_entries(self, state: Sequence[str]) -> dict[str, float]:
        """The goal by entry of the state: where the cart and the pole are to be."""
        return {state[0]: self.config.goal_position, state[1]: 0.0}

    def goal_parameters(self, state: Sequence[str], target: Mapping[str, float]) -> dict[str, float]:
        """Parameters that make the target the goal; the cart's position can be chosen, the pole stays upright."""
        for name, value in target.items():
            if name != state[0] and value != 0.0:
                raise ConfigError(f"goal: {name} {value:g} is not allowed; expected 0: upright and at rest")
        return {"goal_position": float(target.get(state[0], self.config.goal_position))}

    def goal_of_point(self, state: Sequence[str], position: np.ndarray) -> dict[str, float]:
        """Target that brings the tip of the pole above ``position[0]``, along the track (3,) in m."""
        return {state[0]: float(position[0])}

    def _past_track(self, p: np.ndarray) -> np.ndarray:
        """Penalty of the two ends of the track."""
        limit = self.config.track_limit
        right, left = (p - limit) * (p.real > limit), (-p - limit) * (-p.real > limit)
        return self.config.track_weight * (right**2 + left**2)
