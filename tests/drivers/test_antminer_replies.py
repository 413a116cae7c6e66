"""Replies that were seen in the field or are odd in their manner, and any bytes at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.change import (
    Applied,
    Failed,
    InProgress,
    Outcome,
    Reboot,
    RefusedByDevice,
    SetPools,
    StartMining,
    StopMining,
)
from control_plane.core.errors import ControlPlaneError, UnexpectedReply
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.drivers.antminer import AntminerDriver
from tests.drivers.making import always
from tests.drivers.scripted import TARGET, Answer, ScriptedNet, StillClock

OK = [
    {"STATUS": "S", "When": 1, "Code": 70, "Msg": "CGMiner stats", "Description": "cgminer 1.0.0"}
]
OLD_ROW: dict[str, Any] = {
    "STATS": 0,
    "ID": "BTM_SOC0",
    "Elapsed": 86_400,
    "GHS 5s": "95012.41",
    "fan_num": 4,
    "fan1": 4320,
    "fan2": 4290,
    "fan3": 0,
    "fan4": 4310,
    "total_rateideal": 95_000,
    "chain_acn1": 76,
    "chain_rate1": "31804.11",
    "temp2_1": 71,
    "chain_acn2": 0,
    "chain_rate2": "",
    "temp2_2": 0,
    "chain_acn3": 76,
    "chain_rate3": "",
    "temp2_3": 73,
}
HEADING = {"BMMiner": "1.0.0", "CompileTime": "Fri Nov 12 2021", "Type": "Antminer S19"}
NEW_ROW: dict[str, Any] = {
    "elapsed": 4000,
    "rate_5s": 199_812.5,
    "rate_ideal": 200_000.0,
    "rate_unit": "GH/s",
    "fan": [4000, 4010, "x", None],
    "watt": 3480,
    "miner-mode": 0,
    "chain": [
        {"index": 0, "rate_real": 66_000.1, "asic_num": 108, "temp_chip": [50, 51, 66, 67.5]},
        {"index": 2, "rate_real": None, "asic_num": "108", "temp_chip": "66"},
    ],
}
POOL_ROWS = [
    {"POOL": 1, "Priority": 1, "URL": "b.pool:2", "User": "w", "Accepted": 1, "Rejected": 2},
    {
        "POOL": 0,
        "Priority": 0,
        "URL": "stratum+tcp://A.pool:1/",
        "User": " w ",
        "Accepted": 3,
        "Rejected": 4,
    },
    {"POOL": 2, "Priority": 2, "URL": "", "User": "", "Accepted": 0, "Rejected": 0},
]
CONF: dict[str, Any] = {
    "pools": [
        {"url": "stratum+tcp://a.pool:1", "user": "w", "pass": "p"},
        {"url": "b.pool:2", "user": "w", "pass": "p"},
        {"url": "", "user": "", "pass": ""},
    ],
    "bitmain-fan-ctrl": False,
    "bitmain-fan-pwm": "100",
    "bitmain-work-mode": "0",
}
INFO = {"minertype": "Antminer S21", "macaddr": "02:00:00:00:00:01", "nettype": "Static"}
DONE = {"stats": "success", "code": "M000", "msg": "OK!"}


def old_stats(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"STATUS": OK, "STATS": list(rows), "id": 1}


def new_stats(**changes: Any) -> dict[str, Any]:
    info = {"type": "Antminer S21", "CompileTime": "Thu Mar 28 2024"}
    return {"STATUS": {"STATUS": "S"}, "INFO": info, "STATS": [{**NEW_ROW, **changes}]}


def page(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def device(**replies: Any) -> Answer:
    """Replies by command or script; a value that is no bytes is sent as JSON."""
    known: dict[str, Any] = {
        "stats": new_stats(),
        "pools": {"STATUS": OK, "POOLS": POOL_ROWS},
        "get_miner_conf": CONF,
        "get_system_info": INFO,
        "summary": {"SUMMARY": [{"status": [{"type": "rate", "status": "s"}]}]},
        "set_miner_conf": DONE,
        "reboot": b"",
        **replies,
    }

    def answer(port: int, asked: bytes) -> bytes | None:
        if port == 4028:
            value = known[json.loads(asked)["command"]]
            return value if isinstance(value, bytes | None) else json.dumps(value).encode() + b"\0"
        value = known[asked.split(b" ")[1].decode().rpartition("/")[2].removesuffix(".cgi")]
        if isinstance(value, bytes):
            return value if value.startswith(b"HTTP/") else page(value)
        return None if value is None else page(json.dumps(value).encode())

    return answer


def look(depth: Depth = Depth.TELEMETRY, **replies: Any) -> Observation:
    driver = AntminerDriver(ScriptedNet(device(**replies)), StillClock())
    return asyncio.run(driver.observe(TARGET, depth))


def apply(change: Any, **replies: Any) -> tuple[Outcome, int]:
    net = ScriptedNet(device(**replies))
    outcome = asyncio.run(AntminerDriver(net, StillClock()).apply(TARGET, change, always))
    return outcome, sum(b"set_miner_conf" in asked for asked in net.asked)


# -- stats -------------------------------------------------------------------------------------------


def test_the_old_generation_is_read() -> None:
    seen = look(stats=old_stats(HEADING, OLD_ROW))
    told = seen.telemetry
    assert told.hashrate_ths == pytest.approx(95.01241)
    assert told.power_w is None
    assert told.fan_rpm == (4320, 4290, 0, 4310)
    assert told.temperature_c == 73
    assert told.activity is Activity.HASHING
    assert [(b.slot, b.chips, b.hashrate_ths) for b in told.boards] == [
        (0, 76, pytest.approx(31.80411)),
        (1, 0, 0.0),
        (2, 76, None),
    ]
    assert seen.settings.firmware == "Fri Nov 12 2021"
    assert seen.asked == {Field.FIRMWARE}


def test_the_missing_comma_of_old_builds_is_mended() -> None:
    data = json.dumps(old_stats(HEADING, OLD_ROW), separators=(",", ":")).encode()
    broken = data.replace(b"},{", b"}{")
    assert broken != data
    assert look(stats=broken + b"\0").telemetry == look(stats=data).telemetry


def test_the_new_generation_is_read_and_odd_parts_are_unknown() -> None:
    seen = look()
    told = seen.telemetry
    assert told.hashrate_ths == pytest.approx(199.8125)
    assert (told.power_w, told.temperature_c, told.fan_rpm) == (3480, 67.5, (4000, 4010))
    assert [(b.slot, b.chips, b.temperature_c) for b in told.boards] == [
        (0, 108, 67.5),
        (2, 108, None),
    ]
    assert (seen.settings.mining, seen.settings.power_mode) == (True, "normal")


@pytest.mark.parametrize(
    ("changes", "activity", "hashrate_ths"),
    [
        ({"miner-mode": 1, "rate_5s": 0}, Activity.SLEEPING, 0.0),
        ({"miner-mode": 1}, Activity.HASHING, pytest.approx(199.8125)),
        ({"rate_5s": 0, "elapsed": 30}, Activity.STARTING, 0.0),
        ({"rate_5s": 50_000, "elapsed": 300}, Activity.STARTING, 50.0),
        ({"rate_5s": 50_000}, Activity.HASHING, 50.0),
        ({"rate_5s": 0}, Activity.IDLE, 0.0),
        ({"rate_5s": None}, None, None),
        ({"rate_unit": "TH/s", "rate_5s": 200, "rate_ideal": 200}, Activity.HASHING, 200.0),
        ({"rate_unit": "furlongs"}, None, None),
    ],
)
def test_activity_follows_evidence(
    changes: dict[str, Any], activity: Activity | None, hashrate_ths: Any
) -> None:
    told = look(stats=new_stats(**changes)).telemetry
    assert (told.activity, told.hashrate_ths) == (activity, hashrate_ths)


def test_a_unit_without_its_boards_yet_is_not_hashing() -> None:
    told = look(stats=old_stats(HEADING)).telemetry
    assert (told.hashrate_ths, told.boards) == (None, ())
    assert told.activity is not Activity.HASHING


def test_nan_from_a_board_that_just_died_spoils_nothing_else() -> None:
    data = json.dumps(new_stats()).encode().replace(b"66000.1", b"-nan")
    told = look(stats=data).telemetry
    assert told.boards[0].hashrate_ths is None
    assert told.power_w == 3480


def test_a_fan_count_from_a_liar_costs_nothing() -> None:
    assert (
        len(look(stats=old_stats(HEADING, {**OLD_ROW, "fan_num": 10**15})).telemetry.fan_rpm) == 4
    )


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"<html><head>Login</head></html>", "Login"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (json.dumps(old_stats(HEADING, OLD_ROW)).encode()[:300], "not JSON"),
        ({"STATUS": "E", "When": 1, "Code": 14, "Msg": "invalid cmd"}, "no status"),
        ({"STATUS": [{"STATUS": "E", "Code": 14, "Msg": "Invalid command"}]}, "Invalid command"),
        ({"STATUS": [{"STATUS": "S", "Description": "LUXminer 2024.5.1"}], "STATS": [{}]}, "LuxOS"),
        (
            {"STATUS": [{"STATUS": "S", "Description": "BOSer boser-openwrt"}], "STATS": [{}]},
            "Braiins",
        ),
        ({"STATUS": OK, "SUMMARY": [{}]}, "STATS"),
        ({"STATUS": OK, "STATS": []}, "STATS"),
        ({"STATUS": OK, "STATS": {}}, "STATS"),
        ({"success": True}, "no status"),
        ([], "object"),
    ],
)
def test_another_protocol_is_said_to_be_one(reply: Any, says: str) -> None:
    with pytest.raises(UnexpectedReply, match=says):
        look(stats=reply)


# -- pools -------------------------------------------------------------------------------------------


def test_pools_are_by_priority_canonical_and_without_blanks() -> None:
    seen = look(Depth.POOLS)
    assert seen.settings.pools == (
        PoolSetting("stratum+tcp://a.pool:1", "w"),
        PoolSetting("stratum+tcp://b.pool:2", "w"),
    )
    assert (seen.telemetry.accepted, seen.telemetry.rejected) == (4, 6)


def test_no_pools_is_a_fact_where_the_device_says_so() -> None:
    none = {"STATUS": [{"STATUS": "E", "Code": 8, "Msg": "No pools"}]}
    assert look(Depth.POOLS, pools=none).settings.pools == ()
    assert look(Depth.POOLS, pools={"STATUS": OK, "POOLS": []}).settings.pools == ()


@pytest.mark.parametrize(
    "rows",
    [[None], [{"URL": None, "User": "w", "Priority": 0}], [{"URL": "a:1", "User": "w"}], [5, {}]],
)
def test_pools_that_cannot_be_read_are_unknown(rows: list[Any]) -> None:
    seen = look(Depth.POOLS, pools={"STATUS": OK, "POOLS": rows})
    assert Field.POOLS in seen.unreadable()


# -- the config --------------------------------------------------------------------------------------


def conf(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**CONF, **changes}.items() if value != "absent"}


ODD_CONFIGS: dict[str, Any] = {
    "blank": b"",
    "html": b"<html>",
    "error": {"stats": "error"},
    "server error": page(b"oops", 500),
    "half": json.dumps(CONF).encode()[:120],
    "no pools key": conf(pools="absent"),
    "pools null": conf(pools=None),
    "pools empty": conf(pools=[]),
    "factory pools": conf(pools=[{"url": "", "user": "", "pass": ""}] * 3),
    "another's pools": conf(pools=[{"url": "x:1", "user": "x", "pass": ""}]),
    "four slots": conf(pools=CONF["pools"] + CONF["pools"][:1]),
    "slot of text": conf(pools=["a:1"]),
    "url null": conf(pools=[{"url": None, "user": "w", "pass": ""}]),
    "mode absent": conf(**{"bitmain-work-mode": "absent"}),
    "mode null": conf(**{"bitmain-work-mode": None}),
    "mode odd": conf(**{"bitmain-work-mode": "eco"}),
    "mode true": conf(**{"bitmain-work-mode": True}),
    "modes differ": conf(**{"miner-mode": 1}),
    "fan absent": conf(**{"bitmain-fan-ctrl": "absent"}),
    "fan null": conf(**{"bitmain-fan-ctrl": None}),
    "pwm absent": conf(**{"bitmain-fan-pwm": "absent"}),
    "nested": conf(groups=[{"quota": 1}]),
}


@pytest.mark.parametrize("name", ODD_CONFIGS)
def test_an_odd_config_is_unreadable_and_never_written_from(name: str) -> None:
    seen = look(Depth.FULL, get_miner_conf=ODD_CONFIGS[name])
    assert seen.unreadable() == {Field.POOLS, Field.MINING, Field.POWER_MODE}
    for change in (StopMining(), SetPools((PoolSetting("stratum+tcp://n:1", "w"),))):
        outcome, sent = apply(change, get_miner_conf=ODD_CONFIGS[name])
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert sent == 0


def test_both_generations_of_mode_keys_are_read() -> None:
    for keys in ({"miner-mode": 3}, {"miner-mode": "3"}, {"bitmain-work-mode": 3}):
        document = conf(**{"bitmain-work-mode": "absent", **keys})
        assert look(Depth.FULL, get_miner_conf=document).settings.power_mode == "low"


def test_errors_are_told_in_the_devices_words_without_its_control_characters() -> None:
    lamps = [{"type": "fans", "status": "e", "code": 7, "msg": "fan\x1b[31m lost"}, {"status": "e"}]
    seen = look(Depth.FULL, summary={"SUMMARY": [{"status": lamps}]})
    assert seen.telemetry.errors == ("fans: fan [31m lost", "None: code None")
    assert look(Depth.FULL, summary=b"").telemetry.errors == ()


def test_an_identity_page_of_something_else_is_no_identity() -> None:
    with pytest.raises(UnexpectedReply):
        look(Depth.FULL, get_system_info={"model": "router"})


# -- answers to a write ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (DONE, Applied),
        (b"M000 OK!", Applied),
        ({"stats": "error", "code": "M001", "msg": "Illegal request!"}, RefusedByDevice),
        (page(b"no", 404), RefusedByDevice),
        (page(b"no", 401), Failed),
        (b"", InProgress),
        (b"<html>", InProgress),
        ({"success": True}, InProgress),
        (page(b"M000 OK!", 500), InProgress),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut", InProgress),
        (b"HTTP/1.1 200", InProgress),
        (None, InProgress),
    ],
)
def test_only_a_clear_answer_is_an_outcome(answer: Any, outcome: type[Outcome]) -> None:
    told, sent = apply(StopMining(), set_miner_conf=answer)
    assert isinstance(told, outcome)
    assert sent == 1


@pytest.mark.parametrize("change", [StopMining(), Reboot()], ids=["config", "reboot"])
def test_a_write_goes_out_on_a_fresh_connection(change: Any) -> None:
    """On a kept one nobody could tell a write that was lost from one that never left."""
    net = ScriptedNet(device(), keeps=True)
    asyncio.run(AntminerDriver(net, StillClock()).apply(TARGET, change, always))
    assert b"set_miner_conf" in net.asked[-1] or b"reboot" in net.asked[-1]
    assert net.fresh[-1]


HIDDEN = "hunter2"
SECRET_CONF = {**CONF, "pools": [{"url": "a:1", "user": "u", "pass": HIDDEN}] * 3}
SECRET_TEXT = json.dumps(SECRET_CONF).encode()


@pytest.mark.parametrize(
    "replies",
    [
        {"get_miner_conf": SECRET_TEXT[:70]},
        {"get_miner_conf": b"[" + SECRET_TEXT + b"]"},
        {"get_miner_conf": b"HTTP/1.1 200 OK\r\n" + SECRET_TEXT + b"\r\n\r\n"},
        {"set_miner_conf": SECRET_TEXT},
        {"set_miner_conf": SECRET_TEXT[:70]},
        {"set_miner_conf": page(SECRET_TEXT, 500)},
        {"set_miner_conf": b"HTTP/1.1 200 OK\r\n" + SECRET_TEXT + b"\r\n\r\n"},
    ],
    ids=["cut", "listed", "no head", "echoed", "echoed and cut", "echoed in an error", "bare echo"],
)
def test_no_outcome_quotes_a_config(replies: dict[str, bytes]) -> None:
    """A pool's password is in it, and outcomes go to the audit file."""
    assert HIDDEN.encode() in SECRET_TEXT[:70]
    outcome, _ = apply(SetPools((PoolSetting(url="stratum+tcp://n:1", worker="n"),)), **replies)
    assert not isinstance(outcome, Applied)
    assert HIDDEN not in str(outcome)


