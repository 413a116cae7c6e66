"""What node work relies on of an API server: the same cases on the twin and on a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from control_plane.core.cluster import (
    NODE,
    PDB,
    POD,
    Cluster,
    Conflict,
    DisruptionRefused,
    NotFound,
    Object,
    Rejected,
)
from control_plane.core.node_hold import (
    LABELS,
    NodeHold,
    held_body,
    hold_in,
    missing_in,
    node_in,
    released_body,
)
from tests.kube.nodes import budget_body, node_body, pod_body, started
from tests.kube.sides import both

HOLD = NodeHold(by="repair", why="XID 79", since_s=1_800_000_000.0, until_s=1_800_003_600.0)


def of(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


async def until(cluster: Cluster, name: str, ns: str, **wanted: int) -> None:
    """Wait until a budget's status says so."""
    status: dict[str, Any] = {}
    for _ in range(150):
        status = of((await cluster.get(PDB, name, namespace=ns)).status) or {}
        if {key: status.get(key, 0) for key in wanted} == wanted:
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"budget {name}: {status}, not {wanted}")


async def train(cluster: Cluster, ns: str, name: str, **more: Any) -> Object:
    """A pod that runs on a node that no kubelet has."""
    body = pod_body(name, ns, f"nowhere-{ns}", owner="", labels={"app": "train"})
    return await started(cluster, body, **more)


@contextlib.asynccontextmanager
async def a_node(cluster: Cluster, ns: str) -> AsyncIterator[str]:
    name = f"conformance-{ns}"
    await cluster.create(NODE, node_body(name))
    try:
        yield name
    finally:
        await cluster.delete(NODE, name)


async def applied(
    cluster: Cluster, name: str, make: Callable[[Object], dict[str, Any]], **how: Any
) -> Object:
    """Read and apply, until nobody wrote in between: a real node is written to by others."""
    for _ in range(20):
        with contextlib.suppress(Conflict):
            return await cluster.apply(NODE, make(await cluster.get(NODE, name)), **how)
    pytest.fail("others never left the node alone")


# --- evictions -----------------------------------------------------------------------------------


@both
async def test_an_evicted_pod_has_its_grace(cluster: Cluster, ns: str) -> None:
    pod = await train(cluster, ns, "p1")
    await cluster.evict("p1", namespace=ns, uid=pod.metadata.uid)
    going = await cluster.get(POD, "p1", namespace=ns)
    assert going.metadata.uid == pod.metadata.uid
    assert going.metadata.deletion_timestamp
    await cluster.evict("p1", namespace=ns)
    again = await cluster.get(POD, "p1", namespace=ns)
    assert again.metadata.deletion_timestamp == going.metadata.deletion_timestamp


@both
async def test_only_the_very_same_pod_is_evicted(cluster: Cluster, ns: str) -> None:
    with pytest.raises(NotFound):
        await cluster.evict("p1", namespace=ns)
    pod = await train(cluster, ns, "p1")
    with pytest.raises(Conflict):
        await cluster.evict("p1", namespace=ns, uid="00000000-0000-4000-8000-000000000000")
    there = await cluster.get(POD, "p1", namespace=ns)
    assert (there.metadata.uid, there.metadata.deletion_timestamp) == (pod.metadata.uid, "")


@both
async def test_a_pod_without_a_node_goes_at_once(cluster: Cluster, ns: str) -> None:
    body = pod_body("p1", ns, "", owner="")
    # Nobody schedules it: the name is no scheduler's.
    spec = {key: value for key, value in body["spec"].items() if key != "nodeName"}
    await started(cluster, {**body, "spec": {**spec, "schedulerName": "nobody"}}, phase="Pending")
    await cluster.evict("p1", namespace=ns)
    with pytest.raises(NotFound):
        await cluster.get(POD, "p1", namespace=ns)


@both
async def test_a_budget_lets_go_what_it_can_spare(cluster: Cluster, ns: str) -> None:
    for name in ("p1", "p2"):
        await train(cluster, ns, name)
    await cluster.create(PDB, budget_body("b1", ns, minAvailable=2))
    await until(cluster, "b1", ns, currentHealthy=2, disruptionsAllowed=0)
    with pytest.raises(DisruptionRefused, match="b1 needs 2 healthy pods and has 2") as refused:
        await cluster.evict("p1", namespace=ns)
    assert refused.value.retry_after_s is None, "nobody knows when"
    await train(cluster, ns, "p3")
    await until(cluster, "b1", ns, currentHealthy=3, disruptionsAllowed=1)
    await cluster.evict("p1", namespace=ns)
    with pytest.raises(DisruptionRefused):
        await cluster.evict("p2", namespace=ns)
    await until(cluster, "b1", ns, currentHealthy=2, disruptionsAllowed=0)
    with pytest.raises(DisruptionRefused):
        await cluster.evict("p2", namespace=ns)


