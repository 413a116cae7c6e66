"""Labels and taints from the declaration: corrected where they drifted, others' untouched."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.core.cluster import NODE
from control_plane.core.errors import FenceLost
from control_plane.core.fleet import DeviceKind
from control_plane.core.node_hold import TAINT, Taint, missing_in
from control_plane.core.node_labels import FEED, RACK, ROLE, SITE, gpu_node_labels, with_taints
from control_plane.inventory.load import load
from control_plane.kube.node_labels import Labelled, NodeLabels
from control_plane.simulator.api_controllers import edit
from tests.kube.nodes import Hall, hall, node_body
from tests.stock import ROOT

DECLARED = {SITE: "ga-macon", RACK: "gpu-r1", FEED: "hall-1", ROLE: "gpu"}
OURS = Taint(key="gridplane.dev/role", value="gpu", effect="NoSchedule")
KEYS = frozenset({OURS.key})


def labels(h: Hall) -> NodeLabels:
    return NodeLabels(h.client, may_write=lambda: h.leads)


def written(h: Hall) -> int:
    return h.client.calls["apply", "Node"]


def test_a_node_gets_what_is_declared_and_is_then_only_read() -> None:
    async def case(h: Hall) -> None:
        await h.client.create(NODE, node_body("n1", labels={"nvidia.com/gpu.count": "8"}))
        done = await labels(h).keep("n1", DECLARED, taints=[OURS], taint_keys=KEYS)
        assert done == Labelled(labels=frozenset(DECLARED), taints=True)
        node = h.node()
        assert node.labels == {**DECLARED, "nvidia.com/gpu.count": "8"}
        assert node.taints == (OURS,)
        before = written(h)
        assert await labels(h).keep("n1", DECLARED, taints=[OURS], taint_keys=KEYS) == Labelled()
        assert written(h) == before

    hall(case)


def test_what_somebody_changed_is_corrected_and_what_is_theirs_stays() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await labels(h).keep("n1", DECLARED, taints=[OURS], taint_keys=KEYS)
        theirs = {"key": "example.com/theirs", "effect": "NoExecute"}

        def change(body: dict[str, Any]) -> None:
            body["metadata"]["labels"] |= {RACK: "elsewhere", "example.com/theirs": "1"}
            body["spec"]["taints"] = [
                {"key": OURS.key, "value": "x", "effect": "NoSchedule"},
                theirs,
            ]

        edit(h.server, NODE, "n1", change, manager="ann")
        done = await labels(h).keep("n1", DECLARED, taints=[OURS], taint_keys=KEYS)
        assert done == Labelled(labels=frozenset({RACK}), taints=True)
        node = h.node()
        assert node.labels == {**DECLARED, "example.com/theirs": "1"}
        assert set(node.taints) == {OURS, Taint(key="example.com/theirs", effect="NoExecute")}

    hall(case)


def test_a_label_that_is_declared_no_more_goes_whoever_set_it_first() -> None:
    async def case(h: Hall) -> None:
        # As the machine joined: by kubectl, which goes on owning it.
        await h.client.create(NODE, node_body("n1", labels={**DECLARED, "theirs": "1"}))
        await labels(h).keep("n1", DECLARED)
        less = {name: value for name, value in DECLARED.items() if name != RACK}
        assert (await labels(h).keep("n1", less)).labels == {RACK}
        assert h.node().labels == {**less, "theirs": "1"}

    hall(case)


def test_taints_and_holds_do_not_lose_each_other() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await labels(h).keep("n1", DECLARED, taints=[OURS], taint_keys=KEYS)
        await h.hold()
        await labels(h).keep("n1", {}, taints=[], taint_keys=KEYS)
        assert missing_in(h.node()) == ()
        assert OURS not in h.node().taints
        await labels(h).keep("n1", DECLARED, taints=[OURS], taint_keys=KEYS)
        await h.holds().release("n1", by="repair-n1")
        assert {taint.key for taint in h.node().taints} - {
            "node.kubernetes.io/unschedulable"
        } == KEYS
        await labels(h).keep("n1", DECLARED, taints=[], taint_keys=KEYS)
        assert OURS not in h.node().taints
        with pytest.raises(ValueError, match=TAINT):
            await labels(h).keep("n1", {}, taint_keys=frozenset({TAINT}))

    hall(case)


def test_without_the_fence_or_a_node_nothing_is_written() -> None:
    async def case(h: Hall) -> None:
        assert not (await labels(h).keep("n1", DECLARED)).is_there
        await h.have()
        h.leads = False
        with pytest.raises(FenceLost):
            await labels(h).keep("n1", DECLARED)
        assert written(h) == 0

    hall(case)


def test_every_gpu_node_of_the_inventory_knows_what_it_is_lost_with() -> None:
    fleet = load(ROOT / "inventory").fleet
    assert fleet is not None
    there = [
        gpu_node_labels(site, device)
        for site in fleet.sites.values()
        for device in site.devices
        if device.type.kind is DeviceKind.GPU_NODE
    ]
    assert there
    for each in there:
        assert each["topology.kubernetes.io/zone"] == each[RACK]
        assert all(each.values())


@pytest.mark.parametrize(
    ("there", "declared", "want"),
    [
        ((), (), None),
        ((OURS,), (OURS,), None),
        ((Taint(key="a"), OURS), (OURS,), None),
        ((), (OURS,), (OURS,)),
        ((OURS, Taint(key="a")), (), (Taint(key="a"),)),
        ((Taint(key=OURS.key, value="x", effect="NoSchedule"),), (OURS,), (OURS,)),
    ],
)
def test_taints_are_replaced_key_by_key(
    there: tuple[Taint, ...], declared: tuple[Taint, ...], want: tuple[Taint, ...] | None
) -> None:
    async def case(h: Hall) -> None:
        await h.have()
        if there:
            h.taint("n1", *({"key": t.key, "value": t.value, "effect": t.effect} for t in there))
        assert with_taints(h.node(), declared, KEYS) == want

    hall(case)
