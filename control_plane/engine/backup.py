"""A site's state as one file: what a Store must not lose, from a box or a cluster, for either.

Rows of the Store and the files of its revisions, in a versioned form with a checksum. What was observed is
not in it: it is observed again.
"""

from __future__ import annotations

import hashlib
import zlib

import msgspec

from control_plane.core.errors import StoreError
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_kept import SiteKept
from control_plane.core.rotation import Subject
from control_plane.engine.kept import NUMBER, ROWS_VERSION, Files, brought_forward, fill
from control_plane.engine.store import Store
from control_plane.engine.store_work import REMEDY_SITE
from control_plane.inventory.bundle import DamagedBundle, pack, unpack

MAGIC = b"gridplane-backup 1\n"
RESTORED = "restored-{site}"
"""Id of the hold that every restored site begins with: a namespace may have several sites."""
OWNER = "gridplane"
_encode = msgspec.json.Encoder().encode


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one site at one moment."""

    site: str
    made_at_s: float
    release: str
    """That made it."""
    version: int = ROWS_VERSION
    """Of the rows."""
    rows: dict[str, dict[str, bytes]]
    revisions: dict[str, bytes]
    """Digest → its files, packed."""

    @property
    def files(self) -> Files:
        """The files of the revisions.

        Raises:
            StoreError: they are damaged.
        """
        try:
            return {digest: unpack(data) for digest, data in self.revisions.items()}
        except DamagedBundle as error:
            raise StoreError(f"the backup's revisions are damaged: {error}") from error


def rows_of(store: Store) -> tuple[dict[str, dict[str, bytes]], dict[str, bytes]]:
    """What a Store must not lose, and the packed files of its revisions."""
    records = store.revisions()
    judged_by = store.operations_since(store.judged_since_s())
    operations = {o.id: o for o in (*store.open_operations(), *judged_by)}
    together = store.remedy_site()
    rows = {
        "revision": {record.digest: _encode(record) for record in records},
        "rollout": {rollout.id: _encode(rollout) for rollout in store.rollouts()},
        "firmware": {rollout.id: _encode(rollout) for rollout in store.firmware()},
        "rotation": {rotation.id: _encode(rotation) for rotation in store.rotations()},
        "login": {e.asset: _encode(e) for e in store.rotating(Subject.PASSWORD)},
        "address": {e.asset: _encode(e) for e in store.rotating(Subject.ADDRESS)},
        "remedy": {asset: _encode(kept) for asset, kept in store.remedies().items()},
        "remedy_site": {REMEDY_SITE: _encode(together)} if together != SiteKept() else {},
        "incident": {incident.id: _encode(incident) for incident in store.incidents()},
        "overlay": {overlay.id: _encode(overlay) for overlay in store.overlays()},
        "released": {device.asset: _encode(device) for device in store.released()},
        "operation": {key: _encode(operation) for key, operation in operations.items()},
        "memory": {asset: _encode(memory) for asset, memory in store.memories().items()},
        "meta": {f"{NUMBER}{name}": _encode(last) for name, last in store.numbers().items()},
    }
    return rows, {r.digest: pack(store.revision_files(r.digest)) for r in records}


def held(backup: Backup, now_s: float) -> Backup:
    """The backup with a hold on the whole site: what happened since it was made nobody knows."""
    name = RESTORED.format(site=backup.site)
    hold = Overlay(
        id=name,
        kind=OverlayKind.MAINTENANCE_HOLD,
        node=backup.site,
        owner=OWNER,
        reason="restored from a backup; compare what devices do with what is declared, then release this",
        since_s=now_s,
    )
    overlays = {**backup.rows.get("overlay", {}), name: _encode(hold)}
    return msgspec.structs.replace(backup, rows={**backup.rows, "overlay": overlays})


def into_store(backup: Backup, store: Store) -> None:
    """Fill an empty Store.

    Raises:
        StoreError: it is not empty, or the backup is damaged.
    """
    if store.revisions() or store.overlays() or store.memories():
        raise StoreError("there is state already: a backup is restored into an empty folder only")
    fill(store, backup.rows, backup.files)


def packed_backup(backup: Backup) -> bytes:
    """As it is written to a file."""
    body = zlib.compress(msgspec.msgpack.encode(backup), 6)
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def read_backup(data: bytes) -> Backup:
    """What a file holds.

    Raises:
        StoreError: it is no backup, damaged, or of a release with another form.
    """
    if not data.startswith(b"gridplane-backup "):
        raise StoreError("it is no backup of gridplane")
    if not data.startswith(MAGIC):
        raise StoreError("it has a form that this release does not know: use the one that wrote it")
    digest, _, body = data[len(MAGIC) :].partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise StoreError("it is damaged: its checksum does not fit")
    try:
        backup = msgspec.msgpack.decode(zlib.decompress(body), type=Backup)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise StoreError(f"it is damaged: {error}") from error
    rows = brought_forward(backup.version, backup.rows)
    return msgspec.structs.replace(backup, version=ROWS_VERSION, rows=rows)
