"""A simulated LuxOS unit on the wire: what it tells, what wants a session, and what a write does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from control_plane.simulator.ledger import Direction
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_profiles import mode_of, profiles_of, step_of
from control_plane.simulator.luxos_settings import READS
from control_plane.simulator.luxos_unit import BUILDS, V2024_02, V2026_04, Atm, Build, Pool
from control_plane.simulator.luxos_writes import OPEN, PRIVILEGED
from control_plane.simulator.machine import Phase, World, seed_of
from tests.simulator.making import LUX_S21, a_machine, a_world, read, rpc

POOLS = (
    Pool("stratum+tcp://a.pool:3333", "acct.w1", "x"),
    Pool("stratum+tcp://b.pool:3333", "acct.w1", "x"),
)


def a_luxos(
    world: World,
    *,
    pools: tuple[Pool, ...] = POOLS,
    build: Build = V2026_04,
    atm: Atm | None = None,
    autosave: bool = True,
    **more: Any,
) -> LuxOs:
    machine = a_machine(world, LUX_S21, "L-1", **more)
    return LuxOs(machine, pools=pools, build=build, atm=atm, autosave=autosave)


def send(device: LuxOs, command: str, parameter: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(
        rpc(device, {"command": command, "parameter": parameter})
    )
    return answer


def code(answer: dict[str, Any]) -> tuple[str, int]:
    return answer["STATUS"][0]["STATUS"], answer["STATUS"][0]["Code"]


class Writer:
    """A client with a session."""

    def __init__(self, device: LuxOs) -> None:
        self.device = device
        self.session = send(device, "logon")["SESSION"][0]["SessionID"]

    def __call__(self, command: str, *values: str) -> tuple[str, int]:
        return code(send(self.device, command, ",".join((self.session, *values))))


# -- reading -----------------------------------------------------------------------------------------


def test_every_read_has_its_data_a_status_and_an_id() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    for name in READS:
        answer = read(device, name)
        assert code(answer)[0] == "S", name
        assert answer["STATUS"][0]["Description"].startswith("LUXminer 2026.4.3"), name
        assert answer["id"] == 1
        assert set(answer) - {"STATUS", "id"}, name


def test_reads_are_joined_and_one_that_is_not_there_fails_alone() -> None:
    world, _ = a_world()
    joined = read(a_luxos(world), "summary+nonsense+power")
    assert list(joined) == ["summary", "nonsense", "power", "id"]
    assert code(joined["nonsense"][0]) == ("E", 14)
    assert abs(joined["power"][0]["POWER"][0]["Watts"] / 3500 - 1) < 0.09
    assert 190e3 < joined["summary"][0]["SUMMARY"][0]["GHS 5s"] < 210e3


def test_what_writes_cannot_be_joined() -> None:
    world, _ = a_world()
    joined = read(a_luxos(world), "addpool+curtail+version")
    assert [code(joined[name][0])[0] for name in ("addpool", "curtail", "version")] == [
        "E",
        "E",
        "S",
    ]
    assert len(world.ledger) == 0


def test_the_same_name_is_not_the_same_watts_on_another_unit() -> None:
    """Profiles are made of each unit's EEPROM."""
    ladders = [profiles_of(LUX_S21, seed_of(f"L-{n}")) for n in range(40)]
    for ladder in ladders:
        assert list(ladder) == list(range(-16, 9))
        assert ladder[0].name == "default"
        watts = [profile.watts for profile in ladder.values()]
        assert watts == sorted(watts)
        assert ladder[1].mhz - ladder[0].mhz == 25
    by_name: dict[str, set[float]] = {}
    for ladder in ladders:
        for profile in ladder.values():
            by_name.setdefault(profile.name, set()).add(profile.watts)
    assert all(len(watts) > 10 for name, watts in by_name.items() if name == "default")
    spread = [max(w) / min(w) for w in by_name.values() if len(w) > 5]
    assert max(spread) > 1.08  # Another nameplate besides other watts.


