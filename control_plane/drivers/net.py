"""The port `Net` on real sockets, and the map that leads a simulation's addresses to loopback.

This is the hot path: one object and two timers per connection, no stream, no task per read. Runs on
asyncio's own loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from control_plane.core.errors import ControlPlaneError, OversizedReply, Unreachable

if TYPE_CHECKING:
    from control_plane.core.ports import Connection

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_ALL_BITS = (1 << 32) - 1


class MapError(ControlPlaneError):
    """The network map is missing or not one; whoever started the simulation acts."""


class _Rule(msgspec.Struct, frozen=True):
    declared: str
    actual: str


class _MapFile(msgspec.Struct, frozen=True):
    rules: tuple[_Rule, ...]
    ports: dict[str, int]
    version: int = 1


class NetworkMap:
    """Where a simulation's declared addresses and ports are on loopback.

    What is not in the map does not exist: nothing falls through to the real network.
    """

    __slots__ = ("_by_mask", "_ports")

    def __init__(self, rules: Iterable[tuple[str, str]], ports: Mapping[int, int]) -> None:
        """`rules` are pairs of IPv4 networks of the same size, declared and actual.

        Raises:
            ValueError: not a network, sizes differ, or the actual one is not on loopback.
        """
        self._ports = dict(ports)
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
            return cls([(rule.declared, rule.actual) for rule in told.rules], ports)
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


class StreamNet:
    """TCP towards devices; with a map, only towards the loopback addresses that it names."""

    def __init__(self, network_map: NetworkMap | None = None) -> None:
        self._map = network_map

    async def connect(self, address: str, port: int, *, deadline_s: float) -> Connection:
        """Open a connection, within wire seconds.

        Raises:
            Unreachable: refused, no route, not in the map, or the deadline passed.
        """
        where = (address, port) if self._map is None else self._map.actual(address, port)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_s):
                _, wire = await loop.create_connection(
                    lambda: _Wire(loop, f"{address}:{port}"), *where
                )
        except TimeoutError:
            raise Unreachable(f"{address}:{port}: no answer within {deadline_s:g} s") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Unreachable(f"{address}:{port}: {reason}") from None
        return wire


class _Wire(asyncio.Protocol):
    """One connection; at most one request waits on it."""

    __slots__ = (
        "_buffer",
        "_complete",
        "_ended",
        "_loop",
        "_max_bytes",
        "_name",
        "_transport",
        "_waiter",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._complete: Callable[[bytearray, bool], bool] | None = None
        self._buffer = bytearray()
        self._max_bytes = 0
        self._ended = False

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        """Send, collect until `complete`, return; see `core.ports.Connection`."""
        transport = self._transport
        if transport is None or self._ended:
            raise Unreachable(f"{self._name}: the connection is closed")
        self._complete, self._max_bytes = complete, max_bytes
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiter = waiter
        timer = self._loop.call_later(deadline_s, self._expire, deadline_s)
        try:
            if payload:
                transport.write(payload)
            return await waiter
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def close(self) -> None:
        """Close at once; safe to call twice."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # -- what the loop calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Not checked: another loop's transports (uvloop's) do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect, up to the cap; bytes that nobody asked for end the connection."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.close()
            return
        self._buffer += data
        if len(self._buffer) > self._max_bytes:
            self._fail(OversizedReply(f"{self._name}: more than {self._max_bytes} bytes"))
        else:
            self._settle(waiter, eof=False)

    def eof_received(self) -> None:
        """The device said all it will say."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed or reset."""
        self._end(exc)
        self._transport = None

    # ----------------------------------------------------------------------------------------------

    def _settle(self, waiter: asyncio.Future[bytes], *, eof: bool) -> None:
        assert self._complete is not None  # noqa: S101 — set with the waiter
        try:
            if self._complete(self._buffer, eof):
                waiter.set_result(bytes(self._buffer))
                self._buffer.clear()
        except Exception as bug:  # noqa: BLE001 — the asker's predicate failed: the asker's error
            self._fail(bug)

    def _end(self, reason: Exception | None) -> None:
        self._ended = True
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if reason is None:
            self._settle(waiter, eof=True)
        if not waiter.done():
            how = "closed" if reason is None else "reset"
            self._fail(Unreachable(f"{self._name}: {how} after {len(self._buffer)} bytes"))

    def _expire(self, deadline_s: float) -> None:
        self._fail(Unreachable(f"{self._name}: no complete reply within {deadline_s:g} s"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.close()
