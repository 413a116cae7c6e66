"""Items on a simulated machine: read first, write what differs, tell it; whole or not there."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from control_plane.core.errors import UnexpectedReply
from control_plane.hosts.connection import Command, Reply, shell
from control_plane.hosts.converge import converge, survey
from control_plane.hosts.errors import CommandFailed
from control_plane.hosts.items import File, Item, Payload, Sysctl, Unit
from control_plane.simulator.hosts.installers import INSTALLERS
from control_plane.simulator.hosts.kubernetes import Cluster
from control_plane.simulator.hosts.machine import Machine
from control_plane.simulator.hosts.programs import SYSTEM

UNIT = "thing.service"
ITEMS: tuple[Item, ...] = (
    File(path="/etc/thing.conf", content="a = 1\n", wakes=(UNIT,)),
    File(path=f"/etc/systemd/system/{UNIT}", content="[Service]\n"),
    File(path="/etc/secret", content="s", mode=0o600),
    Sysctl(key="net.ipv4.ip_forward", value="1"),
    Unit(name=UNIT),
)


class Direct:
    """A machine without the way to it."""

    def __init__(self) -> None:
        self.machine = Machine("m", "127.0.0.1", {**SYSTEM, **INSTALLERS}, Cluster())
        self.name = "m"

    def run(self, *commands: Command, stdin: bytes | Path = b"", deadline_s: float = 60) -> Reply:
        assert deadline_s > 0
        given = stdin.read_bytes() if isinstance(stdin, Path) else stdin
        ended = self.machine.execute(shell(commands), given)
        return Reply(code=ended.code, out=ended.out.decode(), err=ended.err.decode())

    def writes(self, items: Sequence[Item]) -> tuple[tuple[str, ...], list[str]]:
        """What was told of a run, and what it did beyond looking."""
        before = len(self.machine.log)
        told = converge(self, items)
        looking = ("sha256sum", "stat", "head", "systemctl show", "sysctl --ignore")
        return told, [line for line in self.machine.log[before:] if not line.startswith(looking)]


def test_everything_is_brought_about_and_told() -> None:
    host = Direct()
    told, _ = host.writes(ITEMS)
    assert told == (
        "/etc/thing.conf: written",
        f"/etc/systemd/system/{UNIT}: written",
        "/etc/secret: written",
        "net.ipv4.ip_forward: 0 → 1",
        f"{UNIT}: enabled",
    )
    files = host.machine.files
    assert (files["/etc/secret"].content, files["/etc/secret"].mode) == (b"s", 0o600)
    assert UNIT in host.machine.running
    assert not [path for path in files if "gridplane-new" in path]


def test_a_second_time_it_only_looks() -> None:
    host = Direct()
    converge(host, ITEMS)
    assert host.writes(ITEMS) == ((), [])
    assert survey(host, ITEMS) == ()


def test_drift_is_corrected_and_whoever_reads_the_file_is_woken_once() -> None:
    host = Direct()
    converge(host, ITEMS)
    host.machine.put("/etc/thing.conf", "a = 2\n")
    host.machine.put("/etc/secret", "s", 0o644)
    host.machine.sysctls["net.ipv4.ip_forward"] = "0"
    started = host.machine.started[UNIT]
    told, _ = host.writes(ITEMS)
    assert told == (
        "/etc/thing.conf: rewritten",
        "/etc/secret: mode 600",
        "net.ipv4.ip_forward: 0 → 1",
        f"{UNIT}: restarted",
    )
    assert host.machine.started[UNIT] == started + 1


def test_a_unit_that_stands_still_is_started_and_one_that_may_is_not() -> None:
    host = Direct()
    converge(host, ITEMS)
    host.machine.running.discard(UNIT)
    assert converge(host, [Unit(name=UNIT, is_running=False)]) == ()
    assert converge(host, ITEMS) == (f"{UNIT}: started",)


def test_a_shared_file_is_left_to_others_until_its_declaration_changes() -> None:
    host = Direct()
    shared = File(path="/etc/shared.toml", content="ours\n", is_shared=True)
    assert converge(host, [shared]) == ("/etc/shared.toml: written",)
    host.machine.put("/etc/shared.toml", "ours\nand the operator's\n")
    assert converge(host, [shared]) == ()
    changed = File(path="/etc/shared.toml", content="ours, anew\n", is_shared=True)
    assert converge(host, [changed]) == ("/etc/shared.toml: rewritten",)
    assert host.machine.text("/etc/shared.toml") == "ours, anew\n"


def test_what_a_host_refuses_is_an_error_with_its_words() -> None:
    host = Direct()
    host.machine.faults.fails_at = ("dd",)
    with pytest.raises(CommandFailed, match="host m: `install -d /etc ") as told:
        converge(host, [File(path="/etc/a", content="hidden")])
    assert str(told.value).endswith("dd: simulated failure")
    assert "hidden" not in str(told.value)
    assert "/etc/a" not in host.machine.files


# --- payloads --------------------------------------------------------------------------------


def a_tree(folder: Path, names: Sequence[str]) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(name), 0o755
            archive.addfile(entry, io.BytesIO(name.encode()))
    path = folder / "tree.tar.gz"
    path.write_bytes(gzip.compress(packed.getvalue()))
    return path


def payload(path: Path, kind: str, **more: object) -> Payload:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Payload(name=path.stem, kind=kind, source=str(path), sha256=digest, **more)  # type: ignore[arg-type]


def test_a_program_is_brought_once_and_again_when_it_changes(tmp_path: Path) -> None:
    host, program = Direct(), tmp_path / "kubelet"
    program.write_bytes(b"one")
    assert converge(host, [payload(program, "file", target="/usr/bin/kubelet")]) == (
        "/usr/bin/kubelet: brought",
    )
    assert converge(host, [payload(program, "file", target="/usr/bin/kubelet")]) == ()
    program.write_bytes(b"two")
    told = converge(host, [payload(program, "file", target="/usr/bin/kubelet")])
    assert told == ("/usr/bin/kubelet: replaced",)
    assert host.machine.files["/usr/bin/kubelet"].content == b"two"


def test_a_tree_is_unpacked_and_an_image_imported(tmp_path: Path) -> None:
    host = Direct()
    host.machine.running.add("containerd.service")
    tree = payload(a_tree(tmp_path, ["usr/bin/runc"]), "tree")
    image_path = tmp_path / "pause.tar.gz"
    image_path.write_bytes(gzip.compress(b"layers"))
    image = payload(image_path, "image")
    assert converge(host, [tree, image]) == ("tree.tar: brought", "pause.tar: brought")
    assert host.machine.text("/usr/bin/runc") == "usr/bin/runc"
    assert host.machine.images == {hashlib.sha256(b"layers").hexdigest()}
    assert not [path for path in host.machine.files if "/inbox/" in path]
    assert host.writes([tree, image]) == ((), [])


def test_a_payload_that_is_not_what_its_bundle_says_is_not_used(tmp_path: Path) -> None:
    host, path = Direct(), a_tree(tmp_path, ["usr/bin/runc"])
    tree = payload(path, "tree")
    path.write_bytes(b"something else")
    with pytest.raises(UnexpectedReply, match="did not arrive as its bundle says"):
        converge(host, [tree])
    assert "/usr/bin/runc" not in host.machine.files
