"""Replies of LuxOS, odd ones first: what is not understood is unknown, and nothing is written from it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.change import (
    Applied,
    Change,
    Failed,
    InProgress,
    Outcome,
    RefusedByDevice,
    SetPools,
    SetPowerMode,
    StartMining,
    StopMining,
)
from control_plane.core.errors import (
    ControlPlaneError,
    OversizedReply,
    UnexpectedReply,
    Unreachable,
)
from control_plane.core.observation import Activity, Depth, Field, Observation, PoolSetting
from control_plane.drivers import luxos_pools as pools
from control_plane.drivers import luxos_reads as reads
from control_plane.drivers.luxos import LuxosDriver
from control_plane.drivers.luxos_costs import CAPABILITIES
from tests.drivers.making import always
from tests.drivers.scripted import TARGET, ScriptedNet, StillClock

Body = dict[str, Any]
OK = {"Code": 11, "Description": "LUXminer 2025.4.8.220305", "Msg": "ok", "STATUS": "S", "When": 1}
BAD = {**OK, "STATUS": "E", "Code": 14, "Msg": "Invalid command"}
CONFIG: Body = {
    "CurtailMode": "None",
    "DHCP": False,
    "IsAtmEnabled": False,
    "MACAddr": "02:00:00:00:00:01",
    "Model": "Antminer S19k Pro",
    "Profile": "default",
    "ProfileStep": "0",
    "SerialNumber": "JYZZ01",
}
ATM: Body = {"Enabled": False, "MaxProfile": "default", "MaxProfileStep": "0", "MinProfile": ""}
POOL: Body = {
    "POOL": 0,
    "GROUP": 0,
    "Priority": 0,
    "Status": "Alive",
    "URL": "stratum+tcp://a:1",
    "User": "w",
}
PROFILES = [
    {"Profile Name": "420MHz", "Step": "-1", "Watts": 1020},
    {"Profile Name": "default", "Step": "0", "Watts": 1188},
    {"Profile Name": "mine", "Step": "", "Watts": 1300},
]
WHOLE: dict[str, Body] = {
    "summary": {"SUMMARY": [{"GHS 5s": 118_000.0, "Elapsed": 5000, "Accepted": 4, "Rejected": 1}]},
    "devs": {
        "DEVS": [
            {"ID": 0, "MHS 5s": 59e6, "Temperature": 51.5, "Status": "Alive", "IsRamping": False},
            {"ID": 2, "MHS 5s": 59e6, "Temperature": 0, "Status": "Alive", "IsRamping": False},
        ]
    },
    "power": {"POWER": [{"PSU": True, "Watts": 2700}]},
    "fans": {"FANS": [{"RPM": 5000}, {"RPM": "n/a"}, {"RPM": 0}]},
    "config": {"CONFIG": [CONFIG]},
    "pools": {"POOLS": [POOL]},
    "version": {"VERSION": [{"LUXminer": "2025.4.8.220305-abc"}]},
    "profiles": {"PROFILES": PROFILES},
    "atm": {"ATM": [ATM]},
    "devdetails": {"DEVDETAILS": [{"ID": 0, "Chips": 77}, {"ID": 2, "Chips": 0}]},
}


class Script:
    """A device that answers from a table, and to writes what it is told to."""

    def __init__(self, **replies: object) -> None:
        self.replies: dict[str, object] = {name: {"STATUS": [OK], **b} for name, b in WHOLE.items()}
        self.replies |= {"logon": {"STATUS": [OK], "SESSION": [{"SessionID": "s3ss10n"}]}}
        self.replies |= {"logoff": {"STATUS": [OK]}}
        self.replies |= replies
        self.asked: list[str] = []

    def __call__(self, port: int, payload: bytes) -> bytes | None:
        assert port == 4028
        command = msgspec.json.decode(payload)["command"]
        self.asked.append(command)
        if "+" not in command:
            return self._one(command)
        parts = {name: self.replies.get(name) for name in command.split("+")}
        return msgspec.json.encode({n: [p] for n, p in parts.items() if isinstance(p, dict)})

    def _one(self, command: str) -> bytes | None:
        reply = self.replies.get(command, {"STATUS": [OK]})
        if reply is None or isinstance(reply, bytes):
            return reply
        return msgspec.json.encode(reply) + b"\0"


def part(name: str, **changes: object) -> Body:
    """A reply whose only row is changed."""
    section = next(iter(WHOLE[name]))
    return {"STATUS": [OK], section: [{**WHOLE[name][section][0], **changes}]}


def look(depth: Depth = Depth.FULL, **replies: object) -> Observation:
    driver = LuxosDriver(ScriptedNet(Script(**replies)), StillClock())
    return asyncio.run(driver.observe(TARGET, depth))


def write(change: Change, **replies: object) -> tuple[Outcome, list[str]]:
    script = Script(**replies)
    driver = LuxosDriver(ScriptedNet(script), StillClock())
    return asyncio.run(driver.apply(TARGET, change, always)), script.asked


# -- looks -------------------------------------------------------------------------------------------


def test_a_whole_reply_reads_whole() -> None:
    seen = look()
    assert seen.settings.power_mode == "normal"
    assert seen.settings.addressing == "static"
    assert seen.settings.pools == (PoolSetting(url="stratum+tcp://a:1", worker="w"),)
    telemetry = seen.telemetry
    assert telemetry.hashrate_ths == pytest.approx(118.0)
    assert telemetry.fan_rpm == (5000, 0)
    assert [(b.slot, b.chips, b.temperature_c) for b in telemetry.boards] == [
        (0, 77, 51.5),
        (2, 0, None),
    ]
    assert (telemetry.accepted, telemetry.rejected) == (4, 1)
    assert not seen.unreadable()


@pytest.mark.parametrize("gone", ["devs", "power", "fans", "version", "profiles", "devdetails"])
def test_a_part_that_fails_leaves_its_own_fields_unknown(gone: str) -> None:
    seen = look(Depth.FULL, **{gone: {"STATUS": [BAD]}})
    assert seen.settings.mining is True
    assert seen.telemetry.hashrate_ths is not None
    assert (seen.settings.firmware is None) is (gone == "version")
    assert (seen.telemetry.power_w is None) is (gone == "power")
    assert (not seen.telemetry.boards) is (gone == "devs")
    assert seen.settings.power_mode == "normal"


@pytest.mark.parametrize("gone", ["summary", "config"])
@pytest.mark.parametrize("reply", [{"STATUS": [BAD]}, {"STATUS": "S"}, None, {}], ids=str)
def test_without_summary_or_config_there_is_no_look(gone: str, reply: object) -> None:
    with pytest.raises(UnexpectedReply):
        look(Depth.FULL, **{gone: reply})


@pytest.mark.parametrize(
    ("changes", "mining"),
    [
        ({"CurtailMode": "Sleep"}, False),
        ({"CurtailMode": "none"}, True),
        ({"CurtailMode": "Idle"}, None),
        ({"CurtailMode": ""}, None),
        ({"CurtailMode": None}, None),
        ({"CurtailMode": 0}, None),
    ],
    ids=str,
)
def test_a_curtailment_that_is_not_known_is_unknown(changes: Body, *, mining: bool | None) -> None:
    seen = look(config=part("config", **changes))
    assert seen.settings.mining is mining
    assert (Field.MINING in seen.unreadable()) is (mining is None)


@pytest.mark.parametrize(
    ("config", "atm", "mode"),
    [
        ({"ProfileStep": "-1"}, {}, "under-1"),
        ({"ProfileStep": 2}, {}, "over-2"),
        ({"ProfileStep": "+3"}, {}, "over-3"),
        ({"ProfileStep": None, "Profile": "420MHz"}, {}, "under-1"),
        ({"ProfileStep": "", "Profile": "default"}, {}, "normal"),
        ({"ProfileStep": "", "Profile": "mine"}, {}, "profile mine"),
        ({"ProfileStep": None, "Profile": None}, {}, None),
        ({"ProfileStep": True, "Profile": ""}, {}, None),
        ({"IsAtmEnabled": True}, {"Enabled": True, "MaxProfileStep": "4"}, "over-4"),
        ({"IsAtmEnabled": True}, {"Enabled": True, "MaxProfileStep": "-1"}, "normal"),
        (
            {"IsAtmEnabled": True, "ProfileStep": "-9"},
            {"Enabled": True, "MaxProfileStep": None, "MaxProfile": "420MHz"},
            "under-1",
        ),
        (
            {"IsAtmEnabled": True},
            {"Enabled": True, "MaxProfileStep": "", "MaxProfile": "+2"},
            "over-2",
        ),
        (
            {"IsAtmEnabled": True},
            {"Enabled": True, "MaxProfileStep": "", "MaxProfile": ""},
            "normal",
        ),
        (
            {"IsAtmEnabled": True},
            {"Enabled": True, "MaxProfileStep": "", "MaxProfile": "gone"},
            None,
        ),
        ({"IsAtmEnabled": True}, {"Enabled": True, "MaxProfileStep": "", "MaxProfile": None}, None),
        ({"IsAtmEnabled": True}, {"Enabled": "yes"}, None),
        ({"IsAtmEnabled": None}, {"Enabled": False}, "normal"),
    ],
    ids=str,
)
def test_the_mode_that_settings_permit(config: Body, atm: Body, mode: str | None) -> None:
    seen = look(config=part("config", **config), atm=part("atm", **atm))
    assert seen.settings.power_mode == mode
    hot = look(Depth.TELEMETRY, config=part("config", **config))
    assert hot.settings.power_mode in {None, mode}
    assert not hot.unreadable()


@pytest.mark.parametrize(
    "listed",
    [
        [{**POOL, "URL": None}],
        [{**POOL, "User": 5}],
        [{**POOL, "POOL": "x"}],
        [POOL, "x"],
        "none",
        None,
        [POOL] * 65,
    ],
    ids=lambda value: str(value)[:30],
)
def test_pools_that_are_not_understood_are_unknown_and_nothing_is_written(listed: object) -> None:
    odd = {"STATUS": [OK], "POOLS": listed}
    seen = look(Depth.POOLS, pools=odd)
    assert seen.settings.pools is None
    assert seen.unreadable() == {Field.POOLS}
    outcome, asked = write(SetPools((PoolSetting(url="stratum+tcp://n:1", worker="w"),)), pools=odd)
    assert isinstance(outcome, Failed)
    assert asked == ["config+pools"]


def test_blank_slots_are_no_pools_and_order_is_by_group_and_priority() -> None:
    listed = [
        {**POOL, "POOL": 0, "URL": "c:3", "GROUP": 1},
        {**POOL, "POOL": 1, "URL": ""},
        {**POOL, "POOL": 2, "URL": "B:2", "Priority": 1},
        {**POOL, "POOL": 3, "URL": "stratum+tcp://a:1/", "Priority": 0},
    ]
    seen = look(Depth.POOLS, pools={"STATUS": [OK], "POOLS": listed}).settings.pools
    assert seen is not None
    assert [pool.url[14:] for pool in seen] == ["a:1", "b:2", "c:3"]


@pytest.mark.parametrize(
    ("summary", "dev", "curtailed", "activity"),
    [
        ({"GHS 5s": 0, "Elapsed": 20}, {}, "None", Activity.STARTING),
        ({"GHS 5s": 0, "Elapsed": 500}, {}, "None", Activity.IDLE),
        ({"GHS 5s": 0, "Elapsed": 500}, {}, "Sleep", Activity.SLEEPING),
        ({"GHS 5s": 0, "Elapsed": 500}, {}, "?", None),
        ({"GHS 5s": 9e4}, {}, "Sleep", Activity.HASHING),
        ({"GHS 5s": 9e4}, {"IsRamping": True}, "None", Activity.STARTING),
        ({"GHS 5s": "nan"}, {}, "None", None),
        ({"GHS 5s": -1}, {}, "None", None),
    ],
    ids=str,
)
def test_what_it_does_is_told_by_evidence(
    summary: Body, dev: Body, curtailed: str, activity: Activity | None
) -> None:
    seen = look(
        Depth.TELEMETRY,
        summary=part("summary", **summary),
        devs=part("devs", **dev),
        config=part("config", CurtailMode=curtailed),
    )
    assert seen.telemetry.activity is activity


# -- writes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"STATUS": [OK]}, Applied),
        ({"STATUS": [{**OK, "STATUS": "W"}]}, Applied),
        ({"STATUS": [BAD]}, RefusedByDevice),
        ({"STATUS": [{**BAD, "Code": 400, "Msg": "Missing parameter: session"}]}, Failed),
        ({"STATUS": [{**BAD, "Code": 401, "Msg": "Invalid session"}]}, Failed),
        ({"STATUS": [{**BAD, "Code": 400, "Msg": "Invalid action"}]}, RefusedByDevice),
        ({"STATUS": []}, InProgress),
        ({"STATUS": [{}]}, InProgress),
        ({}, InProgress),
        (b"<html>", InProgress),
        (b"", InProgress),
        (b'{"STATUS":[{"STATUS":"S"', InProgress),
        (b"x" * 300_000, InProgress),
        (None, InProgress),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_means_what_it_says_and_an_unclear_one_is_looked_at(
    answer: object, kind: type[Outcome]
) -> None:
    outcome, asked = write(StopMining(), curtail=answer)
    assert isinstance(outcome, kind)
    assert asked == ["config", "logon", "config", "curtail", "logoff"]


@pytest.mark.parametrize(
    "answer",
    [
        {"STATUS": [{**BAD, "Code": 402, "Msg": "Another session is active"}]},
        {"STATUS": [BAD]},
        {"STATUS": [OK]},
        {"STATUS": [OK], "SESSION": [{"SessionID": ""}]},
        {"STATUS": [OK], "SESSION": [{"SessionID": "a,b"}]},
        b"<html>",
        None,
    ],
    ids=str,
)
def test_without_a_session_nothing_is_written(answer: object) -> None:
    outcome, asked = write(StopMining(), logon=answer)
    assert isinstance(outcome, Failed)
    assert outcome.retryable
    assert asked == ["config", "logon"]


@pytest.mark.parametrize(
    "replies",
    [
        {"atm": {"STATUS": [BAD]}},
        {"profiles": {"STATUS": [BAD]}},
        {"config": part("config", IsAtmEnabled=None)},
        {"config": part("config", Profile=None, ProfileStep=None)},
        {"config": {"STATUS": [BAD]}},
    ],
    ids=["atm", "profiles", "atm in config", "profile", "config"],
)
def test_power_is_not_written_from_what_is_unknown(replies: Body) -> None:
    for change in (SetPowerMode("under-1"), StartMining("under-1")):
        outcome, asked = write(change, **replies)
        assert isinstance(outcome, Failed)
        assert asked == ["config+profiles+atm"]


def test_sleep_that_cannot_be_read_is_not_woken_but_stopping_waits_for_nothing() -> None:
    unknown = part("config", CurtailMode="?")
    outcome, asked = write(StartMining("normal"), config=unknown)
    assert isinstance(outcome, Failed)
    assert "curtail" not in asked
    outcome, asked = write(StopMining(), config=unknown)
    assert isinstance(outcome, Applied)
    assert "curtail" in asked


@pytest.mark.parametrize("name", ["0", "3", "a,b"])
def test_a_profile_whose_name_means_something_else_is_not_named(name: str) -> None:
    ladder = {"STATUS": [OK], "PROFILES": [{"Profile Name": name, "Step": "-1"}]}
    outcome, asked = write(SetPowerMode("under-1"), profiles=ladder)
    assert isinstance(outcome, Failed)
    assert not outcome.retryable
    assert "logon" not in asked


# -- the walk from pool list to pool list ------------------------------------------------------------

NAMES = tuple(PoolSetting(url=f"stratum+tcp://{name}:1", worker="w") for name in "abcdef")


def does(found: list[pools.Row], command: pools.Command) -> list[pools.Row]:
    """What cgminer's commands do to a list: the rows afterwards, ids and ranks anew."""
    lists: dict[int, list[tuple[PoolSetting, bool]]] = {}
    for row in found:
        lists.setdefault(row.group, []).append((row.pool, row.enabled))
    first = lists.setdefault(0, [])
    if command.name == "addpool":
        url, worker, _ = command.parameter.split(",")
        first.append((PoolSetting(url=url, worker=worker), True))
    elif command.name == "removegroup":
        lists = {
            group - (group > int(command.parameter)): rows
            for group, rows in lists.items()
            if group != int(command.parameter)
        }
    else:
        row = next(row for row in found if row.id == int(command.parameter))
        assert row.group == 0
        at = first.index((row.pool, row.enabled), row.rank)
        if command.name == "switchpool":
            first.insert(0, (first.pop(at)[0], True))
        elif command.name == "enablepool":
            first[at] = (row.pool, True)
        else:
            assert command.name == "removepool"
            in_use = next(n for n, (_, enabled) in enumerate(first) if enabled)
            assert at != in_use, "the device refuses that"
            assert len(first) > 1, "the device refuses that"
            first.pop(at)
    numbers = itertools.count()
    return [
        pools.Row(group, rank, next(numbers), pool, enabled)
        for group in sorted(lists)
        for rank, (pool, enabled) in enumerate(lists[group])
    ]


