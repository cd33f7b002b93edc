"""Commands of a recorded bag: those that the guard has stamped, or those on the robot's own command topic.

What is sent to a robot often has no stamp, and never that of an observation. So its commands are put on a grid of one
control period, by the time at which they were recorded: a command counts for the period that begins nearest to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.robots.command_messages import COMMAND_FIELDS, command_reader, picked
from mbrl_ros.robots.description import RobotDescription

NANOSECONDS = 1_000_000_000
NEAR = 0.25  # of a control period: how far from its place on the grid a command may have come
CHANGED = "changed within its period"  # flag of a command that came in the midst of another one's period


@dataclass(frozen=True, eq=False)
class Applied:
    """A command u (nu,) that was applied, with the guard's flag."""

    stamp_ns: int
    u: np.ndarray
    flag: str


class GuardedCommands:
    """Reads `applied_command`: stamps and flags are the guard's."""

    def __init__(self, robot: RobotDescription) -> None:
        self._actuators, self._field = robot.actuators, COMMAND_FIELDS[robot.command_interface]

    def read(self, recorded_ns: int, message: Any) -> Iterator[Applied]:
        """The command of a message."""
        u = picked(message.name, getattr(message, self._field), self._actuators)
        yield Applied(stamp_of(message), u, message.header.frame_id)


class RobotCommands:
    """Reads the robot's own command topic, of any interface."""

    def __init__(self, robot: RobotDescription) -> None:
        self._reads: Callable[[Any], np.ndarray] = command_reader(robot)
        self._nu, self._dt_ns = len(robot.actuators), round(NANOSECONDS * robot.dt)
        self._last: Applied | None = None

    def read(self, recorded_ns: int, message: Any) -> Iterator[Applied]:
        """The command of a message on the grid; nothing where it only repeats the one of its period."""
        u = self._reads(message)
        u = u if u.shape == (self._nu,) else np.full(self._nu, np.nan)
        at = (stamp_of(message) if hasattr(message, "header") else 0) or recorded_ns
        last = self._last
        since = np.inf if last is None else (at - last.stamp_ns) / self._dt_ns
        if last is not None and 0 <= since < 1 - NEAR:
            if not np.array_equal(u, last.u):
                self._last = Applied(last.stamp_ns, u, "ok")
                yield Applied(at, u, CHANGED)
            return
        joins = last is not None and abs(since - 1) <= NEAR
        self._last = Applied(last.stamp_ns + self._dt_ns if last is not None and joins else at, u, "ok")
        yield self._last


def stamp_of(message: Any) -> int:
    """Stamp of a message's header in ns."""
    return message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
