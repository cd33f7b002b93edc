"""Differences between what was recorded and what a replay gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Differences:
    """Of vectors that belong together by their stamps.

    Attributes:
        names: of the entries.
        unit: (n,) of each entry, in which `tolerance` counts.
        compared: pairs.
        largest: (n,) largest difference of each entry.
        rms: (n,) root mean square.
        beyond: stamps in ns at which an entry differs by more than the tolerance.
        first: largest difference at the first of them, by name; empty where there is none.
    """

    names: list[str]
    unit: list[float]
    compared: int
    largest: list[float]
    rms: list[float]
    beyond: list[int]
    first: dict[str, float]


def compare(
    names: Sequence[str],
    recorded: Mapping[int, np.ndarray],
    replayed: Mapping[int, np.ndarray],
    unit: np.ndarray,
    tolerance: float,
) -> Differences:
    """Compare vectors (n,) of the same stamps; NaN equals NaN, and nothing else.

    Args:
        names: of the entries.
        recorded: stamp in ns -> vector.
        replayed: the same.
        unit: (n,).
        tolerance: difference in units that still counts as none.
    """
    stamps = sorted(recorded.keys() & replayed.keys())
    a, b = (np.array([values[s] for s in stamps]).reshape(len(stamps), len(names)) for values in (recorded, replayed))
    difference = np.abs(a - b)
    difference[np.isnan(a) & np.isnan(b)] = 0.0
    difference = np.nan_to_num(difference, nan=np.inf)
    wrong = np.flatnonzero((difference > tolerance * unit).any(axis=1))
    first = dict(zip(names, difference[wrong[0]].tolist(), strict=True)) if len(wrong) else {}
    return Differences(
        names=list(names),
        unit=unit.tolist(),
        compared=len(stamps),
        largest=difference.max(axis=0, initial=0.0).tolist(),
        rms=np.sqrt(np.mean(difference**2, axis=0)).tolist() if stamps else [0.0] * len(names),
        beyond=[stamps[i] for i in wrong],
        first=first,
    )


def spread(values: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Range (n,) of each entry in a recording; 1 where it does not move."""
    if not values:
        return np.ones(size)
    finite = np.where(np.isfinite(values), values, np.nan)
    ranges = np.array(
        [np.ptp(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0 for column in finite.T]
    )
    return np.where(ranges > 0.0, ranges, 1.0)
