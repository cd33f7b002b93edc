"""Damaged stores: what is lost is what the damage has hit, and nothing else; the damaged file stays as it is."""

import random
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.data.recovery import examine, recover, varint, varint_before
from mbrl_ros.data.store_format import Row, read_store
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("p", "v"), ("force",), (), {"p": "v"}, 0.05)
PAGE = 4096


def vectors(i):
    return np.array([i + 0.1, -i / 3]), np.array([np.pi * i]), np.array([i + 1 / 7, 5e-324])


def make(path, n=300, layout=LAYOUT):
    """A store of n rows in trajectories of 50, all of it in the one file."""
    with TransitionStore(path, "cart", layout) as store:
        store.append_all(
            Row(1000 * i + 7, i // 50, i // 50, *vectors(i), "limited" if i % 3 else "ok") for i in range(n)
        )
    return path


def content(row):
    return (row.stamp_ns, row.trial, row.flag, *(v.tobytes() for v in (row.x, row.u, row.x_next)))


@pytest.fixture
def path(tmp_path) -> Path:
    return make(tmp_path / "transitions.sqlite")


def overwrite(path, place, data):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_an_intact_store_has_no_complaints_and_every_row_is_found(path):
    findings = examine(path)
    assert findings.complaints == () and findings.readable == 300 and findings.unverified == 0
    assert findings.missing == [] and findings.numbers == tuple(range(1, 301))
    _, _, rows = read_store(path)
    assert [content(r) for r in findings.rows] == [content(r) for r in rows], "an oracle that is SQLite itself"


def test_rows_in_the_write_ahead_log_alone_are_found_too(tmp_path):
    with TransitionStore(tmp_path / "t.sqlite", "cart", LAYOUT) as store:
        for i in range(20):
            store.append(i, 0, 0, *vectors(i))
        assert (tmp_path / "t.sqlite-wal").stat().st_size > 0
        assert examine(tmp_path / "t.sqlite").readable == len(examine(tmp_path / "t.sqlite").rows) == 20


@pytest.mark.parametrize("seed", range(12))
def test_only_the_rows_of_the_damaged_page_are_lost(path, tmp_path, seed):
    """Any page spoilt at random, also those that all others hang from; each row that is left is true."""
    rng = random.Random(seed)
    pages = path.stat().st_size // PAGE
    victim = seed if seed < 4 else rng.randrange(pages)
    before = {content(row) for row in read_store(path)[2]}
    overwrite(path, victim * PAGE, rng.randbytes(PAGE))
    damaged = path.read_bytes()
    findings = examine(path, "cart", LAYOUT)
    assert findings.complaints
    per_page = PAGE // 65  # a row takes 65 bytes or more
    assert 300 - per_page <= len(findings.rows) <= 300
    recover(findings, tmp_path / "saved.sqlite")
    assert path.read_bytes() == damaged and not path.with_name(path.name + "-wal").exists()
    robot, layout, rows = read_store(tmp_path / "saved.sqlite")
    assert (robot, layout) == ("cart", LAYOUT)
    assert {content(row) for row in rows} <= before and len(rows) == len(findings.rows)
    assert sum(b - a + 1 for a, b in findings.missing) + len(rows) <= 300


def test_a_file_cut_short_keeps_what_lies_before_the_cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    findings = examine(path)
    left = [i for i in range(1, 300) if vectors(i)[1].tobytes() in path.read_bytes()]
    assert findings.complaints and 0 < len(left) < 299
    assert set(left) - {row.stamp_ns // 1000 for row in findings.rows} <= {max(left)}, "but for one across the cut"


def test_a_byte_changed_within_a_row_is_noticed_though_sqlite_does_not(path, tmp_path):
    place = path.read_bytes().index(vectors(123)[1].tobytes())
    overwrite(path, place + 3, b"\xff")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with TransitionStore(path, "cart", LAYOUT) as store, pytest.raises(StoreError, match=r"row 124 .*data recover"):
        store.load()
    findings = examine(path)
    assert findings.complaints == ("row 124 does not match its checksum",) and findings.readable is None
    assert findings.missing == [(124, 124)] and len(findings.rows) == 299
    recover(findings, tmp_path / "saved.sqlite")
    rows = read_store(tmp_path / "saved.sqlite")[2]
    numbers = [row.trajectory for row in rows]
    assert numbers == [0] * 50 + [1] * 50 + [2] * 23 + [3] * 26 + [4] * 50 + [5] * 50 + [6] * 50, "broken at the gap"
    assert [row.trial for row in rows] == [i // 50 for i in range(300) if i != 123], "trials stay"


def test_opening_a_damaged_store_leaves_it_alone_and_names_the_way_out(path):
    with TransitionStore(path, "cart", LAYOUT) as store:
        store.append(10**9, 0, 0, *vectors(1))  # so that there is a log
        files = {p: p.read_bytes() for p in (path, path.with_name(path.name + "-wal"))}
    for p, data in files.items():  # as after kill -9
        p.write_bytes(data)
    overwrite(path, 2 * PAGE, bytes(PAGE))
    files[path] = path.read_bytes()
    with pytest.raises(StoreError, match=f"mbrl_ros data recover {path} OUT"):
        TransitionStore(path, "cart", LAYOUT)
    assert {p: p.read_bytes() for p in files} == files


def test_a_file_that_does_not_say_of_which_robot_it_is_needs_to_be_told(path):
    data = path.read_bytes()
    for match in re.finditer(rb"robot", data):
        overwrite(path, match.start(), b"xxxxx")
    overwrite(path, 0, bytes(PAGE))
    with pytest.raises(StoreError, match="--robot"):
        examine(path)
    assert len(examine(path, "cart", LAYOUT).rows) == 300


def test_robot_and_layout_are_found_without_sqlite(path):
    overwrite(path, 0, bytes(PAGE))
    findings = examine(path)
    assert (findings.robot, findings.layout) == ("cart", LAYOUT) and len(findings.rows) == 300


def test_files_that_are_not_there_or_in_the_way(path, tmp_path):
    with pytest.raises(StoreError, match="no such"):
        examine(tmp_path / "nothing")
    with pytest.raises(StoreError, match="exists already"):
        recover(examine(path), path)


def downgrade(path):
    """Turn a store into one of the format before checksums."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("ALTER TABLE transitions DROP COLUMN crc; PRAGMA user_version = 1; VACUUM")


def test_rows_of_the_format_before_checksums_are_saved_and_counted(path):
    downgrade(path)
    assert len(read_store(path)[2]) == 300, "it can be read as it is"
    place = path.read_bytes().index(vectors(123)[1].tobytes())
    overwrite(path, place // PAGE * PAGE, bytes(PAGE))
    findings = examine(path)
    assert 200 < len(findings.rows) == findings.unverified < 300


def test_a_store_of_the_format_before_gets_its_checksums(path):
    before = [content(row) for row in read_store(path)[2]]
    downgrade(path)
    TransitionStore(path, "cart", LAYOUT).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(crc) FROM transitions").fetchone() == (300,)
    assert [content(row) for row in read_store(path)[2]] == before
    assert examine(path).unverified == 0


def test_rows_of_many_entries_lie_in_one_piece(tmp_path):
    """40 kB a row: beyond SQLite's usual page it would be cut in pieces that `search` does not put together."""
    names = tuple(f"s{i}" for i in range(2500))
    layout = StateLayout(names, ("force",), (), {}, 0.05)
    rng = np.random.default_rng(0)
    with TransitionStore(tmp_path / "t.sqlite", "centipede", layout) as store:
        for i in range(3):
            store.append(i, 0, 0, rng.standard_normal(2500), rng.standard_normal(1), rng.standard_normal(2500))
    findings = examine(tmp_path / "t.sqlite")
    assert findings.complaints == () and len(findings.rows) == 3


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, 2**31, 2**55])
def test_variable_length_integers(value):
    assert varint_before(b"\x05" + varint(value), 1 + len(varint(value))) == value


def test_changes_of_the_robot_are_saved_where_rows_before_them_are_lost(path, tmp_path):
    with TransitionStore(path, "cart", LAYOUT) as store:
        store.note_change(150)
    found = examine(path)
    assert found.changes == (150,)
    kept = [k for k, n in enumerate(found.numbers) if not 100 < n <= 120]
    lost = replace(found, rows=tuple(found.rows[k] for k in kept), numbers=tuple(found.numbers[k] for k in kept))
    recover(lost, tmp_path / "saved.sqlite")
    with TransitionStore(tmp_path / "saved.sqlite", "cart", LAYOUT) as store:
        assert store.changes == [130] and store.rows()[130].stamp_ns == 1000 * 150 + 7
