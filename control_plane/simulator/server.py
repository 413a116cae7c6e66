"""Carries a whole site over loopback: each machine has its own address in 127.0.0.0/8.

One listening socket per true port serves all of them: it takes every address but only on the
loopback interface, and drops whatever was not sent to 127.0.0.0/8, so that nothing else is ever
answered. A network map tells clients where declared addresses and ports went.

In a network namespace of its own it may instead answer at the declared addresses and ports themselves;
there everything that reaches the namespace is taken, and it is up to its maker what that is.

A machine that nobody can reach stays silent after the handshake (the kernel shakes hands for all);
an address without a machine, or a closed port, resets.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import msgspec

from control_plane.simulator.network import Network, Station
from control_plane.simulator.tls import Certificate, ServerTls
from control_plane.simulator.wire import Reply, Session

TRUE_PORTS: Mapping[int, int] = {4028: 14028, 80: 18080, 502: 10502}
"""The families' ports, and where they are looked for first: nobody needs to be root for those."""
BACKLOG = 4096
_LOOPBACK = "127."
_NAMESPACES = Path("/run/netns")
_RESET = struct.pack("ii", 1, 0)


class Rule(msgspec.Struct, frozen=True):
    """A stretch of declared addresses, and where it is on loopback."""

    declared: str
    actual: str


class NetworkMap(msgspec.Struct, frozen=True, kw_only=True):
    """What clients of a simulation need to know; JSON on disk."""

    version: int = 1
    rules: tuple[Rule, ...]
    ports: dict[str, int]
    time_scale: float = 1.0
    epoch_s: float = 0.0
    """Real time at which device time and real time were the same."""
    authority_pem: str | None = None
    """Who signs the certificates that the simulated devices show: it stands for whatever is pinned for the
    real ones, of which nobody here has the keys. `None`: none of them shows any."""
    is_declared: bool = False
    """Devices answer at their declared addresses and ports: only the times are of interest."""


class AddressMap:
    """Declared ↔ loopback, by /16: at most 254 of them."""

    __slots__ = ("_forth", "rules")

    def __init__(self, addresses: Iterable[str]) -> None:
        """Cover these addresses, and with each its /16.

        Raises:
            ValueError: more than 254 different /16s.
        """
        prefixes = sorted({a.rsplit(".", 2)[0] for a in addresses})
        if len(prefixes) > 254:  # noqa: PLR2004 — 127.1.0.0/16 to 127.254.0.0/16
            msg = f"{len(prefixes)} different /16 networks do not fit into 127.0.0.0/8"
            raise ValueError(msg)
        self._forth = {prefix: f"127.{n}" for n, prefix in enumerate(prefixes, 1)}
        self.rules = tuple(
            Rule(f"{declared}.0.0/16", f"{actual}.0.0/16")
            for declared, actual in self._forth.items()
        )

    def actual(self, declared: str) -> str:
        """Where a declared address is on loopback."""
        one, two, rest = declared.split(".", 2)
        return f"{self._forth[f'{one}.{two}']}.{rest}"

    def declared_by_actual(self) -> dict[str, str]:
        """Loopback prefix (`127.n`) → declared prefix (`10.m`)."""
        return {actual: declared for declared, actual in self._forth.items()}


class Server:
    """Sockets in front of a network of stations."""

    def __init__(
        self,
        network: Network,
        addresses: AddressMap | None = None,
        *,
        ports: Mapping[int, int] = TRUE_PORTS,
        declared: bool = False,
    ) -> None:
        """`addresses` maps declared to loopback; without one, stations stand at 127.x themselves.

        `ports` gives the port to try for each true port; a busy one is replaced by a free one. With
        `declared` neither counts: declared addresses and true ports are listened at as they are.
        """
        self._declared = declared
        self._network = network
        self._addresses = addresses
        self._back = {} if addresses is None else addresses.declared_by_actual()
        self._wanted = dict(ports)
        self._servers: list[asyncio.Server] = []
        self.ports: dict[int, int] = {}
        """True port → the one in use, once started."""
        self.connections = 0
        self.live: set[Wire] = set()
        self._contexts: dict[Certificate, ssl.SSLContext] = {}
        """Made when somebody calls for the first time."""

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: this system cannot bind to the loopback interface only; or `declared` was asked for
                outside a network namespace that was made for that.
        """
        self._require_place()
        loop = asyncio.get_running_loop()
        for true, wanted in self._wanted.items():
            sock = _listening(true, interface=b"") if self._declared else _listen(wanted)
            self.ports[true] = sock.getsockname()[1]

            def make(true: int = true) -> Wire:
                return Wire(self, true)

            self._servers.append(await loop.create_server(make, sock=sock, backlog=BACKLOG))

    def _require_place(self) -> None:
        if self._declared and not _is_made_namespace():
            raise OSError(
                "declared addresses are served only in a network namespace made for that (`ip netns add`): "
                "in the machine's own network, real devices may have them"
            )

    async def stop(self) -> None:
        """Close everything."""
        for server in self._servers:
            server.close()
        for wire in tuple(self.live):
            wire.drop()
        for server in self._servers:
            with contextlib.suppress(OSError):
                await server.wait_closed()

    def station(self, local: str) -> Station | None:
        """Who stands at the address that was called."""
        if not (self._declared or local.startswith(_LOOPBACK)):
            return None
        if self._declared or self._addresses is None:
            return self._network.at(local)
        one, two, rest = local.split(".", 2)
        prefix = self._back.get(f"{one}.{two}")
        return None if prefix is None else self._network.at(f"{prefix}.{rest}")

    def tls_of(self, station: Station) -> ServerTls | None:
        """The station's end of a new connection; `None` where it has no certificate."""
        shown = station.certificate
        if shown is None:
            return None
        context = self._contexts.get(shown)
        if context is None:
            context = self._contexts[shown] = shown.context()
        return ServerTls(context)

    def write_map(
        self, path: Path, *, time_scale: float, epoch_s: float, authority_pem: str | None = None
    ) -> NetworkMap:
        """Write the network map, whole or not at all."""
        rules = () if self._declared or self._addresses is None else self._addresses.rules
        told = NetworkMap(
            rules=rules,
            ports={str(true): port for true, port in self.ports.items()},
            time_scale=time_scale,
            epoch_s=epoch_s,
            authority_pem=authority_pem,
            is_declared=self._declared,
        )
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
        draft.replace(path)
        return told


