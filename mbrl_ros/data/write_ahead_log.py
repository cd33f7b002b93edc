"""Damage of a store's write-ahead log, which SQLite itself takes for the end of the log.

After a crash SQLite replays the log up to the first frame whose checksum is wrong and forgets the rest without a word,
for a crash leaves nothing else behind. But commits are synchronised one after the other: where a later frame of the
same log ends one, the wrong frame was whole once, and rows that were acknowledged would be lost.
Format: https://www.sqlite.org/fileformat2.html, section 4.
"""

import struct
from pathlib import Path

from mbrl_ros.errors import StoreError

LOG = "-wal"  # what SQLite appends to the name of a file for its write-ahead log
HEADER, FRAME_HEADER = 32, 24  # bytes
BYTE_ORDER = {0x377F0682: "<", 0x377F0683: ">"}  # of the numbers that are summed, by the first word of the log
MODULUS = 1 << 32


def log_path(path: Path) -> Path:
    """The log of the store at `path`."""
    return path.with_name(path.name + LOG)


def log_damage(path: Path) -> str:
    """What is wrong with the log of the store at `path`; empty where nothing is, or there is no log."""
    data = read_log(log_path(path))
    if not data:
        return ""
    if not path.is_file() or path.stat().st_size == 0:
        return "the file is empty or missing, only its write-ahead log is there"
    if len(data) <= HEADER:
        return ""
    order = BYTE_ORDER.get(int.from_bytes(data[:4], "big"))
    if order is None or checksum((0, 0), data[:24], order) != struct.unpack(">2I", data[24:HEADER]):
        return "the header of its write-ahead log is not what was written"
    return frame_damage(data, order)


def frame_damage(data: bytes, order: str) -> str:
    """The same of a log whose header is right."""
    size, salts, sums = int.from_bytes(data[8:12], "big"), data[16:24], struct.unpack(">2I", data[24:HEADER])
    step, wrong = FRAME_HEADER + size, 0
    for number, start in enumerate(range(HEADER, len(data) - step + 1, step), 1):
        head, page = data[start : start + FRAME_HEADER], data[start + FRAME_HEADER : start + step]
        if wrong:
            if head[8:16] == salts and any(head[4:8]):  # of this log, and the last frame of a commit
                return f"frame {wrong} of its write-ahead log is not what was written, and more follows"
            continue
        sums = checksum(sums, head[:8] + page, order)
        if head[8:16] != salts or struct.unpack(">2I", head[16:]) != sums:
            wrong = number
    return ""


def checksum(sums: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    """SQLite's running sums of 32-bit words, taken on over more data (section 4.2)."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) % MODULUS
        second = (second + odd + first) % MODULUS
    return first, second


def read_log(path: Path) -> bytes:
    """All bytes of a log, none where there is no log; once more where a writer began it anew while it was read."""
    try:
        while True:
            data = path.read_bytes()
            with path.open("rb") as file:
                if file.read(HEADER) == data[:HEADER]:
                    return data
    except (FileNotFoundError, NotADirectoryError):  # also where its writer has ended in the meantime
        return b""
    except OSError as error:
        raise StoreError(f"{path}: cannot read it: {error.strerror}") from None
