"""The port `Net` over devices in the same process: no sockets, any event loop, any clock.

Its twin is the drivers' adapter to real sockets; one conformance suite holds the two together.
Bytes take time on the way (a seeded latency), replies come in pieces as TCP gives them, and each
connection is its own: what one client does to it never shows on another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto

from control_plane.core.errors import OversizedReply, Unreachable
from control_plane.core.tls import TlsPin
from control_plane.simulator.machine import mix
from control_plane.simulator.network import Network, Station
from control_plane.simulator.tls import check
from control_plane.simulator.wire import Reply, Session

PIECE = 4096
"""Bytes that arrive at once."""
LATENCY_S = (0.001, 0.02)
"""Wire seconds one way: a switch, and a control board that has other things to do."""
PEER = "10.255.0.1"
"""The address that devices see."""


class _End(Enum):
    EOF = auto()
    RESET = auto()


class MemoryNet:
    """TCP towards the stations of a network."""

    def __init__(
        self,
        network: Network,
        *,
        seed: int = 0,
        latency_s: tuple[float, float] = LATENCY_S,
        peer: str = PEER,
    ) -> None:
        self._network = network
        self._seed = seed
        self._latency_s = latency_s
        self._peer = peer
        self._trips = 0
        self.connections = 0
        """Connections that were ever tried."""

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> MemoryConnection:
        """Open a connection, within wire seconds; with a pin, its certificate is looked at.

        Bytes go unencrypted: there is no wire that anybody could listen to.

        Raises:
            Unreachable: refused, or silence until the deadline.
            WrongIdentity, UnexpectedReply: with a pin, as the port says.
        """
        self.connections += 1
        station = self._network.at(address)
        trip_s = self.trip_s()
        if (station is not None and not station.reachable()) or trip_s > deadline_s:
            await asyncio.sleep(deadline_s)
            raise Unreachable(f"{address}:{port}: no answer within {deadline_s:g} s")
        await asyncio.sleep(trip_s)
        session = None if station is None else station.accept(port, self._peer)
        if station is None or session is None:
            raise Unreachable(f"{address}:{port}: connection refused")
        if tls is not None:
            check(tls, station.certificate, address=address, name=f"{address}:{port}")
        return MemoryConnection(self, station, session, f"{address}:{port}")

    def trip_s(self) -> float:
        """The next latency: depends on the seed and on how many came before."""
        low, high = self._latency_s
        self._trips += 1
        return low + (high - low) * mix(self._seed, self._trips)


class MemoryConnection:
    """One connection to one device."""

    def __init__(self, net: MemoryNet, station: Station, session: Session, name: str) -> None:
        self._net = net
        self._station = station
        self._session = session
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[bytes | _End] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._last_at = 0.0
        self._closed = False
        self._watch_idle()

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        """Send, collect until `complete`, return; see `core.ports.Connection`."""
        if self._closed:
            raise Unreachable(f"{self._name}: the connection is closed")
        try:
            async with asyncio.timeout(deadline_s):
                return await self._exchange(payload, complete, max_bytes)
        except TimeoutError:
            self.close()
            raise Unreachable(f"{self._name}: no complete reply within {deadline_s:g} s") from None
        except BaseException:
            self.close()
            raise

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        """Send piece by piece; see `core.ports.Connection`. A megabyte takes some tenths of a second."""
        try:
            async with asyncio.timeout(deadline_s):
                for piece in pieces:
                    self._require_open()
                    await asyncio.sleep(self._net.trip_s())
                    self._arrive(piece)
        except TimeoutError:
            self.close()
            raise Unreachable(f"{self._name}: no room for more within {deadline_s:g} s") from None
        except BaseException:
            self.close()
            raise

    def _require_open(self) -> None:
        if self._closed or (self._inbox and isinstance(self._inbox[-1], _End)):
            raise Unreachable(f"{self._name}: closed in the middle of a request")

    def close(self) -> None:
        """Close at once; safe to call twice. What was sent before still arrives."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._idle is not None:
            self._idle.cancel()

    async def _exchange(
        self, payload: bytes, complete: Callable[[bytearray, bool], bool], max_bytes: int
    ) -> bytes:
        if payload:
            # Not among the timers that `close` cancels: the network has these bytes.
            self._loop.call_later(self._net.trip_s(), self._arrive, payload)
        buffer = bytearray()
        while True:
            piece = await self._next()
            if isinstance(piece, bytes):
                buffer += piece
                if len(buffer) > max_bytes:
                    raise OversizedReply(f"{self._name}: more than {max_bytes} bytes")
                if complete(buffer, False):  # noqa: FBT003 — the port's own signature
                    return bytes(buffer)
            elif piece is _End.EOF and complete(buffer, True):  # noqa: FBT003 — the same
                self.close()
                return bytes(buffer)
            else:
                raise Unreachable(f"{self._name}: closed after {len(buffer)} bytes")

    async def _next(self) -> bytes | _End:
        while not self._inbox:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._inbox.popleft()

    def _arrive(self, payload: bytes) -> None:
        """The client's bytes reach the device."""
        replies = self._station.hear(self._session, payload)
        if self._closed:
            return
        if not replies or not self._station.reachable():
            self._watch_idle()
            return
        if self._idle is not None:
            self._idle.cancel()
        at = self._loop.time()
        for reply in replies:
            at += reply.after_s
            # TCP keeps order: a fast piece does not overtake a slow one.
            self._last_at = max(self._last_at, at + self._net.trip_s())
            self._later(self._last_at - self._loop.time(), lambda r=reply: self._deliver(r))  # type: ignore[misc]

    def _deliver(self, reply: Reply) -> None:
        for start in range(0, len(reply.data), PIECE):
            self._inbox.append(reply.data[start : start + PIECE])
        if reply.reset:
            self._inbox.append(_End.RESET)
        elif reply.close:
            self._inbox.append(_End.EOF)
        else:
            self._watch_idle()
        self._wake()

    def _watch_idle(self) -> None:
        limit_s = self._session.idle_limit_s()
        if self._idle is not None:
            self._idle.cancel()
        if limit_s is not None and not self._closed:
            self._idle = self._loop.call_later(limit_s, self._expire)

    def _expire(self) -> None:
        self._inbox.append(_End.EOF)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            act()

        timer = self._loop.call_later(delay_s, run)
        self._timers.add(timer)
