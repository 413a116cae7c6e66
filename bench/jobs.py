"""A thousand machines flashed by a firmware Job of five pods, beside one pod for each machine.

Simulated Antminers in a process of their own, 120 times as fast as real ones; a real API server; the runner
as its pod runs it, a process each, on this machine. What a kubelet and a container runtime take to start a
pod is not in it, and would be to the peer's disadvantage. Either may have a hundred machines down together.
The peer is measured on two hundred of the machines, and counted five times.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.figures import ROOT, Figure
from bench.serving import api_server, serving
from control_plane.cli.workplace import clock_of, load_declared
from control_plane.core.firmware import (
    About,
    Bundle,
    Shard,
    ShardDevice,
    firmware_waves,
    shard_file,
)
from control_plane.core.firmware_job import BUNDLE_FILE
from control_plane.core.fleet import Device
from control_plane.lab.programs import find
from control_plane.simulator.images import SimImage, make_image

SITE, NAMESPACE, FAMILY = "lab", "bench", "antminer_stock"
_MACHINES, _SHARD, _TOGETHER = 1_000, 200, 100
_PEERS = 200
_SCALE = 120
_GRANT_S = 7_200.0 * 4
_POWER = """\
nodes:
  - {id: lab-grid, kind: utility, rating_kw: 9000, derate: 1.0}
  - {id: lab-hall, kind: hall, parent: lab-grid, rating_kw: 9000, pdus: {count: 5, rating_kw: 1500}}
"""
_RACK = """\
  - id: lab-r{n}
    feed: lab-hall-p{n}
    slots: {slots}
    owner: house
    type: antminer-s21
    profile: antminer-normal
    addressing: {{static_by_slot: 10.92.{n}.1}}
    placement: by_slot
"""


class Took(NamedTuple):
    """One way to do it."""

    pods: int
    machines: int
    wall_s: float
    cpu_s: float
    writes: int


def measure() -> list[Figure]:
    """Wall seconds, CPU seconds of the pods, and writes to the API server."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as made:
        folder = Path(made)
        found = _inventory(folder)
        site = load_declared(_declared(folder, found), SITE).site
        waves = [w for w in firmware_waves(site) if w.bundle.family == FAMILY]
        devices = [device for wave in waves for device in wave.devices][:_MACHINES]
        with (
            serving(found, SITE, [f"--time-scale={_SCALE}"]) as simulated,
            api_server(namespace=NAMESPACE) as kubeconfig,
        ):
            way = _Way(folder, simulated.map_path, kubeconfig, waves[0].bundle)
            ours = way.take("jobs", _shards(devices, _SHARD), pods=_MACHINES // _SHARD)
            # To the version that they run by now nothing would be sent.
            peer = _Way(
                folder, simulated.map_path, kubeconfig, _other(folder, waves[0].bundle)
            ).take("pods", _shards(devices[:_PEERS], 1), pods=_TOGETHER)
    times = _MACHINES / _PEERS
    beside = (
        f"one pod for each machine, {_TOGETHER} at once (measured on {_PEERS}, times {times:.0f})"
    )
    what = f"{_MACHINES:,} machines flashed by {ours.pods} pods"
    return [
        Figure(name=f"{what}: wall time", value=ours.wall_s, unit="s", peer=beside,
               peer_value=peer.wall_s * times, note=f"machines {_SCALE} times as fast as real ones"),
        Figure(name=f"{what}: CPU of the pods", value=ours.cpu_s, unit="s", peer=beside,
               peer_value=peer.cpu_s * times),
        Figure(name=f"{what}: writes to the API server", value=ours.writes, unit="", peer=beside,
               peer_value=peer.writes * times),
    ]  # fmt: skip


class _Way:
    """Grants machines, and runs pods."""

    def __init__(self, folder: Path, network_map: Path, kubeconfig: Path, bundle: Bundle) -> None:
        self._folder, self._map, self._kubeconfig = folder, network_map, kubeconfig
        self._bundle = bundle

    def take(self, job: str, shards: Sequence[Sequence[Device]], *, pods: int) -> Took:
        """Flash the machines of each shard in a pod of its own, so many of them at the same time."""
        work = self._folder / job
        work.mkdir()
        about = About(digest=self._bundle.digest, bundle=self._bundle)
        (work / BUNDLE_FILE).write_bytes(msgspec.json.encode(about))
        for number, devices in enumerate(shards):
            shard = Shard(
                devices=tuple(ShardDevice(asset=d.asset, address=d.address) for d in devices)
            )
            (work / shard_file(number)).write_bytes(msgspec.json.encode(shard))
        self._grant(job, shards, at_once=max(1, _TOGETHER // pods))
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with ThreadPoolExecutor(pods) as pool:
            writes = sum(pool.map(lambda n: self._pod(job, work, n), range(len(shards))))
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Took(
            pods=len(shards),
            machines=sum(map(len, shards)),
            wall_s=wall_s,
            cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            # And one for each grant.
            writes=writes + len(shards),
        )

    def _grant(self, job: str, shards: Sequence[Sequence[Device]], *, at_once: int) -> None:
        now_s = clock_of(self._map).wall_s()
        deadline = dt.datetime.fromtimestamp(now_s + _GRANT_S, dt.UTC).isoformat(timespec="seconds")
        macs = self._macs()
        items = [
            {
                "apiVersion": "gridplane.dev/v1alpha1", "kind": "DeviceOperation",
                "metadata": {"name": f"{job}-{number}", "namespace": NAMESPACE},
                "spec": {
                    "site": SITE, "kind": "install_firmware", "digest": self._bundle.digest, "fence": 1,
                    "budget": at_once, "deadline": deadline,
                    "entries": [
                        {"asset": d.asset, "pin": {"mac": macs[d.asset], "source": "bench"}}
                        for d in devices
                    ],
                },
            }
            for number, devices in enumerate(shards)
        ]  # fmt: skip
        subprocess.run(
            [str(find("kubectl")), f"--kubeconfig={self._kubeconfig}", "create", "-f", "-"],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}),
            text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def _macs(self) -> Mapping[str, str]:
        said = self._gridplane(
            "simulate", "truth", f"--site={SITE}", f"--inventory={self._folder / 'inventory'}",
            f"--simulation={self._map.parent}", "-o", "json",
        )  # fmt: skip
        return {each["asset"]: each["mac"] for each in json.loads(said)}

    def _pod(self, job: str, work: Path, number: int) -> int:
        said = self._gridplane(
            "firmware-job", "--work", str(work), "--passwords", str(self._folder / "passwords"),
            "--images", str(self._folder / "images"), "--namespace", NAMESPACE,
            "--kubeconfig", str(self._kubeconfig), "--job", job, "--index", str(number),
        )  # fmt: skip
        end: dict[str, Any] = json.loads(said.splitlines()[-1])
        ran = sum("it ran it already" in line for line in said.splitlines())
        if set(end["ended"]) != {"done"} or ran:
            raise RuntimeError(f"{job}-{number}: {end}, {ran} machines ran it already")
        return int(end["writes"])

    def _gridplane(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "control_plane.cli", *arguments],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "GRIDPLANE_NETWORK_MAP": str(self._map)},
        ).stdout  # fmt: skip


