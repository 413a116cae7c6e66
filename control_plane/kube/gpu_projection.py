"""GPU nodes as objects: what each is granted in its spec, and how it stands. Pure.

The controller grants, the agent on the node obeys and tells. The agent owns its conditions (`GpusReadable`,
`GpusHealthy`, `GpusAsDeclared`); `Ready` is made of them here.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterator, Mapping

import msgspec

from control_plane.api.conditions import (
    Told,
    camel,
    moment,
    ready,
    reconciling,
    shortened,
    stalled,
)
from control_plane.api.objects import (
    ClockRangePart,
    GpuNodeSpec,
    GpuNodeStatus,
    GpuSettingsPart,
    PowerCapPart,
)
from control_plane.core import limits
from control_plane.core.fleet import Device, DeviceKind, GpuIntent
from control_plane.core.gpu import ClockRange
from control_plane.core.gpu_life import Record, awaits_look
from control_plane.core.overlay import covering, freeze_on, hold_on, nodes_above
from control_plane.core.remedy_case import NEEDS_PERSON, Remedy, Stay, Stayed
from control_plane.kube.snapshot import Snapshot

READABLE, HEALTHY, AS_DECLARED = "GpusReadable", "GpusHealthy", "GpusAsDeclared"
"""The agent's conditions, worst first."""
_WELL = frozenset({Stay.WELL, Stay.OBSERVED})
_OUT = frozenset(
    {
        Stay.ACTING, Stay.GRACE, Stay.DRAINING, Stay.DRAIN_OVERDUE, Stay.GATE, Stay.GATE_OVERDUE,
        Stay.NO_POWER, Stay.EMERGENCY, Stay.IN_REPAIR,
    }
)  # fmt: skip
"""With these no work is on it, by our own hand."""
_HELD_CHARS = 253
"""Of the schema."""


def gpu_nodes(
    snapshot: Snapshot,
    reported: Mapping[str, GpuNodeStatus],
    remedies: Mapping[str, Remedy | Stayed],
    lives: Mapping[str, Record] | None = None,
) -> Iterator[tuple[str, GpuNodeSpec, GpuNodeStatus, list[Told]]]:
    """Each GPU node: name, spec, our part of its status without conditions, and our conditions.

    Args:
        snapshot: of the site.
        reported: by asset: the status that stands there, with what the agent told.
        remedies: by asset, of those that are not well: what is done, or why nothing is.
        lives: by asset, how far each has come; of one that is left out it stays as it is shown.
    """
    for device in snapshot.site.devices:
        if device.type.kind is DeviceKind.GPU_NODE:
            verdict, stands = remedies.get(device.asset), reported.get(device.asset)
            record = lives.get(device.asset) if lives is not None else None
            told = _told(device, stands, snapshot.world.now_s)
            told = _with_remedy(told, verdict)
            spec = _spec(snapshot, device)
            if needs_attention(verdict) or (record is not None and awaits_look(record)):
                spec = msgspec.structs.replace(spec, attention=True)
            yield device.asset, spec, _life(record, stands), told


def _life(record: Record | None, stands: GpuNodeStatus | None) -> GpuNodeStatus:
    if record is not None:
        return GpuNodeStatus(life=record.life.value, operation=record.operation.value)
    if stands is not None:
        return GpuNodeStatus(life=stands.life, operation=stands.operation)
    return GpuNodeStatus()


def _spec(snapshot: Snapshot, device: Device) -> GpuNodeSpec:
    """Where nothing is written (the site is only observed, the slot is out of service) nothing is granted.

    The agent keeps what was granted before; nobody resets it.
    """
    # Its `Node` is called as the asset is: the lab and the site's cluster join it so.
    place = GpuNodeSpec(
        site=device.site,
        rack=device.rack,
        node_name=device.asset,
        bmc=device.bmc,
        gpus=device.type.gpus or None,
    )
    if snapshot.fence is None or not device.is_managed:
        return place
    intent = device.intent.gpu or GpuIntent()
    return GpuNodeSpec(
        site=place.site,
        rack=place.rack,
        node_name=place.node_name,
        bmc=place.bmc,
        gpus=place.gpus,
        power_cap=_grant(snapshot, device, snapshot.fence),
        settings=_settings(intent),
        held_by=_held_by(snapshot, device),
    )


