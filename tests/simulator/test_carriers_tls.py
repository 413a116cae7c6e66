"""Memory and sockets show the same certificates: the same pin and device give the same end.

The other half of `test_carriers`: what a `TlsPin` adds to the port `Net`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from control_plane.core.errors import ControlPlaneError, UnexpectedReply, Unreachable
from control_plane.core.ports import Net
from control_plane.core.tls import TlsPin
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_chassis import BareChassis
from control_plane.simulator.bmc_profiles import SUPERMICRO
from control_plane.simulator.bmc_server import BmcServer, station_of
from control_plane.simulator.bmc_web import BmcDevice
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Trouble
from control_plane.simulator.tls import Certificate, make_authority, make_certificate
from control_plane.simulator.virtual import run_virtual

SELF, SIGNED, NOBODY = "127.31.1.1", "127.31.1.2", "127.31.1.3"
ROOT = b"GET /redfish/v1/ HTTP/1.1\r\nHost: x\r\n\r\n"
AUTHORITY, STRANGER = make_authority("site"), make_authority("somebody else")
CERTIFICATES = {SELF: make_certificate(SELF), SIGNED: make_certificate(SIGNED, AUTHORITY)}
Outcome = tuple[str, bytes]
Play = Callable[[Net, Network], Awaitable[list[Outcome]]]


def a_network() -> Network:
    """BMCs whose time stands still."""
    network = Network()
    for address, certificate in CERTIFICATES.items():
        bmc = Bmc(SUPERMICRO, BareChassis(f"S-{address}"), ManualSimClock(5000.0))
        network.add(station_of(bmc, address, address, certificate))
    return network


def in_memory(play: Play) -> list[Outcome]:
    network = a_network()
    return run_virtual(lambda _: _coroutine(play(MemoryNet(network), network)))


async def on_sockets(play: Play) -> list[Outcome]:
    network = a_network()
    server = BmcServer(network)
    await server.start()
    try:
        net = StreamNet(NetworkMap([("127.31.0.0/16", "127.31.0.0/16")], server.ports))
        return await play(net, network)
    finally:
        await server.stop()


def on_asyncio(play: Play) -> list[Outcome]:
    return asyncio.run(on_sockets(play))


def on_uvloop(play: Play) -> list[Outcome]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(on_sockets(play))


async def _coroutine(work: Awaitable[list[Outcome]]) -> list[Outcome]:
    return await work


CARRIERS = {"memory": in_memory, "driver": on_asyncio, "driver on uvloop": on_uvloop}


def both(play: Play) -> list[Outcome]:
    ends = {name: carrier(play) for name, carrier in CARRIERS.items()}
    assert ends == dict.fromkeys(CARRIERS, ends["memory"])
    return ends["memory"]


def has_body(buffer: bytearray, eof: bool) -> bool:
    return eof or buffer.endswith(b"}}")


async def ask(net: Net, address: str, pin: TlsPin, *, times: int = 1) -> Outcome:
    try:
        connection = await net.connect(address, 443, deadline_s=2.0, tls=pin)
    except ControlPlaneError as error:
        return type(error).__name__, b""
    reply = b""
    try:
        for _ in range(times):
            reply = await connection.request(
                ROOT, complete=has_body, deadline_s=1.0, max_bytes=65_536
            )
    except ControlPlaneError as error:
        return type(error).__name__, b""
    finally:
        connection.close()
    return "reply", reply


def ca(authority: Certificate, name: str | None = None) -> TlsPin:
    return TlsPin(ca_pem=authority.pem.decode(), server_name=name)


PINS: dict[str, tuple[str, TlsPin, str]] = {
    "its digest": (SELF, TlsPin(sha256=CERTIFICATES[SELF].sha256), "reply"),
    "digest of a signed one": (SIGNED, TlsPin(sha256=CERTIFICATES[SIGNED].sha256), "reply"),
    "another's digest": (SELF, TlsPin(sha256=CERTIFICATES[SIGNED].sha256), "WrongIdentity"),
    "its authority": (SIGNED, ca(AUTHORITY), "reply"),
    "another authority": (SIGNED, ca(STRANGER), "WrongIdentity"),
    "an authority, of a self-signed one": (SELF, ca(AUTHORITY), "WrongIdentity"),
    "its authority, for another address": (SIGNED, ca(AUTHORITY, SELF), "WrongIdentity"),
    "nobody there": (NOBODY, ca(AUTHORITY), "Unreachable"),
}


@pytest.mark.parametrize("case", PINS)
def test_a_pin_lets_one_certificate_in_and_nobody_else(case: str) -> None:
    address, pin, end = PINS[case]

    async def play(net: Net, _: Network) -> list[Outcome]:
        return [await ask(net, address, pin)]

    told = both(play)
    assert told[0][0] == end
    assert (b"RedfishVersion" in told[0][1]) is (end == "reply")


def test_a_connection_that_is_kept_carries_more_requests() -> None:
    async def play(net: Net, _: Network) -> list[Outcome]:
        return [await ask(net, SELF, PINS["its digest"][1], times=3)]

    assert both(play)[0][0] == "reply"


@pytest.mark.parametrize("trouble", [Trouble.HANG, Trouble.MUTE, Trouble.RESET, Trouble.SLOW])
def test_trouble_behind_the_handshake_ends_the_same(trouble: Trouble) -> None:
    async def play(net: Net, network: Network) -> list[Outcome]:
        for station in network:
            station.trouble = trouble
        return [await ask(net, SELF, PINS["its digest"][1])]

    assert both(play) == [("Unreachable", b"")]


# -- on sockets alone --------------------------------------------------------------------------------


def test_who_speaks_no_tls_is_told_nothing() -> None:
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(64))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnexpectedReply, match="no TLS"):
            await StreamNet().connect("127.0.0.1", port, deadline_s=2.0, tls=PINS["its digest"][1])
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert heard[:1] == b"\x16", "a ClientHello, and nothing else"


def test_who_says_nothing_in_the_handshake_is_unreachable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable):
            await StreamNet().connect("127.0.0.1", port, deadline_s=0.3, tls=PINS["its digest"][1])
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_client_that_speaks_no_tls_is_hung_up_on_and_heard_by_nobody() -> None:
    async def main() -> None:
        network = a_network()
        server = BmcServer(network)
        await server.start()
        reader, writer = await asyncio.open_connection(SELF, server.ports[443])
        writer.write(ROOT)
        said = await asyncio.wait_for(reader.read(), 5.0)
        writer.close()
        await server.stop()
        assert said[:1] in {b"\x15", b""}, "an alert at the most"
        asked = [
            station.device.asked for station in network if isinstance(station.device, BmcDevice)
        ]
        assert asked == [[], []]

    asyncio.run(main())


@pytest.mark.parametrize(
    "pin", [{}, {"sha256": "0" * 64, "ca_pem": "x"}, {"sha256": "AB" * 32}, {"sha256": "12"}]
)
def test_what_pins_nothing_is_no_pin(pin: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"pin|SHA-256"):
        TlsPin(**pin)
