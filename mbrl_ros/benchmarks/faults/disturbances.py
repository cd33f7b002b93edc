"""What a bad link does to the messages of a topic: loses, delays, repeats, swaps, multiplies them, shifts their stamps.

A disturbance takes a message and the moment (s, monotonic) and returns what is passed on, each with its moment.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Protocol

NANOSECONDS = 1_000_000_000
LAST_SECOND = 2**31 - 1  # of a ROS time
TIMES = 10  # how often each message is sent by `TenTimes`

Passed = list[tuple[float, Any]]


class Disturbance(Protocol):
    """One kind of trouble on a link."""

    def take(self, message: Any, now: float) -> Passed:
        """What is passed on of a message, and when."""

    def end(self, now: float) -> Passed:
        """What is passed on when the trouble is over."""


@dataclass
class Silent:
    """Nothing passes. Of a latched topic the newest message comes when the link is back, as DDS has it."""

    latched: bool = False
    _last: list[Any] = field(default_factory=list)

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        self._last = [message] if self.latched else []
        return []

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        return [(now, message) for message in self._last]


@dataclass
class Delayed:
    """Every message comes later by `seconds`."""

    seconds: float

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        return [(now + self.seconds, message)]

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        return []


@dataclass
class Duplicated:
    """Every message comes twice at once and a third time half a period later."""

    dt: float

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        return [(now, message), (now, message), (now + 0.5 * self.dt, message)]

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        return []


@dataclass
class OutOfOrder:
    """Every second message comes after the one that follows it."""

    _held: list[Any] = field(default_factory=list)

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        if not self._held:
            self._held = [message]
            return []
        passed, self._held = [(now, message), (now, self._held[0])], []
        return passed

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        passed, self._held = [(now, message) for message in self._held], []
        return passed


@dataclass
class TenTimes:
    """Every message comes ten times in a period, each time with a stamp that is a tenth of a period newer."""

    dt: float

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        steps = [i * self.dt / TIMES for i in range(TIMES)]
        return [(now + step, shifted(message, step)) for step in steps]

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        return []


@dataclass
class Shifted:
    """The stamps are those of a clock that is `seconds` ahead."""

    seconds: float

    def take(self, message: Any, now: float) -> Passed:
        """See Disturbance."""
        return [(now, shifted(message, self.seconds))]

    def end(self, now: float) -> Passed:
        """See Disturbance."""
        return []


def shifted(message: Any, seconds: float) -> Any:
    """A copy with another stamp, within what a ROS time can hold; the message itself where it has none."""
    header = getattr(message, "header", None)
    if header is None or seconds == 0:
        return message
    moved = copy.deepcopy(message)
    stamp_ns = header.stamp.sec * NANOSECONDS + header.stamp.nanosec + round(seconds * NANOSECONDS)
    stamp_ns = min(max(stamp_ns, 0), LAST_SECOND * NANOSECONDS)
    moved.header.stamp.sec, moved.header.stamp.nanosec = divmod(stamp_ns, NANOSECONDS)
    return moved
