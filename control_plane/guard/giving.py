"""What a guard is given of a site: from its declaration, and what the Store knows of its machines."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.core import limits
from control_plane.core.fleet import Device, Site
from control_plane.core.guard_making import bundle_of
from control_plane.core.power import Loads, counted_w
from control_plane.core.rotation import ref_in_use
from control_plane.core.world import World, is_fresh, loads_of, pinned
from control_plane.guard.given import Given, Way


def given_of(site: Site, world: World, revision: str, *, caps_w: Mapping[str, float] = {}) -> Given:
    """All of it, as of `world.now_s`.

    A machine that nobody has found yet, or that is not pinned, is counted, and has no way. One that was not
    seen for a while counts at what its declaration lets it draw, where that is more.

    Args:
        site: the declaration in force.
        world: what is known of its machines.
        revision: digest of the declaration.
        caps_w: by node, what is allowed, where that is less than its rating gives.
    """
    loads, ways = loads_of(site, world), _ways(site, world)
    until_s = world.now_s + limits.GUARD_LOCK_S
    bundle = bundle_of(
        site,
        {device.asset: _counted_w(device, loads, world) for device in site.devices},
        world.capabilities,
        revision=revision,
        now_s=world.now_s,
        locked_until_s=dict.fromkeys(world.locked, until_s),
        caps_w=caps_w,
        reached=ways,
    )
    used = {device.type.id: device.type for device in site.devices if device.asset in ways}
    return Given(
        bundle=bundle,
        ways=ways,
        types=used,
        meters=tuple(site.meters.values()),
        caps_w=dict(caps_w),
    )


def _counted_w(device: Device, loads: Loads, world: World) -> float:
    known_w = loads.counted(device.asset)
    if is_fresh(world, device.asset) or not known_w:
        return known_w
    return max(known_w, counted_w(device, device.desired()))


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
            type=device.type.id,
            pin=memory.pin,
            user=given.user if given else "",
            secret_ref=ref_in_use(given, memory.login) if given else None,
        )
    return ways
