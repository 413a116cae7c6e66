"""VNish's replies, as devices sent them and as they should not be: in, and values out."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.errors import UnexpectedReply
from control_plane.core.observation import Activity, PoolSetting
from control_plane.drivers import vnish_conf as conf
from control_plane.drivers import vnish_reads as reads

RECORDED: dict[str, Any] = {
    # An S19j Pro on 1.2.0-rc3, shortened: two of its three chains, one of its three pools.
    "miner": {
        "miner_status": {"miner_state": "mining", "miner_state_time": 3564},
        "miner_type": "Antminer S19j Pro (Vnish 1.2.0-rc3)",
        "hr_realtime": 54478.543,
        "chip_temp": {"min": 51, "max": 65},
        "power_consumption": 2631,
        "pools": [
            {"id": 3, "url": "DevFee", "pool_type": "DevFee", "user": "DevFee", "accepted": 215},
            {
                "id": 0,
                "url": "btc.foundryusapool.com:3333",
                "pool_type": "UserPool",
                "user": "acct.19",
                "accepted": 258,
                "rejected": 0,
            },
        ],
        "cooling": {"fan_num": 2, "fans": [{"id": 0, "rpm": 5820}, {"id": 1, "rpm": 5880}]},
        "chains": [
            {
                "id": 1,
                "hashrate_rt": 25275.506,
                "chip_temp": {"min": 51, "max": 65},
                "chip_statuses": {"red": 0, "orange": 0, "grey": 126},
                "status": {"state": "mining"},
            },
            {
                "id": 2,
                "hashrate_rt": 26131.725,
                "chip_temp": {"min": 52, "max": 64},
                "chip_statuses": {"red": 0, "orange": 1, "grey": 125},
                "status": {"state": "mining"},
            },
        ],
    }
}
INFO: dict[str, Any] = {
    # An S19 on 1.2.6.
    "miner": "Antminer S19",
    "fw_name": "Vnish",
    "fw_version": "1.2.6",
    "hr_measure": "GH/s",
    "system": {
        "network_status": {"mac": "FE:07:26:3C:BE:1B", "dhcp": True},
        "uptime": "0:06",
    },
    "serial": "N/A",
}
FAILED: dict[str, Any] = {
    "miner": {
        "miner_status": {
            "miner_state": "failure",
            "miner_state_time": 1,
            "description": "Failed to parse miner configuration",
            "failure_code": 1002,
        },
        "hr_realtime": 0.0,
        "pools": [{"id": 0, "url": "DevFee", "pool_type": "DevFee", "user": "DevFee"}],
        "cooling": {"fan_num": 0, "fans": []},
        "chains": [],
    }
}


def summary_of(**status: Any) -> reads.Summary:
    """The recorded summary with another status or rate."""
    rate = status.pop("rate", 54_000.0)
    nominal = status.pop("nominal", 55_000.0)
    miner = {**RECORDED["miner"], "hr_realtime": rate, "hr_nominal": nominal}
    miner["miner_status"] = {"miner_state_time": 5_000, **status}
    return reads.read_summary({"miner": miner}, "x")


def test_a_recorded_summary_is_read() -> None:
    seen = reads.read_summary(RECORDED, "x")
    assert seen.telemetry.hashrate_ths == pytest.approx(54.478543)
    assert seen.telemetry.power_w == 2631
    assert seen.telemetry.temperature_c == 65
    assert seen.telemetry.fan_rpm == (5820, 5880)
    assert seen.telemetry.mining_uptime_s == 3564
    assert seen.telemetry.activity is Activity.HASHING
    assert (seen.telemetry.accepted, seen.telemetry.rejected) == (258, 0)
    assert [(board.slot, board.chips) for board in seen.telemetry.boards] == [(0, 126), (1, 126)]
    assert seen.mining is True
    assert seen.pools == (PoolSetting("stratum+tcp://btc.foundryusapool.com:3333", "acct.19"),)


def test_one_that_could_not_read_its_own_config_has_no_pools_and_says_why() -> None:
    seen = reads.read_summary(FAILED, "x")
    assert (seen.pools, seen.mining, seen.telemetry.activity) == ((), True, Activity.FAULT)
    assert seen.telemetry.errors == ("1002: Failed to parse miner configuration",)


def test_a_miner_that_cannot_be_asked_yet_is_starting_and_nothing_else_is_known() -> None:
    seen = reads.read_summary({"miner": None}, "x")
    assert seen.telemetry.activity is Activity.STARTING
    assert (seen.mining, seen.state, seen.pools) == (None, None, None)


@pytest.mark.parametrize(
    ("state", "mining", "activity"),
    [
        ("mining", True, Activity.HASHING),
        ("auto-tuning", True, Activity.TUNING),
        ("initializing", True, Activity.STARTING),
        ("restarting", True, Activity.STARTING),
        ("failure", True, Activity.FAULT),
        ("a-new-word", None, None),
    ],
)
def test_a_state_tells_what_settings_permit_and_what_happens(
    state: str, mining: bool | None, activity: Activity | None
) -> None:
    seen = summary_of(miner_state=state)
    assert (seen.mining, seen.telemetry.activity) == (mining, activity)


def test_hash_decides_over_an_acknowledged_stop() -> None:
    assert summary_of(miner_state="stopped").telemetry.activity is Activity.HASHING
    assert summary_of(miner_state="stopped", rate=0.0).telemetry.activity is Activity.SLEEPING
    assert summary_of(miner_state="mining", rate=0.0).telemetry.activity is Activity.IDLE


def test_a_ramp_is_a_start_whatever_it_calls_itself() -> None:
    ramping = summary_of(miner_state="mining", miner_state_time=60, rate=30_000.0)
    assert ramping.telemetry.activity is Activity.STARTING


def test_masked_workers_are_not_workers() -> None:
    miner = {**RECORDED["miner"]}
    miner["pools"] = [{"id": 0, "url": "a:1", "pool_type": "UserPool", "user": "*****"}]
    seen = reads.read_summary({"miner": miner}, "x")
    assert (seen.pools, seen.is_masked) == (None, True)


def test_pools_stand_in_the_order_of_their_ids() -> None:
    miner = {**RECORDED["miner"]}
    miner["pools"] = [
        {"id": place, "url": f"{place}.pool:1", "pool_type": "UserPool", "user": "w"}
        for place in (2, 0, 1)
    ]
    seen = reads.read_summary({"miner": miner}, "x")
    assert seen.pools is not None
    assert [pool.url[14] for pool in seen.pools] == ["0", "1", "2"]


def test_what_is_wrong_is_told_part_by_part() -> None:
    miner = {
        **RECORDED["miner"],
        "miner_status": {"miner_state": "mining", "throttled": 60},
        "chains": [{"id": 2, "status": {"state": "failure", "description": "Chain break"}}],
        "cooling": {"fans": [{"id": 1, "rpm": 0, "status": "lost"}]},
    }
    seen = reads.read_summary({"miner": miner}, "x")
    assert seen.telemetry.errors == ("throttled to 60 %", "chain 2: Chain break", "fan 1: lost")


def test_a_recorded_info_is_read_and_no_serial_is_none() -> None:
    seen = reads.read_info(INFO, "x")
    assert seen.identity.mac == "fe:07:26:3c:be:1b"
    assert (seen.identity.serial, seen.identity.model) == (None, "Antminer S19")
    assert (seen.firmware, seen.addressing, seen.uptime_s) == ("1.2.6", "dhcp", 360.0)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"fw_name": "AnthillX"}, "not VNish"),
        ({"hr_measure": "MH/s"}, "Scrypt"),
        ({"system": {}}, "network"),
        ({"system": {"network_status": {"mac": "00:00:00:00:00:00"}}}, "MAC"),
    ],
)
def test_an_info_that_names_nobody_is_refused(odd: dict[str, Any], why: str) -> None:
    with pytest.raises(UnexpectedReply, match=why):
        reads.read_info({**INFO, **odd}, "x")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:06", 360.0),
        (" 1:00", 3600.0),
        ("10 days, 18:00", 928_800.0),
        ("1 days, 0:00", 86_400.0),
        ("", None),
        ("soon", None),
        (7, None),
    ],
)
def test_an_uptime_is_text(text: object, seconds: float | None) -> None:
    assert reads.read_uptime(text) == seconds


# -- settings --------------------------------------------------------------------------------------------


def document(**overclock: Any) -> dict[str, Any]:
    """Settings as they are read."""
    slots = [
        {"url": "a.pool:1", "user": "w", "pass": "secret"},
        {"url": "", "user": "", "pass": ""},
    ]
    told = {"preset": "2950", "preset_switcher": {"enabled": False, "top_preset": None}}
    return {"miner": {"pools": slots, "overclock": {**told, **overclock}, "misc": {"x": 1}}}


LADDER = conf.Ladder(("1900", "2350", "2950", "3200"), frozenset({"2950"}))


def switcher(**more: Any) -> dict[str, Any]:
    """A switcher that is on."""
    return {"enabled": True, "top_preset": "3200", "min_preset": "2350", "rise_temp": 55, **more}


def test_what_is_permitted_is_the_configured_preset_or_the_top_of_the_switcher() -> None:
    read = conf.read_conf
    assert conf.permitted(read(document()), None) == "2950"
    on = read(document(preset_switcher=switcher()))
    assert conf.permitted(on, None) == "3200"
    below = read(document(preset_switcher=switcher(top_preset="2350")))
    assert conf.permitted(below, None) == "2950"
    unbounded = read(document(preset_switcher=switcher(top_preset=None)))
    assert unbounded.is_unbounded
    assert conf.permitted(unbounded, LADDER) == "3200"
    assert conf.permitted(unbounded, None) is None
    manual = read(document(preset="disabled", preset_switcher=switcher()))
    assert conf.permitted(manual, None) is None


def test_a_preset_is_written_alone_unless_the_switcher_would_leave_it() -> None:
    alone = msgspec.json.decode(conf.with_preset(conf.read_conf(document()), "2350"))
    assert alone == {"miner": {"overclock": {"preset": "2350"}}}
    on = conf.read_conf(document(preset_switcher=switcher()))
    lowered = msgspec.json.decode(conf.with_preset(on, "1900"))["miner"]["overclock"]
    assert lowered["preset_switcher"] == switcher(top_preset="1900", min_preset="1900")


def test_pools_are_written_as_three_slots_that_keep_their_passwords() -> None:
    pools = (
        PoolSetting("stratum+tcp://a.pool:1", "new"),
        PoolSetting("stratum+ssl://b.pool:2", "new"),
    )
    body = msgspec.json.decode(conf.with_pools(conf.read_conf(document()), pools))
    assert body["miner"]["pools"] == [
        {"url": "a.pool:1", "user": "new", "pass": "secret"},
        {"url": "stratum+ssl://b.pool:2", "user": "new", "pass": "x"},
        {"url": "", "user": "", "pass": ""},
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"miner": None},
        {"miner": {"pools": []}},
        {"miner": {"overclock": {"preset": "1"}}},
        document(preset=None),
        document(preset_switcher={"top_preset": "1"}),
        document(preset_switcher="on"),
        {"miner": {**document()["miner"], "pools": [{"url": 1, "user": "w"}]}},
        {"miner": {**document()["miner"], "pools": ["a"]}},
    ],
)
def test_settings_that_are_not_whole_are_not_believed(odd: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedReply):
        conf.read_conf(odd)


def test_presets_are_a_list_or_lie_under_their_name() -> None:
    listed = [
        {"name": "disabled", "status": "untuned"},
        {"name": "3200", "status": "untuned"},
        {"name": "950", "status": "tuned"},
    ]
    for told in (listed, {"presets": listed}):
        assert conf.read_ladder(told) == conf.Ladder(("950", "3200"), frozenset({"950"}))
    with pytest.raises(UnexpectedReply):
        conf.read_ladder("none")


LEAVES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    float("nan"),
    "",
    "x",
    [],
    {},
    [None],
    [{}],
    {"enabled": 1},
)
WHOLE: dict[str, Any] = {**INFO, **document(preset_switcher=switcher()), "presets": [{"name": "1"}]}
WHOLE["miner"] = {**RECORDED["miner"], **WHOLE["miner"]}
WHOLE["miner"]["pools"] = [
    {**slot, "id": place, "pool_type": "UserPool"}
    for place, slot in enumerate(WHOLE["miner"]["pools"])
]


@st.composite
def odd_replies(draw: st.DrawFn) -> dict[str, Any]:
    """A whole reply of every kind in which up to three values were replaced, at any depth."""
    reply: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(WHOLE))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = reply
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
                # A copy: a later round may go into it.
                place[key] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
                break
            place = inner
    return reply


@given(odd_replies())
def test_any_reply_is_read_or_refused(reply: dict[str, Any]) -> None:
    for read in (
        lambda told: reads.read_summary(told, "x"),
        lambda told: reads.read_info(told, "x"),
        conf.read_conf,
        conf.read_ladder,
        reads.read_running_preset,
    ):
        try:
            read(reply)
        except UnexpectedReply:
            continue
