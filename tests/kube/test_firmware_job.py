"""`gridplane firmware-job` as a pod runs it: its grant on a real API server, devices on real sockets."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.workplace import clock_of
from control_plane.core.firmware import Wave, firmware_waves
from control_plane.inventory.load import load
from control_plane.provision.fleet import FleetLayer, fleet_layer
from control_plane.provision.settings import Layer, Settings
from control_plane.provision.site import DeclaredSite
from tests.cli.workshop import GRIDPLANE, SITE, Workshop, wait_for
from tests.inventory.releases import catalogue, files_of
from tests.lab.cluster import Cluster, thing

pytestmark = pytest.mark.lab
VERSION = "20991231.10.REL"
SCALE = 120.0
"""Uploads and their checks are not scaled: with much more a flash would take hours of policy time."""

NAMES = {"root": "GRIDPLANE_ANTMINER_PASSWORD", "admin": "GRIDPLANE_WHATSMINER_PASSWORD"}


class Runners:
    """The waves of a small site, and pods of them as processes."""

    def __init__(self, folder: Path, shop: Workshop, cluster: Cluster) -> None:
        self.shop, self.cluster = shop, cluster
        self.folder = folder
        root = shop.folder / "inventory"
        for path in (root / "profiles").glob("*.yaml"):
            text = path.read_text()
            path.write_text(text.replace("}", f', version: "{VERSION}"}}', 1))
        (root / "firmware").mkdir()
        self.images = folder / "images"
        self.images.mkdir()
        for name, data in catalogue(files_of(root), self.images).items():
            (root / name).write_bytes(data)
        with (root / "sites" / SITE / "site.yaml").open("a") as file:
            file.write("  - {name: management, cidr: 10.9.0.0/24, purpose: management}\n")
            file.write("firmware_store: http://10.9.0.9/images\n")
        loaded = load(root, sites={SITE})
        assert loaded.fleet is not None, loaded.findings
        self.declared = DeclaredSite(
            site=loaded.fleet.sites[SITE], digest=loaded.digests[SITE], files=loaded.files[SITE]
        )
        self.waves = firmware_waves(self.declared.site)
        settings = Settings(site=SITE, layer=Layer.FLEET, namespace=cluster.namespace)
        self.layer: FleetLayer = fleet_layer(self.declared, settings, commit=None)
        self.passwords = folder / "passwords"
        self.passwords.mkdir()
        for password, name in NAMES.items():
            (self.passwords / name).write_text(password)

    def wave(self, family: str) -> tuple[Wave, Any, dict[str, Any]]:
        """The first wave of a family: who is in it, its bundle and its Job."""
        wave = next(each for each in self.waves if each.bundle.family == family)
        (bundle,) = [
            each
            for each in self.layer.bundles
            if wave.bundle.digest in each.about["data"]["bundle.json"]
        ]
        return wave, bundle, bundle.waves[wave.number].job

    def work(self, family: str) -> Path:
        """What the volume of a pod holds."""
        wave, bundle, _ = self.wave(family)
        folder = self.folder / family
        folder.mkdir(exist_ok=True)
        for each in (bundle.about, *bundle.waves[wave.number].shards):
            for name, text in each["data"].items():
                (folder / name).write_text(text)
        return folder

    def grant(self, family: str, *, lasts_s: float = 600.0, digest: str | None = None) -> None:
        """As the engine does before it opens a wave, in real seconds of the simulation."""
        wave, _, job = self.wave(family)
        clock = clock_of(Path(self.shop.env["GRIDPLANE_NETWORK_MAP"]))
        deadline = dt.datetime.fromtimestamp(clock.wall_s() + lasts_s * SCALE, dt.UTC)
        truth = self.shop.truth()
        spec = {
            "site": SITE, "kind": "install_firmware", "digest": digest or wave.bundle.digest,
            "fence": 1, "budget": 2, "deadline": deadline.isoformat(timespec="seconds"),
            "entries": [
                {"asset": d.asset, "pin": {"mac": truth[d.asset]["mac"], "source": "trust"}}
                for d in wave.devices
            ],
        }  # fmt: skip
        self.cluster.apply(thing("DeviceOperation", f"{job['metadata']['name']}-0", spec))

    def operation(self, family: str) -> Any:
        """As the API server has it."""
        _, _, job = self.wave(family)
        return self.cluster.json("get", "deviceoperation", f"{job['metadata']['name']}-0")

    def flashed(self) -> dict[str, int]:
        """Asset → how often an image was written to it."""
        kinds = {"upgrade", "update_firmware"}
        return Counter(w["asset"] for w in self.shop.writes() if w["kind"] in kinds)

    def start(
        self, family: str, kubeconfig: Path | None = None, *, writes_work: bool = True
    ) -> subprocess.Popen[str]:
        """One pod; `writes_work` lays down what its volume holds."""
        _, _, job = self.wave(family)
        work = self.work(family) if writes_work else self.folder / family
        return subprocess.Popen(
            [
                *GRIDPLANE, "firmware-job", "--work", str(work),
                "--passwords", str(self.passwords), "--images", str(self.images),
                "--namespace", self.cluster.namespace,
                "--kubeconfig", str(kubeconfig or self.cluster.kubeconfig),
            ],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("GRIDPLANE_")},
                "GRIDPLANE_NETWORK_MAP": self.shop.env["GRIDPLANE_NETWORK_MAP"],
                "GRIDPLANE_JOB": job["metadata"]["name"],
                "JOB_COMPLETION_INDEX": "0",
            },
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, family: str, kubeconfig: Path | None = None, *, writes_work: bool = True
    ) -> list[dict[str, Any]]:
        """One pod, to its end, which is always good; its lines."""
        running = self.start(family, kubeconfig, writes_work=writes_work)
        said, told = running.communicate(timeout=120)
        assert running.returncode == 0, told
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def runners(tmp_path: Path, cluster: Cluster) -> Iterator[Runners]:
    shop = Workshop(tmp_path / "company")
    shop.declare(antminers=2, whatsminers=2)
    with shop.devices(scale=SCALE):
        yield Runners(tmp_path, shop, cluster)


@pytest.mark.parametrize("family", ["antminer_stock", "whatsminer_v2"])
def test_under_its_grant_it_flashes_each_device_once(runners: Runners, family: str) -> None:
    runners.grant(family)
    begin, *devices, end = runners.run(family)
    wave, _, _ = runners.wave(family)
    assets = {device.asset for device in wave.devices}
    assert begin["granted"] is True
    assert {line["asset"]: (line["step"], line["after"]) for line in devices} == dict.fromkeys(
        assets, ("done", VERSION)
    )
    assert end["ended"] == {"done": len(assets)}
    assert runners.flashed() == dict.fromkeys(assets, 1)

    # Its journal is the operation's status, for the engine and for people.
    kept = runners.operation(family)["status"]
    assert kept["progress"] == f"{len(assets)}/{len(assets)}"
    for step in kept["entries"]:
        assert (step["step"], step["attempt"], step["after"]) == ("done", 1, VERSION)
        assert step["before"] != VERSION
        assert step["hashAfterThs"] > 100

    # Again, as after a retry of its index: nothing is asked, nothing is written.
    again = runners.run(family)
    assert again[-1]["ended"] == {"done": len(assets)}
    assert again[-1]["writes"] == 0
    assert runners.flashed() == dict.fromkeys(assets, 1)


def test_killed_in_the_middle_it_goes_on_where_it_was(runners: Runners) -> None:
    family = "whatsminer_v2"
    runners.grant(family)
    running = runners.start(family)
    wait_for(lambda: bool(runners.flashed()) or running.poll() is not None)
    running.kill()
    running.communicate()
    lines = runners.run(family)
    wave, _, _ = runners.wave(family)
    ended = {line["asset"]: line["step"] for line in lines[1:-1]}
    assert ended.keys() == {device.asset for device in wave.devices}
    for asset, step in ended.items():
        # The other one may have been killed after its step was kept and before its image had left.
        assert (step, runners.flashed().get(asset, 0)) in {("done", 1), ("quarantined", 0)}
    assert "done" in ended.values()


def test_told_to_end_it_leaves_what_is_under_way_to_the_next(runners: Runners) -> None:
    family = "whatsminer_v2"
    runners.grant(family)
    running = runners.start(family)
    wait_for(lambda: len(runners.flashed()) == 2 or running.poll() is not None)
    running.terminate()
    said, told = running.communicate(timeout=20)
    assert running.returncode == Exit.STATE, told
    steps = {each["step"] for each in map(json.loads, said.splitlines()) if "asset" in each}
    assert steps <= {"rebooting", "verifying", "done"}
    assert runners.run(family)[-1]["ended"] == {"done": 2}
    assert set(runners.flashed().values()) == {1}


def test_a_family_without_an_installer_is_not_begun(runners: Runners) -> None:
    runners.grant("antminer_stock")
    bundle = runners.work("antminer_stock") / "bundle.json"
    text = bundle.read_text()
    bundle.write_text(text.replace('"family":"antminer_stock"', '"family":"luxos"'))
    (line,) = runners.run("antminer_stock", writes_work=False)
    assert line["why"] == "not granted: no driver here installs firmware of luxos"
    assert runners.shop.written() == 0


def test_without_a_grant_it_asks_nobody_and_ends_well(runners: Runners, tmp_path: Path) -> None:
    def refused(kubeconfig: Path | None = None) -> str:
        (line,) = runners.run("antminer_stock", kubeconfig)
        assert line["granted"] is False
        return str(line["why"])

    away = tmp_path / "away.yaml"
    text = runners.cluster.kubeconfig.read_text()
    away.write_text(re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", text))
    assert refused().startswith("not granted: there is no fw-")
    assert "127.0.0.1" in refused(away), "the API server is away"
    runners.grant("antminer_stock", lasts_s=-5.0)
    assert "ran out" in refused()
    runners.cluster.run("delete", "deviceoperations", "--all")
    runners.grant("antminer_stock", digest="0" * 64)
    assert "is about 0000" in refused()
