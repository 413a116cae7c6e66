"""The driver before the simulated unit: each trap of the family, named by what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
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
    SetPowerMode,
    StartMining,
    StopMining,
)
from control_plane.core.errors import AuthRejected, Unreachable
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.core.secret import Secret
from control_plane.drivers.vnish import VnishDriver
from control_plane.drivers.vnish_web import API_KEY_USER
from control_plane.simulator import faults
from control_plane.simulator.site import Target as Where
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.vnish_builds import BUILDS, V1_2_6, V1_3_3, V1_3_4, Build, Locked
from control_plane.simulator.vnish_conf import Switcher
from control_plane.simulator.vnish_unit import Unit
from tests.drivers.making import NEW_POOLS, Bench, always, on_bench
from tests.drivers.scripted import TARGET, ScriptedNet, StillClock

T = TypeVar("T")
ON = Switcher(enabled=True, top_preset="3200", min_preset="1900")
each_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


def on_unit(
    play: Callable[[Bench, Unit], Awaitable[T]],
    *,
    build: Build = V1_3_3,
    tuned: tuple[str, ...] = ("1900", "2350", "2950", "3200"),
) -> T:
    """Play against one unit of a build, which is otherwise at 2950 with all presets tuned."""

    async def start(bench: Bench) -> T:
        device = bench.station.device
        assert isinstance(device, Vnish)
        unit = device.unit
        unit.build, unit.tuned = build, set(tuned)
        return await play(bench, unit)

    return on_bench("vnish", start)


async def write(bench: Bench, change: Change) -> Outcome:
    return await bench.driver.apply(bench.target, change, always)


async def full(bench: Bench) -> Observation:
    return await bench.driver.observe(bench.target, Depth.FULL)


# -- looks -----------------------------------------------------------------------------------------------


@each_build
@pytest.mark.parametrize("depth", Depth)
def test_every_build_is_read_at_every_depth_over_one_connection(build: Build, depth: Depth) -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        seen = await bench.driver.observe(bench.target, depth)
        assert bench.line.connections == 1
        assert seen.telemetry.hashrate_ths == pytest.approx(99, rel=0.05)
        assert not seen.unreadable()
        if depth is not Depth.TELEMETRY:
            assert seen.settings.pools is not None
            assert [p.url for p in seen.settings.pools] == [
                f"stratum+tcp://{pool.url}" for pool in unit.pools_in_force
            ]
        assert not bench.writes()

    on_unit(play, build=build)


def test_a_hot_look_asks_for_one_page_and_unlocks_nothing() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        for _ in range(3):
            await bench.driver.observe(bench.target, Depth.TELEMETRY)
            await bench.driver.observe(bench.target, Depth.POOLS)
        assert bench.line.requests == 6
        assert unit.sessions.keys == {}

    on_unit(play)


def test_masked_workers_are_unlocked_once_and_then_seen() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        first = await bench.driver.observe(bench.target, Depth.POOLS)
        assert first.settings.pools
        before = bench.line.requests
        again = await bench.driver.observe(bench.target, Depth.POOLS)
        assert again.settings.pools == first.settings.pools
        assert bench.line.requests == before + 1

    on_unit(play, build=V1_3_4)


def test_a_summary_that_is_closed_is_unlocked() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        seen = await bench.driver.observe(bench.target, Depth.TELEMETRY)
        assert seen.telemetry.hashrate_ths

    on_unit(play, build=msgspec.structs.replace(V1_3_3, summary=Locked.REFUSED))


def test_a_token_that_died_is_replaced_without_a_word() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        await full(bench)
        unit.sessions.end()
        assert not (await full(bench)).unreadable()

    on_unit(play)


def test_an_api_key_needs_no_session() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        key = "k" * 32
        target = msgspec.structs.replace(bench.target, user=API_KEY_USER, password=Secret(key))
        with pytest.raises(AuthRejected):
            await bench.driver.observe(target, Depth.FULL)
        unit.sessions.keys[key] = "gridplane"
        assert not (await bench.driver.observe(target, Depth.FULL)).unreadable()
        assert isinstance(await bench.driver.apply(target, StopMining(), always), Applied)
        assert key not in repr(target)

    on_unit(play)


def test_a_closed_door_is_a_matter_of_time_and_not_of_the_password() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        wrong = msgspec.structs.replace(bench.target, password=Secret("no"))
        for _turn in range(5):
            with pytest.raises(AuthRejected):
                await bench.driver.observe(wrong, Depth.FULL)
        with pytest.raises(Unreachable):
            await full(bench)
        await bench.stage.clock.wire_sleep(61)
        await full(bench)

    on_unit(play)


def test_what_runs_is_not_what_is_configured_and_not_what_is_permitted() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        unit.save(msgspec.structs.replace(unit.conf, switcher=ON))
        unit.inlet_c = 45.0
        await bench.stage.clock.sleep(400)
        seen = await full(bench)
        assert seen.settings.power_mode == "3200"
        assert seen.telemetry.errors == ("preset 2350 runs, 2950 is configured",)

    on_unit(play)


def test_a_unit_on_its_own_frequency_names_no_step() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        unit.save(msgspec.structs.replace(unit.conf, preset="disabled"))
        await bench.stage.clock.sleep(700)
        assert (await full(bench)).settings.power_mode == "disabled"

    on_unit(play)


def test_in_a_restart_settings_are_unreadable_and_not_the_last_ones() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        await write(bench, RestartMining())
        seen = await full(bench)
        assert seen.unreadable() >= {Field.POOLS, Field.MINING, Field.POWER_MODE}
        assert seen.telemetry.activity is Activity.STARTING
        hot = await bench.driver.observe(bench.target, Depth.POOLS)
        assert hot.asked == frozenset()

    on_unit(play)


def test_a_stopped_unit_is_read_from_its_settings() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        await write(bench, StopMining())
        await bench.stage.clock.sleep(60)
        seen = await full(bench)
        assert (seen.settings.mining, seen.settings.power_mode) == (False, "2950")
        assert seen.settings.pools is not None
        assert seen.telemetry.mining_uptime_s is None
        assert seen.telemetry.power_w == pytest.approx(25, rel=0.1)
        assert unit.conf.preset == "2950"

    on_unit(play)


# -- presets ---------------------------------------------------------------------------------------------


@each_build
def test_a_preset_off_the_ladder_is_never_sent(build: Build) -> None:
    async def play(bench: Bench, _: Unit) -> None:
        outcome = await write(bench, SetPowerMode("2100"))
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert "1900, 2350, 2950, 3200" in outcome.reason
        assert not bench.writes()

    on_unit(play, build=build)


@each_build
def test_a_preset_reads_back_and_shows(build: Build) -> None:
    async def play(bench: Bench, _: Unit) -> None:
        assert isinstance(await write(bench, SetPowerMode("2350")), Applied)
        await bench.stage.clock.sleep(900)
        seen = await full(bench)
        assert seen.settings.power_mode == "2350"
        assert seen.telemetry.power_w == pytest.approx(2350, rel=0.08)
        assert isinstance(await write(bench, SetPowerMode("2350")), Applied)
        assert len(bench.writes()) == 1

    on_unit(play, build=build)


def test_an_untuned_preset_says_that_it_takes_hours_and_is_tuned_in_the_end() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        outcome = await write(bench, SetPowerMode("2350"))
        assert isinstance(outcome, InProgress)
        assert "hours" in outcome.detail
        await bench.stage.clock.sleep(1000)
        seen = await full(bench)
        assert (seen.settings.power_mode, seen.telemetry.activity) == ("2350", Activity.TUNING)
        await bench.stage.clock.sleep(8000)
        assert (await full(bench)).telemetry.activity is Activity.HASHING

    on_unit(play, tuned=("2950",))


def test_lowering_lowers_the_top_of_the_switcher_too() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        unit.save(msgspec.structs.replace(unit.conf, switcher=ON))
        await write(bench, SetPowerMode("2350"))
        unit.inlet_c = 0.0  # It would rise if it could.
        for _turn in range(5):
            await bench.stage.clock.sleep(400)
            assert (await full(bench)).settings.power_mode == "2350"
        assert (unit.running, unit.conf.switcher.rise_temp) == ("2350", 55)

    on_unit(play)


# -- pools -----------------------------------------------------------------------------------------------


@each_build
def test_pools_are_in_use_after_one_write_whatever_the_build_wants(build: Build) -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        assert isinstance(await write(bench, SetPools(NEW_POOLS)), Applied)
        await bench.stage.clock.sleep(60)
        assert (await full(bench)).settings.pools == NEW_POOLS
        assert len(bench.writes()) == (2 if build.pools_need_restart else 1)
        assert [pool.url for pool in unit.pools_in_force] == [
            "new.pool:3333",
            "stratum+ssl://back.pool:443",
        ]

    on_unit(play, build=build)


def test_pools_that_wait_for_a_restart_get_one_without_being_written_again() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        answers = iter([None])
        outcome = await bench.driver.apply(
            bench.target, SetPools(NEW_POOLS), lambda: next(answers, "hold")
        )
        assert isinstance(outcome, InProgress)
        assert (await full(bench)).settings.pools != NEW_POOLS
        await write(bench, SetPools(NEW_POOLS))
        assert [w.kind for w in bench.writes()] == ["settings", "mining/restart"]
        assert not unit.needs_restart

    on_unit(play, build=V1_3_4)


def test_pools_of_a_sleeper_are_stored_and_wake_nobody() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        await write(bench, StopMining())
        await bench.stage.clock.sleep(60)
        assert isinstance(await write(bench, SetPools(NEW_POOLS)), Applied)
        seen = await full(bench)
        assert (seen.settings.pools, seen.settings.mining) == (NEW_POOLS, False)

    on_unit(play, build=V1_3_4)


def test_a_hijack_is_seen_by_a_hot_look() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        fault = faults.Fault(kind=faults.FaultKind.HIJACK, target=Where(asset=bench.target.asset))
        faults.inject(bench.stage.site, fault)
        await bench.stage.clock.sleep(60)
        seen = await bench.driver.observe(bench.target, Depth.POOLS)
        assert seen.settings.pools == (PoolSetting(url=fault.url, worker=fault.worker),)

    on_unit(play, build=V1_3_4)


def test_nothing_is_written_while_the_pools_in_use_cannot_be_read() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        await write(bench, RestartMining())
        outcome = await write(bench, SetPools(NEW_POOLS))
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert len(bench.writes()) == 1

    on_unit(play)


# -- stopping and starting -------------------------------------------------------------------------------


@each_build
def test_a_stop_is_acknowledged_in_either_way_and_once(build: Build) -> None:
    async def play(bench: Bench, _: Unit) -> None:
        assert isinstance(await write(bench, StopMining()), Applied)
        await bench.stage.clock.sleep(60)
        assert isinstance(await write(bench, StopMining()), Applied)
        assert len(bench.writes()) == 1

    on_unit(play, build=build)


def test_waking_at_another_preset_never_runs_at_the_old_one() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        await write(bench, StopMining())
        await bench.stage.clock.sleep(60)
        assert isinstance(await write(bench, StartMining("1900")), Applied)
        highest = 0.0
        for _turn in range(60):
            await bench.stage.clock.sleep(20)
            highest = max(highest, unit.machine.sample().drawn_w)
        assert highest == pytest.approx(1900, rel=0.02)

    on_unit(play)


@pytest.mark.parametrize("reads_back", [False, True])
def test_a_preset_whose_write_was_not_answered_is_read_before_anything_starts(
    reads_back: bool,
) -> None:
    preset, sent = "3200", []

    def answer(_: int, payload: bytes) -> bytes | None:
        nonlocal preset
        method, path, _rest = payload.split(b" ", 2)
        page = path.removeprefix(b"/api/v1/")
        if method == b"POST":
            sent.append(page.decode())
            preset = "1900" if page == b"settings" and reads_back else preset
            return None if page == b"settings" else b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n"
        pages: dict[bytes, object] = {
            b"info": {
                "fw_name": "Vnish",
                "system": {"network_status": {"mac": "02:00:00:00:00:01"}},
            },
            b"summary": {"miner": {"miner_status": {"miner_state": "stopped"}}},
            b"settings": {"miner": {"pools": [], "overclock": {"preset": preset}}},
            b"autotune/presets": [{"name": "1900", "status": "tuned"}, {"name": "3200"}],
        }
        text = msgspec.json.encode(pages[page])
        return b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)

    driver = VnishDriver(ScriptedNet(answer), StillClock())
    outcome = asyncio.run(driver.apply(TARGET, StartMining("1900"), always))
    assert isinstance(outcome, Applied if reads_back else InProgress)
    assert sent == (["settings", "mining/start"] if reads_back else ["settings"])


@pytest.mark.parametrize("change", [RestartMining(), Reboot()])
def test_what_ends_with_a_start_does_not_wake_a_sleeper(change: Change) -> None:
    async def play(bench: Bench, _: Unit) -> None:
        await write(bench, StopMining())
        await bench.stage.clock.sleep(60)
        outcome = await write(bench, change)
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert len(bench.writes()) == 1

    on_unit(play)


def test_one_that_gave_up_is_started_and_says_before_why() -> None:
    async def play(bench: Bench, unit: Unit) -> None:
        unit.failure = (1003, "Hashrate is below the restart threshold")
        unit.machine.sleep()
        await bench.stage.clock.sleep(60)
        seen = await full(bench)
        assert (seen.settings.mining, seen.telemetry.activity) == (True, Activity.FAULT)
        assert seen.telemetry.errors == ("1003: Hashrate is below the restart threshold",)
        assert isinstance(await write(bench, StartMining()), Applied)
        await bench.stage.clock.sleep(900)
        assert (await full(bench)).telemetry.activity is Activity.HASHING

    on_unit(play)


def test_a_reboot_shows_in_both_uptimes() -> None:
    async def play(bench: Bench, _: Unit) -> None:
        assert isinstance(await write(bench, Reboot()), InProgress)
        await bench.stage.clock.sleep(200)
        seen = await full(bench)
        assert seen.telemetry.uptime_s is not None
        assert seen.telemetry.uptime_s < 200
        assert seen.telemetry.mining_uptime_s is not None
        assert seen.telemetry.mining_uptime_s < 200

    on_unit(play)


# -- answers ---------------------------------------------------------------------------------------------


def scripted(
    status: int, body: bytes, *, broken: tuple[bytes, ...] = ()
) -> tuple[VnishDriver, ScriptedNet]:
    """A driver before a device that answers every write so, and some pages with an error."""
    pages = {
        b"info": b'{"fw_name":"Vnish","system":{"network_status":{"mac":"02:00:00:00:00:01"}}}',
        b"settings": b"{}",
        b"summary": b'{"miner":{"miner_status":{"miner_state":"mining"},"hr_realtime":1}}',
    }

    def answer(_: int, payload: bytes) -> bytes:
        method, path, _rest = payload.split(b" ", 2)
        page = path.rpartition(b"/")[2]
        code, text = (200, pages[page]) if method == b"GET" else (status, body)
        if method == b"GET" and page in broken:
            code, text = 500, b'{"err":"busy"}'
        return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (code, len(text), text)

    net = ScriptedNet(answer, keeps=True)
    return VnishDriver(net, StillClock()), net


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", Applied),
        (200, b"{}", Applied),
        (200, b"<html>", InProgress),
        (400, b'{"err":"no"}', RefusedByDevice),
        (404, b"", RefusedByDevice),
        (401, b"", Failed),
        (403, b"", Failed),
        (429, b"", InProgress),
        (500, b'{"err":"CGMiner err"}', InProgress),
        (503, b"", InProgress),
    ],
)
def test_an_answer_means_what_it_says_or_is_looked_into(
    status: int, body: bytes, kind: type
) -> None:
    driver, net = scripted(status, body)
    outcome = asyncio.run(driver.apply(TARGET, StopMining(), always))
    assert isinstance(outcome, kind)
    assert sum(asked.startswith(b"POST /api/v1/mining/stop") for asked in net.asked) == 1
    assert net.connections == 1


def test_a_stop_waits_for_no_page_that_cannot_be_read() -> None:
    driver, net = scripted(200, b"", broken=(b"settings", b"summary"))
    assert isinstance(asyncio.run(driver.apply(TARGET, StopMining(), always)), Applied)
    assert net.asked[-1].startswith(b"POST /api/v1/mining/stop")
    for change in (RestartMining(), Reboot(), StartMining(), SetPools(NEW_POOLS)):
        assert isinstance(asyncio.run(driver.apply(TARGET, change, always)), Failed)


@pytest.mark.parametrize("build", [V1_2_6, V1_3_3])
def test_no_password_and_no_token_is_in_an_error(build: Build) -> None:
    async def play(bench: Bench, _: Unit) -> None:
        wrong = msgspec.structs.replace(bench.target, password=Secret("s3cret-word"))
        outcome = await bench.driver.apply(wrong, SetPools(NEW_POOLS), always)
        assert isinstance(outcome, Failed)
        assert "s3cret" not in outcome.reason

    on_unit(play, build=build)
