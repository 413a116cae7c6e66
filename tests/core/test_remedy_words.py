"""What persons say of a GPU node: a ticket that is closed, an approval, a breaker that is reset."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.breaker import Breaker, began, reset
from control_plane.core.gpu import Rung
from control_plane.core.remedy import remedy
from control_plane.core.remedy_case import (
    Action,
    Approval,
    Attempt,
    NodeCase,
    Outcome,
    Remedy,
    RepairTicket,
    Stay,
    Why,
)
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.remedy_round import NodeView, case_of, closed
from control_plane.core.remedy_words import approved, repaired, still_approved, with_words_of
from tests.core.remedies import (
    DRAINED_BOOKS,
    NODE,
    NOW_S,
    OURS,
    PCI,
    action_of,
    alert,
    drained,
    stay_of,
    tried,
    well,
)

TICKET = RepairTicket(
    id="gpu-1-1", node=NODE, slot="r1/3", serial="S1", parts=(), why=Why.CAP_SPENT, alerts=(),
    attempts=(), evidence=(), opened_s=NOW_S - 90_000.0,
)  # fmt: skip
SPENT = tuple(
    tried(action, ago_s=20_000.0 - 2_000.0 * n, gpu=PCI if action is Action.RESET_GPU else None)
    for n, action in enumerate(
        (Action.RESET_GPU, Action.RESET_GPU, Action.RELOAD_DRIVER, Action.REBOOT, Action.REBOOT,
         Action.POWER_CYCLE, Action.POWER_CYCLE)
    )
)  # fmt: skip
"""All that a day allows."""


def kept(**changes: object) -> NodeKept:
    return msgspec.structs.replace(NodeKept(asset=NODE, attempts=SPENT, ticket=TICKET), **changes)


def case(of: NodeKept, like: NodeCase) -> NodeCase:
    """What a round decides on, of a node that is seen like this."""
    view = NodeView(
        node=NODE, policy=like.policy, alerts=like.alerts, alerts_at_s=like.alerts_at_s,
        evidence=like.evidence, cordons=like.cordons, gate=like.gate,
    )  # fmt: skip
    return case_of(view, of, SiteKept(), DRAINED_BOOKS, path=(), now_s=like.now_s)


def after(of: NodeKept, *, ago_s: float) -> NodeKept:
    return repaired(of, by="kim", reason="new riser", now_s=NOW_S - ago_s)


def test_a_node_whose_ticket_is_closed_comes_back_through_the_gate_alone() -> None:
    assert stay_of(case(kept(), well())) is Stay.IN_REPAIR
    closed_now = after(kept(), ago_s=60.0)
    assert closed_now.ticket is None
    assert closed_now.repaired is not None
    assert (closed_now.repaired.ticket, closed_now.repaired.by) == (TICKET.id, "kim")
    assert closed_now.attempts == SPENT, "what was tried is kept"
    unseen = well(gate=None)
    assert stay_of(case(closed_now, unseen)) is Stay.GATE, "its hold stays"
    assert action_of(case(closed_now, well())) is Action.RETURN
    # What was seen before it was repaired opens no gate.
    assert stay_of(case(after(kept(), ago_s=0.0), well())) is Stay.GATE


def test_the_gate_has_its_time_anew_after_a_repair_of_days() -> None:
    long_ago = msgspec.structs.replace(OURS, since_s=NOW_S - 10 * 86_400.0)
    shut = well(cordons=(long_ago,), gate=None)
    assert stay_of(case(kept(attempts=(), ticket=None), shut)) is Stay.GATE_OVERDUE
    assert stay_of(case(after(kept(attempts=()), ago_s=60.0), shut)) is Stay.GATE


@pytest.mark.parametrize("rung", [Rung.RESET_GPU, Rung.REBOOT, Rung.POWER_CYCLE])
def test_what_was_tried_before_a_repair_is_no_reason_for_another_ticket(rung: Rung) -> None:
    ill = drained(alerts=(alert(rung, since_s=NOW_S - 1_000.0),))
    assert action_of(case(kept(ticket=None), ill)) is Action.QUARANTINE
    again = after(kept(), ago_s=limits.MAINTENANCE_GRACE_S)
    got = remedy(case(again, ill))
    assert isinstance(got, Remedy)
    assert (got.rung, got.why) == (rung, Why.ALERT), "the ladder begins anew"


def test_after_a_repair_people_have_it_for_a_while() -> None:
    ill = drained(alerts=(alert(since_s=NOW_S - 50.0),))
    assert stay_of(case(after(kept(), ago_s=100.0), ill)) is Stay.MAINTENANCE_GRACE


def test_a_repair_shortens_no_grace() -> None:
    cycle = tried(Action.POWER_CYCLE, ago_s=limits.MAINTENANCE_GRACE_S + 60.0)
    ill = drained(alerts=(alert(since_s=NOW_S - 50.0),))
    again = after(kept(attempts=(cycle,)), ago_s=limits.MAINTENANCE_GRACE_S)
    assert stay_of(case(again, ill)) is Stay.GRACE
    over = msgspec.structs.replace(cycle, at_s=NOW_S - 3_600.0, ended_s=NOW_S - 3_500.0)
    free = after(kept(attempts=(over,)), ago_s=limits.MAINTENANCE_GRACE_S)
    assert action_of(case(free, ill)) is Action.RESET_GPU


def test_returns_before_a_repair_do_not_count() -> None:
    returns = tuple(
        tried(Action.RETURN, ago_s=9_000.0 - 1_000.0 * n) for n in range(limits.RETURNS_PER_DAY)
    )
    often = kept(attempts=returns)
    assert action_of(case(msgspec.structs.replace(often, ticket=None), well())) is Action.QUARANTINE
    assert action_of(case(after(often, ago_s=60.0), well())) is Action.RETURN


def test_closing_twice_is_closing_once_and_a_quarantine_ends_with_its_ticket() -> None:
    open_ = Attempt(action=Action.QUARANTINE, at_s=NOW_S - 100.0)
    once = after(kept(attempts=(*SPENT, open_)), ago_s=60.0)
    assert once.attempts[-1].outcome is Outcome.DONE
    assert once.attempts[-1].ended_s == NOW_S - 60.0
    assert after(once, ago_s=0.0) == once


def approval(**changes: object) -> Approval:
    base = Approval(by="kim", at_s=NOW_S - 100.0, until_s=NOW_S + 100.0, up_to=Rung.REBOOT)
    return msgspec.structs.replace(base, **changes)


def test_an_approval_is_kept_once_and_forgotten_when_its_time_is_over() -> None:
    asks = drained(alerts=(alert(Rung.REBOOT, asks=True),))
    said = approved(NodeKept(asset=NODE), approval(at_s=NOW_S - 10.0))
    assert approved(said, approval(at_s=NOW_S - 10.0)) == said
    assert stay_of(case(NodeKept(asset=NODE), asks)) is Stay.ASKS
    assert action_of(case(said, asks)) is Action.REBOOT
    view = NodeView(node=NODE, policy=asks.policy)
    assert closed(said, view, lambda _: False, now_s=NOW_S).approvals == said.approvals
    assert closed(said, view, lambda _: False, now_s=NOW_S + 100.0).approvals == ()
    assert still_approved(said, now_s=NOW_S) is said


def test_words_that_came_while_an_attempt_was_under_way_are_not_lost() -> None:
    before = kept()
    now = approved(after(before, ago_s=5.0), approval())
    merged = with_words_of(before, now)
    assert (merged.ticket, merged.repaired, merged.approvals) == (
        None, now.repaired, now.approvals,
    )  # fmt: skip
    fresh = kept(ticket=None)
    mine = kept()
    assert with_words_of(mine, fresh).ticket == TICKET, "no word: its own ticket stays"
    assert with_words_of(mine, None) == mine


def test_rows_of_before_there_were_words_are_read() -> None:
    old = b'{"asset":"gpu-1","calm_since_s":5.0}'
    assert msgspec.json.decode(old, type=NodeKept) == NodeKept(asset=NODE, calm_since_s=5.0)
    old_site = b'{"breakers":{"r1":{"domain":"r1","tripped_at_s":4.0}}}'
    site = msgspec.json.decode(old_site, type=SiteKept)
    assert site.breakers == {"r1": Breaker(domain="r1", tripped_at_s=4.0)}


def test_a_breaker_that_is_reset_cools_down_first_and_says_who() -> None:
    one = Breaker(domain="r1")
    for n in range(limits.BREAKER_NODES):
        one = began(one, node=f"gpu-{n}", members=8, now_s=NOW_S)
    assert one.is_open(NOW_S)
    assert not one.is_reset
    one = reset(one, by="kim", now_s=NOW_S + 60.0, reason="a bad driver")
    assert one.is_reset
    assert one.is_open(NOW_S + 60.0)
    assert not one.is_open(NOW_S + limits.BREAKER_COOLDOWN_S)
    assert (one.reset_by, one.reset_reason) == ("kim", "a bad driver")
