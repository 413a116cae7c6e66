"""A hall of GPU nodes as it is: racks on feeds, work on nodes, faults, and what each source sees of them.

Nothing here decides. What a source says may be old, may be missing, and one BMC at a time may lie; the
journal, the cordons and the tickets outlive every process. Times are seconds; a look comes every `LOOK_S`.
"""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

from control_plane.core.domain_budget import Books, Cause, Domain, DomainKind, books_of
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.overlay import HOLDS, Overlay, OverlayKind
from control_plane.core.remedy_case import (
    Action,
    Attempt,
    Cordon,
    CordonedBy,
    Evidence,
    GateResult,
    RepairTicket,
    Source,
    is_fresh,
)
from control_plane.core.remedy_kept import Repaired

LOOK_S = 20.0
FEEDS, RACKS_PER_FEED, NODES_PER_RACK = 3, 8, 8
CONTROL_PLANE = ("n000", "n070", "n140")
NOT_READY_S = 40.0
"""For which a node's lease outlives it."""
BOOT_S = (240.0, 700.0)


class FaultKind(StrEnum):
    """What goes wrong with one node."""

    NOISE = "noise"
    HANG = "hang"
    LOST = "lost"
    REMAP = "remap"
    ODD = "odd"
    """The driver asks for something that nobody knows."""
    WEDGED = "wedged"
    """Its kernel answers nobody."""
    PHANTOM = "phantom"
    """Its agent says so, and nobody else."""


ALERTS = {
    FaultKind.NOISE: (AlertKind.XID, Rung.OBSERVE, False, False),
    FaultKind.HANG: (AlertKind.XID, Rung.RESET_GPU, False, False),
    FaultKind.LOST: (AlertKind.GPU_LOST, Rung.REBOOT, False, False),
    FaultKind.REMAP: (AlertKind.REMAP_FAILED, Rung.REPAIR, False, True),
    FaultKind.PHANTOM: (AlertKind.GPU_LOST, Rung.REBOOT, False, False),
    FaultKind.ODD: (AlertKind.RECOVERY_ACTION, Rung.DRAIN, True, False),
}


SERVE = frozenset({FaultKind.NOISE, FaultKind.PHANTOM})
"""With these all of a node serves."""


class Fault(msgspec.Struct, kw_only=True):
    """One fault, and the least that mends it; above `REPAIR` nothing does."""

    kind: FaultKind
    since_s: float
    mends: int
    passes_s: float | None = None
    """When it is over by itself."""
    recurs_after_s: float | None = None
    """It comes back so long after each time that it was mended."""
    gpu: str = "0F"


class Busy(msgspec.Struct, kw_only=True):
    """What is being done to a node, and until when."""

    action: Action
    gpu: str | None
    until_s: float


class Node(msgspec.Struct, kw_only=True):
    """One node, as it is."""

    name: str
    rack: str
    feed: str
    fault: Fault | None = None
    recurs_at_s: float | None = None
    last_fault: Fault | None = None
    powered: bool = True
    boots_until_s: float = 0.0
    has_work: bool = True
    work_ends_s: float | None = None
    """Once it is being drained; `None`: it does not end by itself."""
    drain_takes_s: float = 60.0
    unwell_since_s: float | None = None
    """Since when not all of it serves."""
    lost_since_s: float | None = None
    """Since when its kubelet is silent."""
    is_ready: bool = True
    """As the API server has it."""
    cordons: list[Cordon] = []
    foreign_since_s: float | None = None
    foreign_until_s: float | None = None
    flash_until_s: float | None = None
    unsafe: bool = False
    journal: list[Attempt] = []
    ticket: RepairTicket | None = None
    repaired: Repaired | None = None
    """The last word of whoever repaired it."""
    busy: Busy | None = None
    done: list[tuple[float, Action, str | None]] = []
    """What truly was done to it, for the oracle and for nobody else."""
    silent_until_s: dict[Source, float] = {}
    """Source → until when it says nothing new."""
    lies_until_s: float = 0.0
    """Until then its BMC says the contrary of what is."""
    said: dict[Source, Evidence] = {}
    alerts: tuple[Alert, ...] = ()
    alerts_at_s: float = 0.0
    gate: GateResult | None = None
    capped_at_s: float = 0.0
    """When its caps were in force again after its last boot."""

    def is_up(self, now_s: float) -> bool:
        """Whether its kernel runs."""
        wedged = self.fault is not None and self.fault.kind is FaultKind.WEDGED
        boots = self.busy is not None and self.busy.action in {Action.REBOOT, Action.POWER_CYCLE}
        return self.powered and now_s >= self.boots_until_s and not wedged and not boots

    def serves(self, now_s: float) -> bool:
        """Whether all its GPUs do."""
        ill = self.fault is not None and self.fault.kind not in SERVE
        upgraded = self.foreign_until_s is not None or self.flash_until_s is not None
        return self.is_up(now_s) and not ill and not upgraded and self.busy is None

    def cordon(self, by: CordonedBy) -> Cordon | None:
        """The cordon of somebody."""
        return next((one for one in self.cordons if one.by is by), None)


