"""Overlays sit on top of the declaration: holds, freezes, curtailments, what the guard did.

A person's hold always wins: it forbids every write except a stop. A safety hold has no end; an
expired maintenance hold stays in force until a person releases it, and pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec

from control_plane.core.fleet import Device, Site
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
    """Id of an asset, rack, feed node, host name or site; covers everything below it."""
    owner: str
    """Who set it; only the owner releases a safety hold."""
    reason: str
    since_s: float
    expires_s: float | None = None
    """Policy time; a maintenance hold past it stays in force and pages."""
    fields: Settings = Settings()
    """What it overrides; only settings that lower may stand here."""

    def is_expired(self, now_s: float) -> bool:
        """Whether its time has passed."""
        return self.expires_s is not None and now_s >= self.expires_s


def nodes_above(site: Site, device: Device) -> frozenset[str]:
    """Every node id that covers a device: itself, its rack, its feed path and the site."""
    path = {node.id for node in site.path(device.feed)}
    rack = site.racks.get(device.rack)
    switch = {rack.switch} if rack and rack.switch else set()
    return frozenset({device.asset, device.rack, site.id} | path | switch)


def covering(overlays: Iterable[Overlay], nodes: Collection[str]) -> tuple[Overlay, ...]:
    """The overlays whose node is among `nodes`, in order of their ids."""
    return tuple(sorted((o for o in overlays if o.node in nodes), key=lambda o: o.id))


def resolve(declared: Settings, overlays: Iterable[Overlay], now_s: float) -> Settings:
    """`resolve(revision) ⊕ overlays`: the settings that a device is compared with.

    Overlays may only lower: a field that would raise is ignored here and refused where it is set.
    """
    desired = declared
    for overlay in overlays:
        if overlay.is_expired(now_s) or overlay.kind in HOLDS:
            continue
        fields = overlay.fields
        if fields.mining is False:
            desired = msgspec.structs.replace(desired, mining=False)
        if fields.power_mode is not None:
            desired = msgspec.structs.replace(desired, power_mode=fields.power_mode)
        if fields.power_limit_w is not None:
            limit = min(fields.power_limit_w, desired.power_limit_w or fields.power_limit_w)
            desired = msgspec.structs.replace(desired, power_limit_w=limit)
    return desired


def hold_on(overlays: Iterable[Overlay]) -> Overlay | None:
    """The hold that decides: a safety hold before a maintenance hold; `None` where nothing holds."""
    holds = sorted(
        (o for o in overlays if o.kind in HOLDS),
        key=lambda o: (o.kind != OverlayKind.SAFETY_HOLD, o.id),
    )
    return holds[0] if holds else None


def freeze_on(overlays: Iterable[Overlay], now_s: float) -> Overlay | None:
    """The freeze in force, if any."""
    for overlay in overlays:
        if overlay.kind is OverlayKind.FREEZE and not overlay.is_expired(now_s):
            return overlay
    return None
