"""Keeps the model in use in step with the robot, tick by tick, between the learner's fits."""

from collections import deque
from math import ceil
from typing import Any

from mbrl_ros.data.pairing import Pair
from mbrl_ros.models.last_layer import AdaptationConfig, LastLayer

REMEMBERED = 3.0  # time constants: what is older counts for less than a twentieth


class Adapter:
    """The newest fitted model, with its last layer adapted to the newest transitions.

    Attributes:
        enabled: whether anything is adapted.
    """

    def __init__(self, config: AdaptationConfig, dt: float) -> None:
        """Begin without a model.

        Args:
            config: settings; a memory of 0 switches the adaptation off.
            dt: control period in s.
        """
        self.enabled = config.memory > 0
        self._config, self._dt = config, dt
        self._recent: deque[Pair] = deque(maxlen=ceil(REMEMBERED * config.memory / dt))
        self._layer: LastLayer | None = None

    def use(self, fitted: Any) -> Any:
        """Take over a new fit; returns it as adapted to the transitions that are remembered."""
        if not (self.enabled and fitted.adaptable):
            self._layer = None
            return fitted
        self._layer = LastLayer(fitted, self._config, self._dt)
        for pair in self._recent:
            self._layer.update(pair.x, pair.u, pair.x_next)
        return self._layer.adapted()

    def take(self, pairs: list[Pair]) -> Any | None:
        """Take in new transitions; returns the model as it is believed now, None where nothing has changed."""
        self._recent.extend(pairs)
        if self._layer is None or not pairs:
            return None
        for pair in pairs:
            self._layer.update(pair.x, pair.u, pair.x_next)
        return self._layer.adapted()
