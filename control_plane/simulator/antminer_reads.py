"""What a stock Antminer answers to the questions that change nothing, on 4028 and on port 80.

Two generations live side by side. cgminer's own replies (`STATUS` is a list, rates in GH/s under
`GHS 5s`) and Bitmain's new ones (`STATUS` is an object, `rate_5s`, boards under `chain`): the web
server gives the new kind, 4028 gives it to a command with `"new_api":true` at its top.

Keys and types: recorded replies of an S19 Pro+, an S21 XP Hyd. and an S23 Hyd., and the key lists
that pyasic and asic-rs read. Values that no reader uses are kept few.
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


# -- 4028, cgminer's generation --------------------------------------------------------------------


def version(unit: Unit, sample: Sample) -> Body:
    """`VERSION`: build and type, without MAC or serial (PF#792)."""
    del sample
    row = {"BMMiner": "1.0.0", "API": "3.1", "Miner": unit.build.miner_version}
    row |= {"CompileTime": unit.build.compile_time, "Type": unit.machine.model.model}
    return _legacy(unit, 22, "CGMiner versions", "VERSION", [row])


def summary(unit: Unit, sample: Sample) -> Body:
    """`SUMMARY`: rates in GH/s."""
    machine = unit.machine
    accepted, rejected = _shares(unit)
    row = {
        "Elapsed": int(sample.mining_uptime_s),
        "GHS 5s": _ghs(_now_ths(unit, sample)),
        "GHS av": _ghs(machine.rate_over()),
        "GHS 30m": _ghs(machine.rate_over(1800.0)),
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
    heading |= {"CompileTime": unit.build.compile_time, "Type": machine.model.model}
    if unit.has_no_boards_yet(sample):
        return _legacy(unit, 70, "CGMiner stats", "STATS", [heading])
    chips = machine.model.chips_per_board
    alive = machine.alive_boards()
    now_ths = _now_ths(unit, sample)
    fans = machine.fan_rpm(sample)
    mhz = _frequency(unit, sample)
    row: Body = {
        "STATS": 0,
        "ID": "BTM_SOC0",
        "Elapsed": int(sample.mining_uptime_s),
        "Calls": 0,
        "Wait": 0.0,
        "Max": 0.0,
        "Min": 99999999.0,
        "GHS 5s": _ghs(now_ths),
        "GHS av": _ghs(machine.rate_over()),
        "rate_30m": _ghs(machine.rate_over(1800.0)),
        "Mode": 2,
        "miner_count": len(alive),
        "frequency": mhz,
        "fan_num": len(fans),
        **{f"fan{index}": rpm for index, rpm in enumerate(fans, 1)},
        "temp_num": len(alive),
        "temp_max": 0,
        "total_rateideal": _ghs(_ideal_ths(unit)),
        "rate_unit": "GH",
        "total_freqavg": mhz,
        "total_acn": chips * len(alive),
        "total rate": _ghs(now_ths),
        "no_matching_work": int(sample.mining_uptime_s / 600),
    }
    rates = machine.board_rates(now_ths)
    for slot in range(machine.model.boards):
        place = slot + 1
        lives = slot in alive
        hot = round(machine.temperature_c(sample, slot)) if lives else 0
        row[f"chain_acn{place}"] = chips if lives else 0
        row[f"chain_acs{place}"] = _chip_text(chips) if lives else ""
        row[f"chain_hw{place}"] = 0
        row[f"chain_rate{place}"] = f"{_ghs(rates[slot]):.2f}" if lives else ""
        row[f"freq{place}"] = mhz if lives else 0
        row[f"temp{place}"] = hot - 12 if lives else 0
        row[f"temp2_{place}"] = hot
        row[f"temp_chip{place}"] = "-".join(map(str, _four(hot, lives=lives)))
        row[f"temp_pcb{place}"] = "-".join(map(str, _four(hot - 12, lives=lives)))
        row[f"temp_pic{place}"] = "-".join(map(str, _four(hot - 16, lives=lives)))
    return _legacy(unit, 70, "CGMiner stats", "STATS", [heading, row])


def pools(unit: Unit, sample: Sample) -> Body:
    """`POOLS`: three rows whatever was stored; an unused slot has a blank URL and is dead."""
    accepted, rejected = _shares(unit)
    works = _works(unit, sample)
    rows = []
    for slot, pool in enumerate(unit.conf.pools):
        used = slot == _first(unit) and works
        rows.append(
            {
                "POOL": slot,
                "URL": pool.url,
                "Status": "Alive" if pool.url and works else "Dead",
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
    rates = machine.board_rates(_now_ths(unit, sample))
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


# -- Bitmain's generation --------------------------------------------------------------------------


def new_summary(unit: Unit, sample: Sample) -> Body:
    """Rates and the four lamps of the dashboard."""
    faults = unit.errors()
    boards_bad = len(unit.machine.alive_boards()) < unit.machine.model.boards
    works = unit.machine.has_work
    lamps = [
        _lamp("rate", ok=not boards_bad, message=faults[0] if boards_bad else ""),
        _lamp("network", ok=works, message="" if works else faults[-1]),
        _lamp("fans", ok=True),
        _lamp("temp", ok=True),
    ]
    row = {**_rates(unit, sample), "hw_all": 0, "bestshare": 0, "status": lamps}
    return _new(unit, "summary", "SUMMARY", [row])


def new_stats(unit: Unit, sample: Sample) -> Body:
    """Rates, fans, boards, and `watt` where the build reports it."""
    machine = unit.machine
    fans = machine.fan_rpm(sample)
    alive = [] if unit.has_no_boards_yet(sample) else sorted(machine.alive_boards())
    rates = machine.board_rates(_now_ths(unit, sample))
    chips = machine.model.chips_per_board
    ideal = _ghs(_ideal_ths(unit)) / (len(alive) or 1)
    mhz = _frequency(unit, sample)
    chain = []
    for slot in alive:
        hot = round(machine.temperature_c(sample, slot))
        chain.append(
            {
                "index": slot,
                "freq_avg": mhz,
                "rate_ideal": round(ideal, 2),
                "rate_real": _ghs(rates[slot]),
                "asic_num": chips,
                "asic": _chip_text(chips),
                "temp_pic": _four(hot - 16, lives=True),
                "temp_pcb": _four(hot - 12, lives=True),
                "temp_chip": _four(hot, lives=True),
                "hw": 0,
                "eeprom_loaded": True,
                "sn": f"{machine.serial}{slot:02d}",
                "hwp": 0.0,
            }
        )
    row: Body = {
        **_rates(unit, sample),
        "chain_num": len(chain),
        "fan_num": len(fans),
        "fan": fans,
        "hwp_total": 0.0,
        "miner-mode": unit.conf.mode,
        "freq-level": unit.conf.freq_level,
        "chain": chain,
    }
    if unit.build.reports_watts:
        row["watt"] = round(sample.reported_w)
    return _new(unit, "stats", "STATS", [row])


def new_pools(unit: Unit, sample: Sample) -> Body:
    """The dashboard's table: three rows."""
    accepted, rejected = _shares(unit)
    works = _works(unit, sample)
    rows = [
        {
            "index": slot,
            "url": pool.url,
            "user": pool.user,
            "status": "Alive" if pool.url and works else "Dead",
            "priority": slot,
            "accepted": accepted if slot == _first(unit) and works else 0,
            "rejected": rejected if slot == _first(unit) and works else 0,
            "stale": 0,
            "diff": "1.05M",
        }
        for slot, pool in enumerate(unit.conf.pools)
    ]
    return _new(unit, "pools", "POOLS", rows)


NEW: Mapping[str, Callable[[Unit, Sample], Body]] = {
    "summary": new_summary,
    "stats": new_stats,
    "pools": new_pools,
}


# -- port 80 only ----------------------------------------------------------------------------------


def system_info(unit: Unit) -> Body:
    """Who it is: type, MAC, firmware, and on newer builds the serial number."""
    network, machine, build = unit.network, unit.machine, unit.build
    body = {
        "minertype": machine.model.model,
        "nettype": network.proto,
        "netdevice": "eth0",
        "macaddr": machine.mac.upper(),
        "hostname": network.hostname,
        "ipaddress": network.ip,
        "netmask": network.netmask,
        "gateway": network.gateway,
        "dnsservers": network.dns,
        "system_mode": "GNU/Linux",
        "system_kernel_version": "Linux 4.9.113 #1 SMP PREEMPT",
        "system_filesystem_version": build.compile_time,
        "firmware_type": "Release",
        "Algorithm": "sha256d",
    }
    if build.serial_key:
        body[build.serial_key] = machine.serial
    return body


def network_info(unit: Unit) -> Body:
    """Addresses in force and as configured; the configured ones are blank on DHCP."""
    network = unit.network
    static = network.proto != "DHCP"
    return {
        "nettype": network.proto,
        "netdevice": "eth0",
        "macaddr": unit.machine.mac.upper(),
        "ipaddress": network.ip,
        "netmask": network.netmask,
        "conf_nettype": network.proto,
        "conf_hostname": network.hostname,
        "conf_ipaddress": network.ip if static else "",
        "conf_netmask": network.netmask if static else "",
        "conf_gateway": network.gateway if static else "",
        "conf_dnsservers": network.dns if static else "",
    }


def miner_type(unit: Unit) -> Body:
    """Type and control board."""
    return {
        "miner_type": unit.machine.model.model,
        "subtype": "AMLCtrl_BHB68xxx",
        "fw_version": unit.build.compile_time,
    }


def log_text(unit: Unit, sample: Sample) -> str:
    """A few lines in the manner of the kernel and miner log."""
    lines = [
        f"Miner type: {unit.machine.model.model}",
        f"Miner compile time: {unit.build.compile_time}",
        f"chain num: {len(unit.machine.alive_boards())}",
        f"uptime {int(sample.uptime_s)} s, mining {int(sample.mining_uptime_s)} s",
        *(f"ERROR: {error}" for error in unit.errors()),
    ]
    return "\n".join(lines) + "\n"


# -- parts -----------------------------------------------------------------------------------------


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


def _new(unit: Unit, name: str, key: str, rows: list[Body]) -> Body:
    return {
        "STATUS": {
            "STATUS": "S",
            "when": int(unit.machine.world.wall_s()),
            "Msg": name,
            "api_version": "1.0.0",
        },
        "INFO": {
            "miner_version": unit.build.miner_version,
            "CompileTime": unit.build.compile_time,
            "type": unit.machine.model.model,
        },
        key: rows,
    }


def _rates(unit: Unit, sample: Sample) -> Body:
    machine = unit.machine
    return {
        "elapsed": int(sample.mining_uptime_s),
        "rate_5s": _ghs(_now_ths(unit, sample)),
        "rate_30m": _ghs(machine.rate_over(1800.0)),
        "rate_avg": _ghs(machine.rate_over()),
        "rate_ideal": _ghs(_ideal_ths(unit)),
        "rate_unit": "GH/s",
    }


def _lamp(kind: str, *, ok: bool, message: str = "") -> Body:
    return {"type": kind, "status": "s" if ok else "e", "code": 0 if ok else 1, "msg": message}


def _ghs(ths: float) -> float:
    return round(ths * 1000.0, 2)


def _now_ths(unit: Unit, sample: Sample) -> float:
    return unit.machine.rate_5s(sample) if unit.machine.has_work else 0.0


def _ideal_ths(unit: Unit) -> float:
    """Nameplate of the unit's own bin with all its boards, at the config's step."""
    return unit.step_of(unit.conf).hashrate_ths * unit.machine.hash_share


def _frequency(unit: Unit, sample: Sample) -> int:
    ideal = _ideal_ths(unit)
    alive = len(unit.machine.alive_boards()) / (unit.machine.model.boards or 1)
    if ideal <= 0 or alive <= 0:
        return 0
    return round(_BASE_MHZ * min(1.0, sample.hashrate_ths / (ideal * alive)))


def _shares(unit: Unit) -> tuple[int, int]:
    found = int(unit.machine.work_ths_s() / _SHARE_TH)
    rejected = found // 1000
    return found - rejected, rejected


def _works(unit: Unit, sample: Sample) -> bool:
    return unit.machine.has_work and sample.phase in {Phase.STARTING, Phase.HASHING}


def _first(unit: Unit) -> int | None:
    return next((slot for slot, pool in enumerate(unit.conf.pools) if pool.url), None)


def _four(hot: int, *, lives: bool) -> tuple[int, int, int, int]:
    """Four sensors of a board: two at the inlet, two at the outlet."""
    return (hot - 6, hot - 6, hot, hot) if lives else (0, 0, 0, 0)


@lru_cache(maxsize=64)
def _chip_text(chips: int) -> str:
    full, rest = divmod(chips, _GROUP)
    return " " + " ".join(["o" * _GROUP] * full + (["o" * rest] if rest else []))
