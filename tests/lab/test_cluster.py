"""A site's hosts, really booted; a cluster that kubeadm made; gridplane in its pods."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.workplace import load_declared
from control_plane.lab import cgroups, processes, remains
from control_plane.lab.cluster import ClusterLab
from control_plane.lab.commands import CommandFailed, run
from control_plane.lab.network import Network
from control_plane.lab.records import LabError
from tests.lab.cluster import Cluster, a_namespace
from tests.lab.machines import (
    INVENTORY,
    SITE,
    declaration,
    gridplane_pod,
    host,
    inside,
    served_anew,
    simulated,
    truth,
    until,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
SERVER, AGENT, OTHER_AGENT = "lab-mgmt-1", "lab-g1-n1", "lab-g1-n2"
MINER = "10.90.0.11"


@pytest.fixture
def pods(cluster_lab: ClusterLab) -> Iterator[Cluster]:
    """kubectl on the cluster, through loopback, in a namespace of the test's own."""
    with a_namespace(cluster_lab.kubeconfig) as made:
        yield made


@pytest.fixture
def bare_lab(tmp_path: Path) -> Iterator[ClusterLab]:
    """One host with sshd and nothing else."""
    lab = ClusterLab(tmp_path / "bare")
    bring_up_bare(lab)
    yield lab
    lab.down()


def bring_up_bare(lab: ClusterLab) -> bool:
    site = load_declared(INVENTORY, SITE).site
    return lab.up(site, INVENTORY, only=frozenset({SERVER}), bare=frozenset({"all"}))


def boot_id(lab: ClusterLab, name: str) -> str:
    return lab.hosts.run(host(lab, name), "cat /proc/sys/kernel/random/boot_id").strip()


def test_every_host_is_a_machine_of_its_own(cluster_lab: ClusterLab) -> None:
    names = (SERVER, AGENT, OTHER_AGENT)
    assert len({boot_id(cluster_lab, name) for name in names}) == len(names)
    for name in names:
        told = cluster_lab.hosts.run(
            host(cluster_lab, name),
            "hostname; cat /proc/1/comm; hostname -I; systemctl is-active ssh containerd kubelet",
        )
        own, first, addresses, *units = told.splitlines()
        assert (own, first, units) == (name, "systemd", ["active"] * 3)
        assert host(cluster_lab, name).address in addresses.split()


def test_a_second_up_changes_nothing(cluster_lab: ClusterLab) -> None:
    before = {name: process.pid for name, process in cluster_lab.running().items()}
    site = load_declared(INVENTORY, SITE).site
    assert set(before) == set(cluster_lab.programs())
    assert cluster_lab.up(site, INVENTORY) is False
    assert {name: process.pid for name, process in cluster_lab.running().items()} == before


def test_the_machine_itself_is_left_as_it_was(cluster_lab: ClusterLab) -> None:
    """No interface, no listener beyond loopback, no mount, no secret that others may read."""
    links = json.loads(run("ip", "-json", "link"))
    assert not [link for link in links if link.get("link_netnsid") is not None]
    assert str(cluster_lab.folder) not in Path("/proc/self/mounts").read_text()
    record = cluster_lab.record
    assert record is not None
    listening = [
        line.split()[1].split(":")
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert [at for at, port in listening if int(port, 16) == record.port] == ["0100007F"]
    assert stat.S_IMODE(cluster_lab.folder.stat().st_mode) == 0o700
    for secret in (cluster_lab.kubeconfig, cluster_lab.folder / "pki" / "ssh"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_pod_reaches_the_api_by_service_name_and_token(pods: Cluster, image: str) -> None:
    ask = (
        "import json, ssl, urllib.request as u; d = '/var/run/secrets/kubernetes.io/serviceaccount/';"
        "c = ssl.create_default_context(cafile=d + 'ca.crt');"
        "r = u.Request('https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews',"
        ' b\'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}\','
        " {'Authorization': 'Bearer ' + open(d + 'token').read(), 'Content-Type': 'application/json'});"
        "print(json.load(u.urlopen(r, context=c))['status']['userInfo']['username'])"
    )
    pods.run(
        "run",
        "asker",
        f"--image={image}",
        "--restart=Never",
        "--command",
        "--",
        "python",
        "-c",
        ask,
    )
    pods.wait("jsonpath={.status.phase}=Succeeded", "pod/asker")
    assert pods.run("logs", "asker").strip() == f"system:serviceaccount:{pods.namespace}:default"


def test_a_job_of_gridplane_reads_the_miners_at_their_declared_addresses(
    pods: Cluster, image: str
) -> None:
    pods.apply(declaration())
    pod = gridplane_pod(image, ["observe", "-o", "json"], restart="Never")
    pods.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "observe"},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        }
    )
    pods.wait("condition=Complete", "job/observe")
    said = pods.run("logs", "job/observe", "-c", "gridplane")
    seen = json.loads(said[said.index("[") :])
    models = {one["asset"]: one["identity"]["model"] for one in seen}
    assert models == {
        f"lab-r{rack}-s{slot}": model
        for rack, model in ((1, "Antminer S21"), (2, "M60S_VK30"))
        for slot in range(1, 7)
    }