# -- any bytes at all --------------------------------------------------------------------------------

HONEST = json.dumps([old_stats(HEADING, OLD_ROW), new_stats(), CONF, INFO]).encode()
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
)
any_json = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3)
)


@st.composite
def mutated(draw: st.DrawFn, honest: Any) -> Any:
    """An honest document with any value in some places."""
    if isinstance(honest, dict):
        return {
            key: draw(any_json if draw(st.integers(0, 7)) == 0 else mutated(value))
            for key, value in honest.items()
        }
    if isinstance(honest, list):
        return [draw(mutated(value)) for value in honest]
    return draw(any_json) if draw(st.integers(0, 5)) == 0 else honest


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def noise(honest: Any) -> st.SearchStrategy[bytes]:
    text = as_bytes(honest)
    return (
        st.binary(max_size=200)
        | mutated(honest).map(as_bytes)
        | st.integers(0, len(text)).map(lambda cut: text[:cut])
        | st.just(text)
    )


CHANGES = (
    SetPools((PoolSetting("stratum+tcp://n:1", "w"),)),
    StopMining(),
    StartMining(),
    Reboot(),
)


def tolerates(act: Callable[[], object]) -> None:
    """Any error is one of the tree, and safe to show."""
    said = ""
    try:
        act()
    except ControlPlaneError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 500
    assert "s3cret-password" not in said


