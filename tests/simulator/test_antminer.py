"""A simulated stock Antminer, byte by byte: what it tells, what it takes, and its traps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.simulator.antminer_builds import (
    BUILDS,
    S19_2021,
    S19_2022,
    S19_2023,
    S19XP_2023,
    S21_2024,
    S21_2025,
    Build,
)
from control_plane.simulator.ledger import Direction
from control_plane.simulator.machine import Phase
from tests.simulator.making import POOLS, Web, a_world, an_antminer, digest, read, rpc

FULL = {
    "bitmain-fan-ctrl": False,
    "bitmain-fan-pwm": "100",
    "pools": [{"url": p.url, "user": p.user, "pass": p.password} for p in POOLS],
}


def test_version_tells_type_and_build_but_neither_mac_nor_serial() -> None:
    world, _ = a_world()
    reply = read(an_antminer(world), "version")
    assert reply["VERSION"][0]["Type"] == "Antminer S21"
    assert reply["VERSION"][0]["CompileTime"] == S21_2024.compile_time
    assert "SN0001" not in str(reply)
    assert "02:00" not in str(reply)


def test_every_rpc_reply_ends_in_nul_and_closes() -> None:
    world, _ = a_world()
    session = an_antminer(world).accept(4028, "127.0.0.9")
    assert session is not None
    assert session.feed(b'{"command":') == ()
    (reply,) = session.feed(b'"summary"}')
    assert reply.data.endswith(b"}\0")
    assert reply.close


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"command": "summary+stats"}, 14),
        ({"command": "devdetails"}, 14),
        ({"command": "privileged"}, 45),
        ({"command": "addpool", "parameter": "stratum+tcp://x:1,a,b"}, 45),
        ({"cmd": "summary"}, 24),
        (b"stats|", 0),
        (b"{nonsense}", 23),
    ],
    ids=["joined", "unknown", "privileged", "write", "no command", "text waits", "not JSON"],
)
def test_what_4028_does_not_do_is_refused_in_its_words(
    command: dict[str, object] | bytes, code: int
) -> None:
    world, _ = a_world()
    text = rpc(an_antminer(world), command)
    assert (msgspec.json.decode(text)["STATUS"][0]["Code"] if text else 0) == code


def test_watts_come_with_new_api_at_the_top_only() -> None:
    world, _ = a_world()
    device = an_antminer(world)
    top = read(device, "stats", new_api=True)
    nested = read(device, "stats", parameter={"new_api": True})
    assert abs(top["STATS"][0]["watt"] - 3500) < 250
    assert top["STATUS"]["STATUS"] == "S"
    assert "watt" not in nested["STATS"][1]
    assert nested["STATS"][1]["GHS 5s"] > 190_000
    old = read(an_antminer(world, build=S19_2022), "stats", new_api=True)
    assert "watt" not in old["STATS"][0]


def test_oldest_build_leaves_out_a_comma() -> None:
    world, _ = a_world()
    text = rpc(an_antminer(world, build=S19_2021), {"command": "stats"})
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(text)
    mended = msgspec.json.decode(text.replace(b"}{", b"},{"))
    assert mended["STATS"][1]["chain_acn1"] == 108


def test_both_generations_tell_the_same_boards() -> None:
    world, _ = a_world()
    device = an_antminer(world, missing_boards=1)
    new = read(device, "stats", new_api=True)["STATS"][0]
    old = read(device, "stats")["STATS"][1]
    assert [b["index"] for b in new["chain"]] == [0, 1]
    assert [old["chain_acn1"], old["chain_acn2"], old["chain_acn3"]] == [108, 108, 0]
    assert float(old["chain_rate1"]) == new["chain"][0]["rate_real"]
    assert old["total_rateideal"] == new["rate_ideal"] == 200_000.0


def test_port_80_asks_for_a_digest_under_the_realm_that_clients_know() -> None:
    world, _ = a_world()
    status, headers, _ = Web(an_antminer(world)).send("GET", "get_system_info")
    assert status == 401
    assert headers["www-authenticate"].startswith('Digest realm="antMiner Configuration"')


@pytest.mark.parametrize("password", ["", "toor"])
def test_wrong_password_gets_nothing(password: str) -> None:
    world, _ = a_world()
    device = an_antminer(world)
    status, _ = Web(device, password=password).ask("set_miner_conf", msgspec.json.encode(FULL))
    assert status == 401
    assert len(world.ledger) == 0


def test_an_old_nonce_is_stale_not_wrong() -> None:
    world, clock = a_world()
    web = Web(an_antminer(world))
    _, headers, _ = web.send("GET", "summary")
    header = digest(headers["www-authenticate"], "GET", "/cgi-bin/summary.cgi", "root")
    clock.advance(601)
    status, headers, _ = web.send("GET", "summary", authorization=header)
    assert status == 401
    assert headers["www-authenticate"].endswith("stale=true")


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_every_build_tells_who_it_is_and_what_it_is_set_to(build: Build) -> None:
    world, _ = a_world()
    web = Web(an_antminer(world, build=build))
    info = web.json("get_system_info")
    assert info["macaddr"] == "02:00:00:00:00:01"
    assert info["system_filesystem_version"] == build.compile_time
    assert (info.get(build.serial_key) if build.serial_key else None) in {None, "SN0001"}
    conf = web.json("get_miner_conf")
    assert [p["url"] for p in conf["pools"]] == [POOLS[0].url, POOLS[1].url, ""]
    assert conf["bitmain-work-mode"] == "0"
    assert (web.ask("miner_type")[0] == 200) is build.has_miner_type
    assert web.ask("no_such_thing")[0] == 404


WAYS: dict[str, dict[str, Any]] = {
    "both keys, whole, integers": FULL | {"miner-mode": 1, "bitmain-work-mode": 1},
    "miner-mode as integer": {"miner-mode": 1},
    "miner-mode as text": {"miner-mode": "1"},
    "bitmain-work-mode alone": {"bitmain-work-mode": 1},
}


@pytest.mark.parametrize(
    ("build", "way", "sleeps"),
    [
        (S19_2023, "both keys, whole, integers", True),
        (S19_2023, "miner-mode as integer", True),
        (S19_2023, "miner-mode as text", False),
        (S19_2023, "bitmain-work-mode alone", False),
        (S19_2021, "both keys, whole, integers", True),
        (S19_2021, "miner-mode as integer", False),
        (S21_2024, "miner-mode as text", True),
        (S21_2025, "both keys, whole, integers", True),
        (S21_2025, "miner-mode as integer", False),
        (S19XP_2023, "both keys, whole, integers", False),
    ],
)
def test_sleep_is_always_acknowledged_and_done_only_if_said_in_the_builds_way(
    build: Build, way: str, *, sleeps: bool
) -> None:
    world, clock = a_world()
    device = an_antminer(world, build=build)
    web = Web(device)
    answer = web.json("set_miner_conf", WAYS[way])
    assert answer == {"stats": "success", "code": "M000", "msg": "OK!"}
    assert web.replies[0].after_s == build.accept_s
    (write,) = world.ledger
    assert (write.direction, write.honoured) == (Direction.LOWER, sleeps)
    clock.advance(300)
    assert (device.machine.sample().phase is Phase.SLEEPING) is sleeps
    assert Web(device).json("get_miner_conf")["bitmain-work-mode"] == ("1" if sleeps else "0")


def test_s19_xp_listens_to_plain_text_only() -> None:
    world, clock = a_world()
    device = an_antminer(world, build=S19XP_2023)
    body = msgspec.json.encode(FULL | {"miner-mode": 1})
    Web(device).ask("set_miner_conf", body, content_type="text/plain")
    clock.advance(300)
    assert device.machine.sample().phase is Phase.SLEEPING


def test_sleep_that_needs_a_reboot_reads_as_asleep_and_hashes_on() -> None:
    world, clock = a_world()
    device = an_antminer(world, build=S19_2022)
    Web(device).json("set_miner_conf", FULL | {"miner-mode": 1})
    clock.advance(600)
    assert Web(device).json("get_miner_conf")["bitmain-work-mode"] == "1"
    assert device.machine.sample().hashrate_ths > 150
    assert Web(device).ask("reboot")[0] == 200
    clock.advance(600)
    assert device.machine.sample().phase is Phase.SLEEPING


def test_sleep_survives_a_reboot_and_hash_lingers_before_it() -> None:
    world, clock = a_world()
    device = an_antminer(world, build=S19_2023)
    Web(device).json("set_miner_conf", {"miner-mode": 1})
    clock.advance(60)
    assert device.machine.sample().hashrate_ths > 150
    clock.advance(60)
    assert device.machine.sample().drawn_w < 30
    device.machine.reboot()
    clock.advance(600)
    assert device.machine.sample().phase is Phase.SLEEPING


def test_a_shorter_pool_list_leaves_the_old_trailing_pool_standing() -> None:
    world, clock = a_world()
    device = an_antminer(world)
    new = {"url": "stratum+tcp://n.pool:1", "user": "n", "pass": ""}
    Web(device).json("set_miner_conf", {"pools": [new]})
    clock.advance(60)
    urls = [p["url"] for p in Web(device).json("get_miner_conf")["pools"]]
    assert urls == [new["url"], POOLS[1].url, ""]


def test_it_takes_a_document_without_any_pool_and_works_for_nobody_then() -> None:
    world, clock = a_world()
    device = an_antminer(world)
    blank = {"url": "", "user": "", "pass": ""}
    assert Web(device).json("set_miner_conf", {"pools": [blank] * 3})["code"] == "M000"
    clock.advance(900)
    sample = device.machine.sample()
    assert (sample.hashrate_ths, sample.drawn_w > 3000) == (0.0, True)
    assert next(iter(world.ledger)).pools == ()


def test_half_booted_config_reads_as_factory_default() -> None:
    world, clock = a_world()
    device = an_antminer(world, build=S19_2023)
    device.machine.reboot()
    assert device.accept(80, "127.0.0.9") is None
    while not device.machine.answers():
        clock.advance(1)
    assert [p["url"] for p in Web(device).json("get_miner_conf")["pools"]] == ["", "", ""]
    clock.advance(25)
    assert Web(device).json("get_miner_conf")["pools"][0]["url"] == POOLS[0].url


def test_after_a_write_reads_race_in_the_builds_own_manner() -> None:
    met = {}
    for build in (S19_2023, S21_2024, S19_2022):
        world, clock = a_world()
        device = an_antminer(world, build=build)
        new = {"url": "stratum+tcp://n.pool:1", "user": "n", "pass": ""}
        Web(device).json("set_miner_conf", FULL | {"pools": [new]})
        clock.advance(build.accept_s + 1)
        if device.accept(80, "127.0.0.9") is None:
            met[build.name] = "refused"
            continue
        _, text = Web(device).ask("get_miner_conf")
        try:
            met[build.name] = msgspec.json.decode(text)["pools"][0]["url"]
        except msgspec.DecodeError:
            met[build.name] = "half"
        clock.advance(10)
        assert Web(device).json("get_miner_conf")["pools"][0]["url"] == new["url"]
    assert met == {"s19-2023": "refused", "s21-2024": "half", "s19-2022": POOLS[0].url}


def test_while_the_miner_restarts_4028_is_closed_then_has_no_boards() -> None:
    world, clock = a_world()
    device = an_antminer(world, build=S19_2023)
    Web(device).json("set_miner_conf", FULL | {"miner-mode": 3})
    assert device.accept(4028, "127.0.0.9") is None
    clock.advance(10)
    assert len(read(device, "stats")["STATS"]) == 1
    assert Web(device).json("stats")["STATS"][0]["chain"] == []
    clock.advance(900)
    assert abs(read(device, "summary")["SUMMARY"][0]["GHS 5s"] / 1000 - 150) < 6


def test_a_mode_that_the_type_lacks_reads_back_as_normal() -> None:
    world, clock = a_world()
    device = an_antminer(world, build=S21_2024)
    Web(device).json("set_miner_conf", {"miner-mode": 2})
    clock.advance(60)
    assert Web(device).json("get_miner_conf")["bitmain-work-mode"] == "0"


def test_a_get_on_reboot_reboots_and_breaks_the_connection() -> None:
    world, _ = a_world()
    device = an_antminer(world)
    web = Web(device)
    web.ask("reboot")
    assert web.replies[-1].reset
    assert not device.machine.answers()
    assert [w.kind for w in world.ledger] == ["reboot"]


def test_disobedience_is_acknowledged() -> None:
    world, clock = a_world()
    device = an_antminer(world)
    device.machine.obeys = False
    assert Web(device).json("set_miner_conf", {"miner-mode": 1})["code"] == "M000"
    clock.advance(600)
    assert device.machine.sample().hashrate_ths > 150
    assert [w.honoured for w in world.ledger] == [False]


@pytest.mark.parametrize(
    "text",
    [b"\0\xff\xfe\r\n\r\n", b"GET / HTTP/1.1\r\nbroken\r\n\r\n", b"A" * 20_000],
    ids=["binary", "header without colon", "endless head"],
)
def test_what_is_not_http_is_answered_and_closed(text: bytes) -> None:
    world, _ = a_world()
    session = an_antminer(world).accept(80, "127.0.0.9")
    assert session is not None
    replies = session.feed(text)
    assert replies[-1].close
    assert replies[0].data.startswith(b"HTTP/1.1 4")
