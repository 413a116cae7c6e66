"""What a stock Antminer answers on 4028 in cgminer's own words, and the figures behind all replies.

`STATUS` is a list here and rates are in GH/s under `GHS 5s`; the newer generation of replies is in
`antminer_dashboard`. Keys and types: a recorded reply of an S21 XP Hyd. and the key lists that
pyasic and asic-rs read. Values that no reader uses are kept few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from control_plane.simulator.antminer_unit import Unit
from control_plane.simulator.machine import Phase, Sample

Body = dict[str, Any]
"""A JSON object on its way out: keys are the vendor's, values are text, numbers and containers."""

_DIFFICULTY = 1_048_576
_SHARE_TH = _DIFFICULTY * 2**32 / 1e12
"""Tera-hashes per accepted share at the difficulty that `pools` shows."""
_BASE_MHZ = 525
_GROUP = 8
"""Chips per group in the string of `o` and `x`."""
_DESCRIPTION = "cgminer 1.0.0"


def version(unit: Unit, sample: Sample) -> Body:
    """`VERSION`: build and type, without MAC or serial (PF#792)."""
    del sample
    row = {"BMMiner": "1.0.0", "API": "3.1", "Miner": unit.build.miner_version}
    row |= {"CompileTime": unit.flash.version, "Type": unit.machine.model.model}
    return _legacy(unit, 22, "CGMiner versions", "VERSION", [row])


def summary(unit: Unit, sample: Sample) -> Body:
    """`SUMMARY`: rates in GH/s."""
    machine = unit.machine
    accepted, rejected = shares(unit)
    row = {
        "Elapsed": int(sample.mining_uptime_s),
        "GHS 5s": ghs(now_ths(unit, sample)),
        "GHS av": ghs(machine.rate_over()),
        "GHS 30m": ghs(machine.rate_over(1800.0)),
        "Found Blocks": 0,
        "Getworks": int(sample.mining_uptime_s / 30) + 1,
        "Accepted": accepted,
        "Rejected": rejected,
        "Hardware Errors": int(sample.mining_uptime_s / 600),
        "Discarded": 0,
        "Stale": 0,
        "Get Failures": 0,
        "Remote Failures": 0,
        "Total MH": round(machine.work_ths_s() * 1e6, 4),
        "Difficulty Accepted": float(accepted * _DIFFICULTY),
        "Difficulty Rejected": float(rejected * _DIFFICULTY),
        "Device Hardware%": 0.0,
        "Pool Rejected%": round(100 * rejected / accepted, 4) if accepted else 0.0,
        "Pool Stale%": 0.0,
        "Last getwork": 0,
    }
    return _legacy(unit, 11, "Summary", "SUMMARY", [row])


def stats(unit: Unit, sample: Sample) -> Body:
    """`STATS`: a heading and one flat row with numbered keys; no watts in this generation."""
    machine = unit.machine
    heading = {"BMMiner": "1.0.0", "Miner": unit.build.miner_version}
    heading |= {"CompileTime": unit.flash.version, "Type": machine.model.model}
    if unit.has_no_boards_yet(sample):
        return _legacy(unit, 70, "CGMiner stats", "STATS", [heading])
    chips = machine.model.chips_per_board
    alive = machine.alive_boards()
    rate_ths = now_ths(unit, sample)
    fans = machine.fan_rpm(sample)
    mhz = frequency(unit, sample)
    row: Body = {
        "STATS": 0,
        "ID": "BTM_SOC0",
        "Elapsed": int(sample.mining_uptime_s),
        "Calls": 0,
        "Wait": 0.0,
        "Max": 0.0,
        "Min": 99999999.0,
        "GHS 5s": ghs(rate_ths),
        "GHS av": ghs(machine.rate_over()),
        "rate_30m": ghs(machine.rate_over(1800.0)),
        "Mode": 2,
        "miner_count": len(alive),
        "frequency": mhz,
        "fan_num": len(fans),
        **{f"fan{index}": rpm for index, rpm in enumerate(fans, 1)},
        "temp_num": len(alive),
        "temp_max": 0,
        "total_rateideal": ghs(ideal_ths(unit)),
        "rate_unit": "GH",
        "total_freqavg": mhz,
        "total_acn": chips * len(alive),
        "total rate": ghs(rate_ths),
        "no_matching_work": int(sample.mining_uptime_s / 600),
    }
    rates = machine.board_rates(rate_ths)
    for slot in range(machine.model.boards):
        place = slot + 1
        lives = slot in alive
        hot = round(machine.temperature_c(sample, slot)) if lives else 0
        row[f"chain_acn{place}"] = chips if lives else 0
        row[f"chain_acs{place}"] = chip_text(chips) if lives else ""
        row[f"chain_hw{place}"] = 0
        row[f"chain_rate{place}"] = f"{ghs(rates[slot]):.2f}" if lives else ""
        row[f"freq{place}"] = mhz if lives else 0
        row[f"temp{place}"] = hot - 12 if lives else 0
        row[f"temp2_{place}"] = hot
        row[f"temp_chip{place}"] = "-".join(map(str, four(hot, lives=lives)))
        row[f"temp_pcb{place}"] = "-".join(map(str, four(hot - 12, lives=lives)))
        row[f"temp_pic{place}"] = "-".join(map(str, four(hot - 16, lives=lives)))
    return _legacy(unit, 70, "CGMiner stats", "STATS", [heading, row])


