"""Firmware waves in a real cluster: controllers open Jobs, pods of our image flash simulated machines.

A good image walks its waves; a bad one is stopped at the first machine that takes it, and taken back.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from control_plane.core.firmware_job import JOB_FILE
from control_plane.lab.cluster import ClusterLab
from control_plane.provision.fleet import FleetLayer, fleet_layer
from control_plane.provision.settings import Layer, Settings
from control_plane.simulator.control import SOCKET, ControlClient
from control_plane.simulator.images import Conduct
from tests.inventory.releases import catalogue
from tests.lab.cluster import Cluster
from tests.lab.machines import GRIDPLANE, SITE, simulated, until
from tests.lab.test_controller import served
from tests.lab.test_enforcing import converged, fast, leader, paced, pointed
from tests.provision.declared import declared_of, read_files, with_firmware

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
__all__ = ["fast", "served"]
FAMILY = "antminer_stock"
ANTMINERS = [f"lab-r1-s{slot}" for slot in range(1, 7)]
WAVE_S = 240.0
"""For one wave: a pod that starts, an image that leaves, a boot and a ramp at the lab's pace, a gate."""


class Fleet:
    """What a person does to the fleet of the lab."""

    def __init__(
        self, power: Cluster, lab: ClusterLab, image: str, network_map: dict[str, Any], home: Path
    ) -> None:
        assert lab.images is not None
        self.power, self.lab, self.image, self.images = power, lab, image, lab.images
        self.network_map, self.home = network_map, home

    def up(self, version: str, mode: str, *, conduct: Conduct = Conduct.GOOD) -> None:
        """Declare a version as a stack does: what its waves need, then the revision and the pointer."""
        edit = with_firmware(version, families=FAMILY)
        files = {path: edit(path, data) for path, data in read_files().items()}
        files |= catalogue(files, self.images, conduct=conduct)
        declared = declared_of(files, SITE)
        settings = Settings(site=SITE, layer=Layer.FLEET, namespace="power", image=self.image)
        layer: FleetLayer = fleet_layer(declared, settings, commit=None)
        for each in layer.objects:
            if each["kind"] not in {"FleetRevision", "Site"}:
                self.power.apply(self._paced(each), "--field-manager=stacks")
        pointed(self.power, dict(declared.files), mode)

    def _paced(self, body: dict[str, Any]) -> dict[str, Any]:
        """Pods of runners go by the time of the devices as well."""
        body = copy.deepcopy(body)
        if body["kind"] == "Job":
            _pace(body["spec"]["template"])
        elif JOB_FILE in body.get("data", {}):
            spec = json.loads(body["data"][JOB_FILE])
            _pace(spec["template"])
            body["data"][JOB_FILE] = json.dumps(spec)
        return body

    def gridplane(self, *arguments: str) -> str:
        done = subprocess.run(
            [
                str(GRIDPLANE), *arguments, "--site", SITE, "--namespace", "power",
                "--kubeconfig", str(self.power.kubeconfig),
            ],
            cwd=self.home, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def awaits(self, rollout: str, state: str, *, wave: int = 0, within_s: float = WAVE_S) -> None:
        """Wait until a firmware rollout stands somewhere; else everything that would tell why not."""

        def stands() -> bool:
            found = self.power.json("get", "rollouts")["items"]
            specs = {each["metadata"]["name"]: each["spec"] for each in found}
            spec = specs.get(f"{rollout}-{SITE}", {})
            return (spec.get("state"), spec.get("wave", 0)) == (state, wave)

        try:
            until(stands, within_s=within_s)
        except AssertionError:
            shown = self.gridplane("rollout", "show", rollout)
            jobs = self.power.run("get", "jobs,pods,deviceoperations", "-o", "wide")
            log = self.power.run("logs", leader(self.power), "--tail=40")
            pytest.fail(f"{rollout} is not {state} in wave {wave}\n{shown}\n{jobs}\n{log}")

    def versions(self) -> Counter[str]:
        machines = simulated(self.lab, "truth")
        return Counter(m["firmware"] for m in machines if m["asset"] in ANTMINERS)

    def flashed(self) -> Counter[str]:
        control = ControlClient(self.lab.folder / "simulation" / SOCKET)
        writes = control.request({"do": "ledger"})["writes"]
        return Counter(w["asset"] for w in writes if w["kind"] == "upgrade")


def _pace(template: dict[str, Any]) -> None:
    spec = template["spec"]
    spec["volumes"].append({"name": "pace", "configMap": {"name": "pace"}})
    (container,) = spec["containers"]
    container["volumeMounts"].append({"name": "pace", "mountPath": "/pace"})
    container["env"].append({"name": "GRIDPLANE_NETWORK_MAP", "value": "/pace/network-map.json"})


def test_a_good_image_walks_its_waves_and_a_bad_one_is_taken_back_in_the_first(
    served: Cluster, fast: dict[str, Any], cluster_lab: ClusterLab, image: str, tmp_path: Path
) -> None:
    paced(served, fast)
    fleet = Fleet(served, cluster_lab, image, fast, tmp_path)
    fleet.up("2099.1", "observe")
    served.wait("jsonpath={.status.devices.seen}=12", f"site/{SITE}")
    state = ("--state", "/var/lib/gridplane/state", "--site", SITE)
    served.run("exec", leader(served), "--", "gridplane", "trust", SITE, "--yes", *state)
    fleet.up("2099.1", "enforce")
    fleet.awaits("f0001", "waiting")
    assert not fleet.flashed()
    fleet.gridplane("release", "f0001", "--all", "--by", "ann")
    fleet.awaits("f0001", "done", wave=1, within_s=2 * WAVE_S)
    assert fleet.versions() == {"2099.1": 6}
    assert set(fleet.flashed().values()) == {1}
    until(lambda: converged(served) == 12, within_s=120.0)

    fleet.up("2099.2", "enforce", conduct=Conduct.IDLE)
    fleet.awaits("f0002", "waiting")
    fleet.gridplane("release", "f0002", "--all", "--by", "ann")
    fleet.awaits("f0002", "halted")
    until(lambda: fleet.versions() == {"2099.1": 6}, within_s=WAVE_S)
    assert sorted(fleet.flashed().values()) == [1, 1, 1, 1, 1, 3], "one took it, and went back"

    def is_told() -> bool:
        shown = fleet.gridplane("rollout", "show", "f0002")
        return "roll back" in shown and "does not hash" in shown

    until(is_told)
