"""One machine into a cluster, and out of it: the order of things, and how a cut-off attempt is taken up.

A mark on the machine stands from before its installer begins until it has ended well. Where it is found, the
attempt is taken back and begun anew; where the machine is a member without it, it is adopted as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from control_plane.hosts.connection import Connection, check, holds
from control_plane.hosts.converge import WRITE_S, converge, write
from control_plane.hosts.errors import DeadlinePassed, HostUnfit
from control_plane.hosts.items import File, Payload, Unit
from control_plane.provision.authority import pin_of
from control_plane.provision.backend import ClusterBackend, Step, Ticket
from control_plane.provision.cluster import Node, Software

JOINING = "/var/lib/gridplane/joining"
"""On a machine: an attempt that has not ended."""
_RESET_S = 300.0
_DRAIN_S = 300.0
_MARK = File(path=JOINING, content="an attempt to join a cluster began and has not ended\n")


class Standing(StrEnum):
    """What a machine is to a cluster."""

    ABSENT = "absent"
    HALF = "half"
    """An attempt was cut off."""
    MEMBER = "member"


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as it was found."""

    standing: Standing
    authority: str | None
    """Pin of the cluster that it is of; `None` where it is of none."""


def look(connection: Connection, backend: ClusterBackend) -> Membership:
    """What the machine is, by reading alone.

    Raises:
        DeadlinePassed: it does not answer in time.
    """
    found = connection.run(("sha256sum", "--", JOINING, backend.membership, backend.authority)).out
    paths = {line.partition("  ")[2] for line in found.splitlines()}
    if JOINING in paths:
        return Membership(standing=Standing.HALF, authority=None)
    if backend.membership not in paths or backend.authority not in paths:
        return Membership(standing=Standing.ABSENT, authority=None)
    authority = pin_of(check(connection, ("cat", backend.authority)))
    return Membership(standing=Standing.MEMBER, authority=authority)


def prepare(
    connection: Connection,
    node: Node,
    software: Software,
    payloads: Sequence[Payload],
    backend: ClusterBackend,
) -> tuple[str, ...]:
    """Programs, settings and images; what was changed, in words.

    Raises:
        HostUnfit: the machine is not as it has to be.
        CommandFailed, DeadlinePassed: as `converge`.
    """
    _require_fit(connection, software)
    told: list[str] = []
    for phase in backend.preparation(node, software, payloads):
        told += converge(connection, phase)
    return tuple(told)


def begin(connection: Connection, node: Node, software: Software, backend: ClusterBackend) -> None:
    """Make the machine, that is of no cluster, the first server.

    Raises:
        CommandFailed, DeadlinePassed: the installer failed, or did not end; the next run takes it up.
    """
    _attempt(connection, backend.begin(node, software), backend)


def join(
    connection: Connection,
    node: Node,
    software: Software,
    ticket: Ticket,
    backend: ClusterBackend,
    *,
    is_server: bool,
) -> None:
    """Make the machine, that is of no cluster, a node.

    Raises:
        CommandFailed, DeadlinePassed: as `begin`.
    """
    step = backend.join(node, software, ticket, is_server=is_server)
    _attempt(connection, step, backend)


def take_back(connection: Connection, backend: ClusterBackend) -> None:
    """Undo an attempt that was cut off: an installer refuses to go on with what it left half-way.

    Raises:
        CommandFailed, DeadlinePassed: it does not come to an end; the mark stays, for the next run.
    """
    check(connection, *backend.reset(), deadline_s=_RESET_S)


def is_done(connection: Connection, node: Node, backend: ClusterBackend) -> bool:
    """Whether a server, though marked, has come to its end: the connection was cut a moment too early."""
    return holds(connection, *backend.kubectl, "get", "node", node.name)


def settle(connection: Connection) -> None:
    """Take the mark away: the attempt has ended well."""
    check(connection, ("rm", "-f", JOINING))


def require_same(host: str, found: Membership, authority: str) -> None:
    """Refuse a node of another cluster.

    Raises:
        HostUnfit: it is one.
    """
    if found.authority not in {None, authority}:
        raise HostUnfit(
            f"host {host} is a node of another cluster (its authority is {found.authority:.16}…, ours "
            f"{authority:.16}…): take it out of that one first, or correct the declaration. Nothing was "
            "changed on it"
        )


def ask_ticket(connection: Connection, backend: ClusterBackend, *, is_server: bool) -> Ticket:
    """Have a server let others in, for half an hour.

    Raises:
        CommandFailed, DeadlinePassed: it does not.
        UnexpectedReply: what it printed holds no ticket.
    """
    answers = tuple(
        check(connection, *question, deadline_s=WRITE_S)
        for question in backend.ask(is_server=is_server)
    )
    return backend.ticket(answers, is_server=is_server)


def reset(connection: Connection, backend: ClusterBackend) -> None:
    """Take everything of the cluster off the machine; what was installed on it stays.

    Raises:
        CommandFailed, DeadlinePassed: it does not come to an end; the mark stays, so that nobody takes the
            machine for a member.
    """
    write(connection, _MARK)
    check(connection, *backend.reset(), ("rm", "-f", JOINING), deadline_s=_RESET_S)


def drain(server: Connection, name: str, backend: ClusterBackend) -> None:
    """Move a node's work away, and forget the node.

    Raises:
        CommandFailed: a pod may not be evicted, or does not end in time; the node stays, cordoned.
    """
    if not holds(server, *backend.kubectl, "get", "node", name):
        return
    check(
        server,
        (
            *backend.kubectl, "drain", name, "--ignore-daemonsets", "--delete-emptydir-data",
            f"--timeout={_DRAIN_S:.0f}s",
        ),
        deadline_s=_DRAIN_S + WRITE_S,
    )  # fmt: skip
    check(server, (*backend.kubectl, "delete", "node", name), deadline_s=WRITE_S)


def _attempt(connection: Connection, step: Step, backend: ClusterBackend) -> None:
    write(connection, _MARK)
    try:
        for file in step.files:
            write(connection, file)
        if step.commands:
            check(connection, *step.commands, deadline_s=step.deadline_s)
        for unit in step.units:
            _start(connection, unit, step.deadline_s)
    finally:
        if step.leftovers:
            # Where the connection broke it stays until the next attempt, readable by root alone.
            with contextlib.suppress(DeadlinePassed):
                connection.run(("rm", "-f", *step.leftovers))
    settle(connection)


def _start(connection: Connection, unit: Unit, deadline_s: float) -> None:
    """Enable and start a unit that says by itself when it is up."""
    check(connection, ("systemctl", "enable", unit.name), deadline_s=WRITE_S)
    check(connection, ("systemctl", "restart", unit.name), deadline_s=deadline_s)


def _require_fit(connection: Connection, software: Software) -> None:
    if software.kubelet.get("failSwapOn") is False or "Swap" in software.ignore_preflight:
        return
    swaps = check(connection, ("cat", "/proc/swaps")).splitlines()[1:]
    if swaps:
        raise HostUnfit(
            f"host {connection.name} swaps to {swaps[0].split()[0]}, and a kubelet does not start: "
            "`swapoff -a`, "
            "take it out of /etc/fstab, or set `kubelet: {failSwapOn: false}` in cluster.yaml"
        )
