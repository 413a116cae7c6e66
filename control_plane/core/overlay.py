"""Overlays sit on top of the declaration: holds, freezes, curtailments, what the guard did.

A person's hold always wins: it forbids every write except a stop. A safety hold has no end; an
expired maintenance hold stays in force until a person releases it, and pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec

from control_plane.core.fleet import Device, DeviceType, Site
from control_plane.core.observation import Settings


class OverlayKind(StrEnum):
    """Why something sits on top of the declaration."""

    SAFETY_HOLD = "safety"
    """Somebody may have hands in the machine. Only its owner releases it."""
    MAINTENANCE_HOLD = "maintenance"
    FREEZE = "freeze"
    """No configuration write by the engine; stops and lowering go on."""
    CURTAILMENT = "curtailment"
    GUARD = "guard"


HOLDS = frozenset({OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD})


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """One overlay on one node of the site: a device, rack, feed node or the whole site."""

    id: str
    kind: OverlayKind
    node: str
    """Id of an asset, rack, switch, feed node or site; covers everything below it."""
    owner: str
    """Who set it; only the owner releases a safety hold."""
    reason: str
    since_s: float
    expires_s: float | None = None
    """Policy time; a maintenance hold past it stays in force and pages."""
    assets: frozenset[str] = frozenset()
    """What it covered when it was set, and covers from then on, whatever it is declared under."""
    fields: Settings = Settings()
    """What it overrides; only settings that lower may stand here."""

    def is_expired(self, now_s: float) -> bool:
        """Whether its time has passed."""
        return self.expires_s is not None and now_s >= self.expires_s


def nodes_above(site: Site, device: Device) -> frozenset[str]:
    """Every node id that covers a device: itself, its rack, its feed path and the site."""
    return frozenset({device.asset, site.id, *path_above(site, device)})


def path_above(site: Site, device: Device) -> tuple[str, ...]:
    """Rack, switch and feed nodes above a device, from the leaf up."""
    rack = site.racks.get(device.rack)
    switch = (rack.switch,) if rack and rack.switch else ()
    return (device.rack, *switch, *(node.id for node in site.path(device.feed)))


def covering(overlays: Iterable[Overlay], nodes: frozenset[str]) -> tuple[Overlay, ...]:
    """The overlays on a device, in order of their ids; `nodes` are those above it and itself."""
    return tuple(
        sorted(
            (o for o in overlays if o.node in nodes or not nodes.isdisjoint(o.assets)),
            key=lambda o: o.id,
        )
    )


def assets_below(site: Site, nodes: Collection[str]) -> dict[str, frozenset[str]]:
    """The assets that each of the nodes covers; one that covers none, or is unknown, has none."""
    found: dict[str, set[str]] = {node: set() for node in nodes}
    for device in site.devices:
        for node in found.keys() & nodes_above(site, device):
            found[node].add(device.asset)
    return {node: frozenset(assets) for node, assets in found.items()}


def node_names(site: Site) -> frozenset[str]:
    """Every name that covers something on a site, or may once something stands there."""
    switches = {rack.switch for rack in site.racks.values() if rack.switch}
    assets = {device.asset for device in site.devices}
    return frozenset({site.id} | set(site.feeds) | set(site.racks) | switches | assets)


def resolve(device: Device, overlays: Iterable[Overlay], now_s: float) -> Settings:
    """`resolve(revision) ⊕ overlays`: the settings that a device is compared with.

    Overlays may only lower: a field that would raise is ignored here and refused where it is set.
    """
    desired = device.desired()
    for overlay in overlays:
        if overlay.is_expired(now_s) or overlay.kind in HOLDS:
            continue
        fields = overlay.fields
        if fields.mining is False:
            desired = msgspec.structs.replace(desired, mining=False)
        if fields.power_mode is not None and _is_lower(device.type, fields.power_mode, desired):
            desired = msgspec.structs.replace(desired, power_mode=fields.power_mode)
            step, limit = device.type.mode(fields.power_mode), desired.power_limit_w
            if step is not None and limit is not None and limit >= step.power_w:
                # It was meant for the mode above, and limits nothing here: the device's own stands.
                desired = msgspec.structs.replace(desired, power_limit_w=None)
        if fields.power_limit_w is not None:
            limit = min(fields.power_limit_w, desired.power_limit_w or fields.power_limit_w)
            desired = msgspec.structs.replace(desired, power_limit_w=limit)
    return desired


def _is_lower(kind: DeviceType, mode: str, desired: Settings) -> bool:
    step, now = kind.mode(mode), kind.mode(desired.power_mode or kind.nominal_mode)
    return step is not None and now is not None and step.power_w <= now.power_w


def hold_on(overlays: Iterable[Overlay]) -> Overlay | None:
    """The hold that decides: a safety hold before a maintenance hold; `None` where nothing holds."""
    holds = sorted(
        (o for o in overlays if o.kind in HOLDS),
        key=lambda o: (o.kind != OverlayKind.SAFETY_HOLD, o.id),
    )
    return holds[0] if holds else None


def bars_all(overlays: Collection[Overlay], now_s: float) -> bool:
    """Whether people forbid whatever does not lower: a hold or a freeze is in force."""
    return hold_on(overlays) is not None or freeze_on(overlays, now_s) is not None


def freeze_on(overlays: Iterable[Overlay], now_s: float) -> Overlay | None:
    """The freeze in force, if any."""
    for overlay in overlays:
        if overlay.kind is OverlayKind.FREEZE and not overlay.is_expired(now_s):
            return overlay
    return None
