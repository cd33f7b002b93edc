"""The learner node: when a resumed run may begin, and what starts a refit."""

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import UInt64

from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.models.fitting import FitError
from mbrl_ros.nodes.model_learner import ModelLearner
from mbrl_ros.nodes.pipeline_node import ERROR, OK
from mbrl_ros.reporting.run_folder import TRANSITIONS
from mbrl_ros.robots.description import load_robot

SMALL = {"members": 2, "width": 4, "steps": 2, "refit_steps": 2}


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """A lockstep learner whose run folder holds 20 transitions."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    robot, rng = load_robot("cartpole"), np.random.default_rng(0)
    with TransitionStore(tmp_path / TRANSITIONS, robot.name, robot.layout) as store:
        for k in range(20):
            store.append(k, 0, 0, rng.standard_normal(4), rng.standard_normal(1), rng.standard_normal(4))
    given = {"lockstep": "true", "output": str(tmp_path), "model": "probabilistic_ensemble"} | {
        f"probabilistic_ensemble.{k}": v for k, v in SMALL.items()
    }
    arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments], domain_id=own_domain(__file__))
    node = ModelLearner()
    node.bring_up()
    yield node
    node.leave()
    node.destroy_node()
    rclpy.shutdown()


def test_a_resumed_run_waits_until_the_controller_uses_what_the_store_has_taught(learner):
    assert "the first model" in learner.unconnected()
    learner.on_timer()
    assert learner.learner.version == 1
    assert "the first model" in learner.unconnected(), "fitted, but not in use yet"
    learner.members[0].on_active_version(UInt64(data=1))
    assert "the first model" not in learner.unconnected()


def test_after_a_fit_that_fails_the_last_good_model_stays_in_use_and_the_status_says_so(learner, monkeypatch):
    def failing(*_):
        raise FitError("fit: the loss became nan; the last good model stays in use")

    learner.on_timer()
    good = learner.learner.model
    with monkeypatch.context() as broken:
        broken.setattr(learner.learner, "_train", failing)
        learner.full_fit_due = True
        learner.on_timer()
    assert learner.learner.model is good and learner.learner.version == 1
    level, _ = learner.status()
    assert level == ERROR and "the loss became nan" in learner.problems["fit"]
    learner.full_fit_due = True
    learner.on_timer()
    assert learner.learner.version == 2 and learner.status()[0] == OK


def test_in_lockstep_no_timer_starts_a_refit_during_a_trial(learner):
    learner.on_timer()
    learner.members[0].phase, learner.members[0].policy, learner.rows_at_fit = "run", "mpc", 0
    assert learner.refit_due()
    learner.on_timer()
    assert learner.learner.version == 1
    learner.work()
    assert learner.learner.version == 2
