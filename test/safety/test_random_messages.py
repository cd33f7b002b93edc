"""At least 100,000 random messages: whatever comes in, what leaves is finite, of the right size, in range and in rate.

Hypothesis draws bytes; three of them are a message: what it is, what it holds, how the clocks moved. So a failing
sequence shrinks to a short one, and hundreds of messages cost one draw.
"""

from collections import Counter

import numpy as np
from guard_cases import DT, WALL, make, robot_limits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.decision import PASSED, Decision, GuardState
from mbrl_ros.safety.guard import Guard
from mbrl_ros.safety.link_watchdog import LinkConfig, LinkWatchdog
from mbrl_ros.safety.safe_action import SafeAction

DT_NS = round(1e9 * DT)
EXAMPLES, LEAST, MOST = 260, 200, 400  # sequences, and messages in each
SEEN: Counter[str] = Counter()

NAN, INF = np.nan, np.inf
GOOD = [[1.0, -1.0], [10.0, 2.0], [-10.0, -2.0], [0.0, 0.0], [3.0, 0.5], [-99.0, 99.0], [1e308, -1e308], (1, True)]
BAD = [[NAN, 0.0], [0.0, INF], [-INF, NAN], [], [1.0], [1.0] * 3, [[1.0, 2.0]], None, "zero", 1.0, ["a", 1], {}, b"x"]
VALUES = GOOD * 4 + BAD
KINDS = ["command"] * 10 + ["tick"] * 4 + ["observe"] * 3 + ["plan", "heartbeat", "arm", "disarm", "stop", "reset"]
PASSING = (*PASSED, "plan", "hold")
FAR = 10**12

GUARDS = st.fixed_dictionaries(
    {
        "interface": st.sampled_from(["effort", "velocity", "position", "twist"]),
        "rate": st.sampled_from([INF, 40.0]),
        "jerk": st.sampled_from([INF, 900.0]),
        "invalid_limit": st.sampled_from([2, 50]),
        "state_action": st.sampled_from(["none", "safe", "stop"]),
        "plan_periods": st.sampled_from([0, 3]),
        "hold_periods": st.sampled_from([0, 2]),
        "disarm_after": st.sampled_from([0, 9]),
        "heartbeat_timeout": st.sampled_from([0.0, 1.0]),
        "feedback": st.booleans(),
    }
)


def messages(data: bytes):
    """Kind, value, another value and what the three bytes say of time."""
    for a, b, c in zip(data[0::3], data[1::3], data[2::3], strict=False):
        yield KINDS[a % len(KINDS)], VALUES[b % len(VALUES)], VALUES[(b * 7 + c) % len(VALUES)], a ^ c, c


