"""The node agent as a DaemonSet on real hosts, with simulated GPUs: a cap in Git reaches them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from control_plane.inventory.load import load
from control_plane.lab.cluster import ClusterLab
from tests.lab.cluster import Cluster
from tests.lab.machines import INVENTORY, ROOT, SITE, host, until
from tests.lab.orders import ORDERS, order
from tests.lab.test_controller import served
from tests.lab.test_enforcing import pointed

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
__all__ = ["served"]
NODES = ("lab-g1-n1", "lab-g1-n2")
LABEL = "nvidia.com/gpu.deploy.client"
AGENTS = "gridplane-agents"
PROFILE = "profiles/gpu-inference.yaml"


def agent(image: str) -> Iterator[dict[str, Any]]:
    """Our manifests; the hosts of the lab have no GPU, and no runtime class that would bring one in."""
    for path in sorted((ROOT / "manifests" / "node-agent").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] == "DaemonSet":
                spec = document["spec"]["template"]["spec"]
                del spec["runtimeClassName"]
                [container] = spec["containers"]
                container["image"] = image
                container["args"] += ["--simulated", "h200", "--orders", ORDERS]
                [place] = [v for v in container["env"] if v["name"] == "GRIDPLANE_NAMESPACE"]
                place["value"] = "power"
            elif document["kind"] == "NetworkPolicy":
                continue
            elif document["kind"] in {"Role", "RoleBinding"}:
                document["metadata"]["namespace"] = "power"
            yield document


@pytest.fixture
def agents(cluster_lab: ClusterLab, served: Cluster, image: str) -> Iterator[Cluster]:
    """Agents on both GPU hosts, beside the controller."""
    everywhere = Cluster(cluster_lab.kubeconfig)
    made = list(agent(image))
    for node in NODES:
        cluster_lab.hosts.run(host(cluster_lab, node), "rm -rf /var/lib/gridplane-node-agent")
        everywhere.run("label", "node", node, f"{LABEL}=true", "--overwrite")
    try:
        for document in made:
            place = document["metadata"].get("namespace", "default")
            Cluster(cluster_lab.kubeconfig, place).apply(document)
        yield Cluster(cluster_lab.kubeconfig, AGENTS)
    finally:
        for document in made:
            if document["kind"].startswith("ValidatingAdmissionPolicy"):
                everywhere.run(
                    "delete", document["kind"], document["metadata"]["name"], "--ignore-not-found"
                )
        for node in NODES:
            everywhere.run("label", "node", node, f"{LABEL}-")
        everywhere.run(
            "delete", "namespace", AGENTS, "--ignore-not-found", "--timeout=120s", within_s=150
        )


def capped(watts: int) -> dict[str, bytes]:
    files = dict(load(INVENTORY, sites={SITE}).files[SITE])
    before = files[PROFILE]
    files[PROFILE] = before.replace(b"power_limit_w: 650", f"power_limit_w: {watts}".encode())
    assert files[PROFILE] != before
    return files


def status(power: Cluster, node: str) -> dict[str, Any]:
    """What stands there; nothing before the controller has made the object."""
    found = power.json("get", "gpunodes", f"--field-selector=metadata.name={node}")["items"]
    return dict(found[0].get("status", {})) if found else {}


def ready(power: Cluster, node: str) -> tuple[str, str]:
    for one in status(power, node).get("conditions", ()):
        if one["type"] == "Ready":
            return one["status"], one["reason"]
    return "", ""


def enforced(power: Cluster) -> list[float | None]:
    return [status(power, node).get("enforcedGpuW") for node in NODES]


def test_gpus_of_real_hosts_follow_git_and_tell_what_is_wrong(
    cluster_lab: ClusterLab, served: Cluster, agents: Cluster
) -> None:
    served.rolled_out("gridplane-controller")
    pointed(served, capped(500), "enforce")
    until(lambda: enforced(served) == [500, 500], within_s=180)
    until(lambda: [ready(served, node) for node in NODES] == [("True", "AsDeclared")] * 2)
    shown = served.run("get", "gpunodes")
    assert all(word in shown for word in (*NODES, "True", "500"))

    # Limits are lost with a reboot; the agent's next look puts them back.
    order(cluster_lab, NODES[0], do="reboot")
    until(lambda: "simulated GPUs" in agents.run("logs", pod_on(agents, NODES[0])))
    until(lambda: enforced(served) == [500, 500])
    pointed(served, capped(450), "enforce")
    until(lambda: enforced(served) == [450, 450], within_s=120)

    order(cluster_lab, NODES[1], do="fall_off", gpu=3)
    order(cluster_lab, NODES[1], do="xid", gpu=3, xid=79)
    until(lambda: ready(served, NODES[1]) == ("False", "GpuLost"), within_s=120)
    alerts = status(served, NODES[1])["alerts"]
    assert {("gpu_lost", "reboot"), ("xid", "reboot")} <= {(a["kind"], a["rung"]) for a in alerts}
    assert ready(served, NODES[0]) == ("True", "AsDeclared")

    nobody_tells_of_another_node(served, agents)


def pod_on(agents: Cluster, node: str) -> str:
    [pod] = agents.json("get", "pods", f"--field-selector=spec.nodeName={node}")["items"]
    return str(pod["metadata"]["name"])


def nobody_tells_of_another_node(power: Cluster, agents: Cluster) -> None:
    """What an agent's own token may write: the status of its node, and nothing else."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod_on(agents, NODES[0])}")
    token = agents.run("create", "token", "gridplane-node-agent", *bound).strip()

    assert patched(power, token, f"{NODES[0]}/status")[0] == HTTPStatus.OK
    code, said = patched(power, token, f"{NODES[1]}/status")
    assert (code, "gridplane-own-gpu-node" in said) == (HTTPStatus.UNPROCESSABLE_ENTITY, True), said
    code, said = patched(power, token, NODES[0])
    assert (code, "cannot patch resource" in said) == (HTTPStatus.FORBIDDEN, True), said


def patched(power: Cluster, token: str, path: str) -> tuple[int, str]:
    """What the API server says to a patch; kubectl would read first, which an agent's token may not."""
    config = yaml.safe_load(power.kubeconfig.read_text(encoding="utf-8"))
    [about] = [one["cluster"] for one in config["clusters"]]
    authority = base64.b64decode(about["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    context.check_hostname = False  # forwarded to this machine, under another address
    server = urlsplit(about["server"])
    line = http.client.HTTPSConnection(server.netloc, context=context, timeout=30)
    with contextlib.closing(line):
        line.request(
            "PATCH", f"/apis/gridplane.dev/v1alpha1/namespaces/power/gpunodes/{path}",
            body='{"status": {"driver": "1.0"}, "spec": {"gpus": 8}}',
            headers={
                "Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json",
            },
        )  # fmt: skip
        answer = line.getresponse()
        return answer.status, answer.read().decode()
