"""Stock Antminer: every trap that the reference names for it, on every build that has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest
from msgspec.structs import replace

from control_plane.core.change import (
    Applied,
    Change,
    Failed,
    InProgress,
    Reboot,
    SetPools,
    SetPowerMode,
    StartMining,
    StopMining,
)
from control_plane.core.errors import AuthRejected, Unreachable
from control_plane.core.memory import Pin
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.core.ports import Target
from control_plane.core.secret import Secret
from control_plane.drivers.antminer import AntminerDriver
from control_plane.simulator.antminer import Antminer
from control_plane.simulator.antminer_builds import (
    BUILDS,
    HIGH,
    S19_2021,
    S19_2022,
    S19KPRO_2023,
    S19XP_2023,
    S21_2024,
    S21_2025,
    SLEEP,
    Build,
)
from control_plane.simulator.antminer_conf import Conf, Pool
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.ledger import Write
from control_plane.simulator.machine import World
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Station
from control_plane.simulator.virtual import EPOCH_S, VirtualClock, VirtualLoop, run_virtual
from tests.drivers.making import always
from tests.simulator.making import POOLS, S21, a_machine

T = TypeVar("T")
AT = "10.0.0.1"
WANTED = (PoolSetting(url="stratum+tcp://new.pool:3333", worker="acct.n1"),)
OURS = tuple(PoolSetting(url=pool.url, worker=pool.user) for pool in POOLS)
each_build = pytest.mark.parametrize("build", BUILDS.values(), ids=lambda build: build.name)


class Bench(NamedTuple):
    device: Antminer
    world: World
    net: MemoryNet
    driver: AntminerDriver
    target: Target

    async def look(self, depth: Depth = Depth.FULL) -> Observation:
        return await self.driver.observe(self.target, depth)

    async def apply(self, change: Change) -> object:
        return await self.driver.apply(self.target, change, always)

    @property
    def conf(self) -> Conf:
        return self.device.unit.conf

    def writes(self) -> tuple[Write, ...]:
        return tuple(self.world.ledger)


def on_unit(
    play: Callable[[Bench], Awaitable[T]],
    *,
    build: Build = S21_2024,
    pools: tuple[Pool, ...] = POOLS,
    conf: Conf | None = None,
    **more: Any,
) -> T:
    async def main(loop: VirtualLoop) -> T:
        world = World(LoopSimClock(loop, time_scale=1.0))
        machine = a_machine(world, **{"age_s": 7200.0, **more})
        device = Antminer(machine, pools=pools, build=build, conf=conf)
        network = Network()
        network.add(Station("A-1", AT, device))
        net = MemoryNet(network)
        driver = AntminerDriver(net, VirtualClock(loop, scale=1.0, epoch_s=EPOCH_S))
        target = Target(
            asset="A-1",
            address=AT,
            user="root",
            password=Secret("root"),
            pin=Pin(mac=machine.mac, serial=machine.serial, source="test"),
        )
        return await play(Bench(device, world, net, driver, target))

    return run_virtual(main)


# -- reading -----------------------------------------------------------------------------------------


@each_build
def test_every_build_reads_whole(build: Build) -> None:
    async def play(bench: Bench) -> Observation:
        return await bench.look()

    seen = on_unit(play, build=build)
    assert seen.settings.pools == OURS
    assert (seen.settings.mining, seen.settings.power_mode) == (True, "normal")
    assert seen.settings.firmware == build.compile_time
    assert seen.settings.addressing == "dhcp"
    assert seen.identity is not None
    assert seen.identity.mac == "02:00:00:00:00:01"
    assert seen.identity.serial == ("SN0001" if build.serial_key else None)
    assert seen.identity.model == "Antminer S21"
    assert (seen.telemetry.power_w is not None) == build.reports_watts
    assert [board.slot for board in seen.telemetry.boards] == [0, 1, 2]
    assert all(board.chips == 108 for board in seen.telemetry.boards)
    assert seen.telemetry.accepted
    assert not seen.unreadable()


@each_build
def test_watts_come_over_one_connection(build: Build) -> None:
    async def play(bench: Bench) -> tuple[int, float | None, float]:
        seen = await bench.look(Depth.TELEMETRY)
        return (
            bench.net.connections,
            seen.telemetry.power_w,
            bench.device.machine.sample().reported_w,
        )

    connections, watts, reported = on_unit(play, build=build)
    assert connections == 1
    assert watts is None if not build.reports_watts else watts == pytest.approx(reported, rel=0.02)


def test_a_dead_board_shows_in_boards_and_errors() -> None:
    async def play(bench: Bench) -> Observation:
        return await bench.look()

    new = on_unit(play, missing_boards=1)
    assert [board.slot for board in new.telemetry.boards] == [0, 1]
    assert any("1 hash board" in error for error in new.telemetry.errors)
    old = on_unit(lambda bench: bench.look(Depth.TELEMETRY), missing_boards=1)
    assert old.telemetry.errors == ()


def test_an_efficient_mode_is_named_by_model() -> None:
    model = replace(
        S21,
        model="Antminer S19K Pro",
        ladder=(replace(S21.ladder[0], name="hem"), S21.ladder[1]),
    )

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPowerMode("hem")), Applied)
        await asyncio.sleep(900)
        assert bench.conf.mode == HIGH
        seen = await bench.look()
        assert seen.settings.power_mode == "hem"
        assert seen.telemetry.hashrate_ths == pytest.approx(150.0, rel=0.05)

    on_unit(play, build=S19KPRO_2023, model=model)


def test_a_mode_that_the_vendor_did_not_name_is_unreadable_and_still_mines() -> None:
    from control_plane.drivers.antminer_reads import settings_of

    assert settings_of(7, "Antminer S21 Hyd.") == (True, None)
    assert settings_of(None, None) == (None, None)


def test_sleep_is_told_by_settings_and_proven_by_hash() -> None:
    """After an acknowledged sleep the unit hashes on for a minute: that is not sleep yet."""

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(StopMining()), Applied)
        await asyncio.sleep(30)
        seen = await bench.look()
        assert seen.settings.mining is False
        assert seen.telemetry.activity is Activity.HASHING
        await asyncio.sleep(120)
        seen = await bench.look(Depth.TELEMETRY)
        assert seen.telemetry.activity is Activity.SLEEPING
        assert seen.telemetry.hashrate_ths == 0.0
        assert seen.telemetry.power_w == pytest.approx(25.0, abs=3.0)

    on_unit(play)


def test_a_unit_without_pools_is_idle_and_its_pools_are_known_to_be_none() -> None:
    seen = on_unit(lambda bench: bench.look(), pools=())
    assert seen.settings.pools == ()
    assert Field.POOLS not in seen.unreadable()
    assert seen.telemetry.activity is Activity.IDLE


def test_a_unit_that_starts_says_so_until_it_hashes() -> None:
    async def play(bench: Bench) -> None:
        bench.device.machine.reboot()
        told = set()
        for _ in range(120):
            await asyncio.sleep(10)
            try:
                told.add((await bench.look(Depth.TELEMETRY)).telemetry.activity)
            except Unreachable:
                told.add(None)
        assert told == {None, Activity.STARTING, Activity.HASHING}

    on_unit(play)


# -- unreadable is not empty -------------------------------------------------------------------------


@each_build
def test_a_config_that_is_half_booted_is_unreadable_and_is_not_written_from(build: Build) -> None:
    """ARS#260: writing from a half-booted read wipes the user's config."""

    async def play(bench: Bench) -> None:
        slow = replace(bench.device.unit.build, half_boot_s=3600.0)
        bench.device.unit.build = slow
        bench.device.machine.reboot()
        await asyncio.sleep(600)
        seen = await bench.look()
        assert {Field.POOLS, Field.MINING, Field.POWER_MODE} == seen.unreadable()
        for change in (SetPools(WANTED), StopMining(), StartMining("normal"), SetPowerMode("low")):
            outcome = await bench.apply(change)
            assert isinstance(outcome, Failed)
            assert outcome.retryable
        assert bench.conf.live_pools() == POOLS
        assert not bench.writes()

    on_unit(play, build=build)


