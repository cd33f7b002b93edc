"""Saves the rows of a damaged transition store.

SQLite reaches a row through the pages above it; where one of them is gone, so is everything below. Here no page
is trusted: a row is looked for in all bytes of the file and of its write-ahead log, by the form that SQLite's
record format (https://www.sqlite.org/fileformat2.html, section 2.1) gives it, and believed for its checksum. The
damaged file is only ever read, SQLite gets a copy of it.
"""

import json
import re
import shutil
import sqlite3
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mbrl_ros.data.store_format import (
    DamagedStoreError,
    Row,
    connect_read_only,
    decoded,
    explained,
    number,
    read_changes,
    read_identity,
    read_rows,
    to_identity,
)
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.data.write_ahead_log import log_damage, log_path
from mbrl_ros.errors import ConfigError, StoreError
from mbrl_ros.models.layout import StateLayout

INTEGER_SIZE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}  # serial type -> bytes; 8 and 9 are the numbers 0, 1
COMPLAINTS = 5  # of SQLite that are told


@dataclass(frozen=True)
class Findings:
    """What a look at a store's file has found.

    Attributes:
        complaints: what is wrong with it; empty where it is intact.
        readable: rows that can be read as usual, None where not all of them can.
        robot: name of its robot.
        layout: of its robot.
        rows: what can be saved, in the order in which it was stored.
        numbers: row numbers of `rows`; the numbers of a store count from 1 without a gap.
        unverified: how many of `rows` have no checksum (stored by a version before them).
        changes: row numbers after which the robot has changed, where the file still tells.
    """

    complaints: tuple[str, ...]
    readable: int | None
    robot: str
    layout: StateLayout
    rows: tuple[Row, ...]
    numbers: tuple[int, ...]
    unverified: int
    changes: tuple[int, ...] = ()

    @property
    def missing(self) -> list[tuple[int, int]]:
        """First and last row number of each gap; what was lost after the last row found cannot be known."""
        known = (0, *self.numbers)
        return [(a + 1, b - 1) for a, b in zip(known, self.numbers, strict=False) if b > a + 1]


def examine(path: Path, robot: str = "", layout: StateLayout | None = None) -> Findings:
    """Look at a store, damaged or not, without changing it.

    Args:
        path: the store's file.
        robot: name of its robot, where the file does not tell any more.
        layout: state layout of its robot, likewise.

    Raises:
        StoreError: there is no such file, or neither it nor the caller says which robot it is of.
    """
    if not (path.is_file() or log_path(path).is_file()):
        raise StoreError(f"{path}: no such transition store")
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(path, Path(folder))
        told = identity_of(copy) or identity_in(b"".join(parts(path)))
        if told is not None:
            robot, layout = told
        if layout is None:
            raise StoreError(f"{path}: does not say any more which robot it is of; name the robot with --robot")
        complaints, readable = opinion(copy, layout)
        changes = changes_of(copy)
    complaints += filter(None, [log_damage(path)])
    found = search(path, layout)
    rows, numbers = tuple(entry[2] for entry in found), tuple(entry[0] for entry in found)
    return Findings(
        tuple(complaints), readable, robot, layout, rows, numbers, sum(not entry[3] for entry in found), changes
    )


def recover(findings: Findings, out: Path) -> None:
    """Write the rows found into a new store at `out`.

    A trajectory that has lost rows in its midst becomes two, for nothing may be learned across the gap.

    Raises:
        StoreError: `out` exists already or cannot be written.
    """
    if out.exists():
        raise StoreError(f"{out}: exists already; the rows are saved into a new file")
    with TransitionStore(out, findings.robot, findings.layout) as store:
        store.append_all(unbroken(findings))
        for before in findings.changes:
            store.note_change(sum(row_number <= before for row_number in findings.numbers))


def unbroken(findings: Findings) -> Iterator[Row]:
    """The rows with trajectories counted anew, a new one after each gap."""
    trajectory, last = -1, (-1, -1)
    for row_number, row in zip(findings.numbers, findings.rows, strict=True):
        if (row.trajectory, row_number - 1) != last:
            trajectory += 1
        last = (row.trajectory, row_number)
        yield replace(row, trajectory=trajectory)


def copied(path: Path, folder: Path) -> Path:
    """A copy of the store with its write-ahead log, for SQLite to work on."""
    copy = folder / path.name
    copy.touch()  # the log may be all there is
    for source in (path, log_path(path)):
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    return copy


def parts(path: Path) -> list[bytes]:
    """Bytes of the store and of its log."""
    return [source.read_bytes() if source.exists() else b"" for source in (path, log_path(path))]


def identity_of(copy: Path) -> tuple[str, StateLayout] | None:
    """Robot and layout, None where the file does not tell any more."""
    try:
        with explained(copy, "open"):
            db = connect_read_only(copy)
        try:
            return read_identity(db, copy)
        finally:
            db.close()
    except StoreError:
        return None


def changes_of(copy: Path) -> tuple[int, ...]:
    """Changes of the robot, none where the file does not tell any more."""
    try:
        with explained(copy, "open"):
            db = connect_read_only(copy)
        try:
            return tuple(read_changes(db, copy))
        finally:
            db.close()
    except StoreError:
        return ()


