"""The return gate: what has to be seen of a GPU node before work is placed on it again. Pure.

The same for a new node and for one that was remedied; only the depth of the diagnosis goes by what it was out
for. Everything is seen, nothing assumed: what nobody read keeps the gate shut. Source: gpu-nodes §14.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Final

import msgspec

from control_plane.core.gpu import AlertKind, GpuSeen, NodeSeen
from control_plane.core.remedy_case import Action, GateResult

FABRIC_DONE: Final = "completed"
CAP_TOLERANCE_W: Final = 1.0
"""A limit is kept in whole watts by some boards."""


class Depth(IntEnum):
    """Levels of `dcgmi diag -r` (DCGM 4.6)."""

    NONE = 0
    QUICK = 1
    MEDIUM = 2
    LONG = 3
    XLONG = 4


_BY_ACTION: Final[Mapping[Action, Depth]] = {
    Action.RESET_GPU: Depth.QUICK,
    Action.RELOAD_DRIVER: Depth.QUICK,
    Action.REBOOT: Depth.MEDIUM,
    Action.POWER_CYCLE: Depth.MEDIUM,
    Action.QUARANTINE: Depth.LONG,
}
_BY_ALERT: Final[Mapping[AlertKind, Depth]] = {
    AlertKind.ECC_UNCORRECTED: Depth.LONG,
    AlertKind.REMAP_PENDING: Depth.MEDIUM,
    AlertKind.GPU_LOST: Depth.LONG,
    AlertKind.LINK_DOWN: Depth.MEDIUM,
    AlertKind.THERMAL: Depth.MEDIUM,
}


class Wants(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a node at the gate."""

    gpus: int
    driver: str
    """The pinned version."""
    cap_w: float | None = None
    """Granted to each GPU; `None`: none is."""
    fabric: bool = False
    """Whether its GPUs register with an NVLink fabric."""
    partitioned: bool = False
    """MIG is declared: rows that wait to be remapped cannot be read then, and what is offered are parts."""
    depth: Depth = Depth.LONG


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One run of DCGM's diagnosis."""

    at_s: float
    """When it ended."""
    depth: Depth
    passed: bool
    detail: str = ""


class AtGate(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a node that wants to come back; `None` is unknown."""

    seen: NodeSeen | None
    allocatable: int | None
    """GPUs that its kubelet offers."""
    diagnosis: Diagnosis | None = None
    since_s: float
    """When the last thing was done to it: a diagnosis from before says nothing."""


def depth_for(
    *, actions: Iterable[Action] = (), alerts: Iterable[AlertKind] = (), is_new: bool = False
) -> Depth:
    """How deep a node is diagnosed, by what it was out for."""
    by = [_BY_ACTION.get(action, Depth.NONE) for action in actions]
    by += [_BY_ALERT.get(kind, Depth.NONE) for kind in alerts]
    return max([*by, Depth.LONG if is_new else Depth.NONE])


def at_gate(*, wants: Wants, found: AtGate, now_s: float) -> GateResult:
    """What is missing for its return, in words; of the moment at which it was seen."""
    seen_s = now_s if found.seen is None else found.seen.at_s
    return GateResult(at_s=seen_s, missing=tuple(_missing(wants, found)))


def _missing(wants: Wants, found: AtGate) -> Iterator[str]:
    seen = found.seen
    if seen is None or seen.trouble is not None:
        yield "its GPUs cannot be read" + (f": {seen.trouble}" if seen is not None else "")
    else:
        if seen.driver != wants.driver:
            yield f"driver is {seen.driver or 'unknown'}, pinned is {wants.driver}"
        there = sum(not gpu.lost for gpu in seen.gpus)
        if there != wants.gpus:
            yield f"{there} of {wants.gpus} GPUs answer"
        for gpu in seen.gpus:
            yield from _missing_of(gpu, wants)
    if not wants.partitioned and found.allocatable != wants.gpus:
        have = "unknown" if found.allocatable is None else found.allocatable
        yield f"allocatable GPUs are {have}, declared are {wants.gpus}"
    yield from _undiagnosed(wants, found)


def _missing_of(gpu: GpuSeen, wants: Wants) -> Iterator[str]:
    name = gpu.pci or f"GPU {gpu.index}"
    if gpu.lost:
        return
    if not wants.partitioned:
        if gpu.remap is None:
            yield f"{name}: whether rows wait to be remapped is unknown"
        elif gpu.remap.pending or gpu.remap.failed:
            yield f"{name}: rows {'could not be' if gpu.remap.failed else 'wait to be'} remapped"
    if wants.fabric and gpu.fabric != FABRIC_DONE:
        yield f"{name}: fabric is {gpu.fabric or 'unknown'}"
    if wants.cap_w is not None:
        if gpu.enforced_limit_w is None:
            yield f"{name}: which power limit is enforced is unknown"
        elif gpu.enforced_limit_w > wants.cap_w + CAP_TOLERANCE_W:
            yield f"{name}: {gpu.enforced_limit_w:.0f} W are enforced, granted are {wants.cap_w:.0f}"


def _undiagnosed(wants: Wants, found: AtGate) -> Iterator[str]:
    if wants.depth is Depth.NONE:
        return
    run, level = found.diagnosis, wants.depth.name.lower()
    if run is None or run.at_s < found.since_s or run.depth < wants.depth:
        yield f"a {level} diagnosis has not run since"
    elif not run.passed:
        yield f"its {level} diagnosis failed: {run.detail or 'without a word'}"
