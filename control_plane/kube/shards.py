"""How the durable state of a site lies in `StateShard` objects: which row where, and as what bytes. Pure.

A fixed number of objects per site, all written anew at each take-over: that is what fences an older leader
off. Rows are the Store's own records; `engine/kept.py` counts their form and brings older ones forward.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from control_plane.api.objects import StateShardSpec
from control_plane.core.errors import StoreError
from control_plane.engine.kept import ROWS_VERSION, Rows, brought_forward, refuse_newer
from control_plane.kube.kinds import STATE_SHARD

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


def object_of(
    site: str, part: str, namespace: str, rows: Rows, *, fence: int, holder: str, sequence: int
) -> dict[str, Any]:
    """A shard as it is sent."""
    spec = StateShardSpec(
        site=site,
        fence=fence,
        holder=holder,
        sequence=sequence,
        version=ROWS_VERSION,
        data=packed(rows),
    )
    return {
        "apiVersion": STATE_SHARD.api_version,
        "kind": STATE_SHARD.kind,
        "metadata": {"name": name_of(site, part), "namespace": namespace},
        "spec": msgspec.to_builtins(spec),
    }


def together(parts: Iterable[Rows]) -> dict[str, dict[str, bytes]]:
    """The rows of all parts."""
    found: dict[str, dict[str, bytes]] = {}
    for rows in parts:
        for table, records in rows.items():
            found.setdefault(table, {}).update(records)
    return found


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
    refuse_newer(version)
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, _MAX_BYTES)
        if not inflater.eof:
            raise StoreError("what was kept of the site's state is truncated")
        found = msgspec.json.decode(plain, type=dict[str, dict[str, msgspec.Raw]])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise StoreError(f"what was kept of the site's state is damaged: {error}") from error
    return brought_forward(
        version,
        {
            table: {key: bytes(record) for key, record in records.items()}
            for table, records in found.items()
        },
    )
