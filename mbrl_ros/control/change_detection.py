"""Has the robot changed? A CUSUM test on how far the truth lies from what the model predicted.

Page (1954): the log-likelihood ratio of "the errors' variance is four times what it was" to "it is what it was" is
summed up, never below zero; a sum beyond the threshold is an alarm, and the change began where the sum last left zero.
What the variance was is measured, not believed: a model that is too sure must not raise an alarm for ever.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from mbrl_ros.config import option, validate

RATIO = 4.0  # variance of the change that is looked for, in variances of before
CLIP = 6.0  # one error counts at most this much, in variances of before: a single collision is no change
MEMORY = 200  # errors that the variance of before is measured by
DELAY = 20  # errors younger than this are not yet "before": they may belong to the change


@dataclass(frozen=True)
class ChangeConfig:
    """Settings of the detection."""

    threshold: float = option(
        24.0, "log-likelihood ratio that says the robot has changed; 0 is no detection", low=0.0, high=1e6
    )
    evidence: int = option(40, "errors needed to know what is usual", low=2, high=MEMORY)
    fresh: int = option(
        40, "transitions since a change from which on older ones are another robot's", low=1, high=100_000
    )
    discrepancy: float = option(
        0.3, "how far a change may reach, in what is learned: 0 is not at all, large forgets", low=0.0, high=1e6
    )

    def __post_init__(self) -> None:
        validate(self)


class ChangeDetector:
    """Watches squared standardised errors, one a period.

    Attributes:
        score: the sum, in nats.
        began: periods since it left zero: when the change began, should this be one.
    """

    def __init__(self, config: ChangeConfig) -> None:
        """Begin without knowing what is usual."""
        self._config = config
        self.forget()

    def forget(self) -> None:
        """Begin anew: the robot, or the model, is another one."""
        self.score, self.began = 0.0, 0
        self._errors: deque[float] = deque(maxlen=MEMORY + DELAY)

    def update(self, z: np.ndarray) -> bool:
        """Take one period's standardised errors (ny,); returns whether the robot has changed."""
        before = list(self._errors)[:-DELAY]
        usual = float(np.mean(before)) if before else 1.0
        squared = float(np.nan_to_num(np.mean(np.square(z)), nan=np.inf))
        self._errors.append(min(squared, CLIP * usual) if before else min(squared, CLIP**2))
        if self._config.threshold == 0 or len(before) < self._config.evidence:
            return False
        ratio = min(squared / max(usual, 1.0), CLIP)
        gain = 0.5 * z.size * ((1.0 - 1.0 / RATIO) * ratio - np.log(RATIO))
        self.score = max(0.0, self.score + gain)
        self.began = self.began + 1 if self.score else 0
        return self.score > self._config.threshold
