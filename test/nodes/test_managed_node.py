"""The life cycle of the managed nodes, driven through their services as `ros2 lifecycle` drives them."""

import contextlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, UInt8MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.data.pairing import Pair
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.nodes.command_guard import CommandGuard
from mbrl_ros.nodes.conversions import status_values, to_command, to_joint_state
from mbrl_ros.nodes.link_watchdog import LinkWatchdogNode
from mbrl_ros.nodes.model_learner import ModelLearner
from mbrl_ros.nodes.mpc_controller import MpcController
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, LATCHED, RELIABLE
from mbrl_ros.nodes.state_estimator import StateEstimator
from mbrl_ros.reporting.run_folder import TRANSITIONS
from mbrl_ros.robots.description import load_robot
from mbrl_ros.safety.decision import GuardState

ALL = (StateEstimator, ModelLearner, MpcController, CommandGuard, LinkWatchdogNode)
NO_TIMEOUT = {"guard.timeout": 1000.0, "guard.stale_after": 1000.0, "guard.late_tolerance": 1.0}
TRANSITION = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


class Bench:
    """A managed node, and a node that asks it for transitions and is all the others."""

    def __init__(self, cls, parameters):
        given = [word for k, v in parameters.items() for word in ("-p", f"{k}:={v}")]
        rclpy.init(args=["--ros-args", *given], domain_id=own_domain(__file__))
        self.node, self.others = cls(), rclpy.create_node("others")
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.others):
            self.executor.add_node(node)
        name = self.node.get_name()
        self.change = self.others.create_client(ChangeState, f"{name}/change_state")
        self.state = self.others.create_client(GetState, f"{name}/get_state")
        self.told = {}
        self.others.create_subscription(DiagnosticArray, "/diagnostics", self.on_diagnostics, RELIABLE)
        self.until(lambda: self.change.service_is_ready() and self.state.service_is_ready())

    def on_diagnostics(self, message):
        self.told = {status.name: status for status in message.status}

    def until(self, done, timeout=30.0):
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, client, request):
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def go(self, *labels):
        """Ask for transitions, which must succeed."""
        for label in labels:
            assert self.ask(label), self.node.trouble

    def ask(self, label):
        return self.call(self.change, ChangeState.Request(transition=Transition(id=TRANSITION[label]))).success

    def label(self):
        return self.call(self.state, GetState.Request()).current_state.label

    def set(self, **values):
        changes = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        return self.node.set_parameters_atomically(changes)

    def service(self, kind, name):
        client = self.others.create_client(kind, f"{self.node.get_name()}/{name}")
        self.until(client.service_is_ready)
        return client

    def arm(self):
        return self.call(self.service(SetBool, "arm"), SetBool.Request(data=True))


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    made = []

    def make(cls, **parameters):
        made.append(Bench(cls, {"output": tmp_path / "run"} | {k.replace("__", "."): v for k, v in parameters.items()}))
        return made[-1]

    yield make
    for it in made:
        it.node.leave()
        for node in (it.node, it.others):
            node.destroy_node()
        rclpy.shutdown()


@pytest.mark.parametrize("cls", ALL)
def test_round_and_round_leaks_nothing(bench, cls):
    it = bench(cls)
    before = len(it.node._entities())
    it.go("configure", "activate")
    assert it.label() == "active" and it.node.active and it.node.configured
    count, files = len(it.node._entities()), len(os.listdir("/proc/self/fd"))
    assert count > before
    for _ in range(3):
        it.go("deactivate", "activate", "deactivate", "cleanup")
        assert it.label() == "unconfigured" and len(it.node._entities()) == before
        it.go("configure", "activate")
    assert len(it.node._entities()) == count and len(it.node._links) == len(set(it.node._links))
    assert len(os.listdir("/proc/self/fd")) <= files + 2
    it.node.leave()
    assert (it.node.lifecycle, it.node.exit_code) == ("finalized", 0)


def test_every_problem_is_said_at_once_and_after_they_are_corrected_the_node_can_be_configured(bench, tmp_path):
    (tmp_path / "file").touch()
    wrong = {"output": tmp_path / "file" / "run", "refit_every": 0, "start_model": tmp_path / "none.safetensors"}
    it = bench(ModelLearner, **wrong, robot="nobody", model="probabilistic_ensemble", probabilistic_ensemble__width=-1)
    assert not it.ask("configure")
    assert it.label() == "unconfigured" and it.node.exit_code is None
    for part in ("refit_every: 0 is not allowed", "width: -1", "unknown robot 'nobody'", "file/run: cannot make the"):
        assert part in it.node.trouble
    it.until(lambda: "refit_every: 0" in it.told["model_learner: state"].message)
    assert it.told["model_learner: state"].level == b"\x02"
    assert it.set(refit_every=5, robot="cartpole", output=str(tmp_path / "run")).successful
    assert it.set(probabilistic_ensemble__width=4).successful
    assert not it.ask("configure"), "the model to start from was not looked at without a robot"
    assert it.node.trouble.splitlines() == [
        f"start_model: {tmp_path}/none.safetensors cannot be read: No such file or directory"
    ]
    assert it.set(start_model="").successful
    it.go("configure", "activate")
    assert it.node.config.refit_every == 5 and it.node.groups["probabilistic_ensemble"].width == 4
    assert it.node.trouble == ""