def test_the_ladder_of_a_type_goes_through_its_declared_steps() -> None:
    ladder = profiles_of(LUX_S21, seed_of("L-1"))
    own = ladder[0].watts / 3500
    assert ladder[-4].watts == pytest.approx(2800 * own, abs=2)
    assert ladder[-2].watts == pytest.approx(3150 * own, abs=2)
    assert ladder[-4].hashrate_ths == 163.0


@pytest.mark.parametrize("mode", ["normal", "under-4", "over-2"])
def test_words_for_steps_go_both_ways(mode: str) -> None:
    step = step_of(mode)
    assert step is not None
    assert mode_of(step) == mode
    assert step_of("low") is None


# -- sessions ----------------------------------------------------------------------------------------


def test_one_session_lives_at_a_time_and_anyone_is_told_its_id() -> None:
    world, clock = a_world()
    device = a_luxos(world)
    writer = Writer(device)
    assert code(send(device, "logon")) == ("E", 402)
    assert send(device, "session")["SESSION"][0]["SessionID"] == writer.session
    clock.advance(59)
    assert writer("ledset", "red", "blink") == ("S", 331)  # Using it makes it live on.
    clock.advance(59)
    assert code(send(device, "logon")) == ("E", 402)
    clock.advance(2)
    assert code(send(device, "logon")) == ("S", 316)


def test_a_session_ends_by_logoff_by_a_boot_and_by_a_restart() -> None:
    world, clock = a_world()
    device = a_luxos(world)
    writer = Writer(device)
    assert writer("logoff") == ("S", 318)
    assert writer("curtail", "sleep") == ("E", 401)
    for command in ("rebootdevice", "resetminer"):
        assert Writer(device)(command)[0] == "S"
        clock.advance(200)
        assert send(device, "session")["SESSION"][0]["SessionID"] == ""


@pytest.mark.parametrize("command", sorted(PRIVILEGED))
def test_without_a_session_nothing_privileged_happens(command: str) -> None:
    world, _ = a_world()
    device = a_luxos(world)
    assert code(send(device, command)) == ("E", 400)
    assert code(send(device, command, "abcdefgh,sleep")) == ("E", 401)
    assert not any(write.honoured for write in world.ledger)


def test_pools_ask_for_no_session() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    assert code(send(device, "addpool", "stratum+tcp://thief:1,thief,x")) == ("S", 55)
    assert code(send(device, "switchpool", "2")) == ("S", 27)
    assert device.unit.pools[0].worker == "thief"
    assert device.unit.active_pools() == {0}
    assert all(write.honoured for write in world.ledger)


# -- pools and groups --------------------------------------------------------------------------------


def test_the_pool_in_use_and_the_last_one_cannot_be_removed() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    assert code(send(device, "removepool", "0")) == ("E", 67)
    assert code(send(device, "removepool", "1")) == ("S", 68)
    assert code(send(device, "removepool", "0")) == ("E", 66)
    assert code(send(device, "removepool", "7")) == ("E", 26)


def test_a_group_has_pools_and_a_share_and_goes_with_its_pools() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    assert code(send(device, "addgroup", "two,3"))[0] == "S"
    assert code(send(device, "addpool", "stratum+tcp://c.pool:1,w,,1")) == ("S", 55)
    rows = read(device, "pools")["POOLS"]
    assert [(r["POOL"], r["GROUP"], r["Priority"], r["Quota"]) for r in rows] == [
        (0, 0, 0, 1.0),
        (1, 0, 1, 1.0),
        (2, 1, 0, 3.0),
    ]
    assert [r["Stratum Active"] for r in rows] == [True, False, True]
    assert code(send(device, "removegroup", "1"))[0] == "S"
    assert [row["GROUP"] for row in read(device, "pools")["POOLS"]] == [0, 0]
    assert code(send(device, "removegroup", "0"))[0] == "S"
    assert read(device, "pools")["POOLS"] == []
    assert device.machine.sample().hashrate_ths == 0.0


@pytest.mark.parametrize("command", sorted(OPEN))
@pytest.mark.parametrize("parameter", ["", "x", "-1", "9", ",", ",,", "a,b,c,9", "1,2,3,4,5"])
def test_odd_parameters_change_nothing(command: str, parameter: str) -> None:
    world, _ = a_world()
    device = a_luxos(world)
    before = device.unit.kept
    if command == "addgroup" or code(send(device, command, parameter))[0] == "E":
        assert device.unit.kept == before


