"""What is seen of a GPU node, as evidence of its life: what moves it, and what does not."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from control_plane.api.objects import AlertPart, GpuNodeStatus
from control_plane.core import limits
from control_plane.core.gpu_life import DEADLINES_S, Life, Operation, Record
from control_plane.core.remedy_case import (
    Action,
    Remedy,
    RepairTicket,
    Stay,
    Stayed,
    Why,
)
from control_plane.core.remedy_kept import NodeKept
from control_plane.kube.gpu_lives import Lived, in_words, lives_after
from control_plane.kube.gpu_view import BY, NodeFacts
from tests.kube.test_gpu_view import AT, BOARD, DEVICE, LOST, NOW_S, agent, facts

NAME = DEVICE.asset
GPU = DEVICE.type.gpu
assert GPU is not None
MODEL = GPU.model
OTHER_BOARD = BOARD[:-1] + "9"
SILENT = facts(ready="Unknown")
READY, HELD = facts(), facts(hold=BY)
LOOK = AlertPart(kind="thermal", rung="observe", since=AT)


def told(
    *alerts: AlertPart, ago_s: float = 5.0, gpus: int = 8, lost: int = 0, name: str | None = MODEL
) -> GpuNodeStatus:
    """An agent that names the model of each GPU."""
    status = agent(*alerts, ago_s=ago_s)
    those = [
        msgspec.structs.replace(gpu, name=name, lost=at < lost)
        for at, gpu in enumerate(status.gpus[:gpus])
    ]
    return msgspec.structs.replace(status, gpus=tuple(those))


def unreadable() -> GpuNodeStatus:
    status = told(gpus=0)
    said = tuple(
        msgspec.structs.replace(one, status="False", reason="Broken")
        if one.type == "GpusReadable"
        else one
        for one in status.conditions
    )
    return msgspec.structs.replace(status, conditions=said)


def kept(life: Life, *, ago_s: float = 60.0, ticket: str | None = None, **changes: Any) -> NodeKept:
    """As it was written after a round; `ticket` is the one that is open now."""
    there = life not in {Life.DECLARED, Life.RMA, Life.RETIRED}
    record = Record(
        node=NAME, slot=f"{DEVICE.rack}/{DEVICE.slot}", life=life, since_s=NOW_S - ago_s,
        board=BOARD if there else None,
    )  # fmt: skip
    opened = RepairTicket(
        id=ticket, node=NAME, slot="r1/1", serial=None, parts=(), why=Why.FINAL, alerts=(),
        attempts=(), evidence=(), opened_s=NOW_S - 30.0,
    ) if ticket is not None else None  # fmt: skip
    return NodeKept(asset=NAME, life=msgspec.structs.replace(record, **changes), ticket=opened)


def lived(
    row: NodeKept | None,
    of: NodeFacts | None,
    status: GpuNodeStatus | None = None,
    *,
    verdict: Remedy | Stayed | None = None,
    others: dict[str, NodeFacts] | None = None,
    after_s: float = 0.0,
) -> Lived | None:
    found = lives_after(
        {} if row is None else {NAME: row},
        {NAME: DEVICE},
        declared={NAME},
        facts={**({} if of is None else {NAME: of}), **(others or {})},
        told={} if status is None else {NAME: status},
        verdicts={} if verdict is None else {NAME: verdict},
        now_s=NOW_S + after_s,
    )
    return found[0] if found else None


def after(row: NodeKept | None, of: NodeFacts | None, status: GpuNodeStatus | None = None) -> Life:
    one = lived(row, of, status)
    record = one.kept.life if one is not None else row.life if row is not None else None
    assert record is not None
    return record.life


@pytest.mark.parametrize(
    ("life", "of", "status", "then"),
    [
        (Life.DECLARED, READY, None, Life.DISCOVERED),
        (Life.DECLARED, SILENT, None, Life.DECLARED),  # what it was, nobody knows to be there now
        (Life.DECLARED, None, told(), Life.DECLARED),
        (Life.DISCOVERED, READY, None, Life.INSPECTING),
        (Life.INSPECTING, READY, told(), Life.PROVISIONING),
        (Life.INSPECTING, READY, None, Life.INSPECTING),
        (Life.INSPECTING, READY, unreadable(), Life.INSPECTING),
        (Life.INSPECTING, READY, told(name=None), Life.INSPECTING),
        (Life.INSPECTING, READY, told(ago_s=61.0), Life.INSPECTING),  # of before it came
        (Life.INSPECTING, READY, told(gpus=7), Life.BOM_MISMATCH),
        (Life.INSPECTING, READY, told(lost=1), Life.BOM_MISMATCH),
        (Life.INSPECTING, READY, told(name="NVIDIA T4"), Life.BOM_MISMATCH),
        (Life.BOM_MISMATCH, READY, told(), Life.PROVISIONING),
        (Life.PROVISIONING, SILENT, None, Life.JOINING),
        (Life.PROVISIONING, None, None, Life.PROVISIONING),
        (Life.JOINING, SILENT, told(), Life.JOINING),
        (Life.JOINING, READY, None, Life.VALIDATING),
        (Life.VALIDATING, READY, told(), Life.READY),
        (Life.VALIDATING, READY, told(LOOK), Life.READY),
        (Life.VALIDATING, READY, told(ago_s=61.0), Life.VALIDATING),
        (Life.VALIDATING, READY, told(LOST), Life.VALIDATING),
        (Life.VALIDATING, HELD, told(), Life.VALIDATING),
        (Life.VALIDATING, SILENT, told(), Life.VALIDATING),
        (Life.VALIDATING, facts(gpus="7"), told(), Life.VALIDATING),
        (Life.VALIDATING, READY, None, Life.VALIDATING),
        (Life.READY, READY, told(), Life.READY),
        (Life.READY, READY, told(LOOK), Life.READY),
        (Life.READY, READY, told(LOST), Life.DEGRADED),
        (Life.READY, SILENT, told(), Life.DEGRADED),
        (Life.READY, None, told(), Life.DEGRADED),
        (Life.READY, HELD, told(), Life.DRAINING),
        (Life.READY, facts(hold="a-person"), told(), Life.READY),
        (Life.DEGRADED, READY, told(), Life.READY),
        (Life.DEGRADED, READY, told(LOST), Life.DEGRADED),
        (Life.DEGRADED, READY, unreadable(), Life.DEGRADED),
        (Life.DEGRADED, SILENT, told(), Life.DEGRADED),
        (Life.DEGRADED, READY, told(ago_s=61.0), Life.DEGRADED),
        (Life.DEGRADED, HELD, told(LOST), Life.DRAINING),
        (Life.DRAINING, HELD, told(), Life.DRAINING),
        (Life.DRAINING, READY, told(LOST), Life.DRAINING),
        (Life.DRAINING, READY, told(), Life.READY),
        (Life.RMA, READY, None, Life.DISCOVERED),
    ],
)
def test_what_is_seen_moves_it_by_one_step(
    life: Life, of: NodeFacts | None, status: GpuNodeStatus | None, then: Life
) -> None:
    assert after(kept(life), of, status) is then


def test_a_slot_that_nobody_looked_at_before_begins_as_declared_and_as_discovered() -> None:
    assert after(None, None) is Life.DECLARED
    one = lived(None, READY)
    assert one is not None
    assert one.kept.life is not None
    assert (one.kept.life.life, one.kept.life.board) == (Life.DISCOVERED, BOARD)
    assert in_words(one.steps) == f"life: declared -> discovered (cluster: board {BOARD})"


def test_a_board_that_two_nodes_name_tells_neither() -> None:
    assert lived(kept(Life.DECLARED), READY, others={"lab-g1-n2": READY}) is None
    silent = lived(kept(Life.DECLARED), READY, others={"lab-g1-n2": SILENT})
    assert silent is not None
    assert silent.steps[-1].after is Life.DISCOVERED


@pytest.mark.parametrize("board", ["", "None", "00000000-0000-0000-0000-000000000000"])
def test_what_no_board_is_called_by_tells_nobody(board: str) -> None:
    of = msgspec.structs.replace(READY, board=board)
    assert lived(kept(Life.DECLARED), of) is None
    assert lived(kept(Life.READY), of, told()) is None


@pytest.mark.parametrize("life", [Life.INSPECTING, Life.READY, Life.DRAINING, Life.REPAIR])
def test_another_board_is_discovered_whatever_was_there(life: Life) -> None:
    of = msgspec.structs.replace(READY, board=OTHER_BOARD)
    one = lived(kept(life), of, told())
    assert one is not None
    assert one.steps[-1].after is Life.DISCOVERED
    assert one.kept.life is not None
    assert one.kept.life.board == OTHER_BOARD


@pytest.mark.parametrize("life", [Life.VALIDATING, Life.DRAINING])
def test_an_open_ticket_is_its_repair_and_one_that_is_closed_ends_it(life: Life) -> None:
    one = lived(kept(life, ticket="t1"), HELD, told(LOST))
    assert one is not None
    assert one.kept.life is not None
    assert (one.kept.life.life, one.kept.life.ticket) == (Life.REPAIR, "t1")
    assert one.kept.life.operation is Operation.WAITING_HUMAN
    assert lived(one.kept, HELD, told(LOST), after_s=5.0) is None
    closed = lived(msgspec.structs.replace(one.kept, ticket=None), HELD, told(), after_s=5.0)
    assert closed is not None
    assert [step.after for step in closed.steps] == [Life.VALIDATING]
    assert "t1" in closed.steps[0].by.detail


def test_what_did_not_change_is_not_written_again() -> None:
    rests = kept(Life.READY)
    assert lived(rests, READY, told()) is None
    drains = kept(Life.DRAINING, operation=Operation.ACTING, detail="2 pods are left")
    one = Stayed(node=NAME, reason=Stay.DRAINING, detail="1 pod is left")
    assert lived(drains, HELD, told(LOST), verdict=one) is None
    acts = lived(
        rests, READY, told(), verdict=Remedy(node=NAME, action=Action.DRAIN, why=Why.ALERT)
    )
    assert acts is not None
    assert acts.kept.life is not None
    assert acts.kept.life.operation is Operation.ACTING


def test_that_it_is_stuck_is_told_once() -> None:
    deadline_s = DEADLINES_S[Life.INSPECTING]
    assert deadline_s == limits.LIFE_INSPECTING_S
    one = lived(kept(Life.INSPECTING, ago_s=deadline_s), READY)
    assert one is not None
    assert one.got_stuck
    assert one.kept.life is not None
    assert one.kept.life.detail == "inspecting for 0.1 days"
    assert lived(one.kept, READY, after_s=86_400.0) is None
    goes_on = lived(one.kept, READY, told())
    assert goes_on is not None
    assert not goes_on.got_stuck
    assert goes_on.kept.life is not None
    assert goes_on.kept.life.operation is Operation.IDLE


def let_go(row: NodeKept, declared: Collection[str] = ()) -> list[Lived]:
    """A round in which it is not ours to manage."""
    return lives_after(
        {NAME: row}, {}, declared=declared, facts={NAME: READY}, told={}, verdicts={}, now_s=NOW_S
    )


def test_who_is_let_go_is_retired_once_and_begins_anew_when_it_is_declared_again() -> None:
    row = kept(Life.READY)
    (one,) = let_go(row)
    assert one.kept.life is not None
    assert one.kept.life.life is Life.RETIRED
    assert let_go(one.kept) == []
    again = lived(one.kept, None)
    assert again is not None
    assert again.kept.life == Record(node=NAME, slot=f"{DEVICE.rack}/{DEVICE.slot}", since_s=NOW_S)


def test_a_slot_that_is_out_of_service_is_not_let_go() -> None:
    row = kept(Life.READY)
    assert let_go(row, declared={NAME}) == []


def test_a_slot_that_is_named_anew_keeps_its_life() -> None:
    one = lived(kept(Life.READY, slot="old/9"), READY, told())
    assert one is not None
    assert (one.steps, one.kept.life) == ((), kept(Life.READY).life)