@both
async def test_a_pod_that_is_not_ready_costs_a_whole_budget_nothing(
    cluster: Cluster, ns: str
) -> None:
    await train(cluster, ns, "p1")
    await train(cluster, ns, "p2", is_ready=False)
    await cluster.create(PDB, budget_body("b1", ns, minAvailable=1))
    await until(cluster, "b1", ns, currentHealthy=1, desiredHealthy=1)
    await cluster.evict("p2", namespace=ns)
    with pytest.raises(DisruptionRefused):
        await cluster.evict("p1", namespace=ns)


@both
async def test_under_two_budgets_nobody_is_evicted(cluster: Cluster, ns: str) -> None:
    await train(cluster, ns, "p1")
    for name in ("b1", "b2"):
        await cluster.create(PDB, budget_body(name, ns, minAvailable=0))
        await until(cluster, name, ns, disruptionsAllowed=1)
    with pytest.raises(DisruptionRefused, match="more than one"):
        await cluster.evict("p1", namespace=ns)


@both
async def test_pods_of_a_node_are_selected(cluster: Cluster, ns: str) -> None:
    await train(cluster, ns, "p1")
    await started(cluster, pod_body("p2", ns, f"elsewhere-{ns}", owner=""))
    page = await cluster.list_page(POD, fields=f"spec.nodeName=nowhere-{ns}")
    assert [pod.metadata.name for pod in page.items] == ["p1"]
    with pytest.raises(Rejected):
        await cluster.list_page(POD, namespace=ns, fields="spec.nosuch=1")


# --- nodes ---------------------------------------------------------------------------------------


@both
async def test_a_hold_is_set_and_ended_by_one_request(cluster: Cluster, ns: str) -> None:
    async with a_node(cluster, ns) as name:
        made = await applied(
            cluster, name, lambda node: held_body(node_in(node), HOLD), manager="hold"
        )
        node = node_in(made)
        assert (hold_in(node), missing_in(node)) == (HOLD, ())
        freed = node_in(
            await applied(cluster, name, lambda n: released_body(node_in(n)), manager="hold")
        )
        assert hold_in(freed) is None
        assert not freed.is_cordoned
        assert not set(LABELS) & set(freed.labels)


@both
async def test_a_cordon_of_somebody_else_outlasts_a_hold(cluster: Cluster, ns: str) -> None:
    async with a_node(cluster, ns) as name:
        cordon = {**node_body(name), "spec": {"unschedulable": True}}
        await cluster.apply(NODE, cordon, manager="ann")
        for make in (lambda n: held_body(node_in(n), HOLD), lambda n: released_body(node_in(n))):
            await applied(cluster, name, make, manager="hold")
        assert node_in(await cluster.get(NODE, name)).is_cordoned
        await cluster.apply(NODE, node_body(name), manager="ann")
        assert not node_in(await cluster.get(NODE, name)).is_cordoned


@both
async def test_taints_are_one_value_and_others_are_kept(cluster: Cluster, ns: str) -> None:
    theirs = {"key": "example.com/theirs", "effect": "NoSchedule"}
    async with a_node(cluster, ns) as name:

        def add(node: Object) -> dict[str, Any]:
            now = [msgspec.to_builtins(taint) for taint in node_in(node).taints]
            meta = {"name": name, "resourceVersion": node.metadata.resource_version}
            return {**node_body(name), "metadata": meta, "spec": {"taints": [*now, theirs]}}

        await applied(cluster, name, add, manager="ann")
        for make in (lambda n: held_body(node_in(n), HOLD), lambda n: released_body(node_in(n))):
            node = node_in(await applied(cluster, name, make, manager="hold"))
            assert theirs["key"] in {taint.key for taint in node.taints}
        assert hold_in(node_in(await cluster.get(NODE, name))) is None


@both
async def test_a_node_that_changed_since_is_not_held(cluster: Cluster, ns: str) -> None:
    async with a_node(cluster, ns) as name:
        before = await cluster.get(NODE, name)
        label = {**node_body(name), "metadata": {"name": name, "labels": {"a": "1"}}}
        await cluster.apply(NODE, label, manager="ann")
        with pytest.raises(Conflict):
            await cluster.apply(NODE, held_body(node_in(before), HOLD), manager="hold")


@both
async def test_conditions_of_a_node_are_owned_one_by_one(cluster: Cluster, ns: str) -> None:
    def told(name: str, *types: str) -> dict[str, Any]:
        at = "2026-11-01T10:00:00Z"
        conditions = [
            {
                "type": one, "status": "True", "reason": "Test", "message": "because",
                "lastHeartbeatTime": at, "lastTransitionTime": at,
            }
            for one in types
        ]  # fmt: skip
        return {**node_body(name), "status": {"conditions": conditions}}

    async with a_node(cluster, ns) as name:
        for manager, types in (("a", ("GpuA", "GpuB")), ("b", ("DiskB",)), ("a", ("GpuA",))):
            await cluster.apply(NODE, told(name, *types), manager=manager, subresource="status")
        found = of((await cluster.get(NODE, name)).status)["conditions"]
        ours = {one["type"] for one in found} & {"GpuA", "GpuB", "DiskB"}
        assert ours == {"GpuA", "DiskB"}
