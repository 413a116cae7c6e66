"""Nodes and pods of a hall, beside the in-memory API server and what else runs in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from control_plane.core.cluster import NODE, PDB, POD, Cluster, Object, Rejected
from control_plane.core.node_drain import DrainOrder
from control_plane.core.node_hold import Node, NodeHold, node_in
from control_plane.core.node_pods import DrainPolicy
from control_plane.kube.node_drain import NodeDrain
from control_plane.kube.node_hold import NodeHolds
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_controllers import Controllers, edit
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual, seeded

HORIZON_S = 100_000.0
JOBS = "jobs"
"""Namespace of the tenants."""
REPAIR = "repair-n1"
"""Who holds and drains."""
CAREFUL = DrainPolicy()
FORCEFUL = DrainPolicy(disable_eviction_when_unsafe=True)


def node_body(name: str, **meta: Any) -> dict[str, Any]:
    """A node as it is sent."""
    meta = {"name": name, **meta}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}}


def pod_body(
    name: str,
    namespace: str,
    node: str,
    *,
    owner: str = "ReplicaSet",
    labels: dict[str, str] | None = None,
    empty_dir: bool = False,
    grace_s: int = 30,
    **meta: Any,
) -> dict[str, Any]:
    """A pod as it is sent: bound, made by a controller of the kind `owner` where one is named."""
    reference = {
        "apiVersion": "apps/v1", "kind": owner, "name": f"{owner.lower()}-1", "uid": f"uid-{owner}",
        "controller": True,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels or {},
            **({"ownerReferences": [reference]} if owner else {}),
            **meta,
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": grace_s,
            "containers": [{"name": "main", "image": "train"}],
            **({"volumes": [{"name": "scratch", "emptyDir": {}}]} if empty_dir else {}),
        },
    }


def budget_body(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A PodDisruptionBudget as it is sent, over pods labelled `app: train`."""
    return {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "train"}}, **spec},
    }  # fmt: skip


async def started(
    cluster: Cluster, body: dict[str, Any], *, phase: str = "Running", is_ready: bool = True
) -> Object:
    """Make a pod, and let its kubelet say how it is."""
    for _ in range(100):
        try:
            await cluster.create(POD, body)
            break
        except Rejected as error:
            # A namespace that was made a moment ago has no service account yet.
            if "serviceaccount" not in str(error):
                raise
            await asyncio.sleep(0.2)
    ready = {"type": "Ready", "status": "True" if is_ready else "False"}
    told = {
        **{key: body[key] for key in ("apiVersion", "kind")},
        "metadata": {key: body["metadata"][key] for key in ("name", "namespace")},
        "status": {"phase": phase, "conditions": [ready] if phase == "Running" else []},
    }
    return await cluster.apply(POD, told, manager="kubelet", subresource="status")


@dataclass(kw_only=True)
class Hall:
    """A cluster in memory, and one client of it that leads."""

    loop: VirtualLoop
    clock: VirtualClock
    server: ApiServer
    rest: Controllers
    client: ApiClient
    leads: bool = True
    made: list[str] = field(default_factory=list)

    def another(self) -> ApiClient:
        """Another line to the same server."""
        return ApiClient(self.server, self.clock)

    async def have(self, *names: str) -> None:
        """Nodes."""
        for name in names or ("n1",):
            await self.client.create(NODE, node_body(name))

    async def pod(self, name: str, node: str = "n1", **more: Any) -> Object:
        """A pod that runs, or is what `phase` says."""
        told = {key: more.pop(key) for key in ("phase", "is_ready") if key in more}
        return await started(self.client, pod_body(name, JOBS, node, **more), **told)

    async def budget(self, name: str, **spec: Any) -> None:
        """A budget, once it was counted."""
        await self.client.create(PDB, budget_body(name, JOBS, **spec))
        await asyncio.sleep(1.0)

    def node(self, name: str = "n1") -> Node:
        """As the server has it."""
        return node_in(self.server.get(NODE, name))

    def there(self, node: str = "n1") -> list[str]:
        """Names of the pods on a node, ending ones too."""
        page = self.server.list_page(
            POD, lambda _each: True, limit=10_000, page="", says_remaining=False
        )
        return [pod.metadata.name for pod in page.items if f'"{node}"'.encode() in bytes(pod.spec)]

    def cordon(self, name: str = "n1", *, whether: bool = True) -> None:
        """`kubectl cordon` and `uncordon`, which do nothing where it is so already."""
        if self.node(name).is_cordoned != whether:

            def change(body: Any) -> None:
                body["spec"]["unschedulable"] = whether
                if not whether:
                    del body["spec"]["unschedulable"]

            edit(self.server, NODE, name, change, manager="kubectl-cordon")

    def taint(self, name: str, *taints: dict[str, str]) -> None:
        """Somebody else adds taints."""

        def change(body: Any) -> None:
            body["spec"]["taints"] = [*body["spec"].get("taints", []), *taints]

        edit(self.server, NODE, name, change, manager="kubectl")

    def holds(self, client: Cluster | None = None) -> NodeHolds:
        """The actuator."""
        return NodeHolds(client or self.client, may_write=lambda: self.leads)

    async def hold(self, name: str = "n1", by: str = REPAIR) -> None:
        """Hold a node."""
        await self.holds().hold(name, held(self.clock, by))

    def drain(
        self,
        policy: DrainPolicy = CAREFUL,
        *,
        name: str = "n1",
        by: str = REPAIR,
        lasts_s: float = 600.0,
        is_unsafe: bool = False,
        client: Cluster | None = None,
    ) -> NodeDrain:
        """One drain."""
        order = DrainOrder(node=name, by=by, policy=policy, lasts_s=lasts_s, is_unsafe=is_unsafe)
        return NodeDrain(
            client or self.client, order, clock=self.clock, rng=seeded(name),
            may_write=lambda: self.leads,
        )  # fmt: skip


def held(clock: VirtualClock, by: str = REPAIR, *, lasts_s: float | None = None) -> NodeHold:
    """A hold that begins now."""
    now_s = clock.wall_s()
    until_s = None if lasts_s is None else now_s + lasts_s
    return NodeHold(by=by, why="XID 79 on 0000:0F:00.0", since_s=now_s, until_s=until_s)


def hall(case: Callable[[Hall], Coroutine[Any, Any, None]], *, scale: float = 1.0) -> None:
    """Run a case in virtual time."""

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop, scale=scale)
        # Controllers of pods are names here: nothing would be left of their pods.
        server = ApiServer(clock, collects=False)
        rest = Controllers(server)
        await case(
            Hall(
                loop=loop, clock=clock, server=server, rest=rest,
                client=ApiClient(server, clock),
            )
        )  # fmt: skip

    run_virtual(main, horizon_s=HORIZON_S)
