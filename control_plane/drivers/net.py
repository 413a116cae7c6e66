"""The port `Net` on real sockets, and the map that leads a simulation's addresses to loopback.

This is the hot path: one object and two timers per connection, no stream, no transport, no task per
read. Runs on asyncio's own loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import select
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from control_plane.core.errors import ControlPlaneError, OversizedReply, Unreachable

if TYPE_CHECKING:
    from control_plane.core.ports import Connection
    from control_plane.core.tls import TlsPin

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_ALL_BITS = (1 << 32) - 1
has_epoll = hasattr(select, "epoll")
_PIECE_BYTES: Final = 64 * 1024
_EVENTS: Final = 128
"""Sockets told of in one go; the rest waits for the loop's next turn."""


class MapError(ControlPlaneError):
    """The network map is missing or not one; whoever started the simulation acts."""


class _Rule(msgspec.Struct, frozen=True):
    declared: str
    actual: str


class _MapFile(msgspec.Struct, frozen=True):
    rules: tuple[_Rule, ...]
    ports: dict[str, int]
    version: int = 1
    authority_pem: str | None = None
    is_declared: bool = False


class NetworkMap:
    """Where a simulation's declared addresses and ports are on loopback.

    What is not in the map does not exist: nothing falls through to the real network. Only where a
    simulation stands at the declared addresses themselves does each lead to itself.
    """

    __slots__ = ("_authority_pem", "_by_mask", "_is_declared", "_ports")

    def __init__(
        self,
        rules: Iterable[tuple[str, str]],
        ports: Mapping[int, int],
        *,
        authority_pem: str | None = None,
        is_declared: bool = False,
    ) -> None:
        """`rules` are pairs of IPv4 networks of the same size, declared and actual.

        `authority_pem` is who signs the certificates of what stands there.

        Raises:
            ValueError: not a network, sizes differ, or the actual one is not on loopback.
        """
        self._ports, self._is_declared = dict(ports), is_declared
        self._authority_pem = authority_pem
        self._by_mask: dict[int, dict[int, int]] = {}
        for declared_text, actual_text in rules:
            declared = ipaddress.IPv4Network(declared_text)
            actual = ipaddress.IPv4Network(actual_text)
            if declared.prefixlen != actual.prefixlen or not actual.subnet_of(_LOOPBACK):
                msg = f"{declared_text} → {actual_text}: want equal sizes, and the latter in 127.0.0.0/8"
                raise ValueError(msg)
            nets = self._by_mask.setdefault(int(declared.netmask), {})
            nets[int(declared.network_address)] = int(actual.network_address)

    @classmethod
    def load(cls, path: Path) -> NetworkMap:
        """Read the map that a running simulation keeps in its state folder.

        Raises:
            MapError: no file, or not a network map of version 1.
        """
        try:
            told = msgspec.json.decode(path.read_bytes(), type=_MapFile)
            if told.version != 1:
                raise MapError(
                    f"{path}: network map of version {told.version}; this reads version 1"
                )
            ports = {int(true): actual for true, actual in told.ports.items()}
            rules = [(rule.declared, rule.actual) for rule in told.rules]
            return cls(rules, ports, authority_pem=told.authority_pem, is_declared=told.is_declared)
        except OSError as error:
            raise MapError(
                f"{path}: {error.strerror or error}; is the simulation running?"
            ) from error
        except (ValueError, msgspec.MsgspecError) as error:
            raise MapError(f"{path}: no network map: {error}") from error

    def actual(self, address: str, port: int) -> tuple[str, int]:
        """Where a declared address and port are.

        Raises:
            Unreachable: the map knows no such address or port.
        """
        if self._is_declared:
            return address, port
        actual_port = self._ports.get(port)
        try:
            number = int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
        except (OSError, ValueError):
            raise Unreachable(f"{address}: no IPv4 address") from None
        for mask, nets in self._by_mask.items():
            base = nets.get(number & mask)
            if base is not None and actual_port is not None:
                there = base | (number & (mask ^ _ALL_BITS))
                return socket.inet_ntoa(there.to_bytes(4, "big")), actual_port
        raise Unreachable(f"{address}:{port}: not in the network map")

    def pin(self, declared: TlsPin, address: str) -> TlsPin:
        """How what stands at a declared address is known: no simulation has the keys of the real devices.

        Who is declared without a pin is not asked for one here: the drivers refuse it as ever.
        """
        if self._authority_pem is None or self._is_declared:
            return declared
        return msgspec.structs.replace(
            declared, sha256=None, ca_pem=self._authority_pem, server_name=address
        )


