"""What LuxOS answers to the commands that change nothing.

Every reply has the data under the command's word in capitals, `STATUS` and `id`. Keys and units: the
Luxor documentation, `config`, `summary`, `devs` and `pools` as the models of bitcap-ipr name them, the
`profiles` of an S19j Pro with LUXminer 2026.4.3, and the keys that pyasic 0.79, asic-rs and the luxos
package read. Codes below 300 are cgminer's; of those above, the documented ones are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from control_plane.simulator.cgminer_rates import counted_shares, rates_by_window
from control_plane.simulator.luxos_unit import Unit
from control_plane.simulator.machine import Phase, Sample

Body = dict[str, Any]
"""A JSON object on its way out: keys are the vendor's, values are text, numbers and containers."""

_GHS, _MHS = 1e3, 1e6
_DIFFICULTY = 65_536
_SHARE_TH = _DIFFICULTY * 2**32 / 1e12
"""Tera-hashes per accepted share at the difficulty that `pools` shows."""
_WINDOWS = (
    ("MHS av", None),
    ("MHS 1m", 60.0),
    ("MHS 5m", 300.0),
    ("MHS 15m", 900.0),
    ("MHS 30m", 1800.0),
    ("MHS 60m", 3600.0),
)
_FULL_SHARE = 0.97
"""Of what a board is heading for: below that it ramps."""


class Answer(NamedTuple):
    """The data of one reply, and what its `STATUS` says."""

    code: int
    message: str
    sections: Body


def version(unit: Unit, _: Sample) -> Answer:
    """What clients know a LuxOS unit by."""
    row = {
        "API": "3.7",
        "CompileTime": unit.build.compiled,
        "LUXminer": unit.build.name,
        "Miner": unit.build.version,
        "Type": unit.machine.model.model,
    }
    return Answer(22, "LUXminer versions", {"VERSION": [row]})  # Documented.


def summary(unit: Unit, sample: Sample) -> Answer:
    """Hash in GH/s, and shares."""
    machine = unit.machine
    accepted, rejected = counted_shares(unit.machine, _SHARE_TH)
    rates = rates_of(unit, sample)
    row = {
        "Accepted": accepted,
        "Best Session Share": 10_485_760,
        "Best Share": 104_857_600,
        "Difficulty Accepted": accepted * _DIFFICULTY,
        "Difficulty Rejected": rejected * _DIFFICULTY,
        "Difficulty Stale": 0,
        "Discarded": 0,
        "Elapsed": int(unit.uptime_s(sample)),
        "GHS 30m": round(rates["MHS 30m"] * _GHS, 2),
        "GHS 5s": round(rates["MHS 5s"] * _GHS, 2),
        "GHS av": round(rates["MHS av"] * _GHS, 2),
        "Getworks": int(unit.uptime_s(sample) / 30),
        "Hardware Errors": accepted // 5000,
        "Last getwork": int(unit.unix_s()),
        "Pool Rejected%": round(100 * rejected / accepted, 4) if accepted else 0.0,
        "Pool Stale%": 0.0,
        "Rejected": rejected,
        "Stale": 0,
        "Total MH": round(machine.work_ths_s() * _MHS, 4),
        "Utility": 0.0,
        "Work Utility": 0.0,
    }
    return Answer(11, "Summary", {"SUMMARY": [row]})


