"""Every transition a robot has made, in one SQLite file that survives crashes.

A row is committed with write-ahead log and ``synchronous=FULL`` before `append` returns: what has been acknowledged is
on the disk. Vectors are little-endian float64 blobs: exact to the last bit, also for numbers that JSON cannot
say, and read back without parsing.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mbrl_ros.data.store_format import (
    ADD_CHECKSUMS,
    CHANGES,
    FORMAT,
    LAST_STAMP,
    SCHEMA,
    WITHOUT_CHECKSUMS,
    Row,
    checksum,
    connect_read_only,
    explained,
    identity,
    is_empty,
    number,
    page_size,
    read_changes,
    read_rows,
    require_identity,
    require_intact,
    require_whole_log,
    stored_identity,
)
from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

INSERT = (
    "INSERT INTO transitions (stamp_ns, trial, trajectory, x, u, x_next, flag, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class TransitionStore:
    """The transitions of one robot. To be used from the thread that opened it."""

    def __init__(self, path: Path | str, robot: str, layout: StateLayout) -> None:
        """Open the store at `path`, or make it where there is none.

        Args:
            path: the SQLite file; its folder must exist.
            robot: name of the robot.
            layout: its state layout.

        Raises:
            StoreError: the folder is missing or read-only, the file is damaged (it is left as it is, and the message
                names the command that saves its rows), not a transition store, or one of another robot or layout.
        """
        self._path, self._layout = Path(path), layout
        self._sizes = {"x": layout.nx, "u": layout.nu, "x_next": layout.nx}
        if not self._path.parent.is_dir():
            raise StoreError(f"{self._path}: the folder does not exist")
        require_whole_log(self._path)
        if self._path.is_file():
            self._require_ours(identity(robot, layout))
        with explained(self._path, "open"):
            self._db = sqlite3.connect(self._path, isolation_level=None)
        try:
            with explained(self._path, "open"):
                self._prepare(identity(robot, layout))
        except StoreError:
            self._db.close()
            raise

    def append(
        self,
        stamp_ns: int,
        trial: int,
        trajectory: int,
        x: np.ndarray,
        u: np.ndarray,
        x_next: np.ndarray,
        flag: str = "ok",
    ) -> None:
        """Store one transition; when this returns it is on the disk.

        Args:
            stamp_ns: start of its period in ns, not that of any other row.
            trial: index of the trial.
            trajectory: which unbroken stretch of motion it belongs to.
            x: state (nx,).
            u: action that was really applied (nu,).
            x_next: state one period later (nx,).
            flag: what the command guard said of the action.

        Raises:
            StoreError: a vector has the wrong size or is not finite, or the stamp is stored already or out of range.
            StoreWriteError: the row cannot be written now. Nothing has been stored in any of these cases.
        """
        values = self.encoded(Row(stamp_ns, trial, trajectory, x, u, x_next, flag))
        try:
            with explained(self._path, "write"):
                self._db.execute(INSERT, values)
        except StoreError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise StoreError(f"{self._path}: a transition of stamp {stamp_ns} ns is stored already") from None
            raise

    def append_all(self, rows: Iterable[Row]) -> int:
        """Store many transitions at once, all or none; returns how many are new.

        A row whose stamp is stored already is passed over.

        Raises:
            StoreError, StoreWriteError: as `append`. Nothing has been stored then.
        """
        values = [self.encoded(row) for row in rows]
        before = self._db.total_changes
        with explained(self._path, "write"):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(f"{INSERT} ON CONFLICT (stamp_ns) DO NOTHING", values)
                new = self._db.total_changes - before
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        return new

    def rows(self) -> list[Row]:
        """All transitions in the order in which they were stored, with stamp, trial and flag.

        Raises:
            StoreError: the file cannot be read or a row is damaged.
        """
        return list(read_rows(self._db, self._path, self._layout))

    def load(self) -> Transitions:
        """All transitions in the order in which they were stored.

        Raises:
            StoreError: the file cannot be read or a row is damaged.
        """
        nx, nu, n = self._layout.nx, self._layout.nu, len(self)
        data = Transitions(np.empty((n, nx)), np.empty((n, nu)), np.empty((n, nx)), np.empty(n, dtype=np.int64))
        for i, row in enumerate(read_rows(self._db, self._path, self._layout)):
            data.x[i], data.u[i], data.x_next[i], data.trajectory[i] = row.x, row.u, row.x_next, row.trajectory
        return data

    def __len__(self) -> int:
        return self._value("SELECT COUNT(*) FROM transitions")

    @property
    def last_trial(self) -> int:
        """Index of the last trial that left a transition; -1 where there is none."""
        return self._value("SELECT COALESCE(MAX(trial), -1) FROM transitions")

    @property
    def next_trajectory(self) -> int:
        """First trajectory number that is not taken."""
        return self._value("SELECT COALESCE(MAX(trajectory), -1) + 1 FROM transitions")

    @property
    def changes(self) -> list[int]:
        """After how many transitions the robot has changed, each time that it did, see `note_change`."""
        return read_changes(self._db, self._path)

    def note_change(self, before: int) -> None:
        """Note that the robot has changed after `before` transitions; on the disk when this returns.

        Raises:
            StoreWriteError: it cannot be written now.
        """
        changes = json.dumps([*self.changes, before])
        with explained(self._path, "write"):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CHANGES, changes))

    def newest_stamp(self, before: int = LAST_STAMP) -> int:
        """Largest stamp in ns below `before`; -1 where there is none."""
        return self._value(f"SELECT COALESCE(MAX(stamp_ns), -1) FROM transitions WHERE stamp_ns < {int(before)}")

    def close(self) -> None:
        """Close the file; afterwards the store cannot be used."""
        with explained(self._path, "close"):
            self._db.close()

    def __enter__(self) -> "TransitionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def encoded(self, row: Row) -> tuple[object, ...]:
        """What is written of a row, its checksum last.

        Raises:
            StoreError: a vector has the wrong size or is not finite, or the stamp is out of range.
        """
        if not 0 <= row.stamp_ns <= LAST_STAMP:
            raise StoreError(f"stamp_ns: {row.stamp_ns} is not allowed; expected a whole number in [0, {LAST_STAMP}]")
        x, u, x_next = (self._to_blob(name, v) for name, v in (("x", row.x), ("u", row.u), ("x_next", row.x_next)))
        content = (int(row.stamp_ns), int(row.trial), int(row.trajectory), x, u, x_next, row.flag)
        return (*content, checksum(*content))

    def _value(self, query: str) -> int:
        """Result of a query for a single number."""
        with explained(self._path, "read"):
            return number(self._db, query)

    def _require_ours(self, expected: dict[str, str]) -> None:
        """Refuse an old file that is damaged or of another robot, before anything could change it."""
        with explained(self._path, "open"):
            db = connect_read_only(self._path)
        try:
            with explained(self._path, "open"):
                if not is_empty(db):
                    require_intact(db, self._path)
                    require_identity(self._path, stored_identity(db), expected)
        finally:
            db.close()

    def _prepare(self, expected: dict[str, str]) -> None:
        """Make a new file a store, give one of the format before its checksums."""
        self._db.execute(f"PRAGMA page_size = {page_size(self._layout)}")  # of a file that is yet to be made
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if is_empty(self._db):
            self._db.executescript(SCHEMA)
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", expected.items())
            self._db.execute("COMMIT")
        require_intact(self._db, self._path)  # once more: what was empty a moment ago may be another process's by now
        require_identity(self._path, stored_identity(self._db), expected)
        if number(self._db, "PRAGMA user_version") == WITHOUT_CHECKSUMS:
            self._add_checksums()

    def _add_checksums(self) -> None:
        """Bring a store of the format before up to date, all of it or nothing."""
        query = "SELECT number, stamp_ns, trial, trajectory, x, u, x_next, flag FROM transitions"
        sums = [(checksum(*content), row) for row, *content in self._db.execute(query)]
        self._db.executescript(f"BEGIN IMMEDIATE; {ADD_CHECKSUMS}; PRAGMA user_version = {FORMAT};")
        self._db.executemany("UPDATE transitions SET crc = ? WHERE number = ?", sums)
        self._db.execute("COMMIT")

    def _to_blob(self, name: str, vector: np.ndarray) -> bytes:
        """Check a vector and turn it into bytes."""
        array = np.asarray(vector, dtype="<f8")
        if array.shape != (self._sizes[name],):
            raise StoreError(f"{name}: shape {array.shape} is not allowed; expected ({self._sizes[name]},)")
        if not np.all(np.isfinite(array)):
            raise StoreError(f"{name}: {array.tolist()} is not finite")
        return array.tobytes()


def to_transitions(rows: list[Row], layout: StateLayout) -> Transitions:
    """Rows as arrays, for training."""
    x, u, x_next = (
        np.array([getattr(row, name) for row in rows], float).reshape(len(rows), size)
        for name, size in (("x", layout.nx), ("u", layout.nu), ("x_next", layout.nx))
    )
    return Transitions(x, u, x_next, np.array([row.trajectory for row in rows], dtype=np.int64))
