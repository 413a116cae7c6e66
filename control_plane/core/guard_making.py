"""The bundle of a site: which step of which machine is given up first, and what stands beside it.

First to go is what costs most joules for a terahash: the last step of each machine's hull before its first
(energy §2). What an owner protects goes after all that nobody does; what is locked, a GPU node, or a machine
that nobody can lower, never.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import pairwise

from control_plane.core import limits
from control_plane.core.actuators import TIMINGS, UNKNOWN
from control_plane.core.change import Capabilities, ChangeKind
from control_plane.core.fleet import Device, DeviceKind, Site
from control_plane.core.guard_bundle import Bundle, GuardDevice, GuardNode, Rung
from control_plane.core.ladder import ladder_of
from control_plane.core.trip_curve import DEFAULT

_LONGEST_S = 600.0
"""An order that shows later than that is not counted on."""


def bundle_of(
    site: Site,
    counted_w: Mapping[str, float],
    capabilities: Mapping[str, Capabilities],
    *,
    revision: str,
    now_s: float,
    locked_until_s: Mapping[str, float] = {},
    caps_w: Mapping[str, float] = {},
    reached: Container[str] | None = None,
) -> Bundle:
    """What a guard needs to keep a site below its caps without anybody.

    Args:
        site: the declaration in force.
        counted_w: by asset, what it counts at; who is not in it counts at nameplate.
        capabilities: by firmware family: who cannot be lowered has no rungs.
        revision: digest of the declaration.
        now_s: seconds since the epoch.
        locked_until_s: by asset, until when nobody may touch it.
        caps_w: by node, what a programme or a person allows, where that is less than its rating gives.
        reached: assets that can be written to; `None`: all.
    """
    devices: list[GuardDevice] = []
    steps: list[tuple[bool, float, str, int]] = []
    for device in site.devices:
        permitted_w = counted_w.get(device.asset, device.type.nominal.power_w)
        if permitted_w <= 0:
            continue
        rungs, costs = _rungs(device, capabilities.get(device.intent.family), site)
        if reached is not None and device.asset not in reached:
            rungs, costs = (), []
        devices.append(
            GuardDevice(
                asset=device.asset,
                feed=device.feed,
                permitted_w=permitted_w,
                rungs=rungs,
                locked_until_s=locked_until_s.get(device.asset, 0.0),
            )
        )
        is_protected = site.owners[device.intent.owner].participation == "protected"
        steps += [(is_protected, -cost, device.asset, rung) for rung, cost in enumerate(costs)]
    place = {device.asset: index for index, device in enumerate(devices)}
    return Bundle(
        site=site.id,
        revision=revision,
        made_at_s=now_s,
        nodes=tuple(_nodes(site, caps_w)),
        devices=tuple(devices),
        order=tuple((place[asset], rung) for _, _, asset, rung in sorted(steps)),
    )


def _nodes(site: Site, caps_w: Mapping[str, float]) -> Iterator[GuardNode]:
    standing = dict.fromkeys(site.feeds, 0.0)
    for host in site.hosts:
        standing[host.feed] += host.power_w
    for node in site.feeds.values():
        cap_w = node.rating_w * node.derate
        yield GuardNode(
            id=node.id,
            parent=node.parent,
            cap_w=min(cap_w, caps_w.get(node.id, cap_w)),
            rating_w=node.rating_w,
            curve=node.breaker or DEFAULT,
            unmanaged_w=node.unmanaged_w + standing[node.id],
            meter=node.meter,
            stale_s=_stale_s(site, node.meter),
        )


def _stale_s(site: Site, meter: str | None) -> float:
    """A slow meter is not silent between two readings."""
    known = site.meters.get(meter) if meter is not None else None
    if known is None:
        return limits.GUARD_METER_STALE_S
    return max(limits.GUARD_METER_STALE_S, limits.METER_STALE_INTERVALS * known.interval_s)


def _rungs(
    device: Device, can: Capabilities | None, site: Site
) -> tuple[tuple[Rung, ...], list[float]]:
    """Steps down through the whole ladder, and what each costs: J/TH, falling."""
    writes = can.writes if can is not None else {}
    is_ours = device.is_managed and device.type.kind is DeviceKind.MINER
    is_locked = site.owners[device.intent.owner].participation == "locked"
    if not is_ours or is_locked or ChangeKind.STOP_MINING not in writes:
        return (), []
    ladder, timing = ladder_of(device), TIMINGS.get(device.intent.family, UNKNOWN)
    hull = ladder.hull()
    if not hull:
        return (), []
    lower = hull[:-1] if ChangeKind.SET_POWER_MODE in writes else ()
    top = hull[-1]
    corners = [(ladder.standby_w, 0.0), *((s.power_w, s.hashrate_ths) for s in lower)]
    corners.append((top.power_w, top.hashrate_ths))
    costs = [
        (high_w - low_w) / (high_ths - low_ths)
        for (low_w, low_ths), (high_w, high_ths) in pairwise(corners)
    ]
    rungs = [
        Rung(mode=step.mode, power_w=step.power_w, shows_in_s=min(timing.mode_s, _LONGEST_S))
        for step in reversed(lower)
    ]
    rungs.append(Rung(power_w=ladder.standby_w, shows_in_s=min(timing.sleep_s, _LONGEST_S)))
    return tuple(rungs), costs[::-1]
