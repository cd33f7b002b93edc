"""What is sent when nothing else may be: zero, damp, hold or a linear feedback, always finite and within the range."""

from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.safety.guard_config import LimitConfig
from mbrl_ros.safety.limits import Limits

FITTING = {"zero": ("effort", "velocity", "twist"), "damp": ("effort",), "hold": ("position",)}


class SafeAction:
    """The safe action of a robot.

    Attributes:
        kind: zero, damp, hold or feedback.
    """

    def __init__(self, config: LimitConfig, limits: Limits, angles: Sequence[str] = ()) -> None:
        """Choose the safe action.

        Args:
            config: what the user wants.
            limits: the robot's.
            angles: joints whose error is taken around the circle.

        Raises:
            ConfigError: the kind does not fit the interface, or gain or reference have the wrong size.
        """
        self._limits = limits
        default = "hold" if limits.interface == "position" else "zero"
        self.kind = default if config.safe_action == "auto" else config.safe_action
        fitting = FITTING.get(self.kind, (limits.interface,))
        if limits.interface not in fitting:
            raise ConfigError(
                f"safe_action: '{self.kind}' is not allowed for the interface {limits.interface}; "
                f"it is for: {', '.join(fitting)}"
            )
        n, nu = len(limits.joints), len(limits.actuators)
        self._damping = config.damping
        self._gain = sized("feedback_gain", config.feedback_gain, nu * 2 * n).reshape(nu, 2 * n)
        self._reference = sized("feedback_reference", config.feedback_reference, 2 * n)
        self._turns = np.array([joint in angles for joint in limits.joints])

    def action(self, state: tuple[np.ndarray, np.ndarray] | None, held: np.ndarray | None) -> np.ndarray | None:
        """The safe action (nu,).

        Args:
            state: positions (n,) and velocities (n,), NaN where not known; None where the last ones are too old.
            held: positions (nu,) to hold.

        Returns:
            The command, None where a position is to be held and none is known.
        """
        command = self._wish(state)
        if command is None or not np.all(np.isfinite(command)):
            return self.resting(held)
        return np.clip(command, self._limits.command_low, self._limits.command_high)

    def resting(self, held: np.ndarray | None) -> np.ndarray | None:
        """What may stand for ever where nobody sends any more: zero, or for a position interface the held one."""
        if self._limits.interface != "position":
            return np.zeros(len(self._limits.actuators))
        return None if held is None else np.clip(held, self._limits.command_low, self._limits.command_high)

    def _wish(self, state: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray | None:
        """The kinds that need the state; None for the others or where it is not known."""
        if state is None:
            return None
        position, velocity = state
        with np.errstate(all="ignore"):  # what is not finite is replaced by the caller
            if self.kind == "damp":
                return -self._damping * np.nan_to_num(velocity[self._limits.columns])
            if self.kind == "feedback":
                error = np.concatenate([position, velocity]) - self._reference
                error[: len(position)] = np.where(self._turns, wrapped(error[: len(position)]), error[: len(position)])
                return -self._gain @ error
        return None


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def sized(field: str, values: Sequence[float], size: int) -> np.ndarray:
    """One number for all or `size` of them, finite."""
    array = np.array(values, dtype=float)
    if len(array) not in (1, size) or not np.all(np.isfinite(array)):
        raise ConfigError(f"{field}: {[*values]} is not allowed; expected {size} finite numbers, or one for all")
    return np.broadcast_to(array, size).copy()
