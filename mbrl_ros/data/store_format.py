"""The file of a transition store: its tables, its rows with their checksums, and reading it without changing it.

SQLite notices damage to its own structure, but not a changed byte inside a row: each row carries a CRC-32 of what is
in it.
"""

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.data.write_ahead_log import log_damage, log_path
from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout

APPLICATION_ID = 0x6D62726C  # "mbrl", marks the SQLite file as ours
FORMAT = 2
WITHOUT_CHECKSUMS = 1  # the format before; a store of it gets its checksums when it is next opened to write
CHANGES = "robot_changes"  # key of meta: numbers of transitions after which the robot changed, as JSON
LAST_STAMP = 2**63 - 1  # the largest number SQLite knows
ADD_CHECKSUMS = "ALTER TABLE transitions ADD COLUMN crc INTEGER"
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE transitions (
    number INTEGER PRIMARY KEY,
    stamp_ns INTEGER NOT NULL UNIQUE,
    trial INTEGER NOT NULL,
    trajectory INTEGER NOT NULL,
    x BLOB NOT NULL,
    u BLOB NOT NULL,
    x_next BLOB NOT NULL,
    flag TEXT NOT NULL
);
{ADD_CHECKSUMS};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""
SMALLEST_PAGE, LARGEST_PAGE = 4096, 65536  # bytes, powers of two
ROW_OVERHEAD = 256  # bytes, more than a row takes beside its vectors


class StoreWriteError(StoreError):
    """A row could not be written now, for a reason outside of it (disk full, locked); it may be written later."""


class DamagedStoreError(StoreError):
    """The file is damaged; `what` says how."""

    def __init__(self, path: Path, what: str) -> None:
        self.what = what
        super().__init__(
            f"{path}: the transition store is damaged: {what}; it stays as it is; 'mbrl_ros data check {path}' "
            f"says what can be saved, 'mbrl_ros data recover {path} OUT' saves it"
        )


@dataclass(frozen=True, eq=False)
class Row:
    """One stored transition: x (nx,), u (nu,), x_next (nx,); see `TransitionStore.append`."""

    stamp_ns: int
    trial: int
    trajectory: int
    x: np.ndarray
    u: np.ndarray
    x_next: np.ndarray
    flag: str = "ok"


def checksum(stamp_ns: int, trial: int, trajectory: int, x: bytes, u: bytes, x_next: bytes, flag: str) -> int:
    """CRC-32 of a row as it is stored."""
    return zlib.crc32(b"".join((struct.pack("<3q", stamp_ns, trial, trajectory), x, u, x_next, flag.encode())))


def page_size(layout: StateLayout) -> int:
    """Bytes of a page that takes a whole row: `recovery` finds rows that lie in one piece."""
    needed = 8 * (2 * layout.nx + layout.nu) + ROW_OVERHEAD
    return min(max(SMALLEST_PAGE, 1 << (needed - 1).bit_length()), LARGEST_PAGE)


@contextmanager
def explained(path: Path, action: str) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file and what was being done."""
    try:
        yield
    except sqlite3.Error as error:
        if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedStoreError(path, f"cannot {action} it: {error}") from error
        kind = StoreWriteError if action == "write" else StoreError
        raise kind(f"{path}: cannot {action} the transition store: {error}") from error


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot change the file, not even by moving the write-ahead log into it when it is closed.

    Without a log nobody is writing, and SQLite is told so, or else it would leave an empty log behind, which a
    read-only folder does not allow.
    """
    mode = "mode=ro" if log_path(path).exists() else "immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)


