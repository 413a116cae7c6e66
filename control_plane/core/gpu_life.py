"""The life of a GPU node's slot as one table: which evidence takes it from where to where. Pure.

    declared → discovered → inspecting → provisioning → joining → validating → ready
                                └→ bom_mismatch
    ready ⇄ degraded → draining → ready | repair → validating | rma → discovered

Two things are kept apart: *life*, how far the node has come, and *operation*, whether anybody is at work on
it or waits for something. In `rma` the machine has left, and the slot stays. Nothing moves but by evidence
with a name, a source and a time; history only grows, and of it the newest `LIFE_STEPS_KEPT` steps are kept. A
node that stays in a state beyond its deadline is `stuck`, in the state that it is in.

A machine is told by the UUID of its board, or by serial and MAC: docs/decisions/0027.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.bmc import is_same_board
from control_plane.core.remedy_case import NEEDS_PERSON, Remedy, Stay, Stayed


class Life(StrEnum):
    """How far a node has come."""

    DECLARED = "declared"
    """A slot, and what is to stand there."""
    DISCOVERED = "discovered"
    """Something answers there: which machine it is, is known."""
    INSPECTING = "inspecting"
    """What it is made of is read, and held against the declaration."""
    BOM_MISMATCH = "bom_mismatch"
    """It is made of something else: a person mends it, or declares it."""
    PROVISIONING = "provisioning"
    """The cluster layer installs it."""
    JOINING = "joining"
    VALIDATING = "validating"
    """Burn-in, or the diagnosis after a repair; ends at the return gate."""
    READY = "ready"
    DEGRADED = "degraded"
    """Something is wrong, and work is still on it."""
    DRAINING = "draining"
    """Kept from work by remediation, from the cordon to the return gate."""
    REPAIR = "repair"
    """Quarantined, with a ticket."""
    RMA = "rma"
    """The machine left for its maker."""
    RETIRED = "retired"


class Fact(StrEnum):
    """What evidence can show."""

    IDENTIFIED = "identified"
    """Which machine stands there: its board, or a serial and a MAC."""
    INSPECTION_BEGAN = "inspection_began"
    BOM_MATCHES = "bom_matches"
    BOM_DIFFERS = "bom_differs"
    BOM_ACCEPTED = "bom_accepted"
    """A person declares what is there, by name."""
    PROVISIONED = "provisioned"
    JOINED = "joined"
    GATE_OPEN = "gate_open"
    """The return gate found nothing missing (`core.gpu_gate`)."""
    ALERTED = "alerted"
    """An alert that asks for more than a look."""
    CLEARED = "cleared"
    CORDONED = "cordoned"
    """By remediation."""
    QUARANTINED = "quarantined"
    """With a ticket."""
    REPAIRED = "repaired"
    """A person closed the ticket: the same machine goes back."""
    LEFT = "left"
    """The machine is out of its slot."""
    RETIRED = "retired"
    """The declaration lets it go."""


class Operation(StrEnum):
    """What goes on around a node, whatever its life."""

    IDLE = "idle"
    HELD = "held"
    ACTING = "acting"
    WAITING_BUDGET = "waiting_budget"
    WAITING_HUMAN = "waiting_human"
    STUCK = "stuck"


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact, by whom and when."""

    fact: Fact
    at_s: float
    source: str
    """Which part, or which person."""
    detail: str = ""
    board: str | None = None
    """UUID of the board of the machine that it was seen of, as its firmware has it."""
    serial: str | None = None
    """Of that machine."""
    mac: str | None = None
    ticket: str | None = None


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step, as history keeps it."""

    before: Life
    after: Life
    by: Evidence


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The life of one slot and of the machine in it."""

    node: str
    slot: str
    life: Life = Life.DECLARED
    since_s: float
    board: str | None = None
    serial: str | None = None
    mac: str | None = None
    ticket: str | None = None
    operation: Operation = Operation.IDLE
    detail: str = ""
    """Of the operation, for people."""
    history: tuple[Transition, ...] = ()
    """The newest `LIFE_STEPS_KEPT` steps, in order."""


