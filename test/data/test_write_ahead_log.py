"""Damage of the log that a killed process leaves: SQLite would forget what follows it, and say nothing."""

import shutil

import numpy as np
import pytest

from mbrl_ros.data.recovery import examine, recover
from mbrl_ros.data.store_format import read_store
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.data.write_ahead_log import FRAME_HEADER, HEADER, log_damage, log_path
from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("p", "v"), ("force",), (), {"p": "v"}, 0.05)
STEP = FRAME_HEADER + 4096


def vectors(i):
    return np.array([i, 0.5]), np.array([-i]), np.array([i + 1, 0.5])


@pytest.fixture
def path(tmp_path):
    """A store of 40 rows as a killed process leaves it: most of them in the log alone."""
    with TransitionStore(tmp_path / "of_the_living.sqlite", "cart", LAYOUT) as store:
        for i in range(40):
            store.append(1000 * i, 0, 0, *vectors(float(i)))
        killed = tmp_path / "killed" / "transitions.sqlite"
        killed.parent.mkdir()
        shutil.copy(tmp_path / "of_the_living.sqlite", killed)
        shutil.copy(log_path(tmp_path / "of_the_living.sqlite"), log_path(killed))
    return killed


def rows_of(path):
    with TransitionStore(path, "cart", LAYOUT) as store:
        return [row.stamp_ns // 1000 for row in store.rows()]


def change(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def refused_and_saved(path, tmp_path, robot=()):
    """The numbers of the rows that are saved from a store which nothing opens and nothing changes."""
    files = {p: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(StoreError, match=r"is damaged.*log.*mbrl_ros data recover"):
        TransitionStore(path, "cart", LAYOUT)
    with pytest.raises(StoreError, match=r"is damaged.*log.*mbrl_ros data recover"):
        read_store(path)
    findings = examine(path, *robot)
    assert findings.complaints
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == files
    recover(findings, tmp_path / "saved.sqlite")
    return rows_of(tmp_path / "saved.sqlite")


def test_a_whole_log_is_taken_up(path):
    assert log_damage(path) == ""
    assert rows_of(path) == list(range(40))


@pytest.mark.parametrize("place", ["page", "salt", "checksum"])
def test_a_changed_byte_in_the_midst_of_the_log(path, tmp_path, place):
    frames = (log_path(path).stat().st_size - HEADER) // STEP
    start = HEADER + frames // 2 * STEP
    change(log_path(path), start + {"page": FRAME_HEADER + 3000, "salt": 9, "checksum": 17}[place])
    assert f"frame {frames // 2 + 1} " in log_damage(path)
    assert refused_and_saved(path, tmp_path) == list(range(40)), "an older picture of the page is in the log, too"


def test_a_changed_header_of_the_log(path, tmp_path):
    change(log_path(path), 17)
    assert refused_and_saved(path, tmp_path) == list(range(40))


@pytest.mark.parametrize("gone", [True, False])
def test_a_log_whose_file_is_gone(path, tmp_path, gone):
    path.unlink() if gone else path.write_bytes(b"")
    assert refused_and_saved(path, tmp_path, ("cart", LAYOUT)) == list(range(40))


@pytest.mark.parametrize("cut", [1, 100, STEP - 1, STEP, 5 * STEP + 7])
def test_a_log_that_ends_early_is_what_a_crash_leaves(path, cut):
    data = log_path(path).read_bytes()
    log_path(path).write_bytes(data[:-cut])
    assert log_damage(path) == ""
    kept = rows_of(path)
    assert kept == list(range(len(kept))) and len(kept) >= 40 - -(-cut // STEP) * 2


def test_what_was_never_committed_is_no_damage_however_it_looks(path):
    """As of many transitions at once, killed in their midst."""
    data = bytearray(log_path(path).read_bytes())
    frames = (len(data) - HEADER) // STEP
    for frame in range(frames - 4, frames):
        start = HEADER + frame * STEP
        data[start + 4 : start + 8] = bytes(4)  # no end of a commit
        data[start + FRAME_HEADER + 100] ^= 1
    log_path(path).write_bytes(data)
    assert log_damage(path) == ""


def test_what_an_earlier_run_has_left_behind_the_end_is_no_damage(path):
    with TransitionStore(path, "cart", LAYOUT) as store:
        for i in range(40, 80):
            store.append(1000 * i, 0, 0, *vectors(float(i)))
        store._db.execute("PRAGMA wal_checkpoint(RESTART)")
        store.append(80_000, 0, 0, *vectors(80.0))  # begins the log anew, over the frames that were there
        assert log_path(path).stat().st_size > HEADER + 20 * STEP
        assert log_damage(path) == ""


def test_it_can_be_read_while_somebody_writes(path):
    with TransitionStore(path, "cart", LAYOUT) as store:
        for i in range(40, 60):
            store.append(1000 * i, 0, 0, *vectors(float(i)))
            assert len(read_store(path)[2]) == i + 1


def test_a_log_that_cannot_be_read_is_said(path):
    log_path(path).unlink()
    log_path(path).mkdir()
    with pytest.raises(StoreError, match="-wal: cannot read it: Is a directory"):
        log_damage(path)
