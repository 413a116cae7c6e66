"""What a WhatsMiner answers to the commands that change nothing.

Two kinds, told apart by their envelope. The mining process's own (`summary`, `pools`, `devs`,
`edevs`, `devdetails`) have a list under `STATUS` and the data beside it; they may be joined with
`+`. The API daemon's (`status`, `get_…`) have `STATUS`, `When`, `Code`, `Msg`, `Description` at
the top and cannot be joined.

Key names, casing and units: summaries of an M30S and an M30S+ (pyasic issue 22 and a recorded
dashboard fixture), `status` of four firmware versions (asic-rs issue on `mineroff`, 2026-03),
WhatsMiner API v2.0.5, and the key lists that pyasic, asic-rs and the MDK worker read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from control_plane.simulator.cgminer_rates import counted_shares, rates_by_window
from control_plane.simulator.machine import Phase, Sample, mix
from control_plane.simulator.whatsminer_power import limit_in_force_w, mode_step
from control_plane.simulator.whatsminer_unit import Unit

Body = dict[str, Any]
"""A JSON object on its way out: keys are the vendor's, values are text, numbers and containers."""

_MHS = 1e6
_BASE_MHZ = 600
_DIFFICULTY = 1_048_576
_SHARE_TH = _DIFFICULTY * 2**32 / 1e12
"""Tera-hashes per accepted share at the difficulty that `pools` shows."""
_GRID_V = 230.0
_WINDOWS = (("MHS av", None), ("MHS 1m", 60.0), ("MHS 5m", 300.0), ("MHS 15m", 900.0))


def summary(unit: Unit, sample: Sample) -> Body:
    """`SUMMARY`: hash in MH/s, watts, and the limit in force.

    `HS RT` equals `MHS 5m` in both recorded replies: it trails the truth. `Power Limit` is 0 while
    powered off (field notes of an M60; MDK). `Power Mode` keeps its word when a limit is set.
    """
    machine, model = unit.machine, unit.machine.model
    off = sample.phase is Phase.SLEEPING
    stable = sample.phase is Phase.HASHING and sample.hashrate_ths > 0
    chips = [machine.temperature_c(sample, slot) for slot in sorted(machine.alive_boards())] or [
        0.0
    ]
    fans = machine.fan_rpm(sample) or (0,)
    rates = rates_by_window(machine, sample, _WINDOWS)
    power = round(sample.reported_w)
    factory_ths = mode_step(model, model.nominal).hashrate_ths * machine.hash_share
    accepted, rejected = counted_shares(unit.machine, _SHARE_TH)
    row = {
        "Elapsed": int(sample.mining_uptime_s),
        **{name: round(ths * _MHS, 2) for name, ths in rates.items()},
        "HS RT": round(rates["MHS 5m"] * _MHS, 2),
        "Accepted": accepted,
        "Rejected": rejected,
        "Total MH": round(machine.work_ths_s() * _MHS, 4),
        "Temperature": round(max(chips) - 12.0, 2),
        "freq_avg": _frequency(unit, sample),
        "Fan Speed In": fans[0],
        "Fan Speed Out": fans[-1],
        "Power": power,
        "Power Rate": round(power / sample.hashrate_ths, 2) if sample.hashrate_ths > 0 else 0.0,
        "Pool Rejected%": round(100 * rejected / accepted, 4) if accepted else 0.0,
        "Pool Stale%": 0.0,
        "Last getwork": 0,
        "Uptime": int(sample.uptime_s),
        "Security Mode": 0,
        "Hash Stable": stable,
        "Hash Stable Cost Seconds": round(model.timing.ramp_s[0]) if stable else 0,
        "Hash Deviation%": round(mix(machine.seed, 42) - 0.5, 4),
        "Target Freq": 0 if off else _BASE_MHZ * (100 + unit.power.freq_percent) // 100,
        "Target MHS": round(sample.target_ths * _MHS),
        "Env Temp": round(24.0 + 8.0 * mix(machine.seed, 43), 2),
        "Power Mode": unit.power.mode.capitalize(),
        "Factory GHS": round(factory_ths * 1000),
        "Power Limit": 0 if off else limit_in_force_w(model, unit.power),
        "Chip Temp Min": round(min(chips) - 18.0, 2),
        "Chip Temp Max": round(max(chips), 2),
        "Chip Temp Avg": round(sum(chips) / len(chips) - 8.0, 2),
        "Debug": "",
        "Btminer Fast Boot": "enable" if unit.power.fast_boot else "disable",
        "Upfreq Complete": int(stable),
    }
    return {"STATUS": [_ok("Summary")], "SUMMARY": [row], "id": 1}


