"""What VNish tells over HTTP: one function a page, JSON on its way out. `/summary`: `vnish_dashboard`.

Rates are GH/s. Chains count from 1, pools from 0. Keys and types: swagger document; values in the manner
of the published replies of an S19 (1.2.6) and an S19j Pro (1.2.0-rc3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from control_plane.simulator import vnish_dashboard as dashboard
from control_plane.simulator.machine import Sample
from control_plane.simulator.vnish_conf import DISABLED, document
from control_plane.simulator.vnish_dashboard import Body
from control_plane.simulator.vnish_unit import Unit


def info(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/info`: who it is. Open to everybody."""
    del unlocked
    machine, build, network = unit.machine, unit.build, unit.network
    return {
        "miner": machine.model.model,
        "model": _code(unit),
        "fw_name": "Vnish",
        "fw_version": unit.flash.version,
        "build_uuid": "00000000-0000-4000-8000-000000000000",
        "build_name": "vnishnet",
        "platform": build.platform,
        "install_type": "nand",
        "build_time": "2025-05-29 19:22:26+00:00",
        "algorithm": "sha256d",
        "hr_measure": "GH/s",
        "system": {
            "os": "GNU/Linux",
            "miner_name": _code(unit),
            "file_system_version": "",
            "mem_total": 233_712,
            "mem_free": 173_956,
            "mem_free_percent": 74,
            "mem_buf": 31_928,
            "mem_buf_percent": 13,
            "network_status": {
                "mac": machine.mac.upper(),
                "dhcp": network.dhcp,
                "ip": network.ip,
                "netmask": network.netmask,
                "gateway": network.gateway,
                "dns": list(network.dns),
                "hostname": network.hostname,
            },
            "uptime": uptime_text(sample.uptime_s),
        },
        "serial": machine.serial if build.tells_serial else "N/A",
    }


def uptime_text(uptime_s: float) -> str:
    """`0:06`, or `10 days, 18:00`."""
    minutes = int(uptime_s) // 60
    days, minutes = divmod(minutes, 1440)
    clock = f"{minutes // 60}:{minutes % 60:02d}"
    return f"{days} days, {clock}" if days else clock


def status(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/status`: the pane at the top of the page. Open to everybody."""
    return {
        **dashboard.status(unit, sample),
        "find_miner": unit.find,
        "restart_required": unit.needs_restart,
        "reboot_required": unit.network_next is not None,
        "unlocked": unlocked,
    }


def perf_summary(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/perf-summary`: the preset that runs, which need not be the configured one."""
    del sample, unlocked
    conf = unit.conf
    return {
        "current_preset": {
            **_preset(unit, unit.running),
            "globals": {"volt": conf.volt, "freq": conf.freq},
        },
        "preset_switcher": msgspec.structs.asdict(conf.switcher),
    }


def presets(unit: Unit, sample: Sample, *, unlocked: bool) -> list[Body]:
    """`/autotune/presets`: the ladder; only unlocked."""
    del sample, unlocked
    return [_preset(unit, name) for name in (DISABLED, *unit.names())]


def settings(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/settings`: all that can be set; only unlocked."""
    del sample, unlocked
    return document(unit.conf, unit.network_next or unit.network)


def chains(unit: Unit, sample: Sample, *, unlocked: bool) -> list[Body]:
    """`/chains`: chip by chip."""
    del unlocked
    rate = sample.hashrate_ths
    found = []
    for chain in dashboard.chains(unit, sample, rate):
        count = unit.machine.model.chips_per_board if chain["hashrate_rt"] > 0 else 0
        found.append(
            {
                "id": chain["id"],
                "freq": chain["frequency"],
                "hr_nominal": chain["hashrate_ideal"],
                "hr_realtime": chain["hashrate_rt"],
                "sensors": [],
                "status": {"state": chain["status"]["state"]},
                "chips": [
                    {
                        "id": place,
                        "hr": round(chain["hashrate_rt"] / count, 2),
                        "freq": round(chain["frequency"]),
                        "volt": dashboard.MILLIVOLT // 40,
                        "temp": chain["chip_temp"]["max"],
                        "errs": 0,
                        "grade": "grey",
                        "throttled": False,
                    }
                    for place in range(count)
                ],
            }
        )
    return found


def factory_info(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/chains/factory-info`: what the boards' EEPROMs hold."""
    del sample, unlocked
    alive = sorted(unit.machine.alive_boards())
    hashrate = dashboard.ghs(dashboard.nominal(unit))
    return {
        "hr_stock": hashrate,
        "has_pics": True,
        "psu_model": None,
        "psu_serial": None,
        "chains": [
            {
                "id": slot + 1,
                "board_model": "BHB42601",
                "serial": f"{unit.machine.serial}{slot}",
                "chip_bin": 1,
                "freq": unit.conf.freq,
                "volt": unit.conf.volt,
                "hashrate": round(hashrate / unit.machine.model.boards, 2),
            }
            for slot in alive
        ],
    }


def metrics(unit: Unit, sample: Sample, *, unlocked: bool) -> Body:
    """`/metrics`: one record, of now. A simulated unit keeps no history."""
    del unlocked
    hot = round(unit.hottest_c(sample))
    record = {
        "hashrate": dashboard.ghs(sample.hashrate_ths),
        "pcb_max_temp": max(0, hot - 12),
        "chip_max_temp": hot,
        "fan_duty": dashboard.duty(unit, sample),
        "power_consumption": round(sample.reported_w),
    }
    now = int(unit.machine.world.wall_s())
    return {
        "timezone": "GMT",
        "metrics": [{"time": now, "data": record}],
        "annotations": [],
    }


Page = Callable[..., Any]
OPEN: Mapping[str, Page] = {
    "info": info,
    "status": status,
    "perf-summary": perf_summary,
    "chains": chains,
    "chains/factory-info": factory_info,
    "metrics": metrics,
}
"""Pages that need no credentials."""
LOCKED: Mapping[str, Page] = {"autotune/presets": presets, "settings": settings}
"""Pages that answer 401 without."""


def _preset(unit: Unit, name: str) -> Body:
    step = unit.machine.model.step(name)
    pretty = "Disabled" if step is None else f"{name} watt ~ {step.hashrate_ths:.0f} TH"
    return {
        "name": name,
        "pretty": pretty,
        "status": "tuned" if step is not None and name in unit.tuned else "untuned",
        "modded_psu_required": False,
    }


def _code(unit: Unit) -> str:
    """`Antminer S19 XP` is `s19xp`."""
    return "".join(unit.machine.model.model.lower().removeprefix("antminer").split())
