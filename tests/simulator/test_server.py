"""A whole site over loopback: real sockets, each machine at its own address, nothing beyond."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from control_plane.simulator.antminer_builds import S19_2023
from control_plane.simulator.clock import RealSimClock
from control_plane.simulator.control import ControlClient
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.machine import World
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.serve import Serving, serving
from control_plane.simulator.server import AddressMap, Rule, Server, Wire, _listen
from control_plane.simulator.site import Target
from tests.simulator.floors import a_site
from tests.simulator.making import FACTORY, an_antminer, digest, parse_http

SUMMARY = b'{"command":"summary"}'
FREE = {4028: 0, 80: 0}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def ask(host: str, port: int, payload: bytes = SUMMARY, *, within_s: float = 5.0) -> bytes:
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(payload)
            return await reader.read()
        finally:
            writer.close()


async def sweep(running: Serving, *, concurrency: int = 300) -> tuple[int, float]:
    """Machines that answer `summary`, and how long it took to ask all."""
    addresses = {asset: station.address for asset, station in running.site.stations.items()}
    rules = {r.declared.rsplit(".", 2)[0]: r.actual.rsplit(".", 2)[0] for r in running.map.rules}
    port = running.server.ports[4028]
    queue = iter(addresses.values())
    answered = 0

    async def work() -> None:
        nonlocal answered
        for address in queue:
            prefix, rest = ".".join(address.split(".")[:2]), address.split(".", 2)[2]
            reply = await ask(f"{rules[prefix]}.{rest}", port, within_s=20)
            answered += b'"SUMMARY"' in reply

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return answered, time.perf_counter() - started


def test_every_machine_answers_at_its_own_address_as_the_map_says(tmp_path: Path) -> None:
    async def work() -> None:
        site = a_site(odd_slots=False)
        async with serving(site, state=tmp_path, ports=FREE, time_scale=60.0) as running:
            told = json.loads(running.map_path.read_text())
            assert told["version"] == 1
            assert told["rules"][0] == {"declared": "10.40.0.0/16", "actual": "127.1.0.0/16"}
            assert told["time_scale"] == 60.0
            assert abs(told["epoch_s"] - time.time()) < 30
            port = told["ports"]["4028"]
            one = await ask("127.1.0.15", port)
            other = await ask("127.1.2.15", port)
            assert json.loads(one[:-1])["SUMMARY"] != json.loads(other[:-1])["SUMMARY"]
            web = await ask("127.1.0.15", told["ports"]["80"], b"GET / HTTP/1.0\r\n\r\n")
            assert b"antMiner" in web
        assert not running.map_path.exists()

    run(work())


def test_it_serves_on_uvloop_too(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(a_site(odd_slots=False), state=tmp_path, ports=FREE) as running:
            answered, _ = await sweep(running, concurrency=20)
            assert answered == 40
            with pytest.raises(ConnectionError):
                await ask("127.200.0.1", running.server.ports[4028])
            answer = await asyncio.to_thread(
                ControlClient(running.control_path).request, {"do": "status"}
            )
            assert answer["machines"] == 40

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


def test_addresses_without_a_machine_and_closed_ports_reset(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            for host, port in (
                ("127.1.0.10", 4028),  # a vacant slot
                ("127.200.0.1", 4028),  # outside every rule
                (_whatsminer(running), 80),  # a family that has no web server here
            ):
                with pytest.raises(ConnectionError):
                    await ask(host, running.server.ports[port])

    run(work())


def _whatsminer(running: Serving) -> str:
    address = running.site.stations["M-001-005"].address
    return address.replace("10.41.", "127.2.")


def test_machines_that_nobody_can_reach_stay_silent(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            port = running.server.ports[4028]
            running.site.stations["M-000-005"].trouble = Trouble.BLACK_HOLE
            for host in ("127.1.0.11", "127.1.0.15"):  # out of service; black-holed
                with pytest.raises(TimeoutError):
                    await ask(host, port, within_s=0.3)
            running.site.stations["M-000-005"].trouble = None
            assert b"SUMMARY" in await ask("127.1.0.15", port)

    run(work())


@pytest.mark.parametrize(
    ("trouble", "start"),
    [
        (Trouble.GARBAGE, b""),
        (Trouble.HTML, b"HTTP/1.1 200"),
        (Trouble.TRUNCATE, b'{"STATUS"'),
    ],
)
def test_trouble_on_the_line_looks_on_sockets_as_it_does_in_memory(
    tmp_path: Path, trouble: Trouble, start: bytes
) -> None:
    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            running.site.stations["M-000-005"].trouble = trouble
            reply = await ask("127.1.0.15", running.server.ports[4028])
            assert reply.startswith(start)
            with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
                msgspec.json.decode(reply.rstrip(b"\0"))

    run(work())


def test_two_simulations_at_once_find_free_ports(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            serving(a_site(), state=tmp_path / "one") as one,
            serving(a_site(), state=tmp_path / "two") as two,
        ):
            assert not set(one.server.ports.values()) & set(two.server.ports.values())
            assert b"SUMMARY" in await ask("127.1.0.15", two.server.ports[4028])

    run(work())


def test_nothing_but_loopback_is_answered(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; it only asks for the way out.
        way_out = probe.connect_ex(("192.0.2.1", 9)) == 0
        outside = [probe.getsockname()[0]] if way_out else []

    async def work() -> None:
        async with serving(a_site(), state=tmp_path, ports=FREE) as running:
            for listener in running.server._servers:
                for sock in listener.sockets:
                    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
                    assert device.rstrip(b"\0") == b"lo"
            for host in outside:
                with pytest.raises(ConnectionError):
                    await ask(host, running.server.ports[4028])
            assert all(rule.actual.startswith("127.") for rule in running.map.rules)

    run(work())


def test_a_local_address_outside_127_is_dropped_unheard() -> None:
    class Elsewhere(asyncio.Transport):
        aborted = False

        def __init__(self, sock: socket.socket) -> None:
            super().__init__({"sockname": ("192.0.2.1", 1), "socket": sock})

        def abort(self) -> None:
            self.aborted = True

    async def work() -> None:
        world = World(RealSimClock())
        network = Network()
        network.add(Station("A-1", "192.0.2.1", an_antminer(world)))
        with socket.socket() as sock:
            transport = Elsewhere(sock)
            Wire(Server(network), 4028).connection_made(transport)
        assert transport.aborted

    run(work())


def test_a_slow_accept_is_played_in_wire_time_whatever_the_scale(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(RealSimClock(600.0))
        network = Network()
        device = an_antminer(world, build=S19_2023)
        assert S19_2023.accept_s == 1.0
        network.add(Station("A-1", "127.9.0.1", device))
        server = Server(network, ports=FREE)
        await server.start()
        try:
            port = server.ports[80]
            page = await ask(
                "127.9.0.1", port, b"GET /cgi-bin/x.cgi HTTP/1.1\r\nConnection: close\r\n\r\n"
            )
            challenge = parse_http(page)[1]["www-authenticate"]
            answer = digest(challenge, "POST", "/cgi-bin/set_miner_conf.cgi", FACTORY)
            started = time.perf_counter()
            reply = await ask(
                "127.9.0.1",
                port,
                b"POST /cgi-bin/set_miner_conf.cgi HTTP/1.1\r\nConnection: close\r\n"
                b"Content-Length: 16\r\nAuthorization: "
                + answer.encode()
                + b'\r\n\r\n{"miner-mode":1}',
            )
            took = time.perf_counter() - started
        finally:
            await server.stop()
        assert b"M000" in reply
        assert 0.95 < took < 4.0
        assert device.machine.asleep

    run(work())


def test_leases_that_are_dealt_anew_move_machines_within_their_subnet(tmp_path: Path) -> None:
    async def work() -> None:
        site = a_site(odd_slots=False)
        async with serving(site, state=tmp_path, ports=FREE) as running:
            sim = running.site
            before = {asset: sim.stations[asset].address for asset in sim.leases}
            hit = inject(sim, Fault(kind=FaultKind.RESHUFFLE, target=Target(rack="r-001"), seed=2))
            after = {asset: sim.stations[asset].address for asset in sim.leases}
            assert set(hit) == {a for a in before if a.startswith("M-001")}
            moved = [asset for asset in hit if before[asset] != after[asset]]
            assert len(moved) >= len(hit) - 2
            answered, _ = await sweep(running, concurrency=20)
            assert answered == len(sim.stations)
            assert sim.device(moved[0]).unit.network.ip == after[moved[0]]

    run(work())


@pytest.mark.slow
def test_two_thousand_machines_are_swept_without_an_error(tmp_path: Path) -> None:
    async def work() -> None:
        site = a_site(racks=40, slots=50, odd_slots=False)
        async with serving(site, state=tmp_path, ports=FREE) as running:
            for _ in range(2):
                answered, took_s = await sweep(running)
                assert answered == 2000
                assert took_s < 20
            assert running.server.connections == 4000

    run(work())


def test_the_address_map_goes_forth_and_back() -> None:
    addresses = AddressMap(["10.40.3.7", "10.41.0.1", "10.40.9.9"])
    assert addresses.rules == (
        Rule("10.40.0.0/16", "127.1.0.0/16"),
        Rule("10.41.0.0/16", "127.2.0.0/16"),
    )
    assert addresses.actual("10.41.7.8") == "127.2.7.8"
    assert addresses.declared_by_actual() == {"127.1": "10.40", "127.2": "10.41"}
    with pytest.raises(ValueError, match="255 different"):
        AddressMap(f"10.{n}.0.1" for n in range(255))


def test_a_port_that_another_starting_simulator_has_bound_is_no_obstacle() -> None:
    """Both may bind before either listens; the second takes a free port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        other.bind(("0.0.0.0", 0))  # noqa: S104 - on the loopback interface alone
        port = other.getsockname()[1]
        first = _listen(port)
        with pytest.raises(OSError, match="in use"):
            other.listen()
        second = _listen(port)
        assert first.getsockname()[1] == port
        assert second.getsockname()[1] != port
        first.close()
        second.close()
