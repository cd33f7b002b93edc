"""Runs the estimator on the recorded measurements, as the state estimator's node does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbrl_ros.data.bag_commands import NANOSECONDS, stamp_of
from mbrl_ros.data.bag_observer import Observed, Observer
from mbrl_ros.data.recorded_topics import OBSERVATION
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.replay.differences import Differences, compare, spread
from mbrl_ros.replay.recording import Recording
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.sensors import estimator_config

WITHHELD = "withheld"  # how the problem of an observation begins that is not published
ENDING_NS = NANOSECONDS  # before its end a recording that was killed may have an observation without its measurement
SETTLING_NS = NANOSECONDS  # real time: what the filter knew before the recording began is forgotten after that


@dataclass(frozen=True)
class EstimatorResult:
    """How the replayed observations differ from the recorded ones.

    Attributes:
        recorded: number of observations.
        replayed: the same.
        missing: stamps in ns that only the recording has.
        extra: stamps that only the replay has.
        bridged: stamps at which only one of them had to bridge a measurement.
        settling: stamps that differ at the very beginning, where the filter may have known what was not recorded.
        ending: stamps at the very end that only one of them has.
        differences: of the observations.
    """

    recorded: int
    replayed: int
    missing: list[int]
    extra: list[int]
    bridged: list[int]
    settling: list[int]
    ending: list[int]
    differences: Differences

    @property
    def agrees(self) -> bool:
        """Whether nothing differs by more than the tolerance."""
        return not (self.missing or self.extra or self.bridged or self.differences.beyond)


def replay_estimator(
    recording: Recording, robot: RobotDescription, config: FilterConfig, *, lockstep: bool, tolerance: float
) -> EstimatorResult:
    """Make the observations anew and compare them.

    With `filter.rate` the timer that made the recorded ones is replaced by their stamps: an observation is made where
    the recorded one stands among the measurements.

    Args:
        recording: what was recorded.
        robot: whose.
        config: parameters ``filter``.
        lockstep: whether everything was recorded from the very first measurement on.
        tolerance: as a share of each entry's range in the recording.
    """
    replayed = EstimatorReplay(robot, estimator_config(config, robot), recording.path).run(recording)
    recorded = {o.stamp_ns: o for o in recording.observations}
    differing = recorded.keys() ^ replayed.keys()
    both = recorded.keys() & replayed.keys()
    bridged = {s for s in both if bool(recorded[s].remark) != bool(replayed[s].problem)}
    unit = spread([o.values for o in recording.observations], robot.layout.nx)

    def differences(stamps: set[int]) -> Differences:
        theirs, ours = {s: recorded[s].values for s in stamps}, {s: replayed[s].x for s in stamps}
        return compare(robot.layout.state, theirs, ours, unit, tolerance)

    measured = [stamp_of(message) for name, message in recording.sensors if name != OBSERVATION]
    begin = -NANOSECONDS if lockstep else min(measured, default=0)
    odd = differing | bridged | set(differences(both).beyond)
    settling = {s for s in odd if s < begin + SETTLING_NS}
    ending = {s for s in differing if s > max([*measured, *recorded], default=0) - ENDING_NS} - settling
    apart = settling | ending
    return EstimatorResult(
        recorded=len(recorded),
        replayed=len(replayed),
        missing=sorted(recorded.keys() - replayed.keys() - apart),
        extra=sorted(replayed.keys() - recorded.keys() - apart),
        bridged=sorted(bridged - apart),
        settling=sorted(settling),
        ending=sorted(ending),
        differences=differences(both - settling),
    )


class EstimatorReplay(Observer):
    """The estimator's node without ROS."""

    def __init__(self, robot: RobotDescription, config: FilterConfig, path: Path) -> None:
        super().__init__(robot, config, path, stamps=() if config.rate > 0 else None)
        self._timer = config.rate > 0
        self._found: dict[int, Observed] = {}

    def run(self, recording: Recording) -> dict[int, Observed]:
        """Observations by stamp; those that were withheld are none."""
        for name, message in recording.sensors:
            if name != OBSERVATION:
                self._take(self.measured(name, message.__msgtype__.rsplit("/", 1)[-1], message))
            elif self._timer:
                self._take([self._made(message.stamp_ns)])
        return self._found

    def _take(self, made: Iterable[Observed]) -> None:
        for observed in made:
            if not observed.problem.startswith(WITHHELD) and np.all(np.isfinite(observed.x)):
                self._found[observed.stamp_ns] = observed

    def _require_joints(self, name: str, found: Sequence[str]) -> None:
        """Others may publish joints of their own on the same topic, as the node takes it, too."""
