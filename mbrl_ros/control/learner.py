"""The learning loop without ROS: aggregate transitions, fit, keep the last good model (DAgger, Ross et al. 2011)."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np

from mbrl_ros.control.change_detection import ChangeConfig, ChangeDetector
from mbrl_ros.data.pairing import Pair
from mbrl_ros.data.patient_store import PatientStore
from mbrl_ros.data.transition_buffer import TransitionBuffer
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.models.calibration import LEVEL, coverage, deviations, horizon_scale
from mbrl_ros.models.evaluation import multi_step_error, one_step_error
from mbrl_ros.models.fitting import FitError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

# What a fit may end in where the numbers, not the code, are at fault; torch raises the last.
NUMERICAL = (ArithmeticError, np.linalg.LinAlgError, MemoryError, RuntimeError)
CALIBRATION_TRIALS = 3  # the last ones whose deviations count: the model changes, and so does how sure it is


@dataclass(frozen=True)
class Verdict:
    """How a trial's motion judges the model that the trial began with, which had not seen it; NaN where it cannot.

    Attributes:
        one_step_error: see `evaluation.one_step_error`.
        multi_step_error: the same over the horizon.
        coverage_1: share of the true states within the 90 % interval one period ahead.
        coverage_h: the same at the end of the horizon.
    """

    one_step_error: float = float("nan")
    multi_step_error: float = float("nan")
    coverage_1: float = float("nan")
    coverage_h: float = float("nan")


@dataclass(frozen=True)
class Fitted:
    """A fitted model, the number of transitions it has seen and what the trainer reports."""

    model: Any
    data_size: int
    report: Any


class Learner:
    """Holds all transitions and the newest model.

    Attributes:
        model: newest model, None before the first fit.
        version: number of fits that succeeded, in this run and the one it resumes.
        trained_on: transitions the newest model has seen.
    """

    def __init__(
        self,
        store: TransitionStore | PatientStore,
        layout: StateLayout,
        train: Callable,
        config: Any,
        seed: int,
        change: ChangeConfig | None = None,
    ) -> None:
        """Take over what the store holds.

        Args:
            store: where transitions are kept; its content is learned from, too.
            layout: state layout.
            train: `fit(data, layout, config, seed, previous)` of a model; one that also takes ``former`` and
                ``discrepancy`` is given the motion of the robot before it changed.
            config: the model's configuration.
            seed: of the training, the same for every fit: members keep their resamples, and trainers take what shall
                differ from one fit to the next from the number of transitions, too (`fitting.stream`).
            change: how a change of the robot is detected; None for the defaults.
        """
        self._store, self._layout, self._train, self._config, self._seed = store, layout, train, config, seed
        self._rows = TransitionBuffer(store.load())
        self.model: Any = None
        self.version = 0
        self.trained_on = 0
        self._trials: dict[int, tuple[int, Any]] = {}  # source -> row and model that its trial began with
        self._deviations: list[np.ndarray] = []  # standardised errors (k, H, nx) of the last trials
        self._change = change or ChangeConfig()
        self._detector = ChangeDetector(self._change)
        self.changed_at = min(max(store.changes, default=0), len(self))  # row from which on it is the robot of now

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, pair: Pair, trial: int, source: int = 0) -> None:
        """Store a transition of a robot durably, or keep it until it can be; only then does it count.

        Raises:
            StoreError: it was refused; it is not learned from either.
        """
        self._store.append(pair.stamp_ns, trial, pair.trajectory, pair.x, pair.u, pair.x_next, pair.flag)
        self._rows.append(pair.x, pair.u, pair.x_next, pair.trajectory, source)

    def changed(self, pair: Pair) -> bool:
        """Whether this transition, held against the newest model, says that the robot has changed.

        As soon as `ChangeConfig.fresh` newer transitions are there, what is older is learned from as another robot's
        (`former`), or not at all.
        """
        if self.model is None:
            return False
        mean, std = self.model.predict(pair.x[None], pair.u[None])
        total = np.sqrt((std[:, 0] ** 2).mean(axis=0) + mean[:, 0].var(axis=0))
        error = self._layout.targets(pair.x, pair.x_next) - mean[:, 0].mean(axis=0)
        if not self._detector.update(error / total):
            return False
        self.changed_at = len(self) - self._detector.began
        self._store.note_change(self.changed_at)
        self._detector.forget()
        self._deviations = []
        return True

    @property
    def outdated(self) -> int:
        """Number of transitions from before the robot's last change; 0 until there are enough newer ones."""
        return self.changed_at if len(self) - self.changed_at >= self._change.fresh else 0

    def begin_trial(self, source: int = 0) -> None:
        """Remember where the trial of a robot begins and which model it begins with."""
        self._trials[source] = len(self), self.model

    def data(self, start: int = 0, source: int | None = None) -> Transitions:
        """Transitions from row `start` on, of one robot or of all; each trajectory in one piece."""
        return self._rows.since(start, source)

    def former(self) -> Transitions | None:
        """Transitions between the robot's last two changes, for a trainer that can learn from another robot's motion.

        None where the robot has not changed, or the trainer cannot.
        """
        if not self.outdated or "former" not in signature(self._train).parameters:
            return None
        before = max((row for row in self._store.changes if row < self.changed_at), default=0)
        return self._rows.since(before)[: self.changed_at - before]

    def judge_trial(self, horizon: int, source: int = 0) -> Verdict:
        """Judge the model that a robot's trial began with on its motion, and calibrate by it the models to come."""
        start, model = self._trials.get(source, (len(self), None))
        if model is None or not self._rows.has(source, start):
            return Verdict()
        motion = self.data(start, source)
        errors = one_step_error(model, motion), multi_step_error(model, motion, horizon)
        z = deviations(model, motion, horizon)
        if len(z) == 0:
            return Verdict(*errors)
        plain = deviations(model.with_arrays(horizon_scale=np.ones((1, model.nx), model.array_type)), motion, horizon)
        self._deviations = [*self._deviations, plain][-CALIBRATION_TRIALS:]
        covered = coverage(z, [LEVEL])[0].mean(axis=-1)
        return Verdict(*errors, float(covered[0]), float(covered[-1]))

    def calibrated(self, model: Any) -> Any:
        """The model, as sure as the last trials say it may be."""
        if not self._deviations:
            return model
        scale = horizon_scale(np.concatenate(self._deviations))
        return model.with_arrays(horizon_scale=scale.astype(model.array_type))

    def fit(self, data: Transitions, warm: bool, former: Transitions | None = None) -> Fitted:
        """Train on `data`; `warm` starts from the newest model. Changes nothing here, so a thread may call it.

        Args:
            data: of the robot as it is.
            warm: start from the newest model.
            former: see `former`, asked for when `data` were.

        Raises:
            MbrlError: the training failed; the last good model stays in use.
        """
        previous = self.model if warm else None
        more = {} if former is None else {"former": former, "discrepancy": self._change.discrepancy}
        try:
            model, report = self._train(data, self._layout, self._config, self._seed, previous, **more)
        except NUMERICAL as error:
            raise FitError(f"fit: {type(error).__name__}: {error}; the last good model stays in use") from error
        return Fitted(model, len(data), report)

    def accept(self, fitted: Fitted) -> None:
        """Make a fitted model the newest one."""
        self.model, self.trained_on = fitted.model, fitted.data_size
        self.version += 1