@st.composite
def lists_of_pools(draw: st.DrawFn) -> list[pools.Row]:
    numbers = itertools.count()
    return [
        pools.Row(group, rank, next(numbers), draw(st.sampled_from(NAMES)), draw(st.booleans()))
        for group in range(draw(st.integers(1, 3)))
        for rank in range(draw(st.integers(0, 4)))
    ]


@given(lists_of_pools(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
def test_every_walk_ends_at_the_wanted_list_and_never_has_none(
    found: list[pools.Row], wanted: list[PoolSetting]
) -> None:
    had_one = bool(pools.pools_in(found))
    for _ in range(24):
        command = pools.next_command(found, wanted)
        if command is None:
            break
        found = does(found, command)
        assert pools.pools_in(found) or not had_one
        had_one = had_one or bool(pools.pools_in(found))
    assert pools.pools_in(found) == tuple(wanted)
    assert not pools.is_split(found)


# -- whatever comes ----------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = sorted(
    {key for body in WHOLE.values() for section in body.values() for row in section for key in row}
)


@given(
    st.sampled_from(sorted(WHOLE)),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6),
    st.sampled_from(list(Depth)),
)
def test_no_value_makes_a_look_or_a_write_fail(name: str, changes: Body, depth: Depth) -> None:
    replies = {name: part(name, **changes)}
    try:
        seen = look(depth, **replies)
    except ControlPlaneError as error:
        assert isinstance(error, UnexpectedReply)  # noqa: PT017
    else:
        assert seen.asked <= CAPABILITIES.reads
    for change in (SetPools(NAMES[:2]), StartMining("under-1"), StopMining()):
        outcome, _ = write(change, **replies)
        assert isinstance(outcome, Applied | InProgress | Failed | RefusedByDevice)


@given(st.binary(max_size=400), st.sampled_from(list(Depth)))
def test_no_bytes_make_a_look_fail_otherwise_than_it_may(data: bytes, depth: Depth) -> None:
    driver = LuxosDriver(ScriptedNet(lambda _, __: data), StillClock())
    with pytest.raises((Unreachable, UnexpectedReply, OversizedReply)):
        asyncio.run(driver.observe(TARGET, depth))
    outcome = asyncio.run(driver.apply(TARGET, StopMining(), always))
    assert isinstance(outcome, Failed)


def test_words_for_steps_go_both_ways() -> None:
    for step in range(-16, 9):
        assert reads.step_of(reads.mode_of(step)) == step
    assert [reads.step_of(word) for word in ("under-0", "over-", "low", "")] == [None] * 4
