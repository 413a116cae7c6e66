"""What the engine knows → the objects that people and tools read: `Site`, `Rack`, `Miner`.

Pure. A snapshot in, each object's spec and status out; who writes them compares with what stands there, so
that nothing is sent that is there already. No telemetry: a status changes when somebody has to act, or when
something that a person asked for has moved on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from control_plane.api.conditions import (
    Told,
    camel,
    ready,
    reconciling,
    shortened,
    stalled,
)
from control_plane.api.objects import (
    Counts,
    ExceptionPart,
    Exceptions,
    MinerSpec,
    MinerStatus,
    PinPart,
    RackSpec,
    RackStatus,
    SiteStatus,
)
from control_plane.core import limits
from control_plane.core.decision import PENDING, Held, Reason
from control_plane.core.fleet import Device, DeviceKind
from control_plane.core.observation import Observation
from control_plane.core.overlay import assets_below
from control_plane.core.rollout import RolloutState
from control_plane.core.world import pinned
from control_plane.kube.rollouts import wave_of
from control_plane.kube.snapshot import Snapshot, counts, exceptions

_MINER_EXCEPTIONS = 16
"""Of the schema."""
_NAMED = 5
_LATCHED = frozenset({Reason.CONTESTED, Reason.STUCK})


def site_told(snapshot: Snapshot, refusal: str | None) -> list[Told]:
    """The conditions of the site.

    Args:
        snapshot: of now.
        refusal: why the revision that `spec` names is not the accepted one; `None` where it is.
    """
    counted = counts(snapshot, snapshot.site.devices)
    rollout = snapshot.rollout
    told: list[Told] = []
    if refusal is not None:
        told.append(stalled("NotAccepted", refusal))
    elif rollout is not None and rollout.state is RolloutState.HALTED:
        told.append(stalled("GateFailed", rollout.gates[-1].detail if rollout.gates else ""))
    elif snapshot.world.incidents:
        first = snapshot.world.incidents[0]
        told.append(stalled("Incident", f"{first.id} on {first.node}: {first.detail}"))
    if rollout is not None and rollout.waves and rollout.is_open:
        told.append(reconciling("Rollout", wave_of(rollout)))
    elif counted.actionable:
        told.append(reconciling("ToDo", f"{counted.actionable:,} devices have a write to come"))
    return [*told, _site_ready(snapshot, counted)]


def _site_ready(snapshot: Snapshot, counted: Counts) -> Told:
    """Some per cent of a real site is always broken: it is ready with named exceptions."""
    if not counted.seen:
        return ready("Unknown", "NotSeen", f"none of {counted.managed:,} devices was seen yet")
    left = exceptions(snapshot, snapshot.site.devices)
    named = ", ".join(f"{e.devices:,} {e.reason}" for e in left[:_NAMED])
    message = f"{counted.converged:,} of {counted.managed:,} as declared" + (
        f"; exceptions: {named}" if named else ""
    )
    share = counted.converged / counted.managed if counted.managed else 1.0
    if share < limits.SITE_READY_MIN_SHARE:
        return ready("False", "TooFew", message)
    return ready("True", "AsDeclared", message)


def site_status(snapshot: Snapshot, told: SiteStatus) -> SiteStatus:
    """The roll-up, around conditions that are there already."""
    counted = counts(snapshot, snapshot.site.devices)
    roots = [node for node in snapshot.plan.headroom if not snapshot.site.feeds[node.node].parent]
    return msgspec.structs.replace(
        told,
        rollout=snapshot.rollout.id if snapshot.rollout else None,
        devices=counted,
        progress=f"{counted.converged}/{counted.managed}",
        exceptions=exceptions(snapshot, snapshot.site.devices),
        permitted_w=sum(node.before_w for node in roots),
        usable_w=sum(node.usable_w for node in roots),
        holds=len(snapshot.world.overlays),
        incidents=len(snapshot.world.incidents),
    )


def racks(snapshot: Snapshot) -> Iterator[tuple[str, RackSpec, RackStatus, list[Told]]]:
    """Each rack: name, spec, status without conditions, and the conditions."""
    held_by = _holders(snapshot)
    for rack in snapshot.site.racks.values():
        devices = snapshot.by_rack.get(rack.id, ())
        counted = counts(snapshot, devices)
        left = exceptions(snapshot, devices)
        yield (
            rack.id,
            RackSpec(site=snapshot.site.id, feed=rack.feed, slots=len(devices)),
            RackStatus(
                devices=counted,
                progress=f"{counted.converged}/{counted.managed}",
                exceptions=left,
                held_by=held_by.get(rack.id),
            ),
            _rack_told(counted, left),
        )


def _rack_told(counted: Counts, left: Sequence[Exceptions]) -> list[Told]:
    told = []
    if counted.actionable:
        told.append(reconciling("ToDo", f"{counted.actionable:,} devices have a write to come"))
    message = f"{counted.converged} of {counted.managed} as declared"
    if left:
        worst = max(left, key=lambda e: e.devices)
        named = ", ".join(f"{e.devices} {e.reason}" for e in left)
        return [*told, ready("False", camel(worst.reason), f"{message}; {named}")]
    if counted.converged == counted.managed:
        return [*told, ready("True", "AsDeclared", message)]
    if not counted.seen:
        return [*told, ready("Unknown", "NotSeen", message)]
    return [*told, ready("False", "Reconciling", message)]


def _holders(snapshot: Snapshot) -> Mapping[str, str]:
    """Rack → who holds all of it."""
    found: dict[str, str] = {}
    below = assets_below(snapshot.site, {overlay.node for overlay in snapshot.world.overlays})
    for overlay in snapshot.world.overlays:
        covered = overlay.assets | below.get(overlay.node, frozenset())
        for rack, devices in snapshot.by_rack.items():
            if all(device.asset in covered for device in devices):
                found.setdefault(rack, f"{overlay.owner} ({overlay.id})")
    return found


# --- Miner ---------------------------------------------------------------------------------------


def miners(snapshot: Snapshot) -> Iterator[tuple[str, MinerSpec, MinerStatus, list[Told]]]:
    """Each miner: name, spec, status without conditions, and the conditions."""
    for device in snapshot.site.devices:
        if device.type.kind is DeviceKind.MINER:
            yield _miner(snapshot, device)


def _miner(snapshot: Snapshot, device: Device) -> tuple[str, MinerSpec, MinerStatus, list[Told]]:
    asset = device.asset
    seen = snapshot.world.sightings.get(asset)
    operation = snapshot.world.operations.get(asset)
    pin = pinned(device, snapshot.world.memories.get(asset)).pin
    identity = seen.identity if isinstance(seen, Observation) else None
    left = snapshot.exceptions_of(asset)
    return (
        asset,
        MinerSpec(
            site=device.site,
            rack=device.rack,
            slot=device.slot,
            slot_state=device.state.value,
            pin=PinPart(mac=pin.mac, serial=pin.serial, source=pin.source) if pin else None,
        ),
        MinerStatus(
            family=identity.family if identity else None,
            firmware=seen.settings.firmware if isinstance(seen, Observation) else None,
            operation=operation.id if operation else None,
            exceptions=tuple(
                ExceptionPart(
                    reason=held.reason.value,
                    field=held.field.value if held.field else None,
                    detail=shortened(held.detail),
                )
                for held in left[:_MINER_EXCEPTIONS]
            ),
        ),
        _miner_told(snapshot, device, left),
    )


def _miner_told(snapshot: Snapshot, device: Device, left: Sequence[Held]) -> list[Told]:
    told = []
    latched = [held for held in left if held.reason in _LATCHED]
    if latched:
        told.append(stalled(camel(latched[0].reason), latched[0].detail))
    pending = [h for h in snapshot.held.get(device.asset, ()) if h.reason in PENDING]
    if device.asset in snapshot.world.operations or device.asset in snapshot.to_do:
        told.append(reconciling("ToDo", "a write is under way or to come"))
    elif pending and pending[0].reason is not Reason.NOT_SEEN:
        told.append(reconciling(camel(pending[0].reason), pending[0].detail))
    if left:
        return [*told, ready("False", camel(left[0].reason), left[0].detail)]
    if not isinstance(snapshot.world.sightings.get(device.asset), Observation):
        return [*told, ready("Unknown", "NotSeen", "it was not seen yet")]
    if snapshot.is_converged(device):
        return [*told, ready("True", "AsDeclared")]
    return [*told, ready("False", "Reconciling")]
