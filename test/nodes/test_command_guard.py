"""The guard node with real messages: what reaches the actuators, and what is said about it."""

import subprocess
import sys
import time

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.nodes.command_guard import CommandGuard
from mbrl_ros.nodes.conversions import to_command, to_joint_state, to_trajectory
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, RELIABLE, WARN
from mbrl_ros.safety.decision import GuardState

NO_PERIOD = 1000.0  # periods: a timeout that no test waits for


class Bench:
    """A guard, and a node that is all the others."""

    def __init__(self, **parameters: object) -> None:
        given = [word for k, v in parameters.items() for word in ("-p", f"guard.{k}:={v}")]
        rclpy.init(args=["--ros-args", *given], domain_id=own_domain(__file__))
        self.node, self.others = CommandGuard(), rclpy.create_node("others")
        self.node.bring_up()
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.others):
            self.executor.add_node(node)
        self.sent, self.applied = [], []
        make = self.others.create_publisher
        self.command, self.observation = (
            make(JointState, "command", RELIABLE),
            make(JointState, "observation", RELIABLE),
        )
        self.plan, self.beat = make(JointTrajectory, "plan", RELIABLE), make(Empty, "heartbeat", BEST_EFFORT)
        listen = self.others.create_subscription
        listen(Float64MultiArray, "effort_controller/commands", lambda m: self.sent.append(list(m.data)), RELIABLE)
        listen(JointState, "applied_command", self.applied.append, RELIABLE)
        self.clients = {
            name: self.others.create_client(kind, f"command_guard/{name}")
            for name, kind in (("arm", SetBool), ("stop", Trigger), ("reset", Trigger))
        }
        self.until(lambda: not self.node.unconnected() and all(c.service_is_ready() for c in self.clients.values()))

    def until(self, done, timeout: float = 20.0) -> None:
        """Serve both nodes until `done()`."""
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end, f"sent {self.sent}, applied {[m.header.frame_id for m in self.applied]}"
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, name: str, data: bool | None = None):
        """Answer of a service."""
        request = Trigger.Request() if data is None else SetBool.Request(data=data)
        future = self.clients[name].call_async(request)
        self.until(future.done)
        return future.result()

    def wish(self, effort: float, ahead: float = 0.0) -> None:
        """Publish a command and wait until the guard has answered it."""
        count = len(self.applied)
        self.command.publish(to_command(time.time_ns() + round(1e9 * ahead), ["cart_slider"], np.array([effort])))
        self.until(lambda: len(self.applied) > count)

    def flag(self) -> str:
        return self.applied[-1].header.frame_id

    def close(self) -> None:
        self.node.leave()
        for node in (self.node, self.others):
            node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    made = []

    def make(**parameters):
        made.append(Bench(**{"stale_after": NO_PERIOD} | parameters))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def test_what_the_estimator_bridges_is_no_measurement(bench):
    """The remark in the header says so; arming asks for a measured one."""
    it = bench(timeout=NO_PERIOD, observation_timeout=NO_PERIOD, stale_after=NO_PERIOD)
    x, joints = np.zeros(4), ["cart_slider", "pole_hinge"]
    it.observation.publish(to_joint_state(time.time_ns(), joints, x, "position not measured: joint [0]"))
    it.until(lambda: it.node.guard.heard.state is not None)
    refused = it.call("arm", True)
    assert not refused.success and "no observation yet" in refused.message
    it.observation.publish(to_joint_state(time.time_ns(), joints, x))
    it.until(lambda: it.node.guard.heard.observation is not None)
    assert it.call("arm", True).success


def test_a_command_passes_while_armed_and_only_then(bench):
    it = bench(timeout=NO_PERIOD, late_tolerance=1.0)
    it.wish(3.0)
    assert it.flag() == "disarmed" and it.sent == []
    assert it.call("arm", True).success
    it.wish(-3.0)
    it.wish(99.0)
    it.until(lambda: len(it.sent) == 2)
    assert it.sent == [[-3.0], [10.0]] and it.flag() in ("limited", "late")
    it.wish(float("nan"))
    it.until(lambda: len(it.sent) == 3)
    assert it.sent[-1] == [0.0] and it.flag() == "invalid"
    assert it.call("arm", False).success
    it.until(lambda: it.flag() == "disarmed" and len(it.sent) == 4)
    assert it.sent[-1] == [0.0]
    it.wish(1.0)
    assert len(it.sent) == 4, "the actuators are left to others"


def test_silence_brings_the_safe_action_again_and_again(bench):
    it = bench(timeout=4.0)
    it.call("arm", True)
    it.wish(5.0)
    it.until(lambda: it.sent.count([0.0]) >= 3)
    assert it.flag() == "timeout"
    level, values = it.node.status()
    assert level == WARN and values["timeout"] >= 3 and values["interventions"] >= 3
    assert "no command for" in values["reason"]


