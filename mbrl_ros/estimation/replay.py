"""Measurements applied at their own stamps: one that comes late is put in its place and the later ones are replayed.

The filter's state before each of the last measurements is kept. A late measurement takes the filter back to the
state before its successor, and everything from there on is filtered again, so the result is that of measurements
which came in order, bit for bit (the optimal use of out-of-sequence measurements, Bar-Shalom, Li, Kirubarajan 2001,
section 6.6, by brute force). Measurements of one stamp are applied in the order of their sources' names.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

M = TypeVar("M")
R = TypeVar("R")
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
CAPACITY = 500  # measurements kept at most, however fast they come
LATEST_STAMP = 1e11  # s; whatever lies beyond is no time


class Replayable(Protocol[M_contra, R_co]):
    """What a filter needs."""

    def apply(self, stamp_s: float, measurement: M_contra) -> R_co:
        """Predict to a stamp that is not before the last and use the measurement."""

    def at(self, stamp_s: float) -> R_co:
        """Prediction to a stamp; changes nothing."""

    def snapshot(self) -> Any:
        """The whole state, unchanged by whatever comes."""

    def restore(self, snapshot: Any) -> None:
        """Back to a snapshot."""

    def forget(self) -> None:
        """Know nothing."""


@dataclass(frozen=True)
class Entry(Generic[M]):
    """A measurement and the filter's state before it."""

    key: tuple[float, str]  # stamp in s, source
    measurement: M
    prior: Any


class Replay(Generic[M, R]):
    """A filter whose measurements may come in any order within a window.

    Attributes:
        newest: stamp in s of the newest measurement, -inf before the first.
        result: the filter's result at `newest`, None before the first.
    """

    def __init__(self, filter_: Replayable[M, R], window_s: float, old_to_restart: int) -> None:
        """Wrap a filter that knows nothing yet.

        Args:
            filter_: the filter; nobody else may use it.
            window_s: how far behind the newest measurement one may lie and still be used.
            old_to_restart: too old ones in a row after which the clock counts as set back.
        """
        self._filter = filter_
        self._window = window_s
        self._old_to_restart = old_to_restart
        self._forget()

    def _forget(self) -> None:
        self._filter.forget()
        self._entries: list[Entry[M]] = []
        self._floor = (-math.inf, "")  # key of the last entry that was dropped from the ring
        self._old_in_a_row = 0
        self._newest_old = -math.inf
        self.newest = -math.inf
        self.result: R | None = None

    def measure(self, stamp_s: float, source: str, measurement: M) -> str:
        """Use a measurement; returns why it was not used, or an empty text.

        Where all sources go on with stamps that are too old, the clock was set back, and everything starts afresh.
        """
        key = (stamp_s, source)
        problem = self._problem(key)
        if problem and not self._set_back(stamp_s):
            return problem
        index = bisect_right(self._entries, key, key=lambda entry: entry.key)
        later = self._entries[index:]
        if later:
            self._filter.restore(later[0].prior)
        del self._entries[index:]
        self._apply(key, measurement)
        for entry in later:
            self._apply(entry.key, entry.measurement)
        self._old_in_a_row = 0
        self._prune()
        return ""

    def at(self, stamp_s: float) -> R:
        """Estimate at a stamp from the measurements up to it; changes nothing."""
        if stamp_s == self.newest and self.result is not None:
            return self.result
        later = [entry for entry in self._entries if entry.key[0] > stamp_s]
        if not later:
            return self._filter.at(stamp_s)
        now = self._filter.snapshot()
        self._filter.restore(later[0].prior)
        result = self._filter.at(stamp_s)
        self._filter.restore(now)
        return result

    def _problem(self, key: tuple[float, str]) -> str:
        """Why a measurement cannot be used, or an empty text."""
        stamp = key[0]
        if not abs(stamp) <= LATEST_STAMP:  # so written, NaN is refused
            return f"the stamp {stamp:g} s is no time"
        index = bisect_right(self._entries, key, key=lambda entry: entry.key)
        if index and self._entries[index - 1].key == key:
            return f"a second measurement with the stamp {stamp:.6f} s"
        if stamp < self.newest - self._window or key <= self._floor:
            return (
                f"the stamp is {self.newest - stamp:.6g} s older than the newest measurement, "
                f"late_window is {self._window:g} s: do the clocks agree?"
            )
        return ""

    def _set_back(self, stamp_s: float) -> bool:
        """Whether this too old stamp is the last of a row that only a clock set back explains; then start afresh."""
        if not abs(stamp_s) <= LATEST_STAMP or stamp_s >= self.newest - self._window:
            return False
        self._old_in_a_row = self._old_in_a_row + 1 if stamp_s >= self._newest_old else 1
        self._newest_old = stamp_s
        if self._old_in_a_row < self._old_to_restart:
            return False
        self._forget()
        return True

    def _apply(self, key: tuple[float, str], measurement: M) -> None:
        self._entries.append(Entry(key, measurement, self._filter.snapshot()))
        self.result = self._filter.apply(key[0], measurement)
        self.newest = key[0]

    def _prune(self) -> None:
        """Drop what no late measurement may go back behind."""
        count = sum(entry.key[0] < self.newest - self._window for entry in self._entries)
        count = max(count, len(self._entries) - CAPACITY)
        if count:
            self._floor = self._entries[count - 1].key
            del self._entries[:count]
