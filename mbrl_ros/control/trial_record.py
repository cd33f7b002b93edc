"""What is recorded of a trial while it runs, tick by tick, and its score at the end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from mbrl_ros.control.learner import Verdict
from mbrl_ros.reporting.run_folder import TrialArrays
from mbrl_ros.reporting.summary import TrialResult, planning_percentiles, score_trial
from mbrl_ros.robots.description import RobotDescription

JUDGED = tuple(f.name for f in fields(Verdict))  # what the learner says of a trial
DOUBTS = ("spread", "entropy", "disagreement", "aleatoric_std", "epistemic_std")  # what a tick says of the model


@dataclass
class TrialRecord:
    """Everything that came in during one trial, keyed by stamp in ns."""

    index: int
    policy: str
    observations: dict[int, np.ndarray] = field(default_factory=dict)
    applied: dict[int, tuple[np.ndarray, str]] = field(default_factory=dict)
    telemetry: dict[int, Mapping[str, float]] = field(default_factory=dict)
    plans: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # states (H + 1, nx), actions (H, nu)
    ended_early: str = ""

    def steps(self) -> int:
        """Control periods that have passed since the first observation."""
        return max(len(self.observations) - 1, 0)

    def arrays(self, task: Any, nx: int) -> TrialArrays:
        """The trial tick by tick, NaN where there is nothing; what came after the last observation does not count."""
        stamps = sorted(self.observations)
        self._forget_from(stamps[-1] if stamps else 0)
        x = np.array([self.observations[s] for s in stamps]).reshape(len(stamps), nx)
        nu = next(
            (len(u) for u in (*(u for u, _ in self.applied.values()), *(u[0] for _, u in self.plans.values()))), 1
        )
        nothing: tuple[np.ndarray, str] = (np.full(nu, np.nan), "")
        u = np.array([self.applied.get(s, nothing)[0] for s in stamps]).reshape(len(stamps), nu)
        return TrialArrays(
            stamp=1e-9 * np.array(stamps, float),
            x=x,
            u=u,
            cost=task.running_cost(x, np.nan_to_num(u)),
            planning_time=self._column(stamps, "planning_time", np.nan),
            model_version=self._column(stamps, "model_version", 0).astype(int),
            deadline_missed=self._column(stamps, "deadline_missed", 0) == 1,
            cut_short=self._column(stamps, "cut_short", 0) == 1,
            flag=np.array([self.applied.get(s, nothing)[1] for s in stamps], dtype=str),
            **{name: self._column(stamps, name, np.nan) for name in DOUBTS},
            **dict(zip(("plan_x", "plan_u"), self._plan_arrays(stamps, nx, nu), strict=True)),
        )

    def _plan_arrays(self, stamps: list[int], nx: int, nu: int) -> tuple[np.ndarray, np.ndarray]:
        """States (T, H + 1, nx) and actions (T, H, nu) of the plans by their first tick, NaN where there are none.

        Single precision: a plan is a guess, and these are most of what a trial leaves behind.
        """
        horizon = max((len(actions) for _, actions in self.plans.values()), default=0)
        x = np.full((len(stamps), horizon + 1, nx), np.nan, np.float32)
        u = np.full((len(stamps), horizon, nu), np.nan, np.float32)
        for row, stamp in enumerate(stamps):
            if stamp in self.plans:
                states, actions = self.plans[stamp]
                x[row, : len(states)], u[row, : len(actions)] = states, actions
        return x, u

    def _forget_from(self, stamp: int) -> None:
        """Leave out commands and figures of `stamp` and later: no motion followed them."""
        self.applied = {s: entry for s, entry in self.applied.items() if s < stamp}
        self.telemetry = {s: entry for s, entry in self.telemetry.items() if s < stamp}
        self.plans = {s: entry for s, entry in self.plans.items() if s < stamp}

    def _column(self, stamps: list[int], name: str, missing: float) -> np.ndarray:
        return np.array([self.telemetry.get(s, {}).get(name, missing) for s in stamps])

    def result(self, task: Any, robot: RobotDescription, before: float, learner: Mapping[str, float]) -> TrialResult:
        """Score of the trial.

        Args:
            task: costs and target.
            robot: for the control period and the length of a trial.
            before: motion in s recorded before this trial.
            learner: telemetry of the learner for this trial; empty where there is none.
        """
        arrays = self.arrays(task, robot.layout.nx)
        duration = robot.trial_duration
        cost, on_target, solved = score_trial(task, arrays.x, arrays.u, robot.dt, duration)
        versions = arrays.model_version[arrays.model_version > 0]
        return TrialResult(
            index=self.index,
            policy=self.policy,
            steps=self.steps(),
            duration_s=self.steps() * robot.dt,
            experience_before_s=before,
            cost=cost,
            time_on_target_s=on_target,
            solved=solved and not self.ended_early,
            ended_early=self.ended_early,
            model_version=int(versions[-1]) if len(versions) else 0,
            refits=len(set(versions.tolist())) - 1 if len(versions) else 0,
            **{name: learner.get(name, float("nan")) for name in JUDGED},
            planning_time_ms=planning_percentiles(arrays.planning_time),
            deadline_misses=int(arrays.deadline_missed.sum()),
            flags=dict(Counter(flag for _, flag in self.applied.values())),
        )
