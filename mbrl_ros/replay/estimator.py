"""Runs the estimator on the recorded measurements, as the state estimator's node does."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.data.bag_commands import NANOSECONDS, stamp_of
from mbrl_ros.data.recorded_topics import OBSERVATION
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.estimator import Estimator
from mbrl_ros.replay.differences import Differences, compare, spread
from mbrl_ros.replay.recording import Recording, Stamped
from mbrl_ros.replay.sensor_values import base_measurements
from mbrl_ros.robots.command_messages import picked
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.sensors import estimator_config

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
        differences: of the observations.
    """

    recorded: int
    replayed: int
    missing: list[int]
    extra: list[int]
    bridged: list[int]
    settling: list[int]
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
    replayed = EstimatorReplay(robot, config).run(recording)
    recorded = {o.stamp_ns: o for o in recording.observations}
    differing, settling = set(recorded) ^ set(replayed), list[int]()
    both = recorded.keys() & replayed.keys()
    bridged = {s for s in both if bool(recorded[s].remark) != bool(replayed[s].remark)}
    unit = spread([o.values for o in recording.observations], robot.layout.nx)

    def differences(stamps: set[int]) -> Differences:
        theirs, ours = ({s: values[s].values for s in stamps} for values in (recorded, replayed))
        return compare(robot.layout.state, theirs, ours, unit, tolerance)

    found = differences(both)
    if not lockstep:
        begin = min((stamp_of(message) for name, message in recording.sensors if name != OBSERVATION), default=0)
        settling = sorted(s for s in differing | bridged | set(found.beyond) if s < begin + SETTLING_NS)
        found = differences(both - set(settling))
    left = set(settling)
    return EstimatorResult(
        recorded=len(recorded),
        replayed=len(replayed),
        missing=sorted(set(recorded) - set(replayed) - left),
        extra=sorted(set(replayed) - set(recorded) - left),
        bridged=sorted(bridged - left),
        settling=settling,
        differences=found,
    )


class EstimatorReplay:
    """The estimator's node without ROS."""

    def __init__(self, robot: RobotDescription, config: FilterConfig) -> None:
        self.robot, self.config = robot, estimator_config(config, robot)
        self.estimator = Estimator(self.config, len(robot.joints), robot.position_noise, robot.velocity_noise)
        for topic in () if robot.joints else self.config.joints_sources:
            del self.estimator.sources[topic]
        self.last_ns = -1
        self.made: dict[int, Stamped] = {}

    def run(self, recording: Recording) -> dict[int, Stamped]:
        """Observations by stamp."""
        for name, message in recording.sensors:
            if name == OBSERVATION:
                if self.config.rate > 0:
                    self.observe(message.stamp_ns)
                continue
            stamp_ns = stamp_of(message)
            problem = self.measure(name, message, stamp_ns)
            newest = 1e-9 * stamp_ns == self.estimator.newest
            if not problem and self.config.rate == 0 and newest and stamp_ns != self.last_ns:
                self.observe(stamp_ns)
        return self.made

    def measure(self, name: str, message: Any, stamp_ns: int) -> str:
        """Use a measurement; returns why it was not used, or an empty text."""
        stamp_s, sources = 1e-9 * stamp_ns, self.estimator.sources
        if name in self.config.joints_sources:
            position, velocity = (
                picked(message.name, v, self.robot.joints) for v in (message.position, message.velocity)
            )
            return self.estimator.measure_joints(stamp_s, name, position, velocity, stamp_s)
        problems = [
            self.estimator.measure_base(stamp_s, source, value, covariance, stamp_s)
            for source, (value, covariance) in base_measurements(message).items()
            if source in sources
        ]
        return "; ".join(problems) if all(problems) else ""

    def observe(self, stamp_ns: int) -> None:
        """Make an observation, unless it is not valid."""
        found = self.estimator.observe(1e-9 * stamp_ns)
        x = np.concatenate([found.position, found.velocity, found.base])
        if found.valid and np.all(np.isfinite(x)):
            self.last_ns = stamp_ns
            self.made[stamp_ns] = Stamped(stamp_ns, stamp_ns, x, found.reason if found.bridged else "")
