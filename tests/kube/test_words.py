"""What people say in a cluster, in virtual time: nothing is lost, nothing ends but by an order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import Gone
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine.records import OrderKind, Released
from control_plane.kube.kinds import ORDER, OVERLAY, RACK
from control_plane.kube.obeying import ORDER_KEPT_S
from tests.kube.remedies import in_repair
from tests.kube.running import PLACE, Around, around, until
from tests.kube.speaking import LAB, Cluster, Process, ready

Case = Callable[[Cluster], Awaitable[None]]


def play(case: Case, *, scale: float = 1.0) -> None:
    async def main(around_: Around) -> None:
        await case(Cluster(around_))

    around(main, scale=scale)


# --- holds --------------------------------------------------------------------------------------------


def test_a_hold_is_in_force_within_its_limit_and_told_to_be() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await asyncio.sleep(1)
        await cluster.say_overlay("pdu", kind="safety")
        await asyncio.sleep(limits.HOLD_EFFECT_S)
        (hold,) = process.store.overlays()
        assert (hold.id, hold.kind, hold.node, hold.owner) == ("pdu", "safety", "lab-r1", "ann")
        assert len(hold.assets) == 6, "what it covers is held wherever it is declared later"
        assert cluster.told(OVERLAY, "pdu")["Ready"] == ("True", "InForce", "covers 6 devices")
        await process.end()

    play(case)


def test_a_hold_that_is_deleted_is_made_again_and_that_is_said() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("pdu")
        await ready(cluster, OVERLAY, "pdu")
        before = cluster.find(OVERLAY, "pdu")
        await cluster.drop(OVERLAY, "pdu")
        await until(lambda: "pdu" in cluster.names(OVERLAY))
        after = cluster.find(OVERLAY, "pdu")
        assert before is not None
        assert after is not None
        assert after.metadata.uid != before.metadata.uid
        was, now = msgspec.json.decode(before.spec), msgspec.json.decode(after.spec)
        assert was.items() <= now.items(), "and it names what it covers"
        assert process.holds() == {"pdu"}
        await ready(cluster, OVERLAY, "pdu")
        assert [text for text in process.said if "made again" in text and "release pdu" in text]
        await process.end()

    play(case)


def test_what_the_store_alone_knows_gets_an_object() -> None:
    async def case(cluster: Cluster) -> None:
        lost = Overlay(
            id="state-lost", kind=OverlayKind.MAINTENANCE_HOLD, node=LAB, owner="gridplane",
            reason="w" * 300, since_s=cluster.around.clock.wall_s() - 0.5,
        )  # fmt: skip
        cluster.kept = (lost,)
        process = Process(cluster).start()
        await ready(cluster, OVERLAY, "state-lost")
        assert process.store.overlays() == (lost,)
        await process.end()

    play(case)


def test_a_name_that_is_taken_ends_no_hold() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("pdu", kind="safety")
        await ready(cluster, OVERLAY, "pdu")
        process.line.faults.away = "refused"
        process.line.cut()
        await cluster.drop(OVERLAY, "pdu")
        await cluster.say_overlay("pdu", kind="freeze", owner="mallory")
        process.line.faults.away = ""
        await until(lambda: cluster.told(OVERLAY, "pdu").get("Stalled", ("", ""))[1] == "NameTaken")
        (hold,) = process.store.overlays()
        assert (hold.kind, hold.owner) == ("safety", "ann")
        await cluster.say_order("r", "release", "pdu", by="ann")
        await ready(cluster, ORDER, "r")
        await ready(cluster, OVERLAY, "pdu")
        (now,) = process.store.overlays()
        assert (now.kind, now.owner) == ("freeze", "mallory"), "the other word is heard then"
        await process.end()

    play(case)


@pytest.mark.parametrize(
    ("spec", "reason", "is_held"),
    [
        ({"node": "lab-r9"}, "UnknownNode", True),
        ({"kind": "perhaps"}, "Malformed", False),
        ({"since": "soon"}, "Malformed", False),
    ],
)
def test_a_word_that_protects_nothing_says_so(
    spec: dict[str, object], reason: str, is_held: bool
) -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("odd", **spec)
        await until(lambda: "Stalled" in cluster.told(OVERLAY, "odd"))
        told = cluster.told(OVERLAY, "odd")
        assert told["Stalled"][1] == told["Ready"][1] == reason
        assert told["Ready"][0] == "False"
        assert (process.holds() == {"odd"}) is is_held
        await process.end()

    play(case)


def test_an_unknown_node_still_covers_the_devices_it_names() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("moved", node="lab-r9", assets=["lab-r1-s1", "lab-r1-s2"])
        await ready(cluster, OVERLAY, "moved")
        (hold,) = process.store.overlays()
        assert (hold.node, len(hold.assets)) == ("lab-r9", 2)
        told = cluster.told(OVERLAY, "moved")["Ready"][2]
        assert "no device, rack, switch or feed node 'lab-r9'" in told
        assert "2 devices" in told
        await process.end()

    play(case)


def test_another_sites_words_are_not_heard() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("theirs", site="ga-macon")
        await cluster.say_order("o", "release", "theirs", site="ga-macon")
        await asyncio.sleep(10)
        assert process.holds() == set()
        assert cluster.told(OVERLAY, "theirs") == cluster.told(ORDER, "o") == {}
        await process.end()

    play(case)


def test_a_freeze_that_ended_is_told_so_and_a_hold_past_its_end_holds_on() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        soon = "2026-09-21T14:20:00Z"
        for name, kind in (("f", "freeze"), ("m", "maintenance")):
            await cluster.say_overlay(name, kind=kind, expires=soon)
        await until(
            lambda: cluster.told(OVERLAY, "f").get("Ready", ("", ""))[1] == "Ended", within_s=9_000
        )
        await until(lambda: "past its end" in cluster.told(OVERLAY, "m")["Ready"][2])
        assert cluster.told(OVERLAY, "m")["Ready"][:2] == ("True", "InForce")
        assert process.holds() == {"f", "m"}
        await process.end()

    play(case)


def test_merging_takes_the_objects_that_the_server_has_at_that_moment() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster)
        for number in range(3):
            await cluster.say_overlay(f"h{number}")
        await cluster.say_overlay("theirs", site="ga-macon")
        await cluster.say_overlay("odd", kind="perhaps")
        await process.words.merge(process.store)
        assert process.holds() == {"h0", "h1", "h2"}

    play(case)


# --- annotations ---------------------------------------------------------------------------------------


async def _rack(cluster: Cluster, **annotations: str) -> None:
    body = {
        "apiVersion": RACK.api_version,
        "kind": RACK.kind,
        "metadata": {"name": "lab-r1", "namespace": PLACE, "annotations": annotations},
        "spec": {"site": LAB, "feed": "lab-hall-p1"},
    }
    await cluster.kubectl.apply(RACK, body, manager="kubectl")


def test_an_annotation_adds_a_hold_and_taking_it_away_ends_none() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await _rack(cluster, **{"gridplane.dev/hold": "fans", "gridplane.dev/pause": ""})
        await ready(cluster, OVERLAY, "lab-r1.hold")
        await ready(cluster, OVERLAY, "lab-r1.pause")
        kinds = {o.id: (o.kind, o.node, o.owner, o.reason) for o in process.store.overlays()}
        assert kinds == {
            "lab-r1.hold": ("maintenance", "lab-r1", "annotation", "fans"),
            "lab-r1.pause": ("freeze", "lab-r1", "annotation", "no reason given"),
        }
        await cluster.say_order("early", "release", "lab-r1.hold")
        await until(lambda: "Stalled" in cluster.told(ORDER, "early"))
        assert "gridplane.dev/hold: remove that first" in cluster.told(ORDER, "early")["Stalled"][2]
        await _rack(cluster)
        await asyncio.sleep(5)
        assert process.holds() == {"lab-r1.hold", "lab-r1.pause"}
        await cluster.say_order("late", "release", "lab-r1.hold")
        await ready(cluster, ORDER, "late")
        assert process.holds() == {"lab-r1.pause"}
        await process.end()

    play(case)


# --- orders --------------------------------------------------------------------------------------------


def test_a_release_ends_the_hold_everywhere_before_it_is_told() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("pdu", kind="safety")
        await ready(cluster, OVERLAY, "pdu")
        await process.durable()
        await cluster.say_order("r", "release", "pdu")
        await ready(cluster, ORDER, "r")
        assert "pdu" not in cluster.names(OVERLAY)
        assert cluster.kept == ()
        assert process.holds() == set()
        assert cluster.told(ORDER, "r")["Ready"][1] == "Released"
        await asyncio.sleep(30)
        assert cluster.names(OVERLAY) == process.holds() == set(), "and it stays ended"
        await process.end()

    play(case)


def test_a_release_ends_a_hold_that_the_watch_never_told_of() -> None:
    async def case(cluster: Cluster) -> None:
        await cluster.say_overlay("pdu")
        process = Process(cluster).start()
        await ready(cluster, OVERLAY, "pdu")
        process.line.faults.loses = lambda event: event.object.metadata.name == "second"
        await cluster.say_overlay("second")
        await cluster.say_order("r", "release", "second")
        await ready(cluster, ORDER, "r")
        assert cluster.names(OVERLAY) == {"pdu"}
        process.line.faults.loses = None
        process.line.cut(Gone("too old"))
        await asyncio.sleep(30)
        assert process.holds() == {"pdu"}
        await process.end()

    play(case)


def test_a_hold_that_another_leader_released_is_not_heard_again_from_an_old_view() -> None:
    async def case(cluster: Cluster) -> None:
        one, two = Process(cluster).start(), Process(cluster)
        await cluster.say_overlay("pdu")
        await ready(cluster, OVERLAY, "pdu")
        two.line.faults.loses = lambda event: event.object.metadata.name == "pdu"
        two.leads.clear()
        two.start()
        await asyncio.sleep(2)
        await cluster.say_order("r", "release", "pdu")
        await ready(cluster, ORDER, "r")
        await one.end()
        two.leads.set()
        await asyncio.sleep(30)
        assert two.holds() == set()
        assert cluster.names(OVERLAY) == set()
        await two.end()

    play(case)


def test_a_hold_that_was_released_stays_so_where_a_lagging_replica_still_has_it() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("pdu")
        await ready(cluster, OVERLAY, "pdu")
        then = cluster.around.server.snapshot()
        await cluster.say_order("r", "release", "pdu")
        await ready(cluster, ORDER, "r")
        await asyncio.sleep(30)
        process.line.faults.stale = then
        cluster.around.server.compact()
        process.line.cut(Gone("too old"))
        await asyncio.sleep(30)
        assert process.holds() == set()
        await process.end()

    play(case)


def test_a_safety_hold_is_released_by_its_owner_alone() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_overlay("pdu", kind="safety", owner="j.ortiz")
        await ready(cluster, OVERLAY, "pdu")
        await cluster.say_order("r", "release", "pdu", by="ann")
        await until(lambda: "Stalled" in cluster.told(ORDER, "r"))
        assert "only j.ortiz releases it" in cluster.told(ORDER, "r")["Stalled"][2]
        await asyncio.sleep(30)
        assert process.holds() == {"pdu"}
        assert cluster.is_ready(OVERLAY, "pdu")
        await process.end()

    play(case)


def test_orders_for_the_engine_are_told_once_it_obeyed_and_that_is_kept() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        pin = {"mac": "02:00:00:00:00:01", "source": "ann"}
        await cluster.say_order("a", "trust", "lab-r1-s1", pin=pin)
        await cluster.say_order("b", "override", "lab-r1-s2")
        await ready(cluster, ORDER, "a")
        await ready(cluster, ORDER, "b")
        assert {order.kind for order in cluster.obeyed} == {OrderKind.TRUST, OrderKind.OVERRIDE}
        assert len(cluster.obeyed) == 2
        await process.end()

    play(case)


def test_orders_about_one_device_are_obeyed_in_their_order() -> None:
    async def case(cluster: Cluster) -> None:
        for number in (2, 1, 3):
            pin = {"mac": f"02:00:00:00:00:0{number}", "source": "ann"}
            await cluster.say_order(f"t{number}", "trust", "lab-r1-s1", pin=pin)
            await asyncio.sleep(2)
        process = Process(cluster).start()
        await ready(cluster, ORDER, "t3")
        assert [order.pin and order.pin.mac for order in cluster.obeyed] == [
            f"02:00:00:00:00:0{number}" for number in (2, 1, 3)
        ]
        await process.end()

    play(case)


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("trust", "lab-r1-s1", "needs a pin"),
        ("override", "lab-r9-s1", "no device 'lab-r9-s1'"),
        ("rollout", "r0", "no rollout 'r0'"),
        ("firmware", "f9", "no firmware rollout 'f9'"),
        ("credentials", "c9", "no rotation 'c9'"),
        ("perhaps", "lab-r1-s1", "cannot be understood"),
    ],
)
def test_an_order_that_cannot_be_obeyed_says_why(kind: str, target: str, words: str) -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_order("o", kind, target)
        await until(lambda: "Stalled" in cluster.told(ORDER, "o"))
        assert words in cluster.told(ORDER, "o")["Stalled"][2]
        assert cluster.told(ORDER, "o")["Ready"][0] == "False"
        assert cluster.obeyed == []
        await process.end()

    play(case)


def test_a_device_that_was_unplugged_counts_no_more() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster)
        process.store.put_released(
            [Released(asset="m-1", feed="lab-hall-p1", power_w=3_000.0, since_s=0.0)]
        )
        process.start()
        await cluster.say_order("u", "unplugged", "m-1")
        await ready(cluster, ORDER, "u")
        assert process.store.released() == []
        assert "m-1 is no longer counted" in cluster.told(ORDER, "u")["Ready"][2]
        await process.end()

    play(case)


def test_orders_that_ended_go_after_a_day_and_open_ones_do_not() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        await cluster.say_order("done", "release", "nothing")
        await cluster.say_order("refused", "override", "nobody")
        await ready(cluster, ORDER, "done")
        process.declared = None
        await cluster.say_order("open", "override", "lab-r1-s1")
        await asyncio.sleep((ORDER_KEPT_S - 3_600) / 100)
        assert cluster.names(ORDER) == {"done", "refused", "open"}
        await asyncio.sleep(3_700 / 100)
        assert cluster.names(ORDER) == {"open"}
        await process.end()

    play(case, scale=100.0)


def test_who_does_not_lead_touches_nothing() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster)
        process.is_live = False
        process.start()
        await cluster.say_overlay("pdu")
        await cluster.say_order("r", "release", "pdu")
        await asyncio.sleep(60)
        assert cluster.told(OVERLAY, "pdu") == cluster.told(ORDER, "r") == {}
        assert cluster.names(OVERLAY) == {"pdu"}
        await process.end()

    play(case)


# --- crashes -------------------------------------------------------------------------------------------


class _Crash:
    """Ends a process at the n-th point, as `kill -9` does: nothing after it is done."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.where = ""
        self.is_armed = False

    def __call__(self, where: str) -> None:
        if self.where:
            raise asyncio.CancelledError
        if self.is_armed:
            self._left -= 1
            if self._left < 0:
                self.where = where
                raise asyncio.CancelledError


