"""One learner for several robots, and a learner that comes and goes."""

import types

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import UInt64

from mbrl_ros.data.store_format import read_store
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.serialization import MAX_VERSION
from mbrl_ros.nodes.conversions import status_values, to_command, to_joint_state
from mbrl_ros.nodes.learner_member import fleet_namespaces
from mbrl_ros.nodes.model_learner import ModelLearner
from mbrl_ros.nodes.pipeline_node import WAITING_FOR
from mbrl_ros.nodes.trial_manager import LOST_AFTER, TrialManager
from mbrl_ros.nodes.trial_phase import TrialPhase, to_phase
from mbrl_ros.reporting.run_folder import TRANSITIONS
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")
DT_NS = round(1e9 * ROBOT.dt)
MODEL = "probabilistic_ensemble"
SMALL = {"members": 2, "width": 4, "steps": 2, "refit_steps": 2}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a node of the given class with parameters."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    nodes = []

    def make(cls, **given):
        given = {"output": str(tmp_path / "run")} | given
        arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        rclpy.try_shutdown()
        rclpy.init(args=["--ros-args", *arguments], domain_id=own_domain(__file__))
        nodes.append(cls())
        nodes[-1].bring_up()
        return nodes[-1]

    yield make
    for node in nodes:
        node.leave()
        node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def learner(start):
    return start(ModelLearner, fleet="a,/b", model=MODEL, **{f"{MODEL}.{k}": v for k, v in SMALL.items()})


def phase(member, what, index=0, policy="mpc"):
    member.on_trial(to_phase(TrialPhase(index, what, policy), ROBOT.name))


def tick(member, k, offset=0.0):
    """Observation and command of tick k."""
    x = np.array([0.01 * k + offset, 0.1, 0.0, 0.0])
    member.on_observation(to_joint_state(k * DT_NS, ROBOT.joints, x))
    member.on_applied(to_command(k * DT_NS, ROBOT.actuators, np.array([0.5]), "ok"))


def wait_for_fit(learner):
    while learner.running is not None:
        learner.running.exception()
        learner.work()


def said(member):
    """Words that the member has published on `trial_ready` from now on."""
    words = []
    member.ready = types.SimpleNamespace(publish=lambda message: words.append(message.data))
    return words


def test_trajectories_of_the_robots_stay_apart_though_their_motion_is_interleaved(learner):
    a, b = learner.members
    for member in (a, b):
        phase(member, "run")
    for k in range(12):
        tick(a, k)
        tick(b, k, 1.0)
    data = learner.learner.data()
    assert data.trajectory.tolist() == [0] * 11 + [1] * 11
    assert np.array_equal(data.x[1:11], data.x_next[:10]) and np.array_equal(data.x[12:], data.x_next[11:-1])
    rows = read_store(learner.folder / TRANSITIONS)[2]
    assert [row.trajectory % 2 for row in rows] == [0, 1] * 11
    tick(a, 20)
    tick(a, 21)
    assert learner.learner.data().trajectory.tolist() == [0] * 11 + [1] * 11 + [2], "numbers of a are even"


def test_no_number_of_a_trajectory_is_used_again_when_the_learner_comes_back(learner):
    for start in (0, 10):
        a, _ = learner.members
        phase(a, "run")
        for k in range(start, start + 3):
            tick(a, k)
        learner.trigger_deactivate()
        learner.trigger_cleanup()
        learner.trigger_configure()
        learner.trigger_activate()
    assert [row.trajectory for row in read_store(learner.folder / TRANSITIONS)[2]] == [0, 0, 2, 2]


