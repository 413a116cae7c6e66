"""Accept a declaration: from now on it is what devices are compared with, wave by wave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from control_plane.core.against import removed_assets, retired_assets, shrunk, steps_back
from control_plane.core.digest import short
from control_plane.core.errors import ControlPlaneError
from control_plane.core.fleet import Site
from control_plane.core.gpu_rollout import SoftwareState
from control_plane.core.memory import Memory
from control_plane.core.overlay import HOLDS, Overlay, OverlayKind, assets_below, node_names
from control_plane.core.power import counted_w
from control_plane.engine.assignment import make_rollout
from control_plane.engine.audit import AuditFile
from control_plane.engine.records import Approval, Event, Released, RevisionRecord, ShownPlan
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store

_LISTED = 3


class NotAccepted(ControlPlaneError):
    """The revision is refused; the last accepted one stays in force. The author acts."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants accepted."""

    site: Site
    digest: str
    files: Mapping[str, bytes]
    """The site's slice of the inventory, as written."""
    plan: ShownPlan
    """Its approvals come into force with the revision."""
    by: str
    commit: str | None = None
    source: str | None = None
    """Name of the `FleetRevision` that it came in."""
    acknowledged_removals: int | None = None


def accept(
    store: Store, audit: AuditFile, revisions: Revisions, proposal: Proposal, now_s: float
) -> RevisionRecord:
    """Put a proposal in force, atomically: record, expectations, rollout and releases, or nothing.

    An equal digest makes no new rollout; it only brings approvals and expectations up to date.

    Raises:
        NotAccepted: the plan was of another revision, somebody approved who may not, the site
            shrinks past its limit, a hold would lose what it covers, or a driver goes back a branch.
        StoreError: it could not be made durable.
    """
    if proposal.plan.revision != proposal.digest:
        raise NotAccepted(
            f"plan {short(proposal.plan.digest)} was made for revision "
            f"{short(proposal.plan.revision)}, the inventory "
            f"is now {short(proposal.digest)}: run `gridplane plan` again"
        )
    check_approvals(proposal.site, proposal.plan.approvals)
    _load_ahead(store, revisions)
    with store.transaction():
        current = store.accepted()
        before = revisions.site(current.digest) if current else None
        removed = removed_assets(before, proposal.site)
        leaving = {*removed, *retired_assets(before, proposal.site)}
        _check_shrink(before, leaving, proposal.acknowledged_removals)
        _check_overlays(before, proposal.site, store.overlays(), now_s)
        check_drivers(before, proposal.site, store)
        record = _record(current, proposal, now_s)
        store.put_revision(record, proposal.files)
        _expect(store, proposal.plan)
        if current is None or current.digest != record.digest:
            previous = store.rollout_to(current.digest) if current else None
            store.put_rollout(make_rollout(previous, proposal.site, record, revisions.site))
            _release(store, before, removed, now_s)
            store.drop_released(device.asset for device in proposal.site.devices)
        store.put_events(
            [
                Event(
                    at_s=now_s,
                    kind="accept",
                    text=f"revision {short(record.digest)} accepted by {record.accepted_by}",
                )
            ]
        )
        audit.append([_audit_record(record)])
    return record


def _load_ahead(store: Store, revisions: Revisions) -> None:
    """Load what will be compared, which takes seconds on large sites: not while the Store is locked."""
    current = store.accepted()
    if current is None:
        return
    digests = {current.digest}
    rollout = store.rollout_to(current.digest)
    if rollout is not None:
        digests |= {d for d in (rollout.origin, *rollout.behind.values()) if d is not None}
    for digest in digests:
        revisions.site(digest)


def _record(current: RevisionRecord | None, proposal: Proposal, now_s: float) -> RevisionRecord:
    same = current is not None and current.digest == proposal.digest
    return RevisionRecord(
        digest=proposal.digest,
        seq=current.seq + (0 if same else 1) if current else 1,
        commit=proposal.commit,
        accepted_at_s=now_s,
        accepted_by=proposal.by,
        plan_digest=proposal.plan.digest,
        source=proposal.source,
        approvals=_all_approvals(current if same else None, proposal.plan.approvals),
    )


