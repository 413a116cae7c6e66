"""How open the devices of a site are, as far as is known without asking; and asking once, rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from control_plane.core import limits
from control_plane.core.errors import DeclarationError
from control_plane.core.fleet import Device, Site
from control_plane.core.ports import Clock, Secrets
from control_plane.core.posture import Posture, is_factory, posture_of
from control_plane.core.rotation import ref_in_use
from control_plane.core.world import World
from control_plane.engine.records import Event
from control_plane.engine.store import Store

KIND = "posture"
"""Of the events by which a try is remembered."""
_LOOKED_BACK = 200
"""Events of a device among which its last try is looked for."""


def known_postures(site: Site, world: World, secrets: Secrets) -> dict[str, Posture]:
    """Asset → posture, of the managed devices that have a driver; each secret is looked at once.

    While passwords are rotated a look logs in with the one that was verified last: that is judged.
    """
    declared: dict[tuple[str, str], bool | None] = {}
    found = {}
    for device in site.devices:
        credentials = device.intent.credentials
        same = None
        if credentials is not None:
            memory = world.memories.get(device.asset)
            ref = ref_in_use(credentials, memory.login if memory else None)
            key = (device.intent.family, ref)
            if key not in declared:
                declared[key] = _declares_factory(device, ref, secrets)
            same = declared[key]
        posture = posture_of(
            device,
            world.sightings.get(device.asset),
            capabilities=world.capabilities.get(device.intent.family),
            declares_factory=same,
        )
        if posture is not None:
            found[device.asset] = posture
    return found


def _declares_factory(device: Device, ref: str, secrets: Secrets) -> bool | None:
    try:
        return is_factory(device.intent.family, secrets.resolve(ref))
    except DeclarationError:
        return None


def may_ask(store: Store, asset: str, now_s: float) -> bool:
    """Whether the last try is long enough ago; one that a killed process began counts."""
    tries = (event for _, event in store.events(asset, _LOOKED_BACK) if event.kind == KIND)
    return all(now_s - event.at_s >= limits.FACTORY_LOGIN_EVERY_S for event in tries)


async def ask_each(
    assets: Sequence[str],
    *,
    store: Store,
    clock: Clock,
    asking: Callable[[str], Awaitable[Posture]],
    told: Callable[[int, int], None],
) -> dict[str, Posture]:
    """Try each device once; that it is tried is kept before, what came of it after.

    Args:
        assets: those for which `may_ask`.
        store: keeps an event for each.
        clock: for when.
        asking: tries one; raises nothing of the error tree.
        told: is called with (done, all).
    """
    found: dict[str, Posture] = {}
    _keep(store, clock, [(asset, "the shipped password is tried, once") for asset in assets])
    queue = iter(assets)

    async def work() -> None:
        for asset in queue:
            found[asset] = await asking(asset)
            told(len(found), len(assets))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limits.FACTORY_LOGINS_AT_ONCE, len(assets))):
            group.create_task(work())
    _keep(
        store,
        clock,
        [
            (asset, f"password {p.password}, write API {p.write_api}: {p.known_by}")
            for asset, p in found.items()
        ],
    )
    return found


def _keep(store: Store, clock: Clock, texts: Iterable[tuple[str, str]]) -> None:
    now_s = clock.wall_s()
    store.put_events(Event(at_s=now_s, kind=KIND, text=t, asset=asset) for asset, t in texts)
