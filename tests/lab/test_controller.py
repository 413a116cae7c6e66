"""The controller as a Deployment of two under its own service account, on a cluster of real hosts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.inventory.bundle import render
from control_plane.inventory.load import load
from control_plane.lab.cluster import ClusterLab
from tests.lab.cluster import Cluster
from tests.lab.machines import GRIDPLANE, INVENTORY, PASSWORDS, ROOT, SITE, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
MANIFESTS = ROOT / "manifests"
SERVER = "lab-mgmt-1"
NETWORKS = {
    "10.20.0.0/16": "10.90.0.0/24",
    "10.21.0.0/24": "10.90.1.0/24",
    "10.25.0.0/20": "10.90.3.0/24",
}
"""Of miners, of management and of BMCs: as the manifests have them → those of the lab."""


def controller(folder: Path, image: str) -> Iterator[dict[str, Any]]:
    """Our manifests, with what is the operator's to set."""
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        for named, there in NETWORKS.items():
            text = text.replace(named, there)
        for document in yaml.safe_load_all(text):
            if document["kind"] == "Deployment":
                [container] = document["spec"]["template"]["spec"]["containers"]
                container["image"] = image
                [about] = [v for v in container["env"] if v["name"] == "GRIDPLANE_SITE"]
                about["value"] = SITE
            if document["kind"] == "ClusterRoleBinding":
                [subject] = document["subjects"]
                subject["namespace"] = "power"
            yield document


@pytest.fixture
def served(cluster_lab: ClusterLab, image: str) -> Iterator[Cluster]:
    """A namespace in which the controller serves the site of the lab."""
    everywhere = Cluster(cluster_lab.kubeconfig)
    everywhere.run("apply", "--server-side", "-f", str(MANIFESTS / "crds"))
    everywhere.wait("condition=Established", "crd", "--all")
    everywhere.run("label", "node", SERVER, "gridplane.dev/role=management", "--overwrite")
    everywhere.run("create", "namespace", "power")
    power = Cluster(cluster_lab.kubeconfig, "power")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gridplane-devices"},
        "stringData": PASSWORDS,
    }
    for thing in (secret, *controller(MANIFESTS / "controller", image)):
        power.apply(thing)
    yield power
    everywhere.run("delete", "namespace", "power", "--timeout=120s", within_s=150)


def pointed(power: Cluster, files: dict[str, bytes]) -> str:
    """Let the `Site` name a revision, as GitOps would; the revision's name."""
    revision, site = render(SITE, files, namespace="power", commit=None)
    for body in (revision, site):
        power.apply(body)
    return str(revision["metadata"]["name"])


def reader(power: Cluster, folder: Path) -> Path:
    """The kubeconfig of somebody with the role for people who read, and no other."""
    power.run("create", "serviceaccount", "ann")
    power.run(
        "create", "rolebinding", "ann", "--role=gridplane-reader", "--serviceaccount=power:ann"
    )
    config = yaml.safe_load(power.kubeconfig.read_text(encoding="utf-8"))
    [context] = config["contexts"]
    config["users"] = [{"name": "ann", "user": {"token": power.run("create", "token", "ann")}}]
    context["context"] |= {"user": "ann", "namespace": "power"}
    path = folder / "ann.kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def read_by_people(power: Cluster, folder: Path) -> None:
    """`gridplane get` through the API server, what Prometheus would scrape, and Events."""
    ann = reader(power, folder)
    done = subprocess.run(
        [GRIDPLANE, "get", "devices", "--kubeconfig", str(ann), "-o", "json"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 14
    lease = power.json("get", "lease", f"gridplane-{SITE}")["spec"]
    pod = lease["holderIdentity"].rpartition("-")[0]
    scraped = power.run("get", "--raw", f"/api/v1/namespaces/power/pods/{pod}/proxy/metrics")
    assert f'gridplane_leader{{site="{SITE}"}} 1' in scraped
    assert f'gridplane_devices{{site="{SITE}",state="untrusted"}} 12' in scraped
    assert 'kind="events",result="ok"' in scraped

    def told() -> set[str]:
        events = power.json("get", "events.events.k8s.io")["items"]
        return {f"{e['regarding']['kind']}/{e['reason']}" for e in events}

    until(lambda: {"Site/RevisionAccepted", "Rack/Untrusted"} <= told())
    # kubectl finds them by the object that they are about.
    assert "6 miners: Untrusted" in power.run("describe", "rack", "lab-r1")
    log = power.run("logs", pod).splitlines()
    assert all(json.loads(line)["site"] == SITE for line in log)
    assert not [line for line in log if json.loads(line)["level"] == "error"]


def test_a_site_is_served_from_its_cluster(served: Cluster, tmp_path: Path) -> None:
    """Accepted, seen at its declared addresses, shown; refused with a reason; then the other one leads."""
    files = dict(load(INVENTORY, sites={SITE}).files[SITE])
    served.rolled_out("gridplane-controller")
    good = pointed(served, files)

    def site() -> dict[str, Any]:
        return dict(served.json("get", "site", SITE).get("status", {}))

    until(lambda: site().get("acceptedRevision") == good)
    served.wait("jsonpath={.status.devices.seen}=12", f"site/{SITE}")
    # The site is told first; its miners are made meanwhile.
    until(lambda: len(served.json("get", "miners")["items"]) == 12)
    served.wait("condition=Ready=False", "miner", "--all")
    shown = served.run("get", "sites,racks,miners")
    assert all(name in shown for name in ("lab-r1", "lab-r1-s1"))
    # Nobody was trusted yet: that is what enforcing would wait for.
    assert '"untrusted"' in json.dumps(site()["exceptions"])

    read_by_people(served, tmp_path)

    broken = {
        name: text.replace(b"lab-hall-p1", b"lab-hall-p9")
        if name.endswith("racks/lab.yaml")
        else text
        for name, text in files.items()
    }
    pointed(served, broken)
    served.wait("condition=Stalled", f"site/{SITE}")
    assert "lab-hall-p9" in json.dumps(site()["conditions"])
    assert site()["acceptedRevision"] == good

    lease = served.json("get", "lease", f"gridplane-{SITE}")["spec"]
    leader = lease["holderIdentity"].rpartition("-")[0]
    served.run("delete", "pod", leader, "--force", "--grace-period=0")

    def is_taken_over() -> bool:
        now = served.json("get", "lease", f"gridplane-{SITE}")["spec"]
        holder = str(now.get("holderIdentity") or "")
        return bool(holder) and not holder.startswith(leader)

    until(is_taken_over)
    now = served.json("get", "lease", f"gridplane-{SITE}")["spec"]
    assert now["leaseTransitions"] > lease["leaseTransitions"]
    pointed(served, files)
    until(lambda: "Stalled" not in json.dumps(site()["conditions"]))
