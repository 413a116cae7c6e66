"""What a stock Antminer's replies mean. Pure: replies in, values out.

`stats` comes in two generations. With `new_api` at the top of the command newer builds answer as
their own web page reads (rates, `chain`, `miner-mode`, `watt`); older ones ignore it and give
cgminer's numbered keys. Both are read; what is missing or odd is `None`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from control_plane.core.catalogue import Facts
from control_plane.core.errors import UnexpectedReply
from control_plane.core.observation import (
    Activity,
    Board,
    Field,
    Identity,
    PoolSetting,
    Settings,
    Telemetry,
)
from control_plane.drivers.driver import (
    Reply,
    clean,
    mac_of,
    pools_of,
    positive_of,
    rows,
    text_of,
    whole_of,
)

FAMILY: Final = "antminer_stock"
NORMAL, SLEEP, HIGH, LOW = 0, 1, 2, 3
"""Work modes (asic-rs). 2 is the efficient mode on the S19K Pro (hass-miner PR#588)."""

_MODES: Final = {NORMAL: "normal", HIGH: "high", LOW: "low"}
_EFFICIENT: Final = "hem"
_EFFICIENT_MODELS: Final = ("s19k pro", "s19kpro")
CODES: Final = {"normal": NORMAL, "high": HIGH, "low": LOW, "hem": HIGH, "efficiency": HIGH}
"""Step of the ladder → work mode."""

STARTING_S: Final = 600.0
"""From a start of the mining process to full hash: 5–10 min (MinerWatch, S19 XP)."""
_FULL_SHARE: Final = 0.9
_TO_THS: Final = {"GH/S": 1e-3, "GH": 1e-3, "TH/S": 1.0, "TH": 1.0, "MH/S": 1e-6, "MH": 1e-6}
_MAX_BOARDS: Final = 16
_MAX_FANS: Final = 16
_MAX_SENSORS: Final = 16
_MAX_ERRORS: Final = 16
_NO_POOLS: Final = 8
"""cgminer's code for an empty pool list."""
_FOREIGN: Final = {"lux": "LuxOS", "bos": "Braiins OS", "vnish": "VNish"}
_TOLD: Final = frozenset({Field.MINING, Field.POWER_MODE, Field.FIRMWARE})
_TOLD_OLD: Final = frozenset({Field.FIRMWARE})


class Stats(NamedTuple):
    """One `stats` reply."""

    telemetry: Telemetry
    settings: Settings
    asked: frozenset[Field]
    """What this generation of replies can tell."""
    model: str | None


def read_stats(reply: Reply, what: str) -> Stats:
    """Read `stats` of either generation.

    Raises:
        UnexpectedReply: an error, another firmware's reply, or no statistics in it.
    """
    check_status(reply, what)
    entries = rows(reply.get("STATS"))
    if not entries:
        raise UnexpectedReply(f"{what}: no STATS in the reply")
    info = reply.get("INFO")
    if isinstance(info, dict):
        return _new_stats(info, entries[0])
    return _old_stats(entries[0], entries[-1])


def settings_of(mode: int | None, model: str | None) -> tuple[bool | None, str | None]:
    """Whether a work mode permits hashing, and the ladder step that it names."""
    if mode is None or mode == SLEEP:
        # A sleeping unit does not tell the mode that it slept from.
        return (None if mode is None else False), None
    if mode == HIGH and model is not None and model.lower().endswith(_EFFICIENT_MODELS):
        return True, _EFFICIENT
    return True, _MODES.get(mode)


def _new_stats(info: Reply, row: Reply) -> Stats:
    scale = _TO_THS.get(str(row.get("rate_unit", "GH/s")).upper())
    rate = _scaled(row.get("rate_5s"), scale)
    ideal = _scaled(row.get("rate_ideal"), scale)
    elapsed = positive_of(row.get("elapsed"))
    mode = whole_of(row.get("miner-mode"))
    model = text_of(info.get("type"))
    chain = rows(row.get("chain"))[:_MAX_BOARDS]
    boards = tuple([_new_board(place, board, scale) for place, board in enumerate(chain)])
    mining, power_mode = settings_of(mode, model)
    fans = row.get("fan")
    telemetry = Telemetry(
        hashrate_ths=rate,
        power_w=positive_of(row.get("watt")),
        temperature_c=_hottest(boards),
        fan_rpm=_fans(fans) if isinstance(fans, list) else (),
        boards=boards,
        mining_uptime_s=elapsed,
        activity=_activity(rate, ideal, elapsed, asleep=mode == SLEEP),
    )
    settings = Settings(
        mining=mining, power_mode=power_mode, firmware=text_of(info.get("CompileTime"))
    )
    return Stats(telemetry, settings, _TOLD, model)


def _new_board(place: int, board: Reply, scale: float | None) -> Board:
    chips = board.get("temp_chip")
    heat = [positive_of(value) for value in chips[:_MAX_SENSORS]] if isinstance(chips, list) else []
    index = whole_of(board.get("index"))
    return Board(
        slot=place if index is None else index,
        hashrate_ths=_scaled(board.get("rate_real"), scale),
        chips=whole_of(board.get("asic_num")),
        temperature_c=_highest(heat),
    )


def _old_stats(heading: Reply, row: Reply) -> Stats:
    scale = _TO_THS.get(str(row.get("rate_unit", "GH")).upper())
    rate = _scaled(row.get("GHS 5s"), scale)
    elapsed = positive_of(row.get("Elapsed"))
    fans = whole_of(row.get("fan_num")) or 0
    boards = tuple(
        [
            _old_board(row, place, scale)
            for place in range(1, _MAX_BOARDS + 1)
            if f"chain_acn{place}" in row
        ]
    )
    telemetry = Telemetry(
        hashrate_ths=rate,
        temperature_c=_hottest(boards),
        fan_rpm=_fans([row.get(f"fan{n}") for n in range(1, _MAX_FANS + 1)][:fans]),
        boards=boards,
        mining_uptime_s=elapsed,
        activity=_activity(rate, _scaled(row.get("total_rateideal"), scale), elapsed, asleep=None),
    )
    settings = Settings(firmware=text_of(heading.get("CompileTime")))
    return Stats(telemetry, settings, _TOLD_OLD, text_of(heading.get("Type")))


def _old_board(row: Reply, place: int, scale: float | None) -> Board:
    chips = whole_of(row.get(f"chain_acn{place}"))
    if not chips:
        return Board(slot=place - 1, hashrate_ths=None if chips is None else 0.0, chips=chips)
    return Board(
        slot=place - 1,
        hashrate_ths=_scaled(row.get(f"chain_rate{place}"), scale),
        chips=chips,
        temperature_c=positive_of(row.get(f"temp2_{place}")),
    )


def _activity(
    rate: float | None, ideal: float | None, elapsed: float | None, *, asleep: bool | None
) -> Activity | None:
    """What it does by its own evidence. Hash decides over the mode: acknowledged sleep may not come."""
    if rate is None:
        return Activity.STARTING if elapsed is None and asleep is not None else None
    ramps = elapsed is not None and elapsed < STARTING_S
    if asleep:
        return Activity.HASHING if rate > 0.0 else Activity.SLEEPING
    if ramps and (rate <= 0.0 or (ideal is not None and rate < ideal * _FULL_SHARE)):
        return Activity.STARTING
    if rate > 0.0:
        return Activity.HASHING
    # The old generation tells no mode: without hash it may as well be asleep.
    return None if asleep is None else Activity.IDLE


def _scaled(value: object, scale: float | None) -> float | None:
    number = positive_of(value)
    return None if number is None or scale is None else number * scale


def _hottest(boards: tuple[Board, ...]) -> float | None:
    return _highest([board.temperature_c for board in boards])


def _highest(values: Sequence[float | None]) -> float | None:
    return max([value for value in values if value is not None], default=None)


def _fans(values: list[object]) -> tuple[int, ...]:
    return tuple([rpm for rpm in map(whole_of, values[:_MAX_FANS]) if rpm is not None])


# -- pools -------------------------------------------------------------------------------------------


class Pools(NamedTuple):
    """One `pools` reply."""

    pools: tuple[PoolSetting, ...] | None
    """By priority; `None` where a row cannot be read."""
    accepted: int | None
    rejected: int | None


def read_pools(reply: Reply, what: str) -> Pools:
    """Read `pools` of either generation.

    Raises:
        UnexpectedReply: an error, another firmware's reply, or no list of pools in it.
    """
    status = _status(reply)
    if status.get("STATUS") == "E" and status.get("Code") == _NO_POOLS:
        return Pools((), None, None)
    check_status(reply, what)
    if not isinstance(reply.get("POOLS"), list):
        raise UnexpectedReply(f"{what}: no POOLS in the reply")
    entries = rows(reply["POOLS"])
    ranks = [_either(row, "Priority", "priority") for row in entries]
    order = [whole_of(rank) for rank in ranks]
    if len(entries) != len(reply["POOLS"]) or None in order:
        return Pools(None, None, None)
    ranked = [row for _, _, row in sorted((order[i] or 0, i, row) for i, row in enumerate(entries))]
    pools = pools_of((_either(row, "URL", "url"), _either(row, "User", "user")) for row in ranked)
    return Pools(pools, _sum(ranked, "Accepted"), _sum(ranked, "Rejected"))


def _either(row: Reply, old: str, new: str) -> object:
    return row[old] if old in row else row.get(new)


def _sum(entries: list[Reply], name: str) -> int | None:
    counts = [whole_of(_either(row, name, name.lower())) for row in entries]
    return None if None in counts else sum(count or 0 for count in counts)


# -- the web page's own reads ------------------------------------------------------------------------


def read_facts(info: Reply, kind: Reply) -> Facts:
    """What decides about an image: `get_system_info`, and `miner_type` where the build has it.

    `subtype` (control board and hash boards) is what the device itself holds an image against
    (hashsource_antminer_S21x, FR-1.1).
    """
    return Facts(
        version=text_of(kind.get("fw_version")) or text_of(info.get("system_filesystem_version")),
        model=text_of(kind.get("miner_type")) or text_of(info.get("minertype")),
        control_board=text_of(kind.get("subtype")),
    )


def read_identity(reply: Reply) -> Identity:
    """Read `get_system_info.cgi`.

    Raises:
        UnexpectedReply: it tells neither MAC nor type, so it is not this page.
    """
    mac, model = mac_of(reply.get("macaddr")), text_of(reply.get("minertype"))
    if mac is None and model is None:
        raise UnexpectedReply("get_system_info names neither a MAC nor a type")
    serial = text_of(reply.get("serinum")) or text_of(reply.get("serial_no"))
    return Identity(mac=mac, serial=serial, make="Bitmain", model=model, family=FAMILY)


def read_addressing(reply: Reply) -> str | None:
    """`static` or `dhcp`, from `get_system_info.cgi`."""
    told = (text_of(reply.get("nettype")) or "").lower()
    return told if told in {"static", "dhcp"} else None


def read_errors(reply: Reply) -> tuple[str, ...]:
    """The lamps of `summary.cgi` that are not green, as `lamp: message`."""
    found = []
    for entry in rows(reply.get("SUMMARY")):
        for lamp in rows(entry.get("status"))[:_MAX_ERRORS]:
            if lamp.get("status") != "s":
                message = text_of(lamp.get("msg")) or f"code {lamp.get('code')}"
                found.append(clean(f"{lamp.get('type')}: {message}"))
    return tuple(found)


# -- status ------------------------------------------------------------------------------------------


def _status(reply: Reply) -> Reply:
    status = reply.get("STATUS")
    if isinstance(status, list) and status:
        status = status[0]
    return status if isinstance(status, dict) else {}


def check_status(reply: Reply, what: str) -> None:
    """Refuse errors and the replies of other firmware.

    Raises:
        UnexpectedReply: it is one.
    """
    status = _status(reply)
    told = str(status.get("Description", "")).lower()
    for mark, name in _FOREIGN.items():
        if mark in told:
            raise UnexpectedReply(f"{what}: {name} answers, not stock firmware")
    if status.get("STATUS") not in ("S", "I", "W"):
        message = text_of(status.get("Msg")) or "no status"
        raise UnexpectedReply(f"{what}: {message}")
