"""The firmware Jobs on a real API server and its Job controller; kwok answers for the pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from control_plane.lab.nodes import FAKE
from control_plane.provision.fleet import FleetLayer, fleet_layer
from control_plane.provision.settings import Layer, Settings
from tests.lab.cluster import Cluster, Refused
from tests.provision.declared import lab

pytestmark = pytest.mark.lab


def management_node(name: str) -> dict[str, Any]:
    """A host as the cluster layer labels and taints it."""
    capacity = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": FAKE,
            "labels": {"kubernetes.io/hostname": name, "gridplane.dev/role": "management"},
        },
        "spec": {
            "taints": [{"key": "gridplane.dev/role", "value": "management", "effect": "NoSchedule"}]
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }


@pytest.fixture
def management(cluster: Cluster) -> Iterator[str]:
    name = f"mgmt-{cluster.namespace}"
    cluster.run("create", "-f", "-", stdin=json.dumps(management_node(name)))
    yield name
    cluster.run("delete", "node", name, "--wait=false")


@pytest.fixture
def layer(cluster: Cluster) -> FleetLayer:
    settings = Settings(site="lab", layer=Layer.FLEET, namespace=cluster.namespace)
    made = fleet_layer(lab(), settings, commit=None)
    cluster.run(
        "apply", "--server-side", "--field-manager=stacks", "-f", "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(made.objects)}),
    )  # fmt: skip
    return made


def open_wave(cluster: Cluster, job: str, *, manager: str = "gridplane") -> None:
    """As whoever opens a wave does: it takes the one field, and has to force that once."""
    body = {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": job, "namespace": cluster.namespace}, "spec": {"suspend": False},
    }  # fmt: skip
    apply = ("apply", "--server-side", f"--field-manager={manager}", "-f", "-")
    with pytest.raises(Refused, match=r"conflict"):
        cluster.run(*apply, stdin=json.dumps(body))
    cluster.run(*apply, "--force-conflicts", stdin=json.dumps(body))


def test_the_server_takes_what_is_declared_as_it_is(cluster: Cluster, layer: FleetLayer) -> None:
    (bundle, *_) = layer.bundles
    (*_, wave) = bundle.waves
    job = cluster.json("get", "job", wave.job["metadata"]["name"])
    sent = wave.job["spec"]
    assert {key: job["spec"][key] for key in sent if key != "template"} == {
        key: value for key, value in sent.items() if key != "template"
    }, "nothing is pruned or defaulted away"
    assert (
        job["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"]
        == (sent["template"]["spec"]["volumes"][0]["projected"]["sources"])
    )
    assert "startTime" not in job["status"]
    with pytest.raises(Refused, match="immutable"):
        cluster.run(
            "patch", "configmap", wave.shards[0]["metadata"]["name"], "--type=merge",
            "-p", '{"data":{"shard-0000.json":"{}"}}',
        )  # fmt: skip


@pytest.mark.usefixtures("management")
def test_a_wave_that_is_opened_runs_on_a_management_host_to_its_end(
    cluster: Cluster, layer: FleetLayer, management: str
) -> None:
    (first, second, *_) = (wave for bundle in layer.bundles for wave in bundle.waves)
    name = first.job["metadata"]["name"]
    open_wave(cluster, name)
    cluster.wait("condition=Complete", f"job/{name}")
    (pod,) = cluster.json("get", "pods", "-l", f"batch.kubernetes.io/job-name={name}")["items"]
    assert pod["spec"]["nodeName"] == management
    assert pod["spec"]["serviceAccountName"] == "gridplane-firmware"
    waits = cluster.json("get", "job", second.job["metadata"]["name"])
    assert waits["spec"]["suspend"] is True
    # It stays for good: what vanished would be made, and run, again.
    assert "ttlSecondsAfterFinished" not in cluster.json("get", "job", name)["spec"]


def test_a_pod_of_it_may_run_where_the_platform_is_strictest(
    cluster: Cluster, layer: FleetLayer
) -> None:
    cluster.run(
        "label", "namespace", cluster.namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    template = layer.bundles[0].waves[0].job["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {"name": "of-a-job", "labels": template["metadata"]["labels"]}
    cluster.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    pod["spec"] = {**pod["spec"], "hostNetwork": True}
    with pytest.raises(Refused, match="PodSecurity"):
        cluster.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_an_account_may_read_its_grant_and_nothing_else(
    cluster: Cluster, layer: FleetLayer
) -> None:
    assert layer.runner
    who = f"--as=system:serviceaccount:{cluster.namespace}:gridplane-firmware"

    def may(verb: str, what: str, *more: str) -> bool:
        try:
            return cluster.run("auth", "can-i", verb, what, who, *more).strip() == "yes"
        except Refused:
            return False

    assert may("get", "deviceoperations.gridplane.dev")
    assert may("patch", "deviceoperations.gridplane.dev", "--subresource=status")
    assert not any(
        may(verb, what)
        for verb, what in (
            ("list", "deviceoperations.gridplane.dev"),
            ("patch", "deviceoperations.gridplane.dev"),
            ("get", "secrets"),
            ("patch", "jobs.batch"),
            ("get", "fleetrevisions.gridplane.dev"),
        )
    )
