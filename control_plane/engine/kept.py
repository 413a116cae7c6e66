"""A Store whose rows are kept in a second place as well, by whoever takes what has changed.

In a cluster the SQLite file is gone with the pod. What must outlive it is named here, row by row; triggers
of the database note each change inside the transaction that makes it, so nothing can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from control_plane.core.correlate import Incident
from control_plane.core.errors import StoreError
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.memory import Memory
from control_plane.core.overlay import Overlay
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.rollout import Rollout
from control_plane.core.rotation import RotationEntry
from control_plane.core.rotation_rollout import Rotation
from control_plane.core.verify import Operation
from control_plane.engine.records import Released, RevisionRecord
from control_plane.engine.store import Store

_KEYS: Mapping[str, str] = {
    "revision": "digest",
    "memory": "asset",
    "overlay": "id",
    "operation": "id",
    "rollout": "id",
    "incident": "id",
    "released": "asset",
    "firmware": "id",
    "rotation": "id",
    "login": "asset",
    "address": "asset",
    "remedy": "asset",
    "remedy_site": "id",
    "meta": "key",
}
TABLES = frozenset(_KEYS)
NUMBER = "number."
"""Of `meta` only the series are kept: epoch, audit mark and heartbeat are this process's own."""
Rows = Mapping[str, Mapping[str, bytes]]
"""Table → key → record, as JSON."""
Files = Mapping[str, Mapping[str, bytes]]
"""Digest of a revision → its files, as written."""

ROWS_VERSION = 5
"""Of the form of the rows; older ones are read for ever."""
MIGRATIONS: Mapping[int, Callable[[Rows], Rows]] = {
    1: lambda rows: rows,  # before there were firmware rollouts
    2: lambda rows: rows,  # before there were rotations
    3: lambda rows: rows,  # before there were remedies
    4: lambda rows: (
        rows
    ),  # before there were emergencies, waves of GPU software, hand-overs, machines at their maker's
}
"""From version → to the next; forward only."""
T = TypeVar("T")


def refuse_newer(version: int) -> None:
    """Nothing, where this release understands rows of a version.

    Raises:
        StoreError: they are of a newer one.
    """
    if version > ROWS_VERSION:
        raise StoreError(
            f"the site's state has version {version}, this release knows {ROWS_VERSION}: use the release "
            "that wrote it, or a newer one"
        )


def brought_forward(version: int, rows: Rows) -> dict[str, dict[str, bytes]]:
    """Rows of an older release as this one writes them.

    Raises:
        StoreError: they are of a newer one, or of none.
    """
    refuse_newer(version)
    for older in range(version, ROWS_VERSION):
        rows = MIGRATIONS[older](rows)
    unknown = rows.keys() - TABLES
    if unknown:
        raise StoreError(f"the site's state has {', '.join(sorted(unknown))}: unknown here")
    return {table: dict(records) for table, records in rows.items()}


class Row(NamedTuple):
    """Names one row."""

    table: str
    key: str


class KeptStore(Store):
    """A Store that knows which of its rows have changed since somebody last asked."""

    def __init__(self, path: Path | None) -> None:
        """Open or create.

        Raises:
            StoreError: as `Store`.
        """
        super().__init__(path, is_kept_elsewhere=True)
        with self.transaction() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS changed (tbl TEXT, id TEXT, PRIMARY KEY (tbl, id))"
            )
            for table, key in _KEYS.items():
                for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                    # `OR IGNORE` would give way to what the statement outside says of conflicts.
                    note = (
                        f"INSERT INTO changed SELECT '{table}', {row}.{key} WHERE NOT EXISTS "  # noqa: S608 - names are ours
                        f"(SELECT 1 FROM changed WHERE tbl = '{table}' AND id = {row}.{key})"
                    )
                    db.execute(
                        f"CREATE TRIGGER IF NOT EXISTS kept_{table}_{event} "
                        f"AFTER {event} ON {table} BEGIN {note}; END"
                    )

    def take_changed(self) -> dict[Row, bytes | None]:
        """The rows that changed since the last call, with their records; `None` where one is gone."""
        with self.transaction() as db:
            rows = [Row(*found) for found in db.execute("SELECT tbl, id FROM changed")]
            if rows:
                db.execute("DELETE FROM changed")
            return {row: self._record(row) for row in rows if _is_kept(row)}

    def _record(self, row: Row) -> bytes | None:
        column = "value" if row.table == "meta" else "doc"
        found: list[tuple[object, ...]] = self._rows(  # type: ignore[assignment]
            f"SELECT {column} FROM {row.table} WHERE {_KEYS[row.table]} = ?",  # noqa: S608 - names are ours
            (row.key,),
        )
        if not found:
            return None
        value = found[0][0]
        return value if isinstance(value, bytes) else str(value).encode()

    def fill(self, rows: Rows, files: Files) -> None:
        """Fill an empty Store with what was kept; what stands in both places has not changed.

        Raises:
            StoreError: as `fill`.
        """
        with self.transaction() as db:
            fill(self, rows, files)
            db.execute("DELETE FROM changed")


def fill(store: Store, rows: Rows, files: Files) -> None:
    """Fill an empty Store with what was kept.

    Args:
        store: to be filled.
        rows: all that was kept.
        files: of the revisions; one without them is left out.

    Raises:
        StoreError: a record is damaged, or of a release that this one does not understand.
    """

    def all_of(table: str, kind: type[T]) -> list[T]:
        decoder = msgspec.json.Decoder(kind)
        found = rows.get(table, {})
        try:
            return [decoder.decode(found[key]) for key in sorted(found)]
        except msgspec.DecodeError as error:
            raise StoreError(f"what was kept of the site's state is damaged: {error}") from error

    with store.transaction():
        for record in sorted(all_of("revision", RevisionRecord), key=lambda r: r.seq):
            if record.digest in files:
                store.put_revision(record, files[record.digest])
        for rollout in all_of("rollout", Rollout):
            store.put_rollout(rollout)
        for firmware in all_of("firmware", FirmwareRollout):
            store.put_firmware(firmware)
        for rotation in all_of("rotation", Rotation):
            store.put_rotation(rotation)
        store.put_rotating(all_of("login", RotationEntry))
        store.put_rotating(all_of("address", RotationEntry))
        store.put_remedies(all_of("remedy", NodeKept))
        for kept in all_of("remedy_site", SiteKept):
            store.put_remedy_site(kept)
        for incident in all_of("incident", Incident):
            store.put_incident(incident)
        for overlay in all_of("overlay", Overlay):
            store.put_overlay(overlay)
        store.put_released(all_of("released", Released))
        store.put_operations(all_of("operation", Operation))
        store.put_memories(all_of("memory", Memory))
        for key, number in zip(sorted(rows.get("meta", {})), all_of("meta", int), strict=True):
            store.put_number(key.removeprefix(NUMBER), number)


def _is_kept(row: Row) -> bool:
    return row.table != "meta" or row.key.startswith(NUMBER)
