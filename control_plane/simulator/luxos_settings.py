"""What LuxOS answers about how it is set and what its hardware does; `luxos_reads` has who mines for whom.

Sources as there. `SystemStatus` and what else no source shows is blank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from control_plane.simulator.luxos_profiles import Profile
from control_plane.simulator.luxos_reads import MINING, Answer, Body, rates_of
from control_plane.simulator.luxos_unit import DANGEROUS_C, HOT_C, TARGET_C, Unit
from control_plane.simulator.machine import Sample

_CORNERS = ("TopLeft", "TopRight", "BottomLeft", "BottomRight")


def config(unit: Unit, _: Sample) -> Answer:
    """Who it is, and what is set."""
    machine, profile, network = unit.machine, unit.profile, unit.network
    update = unit.update.settings
    row = {
        "ASC Count": machine.model.boards - machine.missing_boards,
        "ActualPowerTarget": 0,
        "BcastAddr": "",
        "ControlBoardType": "Amlogic AML-S905D3",
        "Cooling": "Air" if machine.model.fans else "Hydro",
        "CurtailMode": "Sleep" if machine.asleep else "None",
        "DHCP": network.dhcp,
        "DNS Servers": network.dns,
        "Device Code": "",
        "FPGABuildIdHex": "",
        "FPGABuildIdStr": "",
        "FeeStatus": "Active",
        "Gateway": network.gateway,
        "GreenLed": "auto",
        "Hostname": network.hostname,
        "Hotplug": "None",
        "IPAddr": network.ip,
        "IdealPowerTarget": 0,
        "ImmersionMode": False,
        "IsAtmEnabled": unit.kept.atm.enabled,
        "IsPowerSupplyOn": not machine.asleep,
        "IsPowerTargetEnabled": False,
        "IsPowerTargetSupported": False,
        "IsSingleVoltage": True,
        "IsTuning": False,
        "Log Interval": 5,
        "LogFileLevel": "info",
        "MACAddr": machine.mac,
        "Model": machine.model.model,
        "NameplateTHS": round(unit.profiles[0].hashrate_ths * machine.hash_share, 1),
        "Netmask": network.netmask,
        "OS": "LuxOS",
        "PGA Count": 0,
        "PIC": "",
        "PSUHwVersion": "",
        "PSULabel": "APW171215a",
        "Pool Count": len(unit.pools),
        "PowerLimit": 0,
        "Profile": profile.name,
        "ProfileStep": str(profile.step),
        "RedLed": unit.led,
        "SerialNumber": machine.serial,
        "Strategy": "Failover",
        "SystemStatus": "",
        "UpdateOnStartup": update.on_startup,
        "UpdateOnTimeout": update.on_timeout,
        "UpdateOnUser": update.on_user,
        "UpdateSource": update.source,
        "UpdateTimeout": update.timeout_minutes,
    }
    return Answer(33, "LUXminer config", {"CONFIG": [row]})


def power(_: Unit, sample: Sample) -> Answer:
    """Watts as the unit estimates them."""
    return Answer(355, "Power Usage", {"POWER": [{"PSU": True, "Watts": round(sample.reported_w)}]})


def fans(unit: Unit, sample: Sample) -> Answer:
    """Fans, and how they are driven."""
    rows = [
        {"FAN": f"FAN{place}", "ID": place, "RPM": rpm, "Speed": min(100, rpm // 60)}
        for place, rpm in enumerate(unit.machine.fan_rpm(sample))
    ]
    control = {"MinFans": max(0, len(rows) - 1), "PowerOffSpeed": 0}
    return Answer(303, "Fan Values", {"FANCTRL": [control], "FANS": rows})


def temps(unit: Unit, sample: Sample) -> Answer:
    """Four sensors a board."""
    rows = [
        {
            "ID": slot,
            "TEMP": slot,
            **{
                corner: round(unit.board_c(sample, slot) - 2.0 * place, 1)
                for place, corner in enumerate(_CORNERS)
            },
        }
        for slot in sorted(unit.machine.alive_boards())
    ]
    meta = [{corner: corner, "Label": corner} for corner in _CORNERS]
    return Answer(304, "Temperature Values", {"METADATA": meta, "TEMPS": rows})


def tempctrl(_: Unit, __: Sample) -> Answer:
    """Temperatures at which it does something."""
    row = {
        "ChipDangerous": 100,
        "ChipHot": 93,
        "Dangerous": DANGEROUS_C,
        "Hot": HOT_C,
        "Mode": "Automatic",
        "Target": TARGET_C,
    }
    return Answer(329, "Temperature control", {"TEMPCTRL": [row]})


def profiles(unit: Unit, _: Sample) -> Answer:
    """This unit's own ladder."""
    rows = [_profile_row(profile) for profile in unit.profiles.values()]
    return Answer(323, "List profiles", {"PROFILES": rows})  # Documented.


