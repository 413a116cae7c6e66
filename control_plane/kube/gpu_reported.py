"""What the agent of a GPU node told, in the words of core: a look, alerts, evidence. Pure.

The other direction of `agent.report`. All of it is as of `reportedAt`, the look that the agent wrote last;
times are kept to the second. What it did not tell is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_plane.api.conditions import camel
from control_plane.api.objects import AlertPart, Condition, GpuNodeStatus, GpuPart
from control_plane.core.gpu import (
    Alert,
    AlertKind,
    GpuSeen,
    GpuSettings,
    NodeSeen,
    RowRemap,
    Rung,
    Trouble,
)
from control_plane.core.remedy_case import Evidence, Source
from control_plane.kube.gpu_projection import HEALTHY, READABLE

_TROUBLES: Final[Mapping[str, Trouble]] = {camel(one.value): one for one in Trouble}
"""By the reason of `GpusReadable`."""
_KINDS: Final[Mapping[str, AlertKind]] = {one.value: one for one in AlertKind}
_RUNGS: Final[Mapping[str, Rung]] = {one.name.lower(): one for one in Rung}
_REMAPS: Final[Mapping[str | None, RowRemap]] = {
    "none": RowRemap(pending=False, failed=False),
    "pending": RowRemap(pending=True, failed=False),
    "failed": RowRemap(pending=False, failed=True),
}
"""How many rows it is, no status tells."""


def seen_of(status: GpuNodeStatus) -> NodeSeen | None:
    """The look, as far as the return gate reads it.

    Returns:
        `None` where no agent told whether it could read. One that could not has its trouble, and no GPUs; a
        trouble that only a newer agent has a name for is `BROKEN`.
    """
    readable = _said(status, READABLE)
    if status.reported_at is None or readable is None or readable.status == "Unknown":
        return None
    at_s = status.reported_at.timestamp()
    if readable.status == "False":
        trouble = _TROUBLES.get(readable.reason, Trouble.BROKEN)
        return NodeSeen(at_s=at_s, driver=status.driver, trouble=trouble)
    return NodeSeen(at_s=at_s, driver=status.driver, gpus=tuple(map(_gpu, status.gpus)))


def alerts_of(status: GpuNodeStatus) -> tuple[Alert, ...]:
    """What the agent finds wrong, none left out."""
    return tuple(map(_alert, status.alerts))


def evidence_of(status: GpuNodeStatus) -> Evidence | None:
    """What the agent bears witness to; `None` before it told anything."""
    if status.reported_at is None:
        return None
    said = {_truth(status, READABLE), _truth(status, HEALTHY)}
    return Evidence(
        source=Source.AGENT,
        at_s=status.reported_at.timestamp(),
        drained=None if status.processes is None else status.processes == 0,
        well=False if "False" in said else True if said == {"True"} else None,
    )


def _said(status: GpuNodeStatus, kind: str) -> Condition | None:
    return next((one for one in status.conditions if one.type == kind), None)


def _truth(status: GpuNodeStatus, kind: str) -> str:
    one = _said(status, kind)
    return "Unknown" if one is None else one.status


def _gpu(part: GpuPart) -> GpuSeen:
    return GpuSeen(
        index=part.index, pci=part.pci, uuid=part.uuid, serial=part.serial, name=part.name,
        lost=part.lost, settings=GpuSettings(power_limit_w=part.limit_w),
        enforced_limit_w=part.enforced_w, min_limit_w=part.min_w, max_limit_w=part.max_w,
        remap=_REMAPS.get(part.remap), fabric=part.fabric,
    )  # fmt: skip


def _alert(part: AlertPart) -> Alert:
    """One alert; of one that only a newer agent knows, what this release may do about it.

    It is not dropped: a node that is unwell would pass for well. Nor is its rung climbed: what a reset or a
    power cycle does to a fault that nobody here has heard of, nobody here knows, so a person decides.
    Where that agent asked for a look alone it stays a look: a new alert of a whole release takes no nodes
    from their tenants. Its *final* counts as little: by that a node goes to repair unasked, and with it
    whatever else is wrong with it.
    """
    kind, rung = _KINDS.get(part.kind), _RUNGS.get(part.rung)
    since_s = part.since.timestamp()
    if kind is not None and kind is not AlertKind.UNKNOWN and rung is not None:
        return Alert(
            kind=kind, rung=rung, since_s=since_s, gpu=part.gpu, xid=part.xid, detail=part.detail,
            asks=part.asks, final=part.final,
        )  # fmt: skip
    final = ", final" if part.final else ""
    return Alert(
        kind=kind or AlertKind.UNKNOWN,
        rung=Rung.OBSERVE if rung is Rung.OBSERVE and not part.final else Rung.DRAIN,
        since_s=since_s,
        gpu=part.gpu,
        xid=part.xid,
        detail=f"{part.kind} ({part.rung}{final}) of a newer agent: {part.detail}",
        asks=True,
    )
