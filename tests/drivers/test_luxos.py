"""LuxOS: every trap that the reference names for it, against the simulated device."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import pytest

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
from control_plane.core.errors import UnexpectedReply
from control_plane.core.memory import Pin
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.core.ports import Driver, Target
from control_plane.core.secret import Secret
from control_plane.drivers.luxos import LuxosDriver
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_unit import BUILDS, V2026_04, Atm, Build, Group, Pool
from control_plane.simulator.machine import World
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.virtual import EPOCH_S, VirtualClock, VirtualLoop, run_virtual
from tests.drivers.making import always
from tests.simulator.making import LUX_S21, a_machine, an_antminer

T = TypeVar("T")
AT = "10.0.0.1"
POOLS = (
    Pool("stratum+tcp://a.pool:3333", "acct.w1", "x"),
    Pool("stratum+tcp://b.pool:3333", "acct.w1", "x"),
)
OURS = tuple(PoolSetting(url=pool.url, worker=pool.worker) for pool in POOLS)
WANTED = (
    PoolSetting(url="stratum+tcp://new.pool:3333", worker="acct.n1"),
    PoolSetting(url="stratum+ssl://back.pool:443", worker="acct.n1"),
)
each_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


class Bench(NamedTuple):
    device: LuxOs
    world: World
    net: MemoryNet
    station: Station
    driver: Driver
    target: Target

    async def look(self, depth: Depth = Depth.FULL) -> Observation:
        return await self.driver.observe(self.target, depth)

    async def apply(self, change: Change) -> Outcome:
        return await self.driver.apply(self.target, change, always)

    def writes(self) -> list[str]:
        return [f"{write.kind} {write.summary}" for write in self.world.ledger]

    def ask(self, command: str, parameter: str = "") -> None:
        """Somebody else's command."""
        session = self.device.accept(4028, "10.9.9.9")
        assert session is not None
        session.feed(f'{{"command":"{command}","parameter":"{parameter}"}}'.encode())


def on_unit(
    play: Callable[[Bench], Awaitable[T]],
    *,
    pools: tuple[Pool, ...] = POOLS,
    build: Build = V2026_04,
    atm: Atm | None = None,
    **more: Any,
) -> T:
    async def main(loop: VirtualLoop) -> T:
        world = World(LoopSimClock(loop, time_scale=1.0))
        machine = a_machine(world, LUX_S21, "L-1", **{"age_s": 7200.0, **more})
        device = LuxOs(machine, pools=pools, build=build, atm=atm)
        network = Network()
        station = Station("L-1", AT, device)
        network.add(station)
        net = MemoryNet(network)
        target = Target(
            asset="L-1",
            address=AT,
            user="",
            password=Secret(""),
            pin=Pin(mac=machine.mac, serial=machine.serial, source="test"),
        )
        driver = LuxosDriver(net, VirtualClock(loop, scale=1.0, epoch_s=EPOCH_S))
        return await play(Bench(device, world, net, station, driver, target))

    return run_virtual(main)


# -- reading -----------------------------------------------------------------------------------------


@each_build
def test_every_build_reads_whole_in_one_connection(build: Build) -> None:
    async def play(bench: Bench) -> tuple[Observation, float]:
        seen = await bench.look()
        assert bench.net.connections == 1
        return seen, bench.device.machine.sample().reported_w

    seen, reported = on_unit(play, build=build)
    settings, telemetry = seen.settings, seen.telemetry
    assert settings.pools == OURS
    assert (settings.mining, settings.power_mode) == (True, "normal")
    assert (settings.firmware, settings.addressing) == (build.name, "dhcp")
    assert seen.identity is not None
    assert (seen.identity.mac, seen.identity.serial) == ("02:00:00:00:00:01", "SN0001")
    assert (seen.identity.make, seen.identity.model) == ("Bitmain", "Antminer S21")
    assert [(board.slot, board.chips) for board in telemetry.boards] == [(n, 108) for n in range(3)]
    assert telemetry.power_w == pytest.approx(reported, abs=1)
    assert telemetry.mining_uptime_s == pytest.approx(7200, abs=2)
    assert len(telemetry.fan_rpm) == 4
    assert telemetry.temperature_c is not None
    assert 40 < telemetry.temperature_c < 65
    assert telemetry.errors == ()
    assert not seen.unreadable()


def test_the_hot_path_tells_the_mode_unless_atm_may_move_it() -> None:
    async def play(bench: Bench) -> frozenset[Field]:
        return (await bench.look(Depth.TELEMETRY)).asked

    assert on_unit(play) == {Field.MINING, Field.POWER_MODE}
    assert on_unit(play, atm=Atm(enabled=True)) == {Field.MINING}


