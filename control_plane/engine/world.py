"""Read the world from the Store: what the verbs judge without a running engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core import limits
from control_plane.core.against import removed_assets, retired_assets
from control_plane.core.change import Capabilities
from control_plane.core.fleet import Device, Site
from control_plane.core.observation import Field, Observation
from control_plane.core.power import counted_w
from control_plane.core.rollout import RolloutState, is_assigned
from control_plane.core.rotation import Subject
from control_plane.core.rotation_rollout import locks_of
from control_plane.core.world import World
from control_plane.engine.assignment import SiteOf, cohorts, standing, until_its_wave
from control_plane.engine.orders import with_orders
from control_plane.engine.records import Approval
from control_plane.engine.store import Store


def read_world(
    store: Store,
    site: Site,
    revision: str,
    *,
    approvals: Iterable[Approval] = (),
    site_of: SiteOf,
    capabilities: Mapping[str, Capabilities],
    now_s: float,
    time_scale: float = 1.0,
) -> World:
    """The world as the Store knows it.

    Args:
        store: of this site.
        site: the declaration that will be compared with it.
        revision: its digest; what was approved with another one is not approved for it.
        site_of: accepted revisions.
        approvals: given now, beside those that the revision was accepted with.
        capabilities: by family.
        now_s: policy time.
        time_scale: policy seconds per wire second: freshness is a matter of wire time.
    """
    record = store.accepted()
    sightings = store.sightings()
    ttl_s = limits.TELEMETRY_TTL_S * time_scale
    stale = frozenset(
        asset
        for asset, seen in sightings.items()
        if isinstance(seen, Observation) and now_s - seen.at_s > ttl_s
    )
    memories = with_orders(store.memories(), (order for _, order in store.orders()))
    return World(
        now_s=now_s,
        sightings=sightings,
        memories=memories,
        capabilities=capabilities,
        overlays=store.overlays(),
        stale=stale,
        operations={o.asset: o for o in store.open_operations()},
        incidents=tuple(store.incidents()),
        locked={
            asset: grant.operation
            for grant in store.grants(open_only=True)
            for asset in grant.locked(now_s)
        }
        | _between(store),
        later=_later(store, site, revision, site_of)
        if record and record.digest == revision
        else {},
        approved=approvals_of(record.approvals if record and record.digest == revision else ())
        | approvals_of(approvals),
        released={gone.asset: (gone.feed, gone.power_w) for gone in store.released()},
        accepted=record.digest if record else None,
    )


def _between(store: Store) -> dict[str, str]:
    """Devices that are between two passwords, or two addresses → by what they are locked."""
    locks: dict[str, str] = {}
    rotations = store.rotations()
    for subject in Subject:
        of_it = (rotation for rotation in rotations if rotation.subject is subject)
        locks |= locks_of(of_it, {e.asset: e for e in store.rotating(subject)})
    return locks


def _later(store: Store, site: Site, revision: str, site_of: SiteOf) -> dict[str, Device]:
    """Devices that no wave of the rollout of the revision has reached, as they stand until then."""
    rollout = store.rollout_to(revision)
    if rollout is None or rollout.state is RolloutState.DONE:
        return {}
    before = standing(rollout, site_of)
    order = cohorts(rollout, before, site)
    return {
        device.asset: until_its_wave(device, before.get(device.asset))
        for device in site.devices
        if device.is_managed and not is_assigned(order, rollout, device.asset)
    }


def seen_from(world: World, before: Site, after: Site) -> World:
    """The world as a new declaration meets it: what it drops runs on and counts."""
    removed = frozenset(removed_assets(before, after))
    leaving = {d.asset: (d.feed, counted_w(d, None)) for d in before.devices if d.asset in removed}
    declared = {device.asset for device in after.devices}
    known = {asset: at for asset, at in world.released.items() if asset not in declared}
    return msgspec.structs.replace(
        world,
        removed=tuple(sorted(removed)),
        retired=retired_assets(before, after),
        released={**known, **leaving},
    )


def approvals_of(approvals: Iterable[Approval]) -> frozenset[tuple[str, Field]]:
    """(owner, field) pairs that were approved."""
    return frozenset((a.owner, a.field) for a in approvals)
