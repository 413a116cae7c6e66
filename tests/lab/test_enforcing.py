"""The controller as a Deployment brings simulated machines at their declared addresses to a new revision."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.workplace import load_declared
from control_plane.inventory.bundle import render
from control_plane.inventory.load import load
from control_plane.lab.cluster import ClusterLab
from control_plane.simulator.control import SOCKET, ControlClient
from control_plane.simulator.serve import MAP
from tests.lab.cluster import Cluster, Refused
from tests.lab.machines import GRIDPLANE, INVENTORY, ROOT, SITE, host, truth, until
from tests.lab.test_controller import SERVER, served

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
__all__ = ["served"]
SOAK_S = 600.0
"""Device seconds that any family's canary soaks at least."""
SCALE = 120
"""A soak of half an hour in a quarter of a minute."""
KILL = (
    'for p in /proc/[0-9]*; do case "$(tr "\\0" " " < $p/cmdline 2>/dev/null)" in '
    '"etcd "*|"kube-apiserver "*) kill -9 ${p#/proc/} && echo killed;; esac; done'
)
"""On a host: its own store and API server, and no other lab's."""
_DRAIN_S = 120.0
MINERS = [f"lab-r{rack}-s{slot}" for rack in (1, 2) for slot in range(1, 7)]
OLD, NEW = b"stratum.pool-one.example.com", b"new.pool-one.example.com"


@pytest.fixture
def fast(cluster_lab: ClusterLab, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The lab's devices, living faster; where they answer, and at what pace."""
    simulation = cluster_lab.folder / "simulation"
    control, network_map = ControlClient(simulation / SOCKET), simulation / MAP
    control.request({"do": "stop"})
    until(lambda: not network_map.exists())
    serve = cluster_lab.command(
        [
            str(GRIDPLANE), "simulate", "serve", "--declared", f"--time-scale={SCALE}",
            f"--site={SITE}", f"--inventory={INVENTORY}", f"--simulation={simulation}",
        ]
    )  # fmt: skip
    with (tmp_path / "simulate.log").open("w") as log:
        serving = subprocess.Popen(serve, stdout=log)
    try:
        until(network_map.exists)
        yield json.loads(network_map.read_bytes())
    finally:
        control.request({"do": "stop"})
        serving.wait(timeout=30)
        cluster_lab.up(load_declared(INVENTORY, SITE).site, INVENTORY, checkout=ROOT)


def paced(power: Cluster, network_map: dict[str, Any]) -> None:
    """Let the controllers go by the time of the devices."""
    at_the_pace_of(power, network_map, "deployment/gridplane-controller", "controller")


def at_the_pace_of(
    place: Cluster, network_map: dict[str, Any], workload: str, container: str
) -> None:
    """Let the pods of a workload go by the time of a simulation."""
    place.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "pace"},
            "data": {"network-map.json": json.dumps(network_map)},
        }
    )
    more = {
        "spec": {
            "containers": [
                {
                    "name": container,
                    "env": [{"name": "GRIDPLANE_NETWORK_MAP", "value": "/pace/network-map.json"}],
                    "volumeMounts": [{"name": "pace", "mountPath": "/pace"}],
                }
            ],
            "volumes": [{"name": "pace", "configMap": {"name": "pace"}}],
        }
    }
    patch = json.dumps({"spec": {"template": more}})
    place.run("patch", workload, "-p", patch)
    place.rolled_out(workload)


def pointed(power: Cluster, files: dict[str, bytes], mode: str) -> str:
    revision, site = render(SITE, files, namespace="power", commit=None)
    site["spec"]["mode"] = mode
    for body in (revision, site):
        power.apply(body)
    return str(revision["metadata"]["name"])


