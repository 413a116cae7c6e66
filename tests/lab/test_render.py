"""What `gridplane render` prints is taken by a real API server, and a second apply changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from control_plane.inventory.bundle import unpack
from tests.lab.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 900 * 1024
"""An object of a cluster is 1.5 MB at most; a site has to stay well below."""

pytestmark = pytest.mark.lab


def rendered(site: str, namespace: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "control_plane.cli", "render", site, "--namespace", namespace],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_a_site_enters_a_cluster_once(cluster: Cluster) -> None:
    text = rendered("ga-macon", cluster.namespace)
    assert text == rendered("ga-macon", cluster.namespace)
    assert len(text) <= MAX_BYTES
    apply = ("apply", "--server-side", "--field-manager=gitops", "-f", "-")
    cluster.run(*apply, stdin=text)
    first = cluster.json("get", "fleetrevisions,sites")["items"]
    cluster.run(*apply, stdin=text)
    again = cluster.json("get", "fleetrevisions,sites")["items"]
    assert [one["metadata"]["resourceVersion"] for one in first] == [
        one["metadata"]["resourceVersion"] for one in again
    ]
    held = {one["kind"]: one for one in again}
    revision = held["FleetRevision"]
    assert held["Site"]["spec"]["revision"] == revision["metadata"]["name"]
    files = unpack(msgspec.convert(revision["spec"]["data"], bytes))
    path = "sites/ga-macon/power.yaml"
    assert files[path] == (ROOT / "inventory" / path).read_bytes()
