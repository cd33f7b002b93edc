"""How well a model predicts recorded motion: one period ahead, and open loop over many.

Both errors are root mean squares over all entries, each entry divided by its standard deviation in the data:
1 means no better than always answering the data's mean.
"""

from typing import Protocol

import numpy as np

from mbrl_ros.types import Transitions

SMALLEST_STD = 1e-6  # an entry that never moves is not divided by zero


class SampledModel(Protocol):
    """What the errors need of a model."""

    @property
    def members(self) -> int:
        """Number of members E."""

    def rollout(
        self, x0: np.ndarray, actions: np.ndarray, rng: np.random.Generator | None, particles: int
    ) -> np.ndarray:
        """See `planners.base.Dynamics.rollout`."""


def one_step_error(model: SampledModel, transitions: Transitions) -> float:
    """RMSE of the state after one period, predicted by the mean over members.

    Args:
        model: an ensemble.
        transitions: n transitions, unseen ones for an honest figure.

    Returns:
        Error in standard deviations of ``x_next`` in the data; NaN for fewer than two transitions, which have none.
    """
    return multi_step_error(model, transitions, 1)


def multi_step_error(model: SampledModel, transitions: Transitions, horizon: int) -> float:
    """RMSE after `horizon` periods, open loop from every start within an unbroken trajectory.

    The applied actions are replayed, every member goes on from its own mean, and the prediction is the mean over
    members. Angles count unwrapped, as they are recorded.

    Args:
        model: an ensemble.
        transitions: n transitions in order.
        horizon: periods, 1 or more.

    Returns:
        Error in standard deviations of ``x_next`` in the data; NaN where no trajectory is long enough, and for fewer
        than two transitions, which have no standard deviation.
    """
    first = starts(transitions.trajectory, horizon)
    if len(first) == 0 or len(transitions) < 2:
        return float("nan")
    actions = transitions.u[first[:, None] + np.arange(horizon)]  # (n, H, nu)
    predicted = np.stack(
        [
            model.rollout(transitions.x[i], u[None], None, model.members)[:, 0, -1].mean(axis=0)
            for i, u in zip(first, actions, strict=True)
        ]
    )  # (n, nx)
    std = np.maximum(transitions.x_next.std(axis=0), SMALLEST_STD)
    return float(np.sqrt(np.mean(((predicted - transitions.x_next[first + horizon - 1]) / std) ** 2)))


def starts(trajectory: np.ndarray, horizon: int) -> np.ndarray:
    """Rows from which `horizon` transitions follow in the same trajectory: (n,) -> (k,)."""
    last = np.arange(len(trajectory) - horizon + 1)
    return last[trajectory[last] == trajectory[last + horizon - 1]]
