"""What the entries of a robot's state mean, so that no model hard-codes a robot.

A state ``x`` (nx,) may hold angles (fed to models as sine and cosine) and positions whose velocity is
another entry (integrated from it instead of being learned).
"""

from dataclasses import dataclass

import numpy as np

from mbrl_ros.errors import ConfigError


@dataclass(frozen=True)
class StateLayout:
    """Names of state and action entries and how they hang together.

    Attributes:
        state: names of the nx state entries, in order.
        action: names of the nu action entries, in order.
        angles: names of the state entries that are angles in rad.
        velocity_of: position name -> name of the entry that is its time derivative.
        dt: control period in s.
    """

    state: tuple[str, ...]
    action: tuple[str, ...]
    angles: tuple[str, ...]
    velocity_of: dict[str, str]
    dt: float

    def __post_init__(self) -> None:
        for field, names in (("angles", self.angles), ("velocity_of", (*self.velocity_of, *self.velocity_of.values()))):
            for name in names:
                if name not in self.state:
                    raise ConfigError(f"{field}: '{name}' is not a state entry; choose from: {', '.join(self.state)}")
        if not self.dt > 0:
            raise ConfigError(f"dt: {self.dt} s must be positive")

    @property
    def nx(self) -> int:
        """Number of state entries."""
        return len(self.state)

    @property
    def nu(self) -> int:
        """Number of action entries."""
        return len(self.action)

    @property
    def angle_mask(self) -> np.ndarray:
        """(nx,) bool, true where the entry is an angle."""
        return np.array([name in self.angles for name in self.state])

    @property
    def derivative_index(self) -> np.ndarray:
        """(nx,) int64: index of the entry's velocity, or -1 where the entry has none and is learned itself."""
        return np.array([self.state.index(self.velocity_of[n]) if n in self.velocity_of else -1 for n in self.state])

    @property
    def learned(self) -> np.ndarray:
        """(ny,) int64: indices of the entries whose change the model predicts."""
        return np.flatnonzero(self.derivative_index < 0)

    @property
    def n_features(self) -> int:
        """Length of a model's input: an angle counts twice (sine, cosine), then the actions."""
        return self.nx + len(self.angles) + self.nu

    def features(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Model inputs: entries with angles as sine, then the angles' cosines, then the actions.

        Args:
            x: states (..., nx).
            u: actions (..., nu).

        Returns:
            (..., n_features)
        """
        mask = self.angle_mask
        sines = np.where(mask, np.sin(x), x)
        return np.concatenate([sines, np.cos(x[..., mask]), u], axis=-1)

    def targets(self, x: np.ndarray, x_next: np.ndarray) -> np.ndarray:
        """What a model learns: the change of the learned entries, (..., ny)."""
        learned = self.learned
        return x_next[..., learned] - x[..., learned]

    def integrate(self, x: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Next state from the change of the learned entries; positions by the trapezoidal rule.

        ``q' = q + dt (v + v') / 2``, exact for constant acceleration over the period (MC-PILCO, Amadio et al. 2022).

        Args:
            x: states (..., nx).
            change: (..., ny).

        Returns:
            (..., nx)
        """
        x_next = np.array(x, dtype=np.result_type(x, change))
        x_next[..., self.learned] += change
        index = self.derivative_index
        positions = np.flatnonzero(index >= 0)
        velocities = index[positions]
        x_next[..., positions] += 0.5 * self.dt * (x[..., velocities] + x_next[..., velocities])
        return x_next

    def feature_jacobian(self, x: np.ndarray) -> np.ndarray:
        """Derivative of `features` by state and action: x (B, nx) -> (B, n_features, nx + nu)."""
        nx, angles = self.nx, np.flatnonzero(self.angle_mask)
        J = np.zeros((len(x), self.n_features, nx + self.nu))
        J[:, np.arange(nx), np.arange(nx)] = np.where(self.angle_mask, np.cos(x), 1.0)
        J[:, nx + np.arange(len(angles)), angles] = -np.sin(x[:, angles])
        J[:, nx + len(angles) + np.arange(self.nu), nx + np.arange(self.nu)] = 1.0
        return J

    def jacobians(self, x: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `integrate` after a change that is a function of the features.

        Args:
            x: states (B, nx).
            slope: derivative of the change by the features (B, ny, n_features).

        Returns:
            A (B, nx, nx) by the state and B (B, nx, nu) by the action.
        """
        nx = self.nx
        J = np.zeros((len(x), nx, nx + self.nu))
        J[:, np.arange(nx), np.arange(nx)] = 1.0
        J[:, self.learned] += np.einsum("bkf,bfm->bkm", slope, self.feature_jacobian(x))
        for i, v in enumerate(self.derivative_index):
            if v >= 0:  # q' = q + dt (v + v') / 2
                J[:, i] += 0.5 * self.dt * J[:, v]
                J[:, i, v] += 0.5 * self.dt
        return J[:, :, :nx], J[:, :, nx:]