# -- curtailment -------------------------------------------------------------------------------------


def test_sleep_is_quick_outlives_a_boot_and_waking_ramps_like_one() -> None:
    world, clock = a_world()
    device = a_luxos(world)
    assert Writer(device)("curtail", "sleep") == ("S", 335)
    clock.advance(6)
    assert device.machine.sample().drawn_w < 30
    assert read(device, "config")["CONFIG"][0]["CurtailMode"] == "Sleep"
    device.unit.reboot()
    clock.advance(300)
    assert device.machine.sample().phase is Phase.SLEEPING
    assert Writer(device)("curtail", "wakeup") == ("S", 335)
    clock.advance(60)
    assert device.machine.sample().hashrate_ths < 100
    clock.advance(400)
    assert device.machine.sample().hashrate_ths == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize(("boots", "quick"), [(False, True), (True, False)])
def test_the_unsafe_wakeup_is_quick_but_not_after_a_boot_in_sleep(
    *, boots: bool, quick: bool
) -> None:
    world, clock = a_world()
    device = a_luxos(world)
    Writer(device)("curtail", "sleep")
    clock.advance(70)
    if boots:
        device.unit.reboot()
        clock.advance(200)
    Writer(device)("curtail", "wakeup", "mode=unsafe")
    clock.advance(12)
    assert (device.machine.sample().hashrate_ths > 190) is quick


def test_curtailing_twice_is_refused_and_directions_stand_in_the_ledger() -> None:
    world, _ = a_world()
    writer = Writer(a_luxos(world))
    told = [writer("curtail", word)[0] for word in ("wakeup", "sleep", "sleep", "wakeup", "nap")]
    assert told == ["E", "S", "E", "S", "E"]
    assert [w.direction for w in world.ledger if w.honoured] == [Direction.LOWER, Direction.RAISE]


def test_a_boot_board_ramps_only_once_it_hashes() -> None:
    world, clock = a_world()
    device = a_luxos(world)
    device.unit.restart()
    assert device.accept(4028, "x") is None
    clock.advance(10)
    assert not any(row["IsRamping"] for row in read(device, "devs")["DEVS"])
    clock.advance(60)
    assert all(row["IsRamping"] for row in read(device, "devs")["DEVS"])
    clock.advance(600)
    assert not any(row["IsRamping"] for row in read(device, "devs")["DEVS"])
    assert read(device, "summary")["SUMMARY"][0]["Elapsed"] == 670


# -- profiles and ATM --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "mode"),
    [
        ("default", "normal"),
        ("-2", "under-2"),
        ("+1", "over-1"),
        ("2900W", "under-4"),
        ("2.9kW", "under-4"),
        ("182.0THs", "under-2"),
        ("0,-3", "under-3"),
    ],
    ids=["name", "down", "up", "watts", "kilowatts", "hash", "with a board of old"],
)
def test_a_profile_is_set_by_whatever_names_it(selector: str, mode: str) -> None:
    world, clock = a_world()
    device = a_luxos(world)
    assert Writer(device)("profileset", *selector.split(",")) == ("S", 321)
    clock.advance(200)
    assert device.machine.step.name == mode
    assert device.machine.sample().drawn_w == pytest.approx(device.profile.watts, rel=0.01)


def test_a_profile_that_is_not_there_is_refused() -> None:
    world, _ = a_world()
    writer = Writer(a_luxos(world))
    for selector in ("turbo", "+9", "10W", "", "3"):
        assert writer("profileset", selector) == ("E", 412), selector


@pytest.mark.parametrize("autosave", [True, False])
def test_without_autosave_a_boot_forgets_all_but_sleep(*, autosave: bool) -> None:
    world, clock = a_world()
    device = a_luxos(world, autosave=autosave)
    writer = Writer(device)
    writer("profileset", "-4")
    writer("curtail", "sleep")
    send(device, "addpool", "stratum+tcp://c.pool:1,w,x")
    device.unit.reboot()
    clock.advance(200)
    row = read(device, "config")["CONFIG"][0]
    assert row["CurtailMode"] == "Sleep"
    assert row["ProfileStep"] == ("-4" if autosave else "0")
    assert row["Pool Count"] == (3 if autosave else 2)


