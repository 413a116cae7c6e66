"""A cluster lab for the whole run: three hosts, kubeadm, pods, devices at their declared addresses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.workplace import load_declared
from control_plane.lab import images
from control_plane.lab.cluster import ClusterLab
from control_plane.lab.records import HostRecord
from control_plane.simulator.control import SOCKET, ControlClient
from control_plane.simulator.serve import MAP

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventory"
SITE = "lab"
GRIDPLANE = Path(sys.executable).with_name("gridplane")
BMC_PASSWORD = "s3cret-of-the-lab"
PASSWORDS = {
    "GRIDPLANE_ANTMINER_PASSWORD": "root",
    "GRIDPLANE_WHATSMINER_PASSWORD": "admin",
    "GRIDPLANE_BMC_PASSWORD": BMC_PASSWORD,
}
"""The factory's, of miners."""


@pytest.fixture(scope="session")
def cluster_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterLab]:
    """The hosts that the site `lab` declares, as a cluster, with the image of this checkout."""
    lab = ClusterLab(tmp_path_factory.mktemp("lab") / "cluster")
    try:
        lab.up(load_declared(INVENTORY, SITE).site, INVENTORY, checkout=ROOT)
        yield lab
    finally:
        lab.down()


def served_anew(lab: ClusterLab) -> None:
    """The lab's devices as the site declares them, whatever earlier tests did to them.

    They live at the pace of real time: to bring back what another test changed takes a soak for each wave.
    """
    simulation = lab.folder / "simulation"
    ControlClient(simulation / SOCKET).request({"do": "stop"})
    until(lambda: not (simulation / MAP).exists())
    lab.up(load_declared(INVENTORY, SITE).site, INVENTORY, checkout=ROOT)


@pytest.fixture(scope="session")
def image() -> str:
    """The reference of gridplane's image, as the hosts have it."""
    return images.reference(ROOT)


def host(lab: ClusterLab, name: str) -> HostRecord:
    record = lab.record
    assert record is not None
    [found] = [h for h in record.hosts if h.name == name]
    return found


def inside(lab: ClusterLab, *command: str | Path) -> str:
    """Run a program in the lab's network; what it printed."""
    done = subprocess.run(
        lab.command([str(part) for part in command]),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(holds: Callable[[], object], *, within_s: float = 60.0) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it did not, in time.
    """
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"{holds} does not hold after {within_s:.0f} s"
        time.sleep(0.2)


def declaration() -> dict[str, Any]:
    """The inventory of the site as a ConfigMap: a key for each file."""
    data = {
        str(path.relative_to(INVENTORY)).replace("/", "__"): path.read_text(encoding="utf-8")
        for path in sorted(INVENTORY.rglob("*.yaml"))
        if path.relative_to(INVENTORY).parts[:2] == ("sites", SITE) or "sites" not in path.parts
    }
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inventory"}, "data": data,
    }  # fmt: skip


def gridplane_pod(
    image: str, command: Sequence[str], *, before: Sequence[Sequence[str]] = (), restart: str
) -> dict[str, Any]:
    """The pod that runs gridplane on the declaration of the site.

    Args:
        image: of gridplane.
        command: its verb and options.
        before: verbs that have to have succeeded first.
        restart: its restart policy.
    """
    variables = [{"name": n, "value": v} for n, v in {"GRIDPLANE_SITE": SITE, **PASSWORDS}.items()]
    mounts = [
        {"name": "declared", "mountPath": "/declared"},
        {"name": "home", "mountPath": "/var/lib/gridplane"},
    ]

    def container(name: str, what: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        return {"name": name, "image": image, "env": variables, "volumeMounts": mounts, **what}

    # A ConfigMap is mounted as links, and an inventory holds none.
    copy = ["cp", "-rL", "/declared/.", "/var/lib/gridplane/inventory"]
    items = [{"key": key, "path": key.replace("__", "/")} for key in declaration()["data"]]
    return {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 65532},
        "initContainers": [
            container("copy", {"command": copy}),
            *(container(verb[0], {"args": verb}) for verb in before),
        ],
        "containers": [container("gridplane", {"args": command})],
        "volumes": [
            {"name": "declared", "configMap": {"name": "inventory", "items": items}},
            {"name": "home", "emptyDir": {}},
        ],
    }


def simulated(lab: ClusterLab, verb: str, *arguments: str) -> Any:
    """What `gridplane simulate VERB` says of the lab's devices."""
    told = subprocess.run(
        [
            GRIDPLANE, "simulate", verb, *arguments, f"--site={SITE}", f"--inventory={INVENTORY}",
            f"--simulation={lab.folder / 'simulation'}", *([] if verb == "fault" else ["-o", "json"]),
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return None if verb == "fault" else json.loads(told.stdout)


def truth(lab: ClusterLab, asset: str) -> dict[str, Any]:
    """What a simulated device really is."""
    [machine] = simulated(lab, "truth", asset)
    return dict(machine)
