"""Holds and drains on the real API server, its scheduler and budgets, with kwok for the kubelets."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.core.cluster import NODE, POD, Cluster, Kind, NotFound, Rejected
from control_plane.core.external_remediation import RELEASED, REQUEST, Answer, request_in
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.node_drain import DrainOrder, DrainState
from control_plane.core.node_hold import NodeHold, missing_in, node_in
from control_plane.core.node_pods import DrainPolicy
from control_plane.engine.adapters import SystemClock
from control_plane.kube.client import connect, kubeconfig
from control_plane.kube.external_remediation import ExternalRemediations
from control_plane.kube.listing import list_all
from control_plane.kube.node_conditions import NodeConditions
from control_plane.kube.node_drain import NodeDrain, evidence, forget
from control_plane.kube.node_hold import HoldState, NodeHolds
from control_plane.kube.node_labels import NodeLabels
from tests.lab.cluster import Cluster as Kubectl
from tests.stock import ROOT

pytestmark = pytest.mark.lab
BY = "repair"


def node(name: str) -> dict[str, Any]:
    capacity = {"cpu": "192", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": "8"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"test": name.rpartition("-")[0], "nvidia.com/gpu.present": "true"},
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def deployment(namespace: str, replicas: int) -> dict[str, Any]:
    labels = {"app": "train"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "train", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"test": namespace},
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{"name": "main", "image": "train"}],
                },
            },
        },
    }


def budget(namespace: str, least: int) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "train", "namespace": namespace},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "train"}}},
    }


@pytest.fixture
def two(cluster: Kubectl) -> Iterator[tuple[str, str]]:
    """Two nodes that nobody else's pods are scheduled to, and four pods on them."""
    names = (f"{cluster.namespace}-a", f"{cluster.namespace}-b")
    for name in names:
        cluster.run("create", "-f", "-", stdin=json.dumps(node(name)))
    for name in names:
        cluster.wait("condition=Ready", f"node/{name}")
    cluster.apply(deployment(cluster.namespace, 4))
    cluster.rolled_out("train")
    yield names
    cluster.run("delete", "deployment", "train", "--wait=false")
    cluster.run("delete", "node", *names)


def on(cluster: Kubectl, name: str) -> list[str]:
    pods = cluster.json("get", "pods", f"--field-selector=spec.nodeName={name}")["items"]
    return [pod["metadata"]["name"] for pod in pods]


def speak(path: Path, ask: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connect(kubeconfig(path)) as client:
            await ask(client)

    asyncio.run(main())


def drain(client: Cluster, name: str, *, lasts_s: float = 120.0, **policy: bool) -> NodeDrain:
    order = DrainOrder(node=name, by=BY, policy=DrainPolicy(**policy), lasts_s=lasts_s)
    return NodeDrain(
        client, order, clock=SystemClock(), rng=random.Random(0), may_write=lambda: True
    )


async def hold(client: Cluster, name: str) -> NodeHolds:
    holds = NodeHolds(client, may_write=lambda: True)
    since_s = SystemClock().wall_s()
    done = await holds.hold(name, NodeHold(by=BY, why="XID 79", since_s=since_s))
    assert done.state is HoldState.HELD
    return holds


def test_a_node_is_held_drained_and_in_service_again(
    cluster: Kubectl, two: tuple[str, str]
) -> None:
    first, second = two
    cluster.apply(budget(cluster.namespace, 3))

    async def case(client: Cluster) -> None:
        holds = await hold(client, first)
        done = await drain(client, first).run()
        assert done.state is DrainState.DRAINED, done.detail
        assert on(cluster, first) == []
        clock = SystemClock()
        found = await evidence(client, clock, first, by=BY, policy=DrainPolicy())
        assert found is not None
        now = await holds.release(first, by=BY)
        await forget(client, first, may_write=lambda: True)
        assert (now.state, now.is_cordoned) == (HoldState.FREE, False)
        left = node_in(await client.get(NODE, first))
        assert not [name for name in left.annotations if name.startswith("gridplane.dev/")]

    speak(cluster.kubeconfig, case)
    assert len(on(cluster, second)) == 4
    cluster.wait("condition=Ready", f"node/{first}")


def test_a_budget_that_never_allows_it_ends_nothing(cluster: Kubectl, two: tuple[str, str]) -> None:
    first, _ = two
    cluster.apply(budget(cluster.namespace, 4))
    before = on(cluster, first)
    assert before

    async def case(client: Cluster) -> None:
        await hold(client, first)
        done = await drain(client, first, lasts_s=15.0).run()
        assert done.state is DrainState.WAITING_HUMAN
        assert "needs 4 healthy pods" in done.detail

    speak(cluster.kubeconfig, case)
    assert on(cluster, first) == before


def test_what_people_do_with_kubectl_is_never_undone(
    cluster: Kubectl, two: tuple[str, str]
) -> None:
    first, second = two
    cluster.run("cordon", first)

    async def case(client: Cluster) -> None:
        for name in two:
            await hold(client, name)
        holds = NodeHolds(client, may_write=lambda: True)
        # `first` was cordoned before: it still is, and kubectl alone ends it.
        assert (await holds.release(first, by=BY)).is_cordoned
        cluster.run("uncordon", first)
        assert not node_in(await client.get(NODE, first)).is_cordoned
        # `second` is let go under our hold: that is told, and nothing is ended there.
        cluster.run("uncordon", second)
        done = await drain(client, second).run()
        assert done.state is DrainState.WAITING_HUMAN
        assert "cordon" in done.detail
        now = await holds.look(second, by=BY)
        assert now.state is HoldState.CONTESTED
        await holds.release(second, by=BY)
        assert missing_in(node_in(await client.get(NODE, second)))

    speak(cluster.kubeconfig, case)


def test_labels_and_conditions_beside_those_of_a_kubelet(
    cluster: Kubectl, two: tuple[str, str]
) -> None:
    first, _ = two
    alert = Alert(kind=AlertKind.XID, rung=Rung.REBOOT, since_s=0.0, gpu="00000000:0F:00.0", xid=79)

    async def case(client: Cluster) -> None:
        labels = NodeLabels(client, may_write=lambda: True)
        cluster.run("label", "node", first, "gridplane.dev/rack=elsewhere", "gridplane.dev/feed=f1")
        done = await labels.keep(first, {"gridplane.dev/rack": "r1"})
        assert done.labels == {"gridplane.dev/rack", "gridplane.dev/feed"}
        found = node_in(await client.get(NODE, first)).labels
        assert found["gridplane.dev/rack"] == "r1"
        assert "gridplane.dev/feed" not in found
        assert found["nvidia.com/gpu.present"] == "true"
        said = NodeConditions(client, clock=SystemClock(), may_write=lambda: True)
        assert await said.tell(first, [alert])
        assert not await said.tell(first, [alert])

    speak(cluster.kubeconfig, case)
    cluster.wait("condition=GridplaneGpuErrors=True", f"node/{first}")
    cluster.wait("condition=Ready", f"node/{first}")


def test_the_role_is_enough_and_ends_no_pod_by_force(
    cluster: Kubectl, two: tuple[str, str], tmp_path: Path
) -> None:
    first, _ = two
    documents = yaml.safe_load_all((ROOT / "manifests/controller/rbac.yaml").read_text())
    for one in documents:
        if one["kind"] == "ClusterRole":
            cluster.apply(one)
    cluster.run("create", "serviceaccount", "nodes")
    who = f"{cluster.namespace}:nodes"
    cluster.run(
        "create", "clusterrolebinding", cluster.namespace,
        "--clusterrole=gridplane-controller-nodes", f"--serviceaccount={who}",
    )  # fmt: skip
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    token = cluster.run("create", "token", "nodes")
    config["users"] = [{"name": "nodes", "user": {"token": token.strip()}}]
    config["contexts"][0]["context"]["user"] = "nodes"
    path = tmp_path / "nodes.kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")

    async def case(client: Cluster) -> None:
        holds = await hold(client, first)
        done = await drain(client, first).run()
        assert done.state is DrainState.DRAINED, done.detail
        await holds.release(first, by=BY)
        with pytest.raises(Rejected):
            await client.delete(POD, "train-1", namespace=cluster.namespace)

    try:
        speak(path, case)
    finally:
        cluster.run("delete", "clusterrolebinding", cluster.namespace)


