"""One GPU node as its remedy is decided on: its `Node`, what agent and BMC say, what lies on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from control_plane.api.objects import GpuNodeStatus
from control_plane.core.bmc import BmcSeen, BootProgress, Health, Power, SensorKind
from control_plane.core.cluster import Object
from control_plane.core.domain_budget import Cause
from control_plane.core.driver_upgrade import Worker, upgrade_of
from control_plane.core.fleet import Device, GpuIntent
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.gpu_bom import is_acceptable
from control_plane.core.gpu_gate import AtGate, Depth, Wants, at_gate
from control_plane.core.gpu_software import Step, marks_in
from control_plane.core.handed_over import QUARANTINED, is_cordoned_by_nvsentinel
from control_plane.core.moments import seconds_in
from control_plane.core.node_drain import Drained
from control_plane.core.node_hold import Node, hold_in, missing_in, node_in, was_cordoned
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_case import (
    Cordon,
    CordonedBy,
    Evidence,
    Foreign,
    GateResult,
    Part,
    Policy,
    Source,
)
from control_plane.core.remedy_kept import Accepted
from control_plane.core.remedy_round import NodeView
from control_plane.kube.gpu_made_of import made_of
from control_plane.kube.gpu_reported import alerts_of, evidence_of, seen_of
from control_plane.kube.node_hold import was_lifted

BY: Final = "gridplane-remedies"
"""Who holds a node that is remedied."""
GPUS: Final = "nvidia.com/gpu"
_LIFTED: Final = "whoever took marks of our hold away"


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server has of a node."""

    node: Node
    is_ready: bool
    ready_since_s: float
    """Since when it is, or is not."""
    allocatable: int | None
    """GPUs that its kubelet offers; `None`: it offers none by that name."""
    boot: str
    """Id of the boot that its kubelet runs in."""
    board: str
    """UUID of the board that its kubelet runs on, as its firmware has it."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a node beside its objects."""

    drained: Drained | None = None
    """Read back under our hold."""
    left: str = ""
    """What is in the way of that, in words."""
    bmc: BmcSeen | None = None
    bmc_at_s: float = 0.0
    tells_boot: bool = False
    """Whether that BMC was seen to tell that an operating system runs: one that never does is no witness of
    firmware."""
    unwell_since_s: float | None = None
    upgrade_since_s: float | None = None
    last_cure_s: float = 0.0
    """When the last thing that was done to it had an end."""
    has_bmc: bool = False
    """Whether commands can be given to its BMC."""
    may_act: bool = False
    """Whether the site is enforced, by this process."""
    accepted: Accepted | None = None
    """What a person said of a machine in its slot that is made of something else."""
    is_handed: bool = False
    """Whether NVSentinel has handed it over, and waits for an answer."""
    handed: tuple[Alert, ...] = ()
    """What that calls for, as long as nothing has cured it."""
    knows_handed: bool = True
    """Whether it is known what NVSentinel hands over."""


class _Condition(msgspec.Struct):
    type: str
    status: str
    lastTransitionTime: str = ""  # noqa: N815 - Kubernetes' own name


class _Info(msgspec.Struct, frozen=True):
    bootID: str = ""  # noqa: N815
    systemUUID: str = ""  # noqa: N815


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []
    allocatable: dict[str, str] = {}
    nodeInfo: _Info = _Info()  # noqa: N815


def facts_of(thing: Object) -> NodeFacts:
    """A `Node` as the API server has it."""
    status = msgspec.json.decode(thing.status, type=_Status | None) or _Status()
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    offered = status.allocatable.get(GPUS)
    return NodeFacts(
        node=node_in(thing),
        is_ready=ready is not None and ready.status == "True",
        ready_since_s=(seconds_in(ready.lastTransitionTime) if ready else None) or 0.0,
        allocatable=int(offered) if offered is not None and offered.isdecimal() else None,
        boot=status.nodeInfo.bootID,
        board=status.nodeInfo.systemUUID,
    )


def is_ours(node: Node) -> bool:
    """Whether it is held to be remedied."""
    hold = hold_in(node)
    return hold is not None and hold.by == BY


def serves(facts: NodeFacts | None, device: Device) -> bool | None:
    """Whether the API server sees it serve all its GPUs; `None`: it cannot tell.

    Of a node that is parted by MIG the parts are offered by other names, as whole GPUs are by drivers of
    dynamic resource allocation.
    """
    if facts is None:
        return None
    if not facts.is_ready:
        return False
    if facts.allocatable is None or (device.intent.gpu or GpuIntent()).settings.mig is True:
        return None
    return facts.allocatable >= device.type.gpus