def test_atm_climbs_from_a_pinned_profile_to_its_ceiling() -> None:
    """It fights whoever pins one."""
    world, clock = a_world()
    device = a_luxos(world, atm=Atm(enabled=True, max_step=0))
    Writer(device)("profileset", "-4")
    seen = []
    for _ in range(6):
        clock.advance(15 * 60)
        seen.append(read(device, "config")["CONFIG"][0]["ProfileStep"])
    assert seen == ["-3", "-2", "-1", "0", "0", "0"]
    assert len([w for w in world.ledger if w.kind == "profileset"]) == 1


def test_atm_steps_down_in_heat_to_its_floor_and_not_while_it_sleeps() -> None:
    world, clock = a_world()
    device = a_luxos(world, atm=Atm(enabled=True, min_step=-2))
    device.unit.heat_c = 40.0
    for _ in range(5):
        clock.advance(20 * 60)
        read(device, "config")
    assert device.unit.kept.step == -2
    device.unit.heat_c = 0.0
    device.unit.sleep()
    clock.advance(7200)
    read(device, "config")
    assert device.unit.kept.step == -2


def test_atm_is_set_key_by_key_and_nonsense_changes_nothing() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    writer = Writer(device)
    assert writer("atmset", "enabled=true", "max_profile=-2", "min_profile=") == ("S", 340)
    row = read(device, "atm")["ATM"][0]
    assert (row["Enabled"], row["MaxProfileStep"], row["MinProfile"]) == (True, "-2", "")
    before = device.unit.kept
    for setting in ("enabled=yes", "max_profile=turbo", "startup_minutes=-1", "x=1", ""):
        assert writer("atmset", setting)[0] == "E", setting
    assert device.unit.kept == before


def test_older_builds_name_the_bounds_of_atm_only() -> None:
    world, _ = a_world()
    row = read(a_luxos(world, build=V2024_02), "atm")["ATM"][0]
    assert row["MaxProfile"] == "default"
    assert "MaxProfileStep" not in row


# -- odd machines ------------------------------------------------------------------------------------


def test_a_machine_that_disobeys_acknowledges_and_stays_as_it_is() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    device.machine.obeys = False
    before = device.unit.kept
    assert Writer(device)("profileset", "-4") == ("S", 321)
    assert code(send(device, "addpool", "stratum+tcp://c.pool:1,w,x")) == ("S", 55)
    assert device.unit.kept == before
    assert not any(write.honoured for write in world.ledger)


def test_a_dead_board_and_a_missing_one_are_told_apart() -> None:
    world, clock = a_world()
    device = a_luxos(world, missing_boards=1)
    device.machine.kill_board(0)
    clock.advance(600)
    rows = read(device, "devs")["DEVS"]
    assert [(row["ID"], row["Status"]) for row in rows] == [(0, "Dead"), (1, "Alive")]
    assert [row["Chips"] for row in read(device, "devdetails")["DEVDETAILS"]] == [0, 108]


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_version_tells_the_build(build: Build) -> None:
    world, _ = a_world()
    row = read(a_luxos(world, build=replace(build)), "version")["VERSION"][0]
    assert (row["LUXminer"], row["Miner"]) == (build.name, build.version)


def test_a_request_that_is_none_is_answered() -> None:
    world, _ = a_world()
    device = a_luxos(world)
    assert code(msgspec.json.decode(rpc(device, b"version}")))[1] == 23
    assert code(msgspec.json.decode(rpc(device, {"parameter": "1"})))[1] == 24
    assert code(send(device, "voltageget")) == ("E", 400)
    assert code(send(device, "voltageget", "9")) == ("E", 400)
    assert code(send(device, "voltageget", "1")) == ("S", 307)
    assert device.accept(80, "x") is None
