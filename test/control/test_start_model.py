"""A model to start from: read with the transitions beside it, refused where it does not fit."""

import numpy as np
import pytest

from mbrl_ros.control.start_model import data_path, read_start
from mbrl_ros.data.store_format import Row
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import ConfigError, ModelRejectedError, StoreError
from mbrl_ros.models import model_class
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

ROBOT = load_robot("cartpole")
KIND = "probabilistic_ensemble"


@pytest.fixture
def path(tmp_path):
    """A model of 30 transitions."""
    cls = model_class(KIND)
    model = cls.example(ROBOT.layout, cls.config_class(members=2, width=4), np.random.default_rng(0))
    file = tmp_path / "m.safetensors"
    file.write_bytes(to_bytes(model, 1, 30, ROBOT.name))
    return file


def keep_data(path, robot=ROBOT.name):
    rng = np.random.default_rng(1)
    with TransitionStore(data_path(path), robot, ROBOT.layout) as store:
        store.append_all(
            Row(k, 0, k // 10, rng.standard_normal(4), rng.standard_normal(1), rng.standard_normal(4))
            for k in range(30)
        )


def motion(n):
    return Transitions(np.ones((n, 4)), np.ones((n, 1)), np.ones((n, 4)), np.arange(n) // 5)


def test_with_its_data_they_come_first_and_no_trajectory_is_joined(path):
    keep_data(path)
    start = read_start(path, ROBOT, KIND)
    assert start.header.data_size == start.size() == 30 and not start.holds(0)
    joined = start.with_new(motion(10))
    assert len(joined) == 40
    np.testing.assert_array_equal(joined.trajectory, np.repeat([-3, -2, -1, 0, 1], [10, 10, 10, 5, 5]))
    np.testing.assert_array_equal(joined.x[:30], start.data.x)
    np.testing.assert_array_equal(joined.u[30:], np.ones((10, 1)))


def test_without_its_data_the_model_stays_until_the_run_has_as_many(path):
    start = read_start(path, ROBOT, KIND)
    assert start.data is None and start.size() == 0
    assert start.holds(29) and not start.holds(30)
    assert start.with_new(motion(3)).trajectory.tolist() == [0, 0, 0]


def test_what_does_not_fit_is_refused(path, tmp_path):
    with pytest.raises(ConfigError, match=r"start_model: .*nothing.*No such file"):
        read_start(tmp_path / "nothing", ROBOT, KIND)
    with pytest.raises(ConfigError, match="--model probabilistic_ensemble"):
        read_start(path, ROBOT, "gaussian_process")
    with pytest.raises(ModelRejectedError, match=r"start_model: .*robot 'cartpole', not 'cartpole_blackdrops'"):
        read_start(path, load_robot("cartpole_blackdrops"), KIND)
    keep_data(path, robot="walker")
    with pytest.raises(StoreError, match="walker"):
        read_start(path, ROBOT, KIND)
    data_path(path).unlink()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelRejectedError, match="start_model: "):
        read_start(path, ROBOT, KIND)
