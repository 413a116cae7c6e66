"""Who a host is: public host keys that were pinned, from the declaration and from known_hosts files.

OpenSSH's format, without its conveniences: no hashed names, no patterns, no authorities, nothing that is
ever added by itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.hosts.connection import Target
from control_plane.hosts.errors import HostKeyChanged, HostKeyUnknown

_PORT = 22


class BadKnownHosts(ControlPlaneError):
    """A line of known host keys cannot be used; the message says which. Who wrote it acts."""


class HostKey(msgspec.Struct, frozen=True, order=True):
    """One public key."""

    kind: str
    """As SSH names it: `ssh-ed25519`."""
    blob: bytes
    """As SSH sends it."""

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class Pins:
    """Host → the keys that it may show."""

    def __init__(self, keys: Mapping[str, Iterable[HostKey]] | None = None) -> None:
        self._keys = {name: frozenset(of) for name, of in (keys or {}).items()}

    def also(self, other: Pins) -> Pins:
        """These and others; a host may show any key that either has for it."""
        names = self._keys.keys() | other._keys.keys()
        return Pins(
            {n: self._keys.get(n, frozenset()) | other._keys.get(n, frozenset()) for n in names}
        )

    def of(self, target: Target) -> frozenset[HostKey]:
        """The keys pinned to a host, by its name and by its address; a port of its own counts too."""
        names = [target.name, target.address]
        if target.port != _PORT:
            names = [f"[{name}]:{target.port}" for name in names]
        return frozenset().union(*(self._keys.get(name, frozenset()) for name in names))

    def verify(self, target: Target, shown: HostKey) -> None:
        """Compare the key that a host shows.

        Raises:
            HostKeyUnknown: none is pinned for it.
            HostKeyChanged: another one is.
        """
        pinned = self.of(target)
        if not pinned:
            raise HostKeyUnknown(
                f"host {target.name} ({target.address}) shows the {shown.kind} key {shown.fingerprint}, "
                "and none "
                "is pinned for it: read the fingerprint at its console (`ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub`), compare, and add the key to the known_hosts file or to "
                "`host_key` in hosts/*.yaml. Nothing was sent to it"
            )
        if shown not in pinned:
            wanted = ", ".join(sorted(key.fingerprint for key in pinned))
            raise HostKeyChanged(
                f"host {target.name} ({target.address}) shows the {shown.kind} key {shown.fingerprint}, but "
                f"{wanted} is pinned: it was installed anew, or another machine answers at its address. "
                "Find out "
                "which at its console; only then replace the pinned key. Nothing was sent to it"
            )


def read_known_hosts(text: str, path: str) -> Pins:
    """The pins of a known_hosts file.

    Args:
        text: its content.
        path: how errors name it.

    Raises:
        BadKnownHosts: a line is no `NAMES KIND KEY`, or uses what is not understood here.
    """
    found: dict[str, set[HostKey]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}:{number}:1"
        if words[0].startswith(("@", "|")) or any(c in words[0] for c in "*?!"):
            raise BadKnownHosts(
                f"{where}: `{words[0][:20]}` is a marker, a hashed name or a pattern: write the host's "
                "name or "
                "address in full (`ssh-keyscan` does, `ssh-keygen -H` hides it)"
            )
        key = parse_key(" ".join(words[1:3]), where)
        for name in words[0].split(","):
            found.setdefault(name, set()).add(key)
    return Pins(found)


def parse_key(text: str, where: str) -> HostKey:
    """A public key as it is written: `KIND BASE64`, perhaps with a comment.

    Raises:
        BadKnownHosts: it is none.
    """
    kind, _, rest = text.strip().partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ", 1)[0], validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    named = int.from_bytes(blob[:4], "big") if blob else -1
    if not blob or blob[4 : 4 + named] != kind.encode():
        raise BadKnownHosts(
            f"{where}: no SSH public key: expected `ssh-ed25519 AAAA…`, as in a host's "
            "/etc/ssh/ssh_host_ed25519_key.pub"
        )
    return HostKey(kind, blob)
