"""Firmware waves in a real cluster: declared by Pulumi, opened by controllers, flashed by pods of our image.

A good image walks its waves; a bad one is stopped at the first machine that takes it, and taken back.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from control_plane.lab.cluster import ClusterLab
from control_plane.simulator.control import SOCKET, ControlClient
from control_plane.simulator.images import Conduct
from tests.inventory.releases import catalogue
from tests.lab.cluster import Cluster
from tests.lab.engine import Engine, Project
from tests.lab.machines import GRIDPLANE, SITE, simulated, until
from tests.lab.test_controller import served
from tests.lab.test_enforcing import converged, fast, leader, paced
from tests.provision.declared import read_files, with_firmware
from tests.stacks.site import below, checkout

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.lab("pulumi")]
__all__ = ["fast", "served"]
FAMILY = "antminer_stock"
ANTMINERS = [f"lab-r1-s{slot}" for slot in range(1, 7)]
WAVE_S = 240.0
"""For one wave: a pod that starts, an image that leaves, a boot and a ramp at the lab's pace, a gate."""


class Fleet:
    """What a person does to the fleet of the lab."""

    def __init__(
        self, power: Cluster, lab: ClusterLab, image: str, engine: Engine, home: Path
    ) -> None:
        assert lab.images is not None
        self.power, self.lab, self.images, self.home = power, lab, lab.images, home
        self.inventory = home / "inventory"
        self.project = _fleet_stack(checkout(home / "checkout", engine, self.inventory), image)

    def up(self, version: str, mode: str, *, conduct: Conduct = Conduct.GOOD) -> None:
        """Change what the inventory says of firmware, and `pulumi up`."""
        edit = with_firmware(version, families=FAMILY)
        files = {path: edit(path, data) for path, data in read_files().items()}
        files |= catalogue(files, self.images, conduct=conduct)
        shutil.rmtree(self.inventory, ignore_errors=True)
        for path, data in files.items():
            target = self.inventory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        self.project.run("config", "set", "gridplane:mode", mode)
        self.project.run("up", "--yes", "--skip-preview")

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


def _fleet_stack(project: Project, image: str) -> Project:
    project.run("stack", "init", "lab.fleet")
    told = {"namespace": "power", "image": image, "pace": "pace"}
    project.run("config", "set-all", *(f"--plaintext=gridplane:{k}={v}" for k, v in told.items()))
    return project


def test_a_good_image_walks_its_waves_and_a_bad_one_is_taken_back_in_the_first(
    served: Cluster,
    fast: dict[str, Any],
    cluster_lab: ClusterLab,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paced(served, fast)
    engine = Engine(tmp_path / "pulumi", served.kubeconfig)
    engine.into(monkeypatch)
    below(served)
    fleet = Fleet(served, cluster_lab, image, engine, tmp_path)
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
