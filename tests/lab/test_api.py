"""The lab comes up, heals, stands beside others, keeps its secrets, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.lab.api import PROGRAMS, ApiLab
from control_plane.lab.ports import HOST
from control_plane.lab.records import LabError
from tests.lab.cluster import Cluster, Refused

pytestmark = pytest.mark.lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ApiLab]:
    made = ApiLab(tmp_path / "own")
    yield made
    made.down()


def pids(lab: ApiLab) -> dict[str, int]:
    return {name: process.pid for name, process in lab.running().items()}


def runs(pid: int) -> bool:
    """Whether a process does anything still; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_up_is_a_no_op(api_lab: ApiLab) -> None:
    before = pids(api_lab)
    assert set(before) == set(PROGRAMS)
    assert api_lab.up() is False
    assert pids(api_lab) == before


def test_the_server_knows_who_asks(api_lab: ApiLab) -> None:
    record = api_lab.record
    assert record is not None
    trusting = ssl.create_default_context(cafile=str(api_lab.folder / "pki" / "ca.crt"))
    url = f"https://{HOST}:{record.ports.api}/api/v1/namespaces"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, context=trusting, timeout=5)
    assert refused.value.code == 401
    refused.value.close()
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(url, timeout=5)


def test_the_scheduler_may_not_read_secrets(api_lab: ApiLab) -> None:
    with pytest.raises(Refused, match="forbidden"):
        Cluster(api_lab.folder / "scheduler.kubeconfig").run("get", "secrets", "-A")


def test_no_credential_is_readable_by_others(api_lab: ApiLab) -> None:
    open_to_others = [
        str(path.relative_to(api_lab.folder))
        for path in api_lab.folder.rglob("*")
        if path.suffix in {".key", ".kubeconfig", ".log"} or path.name in {"kubeconfig", "lab.json"}
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    # What Pulumi writes is as open as Pulumi makes it, in a folder of the lab that is not.
    assert [path for path in open_to_others if not path.startswith("pulumi/")] == []
    assert all(
        stat.S_IMODE(folder.stat().st_mode) == 0o700
        for folder in (api_lab.folder, api_lab.folder / "pulumi")
        if folder.exists()
    )


def test_nothing_listens_but_on_loopback(api_lab: ApiLab) -> None:
    inodes = set()
    for process in api_lab.running().values():
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:
                listening.append(cells[1].split(":")[0])
    assert len(listening) >= len(PROGRAMS)
    assert set(listening) == {"0100007F"}, "127.0.0.1, as /proc writes it"


def test_a_killed_program_comes_back_with_what_was_stored(lab: ApiLab) -> None:
    lab.up()
    cluster = Cluster(lab.kubeconfig)
    cluster.run("create", "namespace", "kept")
    killed = pids(lab)["etcd"]
    os.kill(killed, signal.SIGKILL)
    while runs(killed):
        time.sleep(0.01)
    assert "etcd" not in lab.running()
    assert lab.up() is True
    assert cluster.json("get", "namespace", "kept")["status"]["phase"] == "Active"


def test_down_leaves_nothing_also_after_a_crash_and_twice(lab: ApiLab) -> None:
    lab.up()
    before = pids(lab)
    (lab.folder / "lab.json").unlink()
    for name in ("kube-apiserver", "kwok"):
        os.kill(before[name], signal.SIGKILL)
    lab.down()
    assert lab.running() == {}
    assert not lab.folder.exists()
    # Those that were killed above may still be giving back their memory.
    until = time.monotonic() + 10
    while any(map(runs, before.values())):
        assert time.monotonic() < until, f"still there: {before}"
        time.sleep(0.05)
    lab.down()


def test_a_half_made_folder_is_made_anew(lab: ApiLab) -> None:
    (lab.folder / "pki").mkdir(parents=True)
    (lab.folder / "pki" / "ca.crt").write_text("half")
    assert lab.up() is True
    assert lab.is_ready()


def test_a_damaged_record_says_what_to_do(lab: ApiLab) -> None:
    lab.folder.mkdir()
    (lab.folder / "lab.json").write_text("{")
    with pytest.raises(LabError, match="gridplane lab down"):
        lab.up()


def test_a_port_in_use_is_named(lab: ApiLab) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError, match=f"port {port} of {HOST} is in use"):
            lab.up(port=port)
    assert not lab.folder.exists()


def test_a_program_that_ends_is_quoted(lab: ApiLab) -> None:
    lab._make(None)
    (lab.folder / "pki" / "etcd.key").write_text("no key")
    with pytest.raises(LabError, match="etcd ended; its last words"):
        lab.up()


def test_labs_stand_side_by_side(api_lab: ApiLab, lab: ApiLab) -> None:
    lab.up()
    Cluster(lab.kubeconfig).run("create", "namespace", "only-here")
    with pytest.raises(Refused, match="not found"):
        Cluster(api_lab.kubeconfig).run("get", "namespace", "only-here")
    lab.down()
    assert api_lab.is_ready()


def test_the_verbs(tmp_path: Path) -> None:
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    def gridplane(*arguments: str, code: int = 0) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [sys.executable, "-m", "control_plane.cli", "lab", *arguments],
            env=env, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    gridplane("status", code=2)
    try:
        assert "export KUBECONFIG=" in gridplane("up", "--name", "verbs")
        assert "ready" in gridplane("status", "--name", "verbs")
        assert "certificate-authority-data" in gridplane("kubeconfig", "--name", "verbs")
        said = gridplane("exec", "--name", "verbs", "--", "kubectl", "get", "ns", "-o", "name")
        assert "namespace/kube-system" in said
        gridplane("exec", "--name", "verbs", "--", "kubectl", "get", "ns", "nowhere", code=1)
    finally:
        gridplane("down", "--name", "verbs")
    assert not (tmp_path / "gridplane" / "lab" / "verbs").exists()


def test_simulated_gpu_nodes_join_and_jobs_run_to_their_end(cluster: Cluster) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": cluster.namespace,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"nvidia.com/gpu.present": "true"},
        },
        "status": {
            "capacity": {"cpu": "192", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": "8"},
            "allocatable": {"cpu": "192", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": "8"},
        },
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": cluster.namespace},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": "main",
                            "image": "train",
                            "resources": {"limits": {"nvidia.com/gpu": "8"}},
                        }
                    ],
                }
            }
        },
    }
    cluster.run("create", "-f", "-", stdin=json.dumps(node))
    try:
        cluster.wait("condition=Ready", f"node/{cluster.namespace}")
        cluster.run("create", "-f", "-", stdin=json.dumps(job))
        cluster.wait("condition=Complete", "job/train")
        pods = cluster.json("get", "pods")["items"]
        assert [pod["spec"]["nodeName"] for pod in pods] == [cluster.namespace]
    finally:
        cluster.run("delete", "node", cluster.namespace)
