"""A firmware wave in a real cluster: our image on a management host, devices at their declared addresses."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from control_plane.lab.cluster import ClusterLab
from control_plane.provision.fleet import FleetLayer, fleet_layer
from control_plane.provision.settings import Layer, Settings
from control_plane.simulator.control import SOCKET, ControlClient
from tests.inventory.releases import catalogue
from tests.lab.cluster import Cluster, thing
from tests.lab.machines import PASSWORDS, ROOT, simulated, until
from tests.provision.declared import edited, lab, read_files, with_firmware
from tests.provision.test_on_the_server import open_wave

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.spends_lab]
SPACE = "firmware"


@pytest.fixture
def declared(cluster_lab: ClusterLab, image: str) -> Iterator[tuple[Cluster, FleetLayer]]:
    """The fleet layer of the lab in a strict namespace; its miners run another version than is declared."""
    everywhere = Cluster(cluster_lab.kubeconfig)
    everywhere.run("apply", "--server-side", "-f", str(ROOT / "manifests" / "crds"))
    everywhere.wait("condition=Established", "crd", "--all")
    everywhere.run("label", "node", "lab-mgmt-1", "gridplane.dev/role=management", "--overwrite")
    everywhere.run("create", "namespace", SPACE)
    everywhere.run("label", "namespace", SPACE, "pod-security.kubernetes.io/enforce=restricted")
    cluster = Cluster(cluster_lab.kubeconfig, SPACE)
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "gridplane-devices"}, "stringData": PASSWORDS,
        }
    )  # fmt: skip
    settings = Settings(site="lab", layer=Layer.FLEET, namespace=SPACE, image=image)
    layer = fleet_layer(lab(), settings, commit=None)
    for each in layer.objects:
        cluster.apply(each, "--field-manager=stacks")
    yield cluster, layer
    # First: a failed index keeps its pod until it has another, and a namespace that goes takes none in.
    cluster.run("delete", "jobs", "--all", "--timeout=120s", within_s=150)
    everywhere.run("delete", "namespace", SPACE, "--timeout=120s", within_s=150)
    everywhere.run("delete", "priorityclass", "gridplane-firmware", "--ignore-not-found")


def grant(cluster: Cluster, lab_: ClusterLab, job: dict[str, Any], assets: list[str]) -> None:
    """As the engine does before it opens a wave."""
    about = json.loads(cluster.json("get", "configmap", _reads(job)[0])["data"]["bundle.json"])
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    truth = {each["asset"]: each for each in simulated(lab_, "truth")}
    spec = {
        "site": "lab", "kind": "install_firmware", "digest": about["digest"], "fence": 1,
        "budget": 20, "deadline": deadline.isoformat(timespec="seconds"),
        "entries": [
            {
                "asset": asset, "address": truth[asset]["address"],
                "pin": {"mac": truth[asset]["mac"], "source": "trust"},
            }
            for asset in assets
        ],
    }  # fmt: skip
    cluster.apply(thing("DeviceOperation", f"{job['metadata']['name']}-0", spec))


def _reads(job: dict[str, Any]) -> list[str]:
    (work, *_) = job["spec"]["template"]["spec"]["volumes"]
    return [each["configMap"]["name"] for each in work["projected"]["sources"]]


def said(cluster: Cluster, job: str) -> list[dict[str, Any]]:
    """What the pod of a Job has printed so far."""
    return [json.loads(line) for line in cluster.run("logs", f"job/{job}").splitlines()]


def steps(cluster: Cluster, job: str) -> dict[str, str]:
    """Asset → how far it has come, by the journal."""
    found = cluster.json("get", "deviceoperation", f"{job}-0")
    return {e["asset"]: e["step"] for e in found.get("status", {}).get("entries", ())}


def await_boots(cluster: Cluster, job: str, assets: list[str]) -> None:
    """Wait until every image has left and was taken."""
    under_way = {"rebooting", "verifying", "done"}
    try:
        until(
            lambda: {steps(cluster, job).get(asset) for asset in assets} <= under_way,
            within_s=180,
        )
    except AssertionError:
        pods = cluster.run("get", "pods", "-o", "wide")
        pytest.fail(f"{steps(cluster, job)}\n{pods}\n{said(cluster, job)}")


def test_a_wave_that_is_opened_flashes_its_machines_and_one_without_a_grant_none(
    declared: tuple[Cluster, FleetLayer], cluster_lab: ClusterLab
) -> None:
    cluster, layer = declared
    assert cluster_lab.images
    catalogue(edited(read_files(), with_firmware()), cluster_lab.images)
    opened: dict[str, list[str]] = {}
    for bundle in layer.bundles:
        wave = bundle.waves[0]
        name = str(wave.job["metadata"]["name"])
        shard = json.loads(wave.shards[0]["data"]["shard-0000.json"])
        opened[name] = [device["asset"] for device in shard["devices"]]
        grant(cluster, cluster_lab, wave.job, opened[name])
        open_wave(cluster, name)
    # The images have left, and were taken: boot and ramp take a quarter of an hour of the machines' time.
    for name, assets in opened.items():
        await_boots(cluster, name, assets)
        begin, *_ = said(cluster, name)
        assert begin == {"operation": f"{name}-0", "granted": True, "devices": len(assets)}
    control = ControlClient(cluster_lab.folder / "simulation" / SOCKET)
    writes = control.request({"do": "ledger"})["writes"]
    flashed = Counter(w["asset"] for w in writes if w["kind"] in {"upgrade", "update_firmware"})
    assert flashed == dict.fromkeys((a for assets in opened.values() for a in assets), 1)

    last = str(layer.bundles[0].waves[-1].job["metadata"]["name"])
    open_wave(cluster, last)
    cluster.wait("condition=Complete", f"job/{last}")
    (line,) = said(cluster, last)
    assert (line["granted"], line["why"]) == (False, f"not granted: there is no {last}-0")