class StreamNet:
    """TCP towards devices; with a map, only towards the loopback addresses that it names."""

    def __init__(self, network_map: NetworkMap | None = None) -> None:
        self._map = network_map
        self._watch: _Epoll | _LoopWatch | None = None

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        """Open a connection, within wire seconds; with a pin, a TLS one.

        Raises:
            Unreachable: refused, no route, no IPv4 address, not in the map, or the deadline passed.
            WrongIdentity, UnexpectedReply: with a pin, as the port says.
        """
        where = (address, port) if self._map is None else self._map.actual(address, port)
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            self._watch = _Epoll(loop) if has_epoll else _LoopWatch(loop)
        name, end_s = f"{address}:{port}", loop.time() + deadline_s
        wire = _Wire(self._watch, name)
        await wire.open(where, deadline_s)
        if tls is None:
            return wire
        # Loaded with the first device that has a certificate.
        from control_plane.drivers.tls import secured  # noqa: PLC0415

        if self._map is not None:
            tls = self._map.pin(tls, address)
        left_s = max(0.0, end_s - loop.time())
        return await secured(wire, tls, address=address, name=name, deadline_s=left_s)


class _Epoll:
    """Tells when a socket is ready, for many that live a few milliseconds.

    One reader of the loop for all of them: what a loop makes per socket (a transport, or a handle
    each for reading and writing) costs a quarter of a poll's CPU, on uvloop as on asyncio.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._tell)

    def for_writing(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` while the socket takes bytes, and no longer while it has some."""
        self._wait(fd, select.EPOLLOUT, ready)

    def for_reading(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` while the socket has bytes or has ended, and no longer while it takes some."""
        self._wait(fd, select.EPOLLIN, ready)

    def forget(self, fd: int) -> None:
        """Before the socket is closed; the kernel forgets it then."""
        self._ready.pop(fd, None)

    def _wait(self, fd: int, events: int, ready: Callable[[], None]) -> None:
        if fd in self._ready:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._ready[fd] = ready

    def _tell(self) -> None:
        for fd, _ in self._epoll.poll(0, _EVENTS):
            ready = self._ready.get(fd)
            if ready is not None:
                ready()


class _LoopWatch:
    """The same by the loop's own means, for systems without epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def for_writing(self, fd: int, ready: Callable[[], None]) -> None:
        """As `_Epoll.for_writing`."""
        self.loop.remove_reader(fd)
        self.loop.add_writer(fd, ready)

    def for_reading(self, fd: int, ready: Callable[[], None]) -> None:
        """As `_Epoll.for_reading`."""
        self.loop.remove_writer(fd)
        self.loop.add_reader(fd, ready)

    def forget(self, fd: int) -> None:
        """Before the socket is closed."""
        self.loop.remove_reader(fd)
        self.loop.remove_writer(fd)


class _Wire:
    """One connection; at most one request waits on it."""

    __slots__ = (
        "_buffer",
        "_complete",
        "_max_bytes",
        "_name",
        "_socket",
        "_streams",
        "_unsent",
        "_waiter",
        "_watch",
    )

    def __init__(self, watch: _Epoll | _LoopWatch, name: str) -> None:
        self._watch = watch
        self._name = name
        self._socket: socket.socket | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._complete: Callable[[bytearray, bool], bool] | None = None
        self._buffer = bytearray()
        self._unsent = b""
        self._max_bytes = 0
        self._streams = False
        """Whether pieces leave, to which nobody waits for a reply."""

    async def open(self, where: tuple[str, int], deadline_s: float) -> None:
        """Connect; see `core.ports.Net`."""
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:  # No file descriptor is left: later there may be one.
            raise Unreachable(f"{self._name}: {_reason(error)}") from None
        self._socket = sock
        try:
            sock.setblocking(False)  # noqa: FBT003 — the standard library's signature
            socket.inet_pton(socket.AF_INET, where[0])  # A name would be resolved, and block.
            failed = sock.connect_ex(where)
        except (OSError, ValueError, OverflowError) as error:
            self.close()
            raise Unreachable(f"{self._name}: {_reason(error)}") from None
        if failed not in {0, errno.EINPROGRESS}:
            self.close()
            raise Unreachable(f"{self._name}: {os.strerror(failed)}")
        self._watch.for_writing(sock.fileno(), self._opened)
        await self._wait(deadline_s, "answer")

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        """Send, collect until `complete`, return; see `core.ports.Connection`."""
        if self._socket is None:
            raise Unreachable(f"{self._name}: the connection is closed")
        self._complete, self._max_bytes, self._unsent = complete, max_bytes, payload
        if self._streams:
            self._streams = False
            # Its device may have answered before it had everything.
            if self._buffer and complete(self._buffer, False):  # noqa: FBT003 — the port's own signature
                told = bytes(self._buffer)
                self._buffer.clear()
                return told
        return await self._wait(deadline_s, "complete reply")

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        """Send piece by piece; see `core.ports.Connection`."""
        end_s = self._watch.loop.time() + deadline_s
        for piece in pieces:
            if self._socket is None:
                raise Unreachable(f"{self._name}: the connection is closed")
            if not piece:
                continue
            self._unsent, self._streams = piece, True
            left_s = end_s - self._watch.loop.time()
            await self._wait(max(0.0, left_s), "room for more")

    def close(self) -> None:
        """Close at once; safe to call twice."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._watch.forget(sock.fileno())
            sock.close()

    async def _wait(self, deadline_s: float, what: str) -> bytes:
        loop = self._watch.loop
        waiter: asyncio.Future[bytes] = loop.create_future()
        self._waiter = waiter
        timer = loop.call_later(deadline_s, self._expire, deadline_s, what)
        try:
            if self._unsent:
                self._send()
            return await waiter
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    # -- what the loop calls -----------------------------------------------------------------------

    def _opened(self) -> None:
        """Connected, or refused."""
        sock, waiter = self._socket, self._waiter
        if sock is None or waiter is None or waiter.done():
            return
        refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            self._fail(os.strerror(refused))
            return
        self._watch.for_reading(sock.fileno(), self._readable)
        waiter.set_result(b"")

    def _send(self) -> None:
        """Send what the kernel takes; the rest as soon as it takes more."""
        sock = self._socket
        if sock is None:
            return
        try:
            sent = sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(_reason(error))
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._watch.for_writing(sock.fileno(), self._send_more)
        elif self._streams and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(b"")

    def _send_more(self) -> None:
        self._send()
        if self._socket is not None and not self._unsent:
            self._watch.for_reading(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        """Collect, up to the cap; bytes that nobody asked for end the connection."""
        sock, waiter = self._socket, self._waiter
        if sock is None:
            return
        try:
            data = sock.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._fail(f"reset after {len(self._buffer)} bytes")
            return
        if self._streams and data and len(self._buffer) < _PIECE_BYTES:
            self._buffer += data
            return
        if waiter is None or waiter.done():
            self.close()
            return
        self._buffer += data
        if len(self._buffer) > self._max_bytes:
            self._fail(OversizedReply(f"{self._name}: more than {self._max_bytes} bytes"))
            return
        if not self._streams:
            self._settle(waiter, eof=not data)
        if not data:
            self._fail(f"closed after {len(self._buffer)} bytes")

    def _settle(self, waiter: asyncio.Future[bytes], *, eof: bool) -> None:
        assert self._complete is not None  # noqa: S101 — set with the waiter
        try:
            if self._complete(self._buffer, eof):
                waiter.set_result(bytes(self._buffer))
                self._buffer.clear()
        except Exception as bug:  # noqa: BLE001 — the asker's predicate failed: the asker's error
            self._fail(bug)

    def _expire(self, deadline_s: float, what: str) -> None:
        self._fail(f"no {what} within {deadline_s:g} s")

    def _fail(self, error: Exception | str) -> None:
        """End the connection, and whoever waits on it."""
        if self._waiter is not None and not self._waiter.done():
            if isinstance(error, str):
                error = Unreachable(f"{self._name}: {error}")
            self._waiter.set_exception(error)
        self.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
