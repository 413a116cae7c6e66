"""The seam between a cluster and the installer that makes it: pure, the installer is told, never asked.

`kubeadm` and `rke2` are its two sides. A backend says what lies on a machine before it joins, what it is
told to begin or to join, and what a server is asked so that others may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from control_plane.core.secret import Secret
from control_plane.hosts.connection import Command
from control_plane.hosts.items import File, Item, Payload, Sysctl, Unit
from control_plane.provision.cluster import Node, Software

_FORWARD: Final = "net.ipv4.ip_forward"
FORWARDING: Final[tuple[Item, ...]] = (
    File(path="/etc/sysctl.d/90-gridplane.conf", content=f"{_FORWARD} = 1\n"),
    Sysctl(key=_FORWARD, value="1"),
)
"""What every node's kernel has to do for its pods, now and after a boot."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a prepared machine a node. Its files hold secrets, so no error shows them."""

    files: tuple[File, ...] = ()
    commands: tuple[Command, ...] = ()
    units: tuple[Unit, ...] = ()
    leftovers: tuple[str, ...] = ()
    """Paths that go afterwards, however it ended."""
    deadline_s: float


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What lets a machine join: asked of a server when it is needed, short-lived, kept nowhere."""

    token: Secret
    authority: str = ""
    """SHA-256 of the cluster authority's public key: the machine knows the cluster by it."""
    certificate_key: Secret | None = None
    """Opens the certificates that a further server takes over."""


class ClusterBackend(Protocol):
    """One installer."""

    @property
    def name(self) -> str:
        """As the declaration has it."""
        ...

    @property
    def proof(self) -> str:
        """What it was seen to work on."""
        ...

    @property
    def kubectl(self) -> Command:
        """Kubectl with an administrator's rights, on a server."""
        ...

    @property
    def admin_config(self) -> str:
        """Where a server keeps an administrator's kubeconfig."""
        ...

    @property
    def authority(self) -> str:
        """Where a node keeps the certificate of the cluster's authority."""
        ...

    @property
    def membership(self) -> str:
        """What is there on a node once it has joined, and not before."""
        ...

    def preparation(
        self, node: Node, software: Software, payloads: Sequence[Payload]
    ) -> tuple[tuple[Item, ...], ...]:
        """What lies and runs on a machine before it joins, and afterwards.

        Phases are brought about one after the other; a payload is in the first that can take it.
        """
        ...

    def begin(self, node: Node, software: Software) -> Step:
        """Make a machine the first server."""
        ...

    def ask(self, *, is_server: bool) -> tuple[tuple[Command, ...], ...]:
        """What a server is asked for a ticket; each entry is one question."""
        ...

    def ticket(self, answers: tuple[str, ...], *, is_server: bool) -> Ticket:
        """The ticket in the answers.

        Raises:
            UnexpectedReply: they hold none.
        """
        ...

    def join(self, node: Node, software: Software, ticket: Ticket, *, is_server: bool) -> Step:
        """Make a machine a node."""
        ...

    def rejoin(self, name: str) -> tuple[Command, ...]:
        """What a server is told before a machine joins again under a name that the cluster knows."""
        ...

    def reset(self) -> tuple[Command, ...]:
        """Take everything of the cluster off a machine, or what is left of an attempt."""
        ...