def test_boards_that_are_dead_or_ramp_or_are_asleep_show() -> None:
    async def play(bench: Bench) -> list[Observation]:
        machine = bench.device.machine
        machine.kill_board(1)
        await asyncio.sleep(120)
        ramping = await bench.look()
        await asyncio.sleep(600)
        hashing = await bench.look()
        bench.device.unit.sleep()
        await asyncio.sleep(10)
        return [ramping, hashing, await bench.look(Depth.TELEMETRY)]

    ramping, hashing, asleep = on_unit(play)
    assert ramping.telemetry.activity is Activity.STARTING
    assert hashing.telemetry.activity is Activity.HASHING
    assert hashing.telemetry.errors == ("board 1: Dead",)
    assert [board.chips for board in hashing.telemetry.boards] == [108, 0, 108]
    assert asleep.telemetry.activity is Activity.SLEEPING
    assert asleep.settings.mining is False
    assert asleep.telemetry.power_w is not None
    assert asleep.telemetry.power_w < 30


def test_a_pool_less_unit_is_idle_and_reads_as_having_none() -> None:
    async def play(bench: Bench) -> Observation:
        return await bench.look()

    seen = on_unit(play, pools=())
    assert seen.settings.pools == ()
    assert seen.telemetry.activity is Activity.IDLE


def test_pools_of_every_group_are_read_and_a_split_is_said() -> None:
    """A stranger's pool in a group of its own takes a share of the hash."""

    async def play(bench: Bench) -> Observation:
        bench.ask("addgroup", "theirs,9")
        bench.ask("addpool", "stratum+tcp://thief:1,thief,x,1")
        return await bench.look(Depth.POOLS)

    seen = on_unit(play)
    thief = PoolSetting(url="stratum+tcp://thief:1", worker="thief")
    assert seen.settings.pools == (*OURS, thief)
    assert "split between groups" in seen.telemetry.errors[0]


def test_a_disabled_pool_is_none_and_order_is_that_of_priority() -> None:
    async def play(bench: Bench) -> tuple[PoolSetting, ...] | None:
        bench.ask("addpool", "stratum+tcp://c.pool:1,w,x")
        bench.ask("disablepool", "0")
        bench.ask("switchpool", "2")
        return (await bench.look(Depth.POOLS)).settings.pools

    found = on_unit(play)
    assert found is not None
    assert [pool.url for pool in found] == ["stratum+tcp://c.pool:1", POOLS[1].url]


def test_another_firmware_at_the_address_is_no_luxos() -> None:
    async def main(loop: VirtualLoop) -> None:
        network = Network()
        device = an_antminer(World(LoopSimClock(loop, time_scale=1.0)))
        network.add(Station("A-1", AT, device))
        clock = VirtualClock(loop, scale=1.0, epoch_s=EPOCH_S)
        driver = LuxosDriver(MemoryNet(network), clock)
        target = Target(asset="A-1", address=AT, user="", password=Secret(""))
        for depth in Depth:
            with pytest.raises(UnexpectedReply):
                await driver.observe(target, depth)
        with pytest.raises(UnexpectedReply, match="not LuxOS"):
            await driver.identify(target)

    run_virtual(main)


# -- pools -------------------------------------------------------------------------------------------


def test_pools_are_walked_to_and_never_are_there_none() -> None:
    async def play(bench: Bench) -> Observation:
        outcome = await bench.apply(SetPools(WANTED))
        assert isinstance(outcome, Applied)
        assert all(write.pools for write in bench.world.ledger)
        assert [write.split()[0] for write in bench.writes()] == [
            "addpool",
            "addpool",
            "switchpool",
            "removepool",
            "removepool",
        ]
        return await bench.look()

    assert on_unit(play).settings.pools == WANTED


def test_pools_that_read_so_are_not_written_again() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPools(OURS))
        assert outcome == Applied("the pools read so already; nothing was written")
        assert bench.writes() == []

    on_unit(play)


def test_a_thiefs_group_goes_with_its_pools() -> None:
    async def play(bench: Bench) -> tuple[Group, ...]:
        bench.ask("addgroup", "theirs,9")
        bench.ask("addpool", "stratum+tcp://thief:1,thief,x,1")
        assert isinstance(await bench.apply(SetPools(OURS)), Applied)
        assert (await bench.look()).settings.pools == OURS
        return bench.device.unit.kept.groups

    assert on_unit(play) == (Group("default"),)


def test_the_same_pools_in_another_order_are_only_brought_to_order() -> None:
    async def play(bench: Bench) -> list[str]:
        assert isinstance(await bench.apply(SetPools(OURS[::-1])), Applied)
        assert (await bench.look()).settings.pools == OURS[::-1]
        return [write.split()[0] for write in bench.writes()]

    assert on_unit(play) == ["switchpool"]


