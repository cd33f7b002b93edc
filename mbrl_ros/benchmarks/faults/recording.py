"""What was seen of the graph, with monotonic times of reception, and what it says of a fault. No ROS."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

PASSED = ("ok", "limited", "late")  # flags of the controller's own commands
SAFE = ("stale", "invalid", "timeout", "state", "heartbeat", "stopped")  # flags of safe actions
ALLOWED_PERIODS = 3.0  # from the fault to the safe action
LIMP_PERIODS = 5  # in a row without force: no chance any more
STILL = 0.02  # m/s or rad/s below which a robot stands still
LIMP_TOLERANCE = 0.01  # m/s between the cart's speed after a period and that without force; 1 N makes 0.05 and more


@dataclass
class Recording:
    """Everything the observer has seen, oldest first; times in s of the monotonic clock.

    Attributes:
        actuators: time and values of each command to the actuators.
        applied: time and flag of each `applied_command`.
        held: time and values of those that the guard calls a safe action.
        said: time and text of all that the diagnostics said: messages and values.
        truth: time, stamp in s and state (nx,) of the simulated robot.
        acknowledged: most transitions that the learner has said to be stored.
        trial_began: when the newest trial was announced.
        phase: of the newest announcement.
    """

    actuators: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)
    applied: list[tuple[float, str]] = field(default_factory=list)
    held: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)
    said: list[tuple[float, str]] = field(default_factory=list)
    truth: list[tuple[float, float, np.ndarray]] = field(default_factory=list)
    acknowledged: int = 0
    trial_began: float = math.inf
    phase: str = ""

    def forget(self, before: float) -> None:
        """Drop what is older."""
        for name in ("actuators", "applied", "held", "said", "truth"):
            setattr(self, name, [entry for entry in getattr(self, name) if entry[0] >= before])

    def passed_since(self, moment: float) -> int:
        """Commands of the controller that were passed on since then."""
        return sum(t >= moment and flag in PASSED for t, flag in list(self.applied))

    def flags(self, since: float, until: float = math.inf) -> dict[str, int]:
        """Flags of the guard in that time."""
        return dict(Counter(flag for t, flag in list(self.applied) if since <= t <= until))


def out_of_bounds(
    commands: Iterable[tuple[float, tuple[float, ...]]], low: Sequence[float], high: Sequence[float]
) -> str:
    """The first command to the actuators that is none: of the wrong size, not finite, out of range; or nothing."""
    for _, values in commands:
        if len(values) != len(low):
            return f"{len(values)} values at the actuators; expected {len(low)}"
        if not all(math.isfinite(v) and a <= v <= b for v, a, b in zip(values, low, high, strict=True)):
            return f"{list(values)} at the actuators; allowed are {list(low)} to {list(high)}"
    return ""


def first_safe(
    commands: Iterable[tuple[float, tuple[float, ...]]],
    fault: float,
    lasting: bool,
    held: Collection[tuple[float, ...]] | None = None,
) -> float | None:
    """Time from the fault to the first safe action in s; None where there was none.

    Args:
        commands: time and values of what reached the actuators.
        fault: when it happened.
        lasting: whether nothing but safe actions may follow the one that counts.
        held: the positions that the guard says it holds, where the robot takes positions. None: safe is zero.
    """
    entries = list(commands)
    values = [v for _, v in entries]
    moves = [any(v) for v in values] if held is None else moving_on(values, held)
    later = [(t, move) for (t, _), move in zip(entries, moves, strict=True) if t >= fault]
    moving = [i for i, (_, move) in enumerate(later) if move]
    candidates = later[moving[-1] + 1 :] if lasting and moving else later
    return next((t - fault for t, move in candidates if not move), None)


def moving_on(positions: Sequence[tuple[float, ...]], held: Collection[tuple[float, ...]]) -> list[bool]:
    """Of each commanded position whether it moves on: it is none of those held, and not that before or after it."""
    around = [(), *positions, ()]
    return [here not in (around[i], around[i + 2]) and here not in held for i, here in enumerate(positions)]


def first_limp(
    truth: Sequence[tuple[float, float, np.ndarray]],
    without_force: Callable[[np.ndarray, float], np.ndarray],
    fault: float,
) -> float | None:
    """Time from the fault until the drive has no force any more, told by the motion alone, in s; None where it has.

    Args:
        truth: time, stamp and state of the cart-pole.
        without_force: where a state leads in a time in s if nothing pushes.
        fault: when it happened.
    """
    later = [entry for entry in truth if entry[0] >= fault]
    limp = [
        abs(x_next[2] - without_force(x, (after - before))[2]) < LIMP_TOLERANCE
        for (_, before, x), (_, after, x_next) in itertools.pairwise(later)
    ]
    return first_in_a_row(limp, [t - fault for t, _, _ in later])


def first_still(truth: Sequence[tuple[float, float, np.ndarray]], fault: float) -> float | None:
    """Time from the fault until the robot stands still, in s; None where it does not.

    Args:
        truth: time, stamp and state, positions and then as many velocities.
        fault: when it happened.
    """
    later = [(t - fault, x[len(x) // 2 :]) for t, _, x in truth if t >= fault]
    return first_in_a_row([bool(np.all(np.abs(v) < STILL)) for _, v in later], [t for t, _ in later])


def first_in_a_row(holds: Sequence[bool], times: Sequence[float]) -> float | None:
    """The first time from which on something holds LIMP_PERIODS times in a row."""
    for i in range(len(holds) - LIMP_PERIODS + 1):
        if all(holds[i : i + LIMP_PERIODS]):
            return times[i]
    return None


def reason_for(said: Iterable[tuple[float, str]], flags: Iterable[str], since: float, expected: str) -> str:
    """What was published about a fault: the first text with `expected` in it, or a flag of that name; or nothing."""
    if not expected:
        return ""
    words = expected.split("|")
    news = [text for t, text in said if t >= since]
    texts = (text for word in words for text in news if word in text)
    return next(itertools.chain(texts, (f"flag {word}" for word in words if word in flags)), "")
