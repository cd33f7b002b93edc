"""What the guard decides: its states, its flags, and what it hands out to be sent."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

FLAGS = {
    "ok": "sent as wished",
    "limited": "sent, cut to a limit",
    "late": "sent, but too near its moment, or after it, to act from then on",
    "plan": "the controller failed: sent from its last plan",
    "hold": "the controller failed: the last command is sent again",
    "stale": "refused: its moment is too far from now",
    "invalid": "refused: not finite or of the wrong size",
    "timeout": "safe action: the controller or the observation is silent",
    "state": "safe action: the robot is beyond a limit, or where it is is not known",
    "heartbeat": "disarmed: the heartbeat is silent",
    "disarmed": "refused: not armed",
    "stopped": "refused: stopped until reset",
}
PASSED = ("ok", "limited", "late")  # flags of the controller's own commands


class GuardState(Enum):
    """What the guard lets pass."""

    DISARMED = "disarmed"
    ARMED = "armed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Decision:
    """What to send to the actuators now.

    Attributes:
        command: (nu,) in the interface's unit, always finite and within the range.
        flag: a key of FLAGS.
        reason: for people; empty where the flag is 'ok'.
        stamp_ns: the moment from which it acts.
        to_actuators: whether it is to be sent; not so where a disarmed guard leaves the actuators to others.
    """

    command: np.ndarray
    flag: str
    reason: str
    stamp_ns: int
    to_actuators: bool = True
