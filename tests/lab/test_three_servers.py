"""Three real servers behind an endpoint: one loses its power while the cluster is made, one after that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.cli.workplace import load_declared
from control_plane.lab import bundle
from control_plane.lab.cluster import ClusterLab
from control_plane.lab.commands import run
from tests.lab.checkout import (
    GPU,
    STACK,
    Checkout,
    cut_while_joining,
    is_ready,
    nothing_changes,
    soon_ready,
)
from tests.lab.machines import INVENTORY, ROOT, SITE

pytestmark = [pytest.mark.cluster, pytest.mark.lab("pulumi"), pytest.mark.slow]
MANAGEMENT, NODE = "lab-mgmt-1", "lab-g1-n1"
SERVERS = ("lab-cp-1", "lab-cp-2", "lab-cp-3")
ADDRESSES = tuple(f"10.90.1.2{number}" for number in (1, 2, 3))
ENDPOINT = "10.90.1.5"
HOSTS = Path("inventory") / "sites" / SITE / "hosts" / "lab.yaml"
CLUSTER = Path("inventory") / "sites" / SITE / "cluster.yaml"


def declare(folder: Path) -> None:
    """Three servers and their endpoint beside the management host, and one GPU node."""
    with (folder / HOSTS).open("a") as file:
        for number, (name, address) in enumerate(zip(SERVERS, ADDRESSES, strict=True), 2):
            file.write(
                f"  - {{name: {name}, role: control_plane, address: {address}, feed: lab-hall, "
                f"pods: 10.244.{number}.0/24}}\n"
            )
    with (folder / CLUSTER).open("a") as file:
        file.write(f"endpoint: {ENDPOINT}\n")
    gpu = (folder / GPU).read_text().replace("nodes: 2", "nodes: 1")
    (folder / GPU).write_text(gpu.replace("10.244.2.0/24", "10.244.5.0/24"))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Checkout]:
    """All of them bare."""
    shutil.copytree(ROOT / "inventory", tmp_path / "declared" / "inventory")
    declare(tmp_path / "declared")
    site = load_declared(tmp_path / "declared" / "inventory", SITE).site
    lab, folder = ClusterLab(tmp_path / "three"), tmp_path / "gridplane"
    folder.mkdir()
    try:
        lab.up(site, INVENTORY, bare=frozenset({"all"}))
        namespace = lab.network.path().name
        run("ip", "-netns", namespace, "address", "add", f"{ENDPOINT}/32", "dev", "lo")
        front = [sys.executable, "-m", "tests.lab.front", ENDPOINT, "6443", *ADDRESSES]
        running = subprocess.Popen([str(part) for part in lab.command(front)], cwd=ROOT)
        try:
            made = Checkout(folder, lab, bundle.bundle())
            declare(folder)
            code, said = made.pulumi("stack", "init", STACK)
            assert code == 0, said
            yield made
        finally:
            running.kill()
            running.wait()
    finally:
        lab.down()


def test_a_server_of_three_dies_while_the_cluster_is_made_and_after(three: Checkout) -> None:
    code, said = cut_while_joining(three, three.lab, SERVERS[1])
    assert code != 0
    assert f"host {SERVERS[1]}: " in said
    three.lab.power(SERVERS[1], "on")
    three.up()
    nodes = three.nodes()
    assert {name for name, node in nodes.items() if is_ready(node)} == {*SERVERS, MANAGEMENT, NODE}
    assert {
        name
        for name, node in nodes.items()
        if "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
    } == {*SERVERS}

    three.lab.power(SERVERS[0], "off")
    soon_ready(three, SERVERS[0], ready=False)
    # The cluster answers, and so does the stack.
    three.declare("feed: lab-hall-p3", "feed: lab-hall-p4")
    assert "1 updated" in three.up()
    assert three.nodes()[NODE]["metadata"]["labels"]["gridplane.dev/feed"] == "lab-hall-p4"
    three.lab.power(SERVERS[0], "on")
    soon_ready(three, SERVERS[0])
    nothing_changes(three)
