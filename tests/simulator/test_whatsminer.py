"""A simulated WhatsMiner on the wire: what it tells, who may write, and what a write does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.ledger import Direction
from control_plane.simulator.machine import Phase, World
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.whatsminer_unit import V2023_08, V2024_09, V2025_04, Build, Pool
from tests.simulator.making import M60S, Writer, a_machine, a_world, read, rpc

PASSWORD = "admin"
POOLS = (Pool("stratum+tcp://a.pool:3333", "acct.w1", "x"),)


def a_whatsminer(world: World, *, build: Build = V2024_09, **more: Any) -> WhatsMiner:
    machine = a_machine(world, M60S, "W-1", password=PASSWORD, asleep=more.pop("asleep", False))
    return WhatsMiner(machine, pools=POOLS, build=build, **more)


def settled(clock: ManualSimClock, seconds: float = 1200.0) -> None:
    clock.advance(seconds)


def test_summary_tells_hash_watts_mode_and_limit() -> None:
    world, _ = a_world()
    row = read(a_whatsminer(world, limit_w=3000), "summary")["SUMMARY"][0]
    assert row["Power Mode"] == "Normal"
    assert row["Power Limit"] == 3000
    assert abs(row["Power"] / 3000 - 1) < 0.07
    assert 150 < row["MHS 5s"] / 1e6 < 180


def test_reads_may_be_joined_but_not_with_the_daemons_own() -> None:
    world, _ = a_world()
    device = a_whatsminer(world)
    joined = msgspec.json.decode(rpc(device, {"cmd": "summary+pools"}))
    assert joined["pools"][0]["POOLS"][0]["URL"] == POOLS[0].url
    assert msgspec.json.decode(rpc(device, {"cmd": "summary+status"}))["Code"] == 45


def test_miner_info_tells_the_mac() -> None:
    world, _ = a_world()
    told = msgspec.json.decode(rpc(a_whatsminer(world), {"cmd": "get_miner_info"}))
    assert told["Msg"]["mac"] == "02:00:00:00:00:01"


@pytest.mark.parametrize(
    ("build", "enabled", "code"),
    [(V2024_09, True, 131), (V2024_09, False, 45), (V2025_04, True, 14), (V2023_08, True, 131)],
    ids=["open", "factory", "firmware without v2 writes", "old"],
)
def test_writes_are_what_build_and_owner_made_them(
    build: Build, code: int, *, enabled: bool
) -> None:
    world, _ = a_world()
    writer = Writer(a_whatsminer(world, build=build, writes_enabled=enabled))
    answer = writer.send("power_off", respbefore="true")
    assert answer is not None
    assert answer["Code"] == code
    (write,) = world.ledger
    assert (write.honoured, write.peer) == (code == 131, "10.0.0.1")


def test_plain_and_wrongly_keyed_writes_are_turned_away() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    assert msgspec.json.decode(rpc(device, {"cmd": "power_off", "token": "x"}))["Code"] == 45
    answer = Writer(device, password="wrong").send("power_off", respbefore="true")
    assert answer is not None
    assert answer["Code"] in {23, 137}
    settled(clock)
    assert device.machine.sample().phase is Phase.HASHING
    assert not any(write.honoured for write in world.ledger)


def test_a_token_dies_after_half_an_hour_and_with_a_boot() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    writer = Writer(device)
    clock.advance(1801)
    answer = writer.send("set_led", param="auto")
    assert answer is not None
    assert answer["Code"] == 135
    writer = Writer(device)
    device.unit.reboot()
    clock.advance(100)
    answer = writer.send("set_led", param="auto")
    assert answer is not None
    assert answer["Code"] == 135


def test_power_off_stops_and_a_reboot_starts_again() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    Writer(device).send("power_off", respbefore="true")
    settled(clock, 30)
    assert device.machine.sample().phase is Phase.SLEEPING
    assert read(device, "summary")["SUMMARY"][0]["Power Limit"] == 0
    Writer(device).send("reboot")
    assert device.accept(4028, "10.0.0.1") is None
    settled(clock)
    assert device.machine.sample().hashrate_ths > 170
    assert [w.direction for w in world.ledger] == [Direction.LOWER, Direction.RAISE]


def test_a_power_limit_reboots_and_holds() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    answer = Writer(device).send("adjust_power_limit", power_limit="2900")
    assert answer is not None
    assert answer["Code"] == 131
    assert not device.machine.answers()
    assert device.machine.boots == 1
    settled(clock)
    assert abs(device.machine.sample().drawn_w / 2900 - 1) < 0.02
    assert read(device, "summary")["SUMMARY"][0]["Power Mode"] == "Normal"


def test_a_mode_command_acts_and_never_answers() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    assert Writer(device).send("set_low_power") is None
    settled(clock)
    assert read(device, "summary")["SUMMARY"][0]["Power Mode"] == "Low"
    assert abs(device.machine.sample().drawn_w / 2600 - 1) < 0.02


def test_pools_are_replaced_whole_and_need_the_first() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    answer = Writer(device).send("update_pools", pool2="x", worker2="y", passwd2="z")
    assert answer is not None
    assert answer["Code"] == 14
    Writer(device).send(
        "update_pools", pool1="stratum+tcp://n:1", worker1="n", passwd1="", pool2="", worker2=""
    )
    settled(clock, 60)
    urls = [row["URL"] for row in read(device, "pools")["POOLS"]]
    assert urls == ["stratum+tcp://n:1", "", ""]
    assert [w.pools for w in world.ledger] == [("x",), ("stratum+tcp://n:1",)]


def test_a_percentage_is_lost_with_the_next_start() -> None:
    world, clock = a_world()
    device = a_whatsminer(world)
    Writer(device).send("set_power_pct", percent="50")
    settled(clock, 30)
    assert device.machine.sample().drawn_w < 1800
    Writer(device).send("restart_btminer")
    settled(clock)
    assert device.machine.sample().drawn_w > 3300


def test_while_the_miner_restarts_reads_are_refused_in_plain_text() -> None:
    world, _ = a_world()
    device = a_whatsminer(world)
    Writer(device).send("restart_btminer")
    assert rpc(device, {"cmd": "summary"}) == b"Socket connect failed: Connection refused\n"
    assert msgspec.json.decode(rpc(device, {"cmd": "status"}))["STATUS"] == "S"


def test_old_firmware_prints_error_codes_that_are_not_json() -> None:
    world, _ = a_world()
    device = a_whatsminer(world, build=V2023_08)
    device.machine.kill_board(1)
    text = rpc(device, {"cmd": "get_error_code"})
    assert b'["541":' in text
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(text)


class HeldUpClock(ManualSimClock):
    """A process that is held up at every look at the clock, as a busy machine does at a large scale."""

    def device_s(self) -> float:
        self.now += 60.0
        return super().device_s()


def test_a_busy_process_wakes_no_sleeping_machine() -> None:
    world = World(HeldUpClock(), epoch_s=1_790_000_000.0)
    device = a_whatsminer(world, asleep=True)
    writer = Writer(device)
    for _ in range(20):
        read(device, "summary")
    assert device.machine.asleep
    assert writer.send("set_led", param="auto") is not None, "its token still holds"
