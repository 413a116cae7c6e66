"""A GPU that falls off its bus, on real hosts: drained, rebooted by its BMC, back in service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.inventory.load import load
from control_plane.lab.cluster import ClusterLab
from control_plane.lab.commands import run
from tests.lab.cluster import Cluster
from tests.lab.machines import BMC_PASSWORD, INVENTORY, ROOT, SITE, until
from tests.lab.orders import order
from tests.lab.test_controller import served
from tests.lab.test_enforcing import pointed
from tests.lab.test_node_agent import NODES, PROFILE, agents, ready

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
__all__ = ["agents", "served"]
NODE, OTHER = NODES[1], NODES[0]
BMCS = {OTHER: "10.90.3.21", NODE: "10.90.3.22"}
SITE_FILE = f"sites/{SITE}/site.yaml"
GRACE_S = 2
"""Of the tenant's pod."""


def node(everywhere: Cluster, name: str) -> dict[str, Any]:
    return dict(everywhere.json("get", "node", name))


@pytest.fixture
def authority(
    cluster_lab: ClusterLab, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Both hosts have a BMC, at the pace of its parameter; who signs their certificates, as PEM."""
    everywhere, namespace = Cluster(cluster_lab.kubeconfig), cluster_lab.network.path().name
    out = tmp_path / "authority.pem"
    places = [
        f"{name}={address}={node(everywhere, name)['status']['nodeInfo']['systemUUID']}"
        for name, address in BMCS.items()
    ]
    run("ip", "-netns", namespace, "route", "replace", "local", "10.90.3.0/24", "dev", "lo")
    command = [
        sys.executable,
        "-m",
        "tests.lab.bmcs",
        str(cluster_lab.folder),
        BMC_PASSWORD,
        str(getattr(request, "param", 1)),
        str(out),
    ]
    serving = subprocess.Popen(
        [str(part) for part in cluster_lab.command([*command, *places])], cwd=ROOT
    )
    try:
        until(out.exists)
        yield out.read_text(encoding="utf-8")
    finally:
        serving.kill()
        serving.wait()
        run("ip", "-netns", namespace, "route", "delete", "local", "10.90.3.0/24", "dev", "lo")


def declared(authority: str) -> dict[str, bytes]:
    """The site of the lab, with remedies that act and BMCs that are known."""
    files = dict(load(INVENTORY, sites={SITE}).files[SITE])
    pem = "".join(f"    {line}\n" for line in authority.splitlines())
    credentials = "{user: gridplane, secret_ref: env:GRIDPLANE_BMC_PASSWORD}"
    bmc = f"bmc:\n  credentials: {credentials}\n  authority: |-\n{pem}"
    files[SITE_FILE] += bmc.encode()
    files[PROFILE] += b"  remedies: act\n"
    return files


def offer(everywhere: Cluster, name: str, gpus: int) -> None:
    """As the device plugin would: there is none where there are no GPUs."""
    patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(gpus)}]
    everywhere.run(
        "patch", "node", name, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}"
    )
    until(
        lambda: node(everywhere, name)["status"]["allocatable"].get("nvidia.com/gpu") == str(gpus)
    )


def tenant(everywhere: Cluster, image: str) -> None:
    """Work on the node that will fail."""
    everywhere.run("create", "namespace", "tenants")
    about = {"matchLabels": {"app": "training"}}
    container = {
        "name": "work", "image": image, "imagePullPolicy": "Never",
        "command": ["python", "-c", "import time; time.sleep(1e6)"],
    }  # fmt: skip
    Cluster(everywhere.kubeconfig, "tenants").apply(
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "training"},
            "spec": {
                "selector": about,
                "template": {
                    "metadata": {"labels": about["matchLabels"]},
                    "spec": {
                        "nodeSelector": {"kubernetes.io/hostname": NODE},
                        "terminationGracePeriodSeconds": GRACE_S,
                        "containers": [container],
                    },
                },
            },
        }
    )  # fmt: skip
    Cluster(everywhere.kubeconfig, "tenants").rolled_out("training")


def works(everywhere: Cluster) -> int:
    """Pods of the tenant that the failing node has."""
    where = f"--field-selector=spec.nodeName={NODE}"
    return len(everywhere.json("get", "pods", "--namespace=tenants", where)["items"])


def test_a_gpu_that_falls_off_its_bus_is_remedied_by_nobody_but_the_controller(
    cluster_lab: ClusterLab, served: Cluster, agents: Cluster, authority: str, image: str
) -> None:
    everywhere = Cluster(cluster_lab.kubeconfig)
    served.rolled_out("gridplane-controller")
    for name in NODES:
        offer(everywhere, name, 8)
    pointed(served, declared(authority), "enforce")
    until(lambda: [ready(served, n) for n in NODES] == [("True", "AsDeclared")] * 2, within_s=240)
    tenant(everywhere, image)
    try:
        before = node(everywhere, NODE)["status"]["nodeInfo"]["bootID"]
        other = node(everywhere, OTHER)["status"]["nodeInfo"]["bootID"]
        order(cluster_lab, NODE, do="fall_off", gpu=3)
        order(cluster_lab, NODE, do="xid", gpu=3, xid=79)
        began_s = time.monotonic()
        until(lambda: works(everywhere) == 0, within_s=90)
        took_s = time.monotonic() - began_s
        print(f"from the Xid to an empty node: {took_s:.1f} s, {GRACE_S} s of them the pod's grace")
        assert node(everywhere, NODE)["spec"]["unschedulable"] is True
        assert node(everywhere, NODE)["status"]["nodeInfo"]["bootID"] == before

        until(
            lambda: node(everywhere, NODE)["status"]["nodeInfo"]["bootID"] != before, within_s=400
        )
        offer(everywhere, NODE, 8)
        until(lambda: ready(served, NODE) == ("True", "AsDeclared"), within_s=300)
        until(lambda: "unschedulable" not in node(everywhere, NODE)["spec"])
        until(lambda: works(everywhere) == 1, within_s=120)
        assert node(everywhere, OTHER)["status"]["nodeInfo"]["bootID"] == other
    finally:
        everywhere.run("delete", "namespace", "tenants", "--timeout=120s", within_s=150)
