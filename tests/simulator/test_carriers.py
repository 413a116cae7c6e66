"""Memory and sockets carry the same devices: the same request, line and device give the same end.

Whoever writes an adapter of the port `Net` to real sockets adds it to `CARRIERS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
import uvloop

from control_plane.core.errors import ControlPlaneError, OversizedReply, Unreachable
from control_plane.core.ports import Connection, Net
from control_plane.core.tls import TlsPin
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.simulator.antminer_builds import S19_2023, S21_2024
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.machine import World
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.server import Server
from control_plane.simulator.virtual import run_virtual
from control_plane.simulator.whatsminer import WhatsMiner
from tests.simulator.making import M60S, a_machine, an_antminer

ANT, WHATS, BARE, NOBODY = "127.11.0.1", "127.11.0.2", "127.11.0.3", "127.11.0.4"
SUMMARY = b'{"command":"summary"}'
PAGE = b"GET /cgi-bin/summary.cgi HTTP/1.1\r\nHost: x\r\n\r\n"
Outcome = tuple[str, bytes]
Play = Callable[[Net, Network], Awaitable[list[Outcome]]]


class SocketNet:
    """The port `Net`, as plainly as sockets allow."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> SocketConnection:
        assert tls is None, "with a pin: test_carriers_tls"
        try:
            async with asyncio.timeout(deadline_s):
                streams = await asyncio.open_connection(address, self._ports.get(port, 1))
        except (OSError, TimeoutError) as error:
            raise Unreachable(str(error)) from error
        return SocketConnection(*streams)


class SocketConnection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        if self._writer.is_closing():
            raise Unreachable("closed")
        buffer = bytearray()
        try:
            async with asyncio.timeout(deadline_s):
                self._writer.write(payload)
                while True:
                    piece = await self._reader.read(4096)
                    buffer += piece
                    if len(buffer) > max_bytes:
                        raise OversizedReply("too long")
                    if complete(buffer, not piece):
                        return bytes(buffer)
                    if not piece:
                        raise Unreachable("closed")
        except (OSError, TimeoutError) as error:
            raise Unreachable(str(error)) from error

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                for piece in pieces:
                    self._writer.write(piece)
                    await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Unreachable(str(error)) from error

    def close(self) -> None:
        self._writer.transport.abort()


def a_network() -> Network:
    """Devices whose time stands still, so that each says the same whenever it is asked."""
    world = World(ManualSimClock(5000.0))
    network = Network()
    network.add(Station("A-1", ANT, an_antminer(world, build=S21_2024)))
    network.add(Station("W-1", WHATS, WhatsMiner(a_machine(world, M60S, "W-1"))))
    network.add(Station("A-2", BARE, an_antminer(world, build=S19_2023, asset="A-2")))
    return network


def in_memory(play: Play) -> list[Outcome]:
    network = a_network()
    return run_virtual(lambda _: _coroutine(play(MemoryNet(network), network)))


def on_plain_sockets(play: Play) -> list[Outcome]:
    return asyncio.run(on_sockets(play, SocketNet))


def on_driver_sockets(play: Play) -> list[Outcome]:
    return asyncio.run(on_sockets(play, a_stream_net))


def on_driver_sockets_of_uvloop(play: Play) -> list[Outcome]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(on_sockets(play, a_stream_net))


def a_stream_net(ports: dict[int, int]) -> Net:
    return StreamNet(NetworkMap([("127.11.0.0/16", "127.11.0.0/16")], ports))


async def on_sockets(play: Play, make_net: Callable[[dict[int, int]], Net]) -> list[Outcome]:
    network = a_network()
    server = Server(network, ports={4028: 0, 80: 0})
    await server.start()
    try:
        return await play(make_net(server.ports), network)
    finally:
        await server.stop()


async def _coroutine(work: Awaitable[list[Outcome]]) -> list[Outcome]:
    return await work


CARRIERS = {
    "memory": in_memory,
    "plain sockets": on_plain_sockets,
    "driver": on_driver_sockets,
    "driver on uvloop": on_driver_sockets_of_uvloop,
}


def at_end(buffer: bytearray, eof: bool) -> bool:
    return eof


def at_answer(buffer: bytearray, eof: bool) -> bool:
    return eof or buffer.endswith((b"\0", b"</h1>"))


def never(buffer: bytearray, eof: bool) -> bool:
    return False