def test_another_planner_brings_its_own_parameters(bench):
    it = bench(MpcController, horizon=5)
    assert it.set(planner="random_shooting").successful
    it.go("configure")
    assert "random_shooting" in it.node.groups and it.node.has_parameter("random_shooting.samples")
    it.go("cleanup")
    assert it.set(random_shooting__samples=8).successful
    assert not it.set(random_shooting__samples=-8).successful, "single values are checked at once"
    it.go("configure")
    assert it.node.groups["random_shooting"].samples == 8


def test_parameters_are_fixed_while_configured_except_for_dynamic_ones(bench):
    it = bench(MpcController)
    assert it.set(horizon=5).successful
    it.go("configure", "activate")
    answer = it.set(mode="open_loop")
    assert not answer.successful and answer.reason.startswith("mode: read-only while the node is configured")
    assert it.set(mode="mpc", horizon=6, task__width=0.3).successful and it.node.groups["task"].width == 0.3
    assert it.node.controller.problem.horizon == 6
    it.go("deactivate", "cleanup")
    assert it.set(mode="open_loop").successful
    it.go("configure")
    assert it.node.controller.mode == "open_loop"


def test_a_transition_that_is_not_possible_is_refused_and_harms_nobody(bench):
    it = bench(StateEstimator)
    for label in ("activate", "deactivate", "cleanup"):
        assert not it.ask(label)
    assert not it.call(it.change, ChangeState.Request(transition=Transition(id=200))).success
    assert not it.call(it.change, ChangeState.Request(transition=Transition(label="fly"))).success
    it.go("configure", "activate")
    assert it.label() == "active"


def test_an_inactive_estimator_says_nothing_and_begins_anew(bench):
    it = bench(StateEstimator)
    it.go("configure", "activate")
    heard, send = [], it.others.create_publisher(JointState, "joint_states", BEST_EFFORT)
    it.others.create_subscription(JointState, "observation", heard.append, RELIABLE)
    it.until(lambda: not it.node.unconnected())

    def measure(x):
        send.publish(to_joint_state(time.time_ns(), it.node.robot.joints, np.array([x, 0.0, 0.0, 0.0])))

    measure(1.0)
    it.until(lambda: len(heard) == 1)
    it.go("deactivate")
    assert it.node.unconnected() == ["activation"]
    measure(2.0)
    with contextlib.suppress(AssertionError):
        it.until(lambda: len(heard) > 1, timeout=0.5)
    assert len(heard) == 1
    it.go("activate")
    measure(-1.0)
    it.until(lambda: len(heard) == 2)
    np.testing.assert_allclose(heard[1].position[0], -1.0, atol=0.01)


def sent_by(it):
    """A list that what the guard sends to the actuators goes into; everyone is connected."""
    sent = []
    it.others.create_subscription(
        Float64MultiArray, "effort_controller/commands", lambda m: sent.append(list(m.data)), RELIABLE
    )
    it.others.create_subscription(JointState, "applied_command", lambda _: None, RELIABLE)
    it.wish = it.others.create_publisher(JointState, "command", RELIABLE)
    it.others.create_publisher(JointState, "observation", RELIABLE)
    it.until(lambda: it.wish.get_subscription_count() > 0)
    return sent


def wish(it, effort):
    it.wish.publish(to_command(time.time_ns(), ["cart_slider"], np.array([effort])))


def test_a_guard_that_is_deactivated_leaves_the_safe_action_and_is_not_armed_afterwards(bench):
    it = bench(CommandGuard, **NO_TIMEOUT)
    it.go("configure")
    sent = sent_by(it)
    answer = it.arm()
    assert not answer.success and answer.message == "not armed: command_guard is inactive"
    it.go("activate")
    it.until(lambda: not it.node.unconnected())
    assert it.arm().success
    wish(it, 3.0)
    it.until(lambda: sent == [[3.0]])
    it.go("deactivate")
    it.until(lambda: sent == [[3.0], [0.0]])
    wish(it, 5.0)
    it.go("activate")
    assert it.node.guard.state is GuardState.DISARMED
    wish(it, 5.0)
    it.until(lambda: it.node.guard.counts["disarmed"] >= 2)
    assert sent == [[3.0], [0.0]]


