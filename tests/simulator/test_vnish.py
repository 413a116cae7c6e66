"""What a simulated VNish shows on its wire, and what it does by itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.ledger import Direction
from control_plane.simulator.site import SimSite, Target, Truth
from control_plane.simulator.vnish_auth import LOCKOUT_S, TOKEN_LIFE_S
from control_plane.simulator.vnish_builds import (
    HEALTH_S,
    TUNE_S,
    V1_2_6,
    V1_3_3,
    V1_3_4,
    Build,
    Locked,
)
from control_plane.simulator.vnish_conf import Conf, Pool, Rejected, merge
from tests.simulator.floors import S19_VNISH, a_rack_of
from tests.simulator.making import a_world, read
from tests.simulator.vnishes import ALL, POOLS, S19_HYDRO, Api, a_vnish

OFF_LADDER = {"preset": "2100"}
SWITCHER = {"enabled": True, "top_preset": "3200", "min_preset": "1900"}
FULL_S = 700.0
"""A start of the mining process and its whole ramp."""


# -- pages ---------------------------------------------------------------------------------------------


def test_anybody_may_look_and_the_front_page_names_anthill_os() -> None:
    world, _ = a_world()
    api = Api(a_vnish(world), unlock=False)
    status, page = api.send("GET", "/")
    assert (status, b"AnthillOS" in page) == (200, True)
    for name in ("info", "status", "summary", "perf-summary", "chains", "metrics"):
        api.get(name)
    for name in ("settings", "autotune/presets", "apikeys"):
        assert api.send("GET", f"/api/v1/{name}") == (401, b"")


def test_summary_counts_in_gigahashes_and_lists_the_makers_pool_last() -> None:
    world, _ = a_world()
    told = Api(a_vnish(world)).get("summary")["miner"]
    assert told["hr_realtime"] == pytest.approx(99_000, rel=0.03)
    assert told["miner_type"] == "Antminer S19 (Vnish 1.3.3)"
    assert [chain["id"] for chain in told["chains"]] == [1, 2, 3]
    assert [row["pool_type"] for row in told["pools"]] == ["UserPool", "UserPool", "DevFee"]
    assert [row["url"] for row in told["pools"]] == ["a.pool:3333", "b.pool:3333", "DevFee"]
    assert told["miner_status"]["miner_state"] == "mining"


def test_settings_print_three_slots_and_urls_without_a_scheme() -> None:
    world, _ = a_world()
    told = Api(a_vnish(world)).get("settings")["miner"]
    assert [slot["url"] for slot in told["pools"]] == ["a.pool:3333", "b.pool:3333", ""]
    assert told["overclock"]["preset"] == "2950"


@pytest.mark.parametrize("build", [V1_2_6, V1_3_3])
def test_power_usage_meant_watts_once(build: Build) -> None:
    world, _ = a_world()
    told = Api(a_vnish(world, build=build)).get("summary")["miner"]
    means_watts = told["power_usage"] == told["power_consumption"]
    assert means_watts is build.usage_is_watts
    assert ("throttled" in told["miner_status"]) is build.has_throttle


def test_a_dead_board_is_a_failed_chain_and_a_missing_one_is_no_chain() -> None:
    world, _ = a_world()
    device = a_vnish(world, missing_boards=1)
    device.machine.kill_board(0)
    chains = Api(device).get("chains")
    assert [chain["id"] for chain in chains] == [1, 2]
    assert chains[0]["status"]["state"] == "failure"


def test_4028_reads_and_joins_and_its_version_names_no_antminer() -> None:
    world, _ = a_world()
    device = a_vnish(world)
    version = read(device, "version")
    assert "VNISH" in str(version)
    assert "ANTMINER" not in str(version).upper()
    joined = read(device, "summary+pools")
    assert joined["summary"][0]["SUMMARY"][0]["GHS 5s"] == pytest.approx(99_000, rel=0.03)
    urls = [row["URL"] for row in joined["pools"][0]["POOLS"]]
    assert urls == ["stratum+tcp://a.pool:3333", "stratum+tcp://b.pool:3333"]
    assert read(device, "addpool")["STATUS"][0]["STATUS"] == "E"


# -- who may ---------------------------------------------------------------------------------------------


def test_a_wrong_password_is_403_and_five_of_them_close_the_door_for_a_while() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    api = Api(device, unlock=False)
    for _ in range(5):
        assert api.post("unlock", {"pw": "guess"})[0] == 403
    assert api.post("unlock", {"pw": "admin"})[0] == 429
    clock.advance(LOCKOUT_S + 1)
    assert api.post("unlock", {"pw": "admin"})[0] == 200


def test_tokens_die_unused_and_with_a_boot_and_keys_do_not() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    api = Api(device)
    assert api.post("apikeys", {"key": "k" * 31, "description": "short"})[0] == 400
    assert api.post("apikeys", {"key": "k" * 32, "description": "ours"})[1] == {
        "status": "inserted"
    }
    clock.advance(TOKEN_LIFE_S / 2)
    api.get("settings")
    clock.advance(TOKEN_LIFE_S / 2 + 1)
    api.get("settings")
    clock.advance(TOKEN_LIFE_S + 1)
    assert api.send("GET", "/api/v1/settings")[0] == 401
    api = Api(device)
    api.post("system/reboot")
    clock.advance(200)
    assert api.send("GET", "/api/v1/settings")[0] == 401
    api.headers = {"x-api-key": "k" * 32}
    api.get("settings")


def test_a_bare_token_will_do_but_not_below_system() -> None:
    world, _ = a_world()
    api = Api(a_vnish(world))
    api.headers = {"Authorization": api.headers["Authorization"].removeprefix("Bearer ")}
    api.get("settings")
    assert api.post("system/reboot")[0] == 401


def test_a_build_may_hide_workers_or_refuse_the_summary_to_who_has_not_unlocked() -> None:
    world, _ = a_world()
    device = a_vnish(world, build=V1_3_4)
    (first, *_) = Api(device, unlock=False).get("summary")["miner"]["pools"]
    assert first["user"] == "*****"
    assert Api(device).get("summary")["miner"]["pools"][0]["user"] == "acct.r1"
    closed = msgspec.structs.replace(V1_3_3, summary=Locked.REFUSED)
    api = Api(a_vnish(world, build=closed), unlock=False)
    assert api.send("GET", "/api/v1/summary")[0] == 401


def test_a_write_without_a_token_changes_nothing_and_stands_in_the_ledger() -> None:
    world, _ = a_world()
    api = Api(a_vnish(world), unlock=False)
    for name in ("settings", "mining/stop", "system/reboot"):
        assert api.post(name, {})[0] == 401
    assert [write.honoured for write in world.ledger] == [False] * 3
    assert api.state == "mining"


def test_a_new_password_takes_the_old_one_and_ends_every_session() -> None:
    world, _ = a_world()
    device = a_vnish(world)
    api = Api(device)
    assert api.post("settings", {"password": {"current": "no", "pw": "new"}})[0] == 400
    assert api.post("settings", {"password": {"current": "admin", "pw": "new"}})[0] == 200
    assert api.send("GET", "/api/v1/settings")[0] == 401
    assert device.machine.password == "new"


# -- presets ---------------------------------------------------------------------------------------------


def test_a_preset_off_the_ladder_is_refused_or_forgotten_by_build() -> None:
    world, _ = a_world()
    for build, status in ((V1_3_3, 400), (V1_2_6, 200)):
        api = Api(a_vnish(world, build=build))
        assert api.save(overclock=OFF_LADDER)[0] == status
        assert api.get("settings")["miner"]["overclock"]["preset"] == "2950"


def test_a_tuned_preset_restarts_mining_and_then_runs() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    api = Api(device)
    status, told = api.save(overclock={"preset": "2350"})
    assert (status, told) == (200, {"restart_required": False, "reboot_required": False})
    assert api.get("summary") == {"miner": None}
    clock.advance(15)
    assert api.state == "initializing"
    clock.advance(FULL_S)
    assert api.state == "mining"
    assert device.machine.sample().drawn_w == pytest.approx(2350, rel=0.02)
    assert device.machine.sample().hashrate_ths == pytest.approx(85, rel=0.02)


def test_an_untuned_preset_is_tuned_for_hours_and_is_tuned_afterwards() -> None:
    world, clock = a_world()
    device = a_vnish(world, tuned=("2950",))
    api = Api(device)
    api.save(overclock={"preset": "2350"})
    clock.advance(TUNE_S[0] - 10)
    assert api.state == "auto-tuning"
    assert device.machine.sample().hashrate_ths < 80
    clock.advance(TUNE_S[1])
    api.get("status")
    clock.advance(FULL_S)
    assert api.state == "mining"
    assert device.machine.sample().hashrate_ths == pytest.approx(85, rel=0.02)
    told = {row["name"]: row["status"] for row in Api(device).get("autotune/presets")}
    assert (told["2350"], told["1900"], told["disabled"]) == ("tuned", "untuned", "untuned")


def test_heat_moves_it_down_and_cold_up_again_while_the_configured_preset_stays() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    api = Api(device)
    api.save(overclock={"preset_switcher": SWITCHER})
    device.unit.inlet_c = 45.0
    clock.advance(301)
    assert api.get("perf-summary")["current_preset"]["name"] == "2350"
    assert api.get("settings")["miner"]["overclock"]["preset"] == "2950"
    device.unit.inlet_c = 0.0
    for _ in range(4):
        clock.advance(301)
        api.get("status")
    assert api.get("perf-summary")["current_preset"]["name"] == "3200"


def test_a_lower_top_is_obeyed_at_once() -> None:
    world, _ = a_world()
    api = Api(a_vnish(world))
    api.save(overclock={"preset_switcher": {**SWITCHER, "top_preset": "2350"}})
    assert api.get("perf-summary")["current_preset"]["name"] == "2350"


def test_a_switcher_that_may_go_higher_counts_as_a_raise_in_the_ledger() -> None:
    world, _ = a_world()
    api = Api(a_vnish(world))
    api.save(overclock={"preset_switcher": SWITCHER})
    api.save(overclock={"preset": "2350", "preset_switcher": {"top_preset": "2350"}})
    assert [write.direction for write in world.ledger] == [Direction.RAISE, Direction.LOWER]


def test_a_throttle_takes_20_to_100_and_ends_with_a_restart() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    api = Api(device)
    assert api.post("mining/throttle", {"percent": 19})[0] == 400
    assert api.post("mining/throttle", {"percent": 50})[0] == 200
    clock.advance(300)
    assert device.machine.sample().drawn_w == pytest.approx(25 + 2925 / 2, rel=0.02)
    assert api.get("summary")["miner"]["miner_status"]["throttled"] == 50
    api.post("mining/restart")
    clock.advance(FULL_S)
    assert device.machine.sample().drawn_w == pytest.approx(2950, rel=0.02)
    old = Api(a_vnish(world, build=V1_2_6, asset="A-2"))
    assert old.post("mining/throttle", {"percent": 50})[0] == 404


# -- pools -----------------------------------------------------------------------------------------------


def test_posted_pools_replace_the_list_and_lose_their_scheme() -> None:
    world, _ = a_world()
    device = a_vnish(world)
    api = Api(device)
    api.save(pools=[{"url": "stratum+tcp://c.pool:1", "user": "w", "pass": "p"}])
    assert [slot["url"] for slot in api.get("settings")["miner"]["pools"]] == ["c.pool:1", "", ""]
    assert api.get("summary")["miner"]["pools"][0]["url"] == "c.pool:1"
    assert device.machine.sample().hashrate_ths > 90


def test_on_some_builds_pools_wait_for_a_restart_and_it_says_so() -> None:
    world, clock = a_world()
    api = Api(a_vnish(world, build=V1_3_4))
    _, told = api.save(pools=[{"url": "c.pool:1", "user": "w", "pass": "p"}])
    assert told == {"restart_required": True, "reboot_required": False}
    assert api.get("summary")["miner"]["pools"][0]["url"] == "a.pool:3333"
    api.post("mining/restart")
    clock.advance(10)
    assert api.get("summary")["miner"]["pools"][0]["url"] == "c.pool:1"
    assert api.get("status")["restart_required"] is False


def test_without_a_pool_it_draws_power_for_nothing() -> None:
    world, _ = a_world()
    device = a_vnish(world)
    Api(device).save(pools=[])
    sample = device.machine.sample()
    assert (sample.hashrate_ths, sample.drawn_w > 2000) == (0.0, True)


def test_switching_pools_is_by_id_and_lasts_until_mining_restarts() -> None:
    world, clock = a_world()
    api = Api(a_vnish(world))
    assert api.post("mining/switch-pool", {"pool_id": 9}) == (500, {"err": "Could not find pool"})
    assert api.post("mining/switch-pool", {"pool_id": 1})[0] == 200
    assert [row["status"] for row in api.get("summary")["miner"]["pools"]][:2] == [
        "working",
        "active",
    ]
    api.post("mining/restart")
    clock.advance(FULL_S)
    assert api.get("summary")["miner"]["pools"][0]["status"] == "active"


# -- stopping and starting -------------------------------------------------------------------------------


@pytest.mark.parametrize(("build", "body"), [(V1_2_6, b""), (V1_3_3, b"{}")])
def test_stop_answers_by_build_and_a_second_one_fails(build: Build, body: bytes) -> None:
    world, clock = a_world()
    device = a_vnish(world, build=build)
    api = Api(device)
    assert api.send("POST", "/api/v1/mining/stop") == (200, body)
    assert api.state == "shutting-down"
    clock.advance(60)
    assert api.state == "stopped"
    assert device.machine.sample().drawn_w == pytest.approx(25, rel=0.02)
    status, told = api.post("mining/stop")
    assert (status, "failed-to-activate-pause-mode" in told["err"]) == (500, True)
    assert api.post("mining/start")[0] == 200
    clock.advance(FULL_S)
    assert api.state == "mining"


@pytest.mark.parametrize("stays", [False, True])
def test_a_boot_ends_a_stop_unless_it_is_told_to_stay(stays: bool) -> None:
    world, clock = a_world()
    api = Api(a_vnish(world))
    api.save(misc={"remain_stopped_on_reboot": stays})
    api.post("mining/stop")
    clock.advance(60)
    assert api.post("system/reboot")[1] == {"after": 3}
    assert any(reply.reset for reply in api.replies)
    clock.advance(100)
    api = Api(api.device)
    api.get("status")
    clock.advance(FULL_S)
    assert api.state == ("stopped" if stays else "mining")


def test_water_that_is_too_cold_holds_back_a_start() -> None:
    world, clock = a_world()
    device = a_vnish(world, model=S19_HYDRO)
    api = Api(device)
    api.post("mining/stop")
    clock.advance(60)
    device.unit.inlet_c = 5.0
    api.post("mining/start")
    clock.advance(FULL_S)
    assert api.get("status")["description"] == "Waiting for the water to warm up"
    assert device.machine.sample().drawn_w < 30
    device.unit.inlet_c = 25.0
    api.get("status")
    clock.advance(FULL_S)
    assert api.state == "mining"
    assert api.get("summary")["miner"]["cooling"]["min_startup_water_temp"] == 20


def test_too_little_hash_is_restarted_three_times_and_then_given_up() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    device.machine.kill_board(0)
    device.machine.kill_board(1)
    api = Api(device)
    restarts = 0
    for _ in range(200):
        clock.advance(60)
        if api.state == "failure":
            break
        restarts = max(restarts, device.unit.attempts)
    told = api.get("status")
    assert restarts == 3
    assert (told["failure_code"], told["miner_state"]) == (1003, "failure")
    clock.advance(60)
    assert device.machine.sample().drawn_w < 30
    assert clock.device_s() > 1000 + 4 * HEALTH_S[0]
    assert Api(device).post("mining/start")[0] == 200


def test_too_much_heat_is_restarted() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    device.unit.inlet_c = 70.0
    assert Api(device).get("status")
    clock.advance(1)
    assert device.unit.attempts == 1


def test_one_that_does_not_obey_acknowledges_all_the_same() -> None:
    world, clock = a_world()
    device = a_vnish(world)
    device.machine.obeys = False
    api = Api(device)
    assert api.post("mining/stop")[0] == 200
    assert api.save(overclock={"preset": "1900"})[0] == 200
    clock.advance(60)
    assert (api.state, device.unit.conf.preset) == ("mining", "2950")


# -- hostile ---------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PARTS = ("pools", "overclock", "misc", "cooling", "preset", "preset_switcher", "mode", "globals")


@given(
    st.dictionaries(st.sampled_from(PARTS), JSON | st.dictionaries(st.sampled_from(PARTS), JSON))
)
def test_any_document_is_refused_or_leaves_settings_that_can_be_read(miner: object) -> None:
    was = Conf(pools=(*POOLS, Pool()), preset="2950")
    try:
        conf = merge(was, miner, presets=ALL, refuses=True)
    except Rejected:
        return
    assert len(conf.pools) == 3
    assert conf.preset in {*ALL, "disabled"}
    assert conf.cooling.mode in {"auto", "manual", "immers"}


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(text: bytes) -> None:
    world, _ = a_world()
    device = a_vnish(world)
    for port in (80, 4028):
        session = device.accept(port, "127.0.0.9")
        assert session is not None
        session.feed(text)
        session.feed(b"POST /api/v1/settings HTTP/1.1\r\n\r\n" + text)


# -- floors ----------------------------------------------------------------------------------------------


def a_floor() -> tuple[SimSite, ManualSimClock]:
    clock = ManualSimClock(1000.0)
    return build_site(a_rack_of(S19_VNISH, firmware="1.3.4"), clock=clock), clock


def test_a_declared_rack_is_built_as_declared() -> None:
    site, _ = a_floor()
    for asset in site.stations:
        truth = site.truth(asset)
        assert (truth.family, truth.mode, truth.mining) == ("vnish", "2950", True)
        assert [url for url, _ in truth.pools] == ["a.pool:3333", "b.pool:3333"]
        told = Api(site.device(asset), unlock=False).get("info")  # type: ignore[arg-type]
        assert (told["miner"], told["fw_version"]) == ("Antminer S19", "1.3.4")
        assert told["system"]["network_status"]["dhcp"] is False


@pytest.mark.parametrize(
    ("kind", "shows"),
    [
        (
            FaultKind.HIJACK,
            lambda truth: truth.pools == (("pool.attacker.example:3333", "thief.1"),),
        ),
        (FaultKind.LOWER, lambda truth: truth.mode == "2350"),
        (FaultKind.RAISE, lambda truth: truth.mode == "3200"),
        (FaultKind.STOP, lambda truth: truth.drawn_w < 30),
        (FaultKind.REBOOT, lambda truth: truth.boots == 1),
        (FaultKind.POWER_OFF, lambda truth: truth.drawn_w == 0),
        (FaultKind.DEAD_POOL, lambda truth: truth.hashrate_ths == 0 and truth.drawn_w > 2000),
        (FaultKind.DEAD_BOARD, lambda truth: truth.alive_boards == 2),
        (FaultKind.WRONG_IDENTITY, lambda truth: truth.mac.startswith("06:")),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_the_menu_of_faults_is_served_here_too(
    kind: FaultKind, shows: Callable[[Truth], bool]
) -> None:
    site, clock = a_floor()
    assert not shows(site.truth("M-000-001"))
    assert inject(site, Fault(kind=kind, target=Target(asset="M-000-001"))) == ("M-000-001",)
    clock.advance(60)
    assert shows(site.truth("M-000-001"))
    assert not shows(site.truth("M-000-002"))
