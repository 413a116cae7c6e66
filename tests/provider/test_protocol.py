"""The provider over its real protocol and real SSH, against simulated machines: no engine, no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import msgspec
import paramiko
import pytest

from control_plane.provision.cluster import Software
from control_plane.simulator.hosts.sshd import Hall
from tests.provider.base import KUBEADM, LOGIN, RKE2, a_hall, agents, node, server, target
from tests.provider.engine import UNKNOWN, Client, Hidden, a_provider, partly, plain

SERVERS = ("s1", "s2", "s3")
RACK = ("n1", "n2")


@pytest.fixture
def hall() -> Iterator[Hall]:
    with a_hall(*SERVERS, *RACK, "spare") as made:
        yield made


@pytest.fixture
def client(hall: Hall, tmp_path: Path) -> Iterator[Client]:
    """Configured for the hall."""
    LOGIN.write_private_key_file(str(tmp_path / "login"))
    (tmp_path / "known_hosts").write_text(hall.known_hosts())
    with a_provider(tmp_path / "provider.log") as made:
        said = made.configure(
            loginKey=str(tmp_path / "login"), knownHosts=str(tmp_path / "known_hosts")
        )
        assert said.supportsPreview
        assert said.acceptSecrets
        yield made
    assert (tmp_path / "provider.log").read_text() == ""


def rack(hall: Hall, *names: str, **more: Any) -> dict[str, Any]:
    nodes = [node(hall, name, rack="r1") for name in names or RACK]
    return agents(hall, *nodes, servers=SERVERS, **more)


def bring_servers(client: Client, hall: Hall, **more: Any) -> None:
    for name in SERVERS:
        peers = [other for other in SERVERS if other != name]
        made = client.create("Server", server(hall, name, peers, **more))
        assert made.id == name


def lines(hall: Hall, name: str, program: str) -> list[str]:
    return [line for line in hall.machines[name].log if program in line]


def code(client: Client, call: str, *arguments: Any) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        getattr(client, call)(*arguments)
    details = cast("grpc.Call", raised.value).details()
    assert details is not None
    return details


@pytest.mark.parametrize("base", [KUBEADM, RKE2], ids=["kubeadm", "rke2"])
def test_machines_with_sshd_alone_become_a_cluster(client: Client, hall: Hall, base: Any) -> None:
    bring_servers(client, hall, base=base)
    inputs = rack(hall, base=base)
    made = client.create("Agents", inputs)
    assert (made.id, plain(made.properties)) == ("n1", inputs)
    cluster = hall.cluster
    assert cluster.began == 1
    assert cluster.members == set(SERVERS)
    assert cluster.nodes.keys() == {*SERVERS, *RACK}
    assert cluster.nodes["n1"].labels["gridplane.dev/rack"] == "r1"
    assert cluster.nodes["s2"].taints == {"node-role.kubernetes.io/control-plane:NoSchedule"}

    # A second time nothing differs, and nothing is written.
    assert client.diff("Agents", plain(made.properties), inputs).changes == 1
    before = {name: len(machine.log) for name, machine in hall.machines.items()}
    client.update("Agents", plain(made.properties), inputs)
    for name in RACK:
        told = hall.machines[name].log[before[name] :]
        assert not [line for line in told if line.split()[0] in {"install", "kubeadm", "rm"}]


def test_a_preview_touches_nothing_and_knows_what_it_cannot_know(
    client: Client, hall: Hall
) -> None:
    made = client.create("Agents", rack(hall), preview=True)
    assert plain(made.properties) == rack(hall)
    inputs = {key: rack(hall)[key] for key in ("software", "servers")}
    previewed = client.create("Kubeconfig", inputs, preview=True)
    assert plain(previewed.properties)["kubeconfig"] == UNKNOWN
    assert all(machine.log == [] for machine in hall.machines.values())


def test_a_kubeconfig_is_a_secret_and_leads_to_the_endpoint(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    inputs = {key: rack(hall)[key] for key in ("software", "servers")}
    made = plain(client.create("Kubeconfig", inputs).properties)
    assert isinstance(made["kubeconfig"], Hidden)
    assert "server: https://10.0.0.1:6443\n" in made["kubeconfig"]
    hall.machines["s1"].cut()
    again = plain(client.read("Kubeconfig", {**inputs, "kubeconfig": "old"}).properties)
    assert "client-key-data" in again["kubeconfig"], "a server that is down is no hindrance"


def test_a_diff_says_which_nodes(client: Client, hall: Hall) -> None:
    state = rack(hall, "n1", "n2")
    relabelled = node(hall, "n1", rack="r2")
    wanted = agents(hall, relabelled, node(hall, "spare", rack="r1"), servers=SERVERS)
    said = client.diff("Agents", state, wanted)
    assert set(said.detailedDiff) == {'nodes["n1"].labels', 'nodes["n2"]', 'nodes["spare"]'}
    assert list(said.replaces) == []
    other_door = {**state, "servers": state["servers"][:1]}
    assert client.diff("Agents", state, other_door).changes == 1, (
        "the way in is no property of a node"
    )


def test_nodes_come_labels_change_and_nodes_go(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    state = plain(client.create("Agents", rack(hall)).properties)
    hall.cluster.nodes["n1"].labels["team"] = "theirs"
    wanted = agents(
        hall, node(hall, "n1", row="7"), node(hall, "spare", rack="r1"), servers=SERVERS
    )
    state = plain(client.update("Agents", state, wanted).properties)
    assert state == wanted
    nodes = hall.cluster.nodes
    assert nodes.keys() == {*SERVERS, "n1", "spare"}
    assert hall.cluster.drained == ["n2"]
    assert nodes["n1"].labels == {
        "kubernetes.io/hostname": "n1", "gridplane.dev/row": "7", "team": "theirs",
    }  # fmt: skip
    assert "/etc/kubernetes/kubelet.conf" not in hall.machines["n2"].files


def test_delete_releases_unless_uninstall_was_asked_for(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    kept = plain(client.create("Agents", rack(hall, "n1", on_removal="release")).properties)
    client.delete("Agents", kept)
    assert "n1" in hall.cluster.nodes
    assert "kubelet.service" in hall.machines["n1"].running
    gone = plain(client.create("Agents", rack(hall, "n2", on_removal="uninstall")).properties)
    client.delete("Agents", gone)
    assert "n2" not in hall.cluster.nodes
    third = plain(client.create("Server", server(hall, "s3", ["s1", "s2"])).properties)
    client.delete("Server", third)
    assert hall.cluster.members == {"s1", "s2"}
    assert "s3" not in hall.cluster.nodes


def test_a_node_that_is_right_is_adopted_and_one_of_another_cluster_is_not(
    client: Client, hall: Hall
) -> None:
    bring_servers(client, hall)
    client.create("Agents", rack(hall))
    joins = len(lines(hall, "n1", "kubeadm join"))
    # The state was lost: the same is created again.
    assert plain(client.create("Agents", rack(hall)).properties) == rack(hall)
    assert len(lines(hall, "n1", "kubeadm join")) == joins
    with a_hall("foreign") as other:
        other.cluster.begin(other.machines["foreign"], set())
        foreign = other.cluster.authority
    hall.machines["n1"].put("/etc/kubernetes/pki/ca.crt", foreign)
    written = len(lines(hall, "n1", "dd "))
    assert "n1 is a node of another cluster" in code(client, "create", "Agents", rack(hall))
    assert len(lines(hall, "n1", "dd ")) == written


def test_one_host_that_fails_stays_with_its_name(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    hall.machines["n2"].cut()
    with pytest.raises(grpc.RpcError) as raised:
        client.create("Agents", rack(hall))
    failed = partly(raised.value)
    assert failed.id == "n1"
    assert [reason.split(" (")[0] for reason in failed.reasons] == ["host n2"]
    state = plain(failed.properties)
    assert state["nodes"].keys() == {"n1"}
    assert "n1" in hall.cluster.nodes
    # The next update sees it missing, and does it.
    assert 'nodes["n2"]' in client.diff("Agents", state, rack(hall)).detailedDiff
    hall.machines["n2"].boot()
    assert plain(client.update("Agents", state, rack(hall)).properties) == rack(hall)
    assert "n2" in hall.cluster.nodes


@pytest.mark.parametrize(
    ("base", "at"),
    [
        (KUBEADM, ("kubeadm", "join")),
        # It has joined, its kubelet runs again after the boot, and its node counts as ready.
        (KUBEADM, ("rm", "-f")),
        (KUBEADM, ("systemctl", "enable")),
        # The cluster knows it by a password that goes with what is left of the attempt.
        (RKE2, ("rm", "-f")),
        (RKE2, ("systemctl", "restart")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.backend,
)
def test_a_host_that_dies_in_the_middle_is_taken_up(
    client: Client, hall: Hall, base: Software, at: tuple[str, ...]
) -> None:
    bring_servers(client, hall, base=base)
    hall.machines["n2"].faults.dies_at = at
    assert "host n2: " in code(client, "create", "Agents", rack(hall, base=base))
    hall.machines["n2"].boot()
    client.create("Agents", rack(hall, base=base))
    assert hall.cluster.is_ready("n2")
    assert "/var/lib/gridplane/joining" not in hall.machines["n2"].files
    assert "/var/lib/gridplane/kubeadm.yaml" not in hall.machines["n2"].files


def test_a_first_server_that_dies_in_the_middle_begins_one_cluster_alone(
    client: Client, hall: Hall
) -> None:
    # Killed between the end of kubeadm and our taking note of it.
    hall.machines["s1"].faults.dies_at = ("rm", "-f", "/var/lib/gridplane/kubeadm.yaml")
    assert "host s1: " in code(client, "create", "Server", server(hall, "s1", ["s2", "s3"]))
    hall.machines["s1"].boot()
    bring_servers(client, hall)
    assert hall.cluster.began == 1
    assert hall.cluster.members == set(SERVERS)


def test_no_second_cluster_is_begun_beside_one_that_may_stand(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    # The first server's disk is new; the others have the cluster.
    first = hall.machines["s1"]
    for path in [p for p in first.files if p.startswith(("/etc/kubernetes", "/var/lib"))]:
        del first.files[path]
    hall.cluster.forget("s1")
    hall.cluster.nodes.pop("s1")
    hall.machines["s2"].cut()
    hall.machines["s3"].cut()
    said = code(client, "create", "Server", server(hall, "s1", ["s2", "s3"]))
    assert "does not begin a cluster while another server is silent" in said
    hall.machines["s2"].boot()
    hall.machines["s3"].boot()
    client.create("Server", server(hall, "s1", ["s2", "s3"]))
    assert hall.cluster.began == 1
    assert hall.cluster.members == set(SERVERS)


def test_a_host_key_that_changed_touches_nothing(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    hall.host_keys["n2"] = paramiko.ECDSAKey.generate(bits=256)
    said = code(client, "create", "Agents", rack(hall))
    assert "host n2 (" in said
    assert "is pinned: it was installed anew, or another machine answers" in said
    assert hall.machines["n2"].log == []
    assert "n1" in hall.cluster.nodes


def test_a_host_that_nobody_pinned_is_not_spoken_to(hall: Hall, tmp_path: Path) -> None:
    LOGIN.write_private_key_file(str(tmp_path / "login"))
    with a_provider(tmp_path / "log") as client:
        client.configure(loginKey=str(tmp_path / "login"))
        said = code(client, "create", "Server", server(hall, "s1"))
    assert "none is pinned for it: read the fingerprint at its console" in said
    assert hall.machines["s1"].log == []


def test_keys_may_come_with_the_declaration_and_through_a_jump_host(
    hall: Hall, tmp_path: Path
) -> None:
    LOGIN.write_private_key_file(str(tmp_path / "login"))
    keys = {
        f"[{name}]:{hall.ports[name]}": f"{key.get_name()} {key.get_base64()}"
        for name, key in hall.host_keys.items()
    }
    with a_provider(tmp_path / "log") as client:
        client.configure(loginKey=str(tmp_path / "login"), hostKeys=keys)
        client.create("Server", server(hall, "s1"))
        behind = node(hall, "n1", via=target(hall, "s1"), rack="r1")
        client.create("Agents", agents(hall, behind, servers=["s1"]))
    assert "n1" in hall.cluster.nodes


def test_what_is_looked_at_is_told_as_it_is(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    state = plain(client.create("Agents", rack(hall)).properties)
    read = client.read("Agents", state)
    assert (plain(read.properties), plain(read.inputs)) == (state, state)
    hall.cluster.nodes["n1"].labels["gridplane.dev/rack"] = "r9"
    del hall.cluster.nodes["n2"]
    drifted = plain(client.read("Agents", state).properties)
    assert drifted["nodes"].keys() == {"n1"}
    assert drifted["nodes"]["n1"]["labels"] == {"gridplane.dev/rack": "r9"}
    assert set(client.diff("Agents", drifted, state).detailedDiff) == {
        'nodes["n1"].labels', 'nodes["n2"]',
    }  # fmt: skip
    hall.machines["n1"].cut()
    assert "n1" in plain(client.read("Agents", state).properties)["nodes"], "silent is not gone"


def test_what_cannot_be_changed_is_refused_with_a_reason(client: Client, hall: Hall) -> None:
    old, new = rack(hall), rack(hall, version="1.37.0", pods="10.1.0.0/16")
    failures = {one.property: one.reason for one in client.check("Agents", new, old).failures}
    assert failures.keys() == {"software.version", "software.pods"}
    assert "would change from 1.36.3 to 1.37.0" in failures["software.version"]
    assert [*client.check("Agents", old, old).failures] == []
    torn = {**old, "servers": "s1"}
    [failure] = client.check("Agents", torn).failures
    assert failure.property == "servers"


def test_a_token_is_in_no_error_and_in_no_state(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    hall.machines["n1"].faults.fails_at = ("kubeadm", "join")
    with pytest.raises(grpc.RpcError) as raised:
        client.create("Agents", rack(hall))
    told = str(raised.value) + str(partly(raised.value))
    assert hall.cluster.tokens
    for secret in (*hall.cluster.tokens, *hall.cluster.certificate_keys):
        assert secret not in told
    assert msgspec.json.encode(plain(partly(raised.value).properties)).count(b"token") == 0


def test_a_cancelled_update_begins_nothing_more(client: Client, hall: Hall) -> None:
    bring_servers(client, hall)
    client.cancel()
    assert "the update was cancelled" in code(client, "create", "Agents", rack(hall))
    assert hall.machines["n1"].log == []