def test_a_stop_outlives_everything_but_a_reset(bench):
    it = bench(CommandGuard, **NO_TIMEOUT)
    it.go("configure")
    assert it.call(it.service(Trigger, "stop"), Trigger.Request()).success, "also while it is inactive"
    it.go("activate", "deactivate", "activate", "deactivate", "cleanup", "configure", "activate")
    assert "stopped: stop service called; reset first" in it.arm().message
    assert it.call(it.service(Trigger, "reset"), Trigger.Request()).success
    assert it.node.guard.state is GuardState.DISARMED


def test_a_reset_leaves_no_damping_that_nobody_looks_after(bench):
    it = bench(CommandGuard, **NO_TIMEOUT, guard__safe_action="damp", guard__damping=2.0)
    it.go("configure", "activate")
    sent = sent_by(it)
    it.until(lambda: not it.node.unconnected())
    it.node.on_observation(to_joint_state(time.time_ns(), it.node.robot.joints, np.array([0.0, 0.0, 0.5, 0.0])))
    assert it.arm().success
    it.node.on_stop(Trigger.Request(), Trigger.Response())
    it.until(lambda: sent and sent[-1] == [-1.0])
    it.node.on_reset(Trigger.Request(), Trigger.Response())
    it.until(lambda: sent[-1] == [0.0])


def test_a_guard_whose_callback_fails_leaves_the_safe_action_and_ends(bench, monkeypatch):
    it = bench(CommandGuard, **NO_TIMEOUT)
    it.go("configure", "activate")
    sent = sent_by(it)
    it.until(lambda: not it.node.unconnected())
    assert it.arm().success
    wish(it, 3.0)
    it.until(lambda: sent == [[3.0]])
    monkeypatch.setattr(it.node.guard, "command", lambda *_: 1 / 0)
    wish(it, 4.0)
    it.until(lambda: it.node.exit_code == 1 and sent[-1] == [0.0])
    assert it.node.lifecycle == "finalized" and "ZeroDivisionError" in it.node.trouble
    it.until(lambda: "ZeroDivisionError" in it.told["command_guard: state"].message)


@pytest.mark.parametrize(("hook", "labels"), [("set_up", ()), ("begin", ("configure",))])
def test_an_unexpected_error_in_a_transition_leaves_the_node_to_be_configured_again(bench, monkeypatch, hook, labels):
    it = bench(StateEstimator)
    before = len(it.node._entities())
    it.go(*labels)
    with monkeypatch.context() as broken:
        broken.setattr(it.node, hook, lambda: 1 / 0)
        assert not it.ask("activate" if labels else "configure")
    assert it.label() == "unconfigured" and "ZeroDivisionError" in it.node.trouble
    assert not it.node.active and len(it.node._entities()) == before
    it.go("configure", "activate")


def test_a_node_that_cannot_rest_stops_all_the_same(bench, monkeypatch):
    it = bench(StateEstimator)
    it.go("configure", "activate")
    with monkeypatch.context() as broken:
        broken.setattr(it.node, "rest", lambda: 1 / 0)
        assert not it.ask("deactivate")
    assert it.label() == "unconfigured" and "ZeroDivisionError" in it.node.trouble
    assert not it.node.active, "or it would go on with messages and timers"
    it.go("configure", "activate")


def test_what_was_half_built_when_a_problem_was_found_goes(bench, monkeypatch):
    it = bench(StateEstimator)
    before, set_up = len(it.node._entities()), it.node.set_up

    def half() -> None:
        set_up()
        raise ConfigError("half of it cannot be used")

    with monkeypatch.context() as broken:
        broken.setattr(it.node, "set_up", half)
        assert not it.ask("configure") and it.node.trouble == "half of it cannot be used"
    assert it.label() == "unconfigured" and len(it.node._entities()) == before
    it.go("configure", "activate")


