"""The base policy of the first trial: random smooth forces that excite the robot and bring it back.

Coloured noise moves a robot where white noise cancels itself (Pinneri et al. 2020); without its straight-line
part it leaves a free mass where it was and at rest, so that a cart stays on its track.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate


@dataclass(frozen=True)
class SmoothRandomConfig:
    """Settings of the base policy."""

    std: float = option(0.75, "root mean square of the action as a share of half its range", low=0.0, high=1.0)
    noise_exponent: float = option(1.0, "exponent of the noise spectrum, 0 white", low=0.0, high=10.0)
    returning: bool = option(True, "no net impulse and no net displacement of a free mass")

    def __post_init__(self) -> None:
        validate(self)


class SmoothRandom:
    """One random action sequence, drawn when made."""

    config_class = SmoothRandomConfig

    def __init__(
        self, config: SmoothRandomConfig, u_min: np.ndarray, u_max: np.ndarray, steps: int, rng: np.random.Generator
    ) -> None:
        """Draw the sequence.

        Args:
            config: settings.
            u_min: lower limits (nu,).
            u_max: upper limits (nu,).
            steps: control periods of the trial.
            rng: random generator.
        """
        wave = smooth_noise(rng, config.noise_exponent, steps, len(u_min))
        if config.returning:
            wave = without_line(wave)
        wave = wave / np.maximum(np.sqrt(np.mean(wave**2, axis=0)), 1e-9)
        middle, half = 0.5 * (u_min + u_max), 0.5 * (u_max - u_min)
        self.actions = np.clip(middle + config.std * half * wave, u_min, u_max)  # (steps, nu)

    def action(self, tick: int) -> np.ndarray:
        """Action (nu,) of a tick counted from the start of the trial; the last one is held after the end."""
        return self.actions[min(tick, len(self.actions) - 1)]


def smooth_noise(rng: np.random.Generator, exponent: float, steps: int, nu: int) -> np.ndarray:
    """Waves over the trial with random phases and power ``1 / f^exponent``: (steps, nu)."""
    wave_numbers = np.arange(1, max(2, steps // 2 + 1))
    cosine, sine = rng.standard_normal((2, len(wave_numbers), nu)) * wave_numbers[:, None] ** (-0.5 * exponent)
    phase = 2.0 * np.pi * np.outer(np.arange(steps) + 0.5, wave_numbers) / steps
    return np.cos(phase) @ cosine + np.sin(phase) @ sine


def without_line(wave: np.ndarray) -> np.ndarray:
    """Subtract the least-squares straight line: (T, nu), then sums of ``u`` and of ``t u`` are zero."""
    time = np.arange(len(wave)) - 0.5 * (len(wave) - 1)
    slope = time @ wave / max(float(time @ time), 1.0)
    return wave - wave.mean(axis=0) - time[:, None] * slope