def process_of(pod: str) -> int:
    """The controller in a pod, as this machine sees it."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            is_there = f"HOSTNAME={pod}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if is_there and b"controller" in (folder / "cmdline").read_bytes().split(b"\0"):
                return int(folder.name)
    raise AssertionError(f"no process of {pod}")


def answers(power: Cluster) -> bool:
    try:
        return bool(leader(power))
    except Refused:  # not there, or it knows of no right yet
        return False


def converged(power: Cluster) -> int:
    status = power.json("get", "site", SITE).get("status", {})
    return int(status.get("devices", {}).get("converged", 0))


def leader(power: Cluster) -> str:
    holder = power.json("get", "lease", f"gridplane-{SITE}")["spec"].get("holderIdentity") or ""
    return str(holder).rpartition("-")[0]


def _left(power: Cluster, drained: str, other: str) -> bool:
    """Drain a host once; whether the pods are all on the other one.

    More than once, as a person would: a scheduler that was just cut off from the API server may
    know the nodes as they were before, and place a pod on the host that is being drained.
    """
    which = "--pod-selector=app.kubernetes.io/name=gridplane-controller"
    power.run(
        "drain", drained, which, "--delete-emptydir-data", f"--timeout={_DRAIN_S:.0f}s",
        within_s=_DRAIN_S + 30,
    )  # fmt: skip
    pods = power.json("get", "pods")["items"]
    return {each["spec"].get("nodeName") for each in pods} == {other}


def emptied(power: Cluster, pod: str) -> None:
    """Drain the host of a pod of the controller; another management host takes over."""
    nodes = [node["metadata"]["name"] for node in power.json("get", "nodes")["items"]]
    drained = power.json("get", "pod", pod)["spec"]["nodeName"]
    other = next(node for node in nodes if node != drained)
    power.run("label", "node", other, "gridplane.dev/role=management", "--overwrite")
    try:
        until(lambda: _left(power, drained, other), within_s=_DRAIN_S)
    finally:
        power.run("uncordon", drained)
        power.run("label", "node", other, "gridplane.dev/role-")
    # Nobody stays where it may not be from now on.
    power.run("rollout", "restart", "deployment/gridplane-controller")
    power.rolled_out("gridplane-controller")


def test_a_new_revision_reaches_the_machines_wave_by_wave_whoever_leads(
    served: Cluster, fast: dict[str, Any], cluster_lab: ClusterLab
) -> None:
    """Whatever happens to leader, API server and etcd on the way, each machine is written to once."""
    paced(served, fast)
    files = dict(load(INVENTORY, sites={SITE}).files[SITE])
    pointed(served, files, "observe")
    served.wait("jsonpath={.status.devices.seen}=12", f"site/{SITE}")
    state = ("--state", "/var/lib/gridplane/state", "--site", SITE)
    served.run("exec", leader(served), "--", "gridplane", "trust", SITE, "--yes", *state)
    served.wait("jsonpath={.status.devices.converged}=12", f"site/{SITE}")

    changed = {
        name: text.replace(OLD, NEW) if name == "owners/house.yaml" else text
        for name, text in files.items()
    }
    pointed(served, changed, "enforce")

    control = ControlClient(cluster_lab.folder / "simulation" / SOCKET)

    def written() -> dict[str, list[float]]:
        """Machine → when it was written to, in device seconds."""
        found: dict[str, list[float]] = {}
        for write in control.request({"do": "ledger"})["writes"]:
            found.setdefault(write["asset"], []).append(write["at_device_s"])
        return found

    until(written)
    # A leader that stands still, as a paused machine does, and wakes up when another one leads.
    paused = leader(served)
    process = process_of(paused)
    os.kill(process, signal.SIGSTOP)
    try:
        until(lambda: leader(served) not in {"", paused})
    finally:
        os.kill(process, signal.SIGCONT)
    until(lambda: len(written()) > 1, within_s=120.0)
    # A new release in the middle of a wave, one process after the other.
    served.run("rollout", "restart", "deployment/gridplane-controller")
    served.rolled_out("gridplane-controller")
    # The API server and its store die and come back; the kubelet sees to that.
    assert cluster_lab.hosts.run(host(cluster_lab, SERVER), KILL).count("killed") == 2
    until(lambda: answers(served))
    # Its host is drained for maintenance: the disruption budget lets one of the two go.
    emptied(served, leader(served))
    until(lambda: answers(served))
    # And whoever leads now is killed.
    killed = leader(served)
    served.run("delete", "pod", killed, "--force", "--grace-period=0")
    until(lambda: written().keys() == set(MINERS), within_s=180.0)
    until(lambda: converged(served) == 12, within_s=120.0)
    assert all(len(times) == 1 for times in written().values()), "each machine was written to once"
    first, second, *_ = sorted(at for [at] in written().values())
    assert second - first > SOAK_S, "the canary went first, and was looked at"
    assert all(
        NEW.decode() in str(truth(cluster_lab, m)["pools"]) for m in ("lab-r1-s1", MINERS[-1])
    )