def test_a_deactivated_learner_learns_nothing_and_loses_nothing(bench, tmp_path):
    it = bench(ModelLearner, model="probabilistic_ensemble", lockstep=True)
    it.go("configure", "activate")
    rng = np.random.default_rng(0)
    pairs = [Pair(k, rng.standard_normal(4), rng.standard_normal(1), rng.standard_normal(4), 0) for k in range(7)]
    it.node.members[0].take(pairs)
    send = it.others.create_publisher(JointState, "observation", it.node.link_qos)
    it.until(lambda: send.get_subscription_count() > 0)
    it.go("deactivate")
    send.publish(to_joint_state(10**9, it.node.robot.joints, np.zeros(4)))
    with contextlib.suppress(AssertionError):
        it.until(lambda: it.node.members[0].observed_ns > 0, timeout=0.5)
    assert it.node.members[0].observed_ns == 0 and len(it.node.learner) == 7
    it.go("cleanup", "configure", "activate")
    it.until(lambda: it.node.fits_finished == 1)
    assert len(it.node.learner) == 7 and it.node.learner.version == 1, "a full fit of what it had learned"
    it.node.leave()
    robot = load_robot("cartpole")
    with TransitionStore(tmp_path / "run" / TRANSITIONS, robot.name, robot.layout) as store:
        assert len(store) == 7


def test_what_is_latched_and_came_while_it_was_inactive_counts_when_it_is_active_again(bench):
    it = bench(MpcController, model="probabilistic_ensemble", lockstep=True)
    it.go("configure", "activate")
    send = it.others.create_publisher(UInt8MultiArray, "dynamics_model", LATCHED)
    it.until(lambda: send.get_subscription_count() > 0)
    size, rng = EnsembleConfig(members=2, width=4), np.random.default_rng(0)
    model = ProbabilisticEnsemble.example(it.node.robot.layout, size, rng)
    it.go("deactivate")
    for version in (1, 2):
        send.publish(UInt8MultiArray(data=to_bytes(model, version, 10, "cartpole")))
    it.until(lambda: len(it.node._missed) == 1)
    assert it.node.version == 0
    it.go("activate")
    assert it.node.version == 2
    it.go("deactivate", "cleanup", "configure", "activate")
    it.until(lambda: it.node.version == 2)


def test_diagnostics_are_named_after_rep_107_and_tell_what_there_is(bench):
    it = bench(CommandGuard, **NO_TIMEOUT)
    it.until(lambda: "command_guard: state" in it.told)
    state = it.told["command_guard: state"]
    assert status_values(state) == {"lifecycle": "unconfigured", "waiting_for": "activation"} and state.level == b"\x01"
    it.go("configure", "activate")
    names = {f"command_guard: {what}" for what in ("state", "guard", "streams")}
    it.until(lambda: set(it.told) == names)
    assert {status.hardware_id for status in it.told.values()} == {"cartpole"}
    assert status_values(it.told["command_guard: state"])["lifecycle"] == "active"
    assert status_values(it.told["command_guard: guard"])["guard_state"] == "disarmed"
    streams = it.told["command_guard: streams"]
    assert streams.level == b"\x03" and streams.message == "command: nothing yet; observation: nothing yet"
    sent_by(it)
    end = time.monotonic() + 30.0
    while status_values(it.told["command_guard: streams"])["command rate_hz"] == "0.00":
        assert time.monotonic() < end
        wish(it, 1.0)
        it.executor.spin_once(timeout_sec=0.02)
    streams = it.told["command_guard: streams"]
    assert streams.message == "observation: nothing yet" and float(status_values(streams)["command age_s"]) < 30.0
    assert float(status_values(streams)["applied_command rate_hz"]) > 0


def test_what_the_controller_and_the_learner_tell(bench):
    it = bench(MpcController)
    it.go("configure", "activate")
    it.node.planning_s.extend([0.01] * 99 + [0.05])
    values = it.node.status()[1]
    assert (values["planning_ms_p50"], values["budget_ms"]) == ("10.00", "30.00")
    assert 10.0 < float(values["planning_ms_p99"]) < 50.0
    it.node.leave()
    learner = ModelLearner()
    try:
        learner.bring_up()
        assert set(learner.statuses()) == {"model", "store"}
        assert learner.statuses()["store"][1]["size_bytes"] > 0 and "one_step_error" in learner.status()[1]
    finally:
        learner.leave()
        learner.destroy_node()


def run_node(name, *parameters):
    given = [word for p in parameters for word in ("-p", p)]
    environment = os.environ | {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(own_domain(__file__, "processes")),
    }
    return subprocess.run(
        [sys.executable, "-m", f"mbrl_ros.nodes.{name}", "--ros-args", *given],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_process_that_starts_by_itself_ends_with_2_and_every_problem():
    run = run_node("command_guard", "robot:=nobody", "seed:=-1", "guard.timeout:=-3.0")
    assert run.returncode == 2
    for part in ("seed: -1 is not allowed", "timeout: -3.0 is not allowed", "unknown robot 'nobody'"):
        assert part in run.stderr
    assert "Traceback" not in run.stderr
