"""What a guard is given of a site: from its declaration, and what the Store knows of its machines."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.core import limits
from control_plane.core.fleet import Site
from control_plane.core.guard_making import bundle_of
from control_plane.core.rotation import ref_in_use
from control_plane.core.world import World, loads_of, pinned
from control_plane.guard.given import Given, Way


def given_of(site: Site, world: World, revision: str, *, caps_w: Mapping[str, float] = {}) -> Given:
    """All of it, as of `world.now_s`.

    A machine that nobody has found yet, or that is not pinned, is counted, and has no way.

    Args:
        site: the declaration in force.
        world: what is known of its machines.
        revision: digest of the declaration.
        caps_w: by node, what is allowed, where that is less than its rating gives.
    """
    loads = loads_of(site, world)
    until_s = world.now_s + limits.GUARD_LOCK_S
    bundle = bundle_of(
        site,
        {device.asset: loads.counted(device.asset) for device in site.devices},
        world.capabilities,
        revision=revision,
        now_s=world.now_s,
        locked_until_s=dict.fromkeys(world.locked, until_s),
        caps_w=caps_w,
    )
    return Given(
        bundle=bundle,
        ways=_ways(site, world),
        meters=tuple(site.meters.values()),
        caps_w=dict(caps_w),
    )


def _ways(site: Site, world: World) -> dict[str, Way]:
    ways: dict[str, Way] = {}
    for device in site.devices:
        memory = pinned(device, world.memories.get(device.asset))
        address = device.address or memory.located
        if address is None or memory.pin is None or not device.is_managed:
            continue
        given = device.intent.credentials
        ways[device.asset] = Way(
            address=address,
            family=device.intent.family,
            pin=memory.pin,
            user=given.user if given else "",
            secret_ref=ref_in_use(given, memory.login) if given else None,
        )
    return ways
