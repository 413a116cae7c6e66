"""Debian trees for the lab's hosts and images, from the archive's own packages; kept in the cache.

mmdebstrap makes them: like debootstrap, and it writes the same bytes for the same packages.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.lab.commands import CommandFailed, run, which
from control_plane.lab.programs import cache_folder, keep

SUITE = "bookworm"
EPOCH_S = 1_767_225_600
"""No file of a tree is younger (2026-01-01): what is packed from it has the same bytes tomorrow."""
_UNWANTED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_HOOKS = (
    # Each host gets its own name, id and keys.
    'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/ssh/ssh_host_*',
    ': >"$1"/etc/machine-id; rm -f "$1"/var/lib/dbus/machine-id',
    # What differs from one making to the next.
    'rm -rf "$1"/var/cache/ldconfig "$1"/var/log/*',
)
_RECIPE = "1"
"""Counted up when what `archive` does to a tree changes."""


class TreeError(ControlPlaneError):
    """A Debian tree cannot be made here. The operator acts."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Which tree."""

    name: str
    packages: tuple[str, ...]
    """Beside those that the archive marks as essential, and their dependencies."""

    @property
    def digest(self) -> str:
        """Over all that decides what is in it, but the archive's own day."""
        told = "\0".join((_RECIPE, SUITE, *sorted(self.packages), *_UNWANTED))
        return hashlib.sha256(told.encode()).hexdigest()[:12]


BARE = Spec(
    name="bare",
    packages=(
        "dbus", "iproute2", "kmod", "openssh-server", "procps", "systemd", "systemd-sysv", "usr-is-merged",
    ),
)  # fmt: skip
"""A host as a technician leaves it: it boots, and sshd answers."""
NODE = Spec(
    name="node",
    packages=(
        *BARE.packages,
        "conntrack", "containerd", "containernetworking-plugins", "ethtool", "iptables", "runc", "socat",
    ),
)  # fmt: skip
"""A host that kubeadm takes."""


def archive(spec: Spec, say: Callable[[str], None] = lambda _text: None) -> Path:
    """The tree as a tar file: numeric owners, sorted, times clamped; without a machine id or a log.

    Raises:
        TreeError: mmdebstrap is missing, or it failed; its last words are in the message.
    """
    place = _place(spec).with_suffix(".tar")
    if place.is_file():
        return place
    if which("mmdebstrap") is None:
        raise TreeError(
            f"the lab's {spec.name} tree is made by mmdebstrap, which this machine lacks: "
            "`apt-get install mmdebstrap`"
        )
    say(f"making the Debian tree {spec.name}: about a minute, once per machine")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}-", dir=place.parent) as made:
        fresh = Path(made) / place.name
        try:
            run(
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(spec.packages)}",
                # From the start, not by the package usrmerge, which brings all of Perl: `usr-is-merged`.
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in _UNWANTED),
                *(f"--customize-hook={hook}" for hook in _HOOKS),
                SUITE,
                fresh,
                environment={"SOURCE_DATE_EPOCH": str(EPOCH_S), "TMPDIR": made},
            )
        except CommandFailed as error:
            raise TreeError(f"the Debian tree {spec.name} cannot be made: {error}") from error
        fresh.replace(place)
    return place


def tree(spec: Spec, say: Callable[[str], None] = lambda _text: None) -> Path:
    """The tree as a folder that nobody writes to: what hosts have below their own writes. Needs root.

    Raises:
        TreeError: as `archive`.
        CommandFailed: it cannot be unpacked.
    """
    place = _place(spec)
    if place.is_dir():
        return place
    packed = archive(spec, say)
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}-", dir=place.parent) as made:
        fresh = Path(made) / "tree"
        fresh.mkdir()
        run("tar", "-xpf", packed, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", fresh)
        keep(fresh, place)
    return place


def _place(spec: Spec) -> Path:
    return cache_folder() / "debian" / f"{spec.name}-{spec.digest}"
