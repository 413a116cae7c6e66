"""What makers of BMCs do otherwise than DMTF's schemas let expect, as data; each with its source.

What a BMC itself tells (its resets, where its settings object is) always goes before what stands here.
None of it was tried on live hardware: `docs/reference/bmc.md` says what was tried against what.

Sources: [ic] NVIDIA infra-controller, Redfish Endpoints Reference; [lr] NVIDIA libredfish, `src/<maker>.rs`;
[dell84] dell/iDRAC-Redfish-Scripting #84; [hpe] HPE iLO Redfish examples; [dps] NVIDIA DPS, Redfish API;
[smc] Supermicro Redfish reference; [ca] makers' own manuals, and California's SB 327, since which BMCs
come with a password of their own each.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from control_plane.core.secret import Secret


class Maker(StrEnum):
    """Whose BMC it is."""

    SUPERMICRO = "supermicro"
    DELL = "dell"
    HPE = "hpe"
    LENOVO = "lenovo"
    NVIDIA = "nvidia"
    """DGX and HGX, whose own firmware is AMI's or OpenBMC."""
    OTHER = "other"
    """As the standard has it."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One maker's ways."""

    serial_field: str = "SerialNumber"
    """Field of the system that has the serial number on the label."""
    resets: frozenset[str] = frozenset()
    """`ResetType`s, where the BMC itself tells none."""
    forced_restart: str | None = "ForceRestart"
    """The `ResetType` of a forced restart; `None`: off, wait and on are the way, in changes of their own."""
    bios_settings: str = "Settings"
    """Last part of the path of BIOS settings, where `@Redfish.Settings` tells none."""
    bios_apply_time: bool = False
    """Whether a BIOS write wants `@Redfish.SettingsApplyTime`, without which it is never applied."""
    needs_etag: bool = False
    """Whether a PATCH wants `If-Match`."""
    other_systems: tuple[str, ...] = ()
    """How the ids of systems begin that are not the host: boards with a BMC of their own behind this one."""
    resets_itself_s: float = 180.0
    """How long the BMC may be away when it updates itself."""
    tasks_survive: bool = False
    """Whether tasks are still known after the BMC restarted."""


QUIRKS: Final[Mapping[Maker, Quirks]] = MappingProxyType(
    {
        # `PowerCycle` is missing on many boards [smc]; BIOS is written to the settings object where the
        # firmware has one, older boards take it at `Bios` itself [lr].
        Maker.SUPERMICRO: Quirks(
            resets=frozenset(
                {"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart"}
            ),
            bios_settings="SD",
            resets_itself_s=300.0,
        ),
        # `SerialNumber` is the board's; the label has the service tag, which is `SKU` [ic: "SKU"].
        # Without an apply time the attributes stay pending for ever: no job is made [dell84].
        Maker.DELL: Quirks(
            serial_field="SKU",
            resets=frozenset(
                {
                    "On",
                    "ForceOff",
                    "GracefulShutdown",
                    "GracefulRestart",
                    "ForceRestart",
                    "PowerCycle",
                }
            ),
            bios_apply_time=True,
            resets_itself_s=420.0,
            tasks_survive=True,
        ),
        # libredfish sends `GracefulRestart` where it means iLO's warm reset [lr: hpe]: whether the operating
        # system is asked first is not known. `settings` in lower case [ic].
        Maker.HPE: Quirks(
            resets=frozenset(
                {
                    "On",
                    "ForceOff",
                    "GracefulShutdown",
                    "GracefulRestart",
                    "ForceRestart",
                    "PowerCycle",
                }
            ),
            bios_settings="settings",
            resets_itself_s=180.0,
        ),
        # `ForceRestart` hung SR675 V3s: off, wait, on instead [lr: lenovo]. `Pending` [ic].
        Maker.LENOVO: Quirks(
            resets=frozenset(
                {"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart"}
            ),
            forced_restart=None,
            bios_settings="Pending",
            resets_itself_s=300.0,
        ),
        # Two BMCs: the host's has the board's below it as one more system [dps]. AMI's firmware wants
        # `If-Match`, and has its settings at `SD` [ic, lr: ami, nvidia_viking]. The board's BMC is away 30 s
        # and more after its own update (gpu-nodes reference, §11).
        Maker.NVIDIA: Quirks(
            resets=frozenset(
                {
                    "On",
                    "ForceOff",
                    "GracefulShutdown",
                    "GracefulRestart",
                    "ForceRestart",
                    "PowerCycle",
                }
            ),
            bios_settings="SD",
            needs_etag=True,
            other_systems=("HGX_",),
            resets_itself_s=600.0,
        ),
        Maker.OTHER: Quirks(),
    }
)

_WORDS: Final = (
    ("supermicro", Maker.SUPERMICRO),
    ("super micro", Maker.SUPERMICRO),
    ("dell", Maker.DELL),
    ("hpe", Maker.HPE),
    ("hewlett", Maker.HPE),
    ("lenovo", Maker.LENOVO),
    ("nvidia", Maker.NVIDIA),
)
_DEFAULTS: Final = frozenset(
    {
        ("admin", "ADMIN"),  # Supermicro until 2020 [ca]
        ("root", "calvin"),  # Dell [dell84 and its manuals]
        ("userid", "PASSW0RD"),  # Lenovo, and IBM before
        ("root", "0penBmc"),  # OpenBMC's own default
        ("admin", "admin"),  # AMI MegaRAC, DGX
        ("admin", "password"),
        ("administrator", "password"),
        ("root", "superuser"),  # AMI MegaRAC
    }
)
NO_SERIALS: Final = frozenset(
    {
        "to be filled by o.e.m.",
        "default string",
        "system serial number",
        "0123456789",
        "none",
        "na",
        "n/a",
    }
)
"""What stands in the field, in lower case, where nobody filled it in: as common as boards without a label."""


def maker_of(*told: str | None) -> Maker:
    """Whose it is, from what a BMC says of itself (`Vendor`, `Manufacturer`, `Product`), the first first."""
    for text in told:
        for word, maker in _WORDS:
            if text is not None and word in text.lower():
                return maker
    return Maker.OTHER


def is_factory_login(user: str, password: Secret) -> bool:
    """Whether a credential is one that makers ship: whoever can reach the BMC has it, too."""
    return (user.lower(), password.reveal()) in _DEFAULTS