def devs(unit: Unit, sample: Sample) -> Answer:
    """One row per fitted board; a dead one is listed without hash."""
    machine = unit.machine
    rates = {name: machine.board_rates(ths) for name, ths in rates_of(unit, sample).items()}
    target = machine.board_rates(sample.target_ths)
    nominal = unit.profile.hashrate_ths * machine.hash_share / machine.model.boards
    alive = machine.alive_boards()
    rows = []
    for slot in range(machine.model.boards - machine.missing_boards):
        lives = slot in alive
        now = rates["MHS 5s"][slot]
        rows.append(
            {
                "ASC": slot,
                "Accepted": 0,
                "Board": "BHB68606",
                "Connector": f"J{slot + 1}",
                "Device Elapsed": int(unit.uptime_s(sample)),
                "Device Hardware%": 0,
                "Device Rejected%": 0,
                "Enabled": "Y",
                "Hardware Errors": 0,
                "ID": slot,
                "IsRamping": _ramps(unit, sample, now, target[slot]) if lives else False,
                "IsUserShutdown": False,
                "Last Share Pool": 0,
                "Last Share Time": int(unit.unix_s()) if now > 0 else 0,
                **{name: round(rates[name][slot] * _MHS, 2) for name in rates},
                "Name": machine.model.model,
                "Nominal MHS": round(nominal * _MHS, 2),
                "Profile": unit.profile.name,
                "Rejected": 0,
                "SerialNumber": f"{machine.serial}B{slot}" if lives else "",
                # A unit that sleeps still calls its boards alive (a heating controller's field note).
                "Status": "Alive" if lives else "Dead",
                "Temperature": round(unit.board_c(sample, slot), 1) if lives else 0.0,
                "Total MH": 0.0,
                "Utility": 0,
            }
        )
    return Answer(9, f"{len(rows)} ASC(s)", {"DEVS": rows})


def devdetails(unit: Unit, sample: Sample) -> Answer:
    """What is fitted, and how it is driven."""
    machine, profile = unit.machine, unit.profile
    alive = machine.alive_boards()
    rows = [
        {
            "Board": "BHB68606",
            "Chips": machine.model.chips_per_board if slot in alive else 0,
            "Cores": 672,
            "DEVDETAILS": slot,
            "Device Path": f"/dev/ttyS{slot + 1}",
            "Driver": "LUXminer",
            "Frequency": profile.mhz if sample.hashrate_ths > 0 else 0,
            "ID": slot,
            "Kernel": "",
            "Model": machine.model.model,
            "Name": machine.model.model,
            "Profile": profile.name,
            "SerialNumber": f"{machine.serial}B{slot}" if slot in alive else "",
            "Voltage": profile.volts if sample.hashrate_ths > 0 else 0.0,
        }
        for slot in range(machine.model.boards - machine.missing_boards)
    ]
    return Answer(69, "Device Details", {"DEVDETAILS": rows})


def stats(unit: Unit, sample: Sample) -> Answer:
    """The keys of Bitmain's cgminer, for tools that know no other."""
    machine, model = unit.machine, unit.machine.model
    rates = rates_of(unit, sample)
    boards = machine.board_rates(rates["MHS 5s"])
    alive = machine.alive_boards()
    fans = machine.fan_rpm(sample)
    ideal = unit.profile.hashrate_ths * machine.hash_share * _GHS
    row: Body = {
        "STATS": 0,
        "ID": "BTM_SOC0",
        "Elapsed": int(unit.uptime_s(sample)),
        "Calls": 0,
        "Wait": 0.0,
        "GHS 5s": round(rates["MHS 5s"] * _GHS, 2),
        "GHS av": round(rates["MHS av"] * _GHS, 2),
        "rate_30m": round(rates["MHS 30m"] * _GHS, 2),
        "Mode": 2,
        "miner_count": len(alive),
        "frequency": unit.profile.mhz,
        "fan_num": len(fans),
        **{f"fan{place}": rpm for place, rpm in enumerate(fans, 1)},
        "temp_num": len(alive),
        "total_rateideal": round(ideal, 2),
        "rate_unit": "GH",
        "total_freqavg": unit.profile.mhz,
        "total_acn": len(alive) * model.chips_per_board,
        "total_rate": round(rates["MHS 5s"] * _GHS, 2),
        "no_matching_work": 0,
        "miner_id": "no miner id now",
    }
    for slot in range(model.boards):
        lives = slot in alive
        board_c = round(unit.board_c(sample, slot)) if lives else 0
        chip_c = board_c + 15 if lives else 0
        place = slot + 1
        row |= {
            f"temp_pcb{place}": "-".join([str(board_c)] * 4),
            f"temp_chip{place}": "-".join([str(chip_c)] * 4),
            f"temp{place}": board_c,
            f"temp2_{place}": chip_c,
            f"freq{place}": unit.profile.mhz if lives else 0,
            f"chain_rate{place}": round(boards[slot] * _GHS, 2),
            f"chain_acn{place}": model.chips_per_board if lives else 0,
            f"chain_hw{place}": 0,
            f"chain_rateideal{place}": round(ideal / model.boards, 2) if lives else 0.0,
        }
    heading = {
        "BMMiner": "1.0.0",
        "CompileTime": unit.build.compiled,
        "LUXminer": unit.build.name,
        "Miner": unit.build.version,
        "Type": model.model,
    }
    return Answer(70, "LUXminer stats", {"STATS": [heading, row]})


