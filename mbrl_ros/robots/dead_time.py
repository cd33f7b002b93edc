"""Dead time: commands that act a fixed time after they were given."""

from collections import deque

import numpy as np


class DeadTime:
    """What acts when, for commands (nu,) that act `delay` s after they came."""

    def __init__(self, delay: float, size: int) -> None:
        """Start with nothing acting.

        Args:
            delay: dead time in s.
            size: nu.
        """
        self.delay = delay
        self._acting = np.zeros(size)
        self._coming: deque[tuple[float, np.ndarray]] = deque()  # from when on, what

    def give(self, time_s: float, command: np.ndarray) -> None:
        """Take a command (nu,) that came at `time_s`, not before the last one."""
        self._coming.append((time_s + self.delay, np.array(command, dtype=float)))

    def forget(self) -> None:
        """Nothing acts and nothing is on its way."""
        self._coming.clear()
        self._acting = np.zeros_like(self._acting)

    def over(self, start_s: float, end_s: float) -> list[tuple[float, np.ndarray]]:
        """What acts from `start_s` to `end_s`, later than all asked before: durations in s, and commands (nu,)."""
        pieces, now = [], start_s
        while self._coming and self._coming[0][0] < end_s:
            begins, command = self._coming.popleft()
            if begins > now:
                pieces.append((begins - now, self._acting))
                now = begins
            self._acting = command
        return [*pieces, (end_s - now, self._acting)]