class Clocks:
    """A monotonic clock that moves on, wall time that may be set, stamps that may be anything."""

    def __init__(self, lockstep: bool) -> None:
        self.monotonic, self.step, self.lockstep = 10**12, 0, lockstep

    def move(self, a: int, c: int) -> tuple[Moment | None, int]:
        """The moment and a stamp."""
        self.monotonic += (0, DT_NS // 4, DT_NS, DT_NS, DT_NS, DT_NS + 17, 4 * DT_NS)[c % 7]
        if c == 255:
            self.step += (FAR, -FAR)[a % 2]
        wall = WALL + self.monotonic + self.step
        stamp = wall + (0, DT_NS // 2, DT_NS // 2, DT_NS // 2, -DT_NS, DT_NS // 2, FAR, -FAR, -WALL)[a % 9]
        return (None if self.lockstep else Moment(self.monotonic, wall)), stamp


def call(guard: Guard, kind: str, now: Moment | None, stamp: int, value, other) -> Decision | None:
    """One message to the guard; a decision where it makes one."""
    if kind == "command":
        return guard.command(now, stamp, value)
    if kind == "observe":
        return guard.observe(now, stamp, value, other)
    if kind == "plan":
        guard.plan(now, stamp, [value, other, value] if stamp % 2 else value)
    elif kind == "arm":
        guard.arm(now)
    elif kind == "reset":
        guard.reset()
    elif kind == "heartbeat":
        guard.heartbeat(now)
    elif kind == "stop":
        return guard.stop(now, "why")
    elif kind in ("tick", "disarm"):
        return getattr(guard, kind)(now)
    return None


def allowed_next(state: GuardState, kind: str) -> set[GuardState]:
    """The diagram of the guard's first lines, written down independently."""
    armed, disarmed, stopped = GuardState.ARMED, GuardState.DISARMED, GuardState.STOPPED
    if kind == "stop":
        return {stopped}
    if state is stopped:
        return {disarmed} if kind == "reset" else {stopped}
    if state is disarmed:
        return {armed, disarmed} if kind == "arm" else {disarmed}
    after = {"disarm": {disarmed}, "command": {armed, disarmed, stopped}, "tick": {armed, disarmed}}
    return after.get(kind, {armed, stopped} if kind == "observe" else {armed})


def check(guard: Guard, decision: Decision, before: GuardState, previous: np.ndarray | None) -> None:
    """What holds for everything that leaves the guard."""
    limits = guard.limits
    assert decision.command.shape == (2,) and np.all(np.isfinite(decision.command))
    assert np.all(decision.command >= limits.command_low) and np.all(decision.command <= limits.command_high)
    assert decision.reason or decision.flag == "ok"
    passed = decision.flag in PASSING
    if before is not GuardState.ARMED or guard.state is not GuardState.ARMED:
        assert not passed
    if passed and previous is not None:
        assert np.all(np.abs(decision.command - previous) <= limits.command_rate * DT * (1 + 1e-9))
    if not passed and guard.safe_action.kind == "zero":
        assert not decision.command.any()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(min_size=3 * LEAST, max_size=3 * MOST),
    config=GUARDS,
    lockstep=st.integers(0, 5).map(lambda i: i == 0),
)
def check_guard(data, config, lockstep):
    config = dict(config)
    if config.pop("feedback"):
        config |= {"safe_action": "feedback", "feedback_gain": (1.5,), "feedback_reference": (0.1,)}
    guard, clocks, previous = make(**config), Clocks(lockstep), None
    guard.heartbeat(clocks.move(0, 0)[0])
    guard.arm(clocks.move(0, 0)[0])
    for kind, value, other, a, c in messages(data):
        now, stamp = clocks.move(a, c)
        before, counted = guard.state, sum(guard.counts.values())
        decision = call(guard, kind, now, stamp, value, other)
        SEEN["guard"] += 1
        assert guard.state in allowed_next(before, kind), kind
        assert sum(guard.counts.values()) == counted + (decision is not None)
        if decision is not None:
            SEEN[decision.flag] += 1
            check(guard, decision, before, previous)
            previous = decision.command
        if guard.state is GuardState.DISARMED:
            previous = None
            if c % 3 == 0:
                guard.heartbeat(now)
                guard.arm(now)
        elif guard.state is GuardState.STOPPED and c % 5 == 0:
            guard.reset()
            previous = None


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(min_size=3 * LEAST, max_size=3 * MOST),
    interface=st.sampled_from(["effort", "position"]),
    feedback=st.booleans(),
    release=st.sampled_from([0.0, 5.0]),
)
def check_link(data, interface, feedback, release):
    kind = {"safe_action": "feedback", "feedback_gain": (1.5,)} if feedback else {}
    config, limits = LinkConfig(release_after=release, **kind), robot_limits(interface)
    link, clocks, heard = LinkWatchdog(config, limits, SafeAction(config, limits), DT), Clocks(False), None
    for kind, value, other, a, c in messages(data):
        now = clocks.move(a, c)[0].monotonic_ns
        SEEN["link"] += 1
        if kind == "observe":
            link.observe(now, value, other)
            continue
        sent = link.command(now, value) if kind == "command" else link.tick(now)
        if kind == "command":
            assert (sent is None) == (not any(value is good for good in GOOD))
            heard = now if sent is not None else heard
        elif sent is not None:
            assert now - heard > config.timeout * DT_NS
        elif heard is not None and release == 0.0:
            assert now - heard <= config.timeout * DT_NS, "silence of the guard never stays unanswered"
        if sent is not None:
            SEEN["link sent"] += 1
            assert sent.shape == (2,) and np.all(np.isfinite(sent))
            assert np.all((sent >= limits.command_low) & (sent <= limits.command_high))


def test_whatever_comes_in_what_leaves_is_safe():
    SEEN.clear()
    check_guard()
    check_link()
    assert SEEN["guard"] + SEEN["link"] >= 100_000
    rare = ("ok", "limited", "late", "plan", "hold", "stale", "invalid", "timeout", "state", "heartbeat", "stopped")
    assert all(SEEN[flag] > 20 for flag in rare), "the messages reach every corner"