def pools(unit: Unit, sample: Sample) -> Body:
    """`POOLS`: three rows whatever was stored; an unused slot has a blank URL and is dead."""
    accepted, rejected = shares(unit)
    alive = works(unit, sample)
    rows = []
    for slot, pool in enumerate(unit.conf.pools):
        used = slot == first_slot(unit) and alive
        rows.append(
            {
                "POOL": slot,
                "URL": pool.url,
                "Status": "Alive" if pool.url and alive else "Dead",
                "Priority": slot,
                "Quota": 1,
                "Long Poll": "N",
                "Getworks": int(sample.mining_uptime_s / 30) + 1 if used else 0,
                "Accepted": accepted if used else 0,
                "Rejected": rejected if used else 0,
                "Discarded": 0,
                "Stale": 0,
                "Get Failures": 0,
                "Remote Failures": 0,
                "User": pool.user,
                "Last Share Time": "0:00:02" if used and accepted else "0",
                "Diff": "1.05M" if used else "",
                "Diff1 Shares": 0,
                "Proxy Type": "",
                "Proxy": "",
                "Has Stratum": bool(pool.url),
                "Stratum Active": used,
                "Stratum URL": pool.url.partition("://")[2].partition(":")[0] if used else "",
                "Has GBT": False,
                "Best Share": 0,
                "Pool Rejected%": round(100 * rejected / accepted, 4) if used and accepted else 0.0,
                "Pool Stale%": 0.0,
            }
        )
    return _legacy(unit, 7, f"{len(rows)} Pool(s)", "POOLS", rows)


def devs(unit: Unit, sample: Sample) -> Body:
    """`DEVS`: one row per board that answers."""
    machine = unit.machine
    rates = machine.board_rates(now_ths(unit, sample))
    rows = [
        {
            "ASC": slot,
            "Name": "BTM_SOC",
            "ID": slot,
            "Enabled": "Y",
            "Status": "Alive",
            "Temperature": round(machine.temperature_c(sample, slot), 2),
            "MHS 5s": round(rates[slot] * 1e6, 2),
        }
        for slot in sorted(machine.alive_boards())
    ]
    return _legacy(unit, 9, f"{len(rows)} ASC(s)", "DEVS", rows)


RPC: Mapping[str, Callable[[Unit, Sample], Body]] = {
    "version": version,
    "summary": summary,
    "stats": stats,
    "pools": pools,
    "devs": devs,
}


# -- figures -----------------------------------------------------------------------------------------


def status(unit: Unit, letter: str, code: int, message: str) -> list[Body]:
    """The `STATUS` list of cgminer."""
    return [
        {
            "STATUS": letter,
            "When": int(unit.machine.world.wall_s()),
            "Code": code,
            "Msg": message,
            "Description": _DESCRIPTION,
        }
    ]


def _legacy(unit: Unit, code: int, message: str, key: str, rows: list[Body]) -> Body:
    return {"STATUS": status(unit, "S", code, message), key: rows, "id": 1}


def ghs(ths: float) -> float:
    """GH/s as printed."""
    return round(ths * 1000.0, 2)


def now_ths(unit: Unit, sample: Sample) -> float:
    """Over the last 5 s; nothing without work."""
    return unit.machine.rate_5s(sample) if unit.machine.has_work else 0.0


def ideal_ths(unit: Unit) -> float:
    """Nameplate of the unit's own bin with all its boards, at the config's step."""
    return unit.step_of(unit.conf).hashrate_ths * unit.machine.hash_share


def frequency(unit: Unit, sample: Sample) -> int:
    """Mean of the boards, MHz."""
    ideal = ideal_ths(unit)
    alive = len(unit.machine.alive_boards()) / (unit.machine.model.boards or 1)
    if ideal <= 0 or alive <= 0:
        return 0
    return round(_BASE_MHZ * min(1.0, sample.hashrate_ths / (ideal * alive)))


def shares(unit: Unit) -> tuple[int, int]:
    """Accepted and rejected since the mining process started."""
    found = int(unit.machine.work_ths_s() / _SHARE_TH)
    rejected = found // 1000
    return found - rejected, rejected


def works(unit: Unit, sample: Sample) -> bool:
    """Whether work goes to a pool now."""
    return unit.machine.has_work and sample.phase in {Phase.STARTING, Phase.HASHING}


def first_slot(unit: Unit) -> int | None:
    """The pool slot that work goes to."""
    return next((slot for slot, pool in enumerate(unit.conf.pools) if pool.url), None)


def four(hot: int, *, lives: bool) -> tuple[int, int, int, int]:
    """Four sensors of a board: two at the inlet, two at the outlet."""
    return (hot - 6, hot - 6, hot, hot) if lives else (0, 0, 0, 0)


@lru_cache(maxsize=64)
def chip_text(chips: int) -> str:
    """One `o` per chip that answers."""
    full, rest = divmod(chips, _GROUP)
    return " " + " ".join(["o" * _GROUP] * full + (["o" * rest] if rest else []))
