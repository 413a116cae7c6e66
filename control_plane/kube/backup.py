"""A site's state out of a cluster into a backup, and from a backup into an empty cluster."""

from __future__ import annotations

import hashlib

import msgspec

from control_plane.api.objects import FleetRevisionSpec, StateShardSpec
from control_plane.core.cluster import Cluster, Exists, Kind, Object
from control_plane.core.errors import StoreError
from control_plane.engine.backup import Backup
from control_plane.engine.records import RevisionRecord
from control_plane.inventory.bundle import render, unpack
from control_plane.kube.kinds import FLEET_REVISION, SITE, STATE_SHARD
from control_plane.kube.listing import get_or_none, list_all
from control_plane.kube.shards import (
    PARTS,
    WORK,
    name_of,
    object_of,
    part_of,
    together,
    unpacked,
)

_RESTORER = "restore"
"""Who holds shards that no leader has taken over yet."""


async def from_cluster(
    cluster: Cluster, *, site: str, namespace: str, release: str, now_s: float
) -> Backup:
    """Read what the leader has kept; it may go on meanwhile.

    Raises:
        StoreError: there is no state, parts are missing, or it cannot be understood.
        ClusterError: the API server did not answer.
    """
    shards = await _shards(cluster, site, namespace)
    if len(shards) != len(PARTS):
        raise StoreError(
            f"{len(PARTS) - len(shards)} of the {len(PARTS)} parts of the state of {site} are not in "
            f"{namespace}: is it the right namespace, and did a controller ever serve the site?"
        )
    specs = [msgspec.json.decode(each.spec, type=StateShardSpec) for each in shards.values()]
    rows = together(unpacked(spec.version, spec.data) for spec in specs)
    revisions = {}
    for record in _records(rows):
        if record.source is None:
            continue
        found = await get_or_none(cluster, FLEET_REVISION, record.source, namespace=namespace)
        if found is not None:
            revisions[record.digest] = msgspec.json.decode(found.spec, type=FleetRevisionSpec).data
    return Backup(site=site, made_at_s=now_s, release=release, rows=rows, revisions=revisions)


async def into_cluster(cluster: Cluster, backup: Backup, *, namespace: str) -> str:
    """Make the state of a site anew; the `Site` observes, so nothing is written to a device.

    May be called again after it was cut off. The `Site` is made last: no controller begins before.

    Returns:
        The name of the revision in force.

    Raises:
        StoreError: there is a site, or state that a controller has written; nothing was changed.
        ClusterError: the API server did not do it: call it again.
    """
    site = backup.site
    shards = await _unserved(cluster, site, namespace)
    records = _records(backup.rows)
    if not records:
        raise StoreError("the backup has no revision: there is nothing to restore")
    names = {}
    for digest, data in backup.revisions.items():
        names[digest] = name = hashlib.sha256(data).hexdigest()
        spec = FleetRevisionSpec(site=site, format="msgpack+zlib", data=data)
        await _make(cluster, FLEET_REVISION, name, namespace, msgspec.to_builtins(spec))
    named = {
        record.digest: msgspec.structs.replace(record, source=names[record.digest])
        for record in records
        if record.digest in names
    }
    in_force = max(records, key=lambda record: record.seq)
    if in_force.digest not in named:
        raise StoreError("the backup lacks the files of the revision in force")
    rows = {**backup.rows, "revision": {d: msgspec.json.encode(r) for d, r in named.items()}}
    for part, found in _spread(rows).items():
        body = object_of(site, part, namespace, found, fence=0, holder=_RESTORER, sequence=0)
        there = shards.get(part)
        if there is None:
            await cluster.create(STATE_SHARD, body)
        else:
            meta = {**body["metadata"], "resourceVersion": there.metadata.resource_version}
            await cluster.replace(STATE_SHARD, {**body, "metadata": meta})
    files = unpack(backup.revisions[in_force.digest])
    _, about = render(site, files, namespace=namespace, commit=in_force.commit, mode="observe")
    about["spec"]["revision"] = names[in_force.digest]
    await cluster.create(SITE, about)
    return names[in_force.digest]


def _spread(rows: dict[str, dict[str, bytes]]) -> dict[str, dict[str, dict[str, bytes]]]:
    """Part → table → key → record; each of all parts."""
    parts: dict[str, dict[str, dict[str, bytes]]] = {part: {} for part in PARTS}
    for table, records in rows.items():
        for number, (key, record) in enumerate(sorted(records.items())):
            is_write = table == "operation"
            part = WORK[number % len(WORK)] if is_write else part_of(table, key)
            parts[part].setdefault(table, {})[key] = record
    return parts


async def _unserved(cluster: Cluster, site: str, namespace: str) -> dict[str, Object]:
    """The shards that a restore before has made; of a site that nobody serves."""
    if await get_or_none(cluster, SITE, site, namespace=namespace) is not None:
        raise StoreError(
            f"there is a Site {site} in {namespace} already: a backup is restored where there is none"
        )
    shards = await _shards(cluster, site, namespace)
    for each in shards.values():
        spec = msgspec.json.decode(each.spec, type=StateShardSpec)
        if spec.holder != _RESTORER:
            raise StoreError(
                f"there is state of {site} in {namespace} already, written by {spec.holder}: nothing was "
                "restored. Delete the stateshards of the site if they are of no use any more"
            )
    return shards


def _records(rows: dict[str, dict[str, bytes]]) -> list[RevisionRecord]:
    try:
        return [
            msgspec.json.decode(each, type=RevisionRecord)
            for each in rows.get("revision", {}).values()
        ]
    except msgspec.DecodeError as error:
        raise StoreError(f"the revisions in it are damaged: {error}") from error


async def _shards(cluster: Cluster, site: str, namespace: str) -> dict[str, Object]:
    """Part → its object, all of one moment."""
    found = await list_all(cluster, STATE_SHARD, namespace=namespace)
    there = {each.metadata.name: each for each in found}
    return {part: there[name] for part in PARTS if (name := name_of(site, part)) in there}


async def _make(cluster: Cluster, kind: Kind, name: str, namespace: str, spec: object) -> None:
    body = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    try:
        await cluster.create(kind, body)
    except Exists:
        return  # named by its bytes: it is the very same
