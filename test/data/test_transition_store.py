"""The transition store: nothing acknowledged is lost, nothing wrong gets in or out."""

import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.data.store_format import Row, StoreWriteError
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("p", "v"), ("force",), (), {"p": "v"}, 0.05)


def open_store(path: Path, robot: str = "cart", layout: StateLayout = LAYOUT) -> TransitionStore:
    return TransitionStore(path, robot, layout)


def vectors(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors with awkward digits that tell their row."""
    return np.array([i + 0.1, -i / 3]), np.array([np.pi * i]), np.array([i + 1 / 7, 5e-324])


def fill(store: TransitionStore, numbers) -> None:
    for i in numbers:
        store.append(1000 * i, i // 10, i // 5, *vectors(i))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "transitions.sqlite"


def test_what_goes_in_comes_out_bit_for_bit_and_in_order(path):
    with open_store(path) as store:
        assert len(store) == 0 and store.load().x.shape == (0, 2) and store.load().u.shape == (0, 1)
        fill(store, range(23))
        data = store.load()
        assert len(store) == len(data) == 23
    for i, (x, u, x_next, trajectory) in enumerate(zip(data.x, data.u, data.x_next, data.trajectory, strict=True)):
        for got, expected in zip((x, u, x_next), vectors(i), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert trajectory == i // 5
    assert data.trajectory.dtype == np.int64 and data.x.flags.writeable


def test_order_is_that_of_storing_even_if_the_clock_was_set_back(path):
    with open_store(path) as store:
        fill(store, [5, 6, 1])
        np.testing.assert_array_equal(store.load().x[:, 0], [5.1, 6.1, 1.1])


def test_resume_continues(path):
    with open_store(path) as store:
        assert store.last_trial == -1 and store.next_trajectory == 0
        fill(store, range(12))
    with open_store(path) as store:
        assert store.last_trial == 1 and store.next_trajectory == 3
        fill(store, range(12, 15))
        np.testing.assert_array_equal(store.load().x[:, 0], np.arange(15) + 0.1)


def test_flag_and_numpy_integers_are_kept(path):
    with open_store(path) as store:
        store.append(np.int64(2**62), np.int64(3), np.int32(4), *vectors(1), flag="limited")
    with closing(sqlite3.connect(path)) as db:
        row = db.execute("SELECT stamp_ns, trial, trajectory, flag FROM transitions").fetchone()
    assert row == (2**62, 3, 4, "limited")


def test_settings_that_make_it_durable(path):
    with open_store(path) as store:
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"


def test_a_reader_sees_each_row_as_soon_as_append_returns(path):
    with open_store(path) as writer, open_store(path) as reader:
        for i in range(5):
            fill(writer, [i])
            assert len(reader) == i + 1


@pytest.mark.parametrize("name, place", [("x", 0), ("u", 1), ("x_next", 2)])
@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf], [1.0, 2.0, 3.0], [[1.0, 2.0]], []])
def test_bad_rows_are_refused_and_leave_nothing(path, name, place, bad):
    with open_store(path) as store:
        row = list(vectors(0))
        row[place] = np.array(bad)
        with pytest.raises(StoreError, match=f"^{name}: "):
            store.append(0, 0, 0, *row)
        assert len(store) == 0


def test_a_stamp_is_stored_once(path):
    with open_store(path) as store:
        fill(store, [1])
        with pytest.raises(StoreError, match="stamp 1000 ns is stored already"):
            store.append(1000, 9, 9, *vectors(9))
        for stamp in (-1, 2**63):
            with pytest.raises(StoreError, match=f"stamp_ns: {stamp} is not allowed"):
                store.append(stamp, 0, 0, *vectors(2))
        fill(store, [2])
        np.testing.assert_array_equal(store.load().x[:, 0], [1.1, 2.1])


@pytest.mark.parametrize(
    "robot, change, both",
    [
        ("walker", {}, ["cart", "walker"]),
        ("cart", {"dt": 0.02}, ["0.05", "0.02"]),
        ("cart", {"state": ("v", "p")}, ['"p", "v"', '"v", "p"']),
        ("cart", {"action": ("torque",)}, ["force", "torque"]),
        ("cart", {"angles": ("p",)}, ["[]", '["p"]']),
        ("cart", {"velocity_of": {}}, ['{"p": "v"}', "{}"]),
    ],
)
def test_a_store_of_another_robot_or_layout_is_refused(path, robot, change, both):
    with open_store(path) as store:
        fill(store, [0])
    with pytest.raises(StoreError) as caught:
        open_store(path, robot, dataclasses.replace(LAYOUT, **change))
    for name in both:
        assert name in str(caught.value)
    with open_store(path) as store:
        assert len(store) == 1, "the refusal leaves it alone"


def test_what_is_no_store_is_refused(path, tmp_path):
    with pytest.raises(StoreError, match="folder does not exist"):
        open_store(tmp_path / "nowhere" / "x.sqlite")
    with pytest.raises(StoreError, match="cannot open"):
        open_store(tmp_path)
    path.write_bytes(b"trial,x,u\n" * 200)
    with pytest.raises(StoreError, match="not a database"):
        open_store(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE addresses (name TEXT)")
    with pytest.raises(StoreError, match="not a transition store"):
        open_store(path)


def test_a_later_format_is_refused(path):
    open_store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    with pytest.raises(StoreError, match="format 3; this version reads up to 2"):
        open_store(path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path  # the superuser may write everywhere but there
    if folder is tmp_path:
        folder.chmod(0o500)
    with pytest.raises(StoreError, match="cannot open"):
        open_store(folder / "transitions.sqlite")


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_refused_or_whole(path, seed):
    """Overwrite or cut pages at random: either an error of ours, or every row as it was, never silent loss."""
    with open_store(path) as store:
        fill(store, range(300))
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    if seed % 2:
        place = rng.randrange(len(content) - 4096)
        content[place : place + 4096] = rng.randbytes(4096)
    else:
        del content[rng.randrange(len(content)) :]
    path.write_bytes(content)
    with pytest.raises(StoreError), open_store(path) as store:
        store.load()


def test_damage_that_no_query_meets_is_found_when_opened(path):
    """The index of the stamps is spoilt: `load` would not notice, but a stamp could be stored twice."""
    with open_store(path) as store:
        fill(store, range(300))
        page = store._value("SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'transitions'")
        size = store._value("PRAGMA page_size")
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="store is damaged: "):
        open_store(path)


@pytest.mark.parametrize("value, message", [("'text'", "wrong size"), ("x'00'", "wrong size"), ("NAN", "not finite")])
def test_a_damaged_row_is_refused_when_loaded(path, value, message):
    blob = f"x'{np.full(2, np.nan).tobytes().hex()}'" if value == "NAN" else value
    with open_store(path) as store:
        fill(store, range(3))
        store._db.execute(f"UPDATE transitions SET x = {blob} WHERE number = 2")
        with pytest.raises(StoreError, match=f"damaged: an entry of x .*{message}"):
            store.load()


def test_a_closed_store_says_so(path):
    store = open_store(path)
    store.close()
    for use in (store.load, lambda: fill(store, [1]), lambda: len(store)):
        with pytest.raises(StoreError, match="closed"):
            use()


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_transition_store import fill, open_store
with open_store(sys.argv[1]) as store:
    for i in range(len(store), 100_000):
        fill(store, [i])
        print(i, flush=True)
"""


def test_kill_9_loses_no_acknowledged_row(path):
    """Kills a writer at ten random moments; each time every row it had acknowledged is there, bit for bit."""
    rng, acknowledged = random.Random(0), -1
    for _ in range(10):
        command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            first = writer.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.05))
            writer.kill()
            lines = (first + writer.stdout.read()).split("\n")[:-1]  # a last line cut short was not acknowledged
        assert int(lines[0]) in (acknowledged + 1, acknowledged + 2), "resumes after the last row"
        acknowledged = int(lines[-1])
        with open_store(path) as store:
            rows = len(store)
            assert rows in (acknowledged + 1, acknowledged + 2), "at most one row is stored and not yet acknowledged"
            np.testing.assert_array_equal(store.load().x, [vectors(i)[0] for i in range(rows)])


