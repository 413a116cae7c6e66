"""How the durable state of a site lies in `StateShard` objects: which row where, and as what bytes. Pure.

A fixed number of objects per site, all written anew at each take-over: that is what fences an older leader
off. Rows are the Store's own records; `VERSION` counts their form, and older ones are read for ever.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import msgspec

from control_plane.core.errors import StoreError
from control_plane.engine.kept import TABLES, Rows

VERSION = 1
MIGRATIONS: Mapping[int, Callable[[Rows], Rows]] = {}
"""From version → to the next; forward only."""
HEAD = "head"
"""Everything but what there is one of per device."""
_WORK, _MEMORY = 16, 32
_LEVEL = 6
_MAX_BYTES = 64 * 1024 * 1024

WORK = tuple(f"work-{n:02d}" for n in range(_WORK))
"""Writes to devices: those of one moment lie in one shard, which one does not matter."""
PARTS = (HEAD, *WORK, *(f"memory-{n:02d}" for n in range(_MEMORY)))


def name_of(site: str, part: str) -> str:
    """Of the object."""
    return f"{site}-{part}"


def part_of(table: str, key: str) -> str:
    """Where a row lies that is no operation."""
    if table == "memory":
        return f"memory-{zlib.crc32(key.encode()) % _MEMORY:02d}"
    return HEAD


def packed(rows: Rows) -> bytes:
    """Rows as bytes."""
    plain = {
        table: {key: msgspec.Raw(record) for key, record in found.items()}
        for table, found in rows.items()
        if found
    }
    return zlib.compress(msgspec.json.encode(plain), _LEVEL)


def unpacked(version: int, data: bytes) -> dict[str, dict[str, bytes]]:
    """The rows of a shard, as this release writes them.

    Raises:
        StoreError: it is damaged, or of a newer release.
    """
    if version > VERSION:
        raise StoreError(
            f"the site's state has version {version}, this release knows {VERSION}: use the release that "
            "wrote it, or a newer one"
        )
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, _MAX_BYTES)
        if not inflater.eof:
            raise StoreError("what was kept of the site's state is truncated")
        found = msgspec.json.decode(plain, type=dict[str, dict[str, msgspec.Raw]])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise StoreError(f"what was kept of the site's state is damaged: {error}") from error
    rows: Rows = {
        table: {key: bytes(record) for key, record in records.items()}
        for table, records in found.items()
    }
    for older in range(version, VERSION):
        rows = MIGRATIONS[older](rows)
    unknown = rows.keys() - TABLES
    if unknown:
        raise StoreError(f"the site's state has {', '.join(sorted(unknown))}: unknown here")
    return {table: dict(records) for table, records in rows.items()}
