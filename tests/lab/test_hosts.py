"""What hosts are made of, without booting any: pure parts, and what is said where a machine cannot."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.workplace import load_declared
from control_plane.core.fleet import DeviceKind, Site
from control_plane.lab import guest, images, kubeadm, pki, probe, records
from control_plane.lab.cluster import MOST_HOSTS, declared_hosts, device_networks
from control_plane.lab.network import collapsed
from control_plane.lab.records import ApiRecord, ClusterRecord, HostRecord, LabError, Ports

INVENTORY = Path(__file__).resolve().parents[2] / "inventory"
SERVER = HostRecord(name="server", number=1, address="10.0.0.1", role="server")
AGENT = HostRecord(name="agent", number=2, address="10.0.0.2", role="agent")
BARE = HostRecord(name="bare", number=3, address="10.0.0.3", role="bare")


@pytest.fixture(scope="module")
def lab() -> Site:
    return load_declared(INVENTORY, "lab").site


# --- which hosts and devices ---------------------------------------------------------------------


def test_a_sites_hosts_are_its_management_hosts_then_its_gpu_nodes(lab: Site) -> None:
    assert [(h.name, h.address, h.role) for h in declared_hosts(lab)] == [
        ("lab-mgmt-1", "10.90.1.10", "server"),
        ("lab-g1-n1", "10.90.2.11", "agent"),
        ("lab-g1-n2", "10.90.2.12", "agent"),
    ]


def test_bare_hosts_have_no_part_in_the_cluster(lab: Site) -> None:
    hosts = declared_hosts(lab, bare=frozenset({"lab-mgmt-1"}))
    assert [h.role for h in hosts] == ["bare", "server", "agent"]
    assert all(h.is_bare for h in declared_hosts(lab, bare=frozenset({"all"})))


@pytest.mark.parametrize(
    ("only", "says"),
    [
        (frozenset({"lab-mgmt-9"}), "declares no host lab-mgmt-9; it has lab-mgmt-1, lab-g1-n1"),
        (frozenset({"all"}), "declares 0 hosts"),
    ],
)
def test_hosts_that_are_not_declared_are_named(lab: Site, only: frozenset[str], says: str) -> None:
    with pytest.raises(LabError, match=says):
        declared_hosts(lab, only=only)


def test_a_site_of_many_hosts_is_not_booted_whole() -> None:
    site = load_declared(INVENTORY, "ga-macon").site
    with pytest.raises(LabError, match=f"a lab has 1 to {MOST_HOSTS}: name some with --host"):
        declared_hosts(site)


def test_devices_answer_at_miners_addresses_and_at_no_hosts(lab: Site) -> None:
    networks = [ipaddress.ip_network(cidr) for cidr in device_networks(lab)]
    held = {str(address) for network in networks for address in network}
    miners = {d.address for d in lab.devices if d.type.kind is DeviceKind.MINER}
    assert held == miners | {"10.90.1.9"}, "and the store of images"
    assert not held & {host.address for host in declared_hosts(lab)}


@given(st.sets(st.ip_addresses(v=4).map(str), min_size=1, max_size=40))
def test_collapsed_networks_hold_these_addresses_and_no_other(addresses: set[str]) -> None:
    networks = [ipaddress.ip_network(cidr) for cidr in collapsed(addresses)]
    assert sum(network.num_addresses for network in networks) == len(addresses)
    assert all(any(ipaddress.ip_address(a) in n for n in networks) for a in addresses)


# --- what is on their disks ----------------------------------------------------------------------


def test_a_node_has_what_kubeadm_wants_and_a_bare_host_has_not() -> None:
    def files(host: HostRecord) -> set[str]:
        return set(guest.files(host, [SERVER, AGENT, BARE], host_key="k", authorized_key="a"))

    only_nodes = files(AGENT) - files(BARE)
    assert only_nodes == {
        "etc/containerd/config.toml",
        "etc/cni/net.d/10-lab.conflist",
        "etc/systemd/system/kubelet.service",
    }
    assert files(BARE) < files(AGENT)


def test_each_hosts_pods_are_in_a_network_of_their_own() -> None:
    written = guest.files(AGENT, [SERVER, AGENT], host_key="k", authorized_key="a")
    plugin = json.loads(written["etc/cni/net.d/10-lab.conflist"])["plugins"][0]
    assert plugin["ipam"]["ranges"] == [[{"subnet": AGENT.pods}]]
    assert ipaddress.ip_network(AGENT.pods).subnet_of(ipaddress.ip_network(kubeadm.PODS))  # type: ignore[arg-type]
    assert SERVER.pods != AGENT.pods


def test_hosts_know_one_another_by_name() -> None:
    written = guest.files(AGENT, [SERVER, AGENT], host_key="k", authorized_key="a")
    assert f"{SERVER.address} {SERVER.name}\n" in written["etc/hosts"]


# --- what kubeadm is told ------------------------------------------------------------------------


def test_no_image_is_ever_pulled() -> None:
    told = kubeadm.init_config(SERVER, token="a.b", names=["127.0.0.1"])
    documents = [json.loads(text) for text in told.split("---\n")]
    cluster = next(d for d in documents if d["kind"] == "ClusterConfiguration")
    repositories = {
        cluster["imageRepository"],
        cluster["dns"]["imageRepository"],
        cluster["etcd"]["local"]["imageRepository"],
    }
    assert repositories == {images.REGISTRY}
    assert guest.PAUSE_IMAGE.startswith(f"{images.REGISTRY}/pause:")


def test_an_agent_pins_the_authority_that_it_joins(tmp_path: Path) -> None:
    import datetime as dt

    authority = pki.Authority(tmp_path, "ca", dt.datetime.now(dt.UTC))
    other = pki.Authority(tmp_path, "other", dt.datetime.now(dt.UTC))
    pins = [kubeadm.pin_of(a.certificate_file.read_bytes()) for a in (authority, other)]
    assert pins[0] != pins[1]
    told = json.loads(kubeadm.join_config(AGENT, SERVER, token="a.b", pin=pins[0]))
    discovery = told["discovery"]["bootstrapToken"]
    assert discovery["caCertHashes"] == [pins[0]]
    assert "unsafeSkipCAVerification" not in discovery


def test_tokens_are_of_the_form_that_kubernetes_takes_and_never_the_same() -> None:
    tokens = {kubeadm.new_token() for _ in range(20)}
    assert len(tokens) == 20
    assert all(len(a) == 6 and len(b) == 16 for a, b in (t.split(".") for t in tokens))


# --- what is said --------------------------------------------------------------------------------


def test_without_root_the_machine_is_told_to_be_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        LabError, match=r"hosts need root: run it with sudo(.|\n)*needs none of this"
    ):
        probe.require()


def test_packages_that_are_missing_are_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("control_plane.lab.commands._SYSTEM_PLACES", ())
    [told] = [line for line in probe.missing() if "apt-get install" in line]
    assert {"mmdebstrap", "systemd-container", "iproute2", "util-linux"} <= set(told.split())


@pytest.mark.cluster
def test_what_the_kernel_refuses_is_named_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert probe.missing() == []
    attempt = "unshare --net ip link add name here type nonesuch"
    monkeypatch.setattr(probe, "_TRIES", {"a link of no known type": attempt})
    [told] = probe.missing()
    assert told.startswith("the kernel refuses a link of no known type: ")
    assert "Unknown device type" in told


def test_a_full_disk_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.require_room(tmp_path / "not" / "there" / "yet")
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(LabError, match=r"has 0\.0 GB free, and hosts take up to 4: make room"):
        probe.require_room(tmp_path)


# --- what a folder remembers ---------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    api = ApiRecord(
        ports=Ports(etcd=1, etcd_peer=2, api=3, controller_manager=4, scheduler=5, kwok=6)
    )
    cluster = ClusterRecord(
        site="lab", inventory="/i", port=7, hosts=(SERVER, BARE), devices=("10.0.0.0/24",)
    )
    assert records.read(tmp_path) is None
    for record in (api, cluster):
        records.write(tmp_path, record)
        assert records.read(tmp_path) == record


@pytest.mark.parametrize("content", [b"", b"{", b'{"form": "moon"}', b'{"form": "api"}'])
def test_a_damaged_record_says_how_to_go_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lab.json").write_bytes(content)
    with pytest.raises(LabError, match="`gridplane lab down` clears the folder"):
        records.read(tmp_path)
