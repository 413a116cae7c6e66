"""What is kept while an attempt is on its way: nothing that a person says meanwhile is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from control_plane.core.domain_budget import books_of
from control_plane.core.gpu import Rung
from control_plane.core.remedy_case import (
    Action,
    Approval,
    NodeCase,
    Outcome,
    Remedy,
    Stay,
    Stayed,
    Why,
)
from control_plane.core.remedy_words import approved, repaired
from control_plane.engine.adapters import SystemClock
from control_plane.engine.store import Store
from control_plane.kube.gpu_bmc import Bmcs
from control_plane.kube.gpu_hands import Hands
from control_plane.kube.gpu_rounds import Duty, Rounds
from control_plane.kube.gpu_sight import Seen, place_of
from tests.kube.remedies import ONE
from tests.kube.speaking import lab

NOW_S = 1_790_000_000.0
WORD = Approval(by="ann", at_s=NOW_S, until_s=NOW_S + 60.0, up_to=Rung.REBOOT)
SITE = lab()


class _Bmcs:
    def reaches(self, *_: Any) -> bool:
        return False


class _Hands:
    known: dict[str, Any] = {}  # noqa: RUF012 - nothing is put in


def rounds(store: Store, *, meanwhile: Callable[[], None] = lambda: None) -> Rounds:
    async def durable() -> None:
        meanwhile()

    duty = Duty(store=store, durable=durable, declared=lambda: SITE, may_act=lambda: True)
    return Rounds(
        duty,
        Seen(facts={}, told={}),
        cast(Hands, _Hands()),
        cast(Bmcs, _Bmcs()),
        clock=SystemClock(),
        say=lambda _text, /, **_: None,
    )


@pytest.mark.parametrize("action", [Action.DRAIN, Action.QUARANTINE])
def test_what_a_person_says_while_an_attempt_is_made_durable_is_kept(action: Action) -> None:
    store = Store(None)

    def says() -> None:
        kept = store.remedy(ONE)
        assert kept is not None
        assert kept.attempts[-1].outcome is Outcome.OPEN, "it is kept before it leaves"
        store.put_remedies([approved(repaired(kept, by="ann", reason="", now_s=NOW_S), WORD)])

    case = NodeCase(node=ONE, now_s=NOW_S, books=books_of([]))
    what = Remedy(node=ONE, action=action, why=Why.ALERT)
    asyncio.run(rounds(store, meanwhile=says)._act(place_of(SITE), case, what))
    kept = store.remedy(ONE)
    assert kept is not None
    assert kept.approvals == (WORD,)
    assert kept.ticket is None
    assert (kept.repaired is not None) is (action is Action.QUARANTINE)
    # Nobody knows the node: decided anew, nothing left.
    assert kept.attempts[-1].outcome is Outcome.FAILED


def test_a_quarantine_that_comes_out_otherwise_leaves_no_ticket() -> None:
    store = Store(None)
    case = NodeCase(node=ONE, now_s=NOW_S, books=books_of([]))
    what = Remedy(node=ONE, action=Action.QUARANTINE, why=Why.FINAL)
    asyncio.run(rounds(store)._act(place_of(SITE), case, what))
    kept = store.remedy(ONE)
    assert kept is not None
    assert kept.ticket is None


def test_a_node_that_is_looked_at_no_more_is_told_to_be_well_once_and_by_the_next_leader_too() -> (
    None
):
    store, place = Store(None), place_of(SITE)
    stays = Stayed(node=ONE, reason=Stay.SETTLING, detail="xid 119")
    first = rounds(store)
    first._tell(place, {ONE: stays}, NOW_S)
    first._tell(place, {ONE: stays}, NOW_S + 5.0)
    assert [event.text for _, event in store.events(ONE)] == ["settling: xid 119"]
    # It passed while nobody led.
    second = rounds(store)
    second._tell(place, {}, NOW_S + 60.0)
    second._tell(place, {}, NOW_S + 65.0)
    assert [event.text for _, event in store.events(ONE)] == ["well", "settling: xid 119"]
    # And goes on where it did not.
    rounds(store)._tell(place, {ONE: Stayed(node=ONE, reason=Stay.WELL)}, NOW_S + 90.0)
    assert len(store.events(ONE)) == 2
