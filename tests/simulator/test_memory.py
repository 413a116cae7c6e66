"""The in-memory network: what a client meets on it, trouble by trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from control_plane.core.errors import OversizedReply, Unreachable
from control_plane.core.ports import Connection, Net
from control_plane.simulator.antminer_builds import S19_2022
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.machine import World
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from control_plane.simulator.whatsminer import WhatsMiner
from tests.simulator.making import FACTORY, M60S, a_machine, an_antminer, digest, parse_http

ADDRESS = "10.1.0.1"
SUMMARY = b'{"command":"summary"}'


def at_eof(buffer: bytearray, eof: bool) -> bool:
    return eof


def at_nul(buffer: bytearray, eof: bool) -> bool:
    return eof or buffer.endswith(b"\0")


def at_page(buffer: bytearray, eof: bool) -> bool:
    return b"</h1>" in buffer


Play = Callable[[VirtualLoop, Net, Station], Awaitable[object]]


def play(act: Play, *, family: str = "antminer", **more: object) -> object:
    async def main(loop: VirtualLoop) -> object:
        world = World(LoopSimClock(loop))
        network = Network()
        device = (
            WhatsMiner(a_machine(world, M60S, "W-1"))
            if family == "whatsminer"
            else an_antminer(world, **more)  # type: ignore[arg-type]
        )
        station = Station("A-1", ADDRESS, device)
        network.add(station)
        return await act(loop, MemoryNet(network, seed=5), station)

    return run_virtual(main, horizon_s=3600)


async def ask(
    net: Net, payload: bytes = SUMMARY, *, deadline_s: float = 5.0, max_bytes: int = 65_536
) -> bytes:
    connection: Connection = await net.connect(ADDRESS, 4028, deadline_s=3.0)
    try:
        return await connection.request(
            payload, complete=at_nul, deadline_s=deadline_s, max_bytes=max_bytes
        )
    finally:
        connection.close()


def test_one_command_is_answered_after_two_trips() -> None:
    async def act(loop: VirtualLoop, net: Net, _: Station) -> float:
        reply = await ask(net)
        assert msgspec.json.decode(reply.rstrip(b"\0"))["SUMMARY"][0]["GHS 5s"] > 190_000
        return loop.time()

    took = play(act)
    assert isinstance(took, float)
    assert 0.003 <= took <= 0.06


@pytest.mark.parametrize(
    ("trouble", "error", "seconds"),
    [
        (Trouble.BLACK_HOLE, "no answer within 3 s", 3.0),
        (Trouble.REFUSE, "refused", 0.02),
        (Trouble.HANG, "no complete reply within 5 s", 5.02),
        (Trouble.MUTE, "no complete reply within 5 s", 5.02),
        (Trouble.SLOW, "no complete reply within 5 s", 5.02),
        (Trouble.RESET, "closed after 0 bytes", 0.06),
    ],
)
def test_trouble_of_the_line_is_unreachable_in_bounded_time(
    trouble: Trouble, error: str, seconds: float
) -> None:
    async def act(loop: VirtualLoop, net: Net, station: Station) -> float:
        station.trouble = trouble
        with pytest.raises(Unreachable, match=error):
            await ask(net)
        return loop.time()

    took = play(act)
    assert isinstance(took, float)
    assert took <= seconds + 0.001


@pytest.mark.parametrize(
    ("trouble", "start"),
    [(Trouble.GARBAGE, b""), (Trouble.HTML, b"HTTP/1.1"), (Trouble.TRUNCATE, b'{"STATUS"')],
)
def test_wrong_answers_are_handed_on_as_they_are(trouble: Trouble, start: bytes) -> None:
    async def act(_: VirtualLoop, net: Net, station: Station) -> bytes:
        station.trouble = trouble
        return await ask(net)

    reply = play(act)
    assert isinstance(reply, bytes)
    assert reply.startswith(start)
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(reply)


def test_an_endless_reply_is_cut_off() -> None:
    async def act(_: VirtualLoop, net: Net, station: Station) -> None:
        station.trouble = Trouble.ENDLESS
        with pytest.raises(OversizedReply):
            await ask(net)

    play(act)


def test_nobody_at_an_address_or_port_refuses() -> None:
    async def act(_: VirtualLoop, net: Net, __: Station) -> None:
        for address, port in (("10.9.9.9", 4028), (ADDRESS, 22)):
            with pytest.raises(Unreachable, match="refused"):
                await net.connect(address, port, deadline_s=3.0)

    play(act)


def test_a_muted_write_lands_all_the_same() -> None:
    async def act(_: VirtualLoop, net: Net, station: Station) -> int:
        station.trouble = Trouble.MUTE
        with pytest.raises(Unreachable):
            await ask(net, b'{"command":"addpool"}')
        return len(station.device.machine.world.ledger)  # type: ignore[attr-defined]

    assert play(act) == 1


def test_what_was_sent_before_the_client_went_away_still_arrives() -> None:
    async def act(_: VirtualLoop, net: Net, station: Station) -> int:
        connection = await net.connect(ADDRESS, 4028, deadline_s=3.0)
        payload = b'{"command":"addpool"}'
        asking = asyncio.ensure_future(
            connection.request(payload, complete=at_nul, deadline_s=5.0, max_bytes=65_536)
        )
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.sleep(1.0)
        return len(station.device.machine.world.ledger)  # type: ignore[attr-defined]

    assert play(act) == 1


def test_keep_alive_carries_two_requests_and_ends_when_idle() -> None:
    request = b"GET /cgi-bin/summary.cgi HTTP/1.1\r\nHost: x\r\n\r\n"

    async def act(_: VirtualLoop, net: Net, __: Station) -> None:
        connection = await net.connect(ADDRESS, 80, deadline_s=3.0)
        for _turn in range(2):
            reply = await connection.request(
                request, complete=at_page, deadline_s=5.0, max_bytes=9999
            )
            assert reply.startswith(b"HTTP/1.1 401")
            await asyncio.sleep(4.0)
        await asyncio.sleep(4.0)
        with pytest.raises(Unreachable, match="closed"):
            await connection.request(request, complete=at_page, deadline_s=5.0, max_bytes=9999)

    play(act)


def test_a_whatsminer_closes_a_silent_connection_after_ten_seconds() -> None:
    async def act(loop: VirtualLoop, net: Net, _: Station) -> float:
        connection = await net.connect(ADDRESS, 4028, deadline_s=3.0)
        reply = await connection.request(b"", complete=at_eof, deadline_s=30.0, max_bytes=10)
        assert reply == b""
        return loop.time()

    took = play(act, family="whatsminer")
    assert isinstance(took, float)
    assert 10.0 < took < 10.1


def test_a_slow_accept_outlives_an_impatient_client_and_lands() -> None:
    def head(method: str, script: str, length: int, *more: str) -> bytes:
        first = f"{method} /cgi-bin/{script}.cgi HTTP/1.1"
        return "\r\n".join((first, f"Content-Length: {length}", *more, "", "")).encode()

    async def act(_: VirtualLoop, net: Net, station: Station) -> None:
        web = await net.connect(ADDRESS, 80, deadline_s=3.0)
        page = await web.request(
            head("GET", "summary", 0), complete=at_page, deadline_s=5.0, max_bytes=9999
        )
        headers = parse_http(page)[1]
        target = "/cgi-bin/set_miner_conf.cgi"
        answer = digest(headers["www-authenticate"], "POST", target, FACTORY)
        body = b'{"miner-mode":1}'
        post = head("POST", "set_miner_conf", len(body), f"Authorization: {answer}") + body
        web = await net.connect(ADDRESS, 80, deadline_s=3.0)
        with pytest.raises(Unreachable, match="no complete reply within 5 s"):
            await web.request(post, complete=at_page, deadline_s=5.0, max_bytes=9999)
        assert station.device.machine.asleep  # type: ignore[attr-defined]

    play(act, build=S19_2022)


def test_the_same_seed_gives_the_same_times() -> None:
    async def act(loop: VirtualLoop, net: Net, _: Station) -> float:
        await asyncio.gather(*(ask(net) for _ in range(20)))
        return loop.time()

    assert play(act) == play(act)


def test_a_cancelled_request_leaves_no_timer_behind() -> None:
    async def act(loop: VirtualLoop, net: Net, station: Station) -> float:
        station.trouble = Trouble.HANG
        task = asyncio.create_task(ask(net, deadline_s=1000.0))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return loop.time()

    assert play(act) == 1.0
