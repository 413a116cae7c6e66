"""Machines with nothing but sshd become a Kubernetes cluster by one `pulumi up` of the stack `lab.cluster`.

Everything is real: OpenSSH with pinned keys, systemd, containerd, kubeadm, the kubelets, Pulumi's engine, our
provider. One story, in order: each step takes minutes to arrive at.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control_plane.cli.workplace import load_declared
from control_plane.lab import bundle
from control_plane.lab.cluster import ClusterLab
from tests.lab.checkout import STACK, Checkout, cut_while_joining, is_ready, nothing_changes
from tests.lab.machines import INVENTORY, SITE, host

pytestmark = [pytest.mark.cluster, pytest.mark.lab("pulumi"), pytest.mark.slow]
SERVER, FIRST, SECOND = "lab-mgmt-1", "lab-g1-n1", "lab-g1-n2"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterLab]:
    lab = ClusterLab(tmp_path_factory.mktemp("lab") / "bare")
    try:
        lab.up(load_declared(INVENTORY, SITE).site, INVENTORY, bare=frozenset({"all"}))
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def checkout(bare: ClusterLab, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project, with one of the two GPU nodes declared."""
    folder = tmp_path_factory.mktemp("checkout") / "gridplane"
    folder.mkdir()
    made = Checkout(folder, bare, bundle.bundle())
    made.declare("nodes: 2", "nodes: 1")
    code, said = made.pulumi("stack", "init", STACK)
    assert code == 0, said
    return made


def test_bare_hosts_become_a_cluster_that_follows_its_declaration(
    checkout: Checkout, bare: ClusterLab
) -> None:
    code, said = checkout.pulumi("preview", "--stack", STACK)
    assert (code, "7 to create" in said) == (0, True), said
    assert bare.hosts.run(host(bare, SERVER), "command -v kubeadm containerd || true") == ""

    checkout.up()
    nodes = checkout.nodes()
    assert {name: is_ready(node) for name, node in nodes.items()} == {SERVER: True, FIRST: True}
    assert (
        nodes[FIRST]["metadata"]["labels"].items()
        >= {
            "topology.kubernetes.io/region": SITE,
            "topology.kubernetes.io/zone": "lab-g1",
            "gridplane.dev/rack": "lab-g1",
            "gridplane.dev/feed": "lab-hall-p3",
            "gridplane.dev/power-domain": "lab-hall",
        }.items()
    )
    taints = {taint["key"] for taint in nodes[SERVER]["spec"]["taints"]}
    assert taints >= {"node-role.kubernetes.io/control-plane", "gridplane.dev/role"}
    nothing_changes(checkout)

    # A node is added, and loses its power in the middle.
    checkout.declare("nodes: 1", "nodes: 2")
    code, said = cut_while_joining(checkout, bare, SECOND)
    assert code != 0
    assert f"host {SECOND}: " in said
    assert bare.up(load_declared(INVENTORY, SITE).site, INVENTORY)
    checkout.up()
    nodes = checkout.nodes()
    assert {name: is_ready(node) for name, node in nodes.items()} == {
        SERVER: True, FIRST: True, SECOND: True,
    }  # fmt: skip
    nothing_changes(checkout)

    # A label follows the declaration; nothing else is touched.
    checkout.declare("feed: lab-hall-p3", "feed: lab-hall-p4")
    assert "1 updated" in checkout.up()
    labels = {name: node["metadata"]["labels"] for name, node in checkout.nodes().items()}
    assert labels[FIRST]["gridplane.dev/feed"] == "lab-hall-p4"
    nothing_changes(checkout)

    # What was done by hand is seen, and put right.
    kubectl(bare, f"label node {FIRST} gridplane.dev/rack=elsewhere --overwrite")
    code, said = checkout.pulumi("refresh", "--yes", "--skip-preview", "--stack", STACK)
    assert code == 0, said
    checkout.up()
    assert checkout.nodes()[FIRST]["metadata"]["labels"]["gridplane.dev/rack"] == "lab-g1"

    # A node that is no longer declared is drained, forgotten, and its host is bare of Kubernetes.
    checkout.declare("nodes: 2", "nodes: 1")
    checkout.up()
    assert checkout.nodes().keys() == {SERVER, FIRST}
    left = "ls /etc/kubernetes/*.conf /var/lib/gridplane/joining 2>/dev/null || true"
    assert bare.hosts.run(host(bare, SECOND), left) == ""
    nothing_changes(checkout)


def kubectl(lab: ClusterLab, words: str) -> None:
    lab.hosts.run(host(lab, SERVER), f"kubectl --kubeconfig=/etc/kubernetes/admin.conf {words}")
