"""Real sockets on loopback: the map, bounds, and peers that mean harm.

What the adapter shares with the one in memory is in tests/simulator/test_carriers.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from control_plane.core.errors import OversizedReply, UnexpectedReply, Unreachable
from control_plane.core.observation import Depth
from control_plane.core.ports import Target
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.antminer import AntminerDriver
from control_plane.drivers.driver import ends_in_nul
from control_plane.drivers.net import MapError, NetworkMap, StreamNet
from control_plane.drivers.registry import FAMILIES, make_drivers
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.serve import serving
from tests.drivers.making import ASSETS, USERS, site_of

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RULES = [("10.8.0.0/16", "127.21.0.0/16"), ("10.9.4.0/24", "127.22.4.0/24")]


# -- the map -----------------------------------------------------------------------------------------


def test_addresses_and_ports_are_translated() -> None:
    told = NetworkMap(RULES, {4028: 14028})
    assert told.actual("10.8.3.7", 4028) == ("127.21.3.7", 14028)
    assert told.actual("10.9.4.255", 4028) == ("127.22.4.255", 14028)


def test_pins_are_translated_to_who_signs_for_the_simulation() -> None:
    pins = (TlsPin(sha256="a" * 64), TlsPin(ca_pem="site's", server_name="bmc-7"))
    told = NetworkMap(RULES, {443: 18443}, authority_pem="simulation's")
    want = TlsPin(ca_pem="simulation's", server_name="10.8.3.7")
    assert [told.pin(pin, "10.8.3.7") for pin in pins] == [want, want]
    for plain in (
        NetworkMap(RULES, {443: 18443}),
        NetworkMap((), {}, authority_pem="simulation's", is_declared=True),
    ):
        assert tuple(plain.pin(pin, "10.8.3.7") for pin in pins) == pins


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("10.7.0.1", 4028),
        ("10.9.5.1", 4028),
        ("10.8.0.1", 22),
        ("127.0.0.1", 4028),
        ("::1", 4028),
        ("host.example", 4028),
        ("", 4028),
        ("10.8.0.1\0", 4028),
    ],
)
def test_what_is_not_in_the_map_does_not_exist(address: str, port: int) -> None:
    async def main() -> None:
        net = StreamNet(NetworkMap(RULES, {4028: 14028}))
        with pytest.raises(Unreachable):
            await net.connect(address, port, deadline_s=1.0)

    asyncio.run(main())


@pytest.mark.parametrize(
    "rule", [("10.8.0.0/16", "10.8.0.0/16"), ("10.8.0.0/16", "127.1.0.0/24"), ("x", "127.1.0.0/16")]
)
def test_a_map_leads_to_loopback_alone(rule: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.0/8|Expected|netmask|octet"):
        NetworkMap([rule], {})


def test_a_map_is_loaded_as_simulations_write_it(tmp_path: Path) -> None:
    path = tmp_path / "network-map.json"
    told = {
        "version": 1,
        "rules": [{"declared": "10.8.0.0/16", "actual": "127.1.0.0/16"}],
        "ports": {"4028": 14028, "80": 18080},
        "time_scale": 60.0,
        "epoch_s": 1.5,
    }
    path.write_text(json.dumps(told))
    assert NetworkMap.load(path).actual("10.8.0.9", 80) == ("127.1.0.9", 18080)


def test_a_simulation_at_the_declared_addresses_leads_to_themselves(tmp_path: Path) -> None:
    path = tmp_path / "network-map.json"
    path.write_text('{"rules": [], "ports": {}, "is_declared": true, "time_scale": 60.0}')
    assert NetworkMap.load(path).actual("10.8.0.9", 80) == ("10.8.0.9", 80)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "[]",
        '{"version":2,"rules":[],"ports":{}}',
        '{"rules":[],"ports":{"x":1}}',
        '{"rules":[{"declared":"10.0.0.0/8","actual":"11.0.0.0/8"}],"ports":{}}',
    ],
)
def test_what_is_no_map_is_said_to_be_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "network-map.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MapError, match=r"network-map\.json"):
        NetworkMap.load(path)


def test_an_address_that_is_none_is_unreachable_without_a_map_too() -> None:
    async def main() -> None:
        for address in ("10.8.0.1\0", "." * 300, "127.0.0.1"):
            with pytest.raises(Unreachable):
                await StreamNet().connect(address, 1, deadline_s=1.0)

    asyncio.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_served_site_is_reached_at_its_declared_addresses(family: str, tmp_path: Path) -> None:
    async def main() -> None:
        site = site_of(family)
        async with serving(site, state=tmp_path, ports={4028: 0, 80: 0}) as running:
            net = StreamNet(NetworkMap.load(running.map_path))
            driver = make_drivers(net, SystemClock(scale=1.0, epoch_s=0.0))[family]
            station = running.site.stations[ASSETS[family]]
            machine = running.site.machine(station.asset)
            target = Target(
                asset=station.asset,
                address=station.address,
                user=USERS[family],
                password=Secret(machine.password),
            )
            assert not station.address.startswith("127.")
            assert (await driver.identify(target)).mac == machine.mac
            for depth in Depth:
                assert (await driver.observe(target, depth)).telemetry.hashrate_ths

    asyncio.run(main())


# -- peers -------------------------------------------------------------------------------------------


async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)
    writer.close()


async def shut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    while True:
        writer.write(b"[" * 65_536)
        await writer.drain()


async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.02)


async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers before it is asked, and goes on after the answer."""
    writer.write(b'{"old":1}\0')
    await reader.read(100)
    writer.write(b'{"new":1}\0')
    await writer.drain()


