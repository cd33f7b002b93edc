"""Observations of a recorded bag: as they were published, or made anew by the estimator from what the sensors said."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.data.bag_commands import stamp_of
from mbrl_ros.errors import MbrlError
from mbrl_ros.estimation.base_messages import base_measurements
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.estimator import Estimator
from mbrl_ros.robots.command_messages import picked
from mbrl_ros.robots.description import RobotDescription

ROUNDING_NS = 1e3  # of a stamp as a number of seconds


class BagError(MbrlError):
    """A bag that cannot be read, lacks a topic or holds another robot."""


@dataclass(frozen=True, eq=False)
class Observed:
    """An observation: x (nx,), and why it is not learned from (bridged, withheld); empty where it is."""

    stamp_ns: int
    x: np.ndarray
    problem: str = ""


class Observer:
    """Turns messages of the sensors into observations, as the node `state_estimator` does.

    They are made at the stamps of the measurements, as that node does at rate 0, or at stamps that are asked for: those
    of the commands, where the measurements of several sensors come at stamps of their own.
    """

    def __init__(
        self, robot: RobotDescription, config: FilterConfig, path: Path, stamps: Iterable[int] | None = None
    ) -> None:
        """Begin with an estimator that knows nothing.

        Args:
            robot: whose joints and base are looked for.
            config: settings of the estimator.
            path: of the bag, for messages.
            stamps: ascending, in ns, at which observations are asked for; None: at those of the measurements.
        """
        self._robot, self._path = robot, path
        self._estimator = Estimator(config, len(robot.joints), robot.position_noise, robot.velocity_noise)
        self._wanted = None if stamps is None else deque(stamps)
        self._last_ns = -1
        self._own_joints = False  # whether a sensor has told of any of the robot's joints
        self._foreign: tuple[str, list[str]] | None = None  # a topic with other joints only, and these

    def recorded(self, name: str, message: Any) -> Observed:
        """An observation that was published on the topic `name`."""
        self._require_joints(name, message.name)
        x = np.concatenate(
            [
                picked(message.name, message.position, self._robot.joints),
                picked(message.name, message.velocity, self._robot.joints),
                picked(message.name, message.position, self._robot.base_states),
            ]
        )
        return Observed(stamp_of(message), x, f"bridged: {r}" if (r := message.header.frame_id) else "")

    def measured(self, name: str, kind: str, message: Any) -> Iterator[Observed]:
        """What a message of a sensor gives.

        Args:
            name: of the sensor's topic, as configured.
            kind: JointState, Odometry, PoseStamped or Imu.
            message: of that type.
        """
        stamp_ns = stamp_of(message)
        yield from self.made_before(stamp_ns)
        problem = self._measure(name, kind, stamp_ns, message)
        stamp_s = 1e-9 * stamp_ns
        if self._wanted is None and not problem and stamp_s == self._estimator.newest and stamp_ns != self._last_ns:
            self._last_ns = stamp_ns
            yield self._made(stamp_ns)

    def made_before(self, stamp_ns: float | None = None) -> Iterator[Observed]:
        """Observations that were asked for before `stamp_ns`; None: no later than the newest measurement."""
        end = 1e9 * self._estimator.newest + ROUNDING_NS if stamp_ns is None else stamp_ns
        while self._wanted and self._wanted[0] < end:
            yield self._made(self._wanted.popleft())

    def _measure(self, name: str, kind: str, stamp_ns: int, message: Any) -> str:
        """Give a message to the estimator; returns why it was not used, or an empty text."""
        stamp_s = 1e-9 * stamp_ns
        if kind == "JointState":
            if not set(self._robot.joints) & set(message.name):
                self._foreign = (name, list(message.name))
                return self._estimator.pass_over(name, stamp_s)
            self._own_joints = True
            position = picked(message.name, message.position, self._robot.joints)
            velocity = picked(message.name, message.velocity, self._robot.joints)
            return self._estimator.measure_joints(stamp_s, name, position, velocity, stamp_s)
        problems = [
            self._estimator.measure_base(stamp_s, source, value, covariance, stamp_s)
            for source, (value, covariance) in base_measurements(message, kind).items()
            if source in self._estimator.sources
        ]
        return "; ".join(problems) if all(problems) else ""

    def _made(self, stamp_ns: int) -> Observed:
        """What the estimator says of a stamp."""
        found = self._estimator.observe(1e-9 * stamp_ns)
        base = picked(self._estimator.base_names, found.base.tolist(), self._robot.base_states)
        kind = "withheld" if not found.valid else "bridged" if found.bridged else ""
        x = np.concatenate([found.position, found.velocity, base])
        return Observed(stamp_ns, x, f"{kind}: {found.reason}" if kind else "")

    def require_own_joints(self) -> None:
        """At the end: refuse a bag whose sensors told of another robot's joints only.

        Before it, nobody knows: a gripper may publish on the same topic as the robot, and the node passes over it.
        """
        if self._foreign is not None and not self._own_joints:
            self._require_joints(*self._foreign)

    def _require_joints(self, name: str, found: Sequence[str]) -> None:
        """Refuse a bag of another robot; single joints may be missing now and then."""
        if not set(self._robot.entries) & set(found):
            raise BagError(
                f"{self._path}: {name} has the joints {list(found)}, the robot '{self._robot.name}' has "
                f"{list(self._robot.entries)}"
            )