def a_crd(kind: Kind, schema: dict[str, Any]) -> dict[str, Any]:
    """As much of somebody else's CRD as decides how the server merges: our own words, after their types."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Cluster",
            "names": {"kind": kind.kind, "plural": kind.plural},
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": schema}},
                }
            ],
        },
    }


OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
HAND_OVER = {
    "spec": OPEN,
    "status": {**OPEN, "properties": {"conditions": {"type": "array", "items": OPEN}}},
}


@pytest.fixture
def neighbours(cluster: Kubectl) -> Iterator[Kubectl]:
    """A server that has the kind of NVSentinel."""
    cluster.apply(a_crd(REQUEST, HAND_OVER))
    cluster.wait("condition=Established", f"crd/{REQUEST.plural}.{REQUEST.group}")
    yield cluster
    cluster.run("delete", "crd", f"{REQUEST.plural}.{REQUEST.group}")


async def once_served(ask: Callable[[], Awaitable[Any]]) -> Any:
    """A server that has just learned a kind does not serve it for a moment."""
    for _ in range(50):
        try:
            return await ask()
        except NotFound:
            await asyncio.sleep(0.2)
    return await ask()


def test_a_hand_over_is_answered_beside_what_its_janitor_says(neighbours: Kubectl) -> None:
    name = f"extrr-{neighbours.namespace}"
    head = {"apiVersion": REQUEST.api_version, "kind": REQUEST.kind}
    body = {**head, "metadata": {"name": name}, "spec": {"healthEvent": {"nodeName": "n1"}}}
    released = {
        "type": RELEASED, "status": "True", "reason": "ReleaseTaintApplied", "message": "m",
        "observedGeneration": "1", "lastTransitionTime": "2026-11-01T10:00:00Z",
    }  # fmt: skip

    async def case(client: Cluster) -> None:
        made = await once_served(lambda: client.create(REQUEST, body))
        meta = {"name": name, "resourceVersion": made.metadata.resource_version}
        told = {**head, "metadata": meta, "status": {"conditions": [released]}}
        await client.replace(REQUEST, told, subresource="status")
        answers = ExternalRemediations(client, clock=SystemClock(), may_write=lambda: True)
        [mine] = [request_in(one) for one in await list_all(client, REQUEST, namespace=None)]
        assert mine.is_open
        assert await answers.progress(mine, "power cycle, attempt 1")
        assert await answers.succeeded(mine, "in service")
        now = request_in(await client.get(REQUEST, name))
        assert (now.answer, now.node) == (Answer.DONE, "n1")
        assert now.status["conditions"][0] == released
        assert not now.is_open

    speak(neighbours.kubeconfig, case)
