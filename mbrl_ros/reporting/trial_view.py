"""One trial with everything that the report derives from it, and the ranges that make trials comparable."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbrl_ros.errors import MbrlError
from mbrl_ros.reporting import prediction
from mbrl_ros.reporting.axes import padded
from mbrl_ros.reporting.chart import extent, from_zero
from mbrl_ros.reporting.novelty import novelty
from mbrl_ros.reporting.prediction import Prediction
from mbrl_ros.reporting.run import Run
from mbrl_ros.reporting.run_folder import TrialArrays
from mbrl_ros.reporting.targets import goal_of, target_range
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.types import Transitions

SMALLEST_RANGE = 0.1  # of a state's axis: noise of a joint at rest must not look like motion
DOUBTS = ("epistemic_std", "aleatoric_std", "spread", "entropy", "disagreement")


@dataclass
class TrialView:
    """One trial.

    Attributes:
        index: its number.
        arrays: what was recorded.
        robot: the robot.
        lockstep: whether the simulation waited for the planner.
        budget: planning time that a tick may take in s.
        time: (T,) s since its first tick.
        goal: (nx,) where the task wants the state, None where it cannot be told.
        target: lower and upper end (nx,) of the target, None where there is none.
        parts: what each part of the cost came to (T,) by name; None where the task does not say.
        one_step: prediction of every tick from the one before.
        segments: open-loop predictions.
        planned: what the plans said, None where they were not recorded.
        errors: standardised errors of the first model, (k, H, nx).
        known: transitions from before the trial, None where they cannot be told.
        novelty: (T,) distance to the nearest of them, NaN where there is none.
    """

    index: int
    arrays: TrialArrays
    robot: RobotDescription
    lockstep: bool
    budget: float
    time: np.ndarray
    goal: np.ndarray | None = None
    target: tuple[np.ndarray, np.ndarray] | None = None
    parts: dict[str, np.ndarray] | None = None
    one_step: Prediction | None = None
    segments: list[Prediction] = field(default_factory=list)
    planned: Prediction | None = None
    errors: np.ndarray = field(default_factory=lambda: np.empty((0, 1, 1)))
    known: Transitions | None = None
    novelty: np.ndarray = field(default_factory=lambda: np.empty(0))


def make_view(run: Run, index: int) -> TrialView:
    """Everything about one trial.

    Raises:
        MbrlError: the trial is of another robot.
    """
    trial, robot = run.trials[index], run.robot
    if robot is None or not run.fits_robot(index):
        name = run.summary.robot if robot is None else robot.name
        raise MbrlError(f"states {trial.x.shape} and actions {trial.u.shape} do not fit the robot '{name}'")
    rng = np.random.default_rng(0)  # the same report every time
    known = run.known_before(index)
    nothing = np.full(len(trial), np.nan)
    return TrialView(
        index,
        trial,
        robot,
        run.summary.lockstep,
        run.budget,
        trial.stamp - trial.stamp[0] if len(trial) else trial.stamp,
        goal=None if run.task is None else goal_of(run.task, robot.layout.state),
        target=None if run.task is None else target_range(run.task, robot.layout.state),
        parts=cost_parts(run.task, trial, robot),
        one_step=prediction.one_step(run.models, trial, rng),
        segments=prediction.open_loop_segments(run.models, trial, rng, run.horizon),
        planned=prediction.from_plans(run.models, trial, robot.delay_ticks(run.summary.lockstep), rng),
        errors=prediction.standardised_errors(run.models, trial, run.horizon),
        known=known,
        novelty=nothing if known is None else novelty(robot.layout, known, trial.x, trial.u),
    )


def cost_parts(task: Any, trial: TrialArrays, robot: RobotDescription) -> dict[str, np.ndarray] | None:
    """What each part of the task's cost came to at each tick, None of a task that does not say."""
    if not hasattr(task, "cost_parts"):
        return None
    parts: dict[str, np.ndarray] = task.cost_parts(trial.x, np.nan_to_num(trial.u), robot.layout.state)
    return parts


Ranges = dict[str, tuple[float, float]]


def shared_ranges(views: Iterable[TrialView]) -> Ranges:
    """Ends of the y axes by what they show: the same in every trial, so that trials can be compared."""
    views = list(views)
    if not views:
        return {}
    robot, ranges = views[0].robot, {}
    for i, name in enumerate(robot.layout.state):
        ranges[name] = state_range(views, i, name in robot.layout.angles)
    for i, name in enumerate(robot.layout.action):
        limits = [v for v in (robot.u_min[i], robot.u_max[i]) if np.isfinite(v)]
        ranges[name] = padded(*extent([limits, *(view.arrays.u[:, i] for view in views)]))
    ranges["novelty"] = from_zero([view.novelty for view in views])
    ranges["cost"] = from_zero([view.arrays.cost for view in views])
    for name in DOUBTS:
        values = [v for view in views if (v := getattr(view.arrays, name)) is not None]
        log = name.endswith(("std", "spread"))
        ranges[name] = padded(*extent(values, positive=log), log=log)
    ranges["planning"] = from_zero([*(1e3 * v.arrays.planning_time for v in views), 1e3 * robot.dt])
    return ranges


def state_range(views: Iterable[TrialView], entry: int, is_angle: bool) -> tuple[float, float]:
    """Ends of the axis of a state entry: what was observed, and the target; predictions that run away leave it."""
    values: list[Any] = []
    for view in views:
        values.append(view.arrays.x[:, entry])
        if view.target is not None and not is_angle:
            values.append([end[entry] for end in view.target])
    low, high = extent(values)
    missing = max(SMALLEST_RANGE - (high - low), 0.0)
    return padded(low - 0.5 * missing, high + 0.5 * missing)