def view_of(
    device: Device,
    facts: NodeFacts | None,
    status: GpuNodeStatus | None,
    known: Known,
    *,
    overlays: tuple[Overlay, ...],
    now_s: float,
) -> NodeView:
    """The node as its remedy sees it.

    Args:
        device: as it is declared.
        facts: of its `Node`; `None`: there is none.
        status: of its `GpuNode`, with what its agent told.
        known: beside its objects.
        overlays: those that cover it.
        now_s: policy time; what the API server has is of now.
    """
    alerts, alerts_at_s = _alerts(facts, status, now_s)
    cordons = tuple(_cordons(facts.node, known, now_s)) if facts is not None else ()
    foreign = tuple(_foreign(facts.node, known, now_s)) if facts is not None else ()
    return NodeView(
        node=device.asset,
        policy=policy_of(device, known),
        slot=f"{device.rack}/{device.slot}",
        serial=device.serial or (known.bmc.serial if known.bmc is not None else None),
        parts=_parts(status),
        alerts=(*alerts, *known.handed),
        alerts_at_s=alerts_at_s,
        evidence=tuple(_evidence(device, facts, status, known, now_s)),
        cordons=cordons,
        overlays=overlays,
        foreign=foreign,
        gate=gate_of(device, facts, status, known, now_s),
        causes=_causes(facts, known, cordons, overlays, now_s),
        unwell_since_s=known.unwell_since_s,
    )


def policy_of(device: Device, known: Known) -> Policy:
    """What its profile lets remediation do, by what there is to do it with.

    NVML resets no GPU, and a driver is its operator's to reload: neither is a rung here.
    """
    rungs = {Rung.OBSERVE, Rung.DRAIN, Rung.REPAIR}
    if known.has_bmc:
        rungs |= {Rung.REBOOT, Rung.POWER_CYCLE}
    gpu = device.intent.gpu
    return Policy(acts=known.may_act and gpu is not None and gpu.acts, rungs=frozenset(rungs))


def _alerts(
    facts: NodeFacts | None, status: GpuNodeStatus | None, now_s: float
) -> tuple[tuple[Alert, ...], float | None]:
    """What is wrong, and when somebody looked. A node that nobody can read keeps what was wrong before."""
    told = () if status is None else alerts_of(status)
    at_s = None if status is None or status.reported_at is None else status.reported_at.timestamp()
    if facts is None or facts.is_ready:
        return told, at_s
    known = tuple(one for one in told if one.kind is not AlertKind.UNREADABLE)
    silent = Alert(
        kind=AlertKind.UNREADABLE, rung=Rung.REBOOT, since_s=facts.ready_since_s,
        detail="its kubelet is silent",
    )  # fmt: skip
    return (*known, silent), now_s


def _cordons(node: Node, known: Known, now_s: float) -> Iterator[Cordon]:
    hold = hold_in(node)
    if hold is not None and hold.by == BY:
        yield Cordon(by=CordonedBy.OURS, who=BY, since_s=hold.since_s)
        if was_lifted(missing_in(node)):
            # Pods may come again: that is meant, and somebody says what is to be.
            yield Cordon(by=CordonedBy.PERSON, who=_LIFTED, since_s=now_s)
    elif hold is not None:
        yield Cordon(by=CordonedBy.PROGRAM, who=hold.by or "a hold", since_s=hold.since_s)
    is_others = node.is_cordoned and (hold is None or was_cordoned(node))
    if is_others and upgrade_of(node).worker is not Worker.OPERATOR:
        since_s = next(
            (seconds_in(t.time_added) for t in node.taints if t.key.endswith("/unschedulable")),
            None,
        )
        if not is_cordoned_by_nvsentinel(node):
            yield Cordon(by=CordonedBy.PERSON, who="kubectl cordon", since_s=since_s or now_s)
        elif not known.is_handed and not is_ours(node):
            # Handed over it is ours to repair: that cordon is no bar then, and not ours to undo.
            yield Cordon(by=CordonedBy.PROGRAM, who="NVSentinel", since_s=since_s or now_s)


def _foreign(node: Node, known: Known, now_s: float) -> Iterator[Foreign]:
    upgrade = upgrade_of(node)
    if upgrade.blocks:
        since_s = now_s if known.upgrade_since_s is None else known.upgrade_since_s
        yield Foreign(owner="nvidia driver upgrade", state=upgrade.value, since_s=since_s)
    if not known.knows_handed and QUARANTINED in node.annotations:
        # It may ask for more than our agent sees: such a node would come back uncured.
        yield Foreign(owner="nvsentinel", state="what nobody could read yet", since_s=now_s)