def test_stop_and_reset(bench):
    it = bench(timeout=NO_PERIOD)
    it.call("arm", True)
    it.wish(5.0)
    assert it.call("stop").success
    it.until(lambda: it.sent and it.sent[-1] == [0.0])
    it.wish(5.0)
    assert it.flag() == "stopped" and not it.call("arm", True).success
    assert it.node.status()[1]["against_arming"] == "stopped: stop service called; reset first"
    assert it.call("reset").success and it.node.guard.state is GuardState.DISARMED
    assert it.sent[-1] == [0.0] and it.call("arm", True).success


def test_arming_is_refused_with_all_reasons(bench):
    it = bench(
        timeout=NO_PERIOD, heartbeat_timeout=3600.0, observation_timeout=NO_PERIOD, arm_commands=2, state_action="stop"
    )
    answer = it.call("arm", True)
    assert not answer.success
    for part in ("no observation yet", "no heartbeat yet", "no good command yet"):
        assert part in answer.message
    it.observation.publish(
        to_joint_state(time.time_ns(), ["cart_slider", "pole_hinge"], np.array([2.6, 0.0, 0.0, 0.0]))
    )
    it.until(lambda: it.node.guard.heard.state is not None)
    for _ in range(2):
        it.wish(1.0)
    it.until(lambda: it.others.count_subscribers("heartbeat") == 1)
    answer = it.call("arm", True)
    assert answer.message == "not armed: no heartbeat yet; cart_slider at 2.6, beyond -2.5 to 2.5"
    it.observation.publish(to_joint_state(time.time_ns(), ["cart_slider", "pole_hinge"], np.zeros(4)))
    it.until(lambda: it.node.guard.heard.state[0][0] == 0.0)
    while it.node.guard.heard.heartbeat is None:  # best effort: the first ones may be lost
        it.beat.publish(Empty())
        it.executor.spin_once(timeout_sec=0.05)
    assert it.call("arm", True).message == "armed"
    it.observation.publish(
        to_joint_state(time.time_ns(), ["cart_slider", "pole_hinge"], np.array([-2.6, 0.0, 0.0, 0.0]))
    )
    it.until(lambda: it.node.guard.state is GuardState.STOPPED)
    it.until(lambda: it.flag() == "stopped" and it.sent[-1] == [0.0])


def test_nobody_at_the_actuators_is_a_reason(bench):
    it = bench()
    it.others.destroy_subscription(next(s for s in it.others.subscriptions if "commands" in s.topic_name))
    it.until(lambda: it.node.unconnected() == ["effort_controller/commands"])
    assert it.call("arm", True).message == "not armed: nobody at effort_controller/commands"


def test_the_rest_of_the_plan_is_sent_when_the_controller_falls_silent(bench):
    it = bench(timeout=2.0, plan_periods=1000)
    it.call("arm", True)
    robot = it.node.robot
    actions, states = np.arange(400.0)[:, None] * 1e-3 + 1.0, np.zeros((401, 4))
    stamp = time.time_ns()
    it.plan.publish(to_trajectory(stamp, robot.dt, robot.joints, states, robot.actuators, actions))
    it.command.publish(to_command(stamp, robot.actuators, actions[0]))
    it.until(lambda: [m.header.frame_id for m in it.applied].count("plan") >= 3)
    planned = [m for m in it.applied if m.header.frame_id == "plan"]
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in planned]
    index = [(s - stamp) / (1e9 * robot.dt) for s in stamps]
    np.testing.assert_allclose(index, np.round(index), atol=1e-9)
    np.testing.assert_allclose([m.effort[0] for m in planned], 1.0 + 1e-3 * np.round(index))
    assert len(set(stamps)) == len(stamps), "one command a period"


def test_a_plan_of_another_robot_or_rate_is_of_no_use(bench):
    node = bench(plan_periods=5).node
    good = to_trajectory(0, 0.05, node.robot.joints, np.zeros((3, 4)), node.robot.actuators, np.ones((2, 1)))
    np.testing.assert_array_equal(node.plan_actions(good), [[1.0], [1.0], [np.nan]])
    slow = to_trajectory(0, 0.1, node.robot.joints, np.zeros((3, 4)), node.robot.actuators, np.ones((2, 1)))
    other = to_trajectory(0, 0.05, ["x", "y"], np.zeros((3, 4)), ["x"], np.ones((2, 1)))
    short = to_trajectory(0, 0.05, node.robot.joints, np.zeros((3, 4)), node.robot.actuators, np.ones((2, 1)))
    short.points[1].effort = []
    assert node.plan_actions(slow) == node.plan_actions(other) == node.plan_actions(JointTrajectory()) == []
    assert np.isnan(node.plan_actions(short)[1][0])


@pytest.mark.parametrize("module", ["command_guard", "link_watchdog"])
def test_it_loads_nothing_heavy(module):
    heavy = ("torch", "numba", "pybullet", "scipy", "matplotlib")
    code = f"import sys, mbrl_ros.nodes.{module}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