def test_nothing_is_learned_from_an_observation_that_is_a_guess(learner):
    a, _ = learner.members
    phase(a, "run")
    for k in range(5):
        x = to_joint_state(k * DT_NS, ROBOT.joints, np.zeros(4), "position not measured" if k == 2 else "")
        a.on_observation(x)
        a.on_applied(to_command(k * DT_NS, ROBOT.actuators, np.array([0.5]), "ok"))
    assert [row.stamp_ns // DT_NS for row in read_store(learner.folder / TRANSITIONS)[2]] == [0, 3]


def test_a_trial_is_acknowledged_when_its_own_robot_uses_what_it_taught(learner):
    a, b = learner.members
    for member in (a, b):
        phase(member, "run", policy="base")
        for k in range(6):
            tick(member, k)
    words_a, words_b = said(a), said(b)
    phase(a, "done", policy="base")
    wait_for_fit(learner)
    assert learner.learner.version == 1 and words_a == []
    b.on_active_version(UInt64(data=1))
    assert words_a == words_b == [], "b uses it, but a does not; b is in its trial still"
    a.on_active_version(UInt64(data=1))
    assert words_a == ["model_learner 0 done"] and words_b == []


def test_a_trial_does_not_wait_for_the_fits_that_others_cause_later(learner):
    a, b = learner.members
    for member in (a, b):
        phase(member, "run")
        for k in range(6):
            tick(member, k)
    words = said(a)
    phase(a, "done")
    wait_for_fit(learner)
    learner.full_fit_due = True  # b's trial, say
    a.on_active_version(UInt64(data=1))
    assert words == ["model_learner 0 done"]


def test_a_robot_hears_of_its_own_missing_topics_only(learner):
    a, b = learner.members
    state = learner.state_for(a)
    assert state.name == "a/model_learner: state"
    missing = status_values(state)[WAITING_FOR].split(", ")
    assert "/a/observation" in missing and not any("/b/" in topic for topic in missing)
    learner._links = [(topic, lambda: 1) if "/a/" in topic else (topic, count) for topic, count in learner._links]
    assert status_values(learner.state_for(a))[WAITING_FOR] == ""
    assert "/b/observation" in status_values(learner.state_for(b))[WAITING_FOR]


def test_robots_that_differ_are_no_change_of_one(learner):
    learner.learner.changed = lambda pair: pytest.fail("not for a fleet")
    for k in range(4):
        tick(learner.members[0], k)
    assert len(learner.learner) == 3, "the transitions were there to be judged"


def test_a_learner_counts_on_from_a_newer_version_in_use_and_sends_its_model_again(start):
    learner = start(ModelLearner, model=MODEL, **{f"{MODEL}.{k}": v for k, v in SMALL.items()})
    (member,) = learner.members
    phase(member, "run", policy="base")
    for k in range(6):
        tick(member, k)
    phase(member, "done", policy="base")
    wait_for_fit(learner)
    sent = []
    learner.models = types.SimpleNamespace(publish=sent.append)
    learner.take_in(member.on_active_version, UInt64(data=7))
    assert learner.learner.version == 8 and len(sent) == 1
    member.on_active_version(UInt64(data=8))
    assert len(sent) == 1 and member.active_version == 8
    learner.take_in(member.on_active_version, UInt64(data=MAX_VERSION + 1))
    assert learner.learner.version == 8 and learner.refused == 1


@pytest.mark.parametrize(
    "text, message", [("/a,/a", "there twice"), ("/a,/1", "'/1' is not allowed"), ("a b", "'/a b'")]
)
def test_a_fleet_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        fleet_namespaces(text, lockstep=False)


def test_a_fleet_is_for_real_time():
    assert fleet_namespaces(" /a, b/c", lockstep=False) == ["/a", "/b/c"]
    assert fleet_namespaces("", lockstep=True) == []
    with pytest.raises(ConfigError, match="not allowed in lockstep"):
        fleet_namespaces("/a", lockstep=True)


def test_trials_go_on_without_a_learner_elsewhere_but_not_without_ones_own(start):
    manager = start(TrialManager, remote_learner="true")
    manager.expected = {"mpc_controller 2 done", "model_learner 2 done"}
    manager.acknowledged = {"mpc_controller 2 done"}
    manager.heard_at["model_learner"] = -LOST_AFTER - 1e9
    assert manager.unanswered() == set()
    manager.heard_at["model_learner"] = float("inf")
    assert manager.unanswered() == {"model_learner 2 done"}
    manager.acknowledged = set()
    manager.heard_at["model_learner"] = -1e9
    assert manager.unanswered() == {"mpc_controller 2 done"}
    alone = start(TrialManager)
    alone.expected = {"model_learner 2 done"}
    assert alone.unanswered() == {"model_learner 2 done"}
