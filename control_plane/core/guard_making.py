"""The bundle of a site: which step of which machine is given up first, and what stands beside it.

First to go is what costs most joules for a terahash: the last step of each machine's hull before its first
(energy §2). What an owner protects goes after all that nobody does; what is locked, a GPU node, or a machine
that nobody can lower, never.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from control_plane.core.change import Capabilities, ChangeKind
from control_plane.core.fleet import Device, DeviceKind, Site
from control_plane.core.guard_bundle import Bundle, GuardDevice, GuardNode, Rung
from control_plane.core.ladder import ladder_of
from control_plane.core.shed_curve import TIMINGS, UNKNOWN
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
    """
    devices: list[GuardDevice] = []
    steps: list[tuple[bool, float, str, int]] = []
    for device in site.devices:
        permitted_w = counted_w.get(device.asset, device.type.nominal.power_w)
        if permitted_w <= 0:
            continue
        rungs, costs = _rungs(device, permitted_w, capabilities.get(device.intent.family), site)
        known = TIMINGS.get(device.intent.family, UNKNOWN)
        slowest_s = known.mode_s if any(r.mode for r in rungs) else known.sleep_s
        devices.append(
            GuardDevice(
                asset=device.asset,
                feed=device.feed,
                permitted_w=permitted_w,
                rungs=rungs,
                shows_in_s=min(slowest_s, _LONGEST_S),
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
        )


def _rungs(
    device: Device, permitted_w: float, can: Capabilities | None, site: Site
) -> tuple[tuple[Rung, ...], list[float]]:
    """Steps down from what it may draw, and what each step costs: J/TH, falling."""
    writes = can.writes if can is not None else {}
    is_ours = device.is_managed and device.type.kind is DeviceKind.MINER
    is_locked = site.owners[device.intent.owner].participation == "locked"
    if not is_ours or is_locked or ChangeKind.STOP_MINING not in writes:
        return (), []
    ladder = ladder_of(device)
    hull = [step for step in ladder.hull() if step.power_w <= permitted_w]
    lower = [step for step in hull if step.power_w < permitted_w]
    modes = lower if ChangeKind.SET_POWER_MODE in writes else []
    top_ths = hull[-1].hashrate_ths if hull else 0.0
    corners = [(ladder.standby_w, 0.0), *((s.power_w, s.hashrate_ths) for s in modes)]
    # What it may draw beyond its steps hashes nothing more, as far as anybody knows: it goes first.
    corners.append((permitted_w, top_ths))
    rungs = [Rung(mode=step.mode, power_w=step.power_w) for step in reversed(modes)]
    if ladder.standby_w < permitted_w:
        rungs.append(Rung(power_w=ladder.standby_w))
    costs: list[float] = []
    for (low_w, low_ths), (high_w, high_ths) in pairwise(corners):
        gained = high_ths - low_ths
        cost = (high_w - low_w) / gained if gained > 0 else float("inf")
        costs.append(max(cost, costs[-1]) if costs else cost)
    costs.reverse()
    return tuple(rungs), costs[: len(rungs)]