@each_build
def test_reads_straight_after_a_write_are_never_believed_wrongly(build: Build) -> None:
    """Each build's race: refused, half a document, or the document as it was before."""

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        for _ in range(40):
            try:
                seen = await bench.look()
            except Unreachable:
                seen = None
            if seen is not None:
                assert seen.settings.pools in {None, WANTED}
            await asyncio.sleep(0.5)
        seen = await bench.look()
        assert seen.settings.pools == WANTED

    on_unit(play, build=build)


def test_a_write_is_not_made_from_the_config_that_was() -> None:
    """A second write within the race would bring the old pools back."""

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        outcome = await bench.apply(StopMining())
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert [pool.url for pool in bench.conf.live_pools()] == [WANTED[0].url]

    on_unit(play, build=S19_2022)


def test_a_refused_password_is_not_an_empty_config() -> None:
    async def play(bench: Bench) -> None:
        bench.device.machine.password = "changed"
        with pytest.raises(AuthRejected):
            await bench.look()
        with pytest.raises(AuthRejected):
            await bench.driver.identify(bench.target)
        for change in (SetPools(WANTED), StopMining(), Reboot()):
            outcome = await bench.apply(change)
            assert isinstance(outcome, Failed)
            assert not outcome.retryable
        assert not bench.writes()
        assert (await bench.look(Depth.POOLS)).settings.pools == OURS

    on_unit(play)


