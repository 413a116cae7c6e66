"""LuxOS and VNish units that are told another address: on the wire, and where they stand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from control_plane.core.fleet import Site
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.ipv4 import is_netmask
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_unit import Network as LuxNetwork
from control_plane.simulator.site import SimSite
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.vnish_builds import V1_3_4
from control_plane.simulator.wire import Reply
from tests.simulator.floors import S19_VNISH, TYPES, a_rack_of, a_site
from tests.simulator.making import LUX_S21, a_machine, a_world, rpc
from tests.simulator.vnishes import Api, a_vnish

LUX, VNISH = "M-002-001", "M-000-001"
AT = "10.99.0.7"
SUBNET = "10.41.0.0/24"
VALUES = (
    "dhcp=false",
    f"ip={AT}",
    "mask=255.255.255.0",
    "gateway=10.99.0.1",
    "dns=10.99.0.2 1.1.1.1",
)
STATIC: dict[str, Any] = {
    "dhcp": False,
    "ipaddress": AT,
    "netmask": "255.255.255.0",
    "gateway": "10.99.0.1",
    "dnsservers": ["10.99.0.2", "1.1.1.1"],
}
SET, INVALID = ("S", 341), ("E", 400)


def on_dhcp(site: Site) -> Site:
    devices = [replace(device, address=None, subnet=SUBNET) for device in site.devices]
    return replace(site, devices=tuple(devices))


def lux_floor(*, dhcp: bool = False) -> tuple[SimSite, LuxOs]:
    site = a_site(racks=len(TYPES), slots=4, odd_slots=False, families=tuple(TYPES))
    sim = build_site(on_dhcp(site) if dhcp else site, clock=ManualSimClock(1000.0))
    device = sim.device(LUX)
    assert isinstance(device, LuxOs)
    assert device.unit.network.dhcp is dhcp
    return sim, device


def vnish_floor(
    *, boots: bool = False, dhcp: bool = False
) -> tuple[SimSite, Vnish, ManualSimClock]:
    clock = ManualSimClock(1000.0)
    site = a_rack_of(S19_VNISH, firmware="1.3.3")
    sim = build_site(on_dhcp(site) if dhcp else site, clock=clock)
    device = sim.device(VNISH)
    assert isinstance(device, Vnish)
    if boots:
        device.unit.build = V1_3_4
    return sim, device, clock


def who(sim: SimSite, address: str) -> str | None:
    station = sim.network.at(address)
    return None if station is None else station.asset


def send(device: LuxOs, command: str, *values: str) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(
        rpc(device, {"command": command, "parameter": ",".join(values)})
    )
    return told


def netset(device: LuxOs, *values: str) -> tuple[str, int]:
    session = device.unit.session_now() or device.unit.logon() or ""
    status = send(device, "netset", session, *values)["STATUS"][0]
    return status["STATUS"], status["Code"]


def test_a_mask_is_a_run_of_ones() -> None:
    fits = ("128.0.0.0", "255.0.0.0", "255.255.254.0", "255.255.255.255")
    odd = ("0.0.0.255", "255.0.255.0", "255.255.255", "/24", "")
    assert [is_netmask(text) for text in (*fits, *odd)] == [True] * 4 + [False] * 5


# -- LuxOS ------------------------------------------------------------------------------------------------


def test_a_luxos_moves_leaves_nobody_behind_and_tells_what_it_was_told() -> None:
    sim, device = lux_floor()
    old, mined_s = sim.stations[LUX].address, device.machine.sample().mining_uptime_s
    assert netset(device, *VALUES, "hostname=rig-7") == SET
    assert (who(sim, old), who(sim, AT)) == (None, LUX)
    told = send(device, "config")["CONFIG"][0]
    assert {key: told[key] for key in ("DHCP", "IPAddr", "Netmask", "Gateway", "Hostname")} == {
        "DHCP": False,
        "IPAddr": AT,
        "Netmask": "255.255.255.0",
        "Gateway": "10.99.0.1",
        "Hostname": "rig-7",
    }
    assert told["DNS Servers"] == "10.99.0.2 1.1.1.1"
    assert device.machine.sample().mining_uptime_s == mined_s


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (VALUES, SET),
        (("hostname=rig-7",), SET),
        (("dhcp=true",), SET),
        (("dhcp=true", f"ip={AT}"), INVALID),
        ((), INVALID),
        (("dhcp=no",), INVALID),
        (("speed=100",), INVALID),
        (("hostname=",), INVALID),
        (("dhcp=false",), INVALID),
        (("dhcp=false", f"ip={AT}"), INVALID),
        ((*VALUES, "ip=10.99.0"), INVALID),
        ((*VALUES, "mask=255.0.255.0"), INVALID),
        ((*VALUES, "gateway="), INVALID),
        ((*VALUES, "dns=10.99.0.2;1.1.1.1"), INVALID),
    ],
)
def test_a_luxos_on_dhcp_refuses_what_is_no_address(
    values: tuple[str, ...], answer: tuple[str, int]
) -> None:
    world, _ = a_world()
    network = LuxNetwork(ip="10.41.0.5")
    device = LuxOs(a_machine(world, LUX_S21, "L-1"), network=network)
    assert netset(device, *values) == answer
    assert [write.honoured for write in world.ledger] == [answer == SET]
    if answer == INVALID:
        assert device.unit.network == network


def test_a_luxos_wants_a_session_to_move() -> None:
    sim, device = lux_floor()
    old = sim.stations[LUX].address
    assert send(device, "netset", *VALUES)["STATUS"][0]["Code"] == 401
    assert who(sim, old) == LUX


def test_a_luxos_keeps_what_is_left_out() -> None:
    sim, device = lux_floor()
    name = device.unit.network.hostname
    netset(device, *VALUES)
    assert netset(device, "ip=10.99.0.8") == SET
    assert device.unit.network == LuxNetwork(
        dhcp=False,
        ip="10.99.0.8",
        netmask="255.255.255.0",
        gateway="10.99.0.1",
        dns="10.99.0.2 1.1.1.1",
        hostname=name,
    )
    assert (who(sim, AT), who(sim, "10.99.0.8")) == (None, LUX)


def test_a_luxos_asks_for_a_lease_again() -> None:
    sim, device = lux_floor(dhcp=True)
    assert netset(device, *VALUES) == SET
    assert who(sim, AT) == LUX
    assert LUX not in inject(sim, Fault(kind=FaultKind.RESHUFFLE))
    assert netset(device, "dhcp=true") == SET
    leased = sim.stations[LUX].address
    assert leased.startswith("10.41.0.")
    assert (who(sim, AT), who(sim, leased)) == (None, LUX)
    assert (device.unit.network.dhcp, device.unit.network.ip) == (True, leased)
    assert LUX in inject(sim, Fault(kind=FaultKind.RESHUFFLE, seed=1))


def test_a_luxos_that_was_never_dealt_a_lease_is_lost_on_dhcp() -> None:
    sim, device = lux_floor()
    old, count = sim.stations[LUX].address, len(sim.network)
    assert netset(device, "dhcp=true") == SET
    assert who(sim, old) is None
    assert len(sim.network) == count


def test_a_luxos_that_loses_its_answer_moves_and_breaks_the_connection() -> None:
    sim, device = lux_floor()
    device.machine.loses_network_answer = True
    session = device.accept(4028, "127.0.0.9")
    assert session is not None
    parameter = ",".join((device.unit.logon() or "", *VALUES))
    request = msgspec.json.encode({"command": "netset", "parameter": parameter})
    assert session.feed(request) == (Reply(reset=True),)
    assert who(sim, AT) == LUX


def test_a_luxos_that_disobeys_acknowledges_and_stays() -> None:
    sim, device = lux_floor()
    old, before = sim.stations[LUX].address, device.unit.network
    device.machine.obeys = False
    assert netset(device, *VALUES) == SET
    assert (who(sim, old), device.unit.network) == (LUX, before)
    assert [write.honoured for write in sim.world.ledger] == [False]


# -- VNish ------------------------------------------------------------------------------------------------


def settings(wants_boot: bool) -> tuple[int, dict[str, bool]]:
    return 200, {"restart_required": False, "reboot_required": wants_boot}


def test_a_vnish_moves_leaves_nobody_behind_and_tells_what_it_was_told() -> None:
    sim, device, _ = vnish_floor()
    old, api = sim.stations[VNISH].address, Api(device)
    name = device.unit.network.hostname
    mined_s = device.machine.sample().mining_uptime_s
    assert api.post("settings", {"network": STATIC}) == settings(wants_boot=False)
    assert api.replies[-1].reset
    assert (who(sim, old), who(sim, AT)) == (None, VNISH)
    assert api.get("settings")["network"] == {**STATIC, "hostname": name}
    told = api.get("info")["system"]["network_status"]
    assert (told["dhcp"], told["ip"], told["dns"]) == (False, AT, ["10.99.0.2", "1.1.1.1"])
    assert device.machine.sample().mining_uptime_s == mined_s


def test_a_vnish_that_wants_a_boot_stays_until_then() -> None:
    sim, device, clock = vnish_floor(boots=True)
    old, api = sim.stations[VNISH].address, Api(device)
    assert api.post("settings", {"network": STATIC}) == settings(wants_boot=True)
    assert not api.replies[-1].reset
    assert api.get("status")["reboot_required"] is True
    assert api.get("settings")["network"]["ipaddress"] == AT
    assert api.get("info")["system"]["network_status"]["ip"] == old
    # A document without them changes nothing of what waits.
    assert api.post("settings", {"miner": {}}) == settings(wants_boot=True)
    assert (who(sim, old), who(sim, AT)) == (VNISH, None)

    assert api.post("system/reboot")[0] == 200
    assert (who(sim, old), who(sim, AT)) == (None, VNISH)
    assert not device.machine.answers()
    clock.advance(300)
    told = Api(device)
    assert told.get("status")["reboot_required"] is False
    assert told.get("info")["system"]["network_status"]["ip"] == AT


def test_a_vnish_that_is_told_its_old_address_again_waits_for_no_boot() -> None:
    sim, device, _ = vnish_floor(boots=True)
    old, api = sim.stations[VNISH].address, Api(device)
    before = api.get("settings")["network"]
    api.post("settings", {"network": STATIC})
    assert api.post("settings", {"network": before}) == settings(wants_boot=False)
    api.post("system/reboot")
    assert who(sim, old) == VNISH


def test_a_boot_by_a_cut_of_its_power_moves_it_too() -> None:
    sim, device, clock = vnish_floor(boots=True)
    old = sim.stations[VNISH].address
    Api(device).post("settings", {"network": STATIC})
    inject(sim, Fault(kind=FaultKind.REBOOT))
    clock.advance(300)
    station = sim.network.at(old)
    assert station is not None
    assert station.accept(80, "127.0.0.9") is None
    assert (who(sim, old), who(sim, AT)) == (None, VNISH)


@pytest.mark.parametrize(
    ("odd", "status"),
    [
        ({}, 200),
        ({"dnsservers": []}, 200),
        ({"gateway": ""}, 200),
        ({"hostname": None, "dnsservers": None}, 200),
        ({"dhcp": "no"}, 400),
        ({"ipaddress": "10.99.0"}, 400),
        ({"ipaddress": ""}, 400),
        ({"netmask": "255.0.255.0"}, 400),
        ({"gateway": "none"}, 400),
        ({"dnsservers": "10.99.0.2"}, 400),
        ({"dnsservers": ["dns.example"]}, 400),
        ({"dnsservers": [7]}, 400),
        ({"dnsservers": [None]}, 400),
    ],
)
def test_a_vnish_refuses_what_is_no_address(odd: dict[str, Any], status: int) -> None:
    world, _ = a_world()
    device = a_vnish(world)
    before = device.unit.network
    assert Api(device).post("settings", {"network": {**STATIC, **odd}})[0] == status
    assert (device.unit.network != before) is (status == 200)
    assert [write.honoured for write in world.ledger] == [status == 200]


def test_a_name_alone_moves_nobody() -> None:
    sim, device, _ = vnish_floor()
    old, api = sim.stations[VNISH].address, Api(device)
    assert api.post("settings", {"network": {"hostname": "rig-7"}}) == settings(wants_boot=False)
    assert not api.replies[-1].reset
    assert (who(sim, old), device.unit.network.hostname) == (VNISH, "rig-7")


@pytest.mark.parametrize("boots", [False, True])
def test_a_vnish_asks_for_a_lease_again(*, boots: bool) -> None:
    sim, device, clock = vnish_floor(boots=boots, dhcp=True)
    for part in (STATIC, {"dhcp": True}):
        api = Api(device)
        assert api.post("settings", {"network": part}) == settings(wants_boot=boots)
        if boots:
            api.post("system/reboot")
            clock.advance(300)
    leased = sim.stations[VNISH].address
    assert leased.startswith("10.41.0.")
    assert (who(sim, AT), who(sim, leased)) == (None, VNISH)
    told = Api(device).get("info")["system"]["network_status"]
    assert (told["dhcp"], told["ip"]) == (True, leased)


@pytest.mark.parametrize("boots", [False, True])
def test_a_vnish_that_loses_its_answer_breaks_the_connection(*, boots: bool) -> None:
    sim, device, _ = vnish_floor(boots=boots)
    old, api = sim.stations[VNISH].address, Api(device)
    device.machine.loses_network_answer = True
    session = device.accept(80, "127.0.0.9")
    assert session is not None
    body = msgspec.json.encode({"network": STATIC})
    head = ["POST /api/v1/settings HTTP/1.1", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in api.headers.items()]
    assert session.feed("\r\n".join((*head, "", "")).encode() + body) == (Reply(reset=True),)
    assert (who(sim, old), who(sim, AT)) == ((VNISH, None) if boots else (None, VNISH))
    # What has nothing to do with the network is answered.
    assert api.post("settings", {"miner": {}})[0] == 200


@pytest.mark.parametrize("boots", [False, True])
def test_a_vnish_that_disobeys_acknowledges_and_stays(*, boots: bool) -> None:
    sim, device, _ = vnish_floor(boots=boots)
    old, before = sim.stations[VNISH].address, device.unit.network
    device.machine.obeys = False
    assert Api(device).post("settings", {"network": STATIC}) == settings(wants_boot=False)
    assert (who(sim, old), device.unit.network) == (VNISH, before)
    assert [write.honoured for write in sim.world.ledger] == [False]
