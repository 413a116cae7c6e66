"""Every family told to stand at a static address, and what may go wrong between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.core.change import Applied, Failed, InProgress, RefusedByDevice
from control_plane.core.errors import Unreachable
from control_plane.core.memory import Pin
from control_plane.core.observation import Depth, Identity
from control_plane.core.ports import Driver, Target
from control_plane.core.secret import Secret
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.faults import FaultKind
from control_plane.simulator.network import Trouble
from control_plane.simulator.serve import serving
from tests.drivers.making import ASSETS, USERS, Bench, always, site_of
from tests.drivers.moving import (
    BOOTING_VNISH,
    KINDS,
    NEW,
    at,
    change,
    hit,
    mover,
    on,
    settle,
    unit_of,
    where,
)

each_kind = pytest.mark.parametrize("kind", KINDS)
each_family = pytest.mark.parametrize("family", ASSETS)
BOOT_FOR_IT = {"whatsminer_v2", BOOTING_VNISH}
DNS = {
    "antminer_stock": "10.99.0.2",  # It takes one.
    "whatsminer_v2": "10.99.0.2 10.99.0.3",
    "luxos": "10.99.0.2 10.99.0.3",
    "vnish": NEW.dns,
    BOOTING_VNISH: NEW.dns,
}


def writes_of(kind: str) -> tuple[int, int]:
    """Which request of a change is the first that writes, and how many requests it takes."""

    async def play(bench: Bench) -> int:
        assert isinstance(await change(bench), Applied | InProgress)
        return bench.line.requests

    last = on(kind, play)
    # The boot is a request of its own, and its identity is asked for once more before that.
    return (last - 2 if kind == BOOTING_VNISH else last), last


def test_every_family_can_be_told() -> None:
    assert {family for family, can in all_capabilities().items() if can.network} == set(ASSETS)


@each_kind
def test_it_moves_and_keeps_its_name(kind: str) -> None:
    async def play(bench: Bench) -> None:
        name, boots = unit_of(bench).network.hostname, unit_of(bench).machine.boots
        assert name
        assert await where(bench) == [bench.target.address]
        outcome = await change(bench)
        assert isinstance(outcome, InProgress if kind == BOOTING_VNISH else Applied)
        assert unit_of(bench).machine.boots - boots == int(kind in BOOT_FOR_IT)
        await settle(bench)
        assert await where(bench) == [NEW.address]
        seen = await bench.driver.observe(at(bench, NEW.address), Depth.FULL)
        assert seen.settings.addressing == "static"
        assert seen.settings.pools
        now = unit_of(bench).network
        assert (now.hostname, now.ip, now.netmask, now.gateway, now.dns) == (
            name,
            NEW.address,
            NEW.netmask,
            NEW.gateway,
            DNS[kind],
        )
        assert [write.honoured for write in bench.writes()] == [True] * (
            2 if kind == BOOTING_VNISH else 1
        )

    on(kind, play)


@each_kind
def test_who_boots_for_it_says_so(kind: str) -> None:
    async def play(bench: Bench) -> None:
        ways = bench.driver.capabilities.network
        assert ways is not None
        assert ways.reboots or kind not in BOOT_FOR_IT

    on(kind, play)


@each_kind
def test_a_lost_answer_is_not_known(kind: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.MUTE_NETWORK)
        assert isinstance(await change(bench), InProgress)
        await settle(bench)
        # What wants a boot waits for one.
        stands = bench.target.address if kind == BOOTING_VNISH else NEW.address
        assert await where(bench) == [stands]
        assert len(bench.writes()) == 1

    on(kind, play)


@each_kind
@pytest.mark.parametrize("trouble", [Trouble.MUTE, Trouble.HANG, Trouble.GARBAGE, Trouble.TRUNCATE])
def test_a_bad_line_from_any_request_on_is_told_as_it_is(kind: str, trouble: Trouble) -> None:
    write, last = writes_of(kind)

    for first in range(1, last + 1):

        async def play(bench: Bench, first: int = first) -> None:
            bench.line.trouble, bench.line.before_request = trouble, first
            outcome = await change(bench)
            sent = len(bench.writes())
            bench.station.trouble = None
            await settle(bench)
            assert len(bench.writes()) == sent <= 1 + last - write
            if first < write:
                assert isinstance(outcome, Failed)
                assert outcome.retryable
                assert not sent
                assert await where(bench) == [bench.target.address]
            else:
                assert isinstance(outcome, InProgress)
                assert len(await where(bench)) == 1

        on(kind, play)


@each_kind
def test_a_machine_that_ignores_it_stays(kind: str) -> None:
    async def play(bench: Bench) -> None:
        before = unit_of(bench).network
        hit(bench, FaultKind.DISOBEY)
        assert isinstance(await change(bench), Applied)
        await settle(bench)
        assert await where(bench) == [bench.target.address]
        assert unit_of(bench).network == before

    on(kind, play)


REFUSED = [
    ("antminer_stock", {"address": "10.99.0"}, "N002 IP invalid!"),
    ("antminer_stock", {"netmask": "/24"}, "N003 Netmask invalid!"),
    ("antminer_stock", {"gateway": ""}, "N004 Gateway invalid!"),
    ("antminer_stock", {"dns": ("dns.example",)}, "N005 DNS invalid!"),
    ("whatsminer_v2", {"address": "10.99.0.256"}, "API command ERROR"),
    ("whatsminer_v2", {"netmask": "255.0.255.0"}, "API command ERROR"),
    ("whatsminer_v2", {"gateway": "none"}, "API command ERROR"),
    ("luxos", {"address": "10.99.0.256"}, "Invalid parameter"),
    ("luxos", {"netmask": "255.0.255.0"}, "Invalid parameter"),
    ("luxos", {"dns": ("dns.example",)}, "Invalid parameter"),
    ("vnish", {"address": "10.99.0.256"}, "invalid IP address syntax"),
    ("vnish", {"netmask": "255.0.255.0"}, "invalid netmask"),
    (BOOTING_VNISH, {"dns": ("dns.example",)}, "invalid IP address syntax"),
]


@pytest.mark.parametrize(("kind", "odd", "told"), REFUSED)
def test_what_the_device_refuses_is_refused(kind: str, odd: dict[str, Any], told: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await change(bench, msgspec.structs.replace(NEW, **odd))
        assert isinstance(outcome, RefusedByDevice)
        assert told in outcome.reason
        await settle(bench)
        assert await where(bench) == [bench.target.address]

    on(kind, play)


@each_kind
def test_another_machine_is_told_nothing(kind: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.WRONG_IDENTITY)
        assert isinstance(await change(bench), Failed)
        assert not bench.writes()

    on(kind, play)


@each_kind
def test_whoever_takes_its_place_in_the_middle_is_told_nothing(kind: str) -> None:
    write, _ = writes_of(kind)

    async def play(bench: Bench) -> None:
        bench.line.happening = lambda: hit(bench, FaultKind.WRONG_IDENTITY)
        bench.line.before_request = write - 1
        outcome = await change(bench)
        assert isinstance(outcome, Failed)
        assert "is pinned" in outcome.reason
        assert not bench.writes()

    on(kind, play)


@each_kind
def test_without_a_pin_nobody_is_told_anything(kind: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await change(bench, pin=None)
        assert isinstance(outcome, Failed)
        assert "no identity is pinned" in outcome.reason
        assert not bench.writes()

    on(kind, play)


@each_kind
def test_no_address_leaves_without_a_permit(kind: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await change(bench, permit=lambda: "it is held")
        assert outcome == Failed("it is held", retryable=True)
        assert not bench.writes()

    on(kind, play)


@each_kind
def test_the_permit_is_asked_last_and_once_for_each_command(kind: str) -> None:
    write, last = writes_of(kind)

    async def play(bench: Bench) -> None:
        asked: list[int] = []

        def permit() -> None:
            asked.append(bench.line.requests + 1)

        assert not isinstance(await change(bench, permit=permit), Failed)
        assert asked == sorted({write, last})

    on(kind, play)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "luxos"])
def test_a_wrong_password_moves_nothing(kind: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await change(bench, password=Secret("wr0ng"))
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        await settle(bench)
        assert await where(bench) == [bench.target.address]

    on(kind, play)


@each_kind
def test_where_nobody_answers_another_try_may_help(kind: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await change(bench, address="10.99.0.200")
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert not bench.writes()

    on(kind, play)


@pytest.mark.parametrize("kind", ["antminer_stock", "luxos"])
def test_who_does_not_boot_for_it_moves_asleep_and_sleeps_on(kind: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.STOP)
        await asyncio.sleep(600.0)
        assert isinstance(await change(bench), Applied)
        await settle(bench)
        assert await where(bench) == [NEW.address]
        assert unit_of(bench).machine.asleep

    on(kind, play)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("whatsminer_v2", "it is powered off, and net_config would wake it"),
        ("vnish", "it is stopped, and system/reboot would start it"),
        (BOOTING_VNISH, "it is stopped, and system/reboot would start it"),
    ],
)
def test_whom_the_boot_would_wake_is_left_alone(kind: str, told: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.STOP)
        await asyncio.sleep(60.0)
        assert await change(bench) == Failed(told, retryable=True)
        assert not bench.writes()

    on(kind, play)


@each_family
def test_over_real_sockets_the_same(family: str, tmp_path: Path) -> None:
    async def work() -> None:
        # At this speed a boot takes a second or two.
        async with serving(
            site_of(family), state=tmp_path, ports={4028: 0, 80: 0}, time_scale=100.0
        ) as running:
            asset = ASSETS[family]
            machine, station = running.site.machine(asset), running.site.stations[asset]
            net = StreamNet(NetworkMap.load(running.map_path))
            driver = mover(make_drivers(net, SystemClock())[family])
            old = Target(
                asset=asset,
                address=station.address,
                user=USERS[family],
                password=Secret(machine.password),
                pin=Pin(mac=machine.mac, serial=machine.serial, source="test"),
            )
            # Within what the map of this simulation covers.
            address = station.address.rsplit(".", 1)[0] + ".250"
            new = msgspec.structs.replace(old, address=address)
            network = msgspec.structs.replace(NEW, address=address)
            assert isinstance(await driver.set_network(old, network, always), Applied)
            with pytest.raises(Unreachable):
                await driver.identify(old)
            assert old.pin is not None
            assert old.pin.matches(await reached(driver, new))

    asyncio.run(asyncio.wait_for(work(), 60))


async def reached(driver: Driver, target: Target) -> Identity:
    """Who answers, as soon as somebody does."""
    while True:
        try:
            return await driver.identify(target)
        except Unreachable:
            await asyncio.sleep(0.1)