def _shards(devices: Sequence[Device], size: int) -> list[Sequence[Device]]:
    return [devices[begin : begin + size] for begin in range(0, len(devices), size)]


def _inventory(folder: Path) -> Path:
    """The example inventory, whose lab has a thousand Antminers that run what they came with."""
    top = folder / "inventory"
    shutil.copytree(ROOT / "inventory", top)
    site = top / "sites" / SITE
    shutil.rmtree(site / "gpu")
    racks = "".join(_RACK.format(n=n, slots=_SHARD) for n in range(1, _MACHINES // _SHARD + 1))
    (site / "racks" / "lab.yaml").write_text(f"racks:\n{racks}", encoding="utf-8")
    (site / "power.yaml").write_text(_POWER, encoding="utf-8")
    _edit(site / "site.yaml", "10.90.0.0/24", "10.92.0.0/16")
    return top


def _declared(folder: Path, found: Path) -> Path:
    """The same, with another version that they are to run."""
    top = folder / "declared"
    shutil.copytree(found, top)
    _edit(
        top / "profiles" / "antminer-normal.yaml",
        "{family: antminer_stock}", '{family: antminer_stock, version: "2099.1"}',
    )  # fmt: skip
    image = _image(folder, "2099.1")
    (top / "firmware" / "s21.yaml").write_text(
        f'family: {FAMILY}\nversion: "2099.1"\ndevice_types: [antminer-s21]\nimages: [{image}]\n'
        "can_roll_back: false\nvoids_warranty: false\n",
        encoding="utf-8",
    )
    (folder / "passwords").mkdir()
    (folder / "passwords" / "GRIDPLANE_ANTMINER_PASSWORD").write_text("root", encoding="utf-8")
    return top


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise RuntimeError(f"{path} has no {old}")
    path.write_text(text.replace(old, new), encoding="utf-8")


def _image(folder: Path, version: str) -> str:
    """An image of a version in the store; as a release names it."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    made = SimImage(family=FAMILY, models=("antminer s21", "s21"), version=version)
    data = make_image(made, size_bytes=50_000)
    digest = hashlib.sha256(data).hexdigest()
    (images / f"{digest[:12]}.bin").write_bytes(data)
    return f"{{file: {digest[:12]}.bin, sha256: {digest}, size_bytes: {len(data)}}}"


def _other(folder: Path, bundle: Bundle) -> Bundle:
    """The same for another version."""
    text = _image(folder, "2099.2")
    file, sha256, size = (part.partition(": ")[2] for part in text.strip("{}").split(", "))
    image = msgspec.structs.replace(
        bundle.images[0], file=file, sha256=sha256, size_bytes=int(size)
    )
    return msgspec.structs.replace(bundle, version="2099.2", images=(image,))