async def at_peer(talk: Talk, play: Callable[[int], Awaitable[None]]) -> None:
    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    tasks = asyncio.all_tasks()
    try:
        await play(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in asyncio.all_tasks() - tasks:
            task.cancel()


def ended(_: bytearray, eof: bool) -> bool:
    return eof


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        (silent, Unreachable),
        (shut, Unreachable),
        (endless, OversizedReply),
        (dripping, Unreachable),
        (early, Unreachable),
    ],
    ids=lambda value: value.__name__,
)
def test_no_peer_holds_a_request_beyond_its_bounds(talk: Talk, error: type[Exception]) -> None:
    async def play(port: int) -> None:
        loop = asyncio.get_running_loop()
        connection = await StreamNet().connect("127.0.0.1", port, deadline_s=1.0)
        await asyncio.sleep(0.05)
        began = loop.time()
        with pytest.raises(error):
            await connection.request(
                b"x",
                complete=lambda buffer, eof: eof and bool(buffer),
                deadline_s=0.4,
                max_bytes=10_000,
            )
        assert loop.time() - began < 1.0
        with pytest.raises(Unreachable):
            await connection.request(b"x", complete=ended, deadline_s=0.4, max_bytes=10)

    asyncio.run(at_peer(talk, play))


@pytest.mark.parametrize("talk", [endless, early], ids=lambda value: value.__name__)
def test_a_driver_survives_such_peers(talk: Talk) -> None:
    async def play(port: int) -> None:
        net = StreamNet(NetworkMap([("10.8.0.0/24", "127.0.0.0/24")], {4028: port, 80: port}))
        driver = AntminerDriver(net, SystemClock(scale=1.0, epoch_s=0.0))
        target = Target(asset="A-1", address="10.8.0.1", user="root", password=Secret("root"))
        for look in (driver.observe(target, Depth.FULL), driver.identify(target)):
            with pytest.raises((UnexpectedReply, Unreachable)):
                await look

    asyncio.run(at_peer(talk, play))


def test_a_predicate_that_fails_fails_at_its_asker() -> None:
    def broken(_: bytearray, eof: bool) -> bool:
        raise ZeroDivisionError

    async def play(port: int) -> None:
        connection = await StreamNet().connect("127.0.0.1", port, deadline_s=1.0)
        with pytest.raises(ZeroDivisionError):
            await connection.request(b"x", complete=broken, deadline_s=1.0, max_bytes=1 << 30)

    asyncio.run(at_peer(endless, play))


