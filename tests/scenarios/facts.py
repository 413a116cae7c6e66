"""What the declaration says, worked out once more and without the product's own code.

The oracle stands on these; an error in the engine's arithmetic must not be able to hide here.
"""

from __future__ import annotations

from control_plane.core.change import (
    Change,
    Reboot,
    RestartMining,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
)
from control_plane.core.fleet import Device, Owner, Site, SlotState
from control_plane.core.observation import Settings
from control_plane.core.overlay import Overlay, OverlayKind

HOLD_KINDS = {OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD}
MANAGED = {SlotState.IN_SERVICE, SlotState.DEGRADED}


def feed_path(site: Site, device: Device) -> list[str]:
    """Feed nodes above a device, the nearest first."""
    path, node = [], device.feed
    while node:
        path.append(node)
        node = site.feeds[node].parent or ""
    return path


def cover(site: Site, device: Device) -> set[str]:
    """Everything that a person may name to mean this device."""
    switch = site.racks[device.rack].switch or device.rack
    return {device.asset, device.rack, switch, site.id, *feed_path(site, device)}


def is_below(site: Site, feed: str, node: str) -> bool:
    """Whether a feed hangs on a node, or is it."""
    while feed:
        if feed == node:
            return True
        feed = site.feeds[feed].parent or ""
    return False


def ladder_w(device: Device, mode: str | None) -> float:
    """Nameplate watts of a step; an unknown one may be the highest."""
    steps = {step.name: step.power_w for step in device.type.ladder}
    return steps.get(mode or "", max(steps.values()))


def watts(device: Device, settings: Settings) -> float:
    """What settings permit."""
    if settings.mining is False:
        return device.type.standby_w
    full = ladder_w(device, settings.power_mode)
    return min(full, settings.power_limit_w) if settings.power_limit_w else full


def idle_w(device: Device) -> float:
    """What a device that nobody manages counts at."""
    if device.state in {SlotState.VACANT, SlotState.IN_REPAIR}:
        return 0.0
    return ladder_w(device, device.type.nominal_mode)


def after(before: Settings, change: Change) -> Settings:
    """Settings that a change asks for, the limit of another mode forgotten."""
    pools, mining, mode, limit = (
        before.pools,
        before.mining,
        before.power_mode,
        before.power_limit_w,
    )
    match change:
        case SetPools(pools=wanted):
            pools = wanted
        case StopMining():
            mining = False
        case StartMining(power_mode=wanted_mode):
            mining, mode, limit = True, wanted_mode or mode, None
        case SetPowerMode(power_mode=step):
            mode, limit = step, None
        case SetPowerLimit(power_limit_w=cap):
            limit = cap
        case RestartMining() | Reboot():
            pass
    return Settings(pools=pools, mining=mining, power_mode=mode, power_limit_w=limit)


def newest(before: Settings, now: Settings) -> Settings:
    """What is known after a look that did not ask for everything."""
    return Settings(
        pools=now.pools or before.pools,
        mining=before.mining if now.mining is None else now.mining,
        power_mode=now.power_mode or before.power_mode,
        power_limit_w=now.power_limit_w or before.power_limit_w,
    )


def owned(device: Device, owner: Owner) -> set[tuple[str, str]]:
    """(url, worker) of every pool that may stand on a device."""
    words = {"asset": device.asset, "rack": device.rack, "slot": device.slot, "site": device.site}
    return {(pool.url, pool.worker.format(**words)) for pool in owner.pools}


def wanted(device: Device, overlays: list[Overlay]) -> Settings:
    """Declared power settings under the lowering overlays in force."""
    intent = device.intent
    mining = intent.mining and not any(o.fields.mining is False for o in overlays)
    return Settings(mining=mining, power_mode=intent.power_mode, power_limit_w=intent.power_limit_w)


def runs_as(have: Settings, want: Settings) -> bool:
    """Whether power settings are as wanted; what is not declared may be anything."""
    if have.mining is not want.mining:
        return False
    if want.mining is False:
        return True
    return have.power_mode == want.power_mode and want.power_limit_w in {None, have.power_limit_w}
