"""The learner node's data: a model to start from, with its transitions or without, and a disk that is full."""

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from std_msgs.msg import UInt64

from mbrl_ros.control.start_model import data_path
from mbrl_ros.data.pairing import Pair
from mbrl_ros.data.store_format import Row, read_store
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.models import model_class
from mbrl_ros.models.serialization import from_bytes, to_bytes
from mbrl_ros.nodes.model_learner import ModelLearner
from mbrl_ros.nodes.pipeline_node import ERROR, OK
from mbrl_ros.reporting.run_folder import TRANSITIONS, model_path
from mbrl_ros.robots.description import load_robot

KIND = "probabilistic_ensemble"
SMALL = {"members": 2, "width": 4, "steps": 2, "refit_steps": 2}
ROBOT = load_robot("cartpole")
SIZE = 30  # transitions of the model to start from
STEP_NS = 50_000_000


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes the node on an empty run folder."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    nodes = []

    def start(**given):
        given |= {
            "lockstep": "true",
            "model": KIND,
            "output": str(tmp_path / "run"),
            **{f"{KIND}.{k}": v for k, v in SMALL.items()},
        }
        arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=own_domain(__file__))
        nodes.append(ModelLearner())
        nodes[-1].bring_up()
        return nodes[0]

    yield start
    for node in nodes:
        node.leave()
        node.destroy_node()
    rclpy.try_shutdown()


def transition(rng):
    return rng.standard_normal(4), rng.standard_normal(1), rng.standard_normal(4)


@pytest.fixture
def model(tmp_path):
    cls = model_class(KIND)
    example = cls.example(ROBOT.layout, cls.config_class(members=2, width=4), np.random.default_rng(0))
    path = tmp_path / "m.safetensors"
    path.write_bytes(to_bytes(example, 7, SIZE, ROBOT.name))
    return path


def keep_data(path):
    rng = np.random.default_rng(1)
    with TransitionStore(data_path(path), ROBOT.name, ROBOT.layout) as store:
        store.append_all(Row(k, 0, 0, *transition(rng)) for k in range(SIZE))


def move(node, count):
    """Transitions come in, as if from the pairer."""
    rng = np.random.default_rng(2)
    first = len(node.learner)
    node.members[0].take([Pair((first + k) * STEP_NS, *transition(rng), 0) for k in range(count)])


def in_a_planning_trial(node):
    node.members[0].phase, node.members[0].policy = "run", "mpc"


def test_the_model_is_published_as_the_first_version_and_waited_for(make, model):
    node = make(start_model=model)
    assert node.learner.version == 1 and "the first model" in node.unconnected()
    written, header = from_bytes(model_path(node.folder, 1).read_bytes(), ROBOT.name, ROBOT.layout)
    expected, _ = from_bytes(model.read_bytes(), ROBOT.name, ROBOT.layout)
    assert header.version == 1 and header.data_size == SIZE
    assert all(np.array_equal(written.arrays[k], v) for k, v in expected.arrays.items())
    node.members[0].on_active_version(UInt64(data=1))
    assert "the first model" not in node.unconnected()


def test_with_its_data_refits_begin_at_once_and_learn_from_them_too(make, model):
    keep_data(model)
    node = make(start_model=model)
    in_a_planning_trial(node)
    move(node, node.config.refit_every - 1)
    assert not node.refit_due()
    move(node, 1)
    node.work()
    assert node.learner.version == 2 and not node.refit_due()
    _, header = from_bytes(model_path(node.folder, 2).read_bytes(), ROBOT.name, ROBOT.layout)
    assert header.data_size == SIZE + node.config.refit_every


def test_without_its_data_the_model_stays_until_the_run_has_as_many(make, model):
    node = make(start_model=model)
    in_a_planning_trial(node)
    move(node, SIZE - 1)
    assert not node.refit_due()
    move(node, 1)
    node.work()
    assert node.learner.version == 2


def test_a_model_that_does_not_fit_is_an_error_before_anything_moves(make, model):
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(MbrlError, match=f"start_model: {model}"):
        make(start_model=model)


def test_on_a_full_disk_learning_goes_on_and_what_waits_is_stored_later(make):
    node = make()
    store = node.store._store
    store._db.execute(f"PRAGMA max_page_count = {store._value('PRAGMA page_count')}")
    move(node, 100)
    assert len(node.learner) == 100, "the model learns from what waits"
    waiting = node.store.waiting
    assert 0 < waiting < 100 and len(store) == 100 - waiting
    level, values = node.status()
    assert level == ERROR and values["not_stored_yet"] == waiting
    assert (
        "disk is full" in node.problems["store"] and f"{waiting} transitions wait in memory" in node.problems["store"]
    )
    store._db.execute("PRAGMA max_page_count = 100000")
    node.store_what_waits()
    assert node.status()[0] == OK and node.status()[1]["not_stored_yet"] == 0
    assert [row.stamp_ns // STEP_NS for row in read_store(node.folder / TRANSITIONS)[2]] == list(range(100))


def test_a_resumed_run_knows_of_an_earlier_change_of_the_robot(make, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    rng = np.random.default_rng(3)
    with TransitionStore(folder / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
        store.append_all(Row(k, 0, 0, *transition(rng)) for k in range(100))
        store.note_change(40)
    node = make()
    assert node.changes == 1 and len(node.learner) == 100 and len(node.data()) == 60
    node.work()
    _, header = from_bytes(model_path(node.folder, 1).read_bytes(), ROBOT.name, ROBOT.layout)
    assert header.data_size == 60
