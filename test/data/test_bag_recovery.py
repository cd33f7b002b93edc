"""Recovery of bags: whatever is cut off or damaged, what is whole comes back as it was, and nothing is made up."""

import os

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from mbrl_ros.cli import main
from mbrl_ros.data.bag_export import BAG_VERSION, TYPES, offered
from mbrl_ros.data.bag_reader import BagError, opened
from mbrl_ros.data.bag_recovery import recover_bag

TEXT = "std_msgs/msg/String"
TEXTS = [f"{number} " + "x" * (number % 200) for number in range(60)]


def make_bag(path, compression=None, chunk_every=10):
    """A bag of TEXTS in chunks of ten; returns the file."""
    writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = [
            writer.add_connection(f"/{name}", TEXT, typestore=TYPES, offered_qos_profiles=[offered(latched)])
            for name, latched in (("plain", False), ("latched", True))
        ]
        for number, text in enumerate(TEXTS):
            data = TYPES.serialize_cdr(TYPES.types[TEXT](data=text), TEXT)
            writer.write(connections[number % 2], 1000 + number, data)
            if number % chunk_every == chunk_every - 1:
                writer.storage.close_chunk()
    return path / f"{path.name}.mcap"


def texts(path):
    with opened(path) as reader:
        return [(c.topic, t, reader.deserialize(d, c.msgtype).data) for c, t, d in reader.messages()]


def expected(count):
    return [(("/plain", "/latched")[n % 2], 1000 + n, text) for n, text in enumerate(TEXTS[:count])]


@pytest.mark.parametrize("compression", [None, CompressionMode.STORAGE], ids=["plain", "zstd"])
def test_a_whole_bag_comes_back_as_it_was(tmp_path, compression):
    make_bag(tmp_path / "bag", compression)
    found = recover_bag(tmp_path / "bag", tmp_path / "out")
    assert (found.lost_bytes, found.lost_chunks) == (0, 0)
    assert texts(tmp_path / "out") == expected(60) == texts(tmp_path / "bag")
    with opened(tmp_path / "out") as reader:
        qos = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert qos == {"/plain": "VOLATILE", "/latched": "TRANSIENT_LOCAL"}


def test_cut_off_anywhere_every_whole_chunk_is_saved(tmp_path):
    file = make_bag(tmp_path / "bag")
    data = file.read_bytes()
    (tmp_path / "bag" / "metadata.yaml").unlink()
    counts = []
    for case, end in enumerate(np.linspace(9, len(data) - 1, 25).astype(int)):
        file.write_bytes(data[:end])
        try:
            recover_bag(tmp_path / "bag", tmp_path / f"out{case}")
        except BagError as error:
            assert "no message can be read" in str(error)
            counts.append(0)
            continue
        found = texts(tmp_path / f"out{case}")
        counts.append(len(found))
        assert found == expected(len(found)), "a prefix, unchanged"
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 60 and len(set(counts)) == 7
    assert all(count % 10 == 0 for count in counts)


def test_changed_bytes_are_an_error_or_leave_a_part_but_never_crash(tmp_path):
    file = make_bag(tmp_path / "bag", CompressionMode.STORAGE)
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    saved = []
    for case in range(40):
        changed = bytearray(data)
        for place in rng.integers(8, len(data), 3):
            changed[place] ^= 1 << rng.integers(8)
        file.write_bytes(bytes(changed))
        try:
            saved.append(len(recover_bag(tmp_path / "bag", tmp_path / f"out{case}").messages))
        except BagError:
            saved.append(0)
    assert len(set(saved)) > 3, "the damage differs"


def test_the_command_saves_the_parameters_too_and_says_what_is_lost(tmp_path, capsys):
    file = make_bag(tmp_path / "bag")
    (tmp_path / "bag" / "parameters.yaml").write_text("/**: {ros__parameters: {seed: 7}}\n")
    os.truncate(file, file.stat().st_size // 2)
    assert main(["bag", "recover", str(tmp_path / "bag"), str(tmp_path / "out")]) == 0
    assert "messages; lost: 0 chunks" in capsys.readouterr().out
    assert "seed: 7" in (tmp_path / "out" / "parameters.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "there is no MCAP file"), (b"", "no MCAP file"), (b"x" * 100, "no MCAP file")]
)
def test_what_is_no_bag_is_said_to_be_none(tmp_path, content, message):
    (tmp_path / "bag").mkdir()
    if content is not None:
        (tmp_path / "bag" / "bag.mcap").write_bytes(content)
    with pytest.raises(BagError, match=message):
        recover_bag(tmp_path / "bag", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_left_alone(tmp_path):
    make_bag(tmp_path / "bag")
    (tmp_path / "out").mkdir()
    with pytest.raises(BagError, match="exists already"):
        recover_bag(tmp_path / "bag", tmp_path / "out")
