"""The bag writer: what comes in is what is read, bounded, on the disk in time, and honest about a full disk."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mbrl_ros.data.bag_export import TYPES
from mbrl_ros.data.bag_folders import bags_in, next_bag
from mbrl_ros.data.bag_reader import BagError, opened
from mbrl_ros.data.bag_recovery import recover_bag
from mbrl_ros.data.bag_writer import BagWriter
from mbrl_ros.data.recorded_topics import RecordedTopic

FLOAT, TEXT = "std_msgs/msg/Float64", "std_msgs/msg/String"
TOPICS = [RecordedTopic("/a", FLOAT), RecordedTopic("/lab/b", TEXT, latched=True)]


def float_message(value):
    return bytes(TYPES.serialize_cdr(TYPES.types[FLOAT](data=value), FLOAT))


def text_message(value):
    return bytes(TYPES.serialize_cdr(TYPES.types[TEXT](data=value), TEXT))


def contents(path):
    with opened(path) as reader:
        return [(c.topic, t, reader.deserialize(d, c.msgtype).data) for c, t, d in reader.messages()]


def until(done, timeout=10.0):
    end = time.monotonic() + timeout
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def test_what_is_put_is_read_in_order_of_time(tmp_path):
    writer = BagWriter(tmp_path / "bag", TOPICS, 10**6, 60.0)
    writer.put("/a", 30, float_message(3.5))
    writer.put("/lab/b", 10, text_message("first"))
    writer.put("/a", 20, float_message(-1.0))
    writer.close()
    assert (writer.problem, writer.written, writer.dropped) == ("", 3, 0)
    assert contents(tmp_path / "bag") == [("/lab/b", 10, "first"), ("/a", 20, -1.0), ("/a", 30, 3.5)]


def test_qos_is_in_the_bag_so_that_latched_topics_are_played_as_such(tmp_path):
    BagWriter(tmp_path / "bag", TOPICS, 10**6, 60.0).close()
    with opened(tmp_path / "bag") as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert durability == {"/a": "VOLATILE", "/lab/b": "TRANSIENT_LOCAL"}


def test_the_queue_is_bounded_in_bytes_and_what_is_dropped_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(BagWriter, "_write", lambda self, *message: time.sleep(0.02))  # never makes room
    size = len(float_message(0.0))
    writer = BagWriter(tmp_path / "bag", TOPICS, 3 * size, 60.0)
    for number in range(5):
        writer.put("/a", number, float_message(0.0))
    assert writer.dropped == 2
    writer.close()


@pytest.mark.parametrize(("period", "there"), [(0.05, True), (3600.0, False)])
def test_after_the_flush_period_a_killed_process_loses_nothing(tmp_path, period, there):
    code = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_bag_writer import *
writer = BagWriter(Path({str(tmp_path / "bag")!r}), TOPICS, 10**6, {period})
for number in range(100):
    writer.put("/a", number, float_message(float(number)))
time.sleep(0.6)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -9
    if not there:
        with pytest.raises(BagError, match="no MCAP file"):
            recover_bag(tmp_path / "bag", tmp_path / "saved")
        return
    with pytest.raises(BagError, match="mbrl_ros bag recover"):
        contents(tmp_path / "bag")
    recover_bag(tmp_path / "bag", tmp_path / "saved")
    assert [value for _, _, value in contents(tmp_path / "saved")] == [float(n) for n in range(100)]


def test_a_full_disk_ends_the_recording_with_a_reason_and_not_the_process(tmp_path):
    """A limit on the size of files stands in for the end of the disk."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_bag_writer import *
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
writer = BagWriter(Path({str(tmp_path / "bag")!r}), TOPICS, 10**6, 0.02)
number = 0
while not writer.problem and number < 2000:
    writer.put("/lab/b", number, text_message("x" * 100))
    number += 1
    time.sleep(0.002)
writer.put("/a", number, float_message(0.0))
print(writer.problem, "|", writer.dropped)
writer.close()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    problem, dropped = ended.stdout.split("|")
    assert "the recording has ended: File too large; mbrl_ros bag recover" in problem
    assert int(dropped) >= 1, "what comes afterwards is not kept"
    recover_bag(tmp_path / "bag", tmp_path / "saved")
    found = contents(tmp_path / "saved")
    assert len(found) > 10 and [t for _, t, _ in found] == list(range(len(found)))


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "bag", TOPICS, 10**6, 1.0)


def test_each_bag_of_a_run_folder_has_a_name_of_its_own(tmp_path):
    names = []
    for _ in range(11):
        names.append(next_bag(tmp_path).name)
        next_bag(tmp_path).mkdir()
    assert names[:3] == ["bag", "bag_2", "bag_3"]
    assert [path.name for path in bags_in(tmp_path)] == names, "bag_10 comes after bag_9"


def test_a_run_that_is_not_recorded_does_not_need_rosbags():
    code = """
import sys
sys.modules["rosbags"] = None
import mbrl_ros.session, mbrl_ros.recording
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
