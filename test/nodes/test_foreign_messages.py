"""Messages of any content at every subscription of every node: none ends a node, none unsafe reaches the actuators.

The guard's and the estimator's inputs have tests of their own, with many more messages (test/safety, test/estimation).
"""

import io
import mmap
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from rcl_interfaces.msg import Parameter, ParameterEvent, ParameterValue
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header, String, UInt8MultiArray, UInt64
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_ros.errors import MessageError
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import MAX_BYTES, MAX_VERSION, to_bytes
from mbrl_ros.nodes.command_guard import CommandGuard
from mbrl_ros.nodes.conversions import to_time
from mbrl_ros.nodes.model_learner import ModelLearner
from mbrl_ros.nodes.monitor import Monitor
from mbrl_ros.nodes.mpc_controller import MpcController
from mbrl_ros.nodes.pybullet_sim import PyBulletSim
from mbrl_ros.nodes.state_estimator import StateEstimator
from mbrl_ros.nodes.trial_manager import TrialManager
from mbrl_ros.nodes.trial_phase import POLICIES, TrialPhase, from_phase, to_phase
from mbrl_ros.robots.description import load_robot
from mbrl_ros.terminal import RunView, plain_line, render

ROBOT = load_robot("cartpole")
NODES = (StateEstimator, ModelLearner, MpcController, CommandGuard, TrialManager, PyBulletSim)
MODES = ("real time", "lockstep")
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXT = st.one_of(
    st.sampled_from(["", "ok", "timeout", "run", "done", "wait", "mpc", "base", "index", "policy", "trial", "version"]),
    st.sampled_from([*ROBOT.joints, *ROBOT.actuators, "model_learner 0 run", "-1", "9" * 30, "1_0", "²", "1e9"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
NUMBERS = st.lists(st.floats() | st.sampled_from([0.0, 1e308, -1e308, 1e-320]), max_size=6)
PAIRS = st.lists(st.floats(-5, 5) | st.floats(), min_size=2, max_size=2)
STAMPS = st.builds(
    Time,
    sec=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, -1, 2**31 - 1]),
    nanosec=st.integers(0, 2**32 - 1) | st.sampled_from([0, 50_000_000, 100_000_000]),
)
NOW = st.integers(-(10**8), 10**8).map(lambda ns: to_time(time.time_ns() + ns))
HEADERS = st.builds(Header, stamp=STAMPS | NOW, frame_id=TEXT)
JOINTS = st.just(list(ROBOT.joints))
NAMES = JOINTS | st.lists(TEXT, max_size=5) | st.just(list(ROBOT.actuators))
STATUSES = st.builds(
    DiagnosticStatus,
    level=st.binary(min_size=1, max_size=1),
    name=TEXT | st.sampled_from(["model_learner: state", "a: state", "command_guard: state"]),
    message=TEXT,
    values=st.lists(st.builds(KeyValue, key=TEXT | st.just("waiting_for"), value=TEXT), max_size=4),
)
MODEL = to_bytes(
    ProbabilisticEnsemble.example(ROBOT.layout, EnsembleConfig(members=2, width=4), np.random.default_rng(0)),
    3,
    10,
    "cartpole",
)


@st.composite
def damaged_models(draw):
    """A model with some bytes changed, cut off or appended."""
    data = bytearray(MODEL)
    for place in draw(st.lists(st.integers(0, len(MODEL) - 1), max_size=3)):
        data[place] ^= draw(st.integers(1, 255))
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))]) + draw(st.binary(max_size=3))


NUMBER = st.floats() | st.floats(-3, 3) | st.sampled_from([0.0, 1e308, 1.0])
POSES = st.builds(
    Pose,
    position=st.builds(Point, x=NUMBER, y=NUMBER, z=NUMBER),
    orientation=st.builds(Quaternion, x=NUMBER, y=NUMBER, z=NUMBER, w=NUMBER),
)
PARAMETERS = st.builds(
    Parameter,
    name=TEXT | st.sampled_from(["task.width", "task.goal_position", "task.none", "task.pole_length"]),
    value=st.builds(
        ParameterValue,
        type=st.integers(0, 255) | st.just(3),
        double_value=NUMBER,
        integer_value=st.integers(-(2**63), 2**63 - 1),
        string_value=TEXT,
        double_array_value=NUMBERS,
    ),
)
MESSAGES = {
    DiagnosticArray: st.builds(DiagnosticArray, header=HEADERS, status=st.lists(STATUSES, max_size=3)),
    DiagnosticStatus: STATUSES,
    Float64MultiArray: st.builds(Float64MultiArray, data=NUMBERS | st.just([0.0] * 10_000)),
    Header: HEADERS,
    JointState: st.builds(JointState, header=HEADERS, name=NAMES, position=NUMBERS, velocity=NUMBERS, effort=NUMBERS)
    | st.builds(JointState, header=HEADERS, name=JOINTS, position=PAIRS, velocity=PAIRS),
    JointTrajectory: st.builds(
        JointTrajectory,
        header=HEADERS,
        joint_names=NAMES,
        points=st.lists(st.builds(JointTrajectoryPoint, positions=NUMBERS, effort=NUMBERS), max_size=4),
    ),
    PoseStamped: st.builds(PoseStamped, header=HEADERS, pose=POSES),
    ParameterEvent: st.builds(
        ParameterEvent, node=TEXT | st.just("/mpc_controller"), changed_parameters=st.lists(PARAMETERS, max_size=3)
    ),
    String: st.builds(String, data=TEXT | st.just("x" * 100_000)),
    UInt64: st.builds(UInt64, data=st.integers(0, 2**64 - 1)),
    UInt8MultiArray: st.builds(UInt8MultiArray, data=st.binary(max_size=200) | damaged_models()),
}


