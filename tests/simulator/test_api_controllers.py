"""What else runs in the cluster in memory: budgets, kubelets, and the taint of a cordon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane.core.cluster import NODE, PDB, POD, DisruptionRefused
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_controllers import UNSCHEDULABLE, Controllers, edit
from control_plane.simulator.api_pods import SOON_S, BudgetStatus, budget_of
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual

NS = "jobs"


class Bench:
    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = VirtualClock(loop)
        self.server = ApiServer(self.clock, collects=False)
        self.rest = Controllers(self.server)
        self.client = ApiClient(self.server, self.clock)

    async def pod(
        self, name: str, *, owner: str = "rs", is_ready: bool = True, grace_s: int = 30
    ) -> None:
        reference = {
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True,
        }  # fmt: skip
        meta = {
            "name": name, "namespace": NS, "labels": {"app": "a"},
            **({"ownerReferences": [reference]} if owner else {}),
        }  # fmt: skip
        head = {"apiVersion": "v1", "kind": "Pod"}
        spec = {"nodeName": "n1", "terminationGracePeriodSeconds": grace_s}
        await self.client.create(POD, {**head, "metadata": meta, "spec": spec})
        ready = {"type": "Ready", "status": "True" if is_ready else "False"}
        status = {"phase": "Running", "conditions": [ready]}
        told = {**head, "metadata": {"name": name, "namespace": NS}, "status": status}
        await self.client.apply(POD, told, manager="kubelet", subresource="status")

    async def budget(self, **spec: Any) -> None:
        body = {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "b1", "namespace": NS},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, **spec},
        }  # fmt: skip
        await self.client.create(PDB, body)

    def status(self) -> BudgetStatus:
        return budget_of(self.server.get(PDB, f"{NS}/b1"))[1]

    def names(self) -> list[str]:
        page = self.server.list_page(
            POD, lambda _each: True, limit=100, page="", says_remaining=False
        )
        return [pod.metadata.name for pod in page.items]


def run(case: Callable[[Bench], Awaitable[None]]) -> None:
    async def main(loop: VirtualLoop) -> None:
        await case(Bench(loop))

    run_virtual(main, horizon_s=3_600)


@pytest.mark.parametrize(
    ("spec", "scale", "want"),
    [
        ({"minAvailable": 2}, 0, (4, 2, 3, 1)),
        ({"minAvailable": 4}, 0, (4, 4, 3, 0)),
        ({"minAvailable": "50%"}, 0, (4, 2, 3, 1)),
        ({"minAvailable": "51%"}, 0, (4, 3, 3, 0)),
        ({"minAvailable": "50%"}, 6, (6, 3, 3, 0)),
        ({"maxUnavailable": 1}, 0, (4, 3, 3, 0)),
        ({"maxUnavailable": 2}, 0, (4, 2, 3, 1)),
        ({"maxUnavailable": "50%"}, 0, (4, 2, 3, 1)),
        ({"maxUnavailable": 9}, 0, (4, 0, 3, 3)),
    ],
)
def test_a_budget_counts_what_is_ready_against_what_should_be(
    spec: dict[str, Any], scale: int, want: tuple[int, ...]
) -> None:
    async def case(b: Bench) -> None:
        b.rest.scales["rs"] = scale
        for number in range(4):
            await b.pod(f"p{number}", is_ready=number > 0)
        await b.budget(**spec)
        await asyncio.sleep(1.0)
        at = b.status()
        found = (at.expected_pods, at.desired_healthy, at.current_healthy, at.disruptions_allowed)
        assert found == want

    run(case)


def test_a_share_of_pods_that_nobody_made_allows_nothing() -> None:
    async def case(b: Bench) -> None:
        await b.pod("p1", owner="")
        await b.budget(maxUnavailable=1)
        await asyncio.sleep(1.0)
        assert b.status().disruptions_allowed == 0
        with pytest.raises(DisruptionRefused):
            await b.client.evict("p1", namespace=NS)

    run(case)


def test_a_budget_that_was_not_looked_at_yet_says_when_to_come_again() -> None:
    async def case(b: Bench) -> None:
        await b.pod("p1")
        await b.budget(minAvailable=0)
        with pytest.raises(DisruptionRefused, match="still being processed") as refused:
            await b.client.evict("p1", namespace=NS)
        assert refused.value.retry_after_s == SOON_S
        await asyncio.sleep(1.0)
        await b.client.evict("p1", namespace=NS)

    run(case)


@pytest.mark.parametrize(("policy", "goes"), [("AlwaysAllow", True), ("IfHealthyBudget", False)])
def test_what_is_not_ready_under_a_broken_budget_goes_by_its_policy(
    policy: str, *, goes: bool
) -> None:
    async def case(b: Bench) -> None:
        await b.pod("p1", is_ready=False)
        await b.budget(minAvailable=1, unhealthyPodEvictionPolicy=policy)
        await asyncio.sleep(1.0)
        if goes:
            await b.client.evict("p1", namespace=NS)
        else:
            with pytest.raises(DisruptionRefused):
                await b.client.evict("p1", namespace=NS)

    run(case)


def test_pods_end_in_their_time_and_those_of_a_silent_kubelet_never() -> None:
    async def case(b: Bench) -> None:
        b.rest.lasts.add("slow")
        for name in ("quick", "slow"):
            await b.pod(name, grace_s=20)
            await b.client.evict(name, namespace=NS)
        await asyncio.sleep(2.0)
        assert b.names() == ["slow"]
        await asyncio.sleep(20.0)
        assert b.names() == []
        b.rest.silent.add("n1")
        await b.pod("lost")
        await b.client.evict("lost", namespace=NS)
        await asyncio.sleep(600.0)
        assert b.names() == ["lost"]

    run(case)


def test_a_cordon_becomes_a_taint_and_goes_again() -> None:
    async def case(b: Bench) -> None:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}
        await b.client.create(NODE, body)

        def cordon(node: Any) -> None:
            node["spec"]["unschedulable"] = True

        def uncordon(node: Any) -> None:
            del node["spec"]["unschedulable"]

        for change, want in ((cordon, True), (uncordon, False)):
            edit(b.server, NODE, "n1", change, manager="kubectl")
            await asyncio.sleep(2.0)
            assert (UNSCHEDULABLE.encode() in bytes(b.server.get(NODE, "n1").spec)) is want

    run(case)
