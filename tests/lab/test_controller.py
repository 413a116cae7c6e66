"""The controller as a Deployment of two under its own service account, on a cluster of real hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.inventory.bundle import render
from control_plane.inventory.load import load
from control_plane.lab.cluster import ClusterLab
from tests.lab.cluster import Cluster
from tests.lab.machines import INVENTORY, PASSWORDS, ROOT, SITE, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
MANIFESTS = ROOT / "manifests"
SERVER = "lab-mgmt-1"


def controller(folder: Path, image: str) -> Iterator[dict[str, Any]]:
    """Our manifests, with what is the operator's to set."""
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] == "Deployment":
                [container] = document["spec"]["template"]["spec"]["containers"]
                container["image"] = image
                container["env"] = [{"name": "GRIDPLANE_SITE", "value": SITE}]
            yield document


@pytest.fixture
def served(cluster_lab: ClusterLab, image: str) -> Iterator[Cluster]:
    """A namespace in which the controller serves the site of the lab."""
    everywhere = Cluster(cluster_lab.kubeconfig)
    everywhere.run("apply", "--server-side", "-f", str(MANIFESTS / "crds"))
    everywhere.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
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
    everywhere.run("delete", "namespace", "power", "--wait=false")


def pointed(power: Cluster, files: dict[str, bytes]) -> str:
    """Let the `Site` name a revision, as GitOps would; the revision's name."""
    revision, site = render(SITE, files, namespace="power", commit=None)
    for body in (revision, site):
        power.apply(body)
    return str(revision["metadata"]["name"])


def test_a_site_is_served_from_its_cluster(served: Cluster) -> None:
    """Accepted, seen at its declared addresses, shown; refused with a reason; then the other one leads."""
    files = dict(load(INVENTORY, sites={SITE}).files[SITE])
    served.run("rollout", "status", "deployment/gridplane-controller", "--timeout=55s")
    good = pointed(served, files)

    def site() -> dict[str, Any]:
        return dict(served.json("get", "site", SITE).get("status", {}))

    until(lambda: site().get("acceptedRevision") == good)
    served.run("wait", "--for=jsonpath={.status.devices.seen}=12", f"site/{SITE}", "--timeout=55s")
    served.run("wait", "--for=condition=Ready=False", "miner", "--all", "--timeout=55s")
    shown = served.run("get", "sites,racks,miners")
    assert all(name in shown for name in ("lab-r1", "lab-r1-s1"))
    # Nobody was trusted yet: that is what enforcing would wait for.
    assert '"untrusted"' in json.dumps(site()["exceptions"])

    broken = {
        name: text.replace(b"lab-hall-p1", b"lab-hall-p9")
        if name.endswith("racks/lab.yaml")
        else text
        for name, text in files.items()
    }
    pointed(served, broken)
    served.run("wait", "--for=condition=Stalled", f"site/{SITE}", "--timeout=55s")
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
