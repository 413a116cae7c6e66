"""What simulated BMCs of each maker look like: names, paths, resets, where BIOS and caps are.

Written from the makers' documents, not from our driver's table of quirks; sources as there
(`docs/reference/bmc.md`). Device time throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

GRACEFUL = ("On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi")


class PowerStyle(StrEnum):
    """Where watts and cap are."""

    POWER = "power"
    """`Power` of the chassis (until schema 2020.4)."""
    ENVIRONMENT = "environment"
    """`EnvironmentMetrics` of the chassis."""
    READ_ONLY = "read_only"
    """`Power`, without a cap."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One maker's BMC in one model."""

    name: str
    vendor: str | None
    """`Vendor` of the service root, which came with schema 1.5."""
    manufacturer: str
    model: str
    system: str = "1"
    chassis: str = "1"
    manager: str = "1"
    resets: tuple[str, ...] = GRACEFUL
    resets_told_by: str = "values"
    """`values`, `action_info`, or `nothing`."""
    bios_settings: str = "Settings"
    tells_settings: bool = True
    bios_wants_apply_time: bool = False
    """Without one, what is set stays pending for ever."""
    wants_etag: bool = False
    serial_in: str = "SerialNumber"
    light: str = "LocationIndicatorActive"
    power: PowerStyle = PowerStyle.POWER
    sensors: bool = False
    """Whether readings are in `Sensors`; else in `Thermal`."""
    log_at_system: bool = False
    media_at_system: bool = False
    boards: tuple[str, ...] = ()
    """Systems beside the host: boards that have a BMC of their own."""
    bios: Mapping[str, str | int | bool] = MappingProxyType({})
    firmware: Mapping[str, str] = MappingProxyType({})
    """Id → version."""
    bmc_firmware: str = "BMC"
    """The id whose update restarts the BMC."""
    bios_firmware: str = "BIOS"
    """The id whose update waits for the next boot, and is `BiosVersion`."""
    tasks_survive: bool = False
    bmc_reset_s: float = 90.0
    post_s: float = 180.0
    """From power to the operating system's start: memory training of a terabyte takes minutes."""
    os_s: float = 60.0
    shutdown_s: float = 40.0
    task_s: float = 240.0
    idle_limit_s: float = 300.0
    """Wire seconds after which a session ends by itself."""
    lockout_after: int = 3
    lockout_s: float = 300.0


SUPERMICRO = Profile(
    name="supermicro",
    vendor="Supermicro",
    manufacturer="Supermicro",
    model="SYS-821GE-TNHR",
    bios_settings="SD",
    bios=MappingProxyType(
        {"SR_IOVSupport": "Enabled", "QuietBoot": True, "BootModeSelect": "UEFI"}
    ),
    firmware=MappingProxyType({"BMC": "01.03.18", "BIOS": "2.1", "CPLD_Motherboard": "F1.00.41"}),
    light="IndicatorLED",
    bmc_reset_s=180.0,
)
DELL = Profile(
    name="dell",
    vendor="Dell",
    manufacturer="Dell Inc.",
    model="PowerEdge XE9680",
    system="System.Embedded.1",
    chassis="System.Embedded.1",
    manager="iDRAC.Embedded.1",
    resets=(*GRACEFUL, "PowerCycle", "PushPowerButton"),
    bios_wants_apply_time=True,
    serial_in="SKU",
    bios=MappingProxyType(
        {"SriovGlobalEnable": "Enabled", "SysProfile": "PerfOptimized", "Cores": 32}
    ),
    firmware=MappingProxyType(
        {
            "Installed-0-7.10.50.10": "7.10.50.10",
            "Installed-159-2.2.8": "2.2.8",
            "Previous-159": "2.1.5",
        }
    ),
    bmc_firmware="Installed-0-7.10.50.10",
    bios_firmware="Installed-159-2.2.8",
    tasks_survive=True,
    bmc_reset_s=240.0,
)
HPE = Profile(
    name="hpe",
    vendor="HPE",
    manufacturer="HPE",
    model="Cray XD670",
    resets=(*GRACEFUL, "PowerCycle", "PushPowerButton"),
    bios_settings="settings",
    bios=MappingProxyType(
        {"Sriov": "Enabled", "WorkloadProfile": "HPC", "ProcHyperthreading": "Enabled"}
    ),
    firmware=MappingProxyType({"1": "3.05", "2": "U54 v2.16", "11": "1.1"}),
    bmc_firmware="1",
    bios_firmware="2",
    log_at_system=True,
)
LENOVO = Profile(
    name="lenovo",
    vendor="Lenovo",
    manufacturer="Lenovo",
    model="ThinkSystem SR685a V3",
    bios_settings="Pending",
    bios=MappingProxyType({"OperatingModes_ChooseOperatingMode": "MaximumPerformance"}),
    firmware=MappingProxyType({"BMC-Primary": "12.30", "UEFI": "5.10", "BMC-Backup": "12.00"}),
    bmc_firmware="BMC-Primary",
    bios_firmware="UEFI",
    log_at_system=True,
)
NVIDIA = Profile(
    name="nvidia",
    vendor="AMI",
    manufacturer="NVIDIA",
    model="DGXH100",
    system="DGX",
    chassis="DGX",
    manager="BMC",
    resets=(*GRACEFUL, "PowerCycle"),
    resets_told_by="action_info",
    bios_settings="SD",
    wants_etag=True,
    power=PowerStyle.ENVIRONMENT,
    sensors=True,
    boards=("HGX_Baseboard_0",),
    bios=MappingProxyType({"SriovSupport": "SriovSupportEnabled", "HttpBoot": "HttpBootDisabled"}),
    firmware=MappingProxyType(
        {"HostBMC_0": "24.09.17", "HostBIOS_0": "1.05.03", "HGX_FW_BMC_0": "HGX-22.10-1-rc67"}
    ),
    bmc_firmware="HostBMC_0",
    bios_firmware="HostBIOS_0",
    post_s=300.0,
)
PLAIN = Profile(
    name="plain",
    vendor=None,
    manufacturer="Contoso",
    model="3500RX",
    resets_told_by="nothing",
    tells_settings=False,
    power=PowerStyle.READ_ONLY,
    media_at_system=True,
    bios=MappingProxyType({"BootMode": "Uefi"}),
    firmware=MappingProxyType({"BMC": "1.0", "BIOS": "1.0"}),
)
"""A maker that nobody has heard of: as the standard has it, and little of it."""

PROFILES = {p.name: p for p in (SUPERMICRO, DELL, HPE, LENOVO, NVIDIA, PLAIN)}