def pools(unit: Unit, sample: Sample) -> Answer:
    """Pools in the order in which their group tries them; a pool's id is its place."""
    accepted, rejected = counted_shares(unit.machine, _SHARE_TH)
    works = unit.machine.has_work and sample.phase in {Phase.STARTING, Phase.HASHING}
    active = unit.active_pools() if works else frozenset()
    shares = max(1, len(unit.active_pools()))
    places: dict[int, int] = {}
    rows = []
    for number, pool in enumerate(unit.pools):
        place = places[pool.group] = places.get(pool.group, -1) + 1
        is_active = number in active
        rows.append(
            {
                "Accepted": accepted // shares if is_active else 0,
                "Bad Work": 0,
                "Best Share": 104_857_600 if is_active else 0,
                "Current Block Height": 0,
                "Current Block Version": 536870912,
                "Diff": "65.5K" if is_active else "",
                "Diff1 Shares": 0,
                "Difficulty Accepted": 0,
                "Difficulty Rejected": 0,
                "Difficulty Stale": 0,
                "Discarded": 0,
                "GROUP": pool.group,
                "Get Failures": 0,
                "Getworks": 0,
                "Has GBT": False,
                "Has Stratum": True,
                "Last Share Difficulty": _DIFFICULTY if is_active else 0,
                "Last Share Time": int(unit.unix_s()) if is_active and accepted else 0,
                "Long Poll": "N",
                "POOL": number,
                "Pool Rejected%": 0.0,
                "Pool Stale%": 0.0,
                "Priority": place,
                "Proxy": "",
                "Proxy Type": "",
                "Quota": unit.kept.groups[pool.group].quota,
                "Rejected": rejected // shares if is_active else 0,
                "Remote Failures": 0,
                "Stale": 0,
                "Status": _pool_status(unit, disabled=pool.disabled),
                "Stratum Active": is_active,
                "Stratum Difficulty": float(_DIFFICULTY) if is_active else 0.0,
                "Stratum URL": pool.url.partition("://")[2] if is_active else "",
                "URL": pool.url,
                "User": pool.worker,
                "Works": 0,
            }
        )
    return Answer(7, f"{len(rows)} Pool(s)", {"POOLS": rows})


def groups(unit: Unit, _: Sample) -> Answer:
    """Groups with their quotas."""
    rows = [
        {"GROUP": number, "Name": group.name, "Quota": group.quota}
        for number, group in enumerate(unit.kept.groups)
    ]
    return Answer(324, "List groups", {"GROUPS": rows})  # Documented.


MINING: Mapping[str, Callable[[Unit, Sample], Answer]] = {
    "version": version,
    "summary": summary,
    "devs": devs,
    "edevs": devs,
    "devdetails": devdetails,
    "stats": stats,
    "estats": stats,
    "pools": pools,
    "groups": groups,
}
"""What mines, and for whom."""


def _pool_status(unit: Unit, *, disabled: bool) -> str:
    if disabled:
        return "Disabled"
    return "Alive" if unit.machine.has_work else "Dead"


def _ramps(unit: Unit, sample: Sample, now_ths: float, target_ths: float) -> bool:
    """Whether a board is on its way up: a pool that is lost does not look like it."""
    if unit.machine.asleep or not unit.machine.has_work:
        return False
    # Not hashing yet is not ramping yet (a heating controller's field note).
    return sample.phase is Phase.STARTING and 0.0 < now_ths < _FULL_SHARE * target_ths


def rates_of(unit: Unit, sample: Sample) -> dict[str, float]:
    """TH/s by window, under the names that `devs` has for MH/s."""
    return rates_by_window(unit.machine, sample, _WINDOWS)
