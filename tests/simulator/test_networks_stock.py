"""Stock Antminers and WhatsMiners that are told another address: on the wire, and where they stand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.simulator.antminer_network import RESTART_AFTER_S
from control_plane.simulator.antminer_unit import Network as AntminerNetwork
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.machine import World
from control_plane.simulator.site import SimSite
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.wire import Reply
from tests.simulator.floors import a_site
from tests.simulator.making import (
    M60S,
    Web,
    Writer,
    a_machine,
    a_world,
    an_antminer,
    digest,
    read,
)

ANT, WHATS = "M-000-001", "M-001-001"
"""The first stands at a static address and knows no other; the second at a leased one."""
STATIC: dict[str, Any] = {
    "ipPro": 2,
    "ipHost": "rig-7",
    "ipAddress": "10.99.0.7",
    "ipSub": "255.255.255.0",
    "ipGateway": "10.99.0.1",
    "ipDns": "10.99.0.2",
}
ARGUMENTS = {
    "ip": "10.99.0.7",
    "mask": "255.255.255.0",
    "gate": "10.99.0.1",
    "dns": "10.99.0.2 10.99.0.3",
    "host": "rig-7",
}


def a_floor() -> tuple[SimSite, ManualSimClock]:
    clock = ManualSimClock()
    site = a_site(racks=2, slots=3, odd_slots=False)
    return build_site(site, clock=clock), clock


def a_whatsminer(world: World) -> WhatsMiner:
    return WhatsMiner(a_machine(world, M60S, "W-1", password="admin"))


def who(sim: SimSite, address: str) -> str | None:
    station = sim.network.at(address)
    return None if station is None else station.asset


@pytest.mark.parametrize(
    ("given", "code", "msg"),
    [
        ({}, "N000", "OK!"),
        ({"ipPro": "2"}, "N000", "OK!"),
        ({"ipPro": "1", "ipAddress": "x"}, "N000", "OK!"),
        ({"ipHost": "rig.hall-2.example"}, "N000", "OK!"),
        ({"ipHost": "7rig"}, "N001", "Hostname invalid!"),
        ({"ipHost": "rig 7"}, "N001", "Hostname invalid!"),
        ({"ipHost": ""}, "N001", "Hostname invalid!"),
        ({"ipHost": 7}, "N001", "Hostname invalid!"),
        ({"ipAddress": "10.99.0"}, "N002", "IP invalid!"),
        ({"ipAddress": None}, "N002", "IP invalid!"),
        ({"ipSub": "/24"}, "N003", "Netmask invalid!"),
        ({"ipGateway": ""}, "N004", "Gateway invalid!"),
        ({"ipDns": "10.99.0.2,10.99.0.3"}, "N005", "DNS invalid!"),
    ],
)
def test_an_antminer_takes_what_fits_its_patterns(
    given: dict[str, Any], code: str, msg: str
) -> None:
    world, _ = a_world()
    device = an_antminer(world)
    before = device.unit.network
    taken = code == "N000"
    assert Web(device).json("set_network_conf", {**STATIC, **given}) == {
        "stats": "success" if taken else "error",
        "code": code,
        "msg": msg,
    }
    assert (device.unit.network != before) is taken
    assert [write.honoured for write in world.ledger] == [taken]


def test_what_an_antminer_cannot_read_has_no_host_name() -> None:
    world, _ = a_world()
    form = b"_ant_conf_nettype=Static&_ant_conf_hostname=rig-7"
    status, text = Web(an_antminer(world)).ask("set_network_conf", form)
    assert status == 200
    assert msgspec.json.decode(text)["code"] == "N001"


def test_an_antminer_answers_and_its_connection_breaks_a_second_later() -> None:
    world, clock = a_world()
    device = an_antminer(world)
    web = Web(device)
    mined_s = device.machine.sample().mining_uptime_s
    assert web.json("set_network_conf", STATIC)["code"] == "N000"
    assert (web.replies[-1].reset, web.replies[-1].after_s) == (True, RESTART_AFTER_S)
    clock.advance(10)
    assert device.machine.boots == 0
    assert device.machine.sample().mining_uptime_s == mined_s + 10


def test_an_antminer_tells_what_it_was_told() -> None:
    world, _ = a_world()
    web = Web(an_antminer(world))
    web.json("set_network_conf", STATIC)
    told = web.json("get_network_info")
    assert (told["nettype"], told["conf_nettype"], told["conf_hostname"]) == (
        "Static",
        "Static",
        "rig-7",
    )
    assert (told["conf_ipaddress"], told["conf_netmask"]) == ("10.99.0.7", "255.255.255.0")
    assert (told["conf_gateway"], told["conf_dnsservers"]) == ("10.99.0.1", "10.99.0.2")
    assert web.json("get_system_info")["nettype"] == "Static"


def test_an_antminer_moves_and_leaves_nobody_behind() -> None:
    sim, _ = a_floor()
    old = sim.stations[ANT].address
    Web(sim.device(ANT)).json("set_network_conf", STATIC)
    assert (who(sim, old), who(sim, "10.99.0.7")) == (None, ANT)


@pytest.mark.parametrize(
    "odd", [{"ipAddress": "999.1.1.1"}, {"ipPro": 3}, {"ipPro": None}, {"ipPro": 1}]
)
def test_an_antminer_can_be_told_to_stand_where_nobody_reaches_it(odd: dict[str, Any]) -> None:
    sim, _ = a_floor()
    old, count = sim.stations[ANT].address, len(sim.network)
    assert Web(sim.device(ANT)).json("set_network_conf", {**STATIC, **odd})["code"] == "N000"
    assert who(sim, old) is None
    assert who(sim, "10.99.0.7") is None
    assert len(sim.network) == count


def test_two_at_one_address_and_the_last_one_answers() -> None:
    sim, _ = a_floor()
    there = sim.stations["M-000-002"].address
    Web(sim.device(ANT)).json("set_network_conf", {**STATIC, "ipAddress": there})
    assert who(sim, there) == ANT
    Web(sim.device(ANT)).json("set_network_conf", STATIC)
    assert who(sim, there) == "M-000-002"


def test_a_whatsminer_moves_with_a_boot_and_comes_back_to_its_leases() -> None:
    sim, clock = a_floor()
    leased = sim.stations[WHATS].address
    device = sim.device(WHATS)
    assert isinstance(device, WhatsMiner)
    answer = Writer(device).send("net_config", **ARGUMENTS)
    assert answer is not None
    assert answer["Code"] == 131
    assert (who(sim, leased), who(sim, "10.99.0.7")) == (None, WHATS)
    assert not device.machine.answers()
    clock.advance(300)
    told = read(device, "get_miner_info")["Msg"]
    assert (told["proto"], told["ip"], told["hostname"]) == ("static", "10.99.0.7", "rig-7")
    assert told["dns"] == "10.99.0.2 10.99.0.3"

    moved = inject(sim, Fault(kind=FaultKind.RESHUFFLE))
    assert WHATS not in moved
    assert who(sim, "10.99.0.7") == WHATS

    again = Writer(device).send("net_config", param="dhcp")
    assert again is not None
    assert again["Code"] == 131
    address = sim.stations[WHATS].address
    assert address.startswith("10.41.1.")
    assert (who(sim, "10.99.0.7"), who(sim, address)) == (None, WHATS)
    clock.advance(300)
    told = read(device, "get_miner_info")["Msg"]
    assert (told["proto"], told["ip"], told["hostname"]) == ("dhcp", address, "rig-7")
    assert WHATS in inject(sim, Fault(kind=FaultKind.RESHUFFLE, seed=1))


def test_an_antminer_on_dhcp_tells_the_lease_it_got() -> None:
    world, _ = a_world()
    device = an_antminer(world)
    device.machine.readdress = lambda address: address or "10.41.0.77"
    Web(device).json("set_network_conf", {"ipPro": 1, "ipHost": "rig-7"})
    assert device.unit.network == AntminerNetwork(proto="DHCP", ip="10.41.0.77", hostname="rig-7")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"ip": "10.99.0"}, 132),
        ({"mask": "255.0.255.0"}, 132),
        ({"mask": "0.0.0.255"}, 132),
        ({"gate": ""}, 132),
        ({"dns": ""}, 132),
        ({"dns": "10.99.0.2,10.99.0.3"}, 132),
        ({"host": ""}, 131),
    ],
)
def test_a_whatsminer_refuses_what_is_no_address(given: dict[str, str], code: int) -> None:
    world, _ = a_world()
    device = a_whatsminer(world)
    before = device.unit.network
    answer = Writer(device).send("net_config", **{**ARGUMENTS, **given})
    assert answer is not None
    assert answer["Code"] == code
    assert (device.unit.network != before) is (code == 131)


@pytest.mark.parametrize("missing", ARGUMENTS)
def test_a_whatsminer_wants_all_of_it(missing: str) -> None:
    world, _ = a_world()
    device = a_whatsminer(world)
    given = {key: value for key, value in ARGUMENTS.items() if key != missing}
    answer = Writer(device).send("net_config", **given)
    assert answer is not None
    assert answer["Code"] == 14
    assert device.machine.boots == 0


def test_a_whatsminer_that_was_powered_off_mines_after_it() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    writer = Writer(device)
    writer.send("power_off", respbefore="true")
    writer.send("net_config", **ARGUMENTS)
    clock.advance(1200)
    assert device.machine.sample().hashrate_ths > 100


def test_an_antminer_that_loses_its_answer_moves_and_breaks_the_connection() -> None:
    sim, _ = a_floor()
    sim.machine(ANT).loses_network_answer = True
    device, page = sim.device(ANT), "/cgi-bin/set_network_conf.cgi"
    _, headers, _ = Web(device).send("GET", "set_network_conf")
    body = msgspec.json.encode(STATIC)
    head = (
        f"POST {page} HTTP/1.1",
        f"Content-Length: {len(body)}",
        f"Authorization: {digest(headers['www-authenticate'], 'POST', page, 'root')}",
    )
    session = device.accept(80, "127.0.0.9")
    assert session is not None
    assert session.feed("\r\n".join((*head, "", "")).encode() + body) == (Reply(reset=True),)
    assert who(sim, "10.99.0.7") == ANT


def test_a_whatsminer_that_loses_its_answer_moves_and_is_silent() -> None:
    sim, _ = a_floor()
    sim.machine(WHATS).loses_network_answer = True
    assert Writer(sim.device(WHATS)).send("net_config", **ARGUMENTS) is None
    assert who(sim, "10.99.0.7") == WHATS


def test_disobedience_is_acknowledged() -> None:
    sim, _ = a_floor()
    old = {asset: sim.stations[asset].address for asset in (ANT, WHATS)}
    for asset in old:
        sim.machine(asset).obeys = False
    assert Web(sim.device(ANT)).json("set_network_conf", STATIC)["code"] == "N000"
    answer = Writer(sim.device(WHATS)).send("net_config", **ARGUMENTS)
    assert answer is not None
    assert answer["Code"] == 131
    assert [who(sim, address) for address in old.values()] == [ANT, WHATS]
    assert [write.honoured for write in sim.world.ledger] == [False, False]
