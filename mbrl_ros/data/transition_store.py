"""Every transition a robot has made, in one SQLite file that survives crashes.

A row is committed with write-ahead log and ``synchronous=FULL`` before `append` returns: what has been acknowledged is
on the disk. Vectors are little-endian float64 blobs: exact to the last bit, also for numbers that JSON cannot
say, and read back without parsing.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.errors import StoreError
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.types import Transitions

APPLICATION_ID = 0x6D62726C  # "mbrl", marks the SQLite file as ours
FORMAT = 1
LAST_STAMP = 2**63 - 1  # the largest number SQLite knows
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
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""
INSERT = "INSERT INTO transitions (stamp_ns, trial, trajectory, x, u, x_next, flag) VALUES (?, ?, ?, ?, ?, ?, ?)"


class TransitionStore:
    """The transitions of one robot. To be used from the thread that opened it."""

    def __init__(self, path: Path | str, robot: str, layout: StateLayout) -> None:
        """Open the store at `path`, or make it where there is none.

        Args:
            path: the SQLite file; its folder must exist.
            robot: name of the robot.
            layout: its state layout.

        Raises:
            StoreError: the folder is missing or read-only, the file is damaged, not a transition store, or one of
                another robot or layout.
        """
        self._path, self._layout = Path(path), layout
        self._sizes = {"x": layout.nx, "u": layout.nu, "x_next": layout.nx}
        if not self._path.parent.is_dir():
            raise StoreError(f"{self._path}: the folder does not exist")
        with self._explained("open"):
            self._db = sqlite3.connect(self._path, isolation_level=None)
        try:
            with self._explained("open"):
                self._prepare({"robot": robot, **asdict(layout)})
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
            StoreError: a vector has the wrong size or is not finite, the stamp is stored already or out of range, or
                the row cannot be written. Nothing has been stored then.
        """
        vectors = [self._to_blob(name, v) for name, v in (("x", x), ("u", u), ("x_next", x_next))]
        if not 0 <= stamp_ns <= LAST_STAMP:
            raise StoreError(f"stamp_ns: {stamp_ns} is not allowed; expected a whole number in [0, {LAST_STAMP}]")
        try:
            with self._explained("write"):
                self._db.execute(INSERT, (int(stamp_ns), int(trial), int(trajectory), *vectors, flag))
        except StoreError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise StoreError(f"{self._path}: a transition of stamp {stamp_ns} ns is stored already") from None
            raise

    def load(self) -> Transitions:
        """All transitions in the order in which they were stored.

        Raises:
            StoreError: the file cannot be read or a row is damaged.
        """
        with self._explained("read"):
            rows = self._db.execute("SELECT x, u, x_next, trajectory FROM transitions ORDER BY number").fetchall()
        x, u, x_next = (self._from_blobs(name, [row[i] for row in rows]) for i, name in enumerate(self._sizes))
        return Transitions(x, u, x_next, np.array([row[3] for row in rows], dtype=np.int64))

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

    def newest_stamp(self, before: int = LAST_STAMP) -> int:
        """Largest stamp in ns below `before`; -1 where there is none."""
        return self._value(f"SELECT COALESCE(MAX(stamp_ns), -1) FROM transitions WHERE stamp_ns < {int(before)}")

    def close(self) -> None:
        """Close the file; afterwards the store cannot be used."""
        with self._explained("close"):
            self._db.close()

    def __enter__(self) -> "TransitionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Turn SQLite's errors into ours, with the file and what was being done."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot {action} the transition store: {error}") from error

    def _value(self, query: str) -> int:
        """Result of a query for a single number."""
        with self._explained("read"):
            return int(self._db.execute(query).fetchone()[0])

    def _prepare(self, identity: dict[str, Any]) -> None:
        """Make a new file a store, or check that an old one is intact and of this robot."""
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if not self._value("SELECT COUNT(*) FROM sqlite_schema"):
            self._db.executescript(SCHEMA)
            rows = [(key, json.dumps(value, sort_keys=True)) for key, value in identity.items()]
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            self._db.execute("COMMIT")
        if self._value("PRAGMA application_id") != APPLICATION_ID:
            raise StoreError(f"{self._path}: a SQLite file, but not a transition store")
        if (found := self._value("PRAGMA user_version")) != FORMAT:
            raise StoreError(f"{self._path}: a transition store of format {found}; this version reads {FORMAT}")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(f"{self._path}: the transition store is damaged: {verdict}")
        self._check_identity(identity)

    def _check_identity(self, identity: dict[str, Any]) -> None:
        """Refuse a store of another robot or layout."""
        stored = dict(self._db.execute("SELECT key, value FROM meta"))
        for key, value in identity.items():
            expected = json.dumps(value, sort_keys=True)
            if stored.get(key) != expected:
                raise StoreError(
                    f"{self._path}: a store of {key} {stored.get(key)}, but the robot has {key} {expected}"
                )

    def _to_blob(self, name: str, vector: np.ndarray) -> bytes:
        """Check a vector and turn it into bytes."""
        array = np.asarray(vector, dtype="<f8")
        if array.shape != (self._sizes[name],):
            raise StoreError(f"{name}: shape {array.shape} is not allowed; expected ({self._sizes[name]},)")
        if not np.all(np.isfinite(array)):
            raise StoreError(f"{name}: {array.tolist()} is not finite")
        return array.tobytes()

    def _from_blobs(self, name: str, blobs: list[Any]) -> np.ndarray:
        """Vectors of all rows: (n, size)."""
        size = self._sizes[name]
        if not all(isinstance(blob, bytes) and len(blob) == 8 * size for blob in blobs):
            raise StoreError(f"{self._path}: the transition store is damaged: an entry of {name} has the wrong size")
        array = np.frombuffer(b"".join(blobs), dtype="<f8").reshape(-1, size).astype(float)
        if not np.all(np.isfinite(array)):
            raise StoreError(f"{self._path}: the transition store is damaged: an entry of {name} is not finite")
        return array
