"""What comes after a failure of the controller: the rest of its last plan, holding, the safe action, disarming."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.safety.guard_config import GuardConfig


@dataclass(frozen=True)
class Rung:
    """Where on the ladder the guard stands.

    Attributes:
        name: ``plan``, ``hold``, ``safe`` or ``disarm``.
        action: (nu,) of the plan, None on the other rungs.
        periods: since the failure began.
    """

    name: str
    action: np.ndarray | None
    periods: float


class Ladder:
    """Remembers the last plan and when the failure began."""

    def __init__(self, config: GuardConfig, nu: int, dt_ns: int) -> None:
        """Start without a plan and without a failure."""
        self._config, self._nu, self._dt_ns = config, nu, dt_ns
        self._plan: np.ndarray | None = None
        self._plan_ns = 0
        self.recovered()

    def recovered(self) -> None:
        """The controller works: the next failure begins at the first rung."""
        self._since: int | None = None
        self._planned = 0  # periods in which the plan was used

    def forget(self) -> None:
        """Nothing is left of earlier plans and failures."""
        self.drop_plan()
        self.recovered()

    def drop_plan(self) -> None:
        """The plan's stamps mean nothing any more."""
        self._plan = None

    def take(self, stamp_ns: int, actions: Any) -> bool:
        """Remember a plan whose actions (H, nu) act from `stamp_ns` on, a control period each.

        Actions from the first one that is not finite on do not count. Returns whether anything was left to remember.
        """
        try:
            plan = np.array(actions, dtype=float)
        except (TypeError, ValueError, OverflowError):
            return False
        if plan.ndim != 2 or plan.shape[1] != self._nu:
            return False
        bad = np.flatnonzero(~np.isfinite(plan).all(axis=1))
        plan = plan[: bad[0]] if len(bad) else plan
        if len(plan):
            self._plan, self._plan_ns = plan, stamp_ns
        return len(plan) > 0

    def step(self, clock_ns: int, tick_ns: int) -> Rung:
        """The rung for a failure that is there at `clock_ns`, for the control period that begins at `tick_ns`."""
        self._since = clock_ns if self._since is None else min(self._since, clock_ns)
        config, periods = self._config, (clock_ns - self._since) / self._dt_ns
        if 0 < config.disarm_after <= periods:
            return Rung("disarm", None, periods)
        action = self._planned_action(tick_ns)
        if periods < config.plan_periods and action is not None:
            self._planned = int(periods) + 1
            return Rung("plan", action, periods)
        if periods - self._planned < config.hold_periods:
            return Rung("hold", None, periods)
        return Rung("safe", None, periods)

    def _planned_action(self, tick_ns: int) -> np.ndarray | None:
        """The plan's action for a control period, None where it has none."""
        if self._plan is None:
            return None
        index = round((tick_ns - self._plan_ns) / self._dt_ns)
        return self._plan[index] if 0 <= index < len(self._plan) else None