def devs(unit: Unit, sample: Sample) -> Body:
    """`DEVS`: one row per fitted board; a dead one is listed without chips."""
    machine = unit.machine
    rates = rates_by_window(machine, sample, _WINDOWS)
    boards = {name: machine.board_rates(ths) for name, ths in rates.items()}
    alive = machine.alive_boards()
    stable = sample.phase is Phase.HASHING and sample.hashrate_ths > 0
    running = sample.phase not in {Phase.SLEEPING, Phase.BOOTING}
    model = machine.model
    factory_ghs = mode_step(model, model.nominal).hashrate_ths * machine.hash_share * 1000
    rows = []
    for slot in range(model.boards - machine.missing_boards):
        lives = slot in alive
        hot = machine.temperature_c(sample, slot) if lives else 0.0
        rows.append(
            {
                "ASC": slot,
                "Slot": slot,
                "Enabled": "Y",
                "Status": ("Alive" if running else "Initialising") if lives else "Dead",
                "Temperature": round(max(0.0, hot - 12.0), 2),
                "Chip Frequency": _frequency(unit, sample) if lives else 0,
                **{name: round(ths[slot] * _MHS, 2) for name, ths in boards.items()},
                "HS RT": round(boards["MHS 5m"][slot] * _MHS, 2),
                "Factory GHS": round(factory_ghs / model.boards),
                "Upfreq Complete": int(stable and lives),
                "Effective Chips": model.chips_per_board if lives and running else 0,
                "PCB SN": f"{machine.serial}{slot:02d}" if lives else "",
                "Chip Data": "K88Z347-2039 BINV01-195001D" if lives else "",
                "Chip Temp Min": round(max(0.0, hot - 18.0), 2),
                "Chip Temp Max": round(hot, 2),
                "Chip Temp Avg": round(max(0.0, hot - 8.0), 2),
                "chip_vol_diff": 9 if lives and running else 0,
            }
        )
    return {"STATUS": [_ok(f"{len(rows)} ASC(s)")], "DEVS": rows, "id": 1}


def pools(unit: Unit, sample: Sample) -> Body:
    """`POOLS`: three rows whatever was stored; an unused slot has a blank URL and user."""
    accepted, rejected = counted_shares(unit.machine, _SHARE_TH)
    works = unit.machine.has_work and sample.phase in {Phase.STARTING, Phase.HASHING}
    first = next((slot for slot, pool in enumerate(unit.pools) if pool.url), None)
    rows = []
    for slot, pool in enumerate(unit.pools):
        active = works and slot == first
        rows.append(
            {
                "POOL": slot + 1,
                "URL": pool.url,
                "Status": "Alive" if pool.url and unit.machine.has_work else "Dead",
                "Priority": slot,
                "Quota": 1,
                "Long Poll": "N",
                "Getworks": int(sample.mining_uptime_s / 30) if active else 0,
                "Accepted": accepted if slot == first else 0,
                "Rejected": rejected if slot == first else 0,
                "Works": 0,
                "Discarded": 0,
                "Stale": 0,
                "Get Failures": 0,
                "Remote Failures": 0,
                "User": pool.worker,
                "Last Share Time": int(unit.unix_s()) if active and accepted else 0,
                "Stratum Active": active,
                "Stratum Difficulty": float(_DIFFICULTY) if active else 0.0,
                "Pool Rejected%": round(100 * rejected / accepted, 4)
                if active and accepted
                else 0.0,
                "Pool Stale%": 0.0,
                "Bad Work": 0,
                "Current Block Height": 0,
                "Current Block Version": 536870912,
            }
        )
    return {"STATUS": [_ok(f"{len(rows)} Pool(s)")], "POOLS": rows, "id": 1}


