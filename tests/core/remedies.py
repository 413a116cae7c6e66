"""A small case to decide on: one GPU node of a rack of eight, on which everything is fresh."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.core.domain_budget import Cause, Domain, DomainKind, books_of, taken
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy import remedy
from control_plane.core.remedy_case import (
    Action,
    Attempt,
    Cordon,
    CordonedBy,
    Evidence,
    GateResult,
    NodeCase,
    Outcome,
    Part,
    Policy,
    Remedy,
    Source,
    Stay,
    Stayed,
)

NODE = "gpu-1"
NOW_S = 1_000_000.0
PCI = "00000000:0F:00.0"
RACK = frozenset({NODE} | {f"gpu-{n}" for n in range(2, 9)})
BOOKS = books_of(
    [
        Domain(id="r1", kind=DomainKind.RACK, members=RACK),
        Domain(id="site", kind=DomainKind.SITE, members=RACK | {f"gpu-{n}" for n in range(9, 65)}),
    ]
)
DRAINED_BOOKS = taken(books=BOOKS, node=NODE, cause=Cause.REMEDIATION)
OURS = Cordon(by=CordonedBy.OURS, who="gridplane", since_s=NOW_S - 1_000.0)
PERSON = Cordon(by=CordonedBy.PERSON, who="kim", since_s=NOW_S - 500.0)


def alert(rung: Rung = Rung.RESET_GPU, **changes: Any) -> Alert:
    base = Alert(kind=AlertKind.XID, rung=rung, since_s=NOW_S - 2_000.0, gpu=PCI, xid=119)
    return msgspec.structs.replace(base, **changes)


def said(source: Source, **what: Any) -> Evidence:
    return Evidence(source=source, at_s=what.pop("at_s", NOW_S - 10.0), **what)


TWO_SAY = (
    said(Source.CLUSTER, drained=True, well=False),
    said(Source.BMC, drained=True, well=False),
)


def tried(action: Action, *, ago_s: float, took_s: float | None = 30.0, **changes: Any) -> Attempt:
    base = Attempt(
        action=action,
        at_s=NOW_S - ago_s,
        ended_s=None if took_s is None else NOW_S - ago_s + took_s,
        outcome=Outcome.OPEN if took_s is None else Outcome.DONE,
    )
    return msgspec.structs.replace(base, **changes)


def overlay(kind: OverlayKind, **changes: Any) -> Overlay:
    base = Overlay(
        id="o1", kind=kind, node="r1", owner="kim", reason="hands in", since_s=NOW_S - 60.0
    )
    return msgspec.structs.replace(base, **changes)


def case(**changes: Any) -> NodeCase:
    """A node that works, with one alert that asks for a GPU reset."""
    base = NodeCase(
        node=NODE,
        now_s=NOW_S,
        books=BOOKS,
        slot="r1/3",
        serial="S1",
        parts=(Part(gpu=PCI, serial="G0"), Part(gpu="1B", serial="G1")),
        policy=Policy(acts=True),
        alerts=(alert(),),
        alerts_at_s=NOW_S - 5.0,
        evidence=(said(Source.CLUSTER, drained=False, well=True),),
    )
    return msgspec.structs.replace(base, **changes)


def drained(**changes: Any) -> NodeCase:
    """The same, drained by us."""
    base = {"cordons": (OURS,), "evidence": TWO_SAY, "books": DRAINED_BOOKS}
    return case(**{**base, **changes})


def well(**changes: Any) -> NodeCase:
    """A drained node on which nothing is wrong any more."""
    gate = GateResult(at_s=NOW_S - 5.0, missing=())
    return drained(**{"alerts": (), "gate": gate, **changes})


def action_of(one: NodeCase) -> Action:
    got = remedy(one)
    assert isinstance(got, Remedy), got
    return got.action


def stay_of(one: NodeCase) -> Stay:
    got = remedy(one)
    assert isinstance(got, Stayed), got
    return got.reason
