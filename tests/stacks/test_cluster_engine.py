"""The cluster layer on the real engine, our provider as its plugin, against simulated machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pulumi
import pytest
from pulumi import automation

from control_plane.provision.admission import PLATFORM_POLICY
from control_plane.provision.cluster import Agents, ClusterPlan, Node
from control_plane.simulator.hosts.sshd import Hall
from stacks.cluster import SiteCluster
from tests.provider.base import KUBEADM, LOGIN, SERVER_TAINT, a_hall, node

pytestmark = pytest.mark.lab("pulumi")
SERVERS = ("s1", "s2", "s3")
Up = Callable[..., automation.Stack]


@pytest.fixture
def hall() -> Iterator[Hall]:
    with a_hall(*SERVERS, "n1", "n2", "n3") as made:
        yield made


@pytest.fixture
def stack(
    hall: Hall, engine: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., automation.Stack]:
    """The stack with these nodes in the rack."""
    assert engine
    LOGIN.write_private_key_file(str(tmp_path / "login"))
    (tmp_path / "known_hosts").write_text(hall.known_hosts())
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GRIDPLANE_LOGIN_KEY", str(tmp_path / "login"))
    monkeypatch.setenv("GRIDPLANE_KNOWN_HOSTS", str(tmp_path / "known_hosts"))

    def made(*nodes: Node, on_removal: str = "uninstall") -> automation.Stack:
        plan = ClusterPlan(
            site="lab",
            software=msgspec.structs.replace(KUBEADM, on_removal=on_removal),
            servers=tuple(
                msgspec.structs.replace(node(hall, name), taints=(SERVER_TAINT,))
                for name in SERVERS
            ),
            agents=(Agents(name="r1", nodes=nodes),),
            host_keys={},
        )

        def program() -> None:
            cluster = SiteCluster(plan, pulumi.ProviderResource("gridplane", "machines", {}))
            pulumi.export("kubeconfig", cluster.kubeconfig)

        return automation.create_or_select_stack("lab.cluster", "gridplane", program)

    return made


def state(tmp_path: Path) -> str:
    [found] = (tmp_path / "pulumi" / "state").rglob("lab.cluster.json")
    return found.read_text()


def resources(stack: automation.Stack) -> set[str]:
    """Types and names of what is in a stack's state."""
    found = stack.export_stack().deployment or {}
    return {one["urn"].partition("::gridplane::")[2] for one in found.get("resources", [])}


def test_up_makes_a_cluster_and_the_next_ones_follow_the_declaration(
    stack: Up, hall: Hall, tmp_path: Path
) -> None:
    n1, n2, n3 = (node(hall, name, rack="r1") for name in ("n1", "n2", "n3"))
    first = stack(n1, n2).up()
    assert first.summary.resource_changes == {"create": 9}
    assert hall.cluster.nodes.keys() == {*SERVERS, "n1", "n2"}
    assert hall.cluster.began == 1
    config = first.outputs["kubeconfig"]
    assert config.secret
    assert "https://10.0.0.1:6443" in config.value
    assert "client-key-data" not in state(tmp_path), "only as ciphertext"

    stack(n1, n2).preview(expect_no_changes=True)
    # Looking finds nothing new: machines are as their state has them.
    stack(n1, n2).refresh(expect_no_changes=True)

    relabelled = node(hall, "n1", rack="r1", row="7")
    assert stack(relabelled, n3).up().summary.resource_changes == {"same": 8, "update": 1}
    assert hall.cluster.nodes.keys() == {*SERVERS, "n1", "n3"}
    assert hall.cluster.nodes["n1"].labels["gridplane.dev/row"] == "7"
    assert hall.cluster.drained == ["n2"]


def test_a_server_of_three_that_is_dark_stops_nobody_else(stack: Up, hall: Hall) -> None:
    n1, n2 = node(hall, "n1", rack="r1"), node(hall, "n2", rack="r1")
    stack(n1).up()
    hall.machines["s1"].cut()
    stack(n1, n2).up()
    assert "n2" in hall.cluster.nodes
    hall.machines["s1"].boot()
    stack(n1, n2).preview(expect_no_changes=True)


def test_destroy_is_refused_before_it_begins_or_lets_machines_run(stack: Up, hall: Hall) -> None:
    n1 = node(hall, "n1", rack="r1")
    stack(n1).up()
    with pytest.raises(automation.CommandError, match="cannot be deleted"):
        stack(n1).destroy()
    assert hall.cluster.drained == []
    assert "/etc/kubernetes/kubelet.conf" in hall.machines["n1"].files
    released = stack(n1, on_removal="release")
    released.up()
    released.destroy()
    assert resources(released) == set()


@pytest.mark.parametrize("on_removal", ["release", "uninstall"])
def test_nothing_goes_while_a_platform_stands_on_it(stack: Up, hall: Hall, on_removal: str) -> None:
    made = stack(node(hall, "n1", rack="r1"), on_removal=on_removal)
    made.up()
    before = resources(made)
    hall.cluster.policies.add(PLATFORM_POLICY)
    refused = r"`pulumi\s+destroy\s+--stack\s+lab\.platform`\s+first"
    with pytest.raises(automation.CommandError, match=refused):
        made.destroy()
    assert resources(made) == before
    assert hall.cluster.nodes.keys() == {*SERVERS, "n1"}
    assert hall.cluster.is_ready("n1")
