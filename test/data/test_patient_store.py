"""The queue in front of the store: a full disk stops neither control nor learning, and loses nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mbrl_ros.data.patient_store import CHUNK, PatientStore
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout

LAYOUT = StateLayout(("p", "v"), ("force",), (), {"p": "v"}, 0.05)


@pytest.fixture
def store(tmp_path):
    with TransitionStore(tmp_path / "t.sqlite", "cart", LAYOUT) as opened:
        yield opened


def fill(patient, numbers):
    for i in numbers:
        patient.append(i, 0, 0, np.array([i, 0.5]), np.array([1.0]), np.array([i + 1, 0.5]), "limited")


def fill_disk(store):
    store._db.execute(f"PRAGMA max_page_count = {store._value('PRAGMA page_count')}")


def make_room(store):
    store._db.execute("PRAGMA max_page_count = 100000")


def stored(store):
    return [row.stamp_ns for row in store.rows()]


def fill_until_full(patient, store, more):
    """Append until rows wait, then `more`; returns the number of the next one."""
    i = 0
    while not patient.waiting:
        fill(patient, [i])
        i += 1
    fill(patient, range(i, i + more))
    return i + more


def test_with_room_everything_is_stored_at_once(store):
    patient = PatientStore(store)
    fill(patient, range(3))
    assert stored(store) == [0, 1, 2] and patient.waiting == 0 and patient.problem == ""
    assert store.rows()[0].flag == "limited" and len(patient.load()) == 3 and patient.next_trajectory == 1


def test_what_a_full_disk_does_not_take_waits_and_is_stored_in_order_when_there_is_room(store):
    patient = PatientStore(store)
    fill_disk(store)
    n = fill_until_full(patient, store, 2 * CHUNK)
    before = len(store)
    assert patient.waiting == n - before > 2 * CHUNK and "disk is full" in patient.problem
    assert not patient.flush() and len(store) == before
    make_room(store)
    assert not patient.flush() and patient.waiting == n - before - 1 - CHUNK, "a callback stays short"
    fill(patient, [n])
    fill(patient, [n + 1])
    assert patient.waiting == 0 and patient.problem == "" and stored(store) == list(range(n + 2))


def test_a_full_queue_refuses_what_is_new_and_keeps_what_it_has(store):
    patient = PatientStore(store, capacity=3)
    fill_disk(store)
    n = fill_until_full(patient, store, 2)
    with pytest.raises(StoreError, match=r"^3 transitions wait to be stored, .*disk is full"):
        fill(patient, [n])
    make_room(store)
    assert patient.flush() and stored(store) == list(range(n))


def test_a_bad_row_is_refused_at_once_though_the_disk_is_full(store):
    patient = PatientStore(store)
    fill_disk(store)
    n = fill_until_full(patient, store, 0)
    with pytest.raises(StoreError, match="not finite"):
        patient.append(n, 0, 0, np.array([np.nan, 0.0]), np.zeros(1), np.zeros(2))
    with pytest.raises(StoreError, match="waits to be stored already"):
        fill(patient, [n - 1])
    make_room(store)
    with pytest.raises(StoreError, match="stored already"):
        fill(patient, [0])
    fill(patient, [n])
    assert stored(store) == list(range(n + 1))


@pytest.mark.parametrize("room", [True, False])
def test_the_end_stores_what_it_can_and_says_how_many_are_lost(tmp_path, room):
    store = TransitionStore(tmp_path / "e.sqlite", "cart", LAYOUT)
    patient = PatientStore(store)
    fill_disk(store)
    n = fill_until_full(patient, store, 3 * CHUNK)
    on_disk = len(store)
    if room:
        make_room(store)
    assert patient.close() == (0 if room else n - on_disk)
    with TransitionStore(tmp_path / "e.sqlite", "cart", LAYOUT) as again:
        assert stored(again) == list(range(n if room else on_disk))


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_patient_store import LAYOUT, PatientStore, TransitionStore, fill, stored
store = TransitionStore(sys.argv[1], "cart", LAYOUT)
patient = PatientStore(store)
fill(patient, range(20))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
fill(patient, range(20, 400))
assert 0 < patient.waiting < 400 and len(store) + patient.waiting == 400, patient.waiting
print(patient.problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while not patient.flush():
    pass
assert stored(store) == list(range(400))
"""


def test_the_same_with_the_operating_system_refusing_to_write(tmp_path):
    """The limit on file sizes stops the log as a full disk does, in the midst of a page."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "t.sqlite"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot write the transition store" in done.stdout


def test_a_change_of_the_robot_waits_for_room_too(store):
    patient = PatientStore(store)
    fill(patient, range(3))
    store._db.execute("PRAGMA query_only = ON")  # as a disk that takes nothing
    patient.note_change(2)
    assert patient.changes == [2] and patient.problem and not store.changes
    store._db.execute("PRAGMA query_only = OFF")
    assert patient.flush() and store.changes == patient.changes == [2] and patient.problem == ""


def test_a_change_of_the_robot_is_not_noted_before_the_transitions_that_it_counts(store, monkeypatch):
    """Else the count would reach into what a killed process's successor stores."""
    monkeypatch.setattr("mbrl_ros.data.patient_store.CHUNK", 2)
    patient = PatientStore(store)
    fill_disk(store)
    count = fill_until_full(patient, store, 6)
    make_room(store)
    patient.note_change(count)
    while patient.waiting:
        assert store.changes == [] and patient.changes == [count]
        patient.flush()
    assert store.changes == [count] == [len(store)]


def test_a_transition_that_has_been_stored_does_not_wait_any_more(store):
    patient = PatientStore(store)
    fill_disk(store)
    count = fill_until_full(patient, store, 3)
    make_room(store)
    assert patient.flush()
    with pytest.raises(StoreError, match="is stored already"):
        fill(patient, [count - 1])
