"""Look at devices from a verb, with progress, and keep what was seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeGuard

import click
import msgspec

from control_plane.cli.progress import ProgressLine
from control_plane.cli.workplace import Declared, Workplace, run_async
from control_plane.core.fleet import Site
from control_plane.core.observation import Observation, Sighting, Unseen, UnseenReason
from control_plane.core.world import World
from control_plane.engine.records import Approval
from control_plane.engine.slots import Slot
from control_plane.engine.sweep import slots_of, sweep


def look_at(
    place: Workplace, site: Site, assets: Collection[str] | None = None
) -> dict[str, Sighting]:
    """Look once at the managed devices of a site, or at some of them; the Store remembers it."""
    edges = place.edges()
    memories, known = place.store.memories(), place.store.sightings()
    slots = slots_of(site, memories, edges)
    for slot in slots:
        before = known.get(slot.asset)
        slot.seen = before if isinstance(before, Observation) else None
    if assets is not None:
        wanted = frozenset(assets)
        slots = [slot for slot in slots if slot.asset in wanted]
    with ProgressLine(f"looking at {place.site}") as line:
        seen = run_async(sweep(slots, edges=edges, report=line.count))
    for text in sorted({s.detail for s in seen.values() if _lacks_secret(s)}):
        click.echo(f"gridplane: not asked: {text}", err=True)
    place.store.put_sightings(seen.values())
    _keep_located(place, slots)
    return seen


def _lacks_secret(sighting: Sighting) -> TypeGuard[Unseen]:
    return isinstance(sighting, Unseen) and sighting.reason is UnseenReason.SECRET_MISSING


def _keep_located(place: Workplace, slots: list[Slot]) -> None:
    """Addresses of DHCP devices are hints worth keeping; a running engine keeps its own."""
    if place.engine_status() is not None:
        return
    memories = place.store.memories()
    changed = [
        slot.memory
        for slot in slots
        if slot.device.searched is not None
        and slot.memory.located is not None
        and (known := memories.get(slot.asset)) != slot.memory
        and (known is None or known.located != slot.memory.located)
    ]
    if changed:
        place.store.put_memories(changed)


def seen_world(
    place: Workplace, declared: Declared, *, look: bool, approvals: Iterable[Approval] = ()
) -> World:
    """The world, after a look at it.

    What a running engine sees reaches the Store within a second, so that only those that it has not
    seen lately are asked again. Without one every device is asked: what was true at the last look
    may not be true any more.
    """
    site = declared.site
    if not look:
        return place.world(site, declared.digest, approvals)
    wanted: list[str] | None = None
    if place.engine_status() is not None:
        world = place.world(site, declared.digest, approvals)
        wanted = [
            device.asset
            for device in site.devices
            if device.is_managed
            and device.intent.family in world.capabilities
            and (device.asset not in world.sightings or device.asset in world.stale)
        ]
        if not wanted:
            return world
    seen = look_at(place, site, wanted)
    world = place.world(site, declared.digest, approvals)
    # A look at a large site may take longer than a sighting is fresh for the engine, which looks again
    # before each write; for a plan, what this very look saw is what there is.
    return msgspec.structs.replace(world, stale=world.stale - seen.keys())