def test_a_walk_that_is_interrupted_goes_on_next_time_from_where_it_stands() -> None:
    async def play(bench: Bench) -> None:
        left = iter([None, None, "hold of ann"])
        outcome = await bench.driver.apply(bench.target, SetPools(WANTED), lambda: next(left))
        assert outcome == InProgress(20.0, "hold of ann")
        seen = (await bench.look()).settings.pools
        assert seen == (*OURS, *WANTED)
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        assert (await bench.look()).settings.pools == WANTED
        assert len([w for w in bench.writes() if w.startswith("addpool")]) == 2

    on_unit(play)


def test_a_unit_that_acknowledges_and_does_nothing_is_told_once() -> None:
    async def play(bench: Bench) -> None:
        bench.device.machine.obeys = False
        outcome = await bench.apply(SetPools(WANTED))
        assert outcome == InProgress(20.0, "addpool was acknowledged and shows not")
        assert len(bench.writes()) == 1

    on_unit(play)


@pytest.mark.parametrize(
    "wanted",
    [
        (PoolSetting(url="stratum+tcp://a,b:1", worker="w"),),
        (PoolSetting(url="stratum+tcp://a:1", worker="w,x"),),
        (OURS[0], OURS[0]),
    ],
    ids=["comma in the address", "comma in the worker", "twice the same"],
)
def test_pools_that_cannot_be_said_are_not_sent(wanted: tuple[PoolSetting, ...]) -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPools(wanted))
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert bench.net.connections == 0

    on_unit(play)


def test_pools_need_nobodys_session() -> None:
    async def play(bench: Bench) -> None:
        bench.ask("logon")
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)

    on_unit(play)


# -- sessions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [StopMining(), SetPowerMode("under-4"), Reboot()])
def test_somebody_elses_session_is_waited_for_and_not_taken(change: Change) -> None:
    async def play(bench: Bench) -> None:
        bench.ask("logon")
        theirs = bench.device.unit.session
        outcome = await bench.apply(change)
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert "Another session is active" in outcome.reason
        assert (bench.writes(), bench.device.unit.session) == ([], theirs)
        await asyncio.sleep(61)
        assert isinstance(await bench.apply(change), Applied | InProgress)

    on_unit(play)


@pytest.mark.parametrize("change", [StopMining(), SetPowerMode("under-4"), SetPowerMode("over-9")])
def test_a_session_is_given_back(change: Change) -> None:
    async def play(bench: Bench) -> None:
        await bench.apply(change)
        assert bench.device.unit.session == ""

    on_unit(play)


def test_a_session_is_given_back_where_the_permit_is_refused() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.driver.apply(bench.target, Reboot(), lambda: "held")
        assert outcome == Failed("held", retryable=True)
        assert (bench.writes(), bench.device.unit.session) == ([], "")

    on_unit(play)


def test_a_session_that_somebody_kills_is_a_failure_that_may_be_tried_again() -> None:
    async def play(bench: Bench) -> None:
        def kill() -> None:
            bench.ask("kill")

        outcome = await bench.driver.apply(bench.target, StopMining(), kill)
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert "the session is gone" in outcome.reason
        assert not any(write.honoured for write in bench.world.ledger)

    on_unit(play)


# -- power -------------------------------------------------------------------------------------------


def test_a_mode_is_a_way_from_this_units_own_nameplate() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPowerMode("under-4"))
        assert isinstance(outcome, Applied)
        profile = bench.device.unit.profiles[-4]
        assert bench.writes() == [f"profileset {profile.name}"]
        await asyncio.sleep(300)
        seen = await bench.look()
        assert seen.settings.power_mode == "under-4"
        assert bench.device.machine.sample().drawn_w == pytest.approx(profile.watts, rel=0.01)
        assert isinstance(await bench.apply(SetPowerMode("under-4")), Applied)
        assert len(bench.writes()) == 1

    on_unit(play)


@pytest.mark.parametrize("mode", ["low", "under-0", "under-17", "over-9", "-4", "default", "é\n"])
def test_a_mode_that_the_unit_has_not_is_not_sent(mode: str) -> None:
    async def play(bench: Bench) -> None:
        for change in (SetPowerMode(mode), StartMining(mode)):
            outcome = await bench.apply(change)
            assert isinstance(outcome, Failed)
            assert not outcome.retryable
        assert bench.writes() == []

    on_unit(play)


def test_there_is_no_watt_limit() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPowerLimit(3000))
        assert isinstance(outcome, Failed)
        assert (outcome.retryable, bench.net.connections) == (False, 0)

    on_unit(play)


