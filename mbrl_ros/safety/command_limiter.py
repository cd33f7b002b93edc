"""Keeps a stream of commands within range, rate and jerk, so that it can always come to rest within the range.

With command u, its rate v = du/dt bounded by R and the change of v bounded by J, a step of h seconds may have the rate

    v_new  in  [v - J h, v + J h]  and  [-R, R],     v_new h + v_new^2 / (2 J) <= d

where d is the distance to the end of the range: what is left after the step is enough to brake. Solved for v_new:
v_new <= sqrt(J^2 h^2 + 2 J d) - J h. If d >= v^2 / (2 J) held before the step, the slowest rate allowed, v - J h,
fulfils it for every h, so there is always a command to send.
"""

import numpy as np

from mbrl_ros.safety.limits import Limits


class CommandLimiter:
    """Range, rate and jerk of the commands.

    Attributes:
        sent: last command (nu,), or None where nothing is known of it.
    """

    def __init__(self, limits: Limits) -> None:
        """Start with nothing sent."""
        self.sent: np.ndarray | None = None
        self._speed = np.zeros(len(limits.actuators))
        self._take(limits)

    def _take(self, limits: Limits) -> None:
        self._limits = limits
        self._braked = np.isfinite(limits.command_jerk)
        self._any_rate = bool(np.isfinite(limits.command_rate).any() or self._braked.any())
        self._jerk = np.where(self._braked, limits.command_jerk, 1.0)  # the 1 is never used

    def change(self, limits: Limits) -> None:
        """Other limits from the next command on.

        The range counts at once, before the rate: what was sent last is cut to it, and goes on from there at rest.
        """
        self._take(limits)
        if self.sent is not None and not self._stops_in_range(self.sent):
            self.restart(self.sent)

    def _stops_in_range(self, sent: np.ndarray) -> bool:
        """Whether the commands can come to rest within the range, as all that follows relies on."""
        limits, v = self._limits, self._speed
        way = np.where(self._braked, v * np.abs(v) / (2 * self._jerk), 0.0)
        ends = np.stack([sent, sent + way])
        return bool(np.all((ends >= limits.command_low) & (ends <= limits.command_high)))

    def within_range(self, command: np.ndarray) -> np.ndarray:
        """The command cut to its range."""
        return np.minimum(np.maximum(command, self._limits.command_low), self._limits.command_high)

    def restart(self, command: np.ndarray | None) -> None:
        """Go on from `command` (nu,), at rest, however it came about; None where it is not known."""
        self.sent = None if command is None else self.within_range(command)
        self._speed = np.zeros_like(self._speed)

    def limit(self, wish: np.ndarray, elapsed: float) -> tuple[np.ndarray, str]:
        """Nearest command to the wish that may be sent.

        Args:
            wish: (nu,), finite.
            elapsed: time in s since the last command, positive.

        Returns:
            The command (nu,), and what it was cut to: ``range``, ``rate`` or nothing.
        """
        within = self.within_range(wish)
        command = within
        if self._any_rate and self.sent is not None:
            command = self._step(self.sent, within, elapsed)
            self._speed = (command - self.sent) / elapsed
        self.sent = command
        cut = "range" if (within != wish).any() else "rate" if (command != within).any() else ""
        return command.copy(), cut

    def _step(self, sent: np.ndarray, within: np.ndarray, h: float) -> np.ndarray:
        """One step of the limiter from `sent` towards `within`."""
        slowest, fastest = self._allowed(sent, h)
        with np.errstate(over="ignore"):
            needed = (within - sent) / h
            wanted = np.sign(needed) * np.minimum(np.abs(needed), self._no_overshoot(np.abs(within - sent), h))
            exact = (wanted == needed) & (needed >= slowest) & (needed <= fastest)
            step = sent + np.clip(wanted, slowest, fastest) * h
        return self.within_range(np.where(exact, within, step))  # what may be reached is sent to the last digit

    def _allowed(self, sent: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest rate (nu,) that rate, jerk and the ends of the range allow."""
        limits, change = self._limits, np.where(self._braked, self._jerk * h, np.inf)
        low = np.maximum(-limits.command_rate, self._speed - change)
        high = np.minimum(limits.command_rate, self._speed + change)
        low = np.where(self._braked, np.maximum(low, -self._braking(sent - limits.command_low, h)), low)
        high = np.where(self._braked, np.minimum(high, self._braking(limits.command_high - sent, h)), high)
        return np.minimum(low, high), high

    def _braking(self, distance: np.ndarray, h: float) -> np.ndarray:
        """Highest rate that can be braked within `distance`."""
        Jh = self._jerk * h
        return np.sqrt(Jh**2 + 2 * self._jerk * distance) - Jh

    def _no_overshoot(self, distance: np.ndarray, h: float) -> np.ndarray:
        """Highest rate towards a wish that does not lead beyond it: braked in time, or to rest in the next step."""
        rest = np.minimum(distance / h, self._jerk * h)
        return np.where(self._braked, np.maximum(self._braking(distance, h), rest), np.inf)
