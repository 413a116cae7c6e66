"""Labels of GPU nodes: kept as declared and as our holds have them, at a pace, and never against a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.core import limits
from control_plane.core.cluster import NODE, ClusterAway, Rejected
from control_plane.core.errors import FenceLost
from control_plane.core.gpu_life import Life, Record
from control_plane.core.node_hold import (
    LABELS,
    MANAGED_BY_NVSENTINEL,
    SKIP_DRIVER_UPGRADE,
    TAINT,
    NodeHold,
    hold_in,
    missing_in,
)
from control_plane.core.node_labels import RACK, SITE, gpu_node_labels
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine.store import Store
from control_plane.kube.gpu_marks import KNOWN, Marks
from control_plane.kube.gpu_rounds import Duty
from control_plane.kube.gpu_sight import place_of
from control_plane.kube.gpu_view import BY, NodeFacts, facts_of
from control_plane.simulator.api_client import Call
from control_plane.simulator.api_controllers import edit
from tests.kube.nodes import Hall, hall, node_body
from tests.kube.remedies import ONE
from tests.kube.speaking import lab

SITE_ = lab()
PLACE = place_of(SITE_)
DECLARED = gpu_node_labels(SITE_, PLACE.devices[ONE])


class Looking:
    """The labels of one tenure, over nodes as they are at each look."""

    def __init__(self, h: Hall) -> None:
        self.h, self.store, self.said = h, Store(None), list[str]()
        self.facts: dict[str, NodeFacts] = {}

        def say(text: str, /, **_: object) -> None:
            self.said.append(text)

        async def durable() -> None:
            raise AssertionError

        duty = Duty(
            store=self.store, durable=durable, declared=lambda: SITE_, may_act=lambda: h.leads
        )
        self.marks = Marks(duty, self.facts, h.client, clock=h.clock, say=say)

    async def look(self, life: Life = Life.READY) -> None:
        self.facts[ONE] = facts_of(self.h.server.get(NODE, ONE))
        record = Record(node=ONE, slot="lab-g1/1", life=life, since_s=0.0)
        await self.marks.look(PLACE, {ONE: record})

    def labels(self) -> Mapping[str, str]:
        return self.h.node(ONE).labels

    def write(self, **labels: str | None) -> None:
        """As `kubectl label --overwrite` does."""

        def change(node: dict[str, Any]) -> None:
            there = node["metadata"].setdefault("labels", {})
            for name, value in labels.items():
                if value is None:
                    del there[name]
                else:
                    there[name] = value

        edit(self.h.server, NODE, ONE, change, manager="kubectl-label")

    def told(self) -> list[str]:
        """Events of the node, in order."""
        return [event.text for _, event in self.store.events(ONE, limit=100)][::-1]

    @property
    def written(self) -> int:
        return self.h.client.calls["apply", "Node"]

    async def hold(self) -> None:
        hold = NodeHold(by=BY, why="xid 79", since_s=self.h.clock.wall_s())
        await self.h.holds().hold(ONE, hold)


async def looking(h: Hall) -> Looking:
    await h.client.create(NODE, node_body(ONE, labels={"nvidia.com/gpu.count": "8"}))
    return Looking(h)


# --- labels of the declaration ----------------------------------------------------------------------


def test_a_node_gets_its_labels_once_and_costs_nothing_then() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        await one.look()
        assert one.labels() == {**DECLARED, "nvidia.com/gpu.count": "8"}
        assert one.told() == [f"labels as declared: {', '.join(sorted(DECLARED))}"]
        before = h.client.calls.total()
        for _ in range(100):
            await one.look()
        assert h.client.calls.total() == before
        assert one.said == [], "it is nothing that somebody has to look at"

    hall(case)


@pytest.mark.parametrize("life", Life)
def test_only_a_machine_that_is_what_is_declared_is_labelled(life: Life) -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        await one.look(life)
        assert (RACK in one.labels()) is (life in KNOWN)
        assert Life.BOM_MISMATCH not in KNOWN
        await one.marks.look(PLACE, {})

    hall(case)


def test_whoever_keeps_writing_over_a_label_is_named_and_not_fought() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        for value in ("elsewhere", "there", "nowhere"):
            await one.look()
            one.write(**{RACK: value})
        for _ in range(10):
            await one.look()
        assert one.labels()[RACK] == "nowhere"
        assert one.written == limits.REDRIFTS_TO_CONTEST
        assert len(one.told()) == one.written + 1
        [said] = one.said
        assert "somebody keeps writing over" in said
        await h.clock.sleep(limits.REDRIFT_WINDOW_S + 1.0)
        await one.look()
        assert one.labels()[RACK] == DECLARED[RACK], "a day later it is tried again"

    hall(case)


def test_a_node_that_was_made_anew_begins_anew() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        for _ in range(5):
            await one.look()
            assert one.labels()[SITE] == "lab"
            h.server.delete(NODE, ONE)
            await h.client.create(NODE, node_body(ONE))
        assert one.said == []

    hall(case)


def test_nothing_is_written_under_a_persons_hold_or_where_the_site_is_only_observed() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        h.leads = False
        await one.look()
        h.leads = True
        held = Overlay(
            id="hands", owner="ann", reason="hands in it", kind=OverlayKind.SAFETY_HOLD, node=ONE,
            since_s=0.0,
        )  # fmt: skip
        one.store.put_overlay(held)
        await one.look()
        assert one.written == 0
        assert one.labels() == {"nvidia.com/gpu.count": "8"}

    hall(case)


def test_a_server_that_refuses_is_not_asked_again_at_once_and_a_lost_fence_ends_it() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)

        def refuse(call: Call) -> None:
            if call.verb == "apply":
                raise Rejected("nodes is forbidden")

        h.client.faults.before = refuse
        for _ in range(10):
            await one.look()
        assert one.said == [f"{ONE}: its labels: nodes is forbidden"]
        await h.clock.sleep(limits.NODE_LABELS_AGAIN_S)

        def lose(call: Call) -> None:
            if call.verb == "apply":
                raise ClusterAway("the line broke")

        h.client.faults.before, h.client.faults.after = None, lose
        await one.look()
        assert one.labels()[RACK] == DECLARED[RACK], "it was done all the same"
        h.client.faults.after = None
        await h.clock.sleep(limits.NODE_LABELS_AGAIN_S)
        one.write(**{RACK: "elsewhere"})

        def goes(call: Call) -> None:
            h.leads = call.verb != "get"

        h.client.faults.before = goes
        with pytest.raises(FenceLost):
            await one.look()
        assert one.labels()[RACK] == "elsewhere"

    hall(case)


# --- labels of our holds ------------------------------------------------------------------------------


@pytest.mark.parametrize("label", sorted(LABELS))
@pytest.mark.parametrize("value", ["other", None])
def test_a_label_of_our_hold_that_somebody_wrote_over_is_put_back(
    label: str, value: str | None
) -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        await one.hold()
        since = hold_in(h.node(ONE))
        one.write(**{label: value})
        await one.look(Life.BOM_MISMATCH)
        assert missing_in(h.node(ONE)) == ()
        assert hold_in(h.node(ONE)) == since, "it is the same hold"
        assert one.told() == [f"labels of our hold were overwritten, and are put back: {label}"]

    hall(case)


def test_who_writes_over_them_again_and_again_is_told_once_and_never_wins() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        await one.look()
        await one.hold()
        written = one.written
        for _ in range(60):
            one.write(**{SKIP_DRIVER_UPGRADE: "false"})
            await one.look()
            await h.clock.sleep(10.0)
        await one.look()
        assert one.labels()[SKIP_DRIVER_UPGRADE] == "true"
        assert 10 <= one.written - written <= 11, "once a minute"
        assert len(one.told()) == 1 + limits.REDRIFTS_TO_CONTEST + 1
        [said] = one.said
        assert "find out who" in said

    hall(case)


def test_a_hold_that_a_person_took_apart_or_that_is_anothers_is_left() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        await one.look()
        await one.hold()
        h.cordon(ONE, whether=False)
        one.write(**{MANAGED_BY_NVSENTINEL: "true"})
        written = one.written
        await one.look()
        assert one.written == written
        await h.holds().release(ONE, by=BY)
        await h.holds().hold(ONE, NodeHold(by="curtailment", why="grid", since_s=h.clock.wall_s()))
        one.write(**{MANAGED_BY_NVSENTINEL: "true"})
        written = one.written
        await one.look()
        assert one.written == written

    hall(case)


def test_a_hold_that_ended_since_the_watch_told_is_not_begun_again() -> None:
    async def case(h: Hall) -> None:
        one = await looking(h)
        await one.look()
        await one.hold()
        one.write(**{SKIP_DRIVER_UPGRADE: "false"})
        one.facts[ONE] = facts_of(h.server.get(NODE, ONE))
        await h.holds().release(ONE, by=BY)
        record = Record(node=ONE, slot="lab-g1/1", life=Life.DRAINING, since_s=0.0)
        await one.marks.look(PLACE, {ONE: record})
        node = h.node(ONE)
        assert hold_in(node) is None
        assert TAINT not in {taint.key for taint in node.taints}
        assert not node.is_cordoned

    hall(case)
