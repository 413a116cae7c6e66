"""The hosts of a cluster lab: machines with their own disk, network, processes and boot, by systemd-nspawn.

A host is a folder (its writes over a Debian tree), a network namespace, a cgroup and a power supply. What
the lab does on it, it does over SSH, as anybody would.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from control_plane.lab import cgroups, debian, guest, pki, processes, seeds, supply
from control_plane.lab.commands import CommandFailed, run
from control_plane.lab.network import Network
from control_plane.lab.records import HostRecord, LabError

NODE_PROGRAMS = ("kubelet", "kubeadm", "kubectl")
"""On every host that is not bare."""
BOOT_S = 60.0
_TICK_S = 0.1
_SSH_S = 2
_OWN_DISK = {"containerd": "/var/lib/containerd", "kubelet": "/var/lib/kubelet"}
"""An overlay cannot lie on another one."""


class Hosts:
    """All hosts of one lab."""

    def __init__(self, folder: Path, tag: str, network: Network) -> None:
        """`folder` is the lab's, `tag` its name in what the whole machine shares."""
        self._folder, self._tag, self._network = folder, tag, network
        self.ssh_config = folder / "ssh_config"
        self.login_key = folder / "pki" / "ssh"
        self.known_hosts = folder / "known_hosts"

    def prepare(
        self, hosts: Sequence[HostRecord], programs: Mapping[str, Path], images: Path | None
    ) -> None:
        """Give each host its disk, its keys and its power supply; none of them is on afterwards.

        Args:
            hosts: all of them.
            programs: `NODE_PROGRAMS` → where they are.
            images: the containerd root that each gets its own of; `None` where all are bare.

        Raises:
            TreeError: their Debian tree is not there and cannot be made.
        """
        own = ed25519.Ed25519PrivateKey.generate()
        pki.write_private(self.login_key, _private(own))
        authorized = f"{_public(own)} gridplane-lab\n"
        known: list[str] = []
        for host in hosts:
            key = ed25519.Ed25519PrivateKey.generate()
            known.append(f"{host.name},{host.address} {_public(key)}\n")
            files = guest.files(
                host, hosts, host_key=_private(key).decode(), authorized_key=authorized
            )
            self._lay_down(host, files)
            if images and not host.is_bare:
                seeds.plant(images, self._of(host) / "containerd")
            else:
                (self._of(host) / "containerd").mkdir()
            self._connect(host, programs)
        self.known_hosts.write_text("".join(known), encoding="utf-8")
        self.ssh_config.write_text(self._ssh_config(hosts), encoding="utf-8")

    def start(self, host: HostRecord) -> None:
        """Switch a host on; it boots while this returns."""
        folder = self._of(host)
        processes.start(
            host.name,
            [
                "unshare", "--mount", "--propagation=private", "--",
                *processes.python("control_plane.lab.supply", str(folder)),
            ],
            lab=self._folder,
            log=self.log_of(host.name),
        )  # fmt: skip

    def cut(self, host: HostRecord) -> None:
        """Take a host's power away: nothing on it gets to say goodbye."""
        process = processes.running(self._folder).get(host.name)
        if process is not None:
            processes.kill(process.pid)
        cgroups.remove(self._tag, host.name)

    def await_ssh(self, hosts: Sequence[HostRecord]) -> None:
        """Wait until each takes a command.

        Raises:
            LabError: one does not within a minute, or its power supply ended.
        """
        until = time.monotonic() + BOOT_S
        for host in hosts:
            while not self.answers(host):
                if host.name not in processes.running(self._folder):
                    words = processes.last_words(self.log_of(host.name))
                    raise LabError(
                        f"host {host.name} ended; its last words, from {self.log_of(host.name)}:\n{words}"
                    )
                if time.monotonic() > until:
                    raise LabError(
                        f"host {host.name} takes no SSH connection after {BOOT_S:.0f} s; see "
                        f"{self.log_of(host.name)}"
                    )
                time.sleep(_TICK_S)

    def answers(self, host: HostRecord) -> bool:
        """Whether it takes a command over SSH at this moment."""
        try:
            self.run(host, "true", timeout_s=2 * _SSH_S)
        except CommandFailed:
            return False
        return True

    def run(
        self, host: HostRecord, command: str, *, text: str | None = None, timeout_s: float = 300.0
    ) -> str:
        """A shell command on a host, as root, over SSH; what it printed.

        Raises:
            CommandFailed: with its last words.
        """
        return run(*self.ssh(host, command), text=text, timeout_s=timeout_s)

    def ssh(self, host: HostRecord, *command: str) -> list[str | Path]:
        """The SSH client's command line, run in the site's network."""
        return self._network.inside("ssh", "-F", self.ssh_config, host.name, *command)

    def log_of(self, name: str) -> Path:
        """The console of a host since the lab was made."""
        return self._folder / "logs" / f"{name}.log"

    def _of(self, host: HostRecord) -> Path:
        return self._folder / "hosts" / host.name

    def _lay_down(self, host: HostRecord, files: Mapping[str, str]) -> None:
        folder = self._of(host)
        shutil.rmtree(folder, ignore_errors=True)
        writes = folder / "writes"
        for name in ("root", "work", "kubelet"):
            (folder / name).mkdir(parents=True)
        for name, content in files.items():
            path = writes / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Root's home and the keys are private; no other file of these is a secret.
            if "ssh" in path.parts[-2]:
                path.parent.chmod(0o700)
                pki.write_private(path, content.encode())
            else:
                path.write_text(content, encoding="utf-8")
        for name, target in guest.links(host).items():
            path = writes / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)

    def _connect(self, host: HostRecord, programs: Mapping[str, Path]) -> None:
        """Write down how the power supply runs it."""
        folder = self._of(host)
        shown: list[tuple[str, str]] = []
        if not host.is_bare:
            shown += [(str(programs[name]), f"/usr/bin/{name}") for name in NODE_PROGRAMS]
        how = supply.Supply(
            tag=self._tag,
            host=host,
            tree=str(debian.tree(debian.BARE if host.is_bare else debian.NODE)),
            binds=tuple((str(folder / name), there) for name, there in _OWN_DISK.items()),
            shown=tuple(shown),
        )
        (folder / supply.FILE).write_bytes(msgspec.json.encode(how))

    def _ssh_config(self, hosts: Sequence[HostRecord]) -> str:
        named = "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in hosts)
        return (
            f"{named}Host *\n  User root\n  IdentityFile {self.login_key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
            f"  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout {_SSH_S}\n"
            "  LogLevel ERROR\n"
        )


def _private(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _public(key: ed25519.Ed25519PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