def devdetails(unit: Unit, sample: Sample) -> Body:
    """`DEVDETAILS`: driver `bitmicro` and the model are what scanners know a WhatsMiner by."""
    del sample
    rows = [
        {
            "DEVDETAILS": slot,
            "Name": "SM",
            "ID": slot,
            "Driver": "bitmicro",
            "Kernel": "",
            "Model": unit.machine.model.model,
        }
        for slot in range(unit.machine.model.boards - unit.machine.missing_boards)
    ]
    return {"STATUS": [_ok("Device Details")], "DEVDETAILS": rows, "id": 1}


def status(unit: Unit, sample: Sample) -> Body:
    """`status`: off or not, mode and limit *as asked for*, all of them text."""
    del sample
    off = unit.machine.asleep
    body = {
        "mineroff": "true" if off else "false",
        "mineroff_reason": "by whatsminer api" if off else "",
        "mineroff_time": unit.stamp(unit.off_at) if off and unit.off_at is not None else "",
        "FirmwareVersion": unit.flash.version,
        "power_mode": unit.mode_as_stored(),
    }
    if unit.build.tells_limit:
        body["power_limit_set"] = "" if unit.power.limit_w is None else str(unit.power.limit_w)
    body["hash_percent"] = str(unit.power.freq_percent) if unit.mode_as_stored() else ""
    return body


def get_version(unit: Unit, sample: Sample) -> Body:
    """API and firmware version; clients choose the API generation by the firmware's date."""
    del sample
    return {
        "api_ver": unit.build.api,
        "fw_ver": unit.flash.version,
        "platform": "H616",
        "chip": "K88Z347-2039 BINV01-195001D",
    }


def get_miner_info(unit: Unit, sample: Sample) -> Body:
    """Network, MAC, LED and serial number."""
    del sample
    network = unit.network
    return {
        "ip": network.ip,
        "proto": network.proto,
        "netmask": network.netmask,
        "gateway": network.gateway,
        "dns": network.dns,
        "hostname": network.hostname,
        "mac": unit.machine.mac.upper(),
        "ledstat": unit.led,
        "upfreq_speed": str(unit.power.upfreq_speed),
        "minersn": unit.machine.serial,
    }


def get_psu(unit: Unit, sample: Sample) -> Body:
    """Electrical readings as text: `iin` in mA, `vin` in hundredths of a volt, `pin` in W."""
    volts = _GRID_V * (0.98 + 0.04 * mix(unit.machine.seed, 44))
    watts = sample.reported_w
    return {
        "name": "P222C",
        "hw_version": "V01.00",
        "sw_version": "V01.00.V01.03",
        "model": "P222C",
        "iin": str(round(1000 * watts / volts)),
        "vin": str(round(100 * volts)),
        "pin": str(round(watts)),
        "fan_speed": "6976" if sample.phase is not Phase.SLEEPING else "3010",
        "version": "-1",
        "serial_no": f"W{unit.machine.serial[-12:]}",
        "vendor": "3",
        "temp0": "41.5",
    }


def get_error_code(unit: Unit, sample: Sample) -> Body:
    """Codes with the moment they arose."""
    since = unit.stamp(unit.unix_s() - sample.mining_uptime_s)
    return {"error_code": [{code: since} for code in unit.errors()]}


MINING: Mapping[str, Callable[[Unit, Sample], Body]] = {
    "summary": summary,
    "devs": devs,
    "edevs": devs,
    "pools": pools,
    "devdetails": devdetails,
}
"""Answered by the mining process; may be joined."""
DAEMON: Mapping[str, Callable[[Unit, Sample], Body]] = {
    "status": status,
    "get_version": get_version,
    "get_miner_info": get_miner_info,
    "get_psu": get_psu,
    "get_error_code": get_error_code,
}
"""Answered by the API daemon, also while the mining process restarts."""


def _ok(message: str) -> Body:
    return {"STATUS": "S", "Msg": message}


def _frequency(unit: Unit, sample: Sample) -> int:
    full = mode_step(unit.machine.model, unit.machine.model.nominal).hashrate_ths
    if full <= 0:
        return 0
    alive = len(unit.machine.alive_boards()) / unit.machine.model.boards or 1.0
    return round(_BASE_MHZ * sample.hashrate_ths / (full * unit.machine.hash_share * alive))
