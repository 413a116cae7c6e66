"""The SQLite file under the Store: schema, transactions, and what its failures mean to an operator."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from control_plane.core.errors import StoreBusy, StoreError

SCHEMA_VERSION = 4

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (
    digest TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, doc BLOB NOT NULL, files BLOB NOT NULL
);
CREATE TABLE memory (asset TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sighting (asset TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE overlay (id TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE operation (id TEXT PRIMARY KEY, asset TEXT NOT NULL, open INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE INDEX operation_open ON operation (open) WHERE open = 1;
CREATE INDEX operation_asset ON operation (asset);
CREATE TABLE rollout (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE TABLE incident (id TEXT PRIMARY KEY, open INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE TABLE released (asset TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE standing_order (seq INTEGER PRIMARY KEY AUTOINCREMENT, doc BLOB NOT NULL);
CREATE TABLE shown_plan (digest TEXT PRIMARY KEY, at_s REAL NOT NULL, doc BLOB NOT NULL);
CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT, asset TEXT, doc BLOB NOT NULL);
CREATE INDEX event_asset ON event (asset);
"""
_FIRMWARE = """
CREATE TABLE firmware (id TEXT PRIMARY KEY, doc BLOB NOT NULL);
CREATE TABLE flash (id TEXT PRIMARY KEY, open INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE INDEX flash_open ON flash (open) WHERE open = 1;
"""

_ROTATION = """
CREATE TABLE rotation (id TEXT PRIMARY KEY, doc BLOB NOT NULL);
CREATE TABLE login (asset TEXT PRIMARY KEY, open INTEGER NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE address (asset TEXT PRIMARY KEY, open INTEGER NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID;
"""

_REMEDY = """
CREATE TABLE remedy (asset TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE remedy_site (id TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
"""

_MIGRATIONS: Mapping[int, str] = {1: _FIRMWARE, 2: _ROTATION, 3: _REMEDY}
"""From version → script to the next one; forward only."""

T = TypeVar("T")
_WAIT_S = 5.0
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_COLUMNS: Mapping[str, tuple[str, str]] = {
    "meta": ("key", "value"),
    "revision": ("digest", "doc"),
    "memory": ("asset", "doc"),
    "sighting": ("asset", "doc"),
    "released": ("asset", "doc"),
    "standing_order": ("seq", "doc"),
    "shown_plan": ("digest", "doc"),
    "event": ("seq", "doc"),
    "login": ("asset", "doc"),
    "address": ("asset", "doc"),
    "remedy": ("asset", "doc"),
}
"""Where a table's key and record stand; elsewhere in `id` and `doc`."""


class Database:
    """One open connection to the file. Not for use from several threads."""

    def __init__(self, path: Path | None, *, is_kept_elsewhere: bool = False) -> None:
        """Open or create.

        Args:
            path: of the file; `None` keeps everything in memory, for simulations.
            is_kept_elsewhere: a machine that loses its power may take the file with it.

        Raises:
            StoreError: the file is damaged, from a newer release, or cannot be written.
        """
        self._path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
            self.wait_at_most(_WAIT_S)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'OFF' if is_kept_elsewhere else 'FULL'}")
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the connection; the state stays."""
        self._db.close()

    def wait_at_most(self, seconds: float = _WAIT_S) -> None:
        """How long a transaction waits for another process to end its own: the caller stands still."""
        self._db.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def _failure(self, error: Exception) -> StoreError:
        where = self._path or "memory"
        text = " ".join(str(error).split())
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
            return StoreBusy(
                f"{where} is locked: another process is in the middle of writing to it. If that does "
                f"not end, it is suspended or hangs: find it with `fuser -v {where}`"
            )
        if "malformed" in text or "not a database" in text:
            return StoreError(
                f"{where} is damaged ({text}). Nothing is written to devices. Move it aside and restore a "
                "backup; without one, start empty: `gridplane trust` pins devices again, and holds that "
                "stood there must be set again before anything is applied."
            )
        if "full" in text or "I/O" in text:
            return StoreError(
                f"{where}: {text}. Nothing is written to devices. Make room on the disk (or replace one that "
                "fails), then start again: what was under way is looked at first."
            )
        return StoreError(f"{where}: {text}")

    def _migrate(self) -> None:
        if self._version() != SCHEMA_VERSION:
            # Only then: who just reads does not wait for somebody who writes.
            self._change_schema()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _change_schema(self) -> None:
        with self.transaction() as db:
            version = self._version()
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self._path} has state version {version}, this release knows {SCHEMA_VERSION}: "
                    "use the release that wrote it, or a newer one."
                )
            script = (
                _SCHEMA + _FIRMWARE + _ROTATION + _REMEDY
                if version == 0
                else "".join(_MIGRATIONS[v] for v in range(version, SCHEMA_VERSION))
            )
            for statement in script.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def check(self) -> None:
        """Read the whole file once: for whoever is about to act. It takes longer the more is kept.

        Raises:
            StoreError: it is damaged.
        """
        try:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            raise self._failure(error) from error
        if found != "ok":
            raise self._failure(sqlite3.DatabaseError(f"malformed: {found}"))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One atomic, durable write. Nested calls join the outer one.

        Raises:
            StoreBusy: another process has not ended its own within `wait_at_most`; nothing was done.
            StoreError: it could not be made durable; the caller must not act.
        """
        if self._db.in_transaction:
            yield self._db
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def changed(self) -> int:
        """A number that moves when another connection has committed something."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def _rows(self, sql: str, args: Sequence[object] = ()) -> list[tuple[bytes, ...]]:
        try:
            return self._db.execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _docs(
        self, kind: type[T], table: str, rest: str = "", args: Sequence[object] = ()
    ) -> list[T]:
        return [doc for _, doc in self._keyed(kind, table, rest, args)]

    def _keyed(
        self, kind: type[T], table: str, rest: str = "", args: Sequence[object] = ()
    ) -> list[tuple[Any, T]]:
        """(key, record) of the rows of a table; `rest` is what follows its name in the query."""
        return list(self._decoded(kind, table, self._select(table, rest, args)))

    def _select(self, table: str, rest: str, args: Sequence[object]) -> Iterable[tuple[Any, bytes]]:
        key, doc = _COLUMNS.get(table, ("id", "doc"))
        try:
            # Names of tables and columns are ours.
            return self._db.execute(f"SELECT {key}, {doc} FROM {table} {rest}", args)  # noqa: S608
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _decoded(
        self, kind: type[T], table: str, rows: Iterable[tuple[Any, bytes]]
    ) -> Iterator[tuple[Any, T]]:
        decode = msgspec.json.Decoder(kind).decode
        key: object = None
        try:
            for key, doc in rows:
                yield key, decode(doc)
        except msgspec.DecodeError as error:
            raise self._damaged(table, key, error) from error
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _damaged(self, table: str, key: object, error: Exception) -> StoreError:
        return self._failure(sqlite3.DatabaseError(f"malformed {table} {key}: {error}"))

    def _number(self, key: str) -> int:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        try:
            return int(rows[0][0]) if rows else 0
        except ValueError as error:
            raise self._damaged("meta", key, error) from error
