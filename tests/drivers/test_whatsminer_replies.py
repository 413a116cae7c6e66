"""Replies that real WhatsMiners, other devices and nobody's devices give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.change import (
    Applied,
    Failed,
    InProgress,
    Outcome,
    RefusedByDevice,
    SetPools,
    StopMining,
)
from control_plane.core.errors import OversizedReply, UnexpectedReply, Unreachable
from control_plane.core.memory import Pin
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.drivers.whatsminer import WhatsminerDriver
from control_plane.simulator.whatsminer_crypto import Credentials
from tests.drivers import scripted
from tests.drivers.making import always
from tests.drivers.scripted import ScriptedNet, StillClock

HONEST = (Unreachable, UnexpectedReply, OversizedReply)
PASSWORD = scripted.TARGET.password.reveal()
SALT = "BQ5hoXV9"
POOL = PoolSetting(url="stratum+tcp://a.pool:3333", worker="acct.w1")

SUMMARY: dict[str, Any] = {
    "Elapsed": 86_400,
    "MHS 5s": 180_000_000.0,
    "HS RT": 170_000_000.0,
    "Accepted": 900,
    "Rejected": 1,
    "Temperature": 70.0,
    "Fan Speed In": 4000,
    "Fan Speed Out": 4100,
    "Power": 3400,
    "Uptime": 90_000,
    "Power Mode": "Normal",
    "Power Limit": 3300,
    "Chip Temp Max": 85.5,
    "Upfreq Complete": 1,
}
POOLS: list[dict[str, Any]] = [
    {"POOL": 2, "Priority": 1, "URL": "", "User": ""},
    {"POOL": 1, "Priority": 0, "URL": "STRATUM+TCP://A.pool:3333/", "User": " acct.w1 "},
    {"POOL": 3, "Priority": 2, "URL": " ", "User": ""},
]
BOARDS: list[dict[str, Any]] = [{"Slot": 0, "MHS 5s": 60e6, "Effective Chips": 105}]
INFO = {"mac": "C6:07:20:00:1E:C2", "proto": "static", "minersn": "SN1"}
TARGET = msgspec.structs.replace(
    scripted.TARGET, pin=Pin(mac="c6:07:20:00:1e:c2", serial="SN1", source="test")
)
STATUS = {"mineroff": "false", "FirmwareVersion": "20240924.14.Rel", "power_mode": ""}
CHALLENGE = {"time": "5626", "salt": SALT, "newsalt": "jbzkfQls"}


def cgminer(name: str, rows: object) -> dict[str, Any]:
    return {"STATUS": [{"STATUS": "S", "Msg": name}], name: rows, "id": 1}


def daemon(message: object, code: int = 131) -> dict[str, Any]:
    status = "S" if code in {131, 134} else "E"
    return {"STATUS": status, "When": 1, "Code": code, "Msg": message, "Description": ""}


def summary(**more: object) -> dict[str, Any]:
    row = {key: value for key, value in {**SUMMARY, **more}.items() if value is not None}
    return cgminer("SUMMARY", [row])


class Script:
    """A device as a table of replies: by command, or `write` for anything sealed."""

    def __init__(self, **replies: object) -> None:
        self.replies: dict[str, object] = {
            "summary": summary(),
            "devs": cgminer("DEVS", BOARDS),
            "pools": cgminer("POOLS", POOLS),
            "devdetails": cgminer("DEVDETAILS", [{"Model": "M60S_VK30"}]),
            "get_miner_info": daemon(INFO),
            "status": daemon(STATUS),
            "get_error_code": daemon({"error_code": []}),
            "get_token": daemon(CHALLENGE, 134),
            "write": daemon("API command OK"),
            **replies,
        }
        self.written = 0

    def __call__(self, port: int, payload: bytes) -> bytes | None:
        assert port == 4028
        asked = msgspec.json.decode(payload)
        if "enc" in asked:
            self.written += 1
            return wire(self.replies["write"])
        names = asked["cmd"].split("+")
        if len(names) == 1:
            return wire(self.replies[names[0]])
        whole = self.replies.get("joined")
        if whole is not None:
            return wire(whole)
        return wire({name: [self.replies[name]] for name in names} | {"id": 1})


def wire(reply: object) -> bytes | None:
    return reply if isinstance(reply, bytes | None) else msgspec.json.encode(reply)


def look(depth: Depth = Depth.FULL, **replies: object) -> Observation:
    driver = WhatsminerDriver(ScriptedNet(Script(**replies), piece=512), StillClock())
    return asyncio.run(driver.observe(TARGET, depth))


class Written(NamedTuple):
    outcome: Outcome
    times: int


def write(**replies: object) -> Written:
    script = Script(**replies)
    driver = WhatsminerDriver(ScriptedNet(script), StillClock())
    return Written(asyncio.run(driver.apply(TARGET, StopMining(), always)), script.written)


# -- what real ones say --------------------------------------------------------------------------------


def test_a_plain_look() -> None:
    seen = look()
    assert seen.settings.pools == (POOL,)
    assert (seen.settings.mining, seen.settings.power_mode) == (True, "normal")
    assert (seen.settings.power_limit_w, seen.settings.addressing) == (3300, "static")
    assert seen.identity is not None
    assert seen.identity.mac == "c6:07:20:00:1e:c2"
    assert seen.telemetry.hashrate_ths == pytest.approx(180.0)
    assert seen.telemetry.temperature_c == 85.5
    assert seen.telemetry.boards[0].hashrate_ths == pytest.approx(60.0)
    assert not seen.unreadable()


@pytest.mark.parametrize(
    ("status", "mining", "mode", "limit_w"),
    [
        ({"mineroff": "true"}, False, "normal", 3300),
        ({"power_mode": "Low"}, True, "low", 3300),
        ({"power_mode": "unheard of"}, True, "normal", 3300),
        ({"power_limit_set": "3600"}, True, "normal", 3600),
        ({"power_limit_set": ""}, True, "normal", 3300),
        ({"mineroff": "maybe"}, None, "normal", 3300),
    ],
    ids=str,
)
def test_what_is_configured_comes_before_what_runs(
    status: dict[str, object], mining: bool | None, mode: str, limit_w: int
) -> None:
    seen = look(status=daemon({**STATUS, **status})).settings
    assert (seen.mining, seen.power_mode, seen.power_limit_w) == (mining, mode, limit_w)


def test_older_firmware_names_its_status_differently() -> None:
    body = {"btmineroff": "true", "Firmware Version": "'20210322.22.REL'", "power_mode": ""}
    seen = look(status=daemon(body)).settings
    assert seen.mining is False
    assert seen.firmware == "'20210322.22.REL'"


@pytest.mark.parametrize(
    ("more", "activity"),
    [
        ({}, Activity.HASHING),
        ({"Upfreq Complete": 0}, Activity.STARTING),
        ({"Upfreq Complete": None}, Activity.HASHING),
        ({"MHS 5s": 0.0, "Power Limit": 0}, Activity.SLEEPING),
        ({"Power Limit": 0}, Activity.HASHING),
        ({"MHS 5s": 0.0, "Elapsed": 100}, Activity.STARTING),
        ({"MHS 5s": 0.0}, Activity.IDLE),
        ({"MHS 5s": 0.0, "Power Limit": None}, None),
        ({"MHS 5s": "nonsense"}, None),
    ],
    ids=str,
)
def test_hash_decides_over_settings(more: dict[str, object], activity: Activity | None) -> None:
    assert look(Depth.TELEMETRY, summary=summary(**more)).telemetry.activity is activity


def test_a_build_that_tells_no_limit_is_not_asked_whether_it_mines() -> None:
    seen = look(Depth.TELEMETRY, summary=summary(**{"Power Limit": None}))
    assert Field.MINING not in seen.asked
    assert seen.settings.mining is None


@pytest.mark.parametrize(
    "pools",
    [
        cgminer("POOLS", None),
        cgminer("POOLS", "none"),
        cgminer("POOLS", [{"Priority": 0, "URL": None, "User": "x"}]),
        cgminer("POOLS", [{"URL": "stratum+tcp://a:1", "User": "x"}]),
        cgminer("POOLS", [7]),
        daemon("command join err", 45),
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("depth", [Depth.POOLS, Depth.FULL])
def test_pools_that_cannot_be_read_are_not_empty(pools: object, depth: Depth) -> None:
    seen = look(depth, pools=pools)
    assert seen.settings.pools is None
    assert Field.POOLS in seen.unreadable()
    assert seen.telemetry.hashrate_ths


def test_status_that_cannot_be_read_is_unknown() -> None:
    seen = look(status=daemon("invalid cmd", 14))
    assert seen.unreadable() == {Field.MINING, Field.FIRMWARE}


@pytest.mark.parametrize(
    ("reply", "codes"),
    [
        (b'{"STATUS":"S","Code":131,"Msg":{"error_code":["530":"2024-01-01 00:00:00"]}}', ("530",)),
        (daemon({"error_code": [{"530": "x"}, {"2010": "y"}]}), ("530", "2010")),
        (daemon({"error_code": []}), ()),
        (daemon("invalid cmd", 14), ()),
        (b"\xff\x00", ()),
    ],
)
def test_error_codes_in_any_form(reply: object, codes: tuple[str, ...]) -> None:
    assert look(get_error_code=reply).telemetry.errors == codes


def mangled(change: Callable[[bytes], bytes]) -> bytes:
    joined = {"summary": [summary()], "devs": [cgminer("DEVS", BOARDS)], "id": 1}
    return change(msgspec.json.encode(joined))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\0",
        lambda data: data + b"\0\0\n\0",
        lambda data: data.replace(b"180000000.0", b"180000000.0\n"),
        lambda data: data.replace(b'"Rejected":1', b'"Rejected":nan'),
    ],
    ids=["a NUL", "NULs", "a line break", "nan"],
)
def test_small_mistakes_are_mended(change: Callable[[bytes], bytes]) -> None:
    seen = look(Depth.TELEMETRY, joined=mangled(change))
    assert seen.telemetry.hashrate_ths == pytest.approx(180.0)


# -- what others say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        b"<html>401</html>",
        b"null",
        b"[]",
        b"{}",
        mangled(lambda data: data[:-20]),
        b'{"summary":[],"devs":[]}',
        b'{"summary":{"SUMMARY":[{}]}}',
        {"STATUS": [{"STATUS": "E", "Code": 22, "Msg": "Missing JSON 'command'"}], "id": 1},
        {"summary": [{**summary(), "STATUS": [{"STATUS": "S", "Description": "LUXminer 1"}]}]},
        daemon("over max connect", 136),
        {"enc": "AAAA"},
    ],
    ids=str,
)
@pytest.mark.parametrize("depth", Depth)
def test_what_is_not_this_family_is_no_observation(reply: object, depth: Depth) -> None:
    with pytest.raises(UnexpectedReply):
        look(depth, joined=reply)


@pytest.mark.parametrize("depth", Depth)
def test_deep_and_long_replies_are_dropped(depth: Depth) -> None:
    for reply in (b'{"summary":' * 40 + b"1" + b"}" * 40, b"{" + b" " * 300_000 + b"}"):
        with pytest.raises(OversizedReply):
            look(depth, joined=reply)


@pytest.mark.parametrize(
    "info", [daemon({**INFO, "mac": ""}), daemon({}), daemon("invalid cmd", 14), b"<html>"], ids=str
)
def test_who_does_not_tell_a_mac_is_nobody(info: object) -> None:
    with pytest.raises(UnexpectedReply):
        look(get_miner_info=info)
    driver = WhatsminerDriver(ScriptedNet(Script(get_miner_info=info)), StillClock())
    with pytest.raises(UnexpectedReply):
        asyncio.run(driver.identify(TARGET))


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = sorted({*SUMMARY, *POOLS[0], *BOARDS[0], "STATUS", "Code", "Msg", "Description"})


@given(
    rows=st.dictionaries(st.sampled_from(KEYS), ODD, max_size=8),
    command=st.sampled_from(["summary", "devs", "pools", "devdetails", "get_miner_info", "status"]),
    wrapped=st.sampled_from(["SUMMARY", "DEVS", "POOLS", "DEVDETAILS", "Msg", ""]),
    depth=st.sampled_from(Depth),
)
def test_no_values_make_a_look_fail_otherwise_than_it_may(
    rows: dict[str, object], command: str, wrapped: str, depth: Depth
) -> None:
    reply = rows if not wrapped else {**daemon(rows), wrapped: [rows]}
    if wrapped and wrapped != "Msg":
        reply["STATUS"] = [{"STATUS": "S"}]
    try:
        seen = look(depth, **{command: msgspec.json.encode(reply)})
    except HONEST as error:
        assert str(error).isprintable()  # noqa: PT017 — it may, and need not, be raised
    else:
        assert msgspec.json.decode(msgspec.json.encode(seen), type=Observation) == seen


# -- what comes after a write --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"),
    [
        (daemon("API command OK"), Applied, None),
        (daemon({"any": "object"}), Applied, None),
        (daemon("API command ERROR", 132), RefusedByDevice, None),
        (daemon("invalid cmd", 14), RefusedByDevice, None),
        (daemon("can't access write cmd", 45), Failed, True),
        (daemon("enc json load err", 23), Failed, False),
        (daemon("base64 decode err", 137), Failed, False),
        (daemon("check token err", 135), Failed, True),
        (daemon("over max connect", 136), Failed, True),
        (daemon("never heard of", 133), InProgress, None),
        (daemon("never heard of", 999), InProgress, None),
        ({"Msg": {"Code": 131}}, InProgress, None),
        ({}, InProgress, None),
        (b"<html>", InProgress, None),
        (b"", InProgress, None),
        (None, InProgress, None),
        (b"x" * 300_000, InProgress, None),
        ({"enc": "%%%"}, InProgress, None),
        ({"enc": Credentials.of("else", SALT).encrypt(b'{"Code":131}').decode()}, InProgress, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_means_what_it_says_and_an_unclear_one_is_looked_at(
    reply: object, kind: type[Outcome], retryable: bool | None
) -> None:
    outcome, times = write(write=reply)
    assert isinstance(outcome, kind)
    assert getattr(outcome, "retryable", None) is retryable
    assert times == 1
    assert PASSWORD not in str(outcome)


def test_a_sealed_answer_is_opened() -> None:
    sealed = Credentials.of(PASSWORD, SALT).encrypt(msgspec.json.encode(daemon("no", 132)))
    assert isinstance(write(write={"enc": sealed.decode()}).outcome, RefusedByDevice)


@pytest.mark.parametrize(
    "token",
    [
        daemon("over max connect", 136),
        daemon("can't access write cmd", 45),
        daemon({}, 134),
        daemon({**CHALLENGE, "salt": "§§"}, 134),
        b"<html>",
        None,
    ],
    ids=str,
)
def test_without_a_token_nothing_is_written(token: object) -> None:
    outcome, times = write(get_token=token)
    assert isinstance(outcome, Failed)
    assert outcome.retryable
    assert times == 0
    assert PASSWORD not in outcome.reason


def test_a_refused_token_tells_of_the_write_interface_too() -> None:
    async def play() -> list[bool | None]:
        script = Script(get_token=daemon("can't access write cmd", 45))
        driver = WhatsminerDriver(ScriptedNet(script), StillClock())
        seen = [await driver.observe(TARGET, Depth.FULL)]
        await driver.apply(TARGET, StopMining(), always)
        seen.append(await driver.observe(TARGET, Depth.FULL))
        script.replies["get_token"] = daemon(CHALLENGE, 134)
        seen.append(await driver.observe(TARGET, Depth.FULL))
        await driver.apply(TARGET, StopMining(), always)
        seen.append(await driver.observe(TARGET, Depth.FULL))
        return [look.write_enabled for look in seen]

    assert asyncio.run(play()) == [None, False, False, True]


def test_no_secret_of_the_pools_leaves_but_sealed() -> None:
    net = ScriptedNet(Script())
    driver = WhatsminerDriver(net, StillClock())
    assert isinstance(asyncio.run(driver.apply(TARGET, SetPools((POOL,)), always)), Applied)
    sent = b"".join(net.asked)
    assert PASSWORD.encode() not in sent
    assert POOL.url.encode() not in sent