def _crashing(
    act: Callable[[Cluster], Awaitable[None]],
    proof: Callable[[Cluster, Process], None],
    begin: Callable[[Cluster], None] = lambda _cluster: None,
) -> list[str]:
    """Crash at every point after `act`, one run each; where that was."""
    places: list[str] = []
    while True:
        crash = _Crash(len(places))

        async def case(cluster: Cluster, crash: _Crash = crash) -> None:
            begin(cluster)
            await cluster.say_overlay("pdu", kind="safety")
            first = Process(cluster, point=crash).start()
            await ready(cluster, OVERLAY, "pdu")
            await first.durable()
            crash.is_armed = True
            await act(cluster)
            await asyncio.sleep(5)
            first.is_live = False
            await first.end()
            assert cluster.is_ready(ORDER, "o") or crash.where
            second = Process(cluster).start()
            await ready(cluster, ORDER, "o")
            await asyncio.sleep(5)
            assert second.is_running
            proof(cluster, second)
            await second.end()

        play(case)
        if not crash.where:
            return places
        places.append(crash.where)


def test_a_release_holds_at_whatever_point_the_leader_dies() -> None:
    async def act(cluster: Cluster) -> None:
        await cluster.say_order("o", "release", "pdu")

    def proof(cluster: Cluster, process: Process) -> None:
        assert cluster.names(OVERLAY) == process.holds() == set()
        assert cluster.kept == () or cluster.told(ORDER, "o")["Ready"][1] == "Released"

    places = _crashing(act, proof)
    assert places == [
        "before durable", "after durable", "before delete of Overlay", "after delete of Overlay",
        "before apply of Order", "after apply of Order",
    ]  # fmt: skip