def _listen(port: int) -> socket.socket:
    """Listen at a port; at a free one where somebody else does, or where it is not for us."""
    try:
        return _listening(port)
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        return _listening(0)


def _is_made_namespace() -> bool:
    """Whether this process is in a network namespace that has a name (`ip netns`): somebody made it."""
    own = Path("/proc/self/ns/net").stat().st_ino
    named = _NAMESPACES.iterdir() if _NAMESPACES.is_dir() else ()
    return own in {name.stat().st_ino for name in named}


def _listening(port: int, *, interface: bytes = b"lo") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface)
        sock.bind(("0.0.0.0", port))  # noqa: S104 — on that interface, or in a network of our own
        # Here and not by the loop: two that start at once may both bind, and only one of them listens.
        sock.listen(BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 — the standard library's signature
    except BaseException:
        sock.close()
        raise
    return sock


class Wire(asyncio.Protocol):
    """One TCP connection: bytes to a station and its replies back, in order and in time."""

    __slots__ = (
        "_due_s",
        "_idle",
        "_port",
        "_server",
        "_session",
        "_station",
        "_tls",
        "_transport",
    )

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self._port = port
        self._station: Station | None = None
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._tls: ServerTls | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who is meant."""
        # Not checked: another loop's transports (uvloop's) do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        server.connections += 1
        server.live.add(self)
        local = transport.get_extra_info("sockname")[0]
        station = server.station(local)
        if station is None:
            self._reset()
            return
        if not station.reachable():
            return
        self._station = station
        peer = transport.get_extra_info("peername")[0]
        self._session = station.accept(self._port, peer)
        if self._session is None:
            self._reset()
            return
        self._tls = server.tls_of(station)
        self._watch_idle()

    def data_received(self, data: bytes) -> None:
        """Let the machine hear it, and play what it answers."""
        station, session = self._station, self._session
        if station is None or session is None or not station.reachable():
            return
        tls = self._tls
        if tls is not None:
            data = tls.take(data)
            self._flush(tls)
            if tls.has_ended and self._transport is not None:
                self._transport.close()
            if not data:
                return
        replies = station.hear(session, data)
        if not replies:
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        at_s = max(now_s, self._due_s)
        for reply in replies:
            at_s += reply.after_s
            if at_s <= now_s:
                self._play(reply)
            else:
                loop.call_at(at_s, self._play, reply)
        self._due_s = at_s

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went, or was dropped."""
        self._server.live.discard(self)
        self._transport = None
        if self._idle is not None:
            self._idle.cancel()

    def drop(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _play(self, reply: Reply) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        tls = self._tls
        if tls is not None:
            if reply.data:
                tls.write(reply.data)
            if reply.close:
                tls.end()
            self._flush(tls)
        elif reply.data:
            transport.write(reply.data)
        if reply.reset:
            self._reset()
        elif reply.close:
            transport.close()
        else:
            self._watch_idle()

    def _flush(self, tls: ServerTls) -> None:
        secret = tls.taken()
        if secret and self._transport is not None:
            self._transport.write(secret)

    def _watch_idle(self) -> None:
        limit_s = None if self._session is None else self._session.idle_limit_s()
        if self._idle is not None:
            self._idle.cancel()
        if limit_s is not None:
            self._idle = asyncio.get_running_loop().call_later(limit_s, self._expire)

    def _expire(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _reset(self) -> None:
        """Close as a closed port does: by reset."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


def addresses_of(
    network: Network, subnets: Iterable[str], addresses: Iterable[str] = ()
) -> AddressMap:
    """The map that covers every station, every address that a lease may give, and those of later."""
    firsts = (str(ipaddress.ip_network(subnet)[0]) for subnet in subnets)
    return AddressMap((*(station.address for station in network), *firsts, *addresses))