def test_a_deployment_of_gridplane_keeps_the_miners_as_declared(
    cluster_lab: ClusterLab, pods: Cluster, image: str
) -> None:
    """It accepts the site, converges it, and takes back a miner that somebody stole."""
    served_anew(cluster_lab)
    pods.apply(declaration())
    pod = gridplane_pod(
        image,
        ["run", "--interval=1"],
        before=[["trust", "lab-grid", "--yes", "--by=ops"], ["apply", "--yes", "--by=ops"]],
        restart="Always",
    )
    labels = {"app": "gridplane"}
    pods.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "gridplane"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )
    pods.rolled_out("gridplane")

    declared = truth(cluster_lab, "lab-r1-s1")["pools"]
    before = simulated(cluster_lab, "status")["writes"]
    simulated(cluster_lab, "fault", "hijack", "lab-r1-s1")
    # It may be back before anybody looks; the write that did it stays counted.
    until(lambda: simulated(cluster_lab, "status")["writes"] > before)
    until(lambda: truth(cluster_lab, "lab-r1-s1")["pools"] == declared)


def test_a_host_reboots_and_its_node_comes_back(cluster_lab: ClusterLab) -> None:
    before, agent = boot_id(cluster_lab, AGENT), host(cluster_lab, AGENT)
    cluster_lab.hosts.run(agent, "systemctl reboot")

    def is_back() -> bool:
        # It may go down between one question and the next.
        with contextlib.suppress(CommandFailed):
            return boot_id(cluster_lab, AGENT) != before
        return False

    until(is_back)
    until(cluster_lab.is_ready)


def test_a_host_whose_power_is_cut_comes_back_with_its_disk(cluster_lab: ClusterLab) -> None:
    agent = host(cluster_lab, OTHER_AGENT)
    cluster_lab.hosts.run(agent, "echo kept > /root/kept")
    before = boot_id(cluster_lab, OTHER_AGENT)
    cluster_lab.power(OTHER_AGENT, "off")
    assert not cluster_lab.hosts.answers(agent)
    assert cluster_lab.up(load_declared(INVENTORY, SITE).site, INVENTORY) is True
    assert cluster_lab.hosts.run(agent, "cat /root/kept").strip() == "kept"
    assert boot_id(cluster_lab, OTHER_AGENT) != before
    assert cluster_lab.is_ready()


def test_a_bare_host_has_sshd_and_nothing_else(bare_lab: ClusterLab) -> None:
    bare = host(bare_lab, SERVER)
    assert bare_lab.hosts.run(bare, "systemctl is-active ssh").strip() == "active"
    absent = bare_lab.hosts.run(bare, "command -v containerd kubelet kubeadm runc || true")
    assert absent == ""
    assert not bare_lab.kubeconfig.exists()