def test_an_order_has_its_effect_at_whatever_point_the_leader_dies() -> None:
    async def act(cluster: Cluster) -> None:
        await cluster.say_order("o", "override", "lab-r1-s1")

    def proof(cluster: Cluster, process: Process) -> None:
        assert [o.target for o in cluster.obeyed] in (["lab-r1-s1"], ["lab-r1-s1"] * 2)
        assert process.holds() == cluster.names(OVERLAY) == {"pdu"}

    places = _crashing(act, proof)
    assert places == [
        "before durable", "after durable", "before apply of Order", "after apply of Order",
    ]  # fmt: skip


def test_a_hold_that_was_deleted_is_made_again_at_whatever_point_the_leader_dies() -> None:
    async def act(cluster: Cluster) -> None:
        await cluster.drop(OVERLAY, "pdu")
        await cluster.say_order("o", "override", "lab-r1-s1")

    def proof(cluster: Cluster, process: Process) -> None:
        assert cluster.names(OVERLAY) == process.holds() == {"pdu"}

    places = _crashing(act, proof)
    assert {"before create of Overlay", "after create of Overlay"} <= set(places)


def test_a_ticket_is_closed_once_at_whatever_point_the_leader_dies() -> None:
    def begin(cluster: Cluster) -> None:
        cluster.remedies = (in_repair(cluster.around.clock.wall_s() - 500.0),)

    async def act(cluster: Cluster) -> None:
        await cluster.say_order("o", "repaired", "lab-g1-n1", reason="new riser")

    def proof(cluster: Cluster, process: Process) -> None:
        (kept,) = process.store.remedies().values()
        assert kept.ticket is None
        assert kept.repaired is not None
        assert kept.repaired.by == "ann"
        assert cluster.told(ORDER, "o")["Ready"][1] in {"Closed", "NothingToDo"}

    places = _crashing(act, proof, begin)
    assert places == [
        "before durable", "after durable", "before apply of Order", "after apply of Order",
    ]  # fmt: skip
