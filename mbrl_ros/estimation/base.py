"""The base estimator: measurements of any source by stamp in, named entries of the base's state out."""

from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation.base_filter import BaseMeasurement, BaseResult, usable, wrapped
from mbrl_ros.estimation.config import FilterConfig, names_in
from mbrl_ros.estimation.planar_base import PlanarBase
from mbrl_ros.estimation.replay import Replay
from mbrl_ros.estimation.six_dof_base import SixDofBase

BASE_FILTERS = {"diff_drive": PlanarBase, "omni": PlanarBase, "six_dof": SixDofBase}
SOURCES = {  # source -> kind of measurement
    "odometry_pose": "pose",
    "odometry_twist": "twist",
    "pose": "pose",
    "imu": "imu",
    "imu_orientation": "orientation",
}
TURNING = ("base_roll", "base_yaw")  # angles that go on beyond pi, so that no jump is learned


class BaseEstimator:
    """A base filter with replay of late measurements.

    Attributes:
        names: the entries of the state that were asked for, in order.
    """

    def __init__(self, config: FilterConfig) -> None:
        """Start without knowledge.

        Raises:
            ConfigError: `base_states` names an entry that the filter does not have, or one twice.
        """
        filter_ = BASE_FILTERS[config.base](config)
        self._config = config
        self._replay: Replay[BaseMeasurement, BaseResult] = Replay(
            filter_, config.late_window, config.rejections_to_restart
        )
        self._result = filter_.at(0.0)
        self._turned: dict[str, float] = {}
        self.names = chosen(names_in(config.base_states), list(self._result.values))

    def measure(self, stamp_s: float, source: str, value: Any, covariance: Any) -> str:
        """Use a measurement; returns why it was not used, or an empty text.

        Args:
            stamp_s: when it was measured, in s.
            source: a key of SOURCES.
            value: numbers of its kind, see `base_filter`.
            covariance: its covariance; one that is none stands for the noise in the configuration.
        """
        measurement = usable(source, SOURCES[source], value, covariance, self._config)
        if isinstance(measurement, str):
            return measurement
        return self._replay.measure(stamp_s, source, measurement)

    def predict(self, stamp_s: float) -> None:
        """Make `state` and `validity` those of a stamp."""
        self._result = self._replay.at(stamp_s)
        for name in TURNING:
            if self._result.valid and name in self._result.values:
                last = self._turned.get(name, 0.0)
                self._turned[name] = last + wrapped(self._result.values[name] - last)

    def state(self) -> np.ndarray:
        """Estimate (n,) of the entries `names` at the stamp of the last `predict`."""
        values = self._result.values | self._turned
        return np.array([values[name] for name in self.names])

    def covariance(self) -> np.ndarray:
        """Covariance of the filter's error state at that stamp."""
        return self._result.covariance

    def validity(self) -> tuple[bool, str]:
        """Whether the estimate at that stamp may be used, and why not or what was unusual."""
        return self._result.valid, self._result.reason

    @property
    def bridged(self) -> bool:
        """Whether the estimate at that stamp is a prediction only."""
        return self._result.bridged

    @property
    def newest(self) -> float:
        """Stamp in s of the newest measurement, -inf before the first."""
        return self._replay.newest


def chosen(wanted: list[str], known: list[str]) -> list[str]:
    """The wanted names, or all of them where none is wanted."""
    for name in wanted:
        if name not in known or wanted.count(name) > 1:
            raise ConfigError(f"base_states: '{name}' is not allowed; expected, each once: {', '.join(known)}")
    return wanted or known