# -- writing -----------------------------------------------------------------------------------------


@each_build
@pytest.mark.parametrize(
    "change",
    [SetPools(WANTED), StopMining(), SetPowerMode("low")],
    ids=["pools", "sleep", "mode"],
)
def test_a_write_is_honoured_by_every_build(build: Build, change: Change) -> None:
    low = "hem" if build.efficient_is_2 else "low"
    model = replace(S21, ladder=(replace(S21.ladder[0], name=low), S21.ladder[1]))
    if change == SetPowerMode("low"):
        change = SetPowerMode(low)

    async def play(bench: Bench) -> None:
        before = bench.conf
        assert isinstance(await bench.apply(change), Applied)
        (write,) = bench.writes()
        assert write.honoured
        after = bench.conf
        match change:
            case SetPools():
                assert after == replace(
                    before, pools=(Pool(WANTED[0].url, WANTED[0].worker, "x"), Pool(), Pool())
                )
            case StopMining():
                assert after == replace(before, mode=SLEEP)
            case _:
                assert after == replace(before, mode=after.mode)
                assert after.mode == build.code_of(low, nominal_index=1, index=0)

    on_unit(play, build=build, model=model)


@each_build
def test_a_technicians_underclock_survives_every_write(build: Build) -> None:
    """S19 XP does not read `bitmain-hashrate-percent` back; posting 100 would reset it."""
    conf = Conf(
        pools=(*POOLS, Pool()), fan_ctrl=True, fan_pwm="70", freq_level=90, hashrate_percent=80
    )

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        now = bench.conf
        assert (now.fan_ctrl, now.fan_pwm) == (True, "70")
        assert (now.freq_level, now.hashrate_percent) == (90, 80)

    on_unit(play, build=build, conf=conf)


def test_a_pool_keeps_the_password_that_the_device_has_for_it() -> None:
    own = (Pool("stratum+tcp://A.pool:3333", "acct.r1", "s3cret"), Pool("b.pool:1", "w", "other"))
    wanted = (
        PoolSetting(url="stratum+tcp://new.pool:1", worker="n"),
        PoolSetting(url="stratum+tcp://a.pool:3333", worker="acct.r2"),
    )

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(SetPools(wanted)), Applied)
        assert [pool.password for pool in bench.conf.pools] == ["x", "s3cret", ""]

    on_unit(play, pools=own)


def test_naming_a_mode_does_not_wake_a_sleeping_unit() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPowerMode("low"))
        assert isinstance(outcome, Failed)
        assert bench.conf.mode == SLEEP
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        assert bench.conf.mode == SLEEP
        assert not bench.writes()[0].summary.startswith("mode=0")

    on_unit(play, asleep=True)


