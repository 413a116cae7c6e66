"""A tenure begins: the state of the site, from the cluster into a Store of this process.

Nothing that a former leader did is assumed; what it kept is read back under the new fence. State that is
lost, in parts or back in time, is no reason to guess: the whole site is held until a person has looked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from control_plane.core.cluster import Cluster
from control_plane.core.errors import StoreError
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.ports import Clock
from control_plane.core.rollout import Rollout
from control_plane.engine.kept import KeptStore
from control_plane.engine.records import RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.kube.ledger import Claimed, claim
from control_plane.kube.library import Library
from control_plane.kube.shards import HEAD

OWNER = "gridplane"
STORE = "state.sqlite"


class RevisionMissing(StoreError):
    """A revision that devices stand on has no object any more. Whoever deleted it makes it again."""


class Taken(msgspec.Struct, frozen=True):
    """The state of a site, ready to be worked with."""

    store: KeptStore
    claimed: Claimed
    revisions: Revisions
    lost: str
    """Why the site is held, where its state is lost; else empty."""


class Whereabouts(msgspec.Struct, frozen=True):
    """Whose state it is, and who takes it over."""

    site: str
    namespace: str
    holder: str


async def take_over(
    cluster: Cluster,
    at: Whereabouts,
    *,
    fence: int,
    folder: Path,
    library: Library,
    clock: Clock,
    was_served: bool,
    known: Mapping[str, int],
) -> Taken:
    """Take over the state of a site.

    Args:
        cluster: the API server.
        at: whose.
        fence: of the tenure that begins.
        folder: where the Store is made; one of an earlier tenure goes.
        library: of the site's revisions.
        clock: the clock.
        was_served: whether other objects tell that the site had state.
        known: how often each part had been written when this process last knew.

    Raises:
        FenceTooLow: the election has to count from higher.
        RevisionMissing: nothing can be compared with; what is missing is named.
        StoreError: the state cannot be understood.
        ClusterError: the API server did not answer.
    """
    claimed = await claim(
        cluster, site=at.site, namespace=at.namespace, fence=fence, holder=at.holder
    )
    rows = claimed.rows
    records = _records(rows)
    files = {}
    sites = {}
    for record in records:
        declared = await library.named(at.namespace, record.source) if record.source else None
        if declared is not None and declared.site is not None:
            files[record.digest] = declared.files
            # Under the digest of then: the canonical form of this release may be another one.
            sites[record.digest] = declared.site
    _refuse_missing(rows, records, frozenset(files))
    store = _fresh(folder)
    store.fill(rows, files)
    store.take_over(fence)
    revisions = Revisions(store, at.site)
    for digest, site in sites.items():
        revisions.learn(digest, site)
    lost = _lost(claimed, was_served=was_served, known=known)
    if lost:
        store.put_overlay(_hold(at.site, lost, clock.wall_s()))
    return Taken(store, claimed, revisions, lost)


def _records(rows: Mapping[str, Mapping[str, bytes]]) -> list[RevisionRecord]:
    decoder = msgspec.json.Decoder(RevisionRecord)
    try:
        return [decoder.decode(record) for record in rows.get("revision", {}).values()]
    except msgspec.DecodeError as error:
        raise StoreError(f"what was kept of the site's revisions is damaged: {error}") from error


def _refuse_missing(
    rows: Mapping[str, Mapping[str, bytes]],
    records: list[RevisionRecord],
    there: frozenset[str],
) -> None:
    """Devices that no wave has reached stand on older revisions: they are needed as well."""
    if not records:
        return
    in_force = max(records, key=lambda record: record.seq).digest
    decoder = msgspec.json.Decoder(Rollout)
    rollouts = [decoder.decode(record) for record in rows.get("rollout", {}).values()]
    needed: set[str | None] = {in_force}
    for rollout in rollouts:
        if rollout.to == in_force:
            needed |= {rollout.origin, *rollout.behind.values()}
    names = {record.digest: record.source or record.digest for record in records}
    gone = sorted(names.get(digest, digest) for digest in needed - there if digest is not None)
    if gone:
        raise RevisionMissing(
            f"devices stand on FleetRevision {', '.join(name[:12] for name in gone)}, which is gone: make "
            "it again from its commit (the name is the digest of its bytes)"
        )


def _lost(claimed: Claimed, *, was_served: bool, known: Mapping[str, int]) -> str:
    """Why the state that was found is not the one that was left; empty where it is."""
    missing = claimed.missing
    if HEAD in missing and not was_served and not any(claimed.rows.values()):
        return ""  # The very first take-over was cut short: its head comes last.
    if missing and (was_served or len(missing) < len(claimed.shards)):
        return f"{len(missing)} of {len(claimed.shards)} parts of the site's state were gone"
    # Each was written once more since, by taking it over.
    if any(claimed.sequences[part] <= sequence for part, sequence in known.items()):
        return "the site's state went back in time: the API server was restored from a backup"
    return ""


def _hold(site: str, why: str, now_s: float) -> Overlay:
    return Overlay(
        id=lost_id(site),
        kind=OverlayKind.MAINTENANCE_HOLD,
        node=site,
        owner=OWNER,
        reason=f"{why}; compare what devices do with what is declared, then release this",
        since_s=now_s,
    )


def lost_id(site: str) -> str:
    """Id of the hold that is set where the state of a site is lost: a namespace may have several."""
    return f"state-lost-{site}"


def _fresh(folder: Path) -> KeptStore:
    path = folder / STORE
    for old in (path, *(path.with_name(f"{STORE}{end}") for end in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    return KeptStore(path)