def test_a_look_that_is_cancelled_closes_its_connection() -> None:
    gone = asyncio.Event()

    async def watching(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        gone.set()

    async def play(port: int) -> None:
        connection = await StreamNet().connect("127.0.0.1", port, deadline_s=1.0)
        asking = asyncio.create_task(
            connection.request(b"x", complete=ended, deadline_s=30.0, max_bytes=10)
        )
        await asyncio.sleep(0.05)
        asking.cancel()
        async with asyncio.timeout(5):
            await gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(at_peer(watching, play))


def test_what_the_kernel_does_not_take_at_once_is_sent_as_it_does() -> None:
    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(b"%d" % len(await reader.readexactly(8_000_000)))
        writer.close()

    async def play(port: int) -> None:
        connection = await StreamNet().connect("127.0.0.1", port, deadline_s=1.0)
        told = await connection.request(
            b"x" * 8_000_000, complete=ended, deadline_s=10.0, max_bytes=100
        )
        assert told == b"8000000"

    asyncio.run(at_peer(counting, play))


async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.1)
    writer.write(b"%d" % len(await reader.readexactly(8_000_000)))
    writer.close()


async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers after the first bytes, and reads on."""
    await reader.readexactly(1)
    writer.write(b"no\0")
    await reader.read()


@pytest.mark.parametrize("has_epoll", [True, False], ids=["epoll", "loop"])
@pytest.mark.parametrize(
    ("talk", "complete", "reply"),
    [(counting, ended, b"8000000"), (hasty, ends_in_nul, b"no\0")],
    ids=["counting", "hasty"],
)
def test_pieces_leave_one_after_the_other_and_the_reply_is_asked_for_then(
    talk: Talk,
    complete: Callable[[bytearray, bool], bool],
    reply: bytes,
    has_epoll: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control_plane.drivers.net.has_epoll", has_epoll)
    taken: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(80):
            taken.append(number)
            yield b"x" * 100_000

    async def play(port: int) -> None:
        connection = await StreamNet().connect("127.0.0.1", port, deadline_s=1.0)
        sending = asyncio.ensure_future(connection.send(pieces(), deadline_s=10.0))
        await asyncio.sleep(0.05)
        # Nobody holds the whole: what the peer does not read yet is not even made.
        assert talk is hasty or len(taken) < 80
        await sending
        told = await connection.request(b"", complete=complete, deadline_s=5.0, max_bytes=100)
        assert told == reply

    asyncio.run(at_peer(talk, play))


@pytest.mark.parametrize("talk", [shut, silent], ids=lambda value: value.__name__)
def test_a_peer_that_does_not_take_them_ends_it(talk: Talk) -> None:
    async def play(port: int) -> None:
        connection = await StreamNet().connect("127.0.0.1", port, deadline_s=1.0)
        with pytest.raises(Unreachable):
            await connection.send([b"x" * 1_000_000] * 20, deadline_s=0.4)
        with pytest.raises(Unreachable):
            await connection.request(b"x", complete=ended, deadline_s=0.4, max_bytes=10)

    asyncio.run(at_peer(talk, play))


@pytest.mark.parametrize("talk", [silent, endless, shut], ids=lambda value: value.__name__)
def test_it_does_the_same_without_epoll(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the loop's own means, as on systems that have no epoll."""
    monkeypatch.setattr("control_plane.drivers.net.has_epoll", False)

    async def play(port: int) -> None:
        net = StreamNet()
        with pytest.raises(Unreachable):
            await net.connect("127.0.0.1", 1, deadline_s=1.0)
        connection = await net.connect("127.0.0.1", port, deadline_s=1.0)
        with pytest.raises((Unreachable, OversizedReply)):
            await connection.request(b"x" * 3_000_000, complete=ended, deadline_s=0.5, max_bytes=10)

    asyncio.run(at_peer(talk, play))


def test_a_network_that_is_not_there_is_unreachable_at_once() -> None:
    async def main() -> None:
        for address in ("255.255.255.255", "127.0.0.1", "localhost", "::1"):
            with pytest.raises(Unreachable):
                await StreamNet().connect(address, 1, deadline_s=1.0)

    asyncio.run(main())