@each_build
def test_waking_names_the_mode(build: Build) -> None:
    """Trap 12: a plain resume loses the prior mode."""
    low = "hem" if build.efficient_is_2 else "low"
    model = replace(S21, ladder=(replace(S21.ladder[0], name=low), S21.ladder[1]))

    async def play(bench: Bench) -> None:
        assert isinstance(await bench.apply(StartMining(low)), Applied)
        assert bench.conf.mode == build.code_of(low, nominal_index=1, index=0)

    on_unit(play, build=build, asleep=True, model=model)


def test_a_plain_wake_is_to_normal_and_leaves_a_running_unit_in_its_mode() -> None:
    async def play(bench: Bench) -> int:
        assert isinstance(await bench.apply(StartMining()), Applied)
        return bench.conf.mode

    assert on_unit(play, asleep=True) == 0
    assert on_unit(play, mode="low") == 3


def test_what_reads_so_already_costs_no_restart() -> None:
    async def play(bench: Bench) -> None:
        for change in (
            SetPools(OURS),
            StartMining(),
            StartMining("normal"),
            SetPowerMode("normal"),
        ):
            assert isinstance(await bench.apply(change), Applied)
        assert not bench.writes()

    on_unit(play)


def test_an_unknown_step_is_refused_by_name() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(SetPowerMode("turbo"))
        assert isinstance(outcome, Failed)
        assert "turbo" in outcome.reason
        assert not outcome.retryable
        assert not bench.writes()

    on_unit(play)


def test_a_unit_without_pools_is_not_written_to_except_with_pools() -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.apply(StopMining())
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert not bench.writes()
        assert isinstance(await bench.apply(SetPools(WANTED)), Applied)
        assert len(bench.conf.live_pools()) == 1

    on_unit(play, pools=())


def test_a_slow_accept_is_waited_for_and_a_slower_one_is_not_known() -> None:
    async def play(bench: Bench) -> object:
        began = asyncio.get_running_loop().time()
        outcome = await bench.apply(SetPools(WANTED))
        assert asyncio.get_running_loop().time() - began < 60
        assert len(bench.conf.live_pools()) == 1
        assert len(bench.writes()) == 1
        return outcome

    assert isinstance(on_unit(play, build=S19_2021), Applied)
    assert isinstance(on_unit(play, build=replace(S19_2021, accept_s=120.0)), InProgress)


def test_an_acknowledged_write_that_is_discarded_shows_when_read_back() -> None:
    async def play(bench: Bench) -> None:
        bench.device.machine.obeys = False
        assert isinstance(await bench.apply(StopMining()), Applied)
        await asyncio.sleep(60)
        assert (await bench.look()).settings.mining is True

    on_unit(play, build=S21_2025)


def test_a_reboot_is_sent_once_and_shows_in_the_mining_uptime() -> None:
    async def play(bench: Bench) -> None:
        before = await bench.look(Depth.TELEMETRY)
        assert isinstance(await bench.apply(Reboot()), InProgress)
        assert [write.kind for write in bench.writes()] == ["reboot"]
        await asyncio.sleep(200)
        after = await bench.look()
        assert before.telemetry.mining_uptime_s is not None
        assert after.telemetry.mining_uptime_s is not None
        assert after.telemetry.mining_uptime_s < 200 < before.telemetry.mining_uptime_s

    on_unit(play)


def test_the_posted_document_is_what_was_read_with_known_amendments() -> None:
    from control_plane.drivers.antminer_conf import changed, read_conf
    from control_plane.simulator.antminer_conf import read_document

    read = read_document(Conf(pools=(*POOLS, Pool()), freq_level=95), S19_2022)
    read["bitmain-user-ip-cat"] = None
    posted = msgspec.json.decode(changed(read_conf(read), StopMining()) or b"")
    assert posted == {
        **{key: value for key, value in read.items() if key != "bitmain-freq-level"},
        "freq-level": "95",
        "bitmain-user-ip-cat": "0",
        "miner-mode": 1,
        "bitmain-work-mode": "1",
    }


def test_a_plain_text_build_and_a_null_build_are_one_and_both_honoured() -> None:
    assert S19XP_2023.plain_text_only
    assert S19XP_2023.null_discards

    async def play(bench: Bench) -> None:
        await bench.apply(StopMining())
        assert bench.conf.mode == SLEEP

    on_unit(play, build=S19XP_2023)