@each_build
def test_with_atm_on_the_mode_is_its_ceiling(build: Build) -> None:
    """Below it the unit goes by itself, for heat, and comes back: nobody shall fight that."""

    async def play(bench: Bench) -> Observation:
        bench.device.unit.set_profile(-3)
        return await bench.look()

    for ceiling, mode in ((0, "normal"), (-2, "under-2"), (-6, "under-3"), (None, "over-8")):
        seen = on_unit(play, build=build, atm=Atm(enabled=True, max_step=ceiling))
        assert seen.settings.power_mode == mode


def test_under_atm_a_lower_mode_lowers_the_ceiling_first_and_stays() -> None:
    """A pinned profile alone would be back at the ceiling within the hour."""

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPowerMode("under-4")), Applied)
        name = bench.device.unit.profiles[-4].name
        assert bench.writes() == [f"atmset max_profile={name}", f"profileset {name}"]
        for _ in range(8):
            await asyncio.sleep(1800)
            assert (await bench.look()).settings.power_mode == "under-4"
        assert bench.device.unit.kept.step == -4

    on_unit(play, atm=Atm(enabled=True))


def test_under_atm_a_higher_mode_raises_the_ceiling_alone() -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPowerMode("normal")), Applied)
        assert bench.writes() == ["atmset max_profile=default"]
        await asyncio.sleep(4 * 3600)
        await bench.look()
        assert bench.device.unit.kept.step == 0

    machine_at = Atm(enabled=True, max_step=-4)
    on_unit(play, atm=machine_at, mode="under-4")


def test_a_floor_of_atm_above_the_mode_is_a_persons() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPowerMode("under-4"))
        assert outcome == Failed(
            "ATM may not go below under-2: a person lowers that", retryable=False
        )
        assert bench.writes() == []

    on_unit(play, atm=Atm(enabled=True, min_step=-2))


# -- sleep -------------------------------------------------------------------------------------------


def test_sleep_outlives_a_boot_and_neither_boot_nor_restart_wakes() -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(StopMining()), Applied)
        for change in (Reboot(), RestartMining()):
            assert isinstance(await bench.apply(change), Applied | InProgress)
            await asyncio.sleep(300)
            seen = await bench.look()
            assert seen.settings.mining is False
            assert seen.telemetry.hashrate_ths == 0.0
        assert isinstance(await bench.apply(StopMining()), Applied)
        assert len(bench.writes()) == 3

    on_unit(play)


def test_waking_to_another_mode_sets_that_first() -> None:
    async def play(bench: Bench) -> None:
        await bench.apply(StopMining())
        assert isinstance(await bench.apply(StartMining("under-4")), Applied)
        name = bench.device.unit.profiles[-4].name
        assert bench.writes()[1:] == [f"profileset {name}", "curtail wakeup"]
        await asyncio.sleep(900)
        seen = await bench.look()
        assert (seen.settings.mining, seen.settings.power_mode) == (True, "under-4")

    on_unit(play)


def test_a_unit_whose_mode_does_not_read_back_is_not_woken() -> None:
    async def play(bench: Bench) -> None:
        await bench.apply(StopMining())
        bench.device.machine.obeys = False
        outcome = await bench.apply(StartMining("under-4"))
        assert outcome == InProgress(20.0, "the profile does not read back yet")
        assert bench.device.machine.asleep

    on_unit(play)


def test_a_restart_shows_in_the_uptime_of_the_miner() -> None:
    async def play(bench: Bench) -> Observation:
        assert isinstance(await bench.apply(RestartMining()), Applied)
        await asyncio.sleep(60)
        return await bench.look(Depth.TELEMETRY)

    uptime_s = on_unit(play).telemetry.mining_uptime_s
    assert uptime_s is not None
    assert 55 < uptime_s < 65


def test_a_device_that_says_no_has_said_it() -> None:
    async def play(bench: Bench) -> None:
        def first() -> None:
            bench.device.unit.sleep()

        outcome = await bench.driver.apply(bench.target, StopMining(), first)
        assert outcome == RefusedByDevice("code 436: Already in sleep mode")

    on_unit(play)


def test_a_lost_answer_is_no_failure_and_nothing_is_sent_again() -> None:
    async def play(bench: Bench) -> None:
        def mute() -> None:
            bench.station.trouble = Trouble.MUTE

        outcome = await bench.driver.apply(bench.target, StopMining(), mute)
        assert isinstance(outcome, InProgress)
        assert bench.device.machine.asleep
        assert len(bench.writes()) == 1

    on_unit(play)


def test_settings_survive_as_autosave_has_it() -> None:
    async def play(bench: Bench) -> Observation:
        bench.device.unit.autosave = False
        await bench.apply(SetPowerMode("under-4"))
        await bench.apply(Reboot())
        await asyncio.sleep(300)
        return await bench.look()

    # What a boot forgot reads as drift, and is written again where policy lets it.
    assert on_unit(play).settings.power_mode == "normal"