def killed_after(seconds, path, start):
    """Fork a writer that begins by opening the store, kill it, and return the last row that it acknowledged."""
    receive, send = os.pipe()
    if (pid := os.fork()) == 0:
        with open_store(path) as store:
            for i in range(start, 100_000):
                fill(store, [i])
                os.write(send, f"{i}\n".encode())
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(send)
    with open(receive) as pipe:
        lines = pipe.read().split("\n")[:-1]
    return int(lines[-1]) if lines else start - 1


def test_kill_9_while_the_file_is_made_opened_or_written_loses_no_acknowledged_row(tmp_path):
    rng, rows = random.Random(1), 0
    for turn in range(40):
        path = tmp_path / f"{turn // 4}.sqlite"  # each file is killed four times, the first time while it is made
        rows = rows if turn % 4 else 0
        acknowledged = killed_after(rng.uniform(0.0, 0.015), path, rows)
        with open_store(path) as store:
            rows = len(store)
            assert rows in (acknowledged + 1, acknowledged + 2)
            np.testing.assert_array_equal(store.load().x, np.reshape([vectors(i)[0] for i in range(rows)], (-1, 2)))


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_transition_store import fill, open_store
from mbrl_ros.errors import StoreError
store = open_store(sys.argv[1])
fill(store, range(20))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
stored = 20
try:
    for i in range(20, 5000):
        fill(store, [i])
        stored += 1
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(stored, len(store))
fill(store, [stored])
print(len(store.load()))
"""


def test_a_full_disk_is_an_error_that_loses_nothing(path):
    """A limit on file sizes stands in for the full disk; when there is room again, the same store goes on."""
    command = [sys.executable, "-c", FULL_DISK, str(path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message, counts, after = done.stdout.splitlines()
    assert "cannot write the transition store" in message
    stored, rows = map(int, counts.split())
    assert 20 < stored < 5000 and rows == stored and int(after) == stored + 1


def test_many_rows_go_in_at_once_or_not_at_all(path):
    with open_store(path) as store:
        fill(store, [2])
        rows = [Row(1000 * i, 0, 0, *vectors(i)) for i in range(5)]
        assert store.append_all(rows) == 4, "the stamp of one is stored already"
        assert sorted(store.load().x[:, 0]) == [i + 0.1 for i in range(5)]
        with pytest.raises(StoreError, match=r"^u: "):
            store.append_all([Row(9000, 0, 0, *vectors(9)), Row(9001, 0, 0, np.zeros(2), np.zeros(7), np.zeros(2))])
        assert len(store) == 5
        store._db.execute(f"PRAGMA max_page_count = {store._value('PRAGMA page_count') + 1}")
        with pytest.raises(StoreWriteError, match="full"):
            store.append_all(Row(1000 * i, 0, 0, *vectors(i)) for i in range(100, 1000))
        assert len(store) == 5 and not store._db.in_transaction


def test_newest_stamp_below_a_bound(path):
    with open_store(path) as store:
        assert store.newest_stamp() == -1
        fill(store, [3, 1, 7])
        assert (store.newest_stamp(), store.newest_stamp(before=7000)) == (7000, 3000)


NOTE_AND_DIE = """
import os, signal, sys
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.models.layout import StateLayout

store = TransitionStore(sys.argv[1], "cart", StateLayout(("p", "v"), ("force",), (), {"p": "v"}, 0.05))
store.note_change(3)
store.note_change(17)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_changes_of_the_robot_are_on_the_disk_when_they_are_noted(path):
    with open_store(path) as store:
        assert store.changes == []
        fill(store, range(5))
    subprocess.run([sys.executable, "-c", NOTE_AND_DIE, str(path)], check=False)
    with open_store(path) as store:
        assert store.changes == [3, 17] and len(store) == 5


@pytest.mark.parametrize("damage", ["no JSON", "[1, -2]", '{"a": 1}', '["x"]'])
def test_what_cannot_be_changes_is_said(path, damage):
    with open_store(path) as store:
        store._db.execute("INSERT INTO meta VALUES ('robot_changes', ?)", (damage,))
        with pytest.raises(StoreError, match="changes of its robot cannot be read"):
            _ = store.changes