def identity_in(data: bytes) -> tuple[str, StateLayout] | None:
    """Robot and layout from the bytes of the file, None where they are not all there or make no sense."""
    values = {}
    for key in ("robot", *(f.name for f in fields(StateLayout))):
        header = bytes((13 + 2 * len(key),)) + rb"(?P<kind>[\x0d-\x7f]|[\x80-\xff][\x00-\x7f])" + key.encode()
        for match in re.finditer(rb"[\x03\x04]" + header, data, re.DOTALL):
            size = (varint_before(match["kind"], len(match["kind"])) - 13) // 2
            with suppress(ValueError):
                values[key] = json.loads(data[match.end() : match.end() + size])
    try:
        return to_identity(values)
    except (KeyError, TypeError, ValueError, StoreError, ConfigError):
        return None


def opinion(copy: Path, layout: StateLayout) -> tuple[list[str], int | None]:
    """What SQLite and the checksums say against the file, and how many rows can be read."""
    complaints: list[str] = []
    db = connect_read_only(copy)
    try:
        verdicts = [row[0] for row in db.execute(f"PRAGMA integrity_check({COMPLAINTS})")]
        complaints += [line for verdict in verdicts if verdict != "ok" for line in verdict.splitlines()]
        readable = number(db, "SELECT COUNT(*) FROM transitions")
        deque(read_rows(db, copy, layout), maxlen=0)  # every one is checked, none is kept
        return complaints, readable
    except sqlite3.Error as error:
        return [*complaints, str(error)], None
    except DamagedStoreError as error:
        return [*complaints, error.what], None
    finally:
        db.close()


def search(path: Path, layout: StateLayout) -> list[tuple[int, int, Row, bool]]:
    """Rows in the bytes of the file and its log, in order: row number, stamp, row, whether a checksum vouches for it.

    An older picture of a page, such as the log keeps, holds true rows, too: rows are only ever added.
    """
    found: dict[int, tuple[int, int, Row, bool]] = {}
    for data in parts(path):
        for with_checksum in (True, False):  # so that a row without one gives way to the same row with it
            for row_number, row, verified in records(data, path, layout, with_checksum):
                found.setdefault(row.stamp_ns, (row_number, row.stamp_ns, row, verified))
    return sorted(found.values(), key=lambda entry: entry[:2])


def records(data: bytes, path: Path, layout: StateLayout, with_checksum: bool) -> Iterator[tuple[int, Row, bool]]:
    """Every row in the bytes, wherever it lies: its number, the row, and whether it has a checksum."""
    for match in re.finditer(record_header(layout, with_checksum), data, re.DOTALL):
        blobs = [12 + 2 * size for size in blob_sizes(layout)]
        types = [*match["integers"], *blobs, *match["flag"], *match["crc"]]
        try:
            content = record_values(data, match.end(), types)
            crc = content.pop() if with_checksum else None
            row = decoded(path, layout, *content, crc, 0)
        except (DamagedStoreError, IndexError, UnicodeDecodeError):
            continue
        yield varint_before(data, match.start()), row, crc is not None


def blob_sizes(layout: StateLayout) -> tuple[int, int, int]:
    """Bytes of x, u and x_next."""
    return 8 * layout.nx, 8 * layout.nu, 8 * layout.nx


def record_header(layout: StateLayout, with_checksum: bool) -> bytes:
    """Regular expression of the header that SQLite writes before a row: its length, then a type for each column.

    The columns are number (always of type 0), stamp, trial and trajectory, the three vectors, flag and checksum.
    """
    blobs = b"".join(varint(12 + 2 * size) for size in blob_sizes(layout))
    length = 1 + 1 + 3 + len(blobs) + 1 + with_checksum
    integer = rb"[\x01-\x06\x08\x09]"
    start = re.escape(bytes((length, 0))) + rb"(?P<integers>" + integer + rb"{3})" + re.escape(blobs)
    return start + rb"(?P<flag>[\x0d-\x7f])(?P<crc>" + ((integer + rb"|\x00") if with_checksum else b"") + rb")"


def record_values(data: bytes, place: int, types: list[int]) -> list[int | bytes | str | None]:
    """Values of the given types, one after the other from `place` on; IndexError where the data end before."""
    values: list[int | bytes | str | None] = []
    for kind in types:
        size = INTEGER_SIZE[kind] if kind in INTEGER_SIZE else max(kind - 12, 0) // 2
        if place + size > len(data):
            raise IndexError
        values.append(value_of(kind, data[place : place + size]))
        place += size
    return values


def value_of(kind: int, content: bytes) -> int | bytes | str | None:
    """A value of a serial type: NULL, a big-endian integer, 0 or 1 without content, a blob (even) or a text (odd)."""
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind in INTEGER_SIZE:
        return int.from_bytes(content, "big", signed=True)
    return content.decode() if kind % 2 else content


def varint(value: int) -> bytes:
    """SQLite's variable-length integer: seven bits a byte, high bits first, the top bit set on all but the last."""
    result = [value & 0x7F]
    while value := value >> 7:
        result.append(value & 0x7F | 0x80)
    return bytes(reversed(result))


def varint_before(data: bytes, end: int) -> int:
    """The variable-length integer whose last byte lies before `end`."""
    value, shift, place = 0, 0, end - 1
    while place >= 0 and shift < 8 * 7 and (shift == 0 or data[place] & 0x80):
        value |= (data[place] & 0x7F) << shift
        place, shift = place - 1, shift + 7
    return value
