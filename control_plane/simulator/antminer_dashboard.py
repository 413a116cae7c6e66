"""What a stock Antminer tells its own web page; 4028 gives the same to a command with `new_api`.

`STATUS` is an object, rates are `rate_5s`, boards stand under `chain`. Keys and types: recorded
replies of an S19 Pro+ and an S23 Hyd., and the key lists that pyasic and asic-rs read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from control_plane.simulator import antminer_reads as parts
from control_plane.simulator.antminer_reads import Body
from control_plane.simulator.antminer_unit import CONTROL_BOARD, Unit
from control_plane.simulator.machine import Sample


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
    rates = machine.board_rates(parts.now_ths(unit, sample))
    chips = machine.model.chips_per_board
    ideal = parts.ghs(parts.ideal_ths(unit)) / (len(alive) or 1)
    mhz = parts.frequency(unit, sample)
    chain = []
    for slot in alive:
        hot = round(machine.temperature_c(sample, slot))
        chain.append(
            {
                "index": slot,
                "freq_avg": mhz,
                "rate_ideal": round(ideal, 2),
                "rate_real": parts.ghs(rates[slot]),
                "asic_num": chips,
                "asic": parts.chip_text(chips),
                "temp_pic": parts.four(hot - 16, lives=True),
                "temp_pcb": parts.four(hot - 12, lives=True),
                "temp_chip": parts.four(hot, lives=True),
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
    accepted, rejected = parts.shares(unit)
    works = parts.works(unit, sample)
    rows = [
        {
            "index": slot,
            "url": pool.url,
            "user": pool.user,
            "status": "Alive" if pool.url and works else "Dead",
            "priority": slot,
            "accepted": accepted if slot == parts.first_slot(unit) and works else 0,
            "rejected": rejected if slot == parts.first_slot(unit) and works else 0,
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
        "system_filesystem_version": unit.flash.version,
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
        "subtype": CONTROL_BOARD,
        "fw_version": unit.flash.version,
    }


def log_text(unit: Unit, sample: Sample) -> str:
    """A few lines in the manner of the kernel and miner log."""
    lines = [
        f"Miner type: {unit.machine.model.model}",
        f"Miner compile time: {unit.flash.version}",
        f"chain num: {len(unit.machine.alive_boards())}",
        f"uptime {int(sample.uptime_s)} s, mining {int(sample.mining_uptime_s)} s",
        *(f"ERROR: {error}" for error in unit.errors()),
    ]
    return "\n".join(lines) + "\n"


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
            "CompileTime": unit.flash.version,
            "type": unit.machine.model.model,
        },
        key: rows,
    }


def _rates(unit: Unit, sample: Sample) -> Body:
    machine = unit.machine
    return {
        "elapsed": int(sample.mining_uptime_s),
        "rate_5s": parts.ghs(parts.now_ths(unit, sample)),
        "rate_30m": parts.ghs(machine.rate_over(1800.0)),
        "rate_avg": parts.ghs(machine.rate_over()),
        "rate_ideal": parts.ghs(parts.ideal_ths(unit)),
        "rate_unit": "GH/s",
    }


def _lamp(kind: str, *, ok: bool, message: str = "") -> Body:
    return {"type": kind, "status": "s" if ok else "e", "code": 0 if ok else 1, "msg": message}