def _grant(snapshot: Snapshot, device: Device, fence: int) -> PowerCapPart | None:
    """The declared limit, for a while; of a site that declares none, none.

    Headroom counts a GPU node at its nameplate, so a raise up to what is declared always fits.
    """
    limit_w = device.intent.gpu.settings.power_limit_w if device.intent.gpu else None
    if limit_w is None:
        return None
    return PowerCapPart(
        gpu_w=limit_w, fence=fence, granted_until=_until(device.asset, snapshot.world.now_s)
    )


def _until(asset: str, now_s: float) -> dt.datetime:
    """Between one and two halves of a grant from now; it moves on once in each, not for all at once."""
    half_s = limits.GPU_GRANT_S / 2
    offset_s = zlib.crc32(asset.encode()) % int(half_s)
    return moment(((now_s - offset_s) // half_s + 2) * half_s + offset_s)


def _settings(intent: GpuIntent) -> GpuSettingsPart | None:
    wanted = GpuSettingsPart(
        graphics_clock=_clock(intent.settings.graphics_clock),
        memory_clock=_clock(intent.settings.memory_clock),
        persistence=intent.settings.persistence,
        ecc=intent.settings.ecc,
    )
    return None if wanted == GpuSettingsPart() else wanted


def _clock(given: ClockRange | None) -> ClockRangePart | None:
    return None if given is None else ClockRangePart(min_mhz=given.min_mhz, max_mhz=given.max_mhz)


def _held_by(snapshot: Snapshot, device: Device) -> str | None:
    """Who forbids whatever does not lower."""
    over = covering(snapshot.world.overlays, nodes_above(snapshot.site, device))
    one = hold_on(over) or freeze_on(over, snapshot.world.now_s)
    return None if one is None else f"{one.owner} ({one.id})"[:_HELD_CHARS]


def _told(device: Device, status: GpuNodeStatus | None, now_s: float) -> list[Told]:
    if not device.is_managed:
        return [ready("False", "OutOfService", device.state_reason)]
    if status is None or status.reported_at is None:
        return [ready("Unknown", "NoAgent", "no agent on it has reported yet")]
    silent_s = now_s - status.reported_at.timestamp()
    if silent_s > limits.GPU_SILENT_S:
        minutes = f"its agent has said nothing for {silent_s / 60:,.0f} minutes"
        return [ready("Unknown", "AgentSilent", f"{minutes}; it keeps the last grant")]
    said = {condition.type: condition for condition in status.conditions}
    for kind in (READABLE, HEALTHY, AS_DECLARED):
        one = said.get(kind)
        if one is None:
            return [ready("Unknown", "NotTold", f"its agent does not tell {kind}")]
        if one.status != "True":
            return [ready(one.status, one.reason, shortened(one.message))]
    return [ready("True", "AsDeclared")]


def needs_attention(verdict: Remedy | Stayed | None) -> bool:
    """Whether something is decided from what the agent says: then it reports often."""
    return isinstance(verdict, Remedy) or (verdict is not None and verdict.reason not in _WELL)


def _with_remedy(told: list[Told], verdict: Remedy | Stayed | None) -> list[Told]:
    """What remediation does, beside how the node stands; one that is kept out is not ready."""
    if not needs_attention(verdict) or verdict is None:
        return told
    word = verdict.action if isinstance(verdict, Remedy) else verdict.reason
    reason, words = camel(word.value), shortened(verdict.detail)
    if isinstance(verdict, Remedy) or verdict.reason in _OUT:
        told = [ready("False", reason, words)]
    is_stuck = isinstance(verdict, Stayed) and verdict.reason in NEEDS_PERSON
    return [*told, stalled(reason, words) if is_stuck else reconciling(reason, words)]
