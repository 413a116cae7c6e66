"""What people order about remedies of GPU nodes: heard once, refused with a suggestion, told to everybody."""

from __future__ import annotations

import asyncio
import datetime as dt

import msgspec
import pytest

from control_plane.api.conditions import moment
from control_plane.api.objects import OrderSpec
from control_plane.core import limits
from control_plane.core.breaker import Breaker
from control_plane.core.gpu import Rung
from control_plane.core.refused_login import BmcLogin, RefusedLogin
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.engine.store import Store
from control_plane.kube.kinds import ORDER
from control_plane.kube.remedy_orders import heard
from control_plane.kube.saying import Refused
from tests.kube.remedies import ONE, in_repair, ticket
from tests.kube.running import Around, around, until
from tests.kube.speaking import Cluster, Process, lab, ready

RACK = "rack/lab-g1"
NOW_S = 1_790_000_000.5
SITE = lab()
TWO_HOURS = moment(NOW_S + 7_200.0)


def spec(kind: str, target: str = ONE, **more: object) -> OrderSpec:
    base = OrderSpec(
        site="lab", kind=kind, target=target, by="ann", at=moment(NOW_S - 5.0), reason="riser"  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def approve(target: str = ONE, until: dt.datetime = TWO_HOURS) -> OrderSpec:
    return spec("approve", target, up_to="reboot", until=until)


def store(*kept: NodeKept, breaker: Breaker | None = None) -> Store:
    found = Store(None)
    found.put_remedies(kept)
    if breaker is not None:
        found.put_remedy_site(SiteKept(breakers={breaker.domain: breaker}))
    return found


def tripped(ago_s: float = 600.0) -> Breaker:
    return Breaker(domain=RACK, begun={ONE: NOW_S - ago_s}, tripped_at_s=NOW_S - ago_s)


def test_a_closed_ticket_says_who_why_and_when_and_saying_it_twice_is_saying_it_once() -> None:
    kept = store(in_repair(NOW_S - 100.0))
    told = heard(spec("repaired"), kept, SITE, now_s=NOW_S)
    assert (told.status, told.reason) == ("True", "Closed")
    after = kept.remedy(ONE)
    assert after is not None
    assert after.ticket is None
    assert after.repaired is not None
    assert (after.repaired.by, after.repaired.reason, after.repaired.at_s) == (
        "ann",
        "riser",
        NOW_S,
    )
    ((_, event),) = kept.events()
    assert (event.kind, event.asset) == ("order", ONE)
    assert event.text == f"{ONE} is repaired, {ONE}-7 is closed, says ann: riser"

    again = heard(spec("repaired"), kept, SITE, now_s=NOW_S + 60.0)
    assert (again.reason, "ann closed" in again.message) == ("NothingToDo", True)
    assert kept.remedy(ONE) == after
    assert len(kept.events()) == 1


def test_a_ticket_that_was_opened_after_the_word_stays_open() -> None:
    kept = store(in_repair(NOW_S - 1.0))
    with pytest.raises(Refused, match="opened after this word"):
        heard(spec("repaired"), kept, SITE, now_s=NOW_S)
    assert kept.remedy(ONE) == in_repair(NOW_S - 1.0)


def test_an_approval_is_kept_with_its_node() -> None:
    kept = store()
    assert heard(approve(), kept, SITE, now_s=NOW_S).reason == "Approved"
    assert heard(approve(), kept, SITE, now_s=NOW_S + 60.0).reason == "NothingToDo"
    node = kept.remedy(ONE)
    assert node is not None
    (word,) = node.approvals
    assert (word.by, word.up_to, word.reason) == ("ann", Rung.REBOOT, "riser")
    assert word.until_s - word.at_s == pytest.approx(7_205.0, abs=1.0)


def test_a_breaker_is_reset_once_and_cools_down() -> None:
    kept = store(breaker=tripped())
    told = heard(spec("breaker", RACK), kept, SITE, now_s=NOW_S)
    assert (told.reason, "cools down until" in told.message) == ("Reset", True)
    breaker = kept.remedy_site().breakers[RACK]
    assert (breaker.reset_by, breaker.reset_at_s, breaker.is_open(NOW_S)) == ("ann", NOW_S, True)
    again = heard(spec("breaker", RACK, by="bob"), kept, SITE, now_s=NOW_S + 1.0)
    assert (again.reason, "ann reset it" in again.message) == ("NothingToDo", True)
    old = store(breaker=tripped(limits.BREAKER_COOLDOWN_S + 1.0))
    assert heard(spec("breaker", RACK), old, SITE, now_s=NOW_S).message == "it is closed"
    assert heard(spec("breaker", RACK), store(), SITE, now_s=NOW_S).reason == "NothingToDo"
    anew = store(breaker=tripped(1.0))
    with pytest.raises(Refused, match="tripped after this word"):
        heard(spec("breaker", RACK), anew, SITE, now_s=NOW_S)


def test_a_refusal_that_came_after_the_word_stays() -> None:
    refused = RefusedLogin(address="10.90.3.21", user="gridplane", mark="0a", at_s=NOW_S - 100.0)
    row = NodeKept(asset=ONE, login=BmcLogin(refused=refused, tries=3))
    kept = store(row)
    with pytest.raises(Refused, match="refused user gridplane after this word"):
        heard(spec("login", at=moment(NOW_S - 200.0)), kept, SITE, now_s=NOW_S)
    assert kept.remedy(ONE) == row
    assert heard(spec("login"), kept, SITE, now_s=NOW_S).reason == "Allowed"
    after = kept.remedy(ONE)
    assert after is not None
    assert after.login == BmcLogin(tries=4)
    assert heard(spec("login"), kept, SITE, now_s=NOW_S).reason == "NothingToDo"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (spec("repaired", "lab-g1-n9"), "no GPU node 'lab-g1-n9'. Did you mean lab-g1-n"),
        (spec("repaired", "lab-r1-s1"), "no GPU node 'lab-r1-s1'"),
        (approve(target="lab-g1-n9"), "Did you mean lab-g1-n"),
        (spec("breaker", "rack/lab-g2"), "no failure domain 'rack/lab-g2'. Did you mean rack/lab-g1"),
        (spec("breaker", "lab-g1"), "no failure domain 'lab-g1'"),
        (spec("repaired", reason=None), "needs a reason"),
        (spec("breaker", RACK, reason=None), "needs a reason"),
        (spec("approve"), "needs `up_to`, the rung, and `until`"),
        (approve(until=moment(NOW_S - 1.0)), "its time was over"),
        (approve(until=moment(NOW_S + 90_000.0)), "24 h at most"),
    ],
)  # fmt: skip
def test_a_word_that_means_nothing_is_refused_with_what_might_be_meant(
    word: OrderSpec, says: str
) -> None:
    kept = store(in_repair(NOW_S - 100.0), breaker=tripped())
    before = (kept.remedies(), kept.remedy_site())
    with pytest.raises(Refused) as refused:
        heard(word, kept, SITE, now_s=NOW_S)
    assert says in str(refused.value)
    assert (kept.remedies(), kept.remedy_site()) == before


