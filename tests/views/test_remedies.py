"""What `explain` says of the remedies of a GPU node, as text and for scripts."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.findings import SourceRef
from control_plane.core.fleet import DeviceKind, GpuIntent
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.gpu_life import Evidence, Fact, Life, Operation, Record, advance
from control_plane.core.memory import Memory
from control_plane.core.remedy_case import (
    Action,
    Approval,
    Attempt,
    Outcome,
    Part,
    RepairTicket,
    Why,
)
from control_plane.core.remedy_kept import NodeKept, Repaired
from control_plane.views.explain import Explanation, render_explanation
from control_plane.views.remedies import remedies_shown, remedy_lines
from tests.core.builders import NOW_S, TYPE, decided, device, intent

NODE = device(
    "n1",
    type=msgspec.structs.replace(TYPE, kind=DeviceKind.GPU_NODE),
    intent=intent(
        gpu=GpuIntent(acts=True), origins={"gpu": SourceRef("inventory/profiles/g.yaml", 3, 6)}
    ),
)
EVIL = "x\x1b[2J\n  next      nothing"


def lines(kept: NodeKept | None = None) -> list[str]:
    return remedy_lines(remedies_shown(NODE, kept), NOW_S)


def tried(action: Action, ago_s: float, outcome: Outcome = Outcome.DONE) -> Attempt:
    at_s = NOW_S - ago_s
    ended_s = None if outcome is Outcome.OPEN else at_s + 300.0
    return Attempt(action=action, at_s=at_s, ended_s=ended_s, outcome=outcome)


def ticket(why: Why = Why.CAP_SPENT, detail: str = "") -> RepairTicket:
    alert = Alert(
        kind=AlertKind.XID, rung=Rung.REBOOT, since_s=NOW_S, gpu="0000:0a", xid=79, detail=detail
    )
    return RepairTicket(
        id="n1-7", node="n1", slot="r1/1", serial="S1", parts=(Part(gpu="0000:0a", serial="G1"),),
        why=why, alerts=(alert,), attempts=(), evidence=(), opened_s=NOW_S - 7_200.0,
    )  # fmt: skip


def test_a_miner_has_no_remedies() -> None:
    assert remedies_shown(device(), None) is None
    assert remedy_lines(None, NOW_S) == []


def test_a_node_that_never_failed_says_whether_remedies_would_act() -> None:
    assert lines() == ["Remedies    act (inventory/profiles/g.yaml:3:6)"]
    silent = msgspec.structs.replace(NODE, intent=intent(gpu=None))
    assert remedy_lines(remedies_shown(silent, None), NOW_S) == [
        "Remedies    tell what would be done, and do nothing"
    ]


def test_attempts_are_told_newest_first_with_what_came_of_them() -> None:
    kept = NodeKept(
        asset="n1",
        attempts=(
            tried(Action.DRAIN, 7_200.0),
            tried(Action.REBOOT, 3_600.0 * 1.5, Outcome.UNKNOWN),
            msgspec.structs.replace(tried(Action.RESET_GPU, 600.0, Outcome.FAILED), gpu="0000:0a"),
            tried(Action.POWER_CYCLE, 10.0, Outcome.OPEN),
        ),
    )
    assert lines(kept)[1:] == [
        "    10 s ago  power cycle -> it may have left, and has not ended",
        "  10 min ago  reset gpu 0000:0a -> did not take place, after 5 min",
        "  90 min ago  reboot -> nobody can tell whether it took place, after 5 min",
        "     2 h ago  drain -> done, after 5 min",
    ]


def test_older_attempts_are_counted_and_scripts_get_them() -> None:
    kept = NodeKept(asset="n1", attempts=tuple(tried(Action.REBOOT, s) for s in range(90, 0, -10)))
    assert len(lines(kept)) == 1 + 5 + 1
    assert lines(kept)[1].startswith("    10 s ago")
    assert lines(kept)[-1] == "  4 older attempts: `-o json`"
    shown = json.loads(msgspec.json.encode(remedies_shown(NODE, kept)))
    assert len(shown["kept"]["attempts"]) == 9
    assert shown["acts"] is True


@pytest.mark.parametrize("why", list(Why))
def test_a_ticket_says_why_what_is_wrong_and_who_goes_on(why: Why) -> None:
    found = lines(NodeKept(asset="n1", ticket=ticket(why)))
    assert re.fullmatch(r"  ticket    n1-7, opened 2 h ago: [a-z ]+", found[1])
    assert found[2:] == [
        "  wrong     xid 79 on 0000:0a",
        "  parts     0000:0a (G1)",
        "  next      it stays out until a person says `gridplane remedy repaired n1 --reason ...`",
    ]


def test_words_of_people_are_shown_with_who_said_them_and_how_long_they_hold() -> None:
    repaired = Repaired(ticket="n1-7", by="kim", reason="new riser", at_s=NOW_S - 7_200.0)
    word = Approval(
        by="lee", at_s=NOW_S - 60.0, until_s=NOW_S + 3_540.0, up_to=Rung.REBOOT, reason="seen"
    )
    over = msgspec.structs.replace(word, by="ann", until_s=NOW_S)
    found = lines(NodeKept(asset="n1", repaired=repaired, approvals=(over, word)))
    assert found[1:] == [
        "  repaired  n1-7: kim, 2 h ago (new riser)",
        "  approved  up to reboot, 59 min more: lee, 60 s ago (seen)",
    ]


def test_what_a_driver_said_cannot_forge_a_line() -> None:
    found = lines(NodeKept(asset="n1", ticket=ticket(detail=EVIL)))
    assert found[2].startswith("  wrong     xid 79 on 0000:0a: x")
    assert not re.search("[\x00-\x1f]", "".join(found))


def test_that_an_incident_ended_is_told_while_it_keeps_remedies_back() -> None:
    def calm(ago_s: float) -> list[str]:
        return lines(NodeKept(asset="n1", calm_since_s=NOW_S - ago_s))

    (_, told) = calm(limits.MAINTENANCE_GRACE_S - 60.0)
    assert told.startswith("  calm      an incident above it ended ")
    assert told.endswith(" ago: 60 s more")
    assert len(calm(limits.MAINTENANCE_GRACE_S)) == 1


def test_an_explanation_has_them_after_its_verdict() -> None:
    decision = decided(device=NODE)
    explanation = Explanation(
        now_s=NOW_S, device=NODE, path=("pdu",), decision=decision, memory=Memory(asset="n1"),
        sighting=None, overlays=(), revision=None, rollout=None, operations=(), events=(),
        remedies=remedies_shown(NODE, NodeKept(asset="n1", ticket=ticket())),
    )  # fmt: skip
    shown = render_explanation(explanation)
    assert re.search(r"^  next .*\nRemedies    act .*\n  ticket    n1-7", shown, re.MULTILINE)
    assert "Remedies" not in render_explanation(msgspec.structs.replace(explanation, remedies=None))


def lived(steps: int, operation: Operation = Operation.IDLE) -> NodeKept:
    """A node that is ready, with so many steps behind it, the last two hours ago."""
    record = Record(node="n1", slot="r1/1", life=Life.READY, since_s=NOW_S - 90_000.0)
    for left in reversed(range(steps)):
        fact = Fact.CLEARED if left % 2 == 0 else Fact.ALERTED
        at_s = NOW_S - 7_200.0 - 600.0 * left
        one = Evidence(fact=fact, at_s=at_s, source="agent", detail=f"xid {left}" if left else EVIL)
        record, _ = advance(record, [one], now_s=NOW_S)
    return NodeKept(asset="n1", life=msgspec.structs.replace(record, operation=operation))


def test_its_life_and_the_last_steps_are_shown_the_newest_first() -> None:
    assert lines(lived(2)) == [
        "Remedies    act (inventory/profiles/g.yaml:3:6)",
        "  life      ready, for 2 h",
        "     2 h ago  degraded -> ready (agent: x\\u001b[2J\\n  next      nothing)",
        "     2 h ago  ready -> degraded (agent: xid 1)",
    ]
    found = lines(lived(8, Operation.WAITING_BUDGET))
    assert found[1] == "  life      ready, for 2 h: waiting budget"
    assert found[-1] == "  3 older steps: `-o json`"
    assert len(found) == 8


def test_scripts_get_every_step_that_is_kept() -> None:
    shown = json.loads(msgspec.json.encode(remedies_shown(NODE, lived(8))))
    assert len(shown["kept"]["life"]["history"]) == 8


def test_a_row_that_was_written_before_there_were_lives_is_read() -> None:
    assert msgspec.json.decode(b'{"asset": "n1"}', type=NodeKept) == NodeKept(asset="n1")
