"""One look at every device, once: what `observe`, `plan` and `trust` see without a running engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from control_plane.core import limits
from control_plane.core.fleet import Site
from control_plane.core.memory import Memory
from control_plane.core.observation import (
    Depth,
    Observation,
    Sighting,
    Unseen,
    UnseenReason,
)
from control_plane.core.world import pinned
from control_plane.engine.bugs import in_words
from control_plane.engine.edges import Edges
from control_plane.engine.locator import Locator
from control_plane.engine.poller import look
from control_plane.engine.slots import Slot, make_slot


def slots_of(site: Site, memories: Mapping[str, Memory], edges: Edges) -> list[Slot]:
    """A slot for each managed device that has a driver."""
    return [
        make_slot(
            site,
            device,
            pinned(device, memories.get(device.asset)),
            edges.drivers[device.intent.family],
            edges.capabilities[device.intent.family],
        )
        for device in site.devices
        if device.is_managed and device.intent.family in edges.drivers
    ]


async def sweep(
    slots: Sequence[Slot],
    *,
    edges: Edges,
    concurrency: int = limits.POLL_CONCURRENCY,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Sighting]:
    """Look at every slot once, at full depth; DHCP devices are located first.

    Args:
        slots: looked at in their order; `address` and `memory.located` may be filled in.
        edges: drivers, clock and secrets.
        concurrency: looks at the same time.
        report: called with (done, all) after each look.

    Returns:
        A sighting per asset: a failed look is one too.
    """
    seen: dict[str, Sighting] = {}
    bugs: dict[str, str] = {}
    locator = Locator(
        clock=edges.clock,
        secrets=edges.secrets,
        found=lambda _slot, _address: None,
        failed=lambda slot, bug: bugs.update({slot.asset: in_words(bug)}),
    )
    at_hint = [slot for slot in slots if slot.address is not None]

    def looked() -> None:
        if report is not None:
            report(len(seen), len(slots))

    await _look_at(at_hint, seen, edges, concurrency=concurrency, looked=looked)
    moving = [s for s in slots if s.device.renumbering is not None and not _is_it(s, seen)]
    for slot in moving:
        slot.note_elsewhere()
    await _look_at(moving, seen, edges, concurrency=concurrency, looked=looked)
    lost = [slot for slot in slots if slot.device.searched is not None and not _is_it(slot, seen)]
    if lost:
        for slot in lost:
            slot.address = None
        await locator.sweep(lost, slots)
        await _look_at(lost, seen, edges, concurrency=concurrency, looked=looked)
    for asset, words in bugs.items():
        seen[asset] = Unseen(
            asset=asset,
            at_s=edges.clock.wall_s(),
            reason=UnseenReason.INTERNAL_ERROR,
            detail=words,
        )
    return seen


def _is_it(slot: Slot, seen: Mapping[str, Sighting]) -> bool:
    """Whether the pinned machine answered."""
    sighting = seen.get(slot.asset)
    pin = slot.memory.pin
    return (
        isinstance(sighting, Observation)
        and sighting.identity is not None
        and (pin is None or pin.matches(sighting.identity) is not False)
    )


async def _look_at(
    slots: Sequence[Slot],
    seen: dict[str, Sighting],
    edges: Edges,
    *,
    concurrency: int,
    looked: Callable[[], None],
) -> None:
    queue = iter(slots)

    async def work() -> None:
        for slot in queue:
            seen[slot.asset] = await look(
                slot,
                Depth.FULL,
                secrets=edges.secrets,
                clock=edges.clock,
                recognise=edges.recognise,
            )
            looked()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(slots))):
            group.create_task(work())
