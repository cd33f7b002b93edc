"""An axis: from values to places in a picture, where its ticks are and how they are written."""

import math
from dataclasses import dataclass

import numpy as np

DECADES = 8.0  # of a logarithmic axis at most; what is smaller stands at its lower end
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        low: value at its beginning.
        high: value at its end, larger than `low`.
        start: place of `low` in the picture.
        end: place of `high`.
        log: whether it is logarithmic; both ends are positive then.
        turns: whether the values are angles in rad, with ticks at multiples of pi.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    turns: bool = False

    def place(self, values: np.ndarray | float) -> np.ndarray:
        """Places in the picture: any shape -> the same shape; beyond the ends where the values are."""
        values = np.asarray(values, float)
        if self.log:
            tiny = self.low * 1e-3
            share = np.log(np.maximum(values, tiny) / self.low) / math.log(self.high / self.low)
        else:
            share = (values - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Values within the axis and how they are written, about `most` of them, and never fewer than two."""
        if self.log:
            found = [(v, plain(v)) for v in log_ticks(self.low, self.high, most)]
        elif self.turns:
            halves = (self.high - self.low) / (0.5 * math.pi)
            step = 0.5 * math.pi * (1 if halves <= most else 2 * math.ceil(0.5 * halves / most))
            found = [(v, half_turns(round(v / (0.5 * math.pi)))) for v in multiples(step, self.low, self.high)]
        else:
            found = []
        return found if len(found) >= 2 else [(v, plain(v)) for v in round_ticks(self.low, self.high, most)]


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about `most`; two at least, since one alone is no scale."""
    step = nice_step((high - low) / most)
    found = multiples(step, low, high)
    return found if len(found) >= 2 else multiples(nice_step(0.4 * step), low, high)


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least` > 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= least * (1.0 - 1e-9))


def multiples(step: float, low: float, high: float) -> list[float]:
    """Multiples of `step` between two values, the ends included."""
    slack = 1e-9 * step
    return [k * step for k in range(math.ceil((low - slack) / step), math.floor((high + slack) / step) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 times the powers of ten between two values, or the powers alone, or every few of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = [m * 10.0**k for k in range(first, last + 1) for m in (1.0, 2.0, 5.0)]
    every = max(1, math.ceil((last - first) / most))
    for values in (fine, [10.0**k for k in range(first, last + 1, every)]):
        shown = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(shown) <= most + 1:
            return shown
    return shown


def plain(value: float) -> str:
    """A tick's number, short, with a real minus sign."""
    return f"{value:.6g}".replace("-", MINUS) if value else "0"


def half_turns(count: int) -> str:
    """So many times half of pi: 0, π/2, π, 3π/2 and so on."""
    times, half = (abs(count), "/2") if count % 2 else (abs(count) // 2, "")
    size = f"{'' if times == 1 else times}π{half}" if count else "0"
    return f"{MINUS}{size}" if count < 0 else size


def padded(low: float, high: float, log: bool = False) -> tuple[float, float]:
    """A range that holds these values with some room, never empty; of a logarithmic one both ends are positive."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return (0.1, 10.0) if log else (-1.0, 1.0)
    if log:
        high = max(high, 1e-300)
        low = max(low, high * 10.0**-DECADES)
        return low / 1.3, high * 1.3
    margin = max(0.06 * (high - low), 1e-3 * max(abs(low), abs(high)), 1e-9)
    return low - margin, high + margin