def atm(unit: Unit, _: Sample) -> Answer:
    """What its own controller may do."""
    kept = unit.kept.atm
    row: Body = {
        "ChipTempWindow": 8.0,
        "Enabled": kept.enabled,
        "MaxProfile": _name_at(unit, kept.max_step),
        "MinProfile": _name_at(unit, kept.min_step),
        "PostRampMinutes": kept.post_ramp_minutes,
        "StartupMinutes": kept.startup_minutes,
        "TempWindow": kept.temp_window_c,
        "WaterInletTempWindow": 7.0,
    }
    if unit.build.tells_steps:
        row |= {
            "MaxProfileStep": "" if kept.max_step is None else str(kept.max_step),
            "MinProfileStep": "" if kept.min_step is None else str(kept.min_step),
        }
    return Answer(339, "ATM configuration values", {"ATM": [row]})  # Documented.


def limits(unit: Unit, _: Sample) -> Answer:
    """Steps and bounds of frequency and voltage."""
    ladder = list(unit.profiles.values())
    row = {
        "FrequencyDefault": unit.profiles[0].mhz,
        "FrequencyMax": ladder[-1].mhz,
        "FrequencyMin": ladder[0].mhz,
        "FrequencyStepDefault": 5,
        "FrequencyStepMax": 100,
        "FrequencyStepMin": 1,
        "VoltageDefault": unit.profiles[0].volts,
        "VoltageMax": ladder[-1].volts,
        "VoltageMin": ladder[0].volts,
        "VoltageStepDefault": 0.05,
        "VoltageStepMax": 1.0,
        "VoltageStepMin": 0.01,
    }
    return Answer(320, "Limits", {"LIMITS": [row]})


def updatecheck(unit: Unit, _: Sample) -> Answer:
    """What the source serves, and what came of the last try. Its form is ours: no source shows one."""
    image = unit.update.offered()
    row = {
        "Available": "" if image is None else image.version,
        "Current": unit.build.version,
        "Last": unit.update.said,
    }
    return Answer(332, "Update check", {"UPDATE": [row]})


def session(unit: Unit, _: Sample) -> Answer:
    """The id of the session that lives: it is told to anyone."""
    rows = [{"SessionID": unit.session_now()}]
    return Answer(319, "Session information", {"SESSION": rows})  # Documented.


READS: Mapping[str, Callable[[Unit, Sample], Answer]] = {
    **MINING,
    "config": config,
    "power": power,
    "fans": fans,
    "temps": temps,
    "tempctrl": tempctrl,
    "profiles": profiles,
    "atm": atm,
    "limits": limits,
    "session": session,
    "updatecheck": updatecheck,
}
"""Commands without a parameter; they may be joined with `+`."""


def healthchipget(unit: Unit, sample: Sample, board: int) -> Answer:
    """Every chip of a board."""
    machine = unit.machine
    lives = board in machine.alive_boards()
    rate = machine.board_rates(rates_of(unit, sample)["MHS 5s"])[board] * 1000.0
    chips = machine.model.chips_per_board
    rows = [
        {
            "Board": board,
            "Chip": chip,
            "Frequency": float(unit.profile.mhz),
            "GHS 1m": round(rate / chips, 2),
            "Healthy": "Y",
            "IsRunning": "Y" if rate > 0 else "N",
        }
        for chip in range(chips)
    ]
    return Answer(310, "Chip health", {"CHIPS": rows if lives else []})


def voltageget(unit: Unit, sample: Sample, board: int) -> Answer:
    """Volts of a board, by the power supply."""
    volts = unit.profile.volts if sample.drawn_w > unit.machine.model.standby_w * 2 else 0.0
    row = {"Board": board, "IsOnBoard": False, "Voltage": volts}
    return Answer(307, "Get Voltage", {"VOLTAGE": [row]})  # Documented.


def frequencyget(unit: Unit, sample: Sample, board: int) -> Answer:
    """Megahertz of a board."""
    mhz = unit.profile.mhz if sample.hashrate_ths > 0 else 0
    row = {"Board": board, "Frequency": mhz}
    return Answer(301, "Get Frequency", {"FREQUENCY": [row]})


BOARD_READS: Mapping[str, Callable[[Unit, Sample, int], Answer]] = {
    "healthchipget": healthchipget,
    "voltageget": voltageget,
    "frequencyget": frequencyget,
}
"""Commands whose parameter is a board, from 0."""


def _profile_row(profile: Profile) -> Body:
    return {
        "Frequency": profile.mhz,
        "Hashrate": round(profile.hashrate_ths, 1),
        "IsDynamic": True,
        "IsTuned": False,
        "Profile Name": profile.name,
        "Step": str(profile.step),
        "Voltage": profile.volts,
        "Watts": round(profile.watts),
    }


def _name_at(unit: Unit, step: int | None) -> str:
    return "" if step is None else unit.profiles[step].name
