"""What VNish answers on 4028: cgminer's old words, read-only, with `a+b` joined (pyasic).

The mining process is a cgminer with Bitmain's numbered keys in `stats`. Its `version` names no
Antminer: pyasic takes one that does for stock firmware.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from control_plane.simulator.machine import Sample
from control_plane.simulator.vnish_dashboard import DIFFICULTY, SHARE_TH, Body
from control_plane.simulator.vnish_unit import Unit

_DESCRIPTION = "cgminer 4.11.1"


def status(unit: Unit, kind: str, code: int, message: str) -> list[Body]:
    """The `STATUS` of a reply."""
    return [
        {
            "STATUS": kind,
            "When": int(unit.machine.world.wall_s()),
            "Code": code,
            "Msg": message,
            "Description": _DESCRIPTION,
        }
    ]


def version(unit: Unit, sample: Sample) -> Body:
    """`VERSION`."""
    del sample
    row = {"CGMiner": "4.11.1", "API": "3.7", "Miner": f"VNISH {unit.flash.version}"}
    return _reply(unit, 22, "CGMiner versions", "VERSION", [row])


def summary(unit: Unit, sample: Sample) -> Body:
    """`SUMMARY`: rates in GH/s."""
    accepted = _accepted(unit)
    row = {
        "Elapsed": int(sample.mining_uptime_s),
        "GHS 5s": _ghs(unit.machine.rate_5s(sample)),
        "GHS av": _ghs(unit.machine.rate_over()),
        "Accepted": accepted,
        "Rejected": accepted // 200,
        "Hardware Errors": int(sample.mining_uptime_s / 600),
    }
    return _reply(unit, 11, "Summary", "SUMMARY", [row])


def stats(unit: Unit, sample: Sample) -> Body:
    """`STATS`: a heading with the type, and one row with numbered keys."""
    machine = unit.machine
    fans = machine.fan_rpm(sample)
    alive = machine.alive_boards()
    rates = machine.board_rates(machine.rate_5s(sample))
    heading = {
        "CGMiner": "4.11.1",
        "Miner": "uart_trans.1.3",
        "CompileTime": "Thu May 29 19:22:26 UTC 2025",
        "Type": f"{machine.model.model} (Vnish {unit.flash.version})",
    }
    row: Body = {
        "STATS": 0,
        "ID": "BTM_SOC0",
        "Elapsed": int(sample.mining_uptime_s),
        "GHS 5s": _ghs(machine.rate_5s(sample)),
        "GHS av": _ghs(machine.rate_over()),
        "miner_count": len(alive),
        "fan_num": len(fans),
        **{f"fan{place}": rpm for place, rpm in enumerate(fans, 1)},
        "total_rateideal": _ghs(sample.target_ths),
        "rate_unit": "GH",
    }
    chips = machine.model.chips_per_board
    for slot in range(machine.model.boards):
        place, lives = slot + 1, slot in alive
        hot = round(unit.chip_c(sample, slot)) if lives else 0
        row[f"chain_acn{place}"] = chips if lives else 0
        row[f"chain_acs{place}"] = "o" * chips if lives else ""
        row[f"chain_rate{place}"] = f"{_ghs(rates[slot]):.2f}" if lives else ""
        row[f"temp{place}"] = hot
        row[f"temp2_{place}"] = max(0, hot - 12)
    return _reply(unit, 70, "CGMiner stats", "STATS", [heading, row])


def pools(unit: Unit, sample: Sample) -> Body:
    """`POOLS`: without the makers' own."""
    del sample
    accepted = _accepted(unit)
    rows = [
        {
            "POOL": place,
            "URL": pool.url if "://" in pool.url else f"stratum+tcp://{pool.url}",
            "User": pool.user,
            "Status": "Alive" if unit.machine.has_work else "Dead",
            "Priority": place,
            "Quota": 1,
            "Accepted": 0 if place else accepted,
            "Rejected": 0 if place else accepted // 200,
            "Get Failures": 0,
            "Remote Failures": 0,
            "Stratum Active": place == 0 and unit.machine.has_work,
            "Difficulty Accepted": 0.0 if place else float(accepted * DIFFICULTY),
        }
        for place, pool in enumerate(unit.pools_in_force)
    ]
    return _reply(unit, 7, f"{len(rows)} Pool(s)", "POOLS", rows)


RPC: Mapping[str, Callable[[Unit, Sample], Body]] = {
    "version": version,
    "summary": summary,
    "stats": stats,
    "pools": pools,
}


def _reply(unit: Unit, code: int, message: str, key: str, rows: list[Body]) -> Body:
    return {"STATUS": status(unit, "S", code, message), key: rows, "id": 1}


def _accepted(unit: Unit) -> int:
    return int(unit.machine.work_ths_s() / SHARE_TH)


def _ghs(ths: float) -> float:
    return round(ths * 1000.0, 2)