async def end_of(
    connection: Connection,
    payload: bytes,
    complete: Callable[[bytearray, bool], bool] = at_answer,
    *,
    deadline_s: float = 0.4,
    max_bytes: int = 65_536,
) -> Outcome:
    try:
        reply = await connection.request(
            payload, complete=complete, deadline_s=deadline_s, max_bytes=max_bytes
        )
    except ControlPlaneError as error:
        return type(error).__name__, b""
    return "reply", reply


async def ask(net: Net, address: str, port: int, payload: bytes) -> Outcome:
    try:
        connection = await net.connect(address, port, deadline_s=0.4)
    except Unreachable:
        return "Unreachable", b""
    try:
        return await end_of(connection, payload)
    finally:
        connection.close()


def both(play: Play) -> list[Outcome]:
    """What a play ends in, if it ends alike on every carrier."""
    ends = {name: carrier(play) for name, carrier in CARRIERS.items()}
    assert ends == dict.fromkeys(CARRIERS, ends["memory"])
    return ends["memory"]


ADDRESSES = {
    "antminer": (ANT, 4028, SUMMARY),
    "antminer web": (ANT, 80, PAGE),
    "whatsminer": (WHATS, 4028, SUMMARY),
}


@pytest.mark.parametrize("who", ADDRESSES)
def test_an_honest_device_answers_the_same_bytes(who: str) -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        return [await ask(net, *ADDRESSES[who]) for _turn in range(2)]

    first, second = both(play)
    assert first == second
    assert first[0] == "reply"
    assert first[1]


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_ends_the_same(trouble: Trouble) -> None:
    async def play(net: Net, network: Network) -> list[Outcome]:
        for station in network:
            station.trouble = trouble
        return [await ask(net, *where) for where in ADDRESSES.values()]

    names = {name for name, _ in both(play)}
    heard = {Trouble.GARBAGE, Trouble.HTML, Trouble.TRUNCATE}
    expected = "OversizedReply" if trouble is Trouble.ENDLESS else "Unreachable"
    assert names == {"reply" if trouble in heard else expected}


@pytest.mark.parametrize(
    ("address", "port"), [(NOBODY, 4028), (WHATS, 80), (ANT, 22)], ids=["nobody", "closed", "other"]
)
def test_nobody_there_is_unreachable(address: str, port: int) -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        return [await ask(net, address, port, SUMMARY)]

    assert both(play) == [("Unreachable", b"")]


def test_a_connection_that_is_kept_carries_a_second_request() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        connection = await net.connect(ANT, 80, deadline_s=1.0)
        ends = [await end_of(connection, PAGE) for _turn in range(2)]
        connection.close()
        return ends

    first, second = both(play)
    assert first[0] == second[0] == "reply"


def test_what_is_sent_in_pieces_arrives_as_one() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        ends = []
        for address, pieces in ((ANT, [SUMMARY]), (WHATS, [SUMMARY[:9], b"", SUMMARY[9:]])):
            connection = await net.connect(address, 4028, deadline_s=1.0)
            await connection.send(pieces, deadline_s=1.0)
            ends.append(await end_of(connection, b""))
            connection.close()
        return ends

    assert [(name, bool(reply)) for name, reply in both(play)] == [("reply", True)] * 2


def test_half_a_command_is_waited_for() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        connection = await net.connect(ANT, 4028, deadline_s=1.0)
        end = await end_of(connection, SUMMARY[:10], deadline_s=0.2)
        connection.close()
        return [end]

    assert both(play) == [("Unreachable", b"")]


def test_a_reply_that_never_completes_ends_with_the_connection() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        connection = await net.connect(ANT, 4028, deadline_s=1.0)
        end = await end_of(connection, SUMMARY, never)
        connection.close()
        return [end]

    assert both(play) == [("Unreachable", b"")]


def test_one_byte_too_many_is_oversized_and_one_less_is_not() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        length = len((await ask(net, ANT, 4028, SUMMARY))[1])
        ends = []
        for most in (length, length - 1):
            connection = await net.connect(ANT, 4028, deadline_s=1.0)
            ends.append(await end_of(connection, SUMMARY, max_bytes=most))
            connection.close()
        return ends

    assert [name for name, _ in both(play)] == ["reply", "OversizedReply"]


def test_closing_twice_is_harmless_and_asking_after_is_unreachable() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        connection = await net.connect(ANT, 4028, deadline_s=1.0)
        connection.close()
        connection.close()
        return [await end_of(connection, SUMMARY, at_end, deadline_s=0.2)]

    assert both(play) == [("Unreachable", b"")]
