"""Rate and age of the streams of messages that a node hears and sends, for the diagnostics. No ROS."""

import math
import time
from collections import deque
from collections.abc import Mapping

WINDOW = 100  # messages over which a rate is taken
STALE_AFTER = 1.0  # s of silence after which a stream counts as stale
NODE_SILENT = 3.0  # s; a node speaks once a second, and a busy machine may make it late


class Stream:
    """One stream of messages.

    Attributes:
        count: messages so far.
        stale_after: s of silence after which it counts as stale.
    """

    def __init__(self, stale_after: float = STALE_AFTER) -> None:
        self.count, self.stale_after = 0, stale_after
        self._moments: deque[float] = deque(maxlen=WINDOW)

    def note(self, now: float | None = None) -> None:
        """A message has come, or gone, at `now` (s, monotonic)."""
        self.count += 1
        self._moments.append(time.monotonic() if now is None else now)

    def age(self, now: float) -> float:
        """Time since the last message in s; inf where there was none."""
        return now - self._moments[-1] if self._moments else math.inf

    def rate(self, now: float) -> float:
        """Messages a second in the window; 0 while the stream is stale."""
        if len(self._moments) < 2 or self.age(now) > self.stale_after:
            return 0.0
        span = self._moments[-1] - self._moments[0]
        return (len(self._moments) - 1) / span if span > 0 else 0.0


def stale(streams: Mapping[str, Stream], now: float) -> list[str]:
    """What to say of each stream that is silent."""
    ages = {name: stream.age(now) for name, stream in streams.items() if stream.age(now) > stream.stale_after}
    return [
        f"{name}: nothing yet" if age == math.inf else f"{name}: silent for {age:.1f} s" for name, age in ages.items()
    ]


def figures(streams: Mapping[str, Stream], now: float) -> dict[str, object]:
    """Rate, age and count of every stream as values of the diagnostics."""
    values: dict[str, object] = {}
    for name, stream in streams.items():
        values |= {
            f"{name} rate_hz": f"{stream.rate(now):.2f}",
            f"{name} age_s": f"{stream.age(now):.3f}",
            f"{name} count": stream.count,
        }
    return values
