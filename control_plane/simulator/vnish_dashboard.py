"""`/summary` of VNish: the dashboard, with its pools, fans and chains.

Rates are GH/s. Chains count from 1, pools from 0; the makers' own pool stands last. Keys and types: the
swagger document; values in the manner of an S19 (1.2.6) and an S19j Pro (1.2.0-rc3).
"""

from __future__ import annotations

from typing import Any

from control_plane.simulator.machine import Phase, Sample
from control_plane.simulator.vnish_builds import Locked
from control_plane.simulator.vnish_unit import Unit

Body = dict[str, Any]
"""A JSON object on its way out: keys are the vendor's."""

DIFFICULTY = 131_072
SHARE_TH = DIFFICULTY * 2**32 / 1e12
"""Tera-hashes per accepted share at that difficulty."""
MILLIVOLT = 13_600
_DEVFEE = 0.02
"""Share of the work that goes to the makers: 1.8 to 2.7 % in the published replies."""


def summary(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/summary`: the dashboard; `miner` is null while the mining process cannot be asked."""
    if unit.is_restarting(sample):
        return {"miner": None}
    machine, build = unit.machine, unit.build
    rate = machine.rate_5s(sample) if sample.hashrate_ths > 0.0 else 0.0
    masked = build.summary is Locked.MASKED and not unlocked
    rows = chains(unit, sample, rate)
    watts = round(sample.reported_w)
    efficiency = round(watts / rate, 2) if rate else 0.0
    state = status(unit, sample)
    if build.has_throttle:
        state["throttled"] = unit.throttle
    return {
        "miner": {
            "miner_status": state,
            "miner_type": f"{machine.model.model} (Vnish {unit.flash.version})",
            "hr_stock": ghs(nominal(unit)),
            "average_hashrate": round(machine.rate_over(), 5),
            "instant_hashrate": round(rate, 5),
            "hr_realtime": ghs(rate),
            "hr_nominal": ghs(sample.target_ths),
            "hr_average": ghs(machine.rate_over()),
            "pcb_temp": _span([chain["pcb_temp"] for chain in rows]),
            "chip_temp": _span([chain["chip_temp"] for chain in rows]),
            "power_consumption": watts,
            "power_usage": watts if build.usage_is_watts else round(efficiency),
            "power_efficiency": efficiency,
            "hw_errors_percent": 0.0,
            "hr_error": 0.0,
            "hw_errors": int(sample.mining_uptime_s / 600),
            "devfee_percent": round(100 * _DEVFEE, 2),
            "devfee": round(ghs(rate) * _DEVFEE, 3),
            "pools": _pools(unit, sample, masked=masked),
            "cooling": _cooling(unit, sample),
            "chains": rows,
            "misc": {"restart_temp": unit.conf.misc.restart_temp},
            "found_blocks": 0,
            "best_share": 0,
        }
    }


def status(unit: Unit, sample: Sample) -> Body:
    """State, seconds in it, and what is wrong: also the head of `/status`."""
    state: Body = {
        "miner_state": unit.state(sample),
        "miner_state_time": unit.state_s(sample),
    }
    if unit.failure is not None:
        state |= {"failure_code": unit.failure[0], "description": unit.failure[1]}
    elif unit.waits_for_water:
        state["description"] = "Waiting for the water to warm up"
    return state


def _pools(unit: Unit, sample: Sample, *, masked: bool) -> list[Body]:
    machine = unit.machine
    accepted = int(machine.work_ths_s() / SHARE_TH)
    works = machine.has_work and not machine.asleep and sample.phase is not Phase.SLEEPING
    rows = [
        _pool(
            place,
            url=pool.url,
            kind="UserPool",
            user="*****" if masked else pool.user,
            state="offline"
            if not machine.has_work
            else "active"
            if works and place == unit.active_pool
            else "working",
            accepted=0 if place != unit.active_pool else accepted,
            rejected=0 if place != unit.active_pool else accepted // 200,
        )
        for place, pool in enumerate(unit.pools_in_force)
    ]
    fee = int(accepted * _DEVFEE)
    rows.append(
        _pool(
            len(rows),
            url="DevFee",
            kind="DevFee",
            user="DevFee",
            state="working",
            accepted=fee,
            rejected=0,
        )
    )
    return rows


def _pool(
    place: int, *, url: str, kind: str, user: str, state: str, accepted: int, rejected: int
) -> Body:
    return {
        "id": place,
        "url": url,
        "pool_type": kind,
        "user": user,
        "status": state,
        "asic_boost": kind == "UserPool",
        "diff": "131K",
        "accepted": accepted,
        "rejected": rejected,
        "stale": 0,
        "ls_diff": float(DIFFICULTY) if accepted else 0.0,
        "ls_time": "0:00:11" if accepted else "0",
        "diffa": float(accepted * DIFFICULTY),
        "ping": 19 if state == "active" else 0,
    }


def chains(unit: Unit, sample: Sample, rate: float) -> list[Body]:
    """One row per fitted board."""
    machine = unit.machine
    fitted = machine.model.boards - machine.missing_boards
    alive = machine.alive_boards()
    rates = machine.board_rates(rate)
    share = 1 / (len(alive) or 1)
    ideal = ghs(sample.target_ths * share)
    state = (
        "mining" if sample.hashrate_ths > 0.0 else "stopped" if machine.asleep else "initializing"
    )
    hydro = unit.conf.cooling.min_startup_water_temp is not None
    found = []
    for slot in range(fitted):
        lives = slot in alive
        hot = round(unit.chip_c(sample, slot)) if lives else 0
        chips = machine.model.chips_per_board if lives else 0
        row: Body = {
            "id": slot + 1,
            "frequency": round(
                unit.conf.freq * machine.step.power_w / machine.model.ladder[-1].power_w, 1
            ),
            "voltage": MILLIVOLT if lives else 0,
            "power_consumption": round(sample.reported_w * share) if lives else 0,
            "hashrate_ideal": ideal if lives else 0.0,
            "hashrate_rt": ghs(rates[slot]),
            "hashrate_percentage": round(100 * ghs(rates[slot]) / ideal, 2) if ideal else 0.0,
            "hr_error": 0.0,
            "hw_errors": 0,
            "pcb_temp": {"min": max(0, hot - 26), "max": max(0, hot - 12)},
            "chip_temp": {"min": max(0, hot - 14), "max": hot},
            "chip_statuses": {"red": 0, "orange": 0, "grey": chips},
            "status": {"state": state}
            if lives
            else {"state": "failure", "description": "Chain break"},
        }
        if hydro:
            row |= {
                "inlet_water_temp": round(unit.inlet_c),
                "outlet_water_temp": round(unit.inlet_c) + 10,
            }
        found.append(row)
    return found


def _cooling(unit: Unit, sample: Sample) -> Body:
    fans = unit.machine.fan_rpm(sample)
    cooling = unit.conf.cooling
    body: Body = {
        "fan_num": len(fans),
        "fans": [
            {"id": place, "rpm": rpm, "status": "ok" if rpm else "lost", "max_rpm": 6000}
            for place, rpm in enumerate(fans)
        ],
        "settings": {"mode": {"name": "immersion" if cooling.mode == "immers" else cooling.mode}},
        "fan_duty": duty(unit, sample),
    }
    if cooling.min_startup_water_temp is not None:
        body["min_startup_water_temp"] = cooling.min_startup_water_temp
    return body


def _span(spans: list[dict[str, int]]) -> dict[str, int]:
    return {
        "min": min([span["min"] for span in spans], default=0),
        "max": max([span["max"] for span in spans], default=0),
    }


def duty(unit: Unit, sample: Sample) -> int:
    """Per cent of the fans' full speed."""
    fans = unit.machine.fan_rpm(sample)
    return min(100, round(max(fans, default=0) / 60))


def nominal(unit: Unit) -> float:
    """TH/s of the type as it is sold."""
    model = unit.machine.model
    return (model.step(model.nominal) or model.ladder[-1]).hashrate_ths


def ghs(ths: float) -> float:
    """GH/s, as all rates are printed."""
    return round(ths * 1000.0, 3)
