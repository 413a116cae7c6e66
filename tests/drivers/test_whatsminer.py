"""WhatsMiner API v2: every trap that the reference names for it, against the simulated device."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import pytest
from msgspec.structs import replace

from control_plane.core.change import (
    Applied,
    Change,
    Failed,
    InProgress,
    Outcome,
    Reboot,
    RefusedByDevice,
    RestartMining,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
)
from control_plane.core.memory import Pin
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.core.ports import Driver, Target
from control_plane.core.secret import Secret
from control_plane.drivers.whatsminer import WhatsminerDriver
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.ledger import Write
from control_plane.simulator.machine import World
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.virtual import EPOCH_S, VirtualClock, VirtualLoop, run_virtual
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.whatsminer_crypto import MAX_TOKENS_PER_CLIENT, TOKEN_LIFE_S
from control_plane.simulator.whatsminer_unit import (
    BUILDS,
    V2024_06,
    V2024_09,
    V2025_04,
    Build,
    Pool,
    WriteApi,
)
from tests.drivers.making import Bench as AnyBench
from tests.drivers.making import always, on_bench
from tests.simulator.making import M60S, a_machine

T = TypeVar("T")
AT = "10.0.0.1"
POOLS = (
    Pool("stratum+tcp://a.pool:3333", "acct.w1", "x"),
    Pool("stratum+tcp://b.pool:3333", "acct.w1", "x"),
    Pool("stratum+tcp://c.pool:3333", "acct.w1", "x"),
)
OURS = tuple(PoolSetting(url=pool.url, worker=pool.worker) for pool in POOLS)
WANTED = (PoolSetting(url="stratum+tcp://new.pool:3333", worker="acct.n1"),)
SECRET = "s3cretpw"
V2024_06_ALONE = replace(V2024_06, joins=False)
each_build = pytest.mark.parametrize("build", BUILDS.values(), ids=lambda build: build.firmware)


class Bench(NamedTuple):
    device: WhatsMiner
    world: World
    net: MemoryNet
    driver: Driver
    target: Target

    async def look(self, depth: Depth = Depth.FULL) -> Observation:
        return await self.driver.observe(self.target, depth)

    async def apply(self, change: Change) -> Outcome:
        return await self.driver.apply(self.target, change, always)

    def writes(self) -> list[str]:
        return [write.kind for write in self.ledger()]

    def ledger(self) -> tuple[Write, ...]:
        return tuple(self.world.ledger)


def on_unit(
    play: Callable[[Bench], Awaitable[T]],
    *,
    build: Build = V2024_09,
    pools: tuple[Pool, ...] = POOLS,
    password: str = SECRET,
    writes_enabled: bool = True,
    limit_w: int | None = None,
    **more: Any,
) -> T:
    async def main(loop: VirtualLoop) -> T:
        world = World(LoopSimClock(loop, time_scale=1.0))
        machine = a_machine(world, M60S, "W-1", **{"age_s": 7200.0, "password": SECRET, **more})
        device = WhatsMiner(
            machine, pools=pools, build=build, writes_enabled=writes_enabled, limit_w=limit_w
        )
        network = Network()
        network.add(Station("W-1", AT, device))
        net = MemoryNet(network)
        driver = WhatsminerDriver(net, VirtualClock(loop, scale=1.0, epoch_s=EPOCH_S))
        target = Target(
            asset="W-1",
            address=AT,
            user="admin",
            password=Secret(password),
            pin=Pin(mac=machine.mac, serial=machine.serial, source="test"),
        )
        return await play(Bench(device, world, net, driver, target))

    return run_virtual(main)


# -- reading -----------------------------------------------------------------------------------------


@each_build
def test_every_build_reads_whole(build: Build) -> None:
    async def play(bench: Bench) -> Observation:
        return await bench.look()

    seen = on_unit(play, build=build, limit_w=3000)
    settings = seen.settings
    assert settings.pools == OURS
    assert (settings.mining, settings.power_mode, settings.power_limit_w) == (True, "normal", 3000)
    assert (settings.firmware, settings.addressing) == (build.firmware, "dhcp")
    assert seen.identity is not None
    assert (seen.identity.mac, seen.identity.serial) == ("02:00:00:00:00:01", "SN0001")
    assert (seen.identity.make, seen.identity.model) == ("MicroBT", "M60S_VK30")
    assert [board.slot for board in seen.telemetry.boards] == [0, 1, 2]
    assert all(board.chips == 105 for board in seen.telemetry.boards)
    assert seen.telemetry.errors == ()
    assert seen.telemetry.accepted
    assert seen.write_enabled is None
    assert not seen.unreadable()


def test_watts_are_the_devices_own_and_uptimes_are_told_apart() -> None:
    async def play(bench: Bench) -> tuple[Observation, float]:
        bench.device.unit.restart()
        await asyncio.sleep(1200)
        return await bench.look(Depth.TELEMETRY), bench.device.machine.sample().reported_w

    seen, reported = on_unit(play)
    telemetry = seen.telemetry
    assert telemetry.power_w == pytest.approx(reported, rel=0.02)
    assert telemetry.mining_uptime_s == pytest.approx(1200, abs=40)
    assert telemetry.uptime_s == pytest.approx(8400, abs=2)
    assert len(telemetry.fan_rpm) == 2
    assert telemetry.temperature_c is not None
    assert 40 < telemetry.temperature_c < 110


@pytest.mark.parametrize(
    ("build", "connections"), [(V2024_09, [1, 1]), (V2024_06_ALONE, [4, 3])], ids=["joins", "not"]
)
def test_a_look_is_one_connection_and_a_build_that_joins_not_is_remembered(
    build: Build, connections: list[int]
) -> None:
    async def play(bench: Bench) -> list[int]:
        used = []
        for _ in range(2):
            before = bench.net.connections
            seen = await bench.look(Depth.POOLS)
            assert seen.settings.pools == OURS
            assert len(seen.telemetry.boards) == 3
            used.append(bench.net.connections - before)
        return used

    assert on_unit(play, build=build) == connections


def test_a_device_without_pools_is_read_as_such() -> None:
    async def play(bench: Bench) -> Observation:
        return await bench.look()

    seen = on_unit(play, pools=())
    assert seen.settings.pools == ()
    assert "2010" in seen.telemetry.errors


@each_build
def test_a_dead_board_shows_in_boards_and_codes(build: Build) -> None:
    """Firmware of 2023 prints the codes in a form that is not JSON."""

    async def play(bench: Bench) -> Observation:
        bench.device.machine.kill_board(1)
        await asyncio.sleep(1200)
        return await bench.look()

    seen = on_unit(play, build=build)
    assert seen.telemetry.errors == ("541",)
    assert [board.chips for board in seen.telemetry.boards] == [105, 0, 105]
    assert seen.telemetry.boards[1].temperature_c is None
    assert not seen.unreadable()


@pytest.mark.parametrize("depth", Depth)
@each_build
def test_sleep_shows_at_every_depth(build: Build, depth: Depth) -> None:
    async def play(bench: Bench) -> Observation:
        return await bench.look(depth)

    seen = on_unit(play, build=build, asleep=True)
    assert Field.MINING in seen.asked
    assert seen.settings.mining is False
    assert seen.telemetry.activity is Activity.SLEEPING
    assert seen.telemetry.hashrate_ths == 0.0
    assert seen.telemetry.power_w is not None
    assert seen.telemetry.power_w < 100


def test_while_the_mining_process_restarts_nothing_is_made_up() -> None:
    async def play(bench: Bench) -> list[Observation]:
        bench.device.unit.restart()
        await asyncio.sleep(2)
        return [await bench.look(depth) for depth in Depth]

    short, pools, full = on_unit(play)
    for seen in (short, pools, full):
        assert seen.telemetry.activity is Activity.STARTING
        assert seen.telemetry.hashrate_ths is None
        assert seen.settings.pools is None
    assert short.asked == frozenset()
    assert Field.POOLS in pools.unreadable()
    assert full.unreadable() >= {Field.POOLS, Field.POWER_MODE}
    assert full.settings.mining is True
    assert full.identity is not None


def test_after_a_start_it_is_starting_and_then_hashing() -> None:
    async def play(bench: Bench) -> list[Activity | None]:
        bench.device.unit.restart()
        seen = []
        for _ in range(4):
            await asyncio.sleep(300)
            seen.append((await bench.look(Depth.TELEMETRY)).telemetry.activity)
        return seen

    seen = on_unit(play)
    assert seen[0] is Activity.STARTING
    assert seen[-1] is Activity.HASHING


def test_a_limit_above_the_modes_own_watts_reads_as_it_was_set() -> None:
    """`summary` shows what is in force; comparing that would write, and boot, for ever."""

    async def play(bench: Bench) -> int | None:
        return (await bench.look()).settings.power_limit_w

    assert on_unit(play, limit_w=3600) == 3600
    assert on_unit(play, limit_w=None) == 3400


def test_looks_send_no_writes() -> None:
    async def play(bench: Bench) -> list[str]:
        for depth in Depth:
            await bench.look(depth)
        await bench.driver.identify(bench.target)
        return bench.writes()

    assert on_unit(play) == []
    assert on_unit(play, writes_enabled=False) == []


# -- writing -----------------------------------------------------------------------------------------


def test_pools_are_written_to_all_three_slots() -> None:
    async def play(bench: Bench) -> Observation:
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        assert bench.device.unit.pools == (
            Pool("stratum+tcp://new.pool:3333", "acct.n1", "x"),
            Pool(),
            Pool(),
        )
        return await bench.look(Depth.POOLS)

    assert on_unit(play).settings.pools == WANTED


def test_a_mode_command_never_answers_and_is_looked_at() -> None:
    async def play(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert isinstance(await bench.apply(SetPowerMode("low")), InProgress)
        assert loop.time() - began < 11
        assert bench.writes() == ["set_low_power"]
        await asyncio.sleep(1200)
        seen = await bench.look()
        assert seen.settings.power_mode == "low"
        assert seen.telemetry.hashrate_ths == pytest.approx(130, rel=0.1)

    on_unit(play)


def test_a_limit_boots_the_board_and_reads_back() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPowerLimit(3000))
        assert isinstance(outcome, InProgress)
        assert bench.writes() == ["adjust_power_limit"]
        await asyncio.sleep(1200)
        seen = await bench.look()
        assert seen.settings.power_limit_w == 3000
        assert seen.telemetry.uptime_s is not None
        assert seen.telemetry.uptime_s < 1201

    on_unit(play)


@pytest.mark.parametrize(
    "change",
    [
        SetPools(()),
        SetPools(OURS + WANTED),
        SetPowerMode("hem"),
        SetPowerMode("low_power+reboot"),
        StartMining("turbo"),
        SetPowerLimit(0),
        SetPowerLimit(-5),
        SetPowerLimit(99_999),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(change: Change) -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(change)
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert bench.net.connections == 0

    on_unit(play)


def test_a_limit_that_the_device_refuses_waits_for_a_person() -> None:
    async def play(bench: Bench) -> Outcome:
        return await bench.apply(SetPowerLimit(300))

    assert isinstance(on_unit(play), RefusedByDevice)


@pytest.mark.parametrize("change", [SetPowerLimit(3000), RestartMining(), Reboot()], ids=str)
def test_what_would_wake_a_sleeping_unit_is_not_sent(change: Change) -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(change)
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert bench.writes() == []
        assert bench.device.machine.asleep

    on_unit(play, asleep=True)


@pytest.mark.parametrize(
    ("mode", "sent"),
    [
        (None, ["power_on"]),
        ("normal", ["power_on"]),
        ("low", ["set_low_power", "power_on"]),
        ("high", ["set_high_power", "power_on"]),
    ],
)
def test_waking_names_the_mode_before_the_power(mode: str | None, sent: list[str]) -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(StartMining(mode)), Applied)
        assert bench.writes() == sent
        await asyncio.sleep(1200)
        seen = await bench.look()
        assert seen.settings.mining is True
        assert seen.settings.power_mode == (mode or "normal")
        assert seen.telemetry.activity is Activity.HASHING

    on_unit(play, asleep=True)


def test_it_is_not_woken_while_the_old_mode_reads() -> None:
    """A unit that ignores the mode would draw the watts of its old one."""

    async def play(bench: Bench) -> None:
        bench.device.machine.obeys = False
        assert isinstance(await bench.apply(StartMining("low")), InProgress)
        assert bench.writes() == ["set_low_power"]

    on_unit(play, asleep=True)


@pytest.mark.parametrize("trouble", Trouble)
def test_no_line_sends_a_half_of_waking_twice_or_calls_it_nothing(trouble: Trouble) -> None:
    async def play(bench: AnyBench, before: int) -> int:
        bench.stage.site.machine(bench.target.asset).sleep()
        await bench.stage.clock.sleep(60)
        bench.line.trouble, bench.line.before_request = trouble, before
        outcome = await bench.driver.apply(bench.target, StartMining("low"), always)
        arrived = [write.kind for write in bench.writes()]
        assert arrived in ([], ["set_low_power"], ["set_low_power", "power_on"])
        if arrived:
            assert isinstance(outcome, Applied | InProgress)
        return bench.line.requests

    before = 1
    while on_bench("whatsminer_v2", lambda bench, n=before: play(bench, n)) >= before:  # type: ignore[misc]
        before += 1
    assert before == 11


@pytest.mark.parametrize(
    ("mode", "outcome", "sent"), [("normal", Applied, []), ("low", InProgress, ["set_low_power"])]
)
def test_a_unit_that_mines_is_not_woken(mode: str, outcome: type[Outcome], sent: list[str]) -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(StartMining(mode)), outcome)
        assert bench.writes() == sent

    on_unit(play)


def test_a_write_in_the_middle_of_a_restart_is_not_decided_from_nothing() -> None:
    async def play(bench: Bench) -> None:
        bench.device.unit.restart()
        await asyncio.sleep(2)
        outcome = await bench.apply(StartMining("low"))
        assert isinstance(outcome, InProgress | Failed)
        assert "power_on" not in bench.writes()

    on_unit(play)


# -- the write interface, tokens and the password ------------------------------------------------------


def test_a_switched_off_write_interface_is_told_until_a_write_is_let_through() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(StopMining())
        assert isinstance(outcome, Failed)
        assert "can't access write cmd" in outcome.reason
        for depth in Depth:
            assert (await bench.look(depth)).write_enabled is False
        bench.device.unit.write_api = WriteApi.OPEN
        assert (await bench.look()).write_enabled is False, "only a write tells, and a look is none"
        assert isinstance(await bench.apply(StopMining()), Applied)
        assert (await bench.look(Depth.TELEMETRY)).write_enabled is True

    on_unit(play, writes_enabled=False)


def test_a_new_process_is_told_what_the_one_before_learned_of_the_write_interface() -> None:
    async def play(bench: Bench) -> None:
        assert (await bench.look()).write_enabled is None
        told = bench._replace(target=replace(bench.target, write_enabled=False))
        for depth in Depth:
            assert (await told.look(depth)).write_enabled is False
        bench.device.unit.write_api = WriteApi.OPEN
        assert isinstance(await told.apply(StopMining()), Applied)
        for depth in Depth:
            assert (await told.look(depth)).write_enabled is True, "what it learned itself is newer"

    on_unit(play, writes_enabled=False)


def test_a_look_writes_nothing_whatever_is_known_of_the_write_interface() -> None:
    async def play(bench: Bench) -> None:
        for known in (None, False, True):
            told = bench._replace(target=replace(bench.target, write_enabled=known))
            for depth in Depth:
                await told.look(depth)
        assert not bench.ledger()

    on_unit(play, writes_enabled=False)


def test_firmware_that_knows_no_writes_is_told_apart() -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(StopMining()), RefusedByDevice)
        assert (await bench.look()).write_enabled is False

    on_unit(play, build=V2025_04)


def test_each_write_has_a_token_of_its_own() -> None:
    """So neither half an hour nor a boot between two writes matters."""

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        await asyncio.sleep(TOKEN_LIFE_S + 1)
        assert isinstance(await bench.apply(SetPools(OURS)), Applied)
        bench.device.unit.reboot()
        await asyncio.sleep(120)
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)

    on_unit(play)


def test_too_many_tokens_mean_nothing_was_written_and_it_passes() -> None:
    async def play(bench: Bench) -> None:
        for _ in range(MAX_TOKENS_PER_CLIENT):
            assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        outcome = await bench.apply(SetPools(OURS))
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert "over max connect" in outcome.reason
        assert len(bench.writes()) == MAX_TOKENS_PER_CLIENT
        await asyncio.sleep(TOKEN_LIFE_S + 1)
        assert isinstance(await bench.apply(SetPools(OURS)), Applied)

    on_unit(play)


def test_a_token_that_a_boot_took_means_nothing_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(bench: Bench) -> None:
        table = bench.device.unit.tokens
        issue = table.issue

        def issue_and_forget(*args: Any, **more: Any) -> object:
            challenge = issue(*args, **more)
            table.clear()
            return challenge

        monkeypatch.setattr(
            type(table), "issue", lambda _, *args, **more: issue_and_forget(*args, **more)
        )
        outcome = await bench.apply(StopMining())
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert not any(write.honoured for write in bench.ledger())

    on_unit(play)


@pytest.mark.parametrize("password", ["admin", "", "ü", "x" * 5000, "nul\0"])
def test_a_wrong_password_waits_for_a_person_and_is_told_nowhere(password: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(StopMining())
        assert isinstance(outcome, Failed)
        assert not password or password not in outcome.reason
        assert not any(write.honoured for write in bench.ledger())

    on_unit(play, password=password)