def _audit_record(record: RevisionRecord) -> Mapping[str, object]:
    return {
        "at_s": record.accepted_at_s,
        "kind": "accept",
        "revision": record.digest,
        "by": record.accepted_by,
        "plan": record.plan_digest,
    }


def check_approvals(site: Site, approvals: Iterable[Approval]) -> None:
    """An owner's word is given by whom the owner named for it.

    Raises:
        NotAccepted: naming who may.
    """
    for approval in approvals:
        owner = site.owners.get(approval.owner)
        if owner is None:
            raise NotAccepted(
                f"{site.id} has no owner {approval.owner} (it has {', '.join(sorted(site.owners))})"
            )
        may = owner.approvals.get(approval.field, ())
        if not may:
            raise NotAccepted(
                f"{owner.id} leaves {approval.field} to the site's operator: leave --approve away"
            )
        if approval.by not in may:
            raise NotAccepted(
                f"{approval.by} may not approve {approval.field} for {owner.id}: "
                f"only {' or '.join(may)} may"
            )


def _check_shrink(before: Site | None, leaving: Collection[str], acknowledged: int | None) -> None:
    domain = shrunk(before, leaving) if acknowledged != len(leaving) else ""
    if domain:
        raise NotAccepted(
            f"{len(leaving)} managed devices are gone from the declaration or managed no more, {domain} "
            f"among them: if that is meant, say `--acknowledge-removals {len(leaving)}`"
        )


def check_drivers(before: Site | None, after: Site, store: Store) -> None:
    """A driver goes to an older branch only as the way back of waves that have not ended.

    Raises:
        NotAccepted: naming the profile.
    """
    software = store.remedy_site().software.values()
    under_way = {one.profile for one in software if one.state is not SoftwareState.DONE}
    words = steps_back(before, after, under_way=under_way)
    if words:
        raise NotAccepted(
            f"{'; '.join(words)}: declare a driver of the branch in force, or of a newer one"
        )


def _check_overlays(
    before: Site | None, after: Site, overlays: Iterable[Overlay], now_s: float
) -> None:
    """A declaration is no release: who holds or freezes a node has to do that first."""
    said = [
        o
        for o in overlays
        if o.kind in HOLDS or (o.kind is OverlayKind.FREEZE and not o.is_expired(now_s))
    ]
    if not said:
        return
    nodes = {o.node for o in said}
    now_below = assets_below(before, nodes) if before else {}
    then_below, names = assets_below(after, nodes), node_names(after)
    for overlay in said:
        leaving = (overlay.assets | now_below.get(overlay.node, frozenset())) - then_below[
            overlay.node
        ]
        gone = f"has no {overlay.node} any more" if overlay.node not in names else ""
        if leaving:
            gone = gone or f"takes {_listed(leaving)} out of {overlay.node}"
        if gone:
            raise NotAccepted(
                f"{overlay.id} ({overlay.kind} of {overlay.owner}: {overlay.reason}) is on "
                f"{overlay.node}, and the new revision {gone}: let {overlay.owner} release it first"
            )


def _listed(assets: Iterable[str]) -> str:
    ordered = sorted(assets)
    more = len(ordered) - _LISTED
    return ", ".join(ordered[:_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def _all_approvals(
    current: RevisionRecord | None, more: tuple[Approval, ...]
) -> tuple[Approval, ...]:
    known = current.approvals if current else ()
    return (*known, *(a for a in more if a not in known))


def _expect(store: Store, plan: ShownPlan) -> None:
    memories = store.memories()
    store.put_memories(
        msgspec.structs.replace(memories.get(asset) or Memory(asset=asset), expected=settings)
        for asset, settings in plan.expected.items()
    )


def _release(store: Store, before: Site | None, removed: Iterable[str], now_s: float) -> None:
    if before is None:
        return
    gone = frozenset(removed)
    store.put_released(
        Released(asset=d.asset, feed=d.feed, power_w=counted_w(d, None), since_s=now_s)
        for d in before.devices
        if d.asset in gone
    )
