"""What the tests of safety/ share: a robot of two joints, moments, guards."""

import numpy as np

from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.guard import Guard, GuardConfig
from mbrl_ros.safety.limits import Limits
from mbrl_ros.safety.safe_action import SafeAction

DT = 0.05
WALL = 1_700_000_000_000_000_000
LIMIT = np.array([10.0, 2.0])
UNIT = np.array([1.0, 1.0])


def ns(seconds: float) -> int:
    """Stamp of a moment of the test's time, wall-clock ns."""
    return WALL + round(1e9 * seconds)


def at(seconds: float, step: float = 0.0) -> Moment:
    """A moment; wall time has been set forward by `step` s."""
    return Moment(round(1e9 * seconds), ns(seconds + step))


def robot_limits(interface="effort", rate=np.inf, jerk=np.inf, limit=LIMIT) -> Limits:
    """Joints a and b within +-3 rad and 5 rad/s, both driven."""
    reach = np.array([3.0, 3.0])
    high = reach if interface == "position" else np.asarray(limit, float)
    return Limits(
        interface=interface,
        joints=("a", "b"),
        actuators=("a", "b"),
        position_low=-reach,
        position_high=reach,
        velocity=np.array([5.0, 5.0]),
        command_low=-high,
        command_high=high,
        command_rate=np.full(2, rate, float),
        command_jerk=np.full(2, jerk, float),
    )


def make(interface="effort", rate=np.inf, jerk=np.inf, **config) -> Guard:
    """A disarmed guard; unless a test says otherwise, commands are in time until their stamp."""
    settings, limits = GuardConfig(**{"late_tolerance": 0.0} | config), robot_limits(interface, rate, jerk)
    return Guard(settings, limits, SafeAction(settings, limits, angles=("b",)), DT)


START = at(0.0)


def armed(now: Moment | None = START, **settings) -> Guard:
    """An armed guard."""
    guard = make(**settings)
    assert guard.arm(now)[0]
    return guard
