"""Holds of nodes: all marks or none, who may end them, and what people did stays."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from control_plane.core.cluster import NODE, ClusterAway, Conflict
from control_plane.core.driver_upgrade import LABEL
from control_plane.core.errors import FenceLost
from control_plane.core.node_hold import (
    CORDON,
    FOUND_BY_UPGRADE,
    LABELS,
    SKIP_DRIVER_UPGRADE,
    TAINT,
    hold_in,
    missing_in,
)
from control_plane.kube.node_hold import HoldState
from control_plane.simulator.api_client import Call
from control_plane.simulator.api_controllers import UNSCHEDULABLE, edit
from tests.kube.nodes import REPAIR, Hall, hall, held


def test_a_hold_has_every_mark_and_says_who_why_and_until() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        done = await h.holds().hold("n1", held(h.clock, lasts_s=3_600.0))
        assert done.state is HoldState.HELD
        node = h.node()
        assert missing_in(node) == ()
        assert node.is_cordoned
        assert {**node.labels, **LABELS} == node.labels
        hold = hold_in(node)
        assert hold is not None
        assert (hold.by, hold.why) == (REPAIR, "XID 79 on 0000:0F:00.0")
        assert hold.until_s == hold.since_s + 3_600.0
        # The cluster answers a cordon with a taint of its own, which is not ours to end.
        await asyncio.sleep(1.0)
        assert {taint.key for taint in h.node().taints} == {TAINT, UNSCHEDULABLE}
        assert (await h.holds().release("n1", by=REPAIR)).state is HoldState.FREE
        await asyncio.sleep(1.0)
        free = h.node()
        assert (free.taints, free.is_cordoned, free.labels, free.annotations) == ((), False, {}, {})

    hall(case)


def test_asked_again_it_writes_nothing_and_keeps_its_beginning() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()
        since_s = hold_in(h.node())
        written = h.client.calls["apply", "Node"]
        await asyncio.sleep(60.0)
        await h.hold()
        assert h.client.calls["apply", "Node"] == written
        later = held(h.clock, lasts_s=60.0)
        await h.holds().hold("n1", later)
        now = hold_in(h.node())
        assert now is not None
        assert since_s is not None
        assert (now.since_s, now.until_s) == (since_s.since_s, float(int(later.until_s or 0)))
        for _ in range(2):
            assert (await h.holds().release("n1", by=REPAIR)).state is HoldState.FREE
        assert h.client.calls["apply", "Node"] == written + 2

    hall(case)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_cordon_of_a_person_is_never_undone(when: str) -> None:
    async def case(h: Hall) -> None:
        await h.have()
        if when == "before":
            h.cordon()
        await h.hold()
        if when == "during":
            # Whoever sets it anew, and does not only look: kubectl cordon does the latter.
            def change(body: dict[str, dict[str, object]]) -> None:
                del body["spec"]["unschedulable"]

            edit(h.server, NODE, "n1", change, manager="ann")
            h.cordon()
        done = await h.holds().release("n1", by=REPAIR)
        assert (done.state, done.is_cordoned) == (HoldState.FREE, True)
        assert h.node().is_cordoned
        assert TAINT not in {taint.key for taint in h.node().taints}
        h.cordon(whether=False)
        assert not h.node().is_cordoned

    hall(case)


def test_a_node_that_somebody_cordoned_is_not_held_behind_that_cordon_unless_asked() -> None:
    async def case(h: Hall) -> None:
        await h.have()

        def cordon(node: dict[str, Any]) -> None:
            node["spec"]["unschedulable"] = True

        edit(h.server, NODE, "n1", cordon, manager="kubectl")
        done = await h.holds().hold("n1", held(h.clock), behind=lambda _node: False)
        assert (done.state, done.is_cordoned) == (HoldState.FREE, True)
        assert hold_in(h.node()) is None
        assert (await h.holds().hold("n1", held(h.clock))).state is HoldState.HELD

    hall(case)


def test_a_hold_that_a_person_took_apart_is_told_and_not_mended() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()
        h.cordon(whether=False)
        now = await h.holds().hold("n1", held(h.clock))
        assert (now.state, now.missing) == (HoldState.CONTESTED, (CORDON,))
        assert not h.node().is_cordoned
        # A person's new order puts it together again.
        now = await h.holds().hold("n1", held(h.clock), again=True)
        assert now.state is HoldState.HELD

    hall(case)


def test_a_label_that_an_operator_wrote_over_comes_back() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()

        def change(body: dict[str, dict[str, dict[str, str]]]) -> None:
            body["metadata"]["labels"][SKIP_DRIVER_UPGRADE] = "false"

        edit(h.server, NODE, "n1", change, manager="gpu-operator")
        assert (await h.holds().look("n1", by=REPAIR)).missing == (SKIP_DRIVER_UPGRADE,)
        assert (await h.holds().hold("n1", held(h.clock))).state is HoldState.HELD
        assert h.node().labels[SKIP_DRIVER_UPGRADE] == "true"

    hall(case)


def test_only_who_holds_ends_it() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()
        for done in (
            await h.holds().release("n1", by="curtailment"),
            await h.holds().hold("n1", held(h.clock, "curtailment")),
        ):
            assert done.state is HoldState.ANOTHERS
            assert done.hold is not None
            assert done.hold.by == REPAIR
        assert missing_in(h.node()) == ()

    hall(case)


def test_taints_and_labels_of_others_stay_through_a_hold() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        theirs = {
            "key": "example.com/theirs",
            "effect": "NoExecute",
            "timeAdded": "2026-11-01T10:00:00Z",
        }
        h.taint("n1", theirs)
        before = h.node().taints
        await h.hold()
        await h.holds().release("n1", by=REPAIR)
        await asyncio.sleep(1.0)
        assert h.node().taints == before

    hall(case)


def test_a_node_that_is_not_there_is_not_held() -> None:
    async def case(h: Hall) -> None:
        assert (await h.holds().hold("n1", held(h.clock))).state is HoldState.UNKNOWN
        assert (await h.holds().release("n1", by=REPAIR)).state is HoldState.UNKNOWN
        await h.have()
        await h.hold()
        h.server.delete(NODE, "n1")
        await h.have()
        # Another node of that name is held by nobody.
        assert (await h.holds().look("n1", by=REPAIR)).state is HoldState.FREE

    hall(case)


def test_without_the_fence_nothing_is_written() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        h.leads = False
        with pytest.raises(FenceLost):
            await h.hold()
        assert hold_in(h.node()) is None
        h.leads = True
        await h.hold()
        h.leads = False
        with pytest.raises(FenceLost):
            await h.holds().release("n1", by=REPAIR)
        assert missing_in(h.node()) == ()

    hall(case)


def test_others_who_write_in_between_are_waited_for_and_then_named() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        writes = 0

        def between(call: Call) -> None:
            nonlocal writes
            if call.verb == "apply" and writes < limit:
                writes += 1
                h.taint("n1", {"key": f"example.com/{writes}", "effect": "NoSchedule"})

        h.client.faults.before = between
        limit = 2
        assert (await h.holds().hold("n1", held(h.clock))).state is HoldState.HELD
        assert {"example.com/1", "example.com/2", TAINT} <= {t.key for t in h.node().taints}
        writes, limit = 0, 1_000
        with pytest.raises(Conflict, match="n1"):
            await h.holds().release("n1", by=REPAIR)
        assert missing_in(h.node()) == ()

    hall(case)


def test_an_answer_that_was_lost_leaves_a_whole_hold() -> None:
    async def case(h: Hall) -> None:
        await h.have()

        def lose(call: Call) -> None:
            if call.verb == "apply":
                raise ClusterAway("the line broke")

        h.client.faults.after = lose
        with pytest.raises(ClusterAway):
            await h.hold()
        h.client.faults.after = None
        assert missing_in(h.node()) == ()
        assert (await h.holds().hold("n1", held(h.clock))).state is HoldState.HELD

    hall(case)


def test_a_hold_whose_words_are_gone_is_anothers() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()

        def change(body: dict[str, dict[str, object]]) -> None:
            body["metadata"]["annotations"] = {}

        edit(h.server, NODE, "n1", change, manager="ann")
        now = await h.holds().look("n1", by=REPAIR)
        assert now.state is HoldState.ANOTHERS
        assert msgspec.structs.replace(now.hold or held(h.clock), since_s=0.0).by == ""

    hall(case)


def test_an_operator_that_was_at_work_already_ends_its_own_cordon_and_that_is_told() -> None:
    async def case(h: Hall) -> None:
        await h.have()

        def to(state: str, *, cordons: bool) -> None:
            def change(body: dict[str, dict[str, object]]) -> None:
                labels = dict(body["metadata"].get("labels") or {})  # type: ignore[call-overload]
                body["metadata"]["labels"] = {**labels, LABEL: state}
                body["spec"].pop("unschedulable", None)
                if cordons:
                    body["spec"]["unschedulable"] = True

            edit(h.server, NODE, "n1", change, manager="gpu-operator")

        to("cordon-required", cordons=True)
        now = await h.holds().look("n1", by=REPAIR)
        assert now.upgrade is not None
        assert now.upgrade.blocks
        done = await h.holds().hold("n1", held(h.clock))
        assert (done.state, done.upgrade and done.upgrade.blocks) == (HoldState.HELD, True)
        assert done.upgrade is not None
        assert done.upgrade.is_skipped
        to("upgrade-done", cordons=False)
        now = await h.holds().look("n1", by=REPAIR)
        assert (now.state, now.missing) == (HoldState.CONTESTED, (CORDON,))
        assert now.upgrade is not None
        assert not now.upgrade.blocks
        assert TAINT in {taint.key for taint in h.node().taints}, "no pod comes meanwhile"

    hall(case)


@pytest.mark.parametrize("cordoned", [False, True])
def test_an_upgrade_that_waits_behind_a_hold_does_not_leave_the_node_cordoned(
    cordoned: bool,
) -> None:
    """It notes that it found the node cordoned; only of a person's cordon that is so when the hold ends."""

    def cordon(body: dict[str, dict[str, object]]) -> None:
        body["spec"]["unschedulable"] = True

    async def case(h: Hall) -> None:
        await h.have()
        if cordoned:
            edit(h.server, NODE, "n1", cordon, manager="kubectl")
        await h.hold()

        def waits(body: dict[str, dict[str, object]]) -> None:
            notes = dict(body["metadata"].get("annotations") or {})  # type: ignore[call-overload]
            body["metadata"]["annotations"] = {**notes, FOUND_BY_UPGRADE: "true"}

        edit(h.server, NODE, "n1", waits, manager="gpu-operator")
        done = await h.holds().release("n1", by=REPAIR)
        assert (done.state, done.is_cordoned) == (HoldState.FREE, cordoned)
        assert (FOUND_BY_UPGRADE in h.node().annotations) is cordoned
        assert (await h.holds().release("n1", by=REPAIR)).state is HoldState.FREE

    hall(case)
