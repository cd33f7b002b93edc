"""The simulator node's time."""

import time

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.nodes.pybullet_sim import PyBulletSim
from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.guard import Guard, GuardConfig
from mbrl_ros.safety.limits import limits_of
from mbrl_ros.safety.safe_action import SafeAction


@pytest.fixture
def simulator(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=[], domain_id=own_domain(__file__))
    node = PyBulletSim()
    yield node
    node.leave()
    node.destroy_node()
    rclpy.shutdown()


def test_the_first_tick_comes_a_whole_period_after_the_start(simulator):
    """Otherwise stamps run ahead of the clock, and the guard takes commands that come too late for ones in time."""
    time.sleep(0.4 * simulator.robot.dt)
    before = time.monotonic_ns()
    simulator.on_run(SetBool.Request(data=True), SetBool.Response())
    ahead = simulator.timer.time_until_next_call()
    assert time.monotonic_ns() - before + ahead >= simulator.dt_ns


class Clock:
    """Stands in for the module `time`: stands still until it is told."""

    def __init__(self):
        self.now_ns = 1_000_000_000

    def monotonic(self):
        return 1e-9 * self.now_ns

    def time_ns(self):
        return 1_700_000_000_000_000_000 + self.now_ns


def acts_at_its_stamp(simulator, clock, lead_ns, way_ns, tolerance):
    """Flag of a command that reaches the guard `lead_ns` before its stamp, and whether it acts from its tick on.

    The way from the guard to the simulator takes `way_ns`. What acts is read from the simulated drive.
    """
    robot = simulator.robot
    config = GuardConfig() if tolerance is None else GuardConfig(late_tolerance=tolerance)
    limits = limits_of(robot, config)
    guard = Guard(config, limits, SafeAction(config, limits, robot.angles), robot.dt)
    simulator.on_reset(None, Trigger.Response())
    simulator.on_run(SetBool.Request(data=True), SetBool.Response())
    start, stamp_ns = clock.now_ns, clock.time_ns() + 2 * simulator.dt_ns
    assert guard.arm(Moment(clock.now_ns, clock.time_ns()))[0]
    given_ns = start + 2 * simulator.dt_ns - lead_ns
    decision = guard.command(Moment(given_ns, stamp_ns - lead_ns), stamp_ns, np.array([7.0]))
    events = [(start + k * simulator.dt_ns, simulator.on_timer) for k in (1, 2, 3)]
    message = Float64MultiArray(data=decision.command.tolist())
    events.append((given_ns + way_ns, lambda: simulator.on_command(message)))
    held = {}
    for clock.now_ns, act in sorted(events, key=lambda event: event[0]):
        act()
        held[simulator.stamp_ns] = simulator.held[0]
    return decision.flag, held[stamp_ns] == 7.0


@pytest.mark.parametrize("way_ms", [0.5, 4.9])
def test_what_the_guard_flags_ok_acts_from_its_stamp_on(simulator, monkeypatch, way_ms):
    """The learner believes the flag: a command that acts a period later than it says would be learned from wrongly.

    Leads from 12 ms before the stamp to 3 ms after it; the guard leaves a tenth of a period, 5 ms, for the way.
    """
    clock = Clock()
    monkeypatch.setattr("mbrl_ros.nodes.pybullet_sim.time", clock)
    seen = {
        lead: acts_at_its_stamp(simulator, clock, round(1e6 * lead), round(1e6 * way_ms), None)
        for lead in (12, 8, 5.1, 4.8, 2, 0.4, 0, -3)
    }
    assert all(in_time for flag, in_time in seen.values() if flag == "ok"), seen
    assert [seen[lead][0] for lead in (12, 8, 5.1)] == ["ok"] * 3 and seen[4.8][0] == seen[-3][0] == "late"


def test_without_time_for_the_way_the_flag_would_be_wrong(simulator, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("mbrl_ros.nodes.pybullet_sim.time", clock)
    assert acts_at_its_stamp(simulator, clock, 400_000, 500_000, 0.0) == ("ok", False)
    assert acts_at_its_stamp(simulator, clock, 400_000, 300_000, 0.0) == ("ok", True)
