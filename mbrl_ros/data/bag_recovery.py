"""Saves the messages of an MCAP bag that was never ended, or that is damaged, into a new bag.

A recording that was killed lacks the index at the end of its file and ``metadata.yaml``, and its last record may be
half there. Every record says how long it is, so that the file can be read from its start for as long
as that is true. Format: mcap.dev/spec, section Records.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import decompress, get_qos

from mbrl_ros.data.bag_export import BAG_VERSION, TYPES
from mbrl_ros.data.bag_folders import PARAMETERS
from mbrl_ros.data.bag_reader import BagError

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
HEAD = 9  # bytes of opcode and length before each record


@dataclass(frozen=True)
class Channel:
    """A topic of the file."""

    topic: str
    type: str
    qos: list[Qos]


@dataclass
class Recovered:
    """What a file still has.

    Attributes:
        messages: time in ns, channel and CDR of each message.
        channels: by their number.
        lost_chunks: chunks and other records that are there and cannot be read.
        lost_bytes: at the end of the file, from where on it makes no sense.
    """

    messages: list[tuple[int, int, bytes]] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    lost_chunks: int = 0
    lost_bytes: int = 0


def recover_bag(path: Path, out: Path) -> Recovered:
    """Write all that can be read of an MCAP bag into a new one.

    Args:
        path: folder of the bag, or its file.
        out: folder of the new bag, which must not exist.

    Raises:
        BagError: there is no MCAP file, nothing in it can be read, or the new bag cannot be written.
    """
    if out.exists():
        raise BagError(f"{out}: exists already")
    found = Recovered()
    for file in mcap_files(path):
        read_file(file, found)
    if not found.messages:
        raise BagError(f"{path}: no message can be read")
    try:
        write_bag(out, found)
        beside = (path if path.is_dir() else path.parent) / PARAMETERS
        if beside.is_file():
            (out / PARAMETERS).write_bytes(beside.read_bytes())
    except (WriterError, OSError) as error:
        raise BagError(f"{out}: cannot write the bag: {error}") from None
    return found


def mcap_files(path: Path) -> list[Path]:
    """The files of a bag."""
    files = sorted(path.glob("*.mcap")) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        raise BagError(f"{path}: there is no MCAP file; only MCAP bags are recovered here, others by: ros2 bag reindex")
    return files


def read_file(path: Path, found: Recovered) -> None:
    """Add what a file has."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise BagError(f"{path}: cannot be read: {error.strerror}") from None
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise BagError(f"{path}: no MCAP file")
    schemas: dict[int, str] = {}
    end = len(MAGIC)
    for opcode, content, stop in records(data, len(MAGIC)):
        end = stop
        if opcode == DATA_END:
            return
        (take_chunk if opcode == CHUNK else take_single)(opcode, content, schemas, found)
    found.lost_bytes += len(data) - end


def records(data: memoryview, start: int) -> Iterator[tuple[int, memoryview, int]]:
    """Opcode and content of each whole record, and where it ends."""
    while start + HEAD <= len(data):
        opcode, length = data[start], struct.unpack_from("<Q", data, start + 1)[0]
        end = start + HEAD + length
        if end > len(data):
            return
        yield opcode, data[start + HEAD : end], end
        start = end


def take_single(opcode: int, content: memoryview, schemas: dict[int, str], found: Recovered) -> None:
    """Take a record outside of the chunks, if it makes sense."""
    try:
        take(opcode, content, schemas, found)
    except (struct.error, KeyError, UnicodeDecodeError):
        found.lost_chunks += 1


def take_chunk(_: int, content: memoryview, schemas: dict[int, str], found: Recovered) -> None:
    """Take what a chunk has; all of it or nothing."""
    part = Recovered(channels=found.channels)
    try:
        _, _, size, crc = struct.unpack_from("<QQQI", content)
        name, offset = text(content, 28)
        packed = bytes(content[offset + 8 : offset + 8 + struct.unpack_from("<Q", content, offset)[0]])
        data = memoryview(decompress(packed, name, size, crc))
        for opcode, inner, _ in records(data, 0):
            take(opcode, inner, schemas, part)
    except Exception:  # damaged bytes make the decoders raise more kinds than they document
        found.lost_chunks += 1
        return
    found.messages += part.messages


def take(opcode: int, content: memoryview, schemas: dict[int, str], found: Recovered) -> None:
    """Take one record."""
    if opcode == SCHEMA:
        schemas[struct.unpack_from("<H", content)[0]] = text(content, 2)[0]
    elif opcode == CHANNEL:
        number, schema = struct.unpack_from("<HH", content)
        topic, offset = text(content, 4)
        _, offset = text(content, offset)
        length = struct.unpack_from("<I", content, offset)[0]
        qos = get_qos(bytes(content[offset + 4 : offset + 4 + length]))
        found.channels[number] = Channel(topic, schemas[schema], qos)
    elif opcode == MESSAGE:
        number, _, time_ns = struct.unpack_from("<HIQ", content)
        found.messages.append((time_ns, number, bytes(content[22:])))


def text(content: memoryview, offset: int) -> tuple[str, int]:
    """The text at `offset`, and where it ends."""
    length = struct.unpack_from("<I", content, offset)[0]
    end = offset + 4 + length
    return bytes(content[offset + 4 : end]).decode(), end


def write_bag(out: Path, found: Recovered) -> None:
    """Write what was found, in order of time; topics of types that nobody here knows are left out."""
    writer: Any = Writer(out, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
    out.parent.mkdir(parents=True, exist_ok=True)
    with writer:
        known = {n: c for n, c in found.channels.items() if c.type in TYPES.types}
        connections = {
            n: writer.add_connection(c.topic, c.type, typestore=TYPES, offered_qos_profiles=c.qos)
            for n, c in known.items()
        }
        for time_ns, number, data in sorted(found.messages, key=lambda m: m[0]):
            if number in connections:
                writer.write(connections[number], time_ns, data)