class Hall:
    """All nodes, what lies on them, and one look a `LOOK_S`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"{seed}/hall")
        self.now_s = 1_000_000.0
        self.nodes: dict[str, Node] = {}
        for number in range(FEEDS * RACKS_PER_FEED * NODES_PER_RACK):
            rack = number // NODES_PER_RACK
            name = f"n{number:03}"
            self.nodes[name] = Node(
                name=name, rack=f"r{rack:02}", feed=f"f{rack // RACKS_PER_FEED}",
                has_work=self.rng.random() < 0.8,
            )  # fmt: skip
        self.domains = books_of(self._domains())
        self.paths = {n.name: (n.rack, n.feed, "site") for n in self.nodes.values()}
        self.overlays: dict[str, Overlay] = {}
        self.dark_since_s: dict[str, float] = {}
        """Rack → since when it has no power."""
        self.active: set[str] = set()
        """Names of nodes that anything is to be told of: of the others every look says that all is well."""

    def _domains(self) -> list[Domain]:
        groups: dict[tuple[DomainKind, str], set[str]] = {}
        for node in self.nodes.values():
            clique = f"c{int(node.rack[1:]) // 2:02}"
            for kind, name in (
                (DomainKind.RACK, node.rack), (DomainKind.FEED, node.feed),
                (DomainKind.CLIQUE, clique), (DomainKind.CLUSTER, "cluster"),
            ):  # fmt: skip
                groups.setdefault((kind, name), set()).add(node.name)
        groups[DomainKind.CONTROL_PLANE, "control-plane"] = set(CONTROL_PLANE)
        return [
            Domain(id=name, kind=kind, members=frozenset(members))
            for (kind, name), members in groups.items()
        ]

    def covering(self, node: Node) -> tuple[Overlay, ...]:
        """The overlays on a node."""
        nodes = {node.name, *self.paths[node.name]}
        return tuple(one for one in self.overlays.values() if one.node in nodes)

    def held(self, node: Node) -> bool:
        """Whether a person forbids whatever is no stop."""
        kinds = HOLDS | {OverlayKind.FREEZE}
        return any(one.kind in kinds for one in self.covering(node))

    def curtailed(self, node: Node) -> bool:
        """Whether it is lowered on purpose."""
        return any(one.kind is OverlayKind.CURTAILMENT for one in self.covering(node))

    def causes(self, node: Node) -> frozenset[Cause]:
        """What takes it down now, by what the API server, the journal and people know."""
        found: set[Cause] = set()
        cluster = node.said.get(Source.CLUSTER)
        if cluster is not None and not is_fresh(cluster.at_s, self.now_s):
            found.add(Cause.UNKNOWN)
        elif not node.is_ready:
            found.add(Cause.FAULT)
        if node.cordon(CordonedBy.OURS) is not None or node.ticket is not None:
            found.add(Cause.REMEDIATION)
        if node.cordon(CordonedBy.PERSON) is not None:
            found.add(Cause.PERSON)
        if node.foreign_until_s is not None:
            found.add(Cause.DRIVER_UPGRADE)
        if node.flash_until_s is not None:
            found.add(Cause.FIRMWARE)
        if self.curtailed(node):
            found.add(Cause.CURTAILMENT)
        return frozenset(found)

    def books(self) -> Books:
        """Who is counted now."""
        down = {
            name: causes
            for name in sorted(self.active)
            if (causes := self.causes(self.nodes[name]))
        }
        return msgspec.structs.replace(self.domains, down=down)

    # --- time -----------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """One look further: things end, then every source looks that is able to."""
        self.now_s += LOOK_S
        for name in sorted(self.active):
            node = self.nodes[name]
            self._end(node)
            self._look(node)
            if self._is_quiet(node):
                self.active.discard(name)
                node.said, node.alerts, node.gate = {}, (), None
                node.unwell_since_s = node.lost_since_s = None

    def wake(self, node: Node) -> None:
        """Something is to be told of a node from now on. Until now all was well, as all sources saw."""
        if node.name not in self.active:
            self.active.add(node.name)
            before = self.now_s - LOOK_S
            for source in (Source.CLUSTER, Source.AGENT, Source.BMC):
                node.said[source] = Evidence(
                    source=source, at_s=before, drained=not node.has_work, well=True, unsafe=False
                )
            node.alerts_at_s = before

    def _is_quiet(self, node: Node) -> bool:
        return (
            node.serves(self.now_s)
            and node.fault is None
            and node.recurs_at_s is None
            and not node.cordons
            and node.ticket is None
            and not self.covering(node)
            and not node.silent_until_s
            and node.is_ready
            and node.lies_until_s <= self.now_s
            and not node.unsafe
            and not any(one.ended_s is None for one in node.journal)
        )

    def _end(self, node: Node) -> None:
        now_s, fault = self.now_s, node.fault
        if fault is not None and fault.passes_s is not None and now_s >= fault.passes_s:
            node.fault = None
        if (
            node.recurs_at_s is not None
            and now_s >= node.recurs_at_s
            and node.last_fault is not None
        ):
            node.fault, node.recurs_at_s = node.last_fault, None
            node.fault.since_s = now_s
        if node.foreign_until_s is not None and now_s >= node.foreign_until_s:
            node.foreign_since_s = node.foreign_until_s = None
            node.cordons = [c for c in node.cordons if c.by is not CordonedBy.PROGRAM]
        if node.flash_until_s is not None and now_s >= node.flash_until_s:
            node.flash_until_s = None
        if node.work_ends_s is not None and now_s >= node.work_ends_s:
            node.has_work, node.work_ends_s = False, None
        if not node.powered or now_s < node.boots_until_s:
            node.has_work = False
        busy = node.busy
        if busy is not None and now_s >= busy.until_s:
            node.busy = None
            self._mend(node, busy)
        free = not node.cordons and node.serves(now_s)
        if free and not node.has_work and self.rng.random() < 0.05:
            node.has_work = True
        for source, until_s in list(node.silent_until_s.items()):
            if now_s >= until_s:
                del node.silent_until_s[source]

    def _mend(self, node: Node, busy: Busy) -> None:
        fault, rung = node.fault, {Action.RESET_GPU: 2, Action.RELOAD_DRIVER: 3, Action.REBOOT: 4,
                                   Action.POWER_CYCLE: 5}[busy.action]  # fmt: skip
        if fault is not None and rung >= fault.mends:
            node.fault = None
            if fault.recurs_after_s is not None:
                node.last_fault, node.recurs_at_s = fault, self.now_s + fault.recurs_after_s
        if rung >= Rung.RELOAD_DRIVER:
            node.capped_at_s = self.now_s + self.rng.choice((0.0, 0.0, 300.0))

    def _look(self, node: Node) -> None:
        now_s = self.now_s
        serves, up = node.serves(now_s), node.is_up(now_s)
        if serves or (up and node.fault is None):
            node.unwell_since_s = None
        elif node.unwell_since_s is None:
            node.unwell_since_s = now_s
        if up:
            node.lost_since_s = None
        elif node.lost_since_s is None:
            node.lost_since_s = now_s
        lease_out = node.lost_since_s is not None and now_s - node.lost_since_s >= NOT_READY_S
        if Source.CLUSTER not in node.silent_until_s:
            node.is_ready = not lease_out
            well = serves if up else (False if lease_out else None)
            node.said[Source.CLUSTER] = Evidence(
                source=Source.CLUSTER, at_s=now_s, drained=not node.has_work, well=well
            )
        if Source.AGENT not in node.silent_until_s and up and node.foreign_until_s is None:
            fault = node.fault
            ill = fault is not None and fault.kind is not FaultKind.NOISE
            node.said[Source.AGENT] = Evidence(
                source=Source.AGENT, at_s=now_s, drained=not node.has_work, well=not ill
            )
            node.alerts, node.alerts_at_s = _alerts(fault), now_s
            missing = () if now_s >= node.capped_at_s else ("GPU 0: cap is not enforced",)
            node.gate = GateResult(at_s=now_s, missing=missing)
        elif not up and lease_out and Source.CLUSTER not in node.silent_until_s:
            since_s = node.lost_since_s or now_s
            node.alerts_at_s, node.gate = now_s, None
            # Nobody sees that what was wrong before is not any more.
            known = tuple(one for one in node.alerts if one.kind is not AlertKind.UNREADABLE)
            lost = Alert(kind=AlertKind.UNREADABLE, rung=Rung.REBOOT, since_s=since_s)
            node.alerts = (*known, lost)
        if Source.BMC not in node.silent_until_s:
            lies = now_s < node.lies_until_s
            node.said[Source.BMC] = Evidence(
                source=Source.BMC, at_s=now_s, drained=node.has_work is lies,
                well=serves is not lies, unsafe=node.unsafe is not lies,
            )  # fmt: skip

    def down(self, node: Node) -> bool:
        """Whether it is out of service already, whoever did it; by the truth."""
        return not node.serves(self.now_s) or bool(self.causes(node))


def _alerts(fault: Fault | None) -> tuple[Alert, ...]:
    if fault is None or fault.kind not in ALERTS:
        return ()
    kind, rung, asks, final = ALERTS[fault.kind]
    xid = 119 if kind is AlertKind.XID else None
    return (
        Alert(
            kind=kind,
            rung=rung,
            since_s=fault.since_s,
            gpu=fault.gpu,
            xid=xid,
            asks=asks,
            final=final,
        ),
    )
