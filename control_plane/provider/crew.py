"""Many machines at once, a bounded number of them; one that fails stays with its name, and stops no other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from control_plane.core.errors import ControlPlaneError, Unreachable
from control_plane.hosts.connection import Command, Connection, Target, check
from control_plane.hosts.errors import HostUnfit
from control_plane.hosts.items import Payload
from control_plane.provider import members, nodes
from control_plane.provider.bugs import told
from control_plane.provider.members import Membership, Standing
from control_plane.provision.backend import ClusterBackend, Ticket
from control_plane.provision.backends import BACKENDS
from control_plane.provision.cluster import API_PORT, Node, Software

AT_ONCE = 32
"""Machines that are worked on at the same time, of all resources together."""
_LOOK_S = 2.0


class Opener(Protocol):
    """The way to machines; `hosts.ssh.Ssh` is the real one."""

    def connect(self, target: Target) -> AbstractContextManager[Connection]:
        """A connection, closed at the end.

        Raises:
            ControlPlaneError: there is none, for a reason that names the host.
        """
        ...


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of several machines."""

    failed: Mapping[str, ControlPlaneError]
    """Host → why; all others are done."""


class _Door(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the standing cluster, logged in to."""

    connection: Connection
    authority: str


class Crew:
    """Brings machines into clusters. Its methods block; they may be called from several threads."""

    def __init__(
        self,
        opener: Opener,
        bundle: Path | None = None,
        *,
        at_once: int = AT_ONCE,
        look_s: float = _LOOK_S,
        lets_go: str = "",
    ) -> None:
        """Nobody is spoken to yet.

        Args:
            opener: the way to machines.
            bundle: folder of the offline bundle.
            at_once: machines that are worked on at the same time.
            look_s: passes between two looks at a node.
            lets_go: the stack of which a person said that its cluster goes, whatever stands on it.
        """
        self.lets_go = lets_go
        self._opener, self._bundle, self._look_s = opener, bundle, look_s
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="host")
        self._is_stopped = threading.Event()

    def stop(self) -> None:
        """Begin nothing more on any machine; what has begun comes to its end."""
        self._is_stopped.set()

    # --- servers -----------------------------------------------------------------------------

    def bring_server(
        self,
        node: Node,
        software: Software,
        peers: Sequence[Target],
        before: Node | None,
        *,
        may_begin: bool,
    ) -> None:
        """Make a machine a server: of the cluster that its peers have, or of a new one.

        Args:
            node: the machine.
            software: what it is given.
            peers: the other servers.
            before: as it was declared before.
            may_begin: whether it may begin the cluster, where no peer has one.

        Raises:
            ControlPlaneError: names the host, and who acts.
        """
        backend = BACKENDS[software.backend]
        with self._opener.connect(node.target) as connection, contextlib.ExitStack() as stack:
            found = members.look(connection, backend)
            if found.standing is Standing.HALF and members.is_done(connection, node, backend):
                members.settle(connection)
                found = members.look(connection, backend)
            door, silent = self._find_door(stack, backend, peers)
            if door:
                members.require_same(node.name, found, door.authority)
            elif found.standing is not Standing.MEMBER:
                _require_may_begin(node.name, silent, may_begin=may_begin)
            payloads = self._payloads(software, is_server=True)
            members.prepare(connection, node, software, payloads, backend)
            self._go_on()
            if found.standing is not Standing.MEMBER:
                if found.standing is Standing.HALF:
                    members.take_back(connection, backend)
                if door:
                    nodes.make_way(door.connection, node.name, backend, look_s=self._look_s)
                    ticket = members.ask_ticket(door.connection, backend, is_server=True)
                    members.join(connection, node, software, ticket, backend, is_server=True)
                else:
                    members.begin(connection, node, software, backend)
            failed = self._finish(connection, [node], _named(before), software, backend)
            for error in failed.values():
                raise error

    def kubeconfig(self, software: Software, servers: Sequence[Target]) -> str:
        """An administrator's kubeconfig, that leads to the cluster's endpoint.

        Raises:
            ControlPlaneError: no server answers.
        """
        config = self._ask(software, servers, ("cat", BACKENDS[software.backend].admin_config))
        lines = [
            f"{line.partition('server:')[0]}server: https://{software.endpoint}:{API_PORT}"
            if line.strip().startswith("server:")
            else line
            for line in config.splitlines()
        ]
        return "\n".join(lines) + "\n"

    def has_policy(self, name: str, software: Software, servers: Sequence[Target]) -> bool:
        """Whether the cluster has an admission policy.

        Raises:
            ControlPlaneError: no server answers, or the API does not.
        """
        kubectl = BACKENDS[software.backend].kubectl
        about = ("validatingadmissionpolicy", name, "--ignore-not-found", "--output=name")
        return bool(self._ask(software, servers, (*kubectl, "get", *about)).strip())

    # --- agents ------------------------------------------------------------------------------

    def bring_agents(
        self,
        wanted: Sequence[Node],
        software: Software,
        servers: Sequence[Target],
        before: Mapping[str, Node],
    ) -> Outcome:
        """Make machines nodes of the cluster that the servers have.

        Args:
            wanted: the machines.
            software: what they are given.
            servers: of the cluster; the first that answers lets them in.
            before: node → as it was declared before.

        Raises:
            ControlPlaneError: no server answers.
        """
        backend = BACKENDS[software.backend]
        payloads = self._payloads(software, is_server=False)
        with contextlib.ExitStack() as stack:
            door = self._door(stack, backend, servers)
            entrance = _Entrance(door.connection, backend, wanted, self._look_s)

            def bring(node: Node) -> None:
                with self._opener.connect(node.target) as connection:
                    found = members.look(connection, backend)
                    members.require_same(node.name, found, door.authority)
                    members.prepare(connection, node, software, payloads, backend)
                    self._go_on()
                    if found.standing is Standing.HALF:
                        members.take_back(connection, backend)
                    if found.standing is not Standing.MEMBER:
                        ticket = entrance.ticket(node.name)
                        members.join(connection, node, software, ticket, backend, is_server=False)

            failed = self._each(wanted, bring)
            joined = [node for node in wanted if node.name not in failed]
            failed |= self._finish(door.connection, joined, before, software, backend)
        return Outcome(failed=failed)

    # --- out ---------------------------------------------------------------------------------

    def take_out(
        self, leaving: Sequence[Node], software: Software, servers: Sequence[Target]
    ) -> Outcome:
        """Drain nodes, forget them, and take the cluster off their machines.

        A server's own name among the leaving is no door to the cluster. Where no other is left, there is
        nothing to drain to, and the machines are reset alone.

        Raises:
            ControlPlaneError: servers are left, and none of them answers.
        """
        backend = BACKENDS[software.backend]
        names = {node.name for node in leaving}
        doors = [target for target in servers if target.name not in names]
        with contextlib.ExitStack() as stack:
            door = self._door(stack, backend, doors) if doors else None
            draining = threading.Lock()

            def take(node: Node) -> None:
                # A server's own etcd leaves with `reset`, which needs the others to agree: first.
                is_server = any(target.name == node.name for target in servers)
                if door and not is_server:
                    with draining:
                        members.drain(door.connection, node.name, backend)
                with self._opener.connect(node.target) as connection:
                    members.reset(connection, backend)
                if door and is_server:
                    with draining:
                        members.drain(door.connection, node.name, backend)

            return Outcome(failed=self._each(leaving, take))

    # --- looking -----------------------------------------------------------------------------

    def probe(
        self, known: Sequence[Node], software: Software, servers: Sequence[Target]
    ) -> dict[str, Node]:
        """The nodes that are as declared, with the labels and taints that they really have of ours.

        One that does not answer is taken as it was: not knowing is not losing.

        Raises:
            ControlPlaneError: no server answers.
        """
        backend = BACKENDS[software.backend]
        with contextlib.ExitStack() as stack:
            door = self._door(stack, backend, servers)
            there = nodes.read(door.connection, [node.name for node in known], backend)
            found: dict[str, Node] = {}

            def look(node: Node) -> None:
                seen = there.get(node.name)
                try:
                    with self._opener.connect(node.target) as connection:
                        member = members.look(connection, backend)
                except Unreachable:
                    member = Membership(standing=Standing.MEMBER, authority=door.authority)
                if seen and member.authority == door.authority:
                    found[node.name] = msgspec.structs.replace(
                        node,
                        labels={k: v for k in node.labels if (v := seen.labels.get(k)) is not None},
                        taints=tuple(t for t in node.taints if t in seen.taints),
                    )

            failed = self._each(known, look)
        for error in failed.values():
            raise error
        return found

    # --- common ------------------------------------------------------------------------------

    def _finish(
        self,
        server: Connection,
        joined: Sequence[Node],
        before: Mapping[str, Node],
        software: Software,
        backend: ClusterBackend,
    ) -> dict[str, ControlPlaneError]:
        """Wait for nodes, and label them; those that are not there in time."""
        if not joined:
            return {}
        missing = nodes.await_nodes(
            server,
            [node.name for node in joined],
            backend,
            wants_ready=software.cni == "routed",
            look_s=self._look_s,
        )
        nodes.mark(server, [node for node in joined if node.name not in missing], before, backend)
        return {
            name: HostUnfit(
                f"host {name} joined, and its node is not {'ready' if software.cni == 'routed' else 'there'} "
                f"after {nodes.READY_S:.0f} s: `journalctl -u kubelet` there says why"
            )
            for name in missing
        }

    def _each(
        self, chosen: Sequence[Node], act: Callable[[Node], None]
    ) -> dict[str, ControlPlaneError]:
        failed: dict[str, ControlPlaneError] = {}

        def guarded(node: Node) -> None:
            try:
                self._go_on()
                act(node)
            except ControlPlaneError as error:
                failed[node.name] = error
            except Exception as bug:  # noqa: BLE001 - a bug of ours costs one host its turn, not the others
                failed[node.name] = told(bug, f"host {node.name}")

        list(self._pool.map(guarded, chosen))
        return failed

    def _ask(self, software: Software, servers: Sequence[Target], command: Command) -> str:
        """What a command prints on the first server of the cluster that answers."""
        with contextlib.ExitStack() as stack:
            door = self._door(stack, BACKENDS[software.backend], servers)
            return check(door.connection, command)

    def _door(
        self, stack: contextlib.ExitStack, backend: ClusterBackend, servers: Sequence[Target]
    ) -> _Door:
        door, silent = self._find_door(stack, backend, servers)
        if door is None:
            why = "".join(f"\n- {error}" for error in silent.values())
            names = ", ".join(target.name for target in servers) or "there is none"
            raise Unreachable(f"no server of the cluster lets anybody in ({names}){why}")
        return door

    def _find_door(
        self, stack: contextlib.ExitStack, backend: ClusterBackend, servers: Sequence[Target]
    ) -> tuple[_Door | None, dict[str, ControlPlaneError]]:
        """The first of the servers that is a member and whose API answers; who does not answer, and why."""
        silent: dict[str, ControlPlaneError] = {}
        for target in servers:
            try:
                own = contextlib.ExitStack()
                connection = own.enter_context(self._opener.connect(target))
            except ControlPlaneError as error:
                silent[target.name] = error
                continue
            try:
                found = members.look(connection, backend)
                if found.standing is Standing.MEMBER and found.authority:
                    stack.push(own.pop_all())
                    return _Door(connection=connection, authority=found.authority), silent
            except ControlPlaneError as error:
                silent[target.name] = error
            finally:
                own.close()
        return None, silent

    def _payloads(self, software: Software, *, is_server: bool) -> tuple[Payload, ...]:
        wanted = [s for s in software.payloads if is_server or not s.servers_only]
        if not wanted:
            return ()
        if self._bundle is None:
            raise HostUnfit(
                "the cluster has an offline bundle, and this machine was not told where it lies: "
                "pulumi config set bundle FOLDER"
            )
        return tuple(s.at(str(self._bundle)) for s in wanted)

    def _go_on(self) -> None:
        if self._is_stopped.is_set():
            raise Unreachable(
                "not begun: the update was cancelled. Run it again: what is done stays done"
            )


class _Entrance:
    """How a batch comes in: a ticket, and a look at who is known, once; neither where nobody has to join."""

    def __init__(
        self, server: Connection, backend: ClusterBackend, wanted: Sequence[Node], look_s: float
    ) -> None:
        self._server, self._backend, self._look_s = server, backend, look_s
        self._names = [node.name for node in wanted]
        # sshd allows ten sessions on one connection: those who join ask one after the other.
        self._lock = threading.Lock()
        self._ticket: Ticket | None = None
        self._known: frozenset[str] = frozenset()

    def ticket(self, name: str) -> Ticket:
        with self._lock:
            if self._ticket is None:
                self._known = frozenset(nodes.read(self._server, self._names, self._backend))
                self._ticket = members.ask_ticket(self._server, self._backend, is_server=False)
            if name in self._known:
                nodes.make_way(self._server, name, self._backend, look_s=self._look_s)
            return self._ticket


def _named(node: Node | None) -> dict[str, Node]:
    return {node.name: node} if node else {}


def _require_may_begin(
    host: str, silent: Mapping[str, ControlPlaneError], *, may_begin: bool
) -> None:
    if not may_begin:
        raise Unreachable(
            f"host {host} joins a cluster that no server has yet: the first one failed"
        )
    if silent:
        why = "".join(f"\n- {error}" for error in silent.values())
        raise HostUnfit(
            f"host {host} does not begin a cluster while another server is silent: it may have one. Bring it "
            f"back, or take it out of the declaration{why}"
        )
