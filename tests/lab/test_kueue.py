"""Kueue's own controller obeys the words that we write into a ClusterQueue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from control_plane.core.kueue import Queue, StopPolicy
from control_plane.kube.client import connect, kubeconfig
from control_plane.kube.kueue import QueueRefused, Queues
from control_plane.lab.api import ApiLab
from tests.lab import kueue
from tests.lab.cluster import Cluster as Kubectl
from tests.lab.machines import until

pytestmark = [pytest.mark.lab("kueue"), pytest.mark.slow]
WATTS, FLAVOR, QUEUE = "gridplane.dev/watts", "h200", "training"
JOB_W = 30_000
BY = "site-power"
T = TypeVar("T")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """An API server of its own with Kueue, a node that bears 80 kW, and a queue of as much."""
    lab = ApiLab(tmp_path_factory.mktemp("kueue") / "api")
    try:
        lab.up()
        kueue.start(lab)
        cluster = Kubectl(lab.kubeconfig)
        cluster.run("create", "-f", "-", stdin=json.dumps(node()))
        for thing in queue():
            cluster.apply(thing)
        until(lambda: conditions(cluster, "clusterqueue", QUEUE).get("Active") == "True")
        yield cluster
    finally:
        lab.down()


def node() -> dict[str, Any]:
    capacity = {"cpu": "192", "memory": "2Ti", "pods": "110", WATTS: "80000"}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "gpu-1", "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": capacity, "allocatable": capacity},
    }  # fmt: skip


def queue() -> Iterator[dict[str, Any]]:
    of = "kueue.x-k8s.io/v1beta2"
    yield {"apiVersion": of, "kind": "ResourceFlavor", "metadata": {"name": FLAVOR}}
    watts = {"name": WATTS, "nominalQuota": "80k"}
    groups = [{"coveredResources": [WATTS], "flavors": [{"name": FLAVOR, "resources": [watts]}]}]
    yield {
        "apiVersion": of, "kind": "ClusterQueue", "metadata": {"name": QUEUE},
        "spec": {"namespaceSelector": {}, "resourceGroups": groups},
    }  # fmt: skip
    yield {
        "apiVersion": of, "kind": "LocalQueue",
        "metadata": {"name": QUEUE, "namespace": "default"}, "spec": {"clusterQueue": QUEUE},
    }  # fmt: skip


def job(name: str) -> dict[str, Any]:
    """Work of 30 kW that goes on until it is ended."""
    watts = {WATTS: str(JOB_W)}
    container = {
        "name": "main",
        "image": "train",
        "resources": {"requests": watts, "limits": watts},
    }
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "labels": {"kueue.x-k8s.io/queue-name": QUEUE}},
        "spec": {
            "template": {
                "metadata": {"annotations": {"lab.gridplane.dev/goes-on": "true"}},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }  # fmt: skip


def conditions(cluster: Kubectl, kind: str, name: str) -> dict[str, str]:
    told = cluster.json("get", kind, name).get("status", {}).get("conditions", ())
    return {one["type"]: one["status"] for one in told}


def running(cluster: Kubectl) -> set[str]:
    """Jobs that have a pod which runs."""
    pods = cluster.json("get", "pods")["items"]
    return {
        pod["metadata"]["labels"]["job-name"]
        for pod in pods
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


def speak(path: Path, ask: Callable[[Queues], Awaitable[T]]) -> T:
    async def main() -> T:
        async with connect(kubeconfig(path)) as client:
            return await ask(Queues(client, may_write=lambda: True))

    return asyncio.run(main())


def look(cluster: Kubectl) -> Queue:
    return speak(cluster.kubeconfig, lambda queues: queues.look(QUEUE))


def used_w(cluster: Kubectl) -> int | None:
    used = look(cluster).quotas[FLAVOR, WATTS].used
    return None if used is None else int(used)


def test_watts_of_a_queue_are_lowered_drained_and_given_back(site: Kubectl) -> None:
    for name in ("a", "b", "c"):
        site.run("create", "-f", "-", stdin=json.dumps(job(name)))
        until(lambda: len(running(site)) == min(2, ord(name) - ord("a") + 1))  # noqa: B023
    # Two of 30 kW go into 80 kW; its own webhook has suspended all three before any pod was made.
    assert running(site) == {"a", "b"}
    until(lambda: used_w(site) == 2 * JOB_W)
    assert site.json("get", "job", "c")["spec"]["suspend"] is True

    async def lower(queues: Queues) -> None:
        done = await queues.lower(QUEUE, FLAVOR, WATTS, to=40_000, by=BY, why="a feeder is hot")
        assert (int(done.before), int(done.after)) == (80_000, 40_000)
        with pytest.raises(QueueRefused, match="other side"):
            await queues.lower(QUEUE, FLAVOR, WATTS, to=60_000, by=BY, why="no raise by that name")

    speak(site.kubeconfig, lower)
    until(lambda: conditions(site, "clusterqueue", QUEUE).get("Active") == "True")
    # A quota that is lowered evicts nothing: what runs above it is told as used.
    assert (running(site), used_w(site)) == ({"a", "b"}, 2 * JOB_W)
    assert not look(site).is_empty

    async def drain(queues: Queues) -> None:
        now = await queues.stop(QUEUE, StopPolicy.HOLD_AND_DRAIN, by=BY, why="the grid calls")
        assert now.stop is StopPolicy.HOLD_AND_DRAIN

    speak(site.kubeconfig, drain)
    until(lambda: look(site).is_empty)
    until(lambda: used_w(site) == 0)
    until(lambda: running(site) == set())
    evicted = [
        one["metadata"]["ownerReferences"][0]["name"]
        for one in site.json("get", "workloads")["items"]
        if any(
            c["type"] == "Evicted" and c["reason"] == "ClusterQueueStopped"
            for c in one["status"]["conditions"]
        )
    ]
    assert sorted(evicted) == ["a", "b"]
    assert all(each["spec"]["suspend"] for each in site.json("get", "jobs")["items"])

    async def resume(queues: Queues) -> None:
        assert (await queues.resume(QUEUE, by=BY)).stop is StopPolicy.NONE

    speak(site.kubeconfig, resume)
    until(lambda: len(running(site)) == 1)
    until(lambda: used_w(site) == JOB_W)

    async def again(queues: Queues) -> None:
        await queues.stop(QUEUE, StopPolicy.HOLD, by=BY, why="no more for now")
        done = await queues.raise_quota(QUEUE, FLAVOR, WATTS, to=80_000, by=BY, why="it is cool")
        assert int(done.after) == 80_000

    # What is held lets what runs run on, and nothing new in, whatever its quota.
    speak(site.kubeconfig, again)
    until(lambda: look(site).is_seen)
    one = running(site)
    assert (len(one), look(site).is_empty) == (1, False)
    speak(site.kubeconfig, resume)
    until(lambda: len(running(site)) == 2)
    assert one < running(site)


def test_whoever_had_a_queue_on_hold_has_it_on_hold_again(site: Kubectl) -> None:
    name = "parked"
    [parked] = [one for one in queue() if one["kind"] == "ClusterQueue"]
    site.apply(
        {**parked, "metadata": {"name": name}, "spec": {**parked["spec"], "stopPolicy": "Hold"}}
    )

    async def case(queues: Queues) -> None:
        done = await queues.lower(name, FLAVOR, WATTS, to=40_000, by=BY, why="test")
        assert [int(done.before), int(done.after)] == [80_000, 40_000]
        now = await queues.stop(name, StopPolicy.HOLD_AND_DRAIN, by=BY, why="test")
        assert now.stop is StopPolicy.HOLD_AND_DRAIN
        assert (await queues.resume(name, by=BY)).stop is StopPolicy.HOLD
        assert (await queues.look(name)).quotas[FLAVOR, WATTS].nominal == 40_000

    speak(site.kubeconfig, case)
    until(lambda: speak(site.kubeconfig, lambda queues: queues.look(name)).is_empty)