def number(db: sqlite3.Connection, query: str) -> int:
    """Result of a query for a single number."""
    return int(db.execute(query).fetchone()[0])


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing is in the file yet, as after a crash in the moment it was made."""
    return number(db, "SELECT COUNT(*) FROM sqlite_schema") == 0


def require_intact(db: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError where the file is no store, one of another format, or damaged."""
    if number(db, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreError(f"{path}: a SQLite file, but not a transition store")
    if (found := number(db, "PRAGMA user_version")) not in (WITHOUT_CHECKSUMS, FORMAT):
        raise StoreError(f"{path}: a transition store of format {found}; this version reads up to {FORMAT}")
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise DamagedStoreError(path, verdict)


def require_whole_log(path: Path) -> None:
    """Raise DamagedStoreError where SQLite would silently forget a part of the write-ahead log."""
    if problem := log_damage(path):
        raise DamagedStoreError(path, problem)


def identity(robot: str, layout: StateLayout) -> dict[str, str]:
    """What a store says of its robot: key -> JSON."""
    return {key: json.dumps(value, sort_keys=True) for key, value in {"robot": robot, **asdict(layout)}.items()}


def stored_identity(db: sqlite3.Connection) -> dict[str, str]:
    """What the store says of its robot, see `identity`."""
    return dict(db.execute("SELECT key, value FROM meta"))


def read_changes(db: sqlite3.Connection, path: Path) -> list[int]:
    """After how many transitions the robot has changed, each time that it did.

    Raises:
        DamagedStoreError: what is there is not a list of numbers.
    """
    with explained(path, "read"):
        found = json_of(stored_identity(db).get(CHANGES, "[]"))
    if not isinstance(found, list) or not all(isinstance(n, int) and n >= 0 for n in found):
        raise DamagedStoreError(path, f"what it says of changes of its robot cannot be read: {found!r}")
    return found


def json_of(text: str) -> Any:
    """What a text says in JSON; the text itself where it says nothing."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_identity(db: sqlite3.Connection, path: Path) -> tuple[str, StateLayout]:
    """Robot and layout that the store says it is of."""
    with explained(path, "read"):
        stored = stored_identity(db)
    try:
        return to_identity({key: json.loads(value) for key, value in stored.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedStoreError(path, f"what it says of its robot cannot be read: {error!r}") from None


def to_identity(values: Mapping[str, Any]) -> tuple[str, StateLayout]:
    """Robot and layout from what JSON holds of them; KeyError, TypeError or ValueError where something is missing."""
    layout = {f.name: values[f.name] for f in fields(StateLayout)}
    names = {key: tuple(layout[key]) for key in ("state", "action", "angles")}
    return values["robot"], StateLayout(**layout | names)


def read_rows(db: sqlite3.Connection, path: Path, layout: StateLayout) -> Iterator[Row]:
    """All rows in the order in which they were stored, every one checked, one at a time.

    Raises:
        StoreError: the file cannot be read or a row is damaged.
    """
    with explained(path, "read"):
        crc = "crc" if number(db, "PRAGMA user_version") == FORMAT else "NULL"
        columns = f"stamp_ns, trial, trajectory, x, u, x_next, flag, {crc}, number"
        for entry in db.execute(f"SELECT {columns} FROM transitions ORDER BY number"):
            yield decoded(path, layout, *entry)


def decoded(path: Path, layout: StateLayout, *entry: Any) -> Row:
    """One row, checked: sizes, finite numbers, checksum (rows of the format before have none)."""
    *content, crc, row_number = entry
    stamp_ns, trial, trajectory, x, u, x_next, flag = content
    sizes = (("x", x, layout.nx), ("u", u, layout.nu), ("x_next", x_next, layout.nx))
    x, u, x_next = (to_vector(path, name, blob, size) for name, blob, size in sizes)
    if crc is not None and checksum(*content) != crc:
        raise DamagedStoreError(path, f"row {row_number} does not match its checksum")
    return Row(stamp_ns, trial, trajectory, x, u, x_next, flag)


def to_vector(path: Path, name: str, blob: Any, size: int) -> np.ndarray:
    """Bytes of a row as a vector (size,)."""
    if not (isinstance(blob, bytes) and len(blob) == 8 * size):
        raise DamagedStoreError(path, f"an entry of {name} has the wrong size")
    vector = np.frombuffer(blob, dtype="<f8").astype(float)
    if not np.all(np.isfinite(vector)):
        raise DamagedStoreError(path, f"an entry of {name} is not finite")
    return vector


def read_store(path: Path) -> tuple[str, StateLayout, list[Row]]:
    """Robot, layout and all rows of a store, which stays as it is.

    Raises:
        StoreError: there is no such file, it is no store, it is damaged or a row is.
    """
    require_whole_log(path)
    if not path.is_file():
        raise StoreError(f"{path}: no such transition store")
    with explained(path, "open"):
        db = connect_read_only(path)
    try:
        with explained(path, "open"):
            require_intact(db, path)
        robot, layout = read_identity(db, path)
        return robot, layout, list(read_rows(db, path, layout))
    finally:
        db.close()


def read_robot_rows(path: Path, robot: str, layout: StateLayout) -> list[Row]:
    """All rows of a store that must be of this robot; see `read_store`.

    Raises:
        StoreError: as `read_store`, or it is a store of another robot or layout.
    """
    found, found_layout, rows = read_store(path)
    require_identity(path, identity(found, found_layout), identity(robot, layout))
    return rows


def outdated_count(path: Path) -> int:
    """How many of a store's rows are from before the robot has last changed.

    Raises:
        StoreError: the file cannot be read, or is damaged.
    """
    with explained(path, "open"), closing(connect_read_only(path)) as db:
        return max(read_changes(db, path), default=0)


def require_identity(path: Path, stored: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Refuse a store of another robot or layout."""
    for key, value in expected.items():
        if stored.get(key) != value:
            raise StoreError(f"{path}: a store of {key} {stored.get(key)}, but the robot has {key} {value}")