@pytest.fixture(scope="module", params=[(c, m) for c in NODES for m in MODES], ids=lambda p: f"{p[0].__name__}, {p[1]}")
def node(request, tmp_path_factory):
    """A node by itself, in the middle of a trial."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    cls, mode = request.param
    given = {"lockstep": str(mode == "lockstep").lower(), "output": str(tmp_path_factory.mktemp("run"))}
    arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments], domain_id=own_domain(__file__))
    made = cls()
    made.bring_up()
    hear(made, "/dynamics_model", UInt8MultiArray(data=MODEL))
    yield made
    made.leave()
    made.destroy_node()
    rclpy.shutdown()


def hear(node, topic, message):
    """Give the node a message, where it listens to the topic."""
    for subscription in node.subscriptions:
        if subscription.topic_name == topic:
            subscription.callback(message)


@pytest.fixture
def sent(node, monkeypatch):
    """What the node sends to the actuators."""
    commands = []
    if getattr(node, "actuators", None) is not None:
        monkeypatch.setattr(node.actuators, "publish", commands.append)
    return commands


@given(st.data())
@FEW
def test_no_message_ends_a_node_and_nothing_unsafe_reaches_the_actuators(node, sent, data):
    hear(node, "/trial", to_phase(TrialPhase(0, "run", data.draw(st.sampled_from(POLICIES))), "cartpole"))
    for subscription in data.draw(st.permutations(list(node.subscriptions))):
        subscription.callback(data.draw(MESSAGES[subscription.msg_type]))
    assert node.exit_code is None, node.trouble
    node.publish_diagnostics()
    for command in sent:
        assert len(command.data) == len(ROBOT.actuators)
        assert np.all(np.abs(command.data) <= ROBOT.u_max)


def controller_in(node):
    if not isinstance(node, MpcController):
        pytest.skip("of the controller")
    return node


def test_a_model_of_a_gigabyte_is_refused_before_it_is_read(node):
    controller, before = controller_in(node), node.rejected
    with mmap.mmap(-1, 1 << 30) as zeros:  # pages that are not touched take no memory
        controller.on_model(SimpleNamespace(data=zeros))
    assert controller.rejected == before + 1 and MAX_BYTES < (1 << 30)


def test_an_older_model_is_refused_and_the_same_one_again_is_taken(node):
    controller = controller_in(node)
    example = ProbabilisticEnsemble.example(ROBOT.layout, EnsembleConfig(members=2, width=4), np.random.default_rng(0))
    models = {v: UInt8MultiArray(data=to_bytes(example, v, 10, "cartpole")) for v in (4, 5, MAX_VERSION + 1)}
    controller.on_model(models[5])
    before = controller.rejected
    controller.on_model(models[4])
    assert (controller.version, controller.rejected) == (5, before + 1)
    controller.on_model(models[5])
    assert (controller.version, controller.rejected) == (5, before + 1)
    controller.on_model(models[MAX_VERSION + 1])
    assert (controller.version, controller.rejected) == (5, before + 2), "or no other would ever be newer"


def test_what_was_refused_is_in_the_diagnostics(node, monkeypatch):
    controller = controller_in(node)
    hear(node, "/trial", DiagnosticStatus(message="jump"))
    published = []
    monkeypatch.setattr(controller, "_diagnostics", SimpleNamespace(publish=published.append))
    controller.publish_diagnostics()
    values = {pair.key: pair.value for pair in published[0].status[0].values}
    assert int(values["messages_refused"]) >= 1
    assert values["last_refused"] == "trial: message 'jump' is not allowed; expected one of: run, done, wait"


@given(STATUSES)
@settings(max_examples=300, deadline=None)
def test_what_is_taken_for_a_phase_is_one(message):
    try:
        announced = from_phase(message)
    except MessageError:
        return
    assert from_phase(to_phase(announced, "r")) == announced
    assert 0 <= announced.index < 10**6


@given(st.lists(MESSAGES[JointState] | MESSAGES[DiagnosticArray], max_size=4))
@FEW
def test_the_terminal_view_shows_anything(messages):
    view = RunView("title", 30.0)
    monitor = SimpleNamespace(view=view, get_namespace=lambda: "/")
    for message in messages:
        if isinstance(message, DiagnosticArray):
            Monitor.on_diagnostics(monitor, message)
        else:
            Monitor.on_tick(monitor, message)
            Monitor.on_trial(monitor, message)
    console = Console(width=120, file=io.StringIO())
    console.print(render(view))
    assert "title" in console.file.getvalue()
    for trial in view.trials:
        plain_line(trial)


LAST = Time(sec=2**31 - 1, nanosec=999_999_999)


@pytest.mark.parametrize("stamp, position", [(LAST, [0.0, 0.0]), (Time(), [0.0, np.nan]), (Time(sec=-1), [0.0, 0.0])])
def test_no_command_answers_an_observation_that_is_none(node, monkeypatch, stamp, position):
    controller, sent = controller_in(node), []
    monkeypatch.setattr(controller.commands, "publish", sent.append)
    monkeypatch.setattr("mbrl_ros.nodes.mpc_controller.LATE_PERIODS", np.inf)
    hear(node, "/trial", to_phase(TrialPhase(0, "run", "base"), "cartpole"))
    message = JointState(name=list(ROBOT.joints), position=position, velocity=[0.0, 0.0])
    message.header.stamp = stamp
    before = node.refused
    controller.take_in(controller.on_observation, message)
    if controller.delay_ticks or stamp != LAST:
        assert (sent, node.refused) == ([], before + 1)
    message.header.stamp, message.position = Time(sec=5), [0.0, 0.0]
    controller.take_in(controller.on_observation, message)
    assert np.isfinite(sent[-1].effort[0])
