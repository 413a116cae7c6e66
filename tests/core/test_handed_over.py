"""Hand-overs of NVSentinel: what they call for, when they are over, and what is answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.core.external_remediation import Answer, Request
from control_plane.core.gpu import AlertKind, Rung
from control_plane.core.handed_over import (
    CORDONED,
    FOUND_CORDONED,
    alert_of,
    answer_of,
    is_cordoned_by_nvsentinel,
    is_cured,
    says_more,
)
from control_plane.core.node_hold import Node
from control_plane.core.remedy_case import (
    Action,
    Attempt,
    Outcome,
    Remedy,
    RepairTicket,
    Stay,
    Stayed,
    Why,
)
from control_plane.core.remedy_kept import NodeKept, Repaired

SINCE_S = 1_000.0
WELL = Stayed(node="n1", reason=Stay.WELL)
TICKET = RepairTicket(
    id="n1-7", node="n1", slot="g1/1", serial=None, parts=(), why=Why.CAP_SPENT, alerts=(),
    attempts=(), evidence=(), opened_s=SINCE_S,
)  # fmt: skip


def request(**more: Any) -> Request:
    told: dict[str, Any] = {
        "name": "err-1", "uid": "u", "version": "1", "generation": 1, "node": "n1",
        "action": "RESTART_BM", "custom_action": "", "check": "SysLogsXIDError", "codes": ("79",),
        "message": "fell off the bus", "since_s": SINCE_S, "is_released": True,
        "answer": Answer.NONE, "reason": "", "said": "", "is_going": False, "status": {}, **more,
    }  # fmt: skip
    return Request(**told)


def tried(action: Action, at_s: float = SINCE_S + 10, outcome: Outcome = Outcome.DONE) -> Attempt:
    return Attempt(action=action, at_s=at_s, outcome=outcome)


def kept(*attempts: Attempt, **more: Any) -> NodeKept:
    return NodeKept(asset="n1", attempts=attempts, **more)


@pytest.mark.parametrize(
    ("action", "rung", "asks", "final"),
    [
        ("COMPONENT_RESET", Rung.RESET_GPU, False, False),
        ("2", Rung.RESET_GPU, False, False),
        ("RESTART_VM", Rung.REBOOT, False, False),
        ("RESTART_BM", Rung.REBOOT, False, False),
        ("24", Rung.REBOOT, False, False),
        ("CONTACT_SUPPORT", Rung.REPAIR, False, True),
        ("5", Rung.REPAIR, False, True),
        ("REPLACE_VM", Rung.DRAIN, True, False),
        ("RUN_FIELDDIAG", Rung.DRAIN, True, False),
        ("CUSTOM", Rung.DRAIN, True, False),
        ("UNKNOWN", Rung.DRAIN, True, False),
        ("0", Rung.DRAIN, True, False),
        ("", Rung.DRAIN, True, False),
        ("of a newer release", Rung.DRAIN, True, False),
    ],
)
def test_what_it_calls_for(action: str, rung: Rung, *, asks: bool, final: bool) -> None:
    alert = alert_of(request(action=action))
    assert (alert.kind, alert.rung, alert.asks, alert.final) == (
        AlertKind.HANDED_OVER, rung, asks, final,
    )  # fmt: skip
    assert alert.since_s == SINCE_S


@pytest.mark.parametrize(
    ("codes", "xid"), [(("79",), 79), (("XID-48",), None), (("48", "79"), None), ((), None)]
)
def test_one_number_is_the_xid(codes: tuple[str, ...], xid: int | None) -> None:
    alert = alert_of(request(codes=codes, message="m" * 10_000))
    assert alert.xid == xid
    assert len(alert.detail) <= 200


@pytest.mark.parametrize(
    ("action", "what", "is_so"),
    [
        ("RESTART_BM", kept(tried(Action.REBOOT)), True),
        ("RESTART_BM", kept(tried(Action.POWER_CYCLE)), True),
        ("COMPONENT_RESET", kept(tried(Action.REBOOT)), True),
        ("CUSTOM", kept(tried(Action.RESET_GPU)), True),
        ("RESTART_BM", kept(tried(Action.RESET_GPU)), False),
        ("RESTART_BM", kept(tried(Action.DRAIN), tried(Action.RETURN)), False),
        ("RESTART_BM", kept(tried(Action.REBOOT, SINCE_S - 1)), False),
        ("RESTART_BM", kept(tried(Action.REBOOT, outcome=Outcome.OPEN)), False),
        ("RESTART_BM", kept(tried(Action.REBOOT, outcome=Outcome.FAILED)), False),
        ("RESTART_BM", kept(tried(Action.REBOOT, outcome=Outcome.UNKNOWN)), False),
        ("RESTART_BM", None, False),
        ("CONTACT_SUPPORT", kept(tried(Action.POWER_CYCLE)), False),
        (
            "CONTACT_SUPPORT",
            kept(repaired=Repaired(ticket="t", by="ann", reason="r", at_s=SINCE_S + 1)),
            True,
        ),
        (
            "CONTACT_SUPPORT",
            kept(repaired=Repaired(ticket="t", by="ann", reason="r", at_s=SINCE_S - 1)),
            False,
        ),
    ],
)
def test_when_it_is_cured(action: str, what: NodeKept | None, *, is_so: bool) -> None:
    assert is_cured(request(action=action), what) is is_so


REBOOTED = tried(Action.REBOOT)
RETURNED = tried(Action.RETURN, SINCE_S + 20)


@pytest.mark.parametrize(
    ("what", "verdict", "is_held", "answer"),
    [
        (kept(REBOOTED, RETURNED), WELL, False, Answer.DONE),
        (kept(REBOOTED, RETURNED), Stayed(node="n1", reason=Stay.OBSERVED), False, Answer.DONE),
        # NVSentinel leaves out what is held, by us or as far as anybody knows.
        (kept(REBOOTED, RETURNED), WELL, True, Answer.NONE),
        (kept(REBOOTED, RETURNED), WELL, None, Answer.NONE),
        # It is ill again, or nobody says that it is well.
        (kept(REBOOTED, RETURNED), Stayed(node="n1", reason=Stay.SETTLING), False, Answer.NONE),
        (kept(REBOOTED, RETURNED), None, False, Answer.NONE),
        # No gate was passed since: a person ended our hold.
        (kept(REBOOTED), WELL, False, Answer.NONE),
        (kept(REBOOTED, tried(Action.RETURN, SINCE_S + 5)), WELL, False, Answer.NONE),
        (
            kept(REBOOTED, tried(Action.RETURN, SINCE_S + 20, Outcome.FAILED)),
            WELL, False, Answer.NONE,
        ),
        # Back before anything cured it.
        (kept(RETURNED), WELL, False, Answer.NONE),
        (None, None, False, Answer.NONE),
        (kept(ticket=TICKET), Stayed(node="n1", reason=Stay.IN_REPAIR), True, Answer.FAILED),
        (kept(REBOOTED, RETURNED, ticket=TICKET), WELL, False, Answer.FAILED),
        # That ticket may come to nothing: it is decided anew before it leaves.
        (
            kept(tried(Action.QUARANTINE, outcome=Outcome.OPEN), ticket=TICKET),
            Stayed(node="n1", reason=Stay.ACTING), True, Answer.NONE,
        ),
    ],
)  # fmt: skip
def test_what_is_answered(
    what: NodeKept | None, verdict: Stayed | None, is_held: bool | None, answer: Answer
) -> None:
    assert answer_of(request(), what, verdict, is_held=is_held)[0] is answer


def test_words_of_an_answer_and_of_progress() -> None:
    assert answer_of(request(), kept(REBOOTED, RETURNED), WELL, is_held=False)[1] == (
        "reboot; back through the return gate"
    )
    assert "n1-7 (cap spent)" in answer_of(request(), kept(ticket=TICKET), WELL, is_held=True)[1]
    act = Remedy(node="n1", action=Action.REBOOT, why=Why.ALERT, detail="xid 79: reboot")
    assert answer_of(request(), kept(), act, is_held=True)[1] == "reboot: xid 79: reboot"
    assert answer_of(request(), None, None, is_held=None)[1].startswith("no_node: ")


def test_only_another_word_is_worth_a_write() -> None:
    said = request(said="draining: 2 pods")
    assert not says_more(said, "draining: 1 pod")
    assert says_more(said, "grace: after drain")
    assert says_more(request(), "well")
    assert not says_more(msgspec.structs.replace(said, said="well"), "well")


@pytest.mark.parametrize(
    ("words", "is_so"),
    [
        ({CORDONED: "True"}, True),
        ({CORDONED: "True", FOUND_CORDONED: "True"}, False),
        ({CORDONED: "False"}, False),
        ({}, False),
    ],
)
def test_whose_a_cordon_is(words: dict[str, str], *, is_so: bool) -> None:
    node = Node(
        name="n1", uid="u", version="1", labels={}, annotations=words, is_cordoned=True, taints=()
    )
    assert is_cordoned_by_nvsentinel(node) is is_so