TABLE: Final[Mapping[Life, Mapping[Fact, Life]]] = {
    Life.DECLARED: {Fact.IDENTIFIED: Life.DISCOVERED},
    Life.DISCOVERED: {Fact.INSPECTION_BEGAN: Life.INSPECTING, Fact.LEFT: Life.DECLARED},
    Life.INSPECTING: {
        Fact.BOM_MATCHES: Life.PROVISIONING,
        Fact.BOM_DIFFERS: Life.BOM_MISMATCH,
        Fact.LEFT: Life.DECLARED,
    },
    Life.BOM_MISMATCH: {
        Fact.BOM_MATCHES: Life.PROVISIONING,
        Fact.BOM_ACCEPTED: Life.INSPECTING,
        Fact.LEFT: Life.DECLARED,
    },
    Life.PROVISIONING: {Fact.PROVISIONED: Life.JOINING, Fact.QUARANTINED: Life.REPAIR},
    Life.JOINING: {Fact.JOINED: Life.VALIDATING, Fact.QUARANTINED: Life.REPAIR},
    Life.VALIDATING: {
        Fact.GATE_OPEN: Life.READY,
        Fact.QUARANTINED: Life.REPAIR,
        Fact.BOM_DIFFERS: Life.BOM_MISMATCH,  # parts of another make came in at a repair
    },
    Life.READY: {Fact.ALERTED: Life.DEGRADED, Fact.CORDONED: Life.DRAINING},
    Life.DEGRADED: {Fact.CLEARED: Life.READY, Fact.CORDONED: Life.DRAINING},
    Life.DRAINING: {Fact.GATE_OPEN: Life.READY, Fact.QUARANTINED: Life.REPAIR},
    Life.REPAIR: {Fact.REPAIRED: Life.VALIDATING, Fact.LEFT: Life.RMA},
    Life.RMA: {Fact.IDENTIFIED: Life.DISCOVERED},
    Life.RETIRED: {},
}
"""From → fact → to. From anywhere: `RETIRED` by a fact of its own name, another machine (`_swapped`)."""

DEADLINES_S: Final[Mapping[Life, float | None]] = {
    Life.DECLARED: limits.LIFE_DECLARED_S,
    Life.DISCOVERED: limits.LIFE_DISCOVERED_S,
    Life.INSPECTING: limits.LIFE_INSPECTING_S,
    Life.BOM_MISMATCH: limits.LIFE_BOM_MISMATCH_S,
    Life.PROVISIONING: limits.LIFE_PROVISIONING_S,
    Life.JOINING: limits.LIFE_JOINING_S,
    Life.VALIDATING: limits.LIFE_VALIDATING_S,
    Life.READY: None,
    Life.DEGRADED: limits.LIFE_DEGRADED_S,
    Life.DRAINING: limits.LIFE_DRAINING_S,
    Life.REPAIR: limits.LIFE_REPAIR_S,
    Life.RMA: limits.LIFE_RMA_S,
    Life.RETIRED: None,
}
"""For how long a node may be in a state; `None`: for ever, this is where it is to be."""

_UNINSTALLED: Final = frozenset({Life.DECLARED, Life.RMA, Life.RETIRED})
"""No machine of the record stands in the slot."""


def advance(
    record: Record,
    evidence: Iterable[Evidence],
    *,
    now_s: float,
    verdict: Remedy | Stayed | None = None,
) -> tuple[Record, tuple[Transition, ...]]:
    """The record after what was seen, and the steps that it took; taken in order of time.

    Args:
        record: as it was kept.
        evidence: in any order, once or twice: what is older than the state that the record is in was said of
            another one, and what is of the future or does not fit is passed over.
        now_s: policy time.
        verdict: what remediation does, or why it does nothing; `None` where it was not asked.
    """
    steps: list[Transition] = []
    kept = {step.by for step in record.history if step.by.at_s >= record.since_s}
    for one in sorted(evidence, key=lambda e: (e.at_s, e.fact, e.source)):
        if one in kept:
            continue
        after = _after(record, one) if record.since_s <= one.at_s <= now_s else None
        if after is not None:
            step = Transition(before=record.life, after=after, by=one)
            record = _moved(record, step)
            steps.append(step)
    operation, detail = _operation(record, verdict, now_s)
    return msgspec.structs.replace(record, operation=operation, detail=detail), tuple(steps)


