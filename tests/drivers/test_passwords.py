"""Every family's password: logging in by it, putting another in its place, and what may go wrong between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from control_plane.core.change import Applied, Failed, InProgress, Outcome, RefusedByDevice
from control_plane.core.errors import AuthRejected, Unreachable, WrongIdentity
from control_plane.core.memory import Pin
from control_plane.core.observation import Depth
from control_plane.core.ports import Permit, Target
from control_plane.core.secret import Secret
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.drivers.vnish_web import API_KEY_USER
from control_plane.engine.adapters import SystemClock
from control_plane.engine.errands import KeepingDriver, keeps_passwords
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.network import Trouble
from control_plane.simulator.serve import serving
from control_plane.simulator.site import Target as Where
from control_plane.simulator.vnish_auth import MAX_FAILURES
from tests.drivers.making import ASSETS, USERS, Bench, always, on_bench, site_of

FAMILIES = ("antminer_stock", "whatsminer_v2", "vnish")
each_family = pytest.mark.parametrize("family", FAMILIES)
NEW = Secret("n3w_pass")


def keeper(bench: Bench) -> KeepingDriver:
    assert keeps_passwords(bench.driver)
    return bench.driver


def having(bench: Bench, password: Secret) -> Bench:
    """The same with another password to log in with."""
    return bench._replace(target=msgspec.structs.replace(bench.target, password=password))


async def change(bench: Bench, new: Secret = NEW, permit: Permit = always) -> Outcome:
    return await keeper(bench).set_password(bench.target, new, permit)


async def logs_in(bench: Bench, password: Secret) -> bool:
    try:
        told = await keeper(bench).log_in(having(bench, password).target)
    except AuthRejected:
        return False
    assert bench.target.pin is not None
    assert bench.target.pin.matches(told)
    return True


def hit(bench: Bench, kind: FaultKind) -> None:
    inject(bench.stage.site, Fault(kind=kind, target=Where(asset=bench.target.asset)))


def test_who_has_a_password_to_change() -> None:
    known = {family: can.passwords is not None for family, can in all_capabilities().items()}
    assert known == dict.fromkeys(FAMILIES, True) | {"luxos": False}


@each_family
def test_a_new_password_is_in_force_and_the_old_one_is_not(family: str) -> None:
    async def play(bench: Bench) -> None:
        old = bench.target.password
        assert await logs_in(bench, old)
        assert not await logs_in(bench, NEW)
        assert isinstance(await change(bench), Applied)
        assert await logs_in(bench, NEW)
        assert not await logs_in(bench, old)
        after = having(bench, NEW)
        seen = await after.driver.observe(after.target, Depth.FULL)
        assert seen.settings.pools

    on_bench(family, play)


@each_family
def test_a_login_changes_nothing_and_uses_no_older_one(family: str) -> None:
    async def play(bench: Bench) -> None:
        await bench.driver.observe(bench.target, Depth.FULL)
        hit(bench, FaultKind.PASSWORD)
        # A token, a session or a nonce of the look before is no proof.
        assert not await logs_in(bench, bench.target.password)
        assert not [write for write in bench.writes() if write.honoured]

    on_bench(family, play)


@each_family
def test_a_wrong_old_password_changes_nothing(family: str) -> None:
    async def play(bench: Bench) -> None:
        old = bench.target.password
        outcome = await change(having(bench, Secret("wr0ng")))
        assert isinstance(outcome, Failed | RefusedByDevice)
        assert await logs_in(bench, old)

    on_bench(family, play)


@each_family
@pytest.mark.parametrize(
    "new", ["", "much-too-long-for-any-of-them-to-take", 'quo"te', "späße", "a b"]
)
def test_a_password_that_may_not_fit_never_leaves(family: str, new: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await change(bench, Secret(new))
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert not new or new not in outcome.reason
        assert bench.line.requests == 0

    on_bench(family, play)


@each_family
def test_a_lost_answer_is_not_known(family: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.MUTE_PASSWORD)
        assert isinstance(await change(bench), InProgress)
        assert await logs_in(bench, NEW)

    on_bench(family, play)


@each_family
@pytest.mark.parametrize("trouble", [Trouble.MUTE, Trouble.HANG, Trouble.GARBAGE, Trouble.TRUNCATE])
def test_a_bad_line_from_the_write_on_is_not_known(family: str, trouble: Trouble) -> None:
    async def count(bench: Bench) -> int:
        assert isinstance(await change(bench), Applied)
        return bench.line.requests

    last = on_bench(family, count)

    async def play(bench: Bench) -> None:
        bench.line.trouble, bench.line.before_request = trouble, last
        assert isinstance(await change(bench), InProgress)
        bench.station.trouble = None
        in_force = [p for p in (bench.target.password, NEW) if await logs_in(bench, p)]
        assert len(in_force) == 1

    on_bench(family, play)


@each_family
def test_a_late_change_leaves_the_old_one_in_force_for_a_while(family: str) -> None:
    async def play(bench: Bench) -> None:
        old = bench.target.password
        hit(bench, FaultKind.SLOW_PASSWORD)
        assert isinstance(await change(bench), Applied)
        assert await logs_in(bench, old)
        await asyncio.sleep(100.0)
        assert await logs_in(bench, NEW)
        assert not await logs_in(bench, old)

    on_bench(family, play)


@each_family
def test_a_machine_that_ignores_it_keeps_the_old_one(family: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.DISOBEY)
        assert isinstance(await change(bench), Applied)
        assert await logs_in(bench, bench.target.password)

    on_bench(family, play)


@each_family
def test_another_machine_is_given_no_password(family: str) -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.WRONG_IDENTITY)
        outcome = await change(bench)
        assert isinstance(outcome, Failed)
        assert not bench.writes()

    on_bench(family, play)


@each_family
def test_nothing_leaves_without_a_permit(family: str) -> None:
    async def play(bench: Bench) -> None:
        assert await change(bench, permit=lambda: "it is held") == Failed(
            "it is held", retryable=True
        )
        assert not bench.writes()

    on_bench(family, play)


@each_family
def test_no_password_is_in_what_is_said_of_it(family: str) -> None:
    async def play(bench: Bench) -> None:
        with pytest.raises(AuthRejected) as refusal:
            await keeper(bench).log_in(having(bench, NEW).target)
        assert NEW.reveal() not in str(refusal.value)
        hit(bench, FaultKind.MUTE_PASSWORD)
        assert NEW.reveal() not in repr(await change(bench))
        assert NEW.reveal() not in repr(bench.writes())

    on_bench(family, play)


@each_family
def test_a_silent_device_is_no_refusal(family: str) -> None:
    async def play(bench: Bench) -> None:
        bench.station.trouble = Trouble.BLACK_HOLE
        with pytest.raises(Unreachable):
            await keeper(bench).log_in(bench.target)

    on_bench(family, play)


@each_family
def test_over_real_sockets_the_same(family: str, tmp_path: Path) -> None:
    async def work() -> None:
        site = site_of(family)
        async with serving(site, state=tmp_path, ports={4028: 0, 80: 0}) as running:
            asset = ASSETS[family]
            machine, station = running.site.machine(asset), running.site.stations[asset]
            net = StreamNet(NetworkMap.load(running.map_path))
            driver = make_drivers(net, SystemClock())[family]
            assert keeps_passwords(driver)
            pin = Pin(mac=machine.mac, serial=machine.serial, source="test")
            old = Target(
                asset=asset,
                address=station.address,
                user=USERS[family],
                password=Secret(machine.password),
                pin=pin,
            )
            new = msgspec.structs.replace(old, password=NEW)
            with pytest.raises(AuthRejected):
                await driver.log_in(new)
            assert isinstance(await driver.set_password(old, NEW, always), Applied)
            assert pin.matches(await driver.log_in(new))
            with pytest.raises(AuthRejected):
                await driver.log_in(old)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_vnish_closes_its_door_after_wrong_passwords_and_that_is_no_refusal() -> None:
    async def play(bench: Bench) -> None:
        for _ in range(MAX_FAILURES):
            assert not await logs_in(bench, NEW)
        with pytest.raises(Unreachable):
            await keeper(bench).log_in(bench.target)
        await asyncio.sleep(61.0)
        assert await logs_in(bench, bench.target.password)

    on_bench("vnish", play)


def test_an_api_key_of_vnish_has_no_password_to_change() -> None:
    async def play(bench: Bench) -> None:
        target = msgspec.structs.replace(bench.target, user=API_KEY_USER)
        outcome = await change(bench._replace(target=target))
        assert isinstance(outcome, Failed)
        assert "declare the password's user" in outcome.reason

    on_bench("vnish", play)


def test_a_whatsminer_whose_write_interface_is_off_says_neither_yes_nor_no() -> None:
    async def play(bench: Bench) -> None:
        old = bench.target.password
        hit(bench, FaultKind.WRITES_OFF)
        assert await logs_in(bench, old)
        assert isinstance(await change(bench), Failed)
        assert await logs_in(bench, old)

    on_bench("whatsminer_v2", play)


def test_identity_is_checked_by_the_pin_alone() -> None:
    async def play(bench: Bench) -> None:
        target = msgspec.structs.replace(bench.target, pin=None)
        outcome = await change(bench._replace(target=target))
        assert isinstance(outcome, Failed)
        assert WrongIdentity.__name__ not in outcome.reason
        assert "no identity is pinned" in outcome.reason

    on_bench("antminer_stock", play)