def test_a_node_that_left_the_declaration_can_have_its_ticket_closed() -> None:
    gone = NodeKept(asset="old-1", ticket=ticket(NOW_S - 100.0))
    assert heard(spec("repaired", "old-1"), store(gone), SITE, now_s=NOW_S).reason == "Closed"


def test_an_order_is_answered_once_that_is_durable_and_a_refused_one_says_why() -> None:
    async def case(around_: Around) -> None:
        cluster = Cluster(around_)
        now_s = around_.clock.wall_s()
        cluster.remedies = (in_repair(now_s - 500.0),)
        process = Process(cluster).start()
        await cluster.say_order("o", "repaired", ONE, reason="new riser")
        await ready(cluster, ORDER, "o")
        assert cluster.remedies[0].ticket is None, "durable when it is told"
        assert cluster.told(ORDER, "o")["Ready"][1] == "Closed"
        until_ = dt.datetime.fromtimestamp(now_s + 3_600.0, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await cluster.say_order("a", "approve", ONE, reason="seen", upTo="reboot", until=until_)
        await ready(cluster, ORDER, "a")
        assert len(cluster.remedies[0].approvals) == 1
        await cluster.say_order("no", "breaker", "rack/lab-g2", reason="seen")
        await until(lambda: "Stalled" in cluster.told(ORDER, "no"))
        assert "Did you mean rack/lab-g1" in cluster.told(ORDER, "no")["Stalled"][2]
        await cluster.say_order("odd", "approve", ONE, reason="seen", upTo="the moon")
        await until(lambda: "Stalled" in cluster.told(ORDER, "odd"))
        assert cluster.told(ORDER, "odd")["Stalled"][1] == "Malformed"
        await process.end()

    around(case)


def test_a_word_while_nobody_has_a_declaration_waits() -> None:
    async def case(around_: Around) -> None:
        cluster = Cluster(around_)
        cluster.remedies = (in_repair(around_.clock.wall_s() - 500.0),)
        process = Process(cluster)
        process.declared = None
        process.start()
        await cluster.say_order("o", "repaired", ONE, reason="new riser")
        await asyncio.sleep(10.0)
        assert cluster.told(ORDER, "o") == {}
        process.declared = lab()
        await ready(cluster, ORDER, "o")
        await process.end()

    around(case)