def _after(record: Record, one: Evidence) -> Life | None:
    if record.life is Life.RETIRED:
        return None
    if one.fact is Fact.RETIRED:
        return Life.RETIRED
    if one.fact is Fact.IDENTIFIED and not _is_identity(one):
        return None
    if _swapped(record, one):
        # Whatever it says, it says of another machine, which nobody inspected.
        return Life.DISCOVERED if one.fact is Fact.IDENTIFIED else None
    if one.fact is Fact.QUARANTINED and one.ticket is None:
        return None
    return TABLE[record.life].get(one.fact)


def _is_identity(one: Evidence) -> bool:
    return one.board is not None or (one.serial is not None and one.mac is not None)


def _swapped(record: Record, one: Evidence) -> bool:
    """Whether it is of another machine; told by what both have a word on, the board first."""
    if record.life in _UNINSTALLED:
        return False
    if record.board is not None and one.board is not None:
        return record.board != one.board and not is_same_board(record.board, one.board)
    if record.serial is not None and one.serial is not None:
        return record.serial != one.serial
    return False


def _moved(record: Record, step: Transition) -> Record:
    who, ticket = (record.board, record.serial, record.mac), record.ticket
    if step.after is Life.DISCOVERED:
        who, ticket = (step.by.board, step.by.serial, step.by.mac), None
    elif step.after in _UNINSTALLED:
        who = (None, None, None)
    if step.after is Life.REPAIR:
        ticket = step.by.ticket
    elif step.after in {Life.VALIDATING, Life.RETIRED}:
        ticket = None
    return msgspec.structs.replace(
        record,
        life=step.after,
        since_s=step.by.at_s,
        board=who[0],
        serial=who[1],
        mac=who[2],
        ticket=ticket,
        history=(*record.history, step)[-limits.LIFE_STEPS_KEPT :],
    )


def is_overdue(record: Record, *, now_s: float) -> bool:
    """Whether it has been in its state for too long."""
    deadline_s = DEADLINES_S[record.life]
    return deadline_s is not None and now_s >= record.since_s + deadline_s


def awaits_look(record: Record) -> bool:
    """Whether its next step hangs on a fresh look at its GPUs. One that is stuck waits for a person."""
    return record.life in _AWAITS_LOOK and record.operation is not Operation.STUCK


_AWAITS_LOOK: Final = frozenset({Life.INSPECTING, Life.VALIDATING, Life.DRAINING})
_HELD: Final = frozenset({Stay.HOLD, Stay.FREEZE, Stay.HUMAN_CORDON, Stay.LOCKED, Stay.CURTAILED})
_WAITING_BUDGET: Final = frozenset({Stay.BUDGET, Stay.NO_POWER})
_ACTING: Final = frozenset({Stay.ACTING, Stay.DRAINING, Stay.GRACE})


def _operation(
    record: Record, verdict: Remedy | Stayed | None, now_s: float
) -> tuple[Operation, str]:
    if isinstance(verdict, Stayed) and verdict.reason in _HELD:
        return Operation.HELD, verdict.detail
    if is_overdue(record, now_s=now_s):
        days = (now_s - record.since_s) / 86_400.0
        return Operation.STUCK, f"{record.life} for {days:.1f} days"
    if isinstance(verdict, Remedy):
        return Operation.ACTING, verdict.detail
    if verdict is None:
        needs_person = record.life in {Life.BOM_MISMATCH, Life.REPAIR, Life.RMA}
        return (Operation.WAITING_HUMAN if needs_person else Operation.IDLE), ""
    if verdict.reason in _WAITING_BUDGET:
        return Operation.WAITING_BUDGET, verdict.detail
    if verdict.reason in _ACTING:
        return Operation.ACTING, verdict.detail
    if verdict.reason in NEEDS_PERSON:
        return Operation.WAITING_HUMAN, verdict.detail
    return Operation.IDLE, verdict.detail