def test_labs_stand_side_by_side_at_the_same_addresses(
    cluster_lab: ClusterLab, bare_lab: ClusterLab
) -> None:
    assert host(cluster_lab, SERVER).address == host(bare_lab, SERVER).address
    assert boot_id(cluster_lab, SERVER) != boot_id(bare_lab, SERVER)


def test_a_program_in_the_labs_network_reaches_devices(bare_lab: ClusterLab) -> None:
    ask = (
        "import socket, sys; c = socket.create_connection((sys.argv[1], 4028), 5);"
        'c.sendall(b\'{"command":"version"}\'); print(c.recv(4096).decode())'
    )
    assert "STATUS" in inside(bare_lab, sys.executable, "-c", ask, MINER)


def test_after_a_crash_up_repairs_and_down_leaves_nothing(tmp_path: Path) -> None:
    lab = ClusterLab(tmp_path / "crashed")
    tag = remains.tag_of(lab.folder)
    try:
        bring_up_bare(lab)
        # As after the machine's own reboot: no process, no namespace, but the folder.
        cgroups.remove(tag)
        processes.stop(lab.folder)
        Network(tag).remove()
        assert not lab.is_ready()
        assert bring_up_bare(lab) is True
        assert lab.is_ready()
        for process in processes.running(lab.folder).values():
            os.kill(process.pid, 9)
    finally:
        lab.down()
    assert not lab.folder.exists()
    assert processes.running(lab.folder) == {}
    assert Network(tag).names() == []
    assert not list(cgroups.ROOT.rglob(f"{cgroups.PARENT}/{tag}"))
    assert not list(Path("/run/systemd/nspawn").rglob(f"*{tag}*"))
    assert str(lab.folder) not in Path("/proc/self/mounts").read_text()


def test_a_host_that_cannot_boot_says_why(bare_lab: ClusterLab) -> None:
    broken = host(bare_lab, SERVER)
    bare_lab.hosts.cut(broken)
    init = bare_lab.folder / "hosts" / SERVER / "writes" / "usr" / "lib" / "systemd" / "systemd"
    init.parent.mkdir(parents=True)
    init.write_text("")
    with pytest.raises(LabError, match="ended; its last words"):
        bring_up_bare(bare_lab)


def test_the_verbs_for_hosts(tmp_path: Path) -> None:
    """up, status, exec, power and down, as an operator types them; exit codes included."""

    def gridplane(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "control_plane.cli", "lab", *words],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    up = ("up", "--form=cluster", f"--inventory={INVENTORY}", "--site=lab", f"--host={SERVER}")
    try:
        assert gridplane("up", "--host=x") == (
            Exit.USAGE, "", "gridplane: only a lab of the form cluster has hosts: --form cluster\n",
        )  # fmt: skip
        assert gridplane(*up, "--bare=all")[0] == Exit.OK
        code, told, _ = gridplane("status", "-o", "json")
        status = json.loads(told)
        assert (code, status["form"], status["ready"]) == (Exit.OK, "cluster", True)
        programs = [SERVER, "simulator", "firmware-store"]
        assert [p["program"] for p in status["programs"]] == programs

        ssh = f"ssh -F $GRIDPLANE_LAB_SSH {SERVER} hostname"
        assert gridplane("exec", "--", "sh", "-c", ssh)[:2] == (Exit.OK, f"{SERVER}\n")
        code, _, why = gridplane("kubeconfig")
        assert (code, "its hosts are bare" in why) == (Exit.USAGE, True)
        code, _, why = gridplane("up", "--form=api")
        assert (code, "`gridplane lab down` ends it" in why) == (Exit.USAGE, True)

        assert gridplane("power", SERVER, "off")[0] == Exit.OK
        assert gridplane("status")[0] == Exit.FAILED
        code, _, why = gridplane("power", "nobody", "on")
        assert (code != Exit.OK, f"there is {SERVER}" in why) == (True, True)
        assert gridplane("up")[0] == Exit.OK
        assert gridplane("status")[0] == Exit.OK
    finally:
        assert gridplane("down")[0] == Exit.OK
    assert not (tmp_path / "gridplane" / "lab" / "lab").exists()
