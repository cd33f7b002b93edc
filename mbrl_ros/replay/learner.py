"""Runs the learner on the recorded observations and commands: the same transitions, the same models?

A learner of its own, from the first transition on. When it refits is taken from the recording: each model says how many
transitions it has seen. So it does what the recorded one did, however long a fit took there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mbrl_ros.control.learner import Fitted, Learner
from mbrl_ros.control.start_model import Start
from mbrl_ros.data.pairing import TransitionPairer
from mbrl_ros.data.recorded_topics import APPLIED, OBSERVATION
from mbrl_ros.data.store_format import Row
from mbrl_ros.data.transition_store import TransitionStore, to_transitions
from mbrl_ros.errors import MbrlError
from mbrl_ros.models.evaluation import one_step_error
from mbrl_ros.replay.recording import Phase, RecordedModel, Recording, Stamped
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.types import Transitions

JUDGED_BY = 300  # transitions at most that the models are compared on, spread over the recording


@dataclass(frozen=True)
class ModelPair:
    """A recorded model and the one of the replay.

    Attributes:
        version: of the recorded model.
        data_size: transitions it has seen.
        replayed_size: transitions that the one of the replay has seen.
        error: its one-step error on the transitions of the recording.
        replayed_error: the same of the replay's.
        identical: whether every number in them is the same.
        problem: why there is none in the replay, or an empty text.
    """

    version: int
    data_size: int
    replayed_size: int
    error: float
    replayed_error: float
    identical: bool
    problem: str = ""


@dataclass(frozen=True)
class LearnerResult:
    """How the replayed learner differs from the recorded one.

    Attributes:
        transitions: number of transitions in the replay.
        stored: number of those that the run's store has in the same time; None where there is no store.
        missing: stamps in ns that only the store has.
        extra: stamps that only the replay has.
        different: stamps at which they have other numbers.
        models: the models, by version.
        lost_versions: versions that the bag lacks.
        tolerance: difference of errors that still counts as none.
    """

    transitions: int
    stored: int | None
    missing: list[int]
    extra: list[int]
    different: list[int]
    models: list[ModelPair]
    lost_versions: list[int]
    tolerance: float

    @property
    def differing(self) -> list[ModelPair]:
        """Models whose errors differ by more than the tolerance."""
        return [pair for pair in self.models if not self.same(pair)]

    def same(self, pair: ModelPair) -> bool:
        """Whether a model of the replay predicts as the recorded one does."""
        if pair.problem or pair.data_size != pair.replayed_size:
            return False
        return pair.identical or abs(pair.error - pair.replayed_error) <= self.tolerance

    @property
    def agrees(self) -> bool:
        """Whether nothing differs by more than the tolerance."""
        return not (self.missing or self.extra or self.different or self.differing)


class MemoryStore:
    """What the learner asks of its store, in memory."""

    def __init__(self, rows: list[Row], robot: RobotDescription, changes: list[int]) -> None:
        self.rows, self._layout, self.changes = list(rows), robot.layout, list(changes)
        self.next_trajectory = 1 + max((row.trajectory for row in rows), default=-1)

    def load(self) -> Transitions:
        """See `TransitionStore.load`."""
        return to_transitions(self.rows, self._layout)

    def note_change(self, before: int) -> None:
        """See `TransitionStore.note_change`."""
        self.changes.append(before)

    def append(self, *values: Any) -> None:
        """See `TransitionStore.append`."""
        self.rows.append(Row(*values))


@dataclass(frozen=True)
class LearnerSettings:
    """What the learner is made of.

    Attributes:
        train: fit of the model, see `Learner`.
        config: `graph.LearnerConfig`.
        model: configuration of the model.
        change: of the change detection.
        start: the model that the run started from, None for none.
        history: transitions that the run's store held before.
        changes: after how many of these the robot had changed.
    """

    train: Any
    config: Any
    model: Any
    change: Any
    start: Start | None
    history: list[Row]
    changes: list[int]


def replay_learner(
    recording: Recording,
    robot: RobotDescription,
    settings: LearnerSettings,
    stored: Mapping[int, Row] | None,
    tolerance: float,
) -> LearnerResult:
    """Pair, refit and compare.

    Args:
        recording: what was recorded.
        robot: whose.
        settings: of the learner.
        stored: transitions of the run's store in the time of the recording, by stamp; None where there is none.
        tolerance: of one-step errors, in standard deviations of the state.
    """
    own = LearnerReplay(robot, settings)
    own.run(recording)
    rows = {row.stamp_ns: row for row in own.new_rows()}
    motion = spread_over(list(rows.values()), robot)
    expected = rows if stored is None else stored
    numbers = range(min(recording.models, default=1), max(recording.models, default=0) + 1)
    return LearnerResult(
        transitions=len(rows),
        stored=None if stored is None else len(stored),
        missing=sorted(expected.keys() - rows.keys()),
        extra=sorted(rows.keys() - expected.keys()),
        different=[s for s in sorted(rows.keys() & expected.keys()) if not same_row(rows[s], expected[s])],
        models=[own.compared(model, motion) for _, model in sorted(recording.models.items())],
        lost_versions=[number for number in numbers if number not in recording.models],
        tolerance=tolerance,
    )


class LearnerReplay:
    """The learner's node without ROS.

    Attributes:
        made: version -> model, number of transitions it has seen, and why there is none.
    """

    def __init__(self, robot: RobotDescription, settings: LearnerSettings) -> None:
        self.robot, self.settings = robot, settings
        self.store = MemoryStore(settings.history, robot, settings.changes)
        train, seed, store = settings.train, settings.config.seed, cast(TransitionStore, self.store)
        self.learner = Learner(store, robot.layout, train, settings.model, seed, settings.change)
        self.pairer = TransitionPairer(round(1e9 * robot.dt), self.store.next_trajectory)
        self.trial = 0
        self.waiting: list[RecordedModel] = []  # models that have seen more than there is so far
        self.full: set[int] = set()
        self.made: dict[int, tuple[Any, int, str]] = {}

    def new_rows(self) -> list[Row]:
        """Transitions of the recording."""
        return self.store.rows[len(self.settings.history) :]

    def run(self, recording: Recording) -> None:
        """Go through the recording in the order in which it was sent."""
        self.full = full_fits(recording)
        for event in in_order(recording):
            if isinstance(event, Phase):
                self.begin_or_end(event)
            elif isinstance(event, RecordedModel):
                self.waiting.append(event)
                self.fit_waiting()
            else:
                self.pair(*event)
        for model in self.waiting:
            self.fit(model)

    def begin_or_end(self, phase: Phase) -> None:
        """A trial begins, or is over."""
        self.trial = phase.index
        if phase.phase == "run":
            self.learner.begin_trial()
        elif phase.phase == "done" and len(self.learner):
            self.learner.judge_trial(self.settings.config.error_horizon)

    def pair(self, topic: str, event: Stamped) -> None:
        """Take an observation or a command that was applied; what that completes is learned from."""
        if topic == APPLIED:
            pairs = self.pairer.apply(event.stamp_ns, event.values, event.remark)
        else:
            pairs = [] if event.remark else self.pairer.observe(event.stamp_ns, event.values)
        for pair in pairs:
            self.learner.add(pair, self.trial)
            self.learner.changed(pair)
            self.fit_waiting()

    def fit_waiting(self) -> None:
        """Fit what is due: as soon as there is all that the recorded model has seen."""
        while self.waiting and (self.is_start(self.waiting[0]) or self.size() >= self.waiting[0].data_size):
            self.fit(self.waiting.pop(0))

    def size(self) -> int:
        """Number of transitions that there are to learn from."""
        start = self.settings.start
        new = len(self.learner) - self.learner.outdated
        return new if start is None or self.learner.outdated else start.size() + new

    def is_start(self, model: RecordedModel) -> bool:
        """Whether it is the model that the run started from."""
        start = self.settings.start
        return start is not None and not self.made and start.header.data_size == model.data_size

    def data(self) -> Transitions:
        """See `ModelLearner.data`."""
        new, start = self.learner.data(self.learner.outdated), self.settings.start
        return new if start is None or self.learner.outdated else start.with_new(new)

    def fit(self, recorded: RecordedModel) -> None:
        """Fit to as many transitions as the recorded model has seen, the oldest first."""
        if self.is_start(recorded) and self.settings.start is not None:
            self.made[recorded.version] = self.settings.start.model, recorded.data_size, ""
            self.learner.accept(Fitted(self.settings.start.model, recorded.data_size, None))
            return
        if not self.size():
            self.made[recorded.version] = None, 0, "there are no transitions"
            return
        data = first_rows(self.data(), recorded.data_size)
        try:
            fitted = self.learner.fit(data, recorded.version not in self.full, self.learner.former())
        except MbrlError as error:
            self.made[recorded.version] = None, len(data), str(error)
            return
        if self.settings.config.calibrate:
            fitted = replace(fitted, model=self.learner.calibrated(fitted.model))
        self.learner.accept(fitted)
        self.made[recorded.version] = fitted.model, len(data), ""

    def compared(self, recorded: RecordedModel, motion: Transitions) -> ModelPair:
        """A recorded model beside the one of the replay."""
        model, size, problem = self.made[recorded.version]
        ours = float("nan") if model is None else one_step_error(model, motion)
        same = model is not None and identical(model, recorded.model)
        theirs = ours if same else one_step_error(recorded.model, motion)
        return ModelPair(recorded.version, recorded.data_size, size, theirs, ours, same, problem)


def in_order(recording: Recording) -> list[Phase | RecordedModel | tuple[str, Stamped]]:
    """Everything that the learner has heard and published, in the order in which it was sent."""
    stamped = [(OBSERVATION, o) for o in recording.observations] + [(APPLIED, a) for a in recording.applied]
    timed: list[tuple[int, Phase | RecordedModel | tuple[str, Stamped]]] = [(s.time_ns, (t, s)) for t, s in stamped]
    timed += [(phase.time_ns, phase) for phase in recording.phases]
    timed += [(model.time_ns, model) for model in recording.models.values()]
    return [event for _, event in sorted(timed, key=lambda pair: pair[0])]


def full_fits(recording: Recording) -> set[int]:
    """Versions of models that were fitted without the model before them: after a trial, and before the first one."""
    begin = min((p.time_ns for p in recording.phases if p.phase == "run"), default=0)
    full = {version for version, model in recording.models.items() if model.time_ns < begin}
    ends = {p.index: p.time_ns for p in recording.phases if p.phase == "done"}
    for figures in recording.judged:
        version, trial = int(figures.get("model_version", 0)), int(figures.get("trial", -1))
        if version in recording.models and recording.models[version].time_ns > ends.get(trial, np.inf):
            full.add(version)
    return full


def first_rows(data: Transitions, count: int) -> Transitions:
    """The first `count` transitions."""
    return Transitions(data.x[:count], data.u[:count], data.x_next[:count], data.trajectory[:count])


def spread_over(rows: list[Row], robot: RobotDescription) -> Transitions:
    """At most JUDGED_BY of the rows, evenly over all of them."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(JUDGED_BY, len(rows))).astype(int))
    return to_transitions([rows[i] for i in chosen], robot.layout)


def same_row(a: Row, b: Row) -> bool:
    """Whether two transitions have the same numbers, to the last bit."""
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("x", "u", "x_next"))


def identical(a: Any, b: Any) -> bool:
    """Whether two models have the same numbers, to the last bit."""
    return (
        type(a) is type(b)
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)
    )
