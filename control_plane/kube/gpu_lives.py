"""What is seen of GPU nodes, as evidence of their lives (`core.gpu_life`). Pure.

What the API server has is of now; what an agent told is of the look that it told last. What nobody tells is
no evidence: a node of which no agent told its GPUs stays in inspection. That a machine has left its slot
(`LEFT`), and that it is accepted as it is (`BOM_ACCEPTED`), are words of people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from control_plane.api.objects import GpuNodeStatus
from control_plane.core.bmc import is_same_board
from control_plane.core.fleet import Device
from control_plane.core.gpu import Rung
from control_plane.core.gpu_bom import is_acceptable
from control_plane.core.gpu_life import (
    TABLE,
    Evidence,
    Fact,
    Life,
    Operation,
    Record,
    Transition,
    advance,
)
from control_plane.core.remedy_case import Remedy, Stayed
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_words import replaced
from control_plane.kube.gpu_made_of import Made, made_of
from control_plane.kube.gpu_reported import alerts_of, seen_of
from control_plane.kube.gpu_view import Known, NodeFacts, gate_of, is_ours

AGENT: Final = "agent"
CLUSTER: Final = "cluster"
KEEPER: Final = "gridplane"
DECLARATION: Final = "declaration"


@dataclass(frozen=True, kw_only=True)
class Lived:
    """What one round adds to the life of one node."""

    kept: NodeKept
    steps: tuple[Transition, ...]
    got_stuck: bool
    """Whether it is beyond the deadline of its state now, and was not before."""


def lives_after(
    kept: Mapping[str, NodeKept],
    devices: Mapping[str, Device],
    *,
    declared: Collection[str],
    facts: Mapping[str, NodeFacts],
    told: Mapping[str, GpuNodeStatus],
    verdicts: Mapping[str, Remedy | Stayed],
    now_s: float,
) -> list[Lived]:
    """The lives that are other ones than those that are kept; of the others nothing is to be written.

    Args:
        kept: by asset, of nodes that are not declared any more too.
        devices: the nodes that are managed.
        declared: names of all that the site declares, in service or not.
        facts: of `Node`s, by name.
        told: by agents, by asset.
        verdicts: of remediation, of nodes that are not known to be well.
        now_s: policy time.
    """
    boards = _boards(facts)
    found: list[Lived] = []
    for name, device in devices.items():
        row = kept.get(name, NodeKept(asset=name))
        record = _begun(row.life, device, now_s)
        evidence = _evidence(
            record, row, device, facts.get(name), told.get(name), board=boards.get(name), now_s=now_s
        )  # fmt: skip
        after, steps = advance(record, evidence, now_s=now_s, verdict=verdicts.get(name))
        if any(step.after is Life.DISCOVERED for step in steps):
            row = replaced(row, board=after.board, now_s=now_s)
        if steps or _differs(after, row.life):
            found.append(_lived(row, after, steps))
    for name, row in kept.items():
        if row.life is None or row.life.life is Life.RETIRED or name in devices or name in declared:
            continue
        let_go = Evidence(fact=Fact.RETIRED, at_s=now_s, source=DECLARATION)
        after, steps = advance(row.life, [let_go], now_s=now_s)
        found.append(_lived(row, after, steps))
    return found


def in_words(steps: tuple[Transition, ...]) -> str:
    """Steps of one round, one after the other: `life: ready -> degraded (agent: xid 79)`."""
    last = steps[-1]
    way = " -> ".join([steps[0].before.value, *(step.after.value for step in steps)])
    why = f"{last.by.source}: {last.by.detail}" if last.by.detail else last.by.source
    return f"life: {way} ({why})"


def _begun(record: Record | None, device: Device, now_s: float) -> Record:
    """The record of a slot; one that is declared anew after it was let go begins anew."""
    slot = f"{device.rack}/{device.slot}"
    if record is None or record.life is Life.RETIRED:
        return Record(node=device.asset, slot=slot, since_s=now_s)
    return record if record.slot == slot else msgspec.structs.replace(record, slot=slot)


def _differs(after: Record, before: Record | None) -> bool:
    """Whether it is worth a write. Words of an operation change as time passes; its kind is what counts."""
    if before is None:
        return True
    return msgspec.structs.replace(after, detail=before.detail) != before


def _lived(row: NodeKept, after: Record, steps: tuple[Transition, ...]) -> Lived:
    was = row.life.operation if row.life is not None and not steps else None
    return Lived(
        kept=msgspec.structs.replace(row, life=after),
        steps=steps,
        got_stuck=after.operation is Operation.STUCK and was is not Operation.STUCK,
    )


def _boards(facts: Mapping[str, NodeFacts]) -> dict[str, str]:
    """Node → UUID of its board, where it tells one.

    A node that is silent is what it was; what two nodes name tells neither, nor does a UUID of all zeros.
    """
    named = {
        name: one.board.lower()
        for name, one in facts.items()
        if one.is_ready and is_same_board(one.board, one.board)
    }
    times = Counter(named.values())
    return {name: board for name, board in named.items() if times[board] == 1}


def _evidence(
    record: Record,
    row: NodeKept,
    device: Device,
    facts: NodeFacts | None,
    told: GpuNodeStatus | None,
    *,
    board: str | None,
    now_s: float,
) -> Iterator[Evidence]:
    """What there is for the steps that its state can take."""
    ticket = row.ticket.id if row.ticket is not None else None
    if board is not None and not _is_gone(row, board):
        yield Evidence(
            fact=Fact.IDENTIFIED, at_s=now_s, source=CLUSTER, board=board, detail=f"board {board}"
        )
    takes = TABLE[record.life]
    if Fact.INSPECTION_BEGAN in takes and facts is not None:
        yield Evidence(fact=Fact.INSPECTION_BEGAN, at_s=now_s, source=KEEPER)
    if takes.keys() & {Fact.BOM_MATCHES, Fact.BOM_DIFFERS}:
        yield from _inspected(record, made_of(device, told, board=board, accepted=row.accepted))
    yield from _said_of_machine(record, row)
    if Fact.PROVISIONED in takes and facts is not None:
        yield Evidence(
            fact=Fact.PROVISIONED, at_s=now_s, source=CLUSTER, detail="its Node is there"
        )
    if Fact.JOINED in takes and facts is not None and facts.is_ready:
        yield Evidence(fact=Fact.JOINED, at_s=now_s, source=CLUSTER, detail="its kubelet is ready")
    if Fact.GATE_OPEN in takes:
        yield from _through_the_gate(record, row, device, facts, told, now_s=now_s)
    if Fact.ALERTED in takes:
        yield from _alerted(facts, told, now_s)
    if Fact.CLEARED in takes:
        yield from _cleared(facts, told)
    if Fact.CORDONED in takes and facts is not None and is_ours(facts.node):
        yield Evidence(fact=Fact.CORDONED, at_s=now_s, source=KEEPER, detail="held by remediation")
    if Fact.QUARANTINED in takes and ticket is not None:
        yield Evidence(
            fact=Fact.QUARANTINED, at_s=now_s, source=KEEPER, ticket=ticket,
            detail=f"ticket {ticket}",
        )  # fmt: skip
    if Fact.REPAIRED in takes and record.ticket is not None and ticket != record.ticket:
        yield Evidence(
            fact=Fact.REPAIRED, at_s=now_s, source="person",
            detail=f"ticket {record.ticket} is closed",
        )  # fmt: skip


def _is_gone(row: NodeKept, board: str) -> bool:
    """Whether it is the machine that a person said has left: somebody has yet to pull it out."""
    gone = row.left
    return gone is not None and gone.board is not None and is_same_board(gone.board, board)


def _inspected(record: Record, made: Made | None) -> Iterator[Evidence]:
    """What it is made of, against its device type. A GPU that a node lacks at the gate is a fault of it."""
    if made is None:
        return
    if made.is_right:
        by = f"; {made.accepted_by} accepts {made.differs}" if made.differs else ", as declared"
        yield Evidence(
            fact=Fact.BOM_MATCHES, at_s=made.at_s, source=AGENT, detail=f"{made.gpus} GPUs{by}"
        )
    elif record.life is not Life.VALIDATING or is_acceptable(made.differs):
        yield Evidence(fact=Fact.BOM_DIFFERS, at_s=made.at_s, source=AGENT, detail=made.differs)


def _said_of_machine(record: Record, row: NodeKept) -> Iterator[Evidence]:
    """Words of people about the machine in the slot."""
    takes, gone, word = TABLE[record.life], row.left, row.accepted
    if Fact.LEFT in takes and gone is not None:
        # The life may come to know of the ticket after the person did.
        yield Evidence(
            fact=Fact.LEFT, at_s=max(gone.at_s, record.since_s), source=gone.by,
            ticket=gone.ticket.id, detail=f"{gone.serial} left for its maker: {gone.reason}",
        )  # fmt: skip
    if Fact.BOM_ACCEPTED in takes and word is not None and word.board == record.board:
        yield Evidence(
            fact=Fact.BOM_ACCEPTED, at_s=word.at_s, source=word.by,
            detail=f"accepted as it is: {word.reason}",
        )  # fmt: skip


def _through_the_gate(
    record: Record,
    row: NodeKept,
    device: Device,
    facts: NodeFacts | None,
    told: GpuNodeStatus | None,
    *,
    now_s: float,
) -> Iterator[Evidence]:
    """Nothing is missing, nothing is wrong, and we do not hold it any more."""
    if facts is None or is_ours(facts.node) or told is None or any(_serious(told)):
        return
    known = Known(last_cure_s=record.since_s, accepted=row.accepted)
    gate = gate_of(device, facts, told, known, now_s=now_s)
    if not gate.missing:
        yield Evidence(fact=Fact.GATE_OPEN, at_s=gate.at_s, source=AGENT)


def _alerted(
    facts: NodeFacts | None, told: GpuNodeStatus | None, now_s: float
) -> Iterator[Evidence]:
    if facts is None or not facts.is_ready:
        words = "it has no Node" if facts is None else "its kubelet is silent"
        yield Evidence(fact=Fact.ALERTED, at_s=now_s, source=CLUSTER, detail=words)
    words = "; ".join(_serious(told)) if told is not None else ""
    if words and told is not None and told.reported_at is not None:
        at_s = told.reported_at.timestamp()
        yield Evidence(fact=Fact.ALERTED, at_s=at_s, source=AGENT, detail=words)


def _cleared(facts: NodeFacts | None, told: GpuNodeStatus | None) -> Iterator[Evidence]:
    """A look that could see finds nothing, on a node whose kubelet is ready."""
    if facts is None or not facts.is_ready or told is None:
        return
    seen = seen_of(told)
    if seen is not None and seen.trouble is None and not any(_serious(told)):
        yield Evidence(fact=Fact.CLEARED, at_s=seen.at_s, source=AGENT)


def _serious(told: GpuNodeStatus) -> Iterator[str]:
    """Alerts that ask for more than a look, in words."""
    for alert in alerts_of(told):
        if alert.rung > Rung.OBSERVE:
            number = f" {alert.xid}" if alert.xid is not None else ""
            where = f" on {alert.gpu}" if alert.gpu is not None else ""
            yield f"{alert.kind}{number}{where}"
