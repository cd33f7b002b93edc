"""What was learned is saved whole or not at all, and setting it aside loses nothing."""

import numpy as np
import pytest

from mbrl_ros.control import snapshot
from mbrl_ros.control.snapshot import as_rows, keep_start, newest_start, save_snapshot, set_aside
from mbrl_ros.control.start_model import read_start
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.models.probabilistic_ensemble import EnsembleConfig, ProbabilisticEnsemble
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.reporting.run_folder import TRANSITIONS, note_fit, read_fits
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

ROBOT = load_robot("cartpole")


def transitions(trajectory):
    rng, n = np.random.default_rng(0), len(trajectory)
    return Transitions(rng.normal(size=(n, 4)), rng.normal(size=(n, 1)), rng.normal(size=(n, 4)), np.array(trajectory))


DATA = transitions([-3, -3, -1, 0, 0, 0])
MODEL = ProbabilisticEnsemble.example(ROBOT.layout, EnsembleConfig(members=2, width=4), np.random.default_rng(0))
BYTES = to_bytes(MODEL, 7, len(DATA), ROBOT.name)


def test_what_is_saved_is_read_as_a_model_to_start_from(tmp_path):
    path = save_snapshot(tmp_path, BYTES, DATA, ROBOT)
    assert path == tmp_path / "saved" / "001" / "model.safetensors"
    start = read_start(path, ROBOT, "probabilistic_ensemble")
    assert start.header.version == 7
    for name in ("x", "u", "x_next"):
        np.testing.assert_array_equal(getattr(start.data, name), getattr(DATA, name))
    assert start.data.trajectory.tolist() == [0, 0, 1, 2, 2, 2]
    assert save_snapshot(tmp_path, BYTES, DATA, ROBOT).parent.name == "002", "the first one stays"
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["001", "002"]


def test_the_newest_start_is_kept_with_its_data_and_once(tmp_path):
    assert newest_start(tmp_path / "run") is None
    given = save_snapshot(tmp_path, BYTES, DATA, ROBOT)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(BYTES)
    for number, path in enumerate((given, given, alone, alone, given), 1):
        start = read_start(path, ROBOT, "probabilistic_ensemble")
        keep_start(tmp_path / "run", path, start, ROBOT)
        kept = newest_start(tmp_path / "run")
        assert kept.parent.name == {1: "001", 2: "001", 3: "002", 4: "002", 5: "003"}[number]
        assert kept.read_bytes() == BYTES
        again = read_start(kept, ROBOT, "probabilistic_ensemble")
        assert again.size() == start.size() == (0 if path == alone else len(DATA))


def test_stamps_are_a_period_apart_with_gaps_between_trajectories():
    assert [row.stamp_ns for row in as_rows(DATA, 10)] == [0, 10, 40, 70, 80, 90]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(snapshot, "to_disk", full)
        with pytest.raises(MbrlError, match="saved: cannot write: No space left on device"):
            save_snapshot(tmp_path, BYTES, DATA, ROBOT)
    assert list((tmp_path / "saved").iterdir()) == []
    assert save_snapshot(tmp_path, BYTES, DATA, ROBOT).parent.name == "001"


def test_a_store_that_is_set_aside_is_whole_and_the_next_one_is_empty(tmp_path):
    for number, count in ((1, 6), (2, 2)):
        with TransitionStore(tmp_path / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
            assert len(store) == 0
            store.append_all(as_rows(DATA[:count], 50_000_000))
        note_fit(tmp_path, version=number, transitions=count, seconds=0.5)
        aside = set_aside(tmp_path)
        assert aside == tmp_path / "set_aside" / f"{number:03d}"
        with TransitionStore(aside / TRANSITIONS, ROBOT.name, ROBOT.layout) as store:
            assert len(store) == count
        assert (
            [fit.transitions for fit in read_fits(aside)]
            == [6, 2][:number]
            == [fit.transitions for fit in read_fits(tmp_path)]
        )
        assert list(tmp_path.glob(f"{TRANSITIONS}*")) == []


def test_a_store_that_cannot_be_moved_is_said(tmp_path):
    (tmp_path / "set_aside").touch()
    with pytest.raises(MbrlError, match="set_aside: cannot write"):
        set_aside(tmp_path)