@given(
    stats=noise(new_stats()) | noise(old_stats(HEADING, OLD_ROW)),
    pools=noise({"STATUS": OK, "POOLS": POOL_ROWS}),
    info=noise(INFO),
    config=noise(CONF),
    answer=noise(DONE),
    raw=st.booleans(),
)
def test_no_bytes_make_the_driver_raise_outside_the_error_tree(
    stats: bytes, pools: bytes, info: bytes, config: bytes, answer: bytes, raw: bool
) -> None:
    def dressed(body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\n" + body if raw else page(body)

    replies = {
        "stats": stats,
        "pools": pools,
        "get_system_info": dressed(info),
        "get_miner_conf": dressed(config),
        "set_miner_conf": dressed(answer),
    }
    for depth in Depth:
        tolerates(lambda depth=depth: look(depth, **replies))  # type: ignore[misc]
    for change in CHANGES:
        outcome, sent = apply(change, **replies)
        assert sent <= 1
        assert sent == 0 or not isinstance(outcome, Failed) or "credentials" in outcome.reason


@given(head=st.binary(max_size=300))
def test_no_head_of_a_page_does(head: bytes) -> None:
    for start in (b"", b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest "):
        bad = b"HTTP/1.1 " + head if not start else start + head + b"\r\n\r\n"
        tolerates(lambda bad=bad: look(Depth.FULL, get_system_info=bad))  # type: ignore[misc]
