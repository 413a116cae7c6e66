"""What a simulated BMC measures: resources of either generation of DSP8010."""

from __future__ import annotations

from typing import Any

from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_profiles import PowerStyle
from control_plane.simulator.machine import mix, seed_of

Resource = dict[str, Any]
INLET = "Inlet_Temp"
_CAP_RANGE_W = (2_000, 10_200)


def typed(kind: str, version: str, id_: str, name: str) -> Resource:
    """What every resource begins with."""
    return {"@odata.type": f"#{kind}.{version}.{kind}", "Id": id_, "Name": name}


def readings(bmc: Bmc) -> list[tuple[str, str, str, float]]:
    """Name, kind of `ReadingType`, unit, value."""
    is_warm = bmc.power == "On"
    noise = mix(seed_of(bmc.chassis.serial), int(bmc.wall_s // 60))
    return [
        (
            INLET,
            "Temperature",
            "Cel",
            58.0 if bmc.faults.overheats else round(22.0 + 2.0 * noise, 1),
        ),
        ("CPU0_Temp", "Temperature", "Cel", round((48.0 if is_warm else 23.0) + noise, 1)),
        ("FAN1", "Rotational", "RPM", float(8_400 if is_warm else 0)),
        ("FAN2", "Rotational", "RPM", float(8_520 if is_warm else 0)),
    ]


def _status(bmc: Bmc, name: str) -> Resource:
    is_hot = name == INLET and bmc.faults.overheats
    return {"State": "Enabled", "Health": "Critical" if is_hot else "OK"}


def sensor(bmc: Bmc, name: str) -> Resource:
    """One of `Sensors`."""
    for own, kind, unit, value in readings(bmc):
        if own == name:
            return {
                **typed("Sensor", "v1_6_0", name, name),
                "ReadingType": kind,
                "ReadingUnits": unit,
                "Reading": value,
                "Status": _status(bmc, name),
            }
    raise KeyError(name)


def thermal(bmc: Bmc, chassis: str) -> Resource:
    """`Thermal` of a chassis at a path."""
    heat = [r for r in readings(bmc) if r[1] == "Temperature"]
    fans = [r for r in readings(bmc) if r[1] == "Rotational"]
    return {
        **typed("Thermal", "v1_7_0", "Thermal", "Thermal"),
        "Temperatures": [
            {"@odata.id": f"{chassis}/Thermal#/Temperatures/{n}", "MemberId": str(n),
             "Name": name, "ReadingCelsius": value, "Status": _status(bmc, name)}
            for n, (name, _, _, value) in enumerate(heat)
        ],
        "Fans": [
            {"@odata.id": f"{chassis}/Thermal#/Fans/{n}", "MemberId": str(n),
             "Name": name, "Reading": int(value), "ReadingUnits": "RPM",
             "Status": _status(bmc, name)}
            for n, (name, _, _, value) in enumerate(fans)
        ],
    }  # fmt: skip


def power(bmc: Bmc, chassis: str) -> Resource:
    """`Power` of a chassis at a path, with a cap where the profile has it there."""
    control: Resource = {
        "@odata.id": f"{chassis}/Power#/PowerControl/0",
        "MemberId": "0",
        "Name": "System Power Control",
        "PowerConsumedWatts": round(bmc.draw_w()),
        "PowerCapacityWatts": _CAP_RANGE_W[1],
    }
    if bmc.profile.power is PowerStyle.POWER:
        control["PowerLimit"] = {"LimitInWatts": bmc.cap_w, "LimitException": "NoAction"}
    return {
        **typed("Power", "v1_7_0", "Power", "Power"),
        "PowerControl": [control],
        "PowerSupplies": [],
        "Voltages": [
            {"@odata.id": f"{chassis}/Power#/Voltages/0", "MemberId": "0", "Name": "12V",
             "ReadingVolts": 12.1, "Status": {"State": "Enabled", "Health": "OK"}}
        ],
    }  # fmt: skip


def environment(bmc: Bmc) -> Resource:
    """`EnvironmentMetrics`, with the cap."""
    low, high = _CAP_RANGE_W
    return {
        **typed("EnvironmentMetrics", "v1_3_0", "EnvironmentMetrics", "Environment Metrics"),
        "PowerWatts": {"Reading": round(bmc.draw_w(), 1)},
        "PowerLimitWatts": {
            "SetPoint": bmc.cap_w if bmc.cap_w is not None else high,
            "ControlMode": "Automatic" if bmc.cap_w is not None else "Disabled",
            "AllowableMin": low,
            "AllowableMax": high,
        },
    }
