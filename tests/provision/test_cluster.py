"""A site → its cluster: who serves, who is labelled how, and what each machine is told."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from control_plane.core.errors import UnexpectedReply
from control_plane.core.fleet import Site
from control_plane.core.secret import Secret
from control_plane.hosts.bundle import BadBundle, Bundle, Supply, read_bundle, write_bundle
from control_plane.hosts.items import File
from control_plane.inventory.load import load
from control_plane.provision.backend import Ticket
from control_plane.provision.backends import BACKENDS
from control_plane.provision.cluster import ClusterPlan, Node, plan_cluster
from control_plane.provision.kubeadm import Kubeadm
from control_plane.simulator.hosts.kubernetes import Cluster

INVENTORY = Path(__file__).resolve().parents[2] / "inventory"
RESOURCES_MAX = 300
TICKET = Ticket(
    token=Secret("abcdef.0123456789abcdef"), authority="ab" * 32, certificate_key=Secret("cd" * 32)
)


@functools.cache
def site(name: str) -> Site:
    fleet = load(INVENTORY, {name}).fleet
    assert fleet is not None
    return fleet.sites[name]


def plan(name: str) -> ClusterPlan:
    found = plan_cluster(site(name))
    assert found is not None
    return found


def node(name: str, plan: ClusterPlan) -> Node:
    nodes = [*plan.servers, *(n for group in plan.agents for n in group.nodes)]
    [found] = [n for n in nodes if n.name == name]
    return found


def documents(text: str) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def files(node: Node, plan: ClusterPlan) -> dict[str, str]:
    backend = BACKENDS[plan.software.backend]
    items = [i for phase in backend.preparation(node, plan.software, ()) for i in phase]
    return {item.path: item.content for item in items if isinstance(item, File)}


def test_the_example_site_has_three_servers_and_a_resource_for_each_rack() -> None:
    made = plan("ga-macon")
    assert [server.name for server in made.servers] == ["ga-cp-1", "ga-cp-2", "ga-cp-3"]
    assert [made.agents[0].name, *(n.name for n in made.agents[0].nodes)] == [
        "management", "ga-mgmt-1", "ga-mgmt-2",
    ]  # fmt: skip
    assert len(made.agents) == 1 + 128
    # The stack, the provider, the component and the kubeconfig beside them.
    assert len(made.servers) + len(made.agents) + 4 <= RESOURCES_MAX
    assert made.software.endpoint == "10.21.0.20"


def test_machines_are_reached_through_the_jump_host_which_is_reached_itself() -> None:
    made = plan("ga-macon")
    assert node("ga-mgmt-1", made).target.via is None
    via = node("ga-g1-r001-n1", made).target.via
    assert via is not None
    assert (via.name, via.address) == ("ga-mgmt-1", "10.21.0.11")


def test_labels_and_taints_follow_the_inventory() -> None:
    made = plan("ga-macon")
    assert node("ga-g1-r001-n2", made).labels == {
        "topology.kubernetes.io/region": "ga-macon",
        "topology.kubernetes.io/zone": "ga-g1-r001",
        "gridplane.dev/site": "ga-macon",
        "gridplane.dev/rack": "ga-g1-r001",
        "gridplane.dev/feed": "ga-g1-p1",
        "gridplane.dev/power-domain": "ga-g1",
        "gridplane.dev/role": "gpu",
    }
    assert node("ga-g1-r001-n2", made).taints == ()
    assert node("ga-mgmt-2", made).taints == ("gridplane.dev/role:NoSchedule",)
    assert node("ga-cp-1", made).taints == ("node-role.kubernetes.io/control-plane:NoSchedule",)


def test_a_site_without_servers_of_its_own_has_its_first_management_host() -> None:
    made = plan("lab")
    assert [server.name for server in made.servers] == ["lab-mgmt-1"]
    assert made.software.endpoint == "10.90.1.10"
    assert [group.name for group in made.agents] == ["lab-g1"]
    # Where controllers and firmware Jobs run, whichever else it is.
    assert node("lab-mgmt-1", made).labels["gridplane.dev/role"] == "management"
    assert node("lab-mgmt-1", made).taints == (
        "node-role.kubernetes.io/control-plane:NoSchedule",
        "gridplane.dev/role:NoSchedule",
    )


def test_a_site_that_declares_none_has_none() -> None:
    assert plan_cluster(site("wa-hosted")) is None


def test_it_crosses_to_the_provider_and_back() -> None:
    made = plan("ga-macon")
    for value in (made.software, made.servers[0], made.agents[0].nodes[0]):
        crossed = msgspec.json.decode(msgspec.json.encode(value))
        assert msgspec.convert(crossed, type(value)) == value


# --- kubeadm ---------------------------------------------------------------------------------


def test_the_first_server_is_told_of_the_endpoint_and_of_nothing_that_the_site_routes() -> None:
    made = plan("lab")
    step = Kubeadm().begin(made.servers[0], made.software)
    [config] = step.files
    told = documents(config.content)
    assert (config.mode, step.leftovers) == (0o600, (config.path,))
    cluster = told["ClusterConfiguration"]
    assert cluster["controlPlaneEndpoint"] == "10.90.1.10:6443"
    assert cluster["networking"] == {"serviceSubnet": "10.96.0.0/16"}
    assert told["KubeletConfiguration"]["cgroupDriver"] == "cgroupfs"
    assert told["KubeletConfiguration"]["failSwapOn"] is False
    assert told["KubeProxyConfiguration"]["conntrack"] == {"maxPerCore": 0, "min": 0}
    other = plan("ga-macon")
    told = documents(Kubeadm().begin(other.servers[0], other.software).files[0].content)
    assert told["ClusterConfiguration"]["networking"]["podSubnet"] == "10.128.0.0/14"
    assert told["ClusterConfiguration"]["apiServer"]["certSANs"] == ["10.21.0.20", "10.21.0.21"]


def test_a_server_joins_with_the_key_to_the_certificates_and_an_agent_without() -> None:
    made = plan("ga-macon")
    backend = Kubeadm()
    joined = backend.join(made.servers[1], made.software, TICKET, is_server=True)
    told = documents(joined.files[0].content)["JoinConfiguration"]
    assert told["controlPlane"]["certificateKey"] == "cd" * 32
    assert told["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "10.21.0.22"
    agent = backend.join(made.agents[0].nodes[0], made.software, TICKET, is_server=False)
    told = documents(agent.files[0].content)["JoinConfiguration"]
    assert "controlPlane" not in told
    assert told["discovery"]["bootstrapToken"] == {
        "apiServerEndpoint": "10.21.0.20:6443",
        "token": "abcdef.0123456789abcdef",
        "caCertHashes": ["sha256:" + "ab" * 32],
    }
    assert told["nodeRegistration"]["taints"] == [
        {"key": "gridplane.dev/role", "effect": "NoSchedule"}
    ]


def test_a_ticket_is_read_from_what_a_server_prints() -> None:
    authority = Cluster()
    answers = ("W0101 warning\nabcdef.0123456789abcdef\n", authority.authority)
    made = Kubeadm().ticket(answers, is_server=False)
    assert made.token.reveal() == "abcdef.0123456789abcdef"
    assert f"sha256:{made.authority}" == authority.pin()
    key = "[upload-certs] Using certificate key:\n" + "ef" * 32 + "\n"
    server = Kubeadm().ticket((*answers, key), is_server=True)
    assert server.certificate_key == Secret("ef" * 32)
    for broken in (("", answers[1]), ("error", answers[1]), (answers[0], "no certificate")):
        with pytest.raises(UnexpectedReply):
            Kubeadm().ticket(broken, is_server=False)


def test_containerd_has_what_the_gpu_operator_needs_and_mirrors_come_first() -> None:
    made = plan("ga-macon")
    written = files(node("ga-g1-r001-n1", made), made)
    config = written["/etc/containerd/config.toml"]
    assert "enable_cdi = true" in config
    assert 'imports = ["/etc/containerd/conf.d/*.toml"]' in config
    assert "SystemdCgroup = true" in config
    assert written["/etc/containerd/certs.d/nvcr.io/hosts.toml"] == (
        'server = "https://nvcr.io"\n\n[host."https://mirror.ga-macon.example"]\n'
        '  capabilities = ["pull", "resolve"]\n'
    )
    assert not [path for path in written if path.startswith("/etc/cni/")]
    routed = files(node("lab-g1-n2", plan("lab")), plan("lab"))
    network = msgspec.json.decode(routed["/etc/cni/net.d/10-gridplane.conflist"])
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24"}]]


# --- bundles ---------------------------------------------------------------------------------

BUNDLE = Bundle(
    form=1,
    kubernetes="1.36.3",
    supplies=(Supply(name="kubelet", file="kubelet", kind="file", sha256="ab" * 32),),
)


def test_a_bundle_is_read_as_it_was_written() -> None:
    assert read_bundle(write_bundle(BUNDLE), "bundle.json") == BUNDLE
    made = plan_cluster(site("lab"), BUNDLE.supplies)
    assert made is not None
    assert made.software.payloads == BUNDLE.supplies


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"form": 1', b'"form": 2', "is of form 2; this release reads 1"),
        (b'"file": "kubelet"', b'"file": "../../etc/shadow"', "outside of the bundle"),
        (b'"kind": "file"', b'"kind": "script"', "is a script; known are file, tree, image"),
        (b'"supplies"', b'"supplied"', "make the bundle anew"),
        (b"{", b"", "make the bundle anew"),
    ],
)
def test_a_bundle_that_cannot_be_used_says_why(old: bytes, new: bytes, words: str) -> None:
    text = write_bundle(BUNDLE)
    assert old in text
    with pytest.raises(BadBundle, match=words):
        read_bundle(text.replace(old, new, 1), "bundle.json")