def _evidence(
    device: Device,
    facts: NodeFacts | None,
    status: GpuNodeStatus | None,
    known: Known,
    now_s: float,
) -> Iterator[Evidence]:
    if facts is not None:
        drained, at_s = None, now_s
        if known.drained is not None and known.drained.uid == facts.node.uid:
            drained, at_s = True, known.drained.at_s
        yield Evidence(
            source=Source.CLUSTER, at_s=at_s, drained=drained, well=serves(facts, device)
        )
    agent = None if status is None else evidence_of(status)
    if agent is not None:
        yield agent
    if known.bmc is not None:
        is_off = known.bmc.power is Power.OFF
        if known.tells_boot and known.bmc.progress is BootProgress.FIRMWARE:
            is_off = True  # nothing of anybody's runs there, either
        bad = is_off or known.bmc.health is Health.CRITICAL
        # It sees no GPU serve, and what draws little may compute: it says what it sees, and no more.
        yield Evidence(
            source=Source.BMC, at_s=known.bmc_at_s,
            drained=True if is_off else None, well=False if bad else None,
            unsafe=True if _is_hot(known.bmc) else None,
        )  # fmt: skip


def _is_hot(bmc: BmcSeen) -> bool:
    """Whether a temperature is beyond what its maker calls critical. That none is told says nothing."""
    return any(
        one.kind is SensorKind.TEMPERATURE_C and one.health is Health.CRITICAL
        for one in bmc.sensors or ()
    )


def gate_of(
    device: Device,
    facts: NodeFacts | None,
    status: GpuNodeStatus | None,
    known: Known,
    now_s: float,
    *,
    any_driver: bool = False,
) -> GateResult:
    """What is missing for its return, of what was seen since the last thing was done to it.

    With `any_driver` the one that it runs is right, as it is while its wave has not come.
    """
    seen = None if status is None else seen_of(status)
    gpu = device.intent.gpu or GpuIntent()
    waits = facts is not None and marks_in(facts.node).step in {Step.HELD, Step.FAILED}
    # Where no driver is declared the operator's own is right, whichever that is.
    pinned = None if any_driver or waits else gpu.driver
    driver = pinned or (seen.driver if seen is not None else None) or ""
    wants = Wants(
        gpus=device.type.gpus,
        driver=driver,
        cap_w=gpu.settings.power_limit_w,
        fabric=seen is not None and any(one.fabric is not None for one in seen.gpus),
        partitioned=gpu.settings.mig is True,
        # Nobody here runs a diagnosis: docs/explanations/gpu-remedies.md.
        depth=Depth.NONE,
    )
    found = AtGate(
        seen=seen,
        allocatable=None if facts is None or not facts.is_ready else facts.allocatable,
        since_s=known.last_cure_s,
    )
    result = at_gate(wants=wants, found=found, now_s=now_s)
    board = (facts.board or None) if facts is not None else None
    made = made_of(device, status, board=board, accepted=known.accepted)
    if made is not None and not made.is_right and is_acceptable(made.differs):
        # Which GPUs do not answer is said already.
        result = msgspec.structs.replace(result, missing=(*result.missing, made.differs))
    if facts is None or not facts.is_ready:
        missing = ("its kubelet is not ready", *result.missing)
        return msgspec.structs.replace(result, missing=missing)
    return result


def _parts(status: GpuNodeStatus | None) -> tuple[Part, ...]:
    return tuple(
        Part(gpu=gpu.pci, serial=gpu.serial, uuid=gpu.uuid)
        for gpu in (status.gpus if status is not None else ())
        if gpu.pci is not None
    )


def _causes(
    facts: NodeFacts | None,
    known: Known,
    cordons: tuple[Cordon, ...],
    overlays: tuple[Overlay, ...],
    now_s: float,
) -> frozenset[Cause]:
    found: set[Cause] = set()
    if facts is None:
        found.add(Cause.UNKNOWN)
    else:
        if not facts.is_ready:
            found.add(Cause.FAULT)
        at_work = upgrade_of(facts.node).worker in {Worker.OPERATOR, Worker.PERSON, Worker.UNKNOWN}
        if at_work or marks_in(facts.node).step is Step.GOING:
            found.add(Cause.DRIVER_UPGRADE)
        if known.is_handed and facts.node.is_cordoned:
            found.add(Cause.REMEDIATION)
    if any(one.by is not CordonedBy.OURS for one in cordons):
        found.add(Cause.PERSON)
    lowering = {OverlayKind.CURTAILMENT, OverlayKind.GUARD}
    if any(one.kind in lowering and not one.is_expired(now_s) for one in overlays):
        found.add(Cause.CURTAILMENT)
    return frozenset(found)
