"""What a write costs a WhatsMiner, in hashing and in time; figures with their sources."""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core.change import (
    Capabilities,
    ChangeKind,
    Disturbance,
    FirmwareWays,
    NetworkWays,
    PasswordWays,
    SettingClass,
)
from control_plane.core.observation import Field
from control_plane.drivers.whatsminer_reads import FAMILY

SLOTS: Final = 3
SILENT_S: Final = 10.0
"""Mode commands act and never answer; the device closes an idle connection after this (API v2.0.5)."""
RESTART_CHECK_S: Final = 30.0
"""Device seconds until the mining process listens again after a restart; no source, ours."""
BOOT_CHECK_S: Final = 60.0

_RESTARTS: Final = SettingClass(
    disturbance=Disturbance.RESTARTS_MINING,
    persistent=True,
    # 10–15 min of ramp at the factory's upfreq speed (`whatsminer_reads.STARTING_S` has the source),
    # half of it lost, and half a minute of nothing. Fast boot and upfreq 8–10 halve it (WMC).
    lost_s=400.0,
    accept_s=SILENT_S,
    readback_s=180.0,
    effect_s=1200.0,
)
_REBOOTS: Final = msgspec.structs.replace(
    _RESTARTS,
    disturbance=Disturbance.REBOOTS,
    # The same and a boot of 1–2 min; no vendor figure, ours.
    lost_s=480.0,
    accept_s=30.0,
    readback_s=300.0,
)
FIRMWARE: Final = FirmwareWays(
    # Ours: 30 MB over a poor link within five minutes. No source tells what a control board takes.
    bytes_per_s=100_000.0,
    check_s=120.0,
    can_roll_back=False,
)
PASSWORDS: Final = PasswordWays(
    # "letter, number, underline", at most 8 bytes (API v2.0.5, `update_pwd`).
    pattern=r"[A-Za-z0-9_]{1,8}",
    means="1 to 8 letters, digits and `_`",
    # All tokens die with it. How soon is not told; ours.
    late_s=120.0,
)
NETWORK: Final = NetworkWays(
    # A boot of 1–2 min, and slack. Ours.
    late_s=300.0,
    # Told of v3's command of the same purpose (apidoc.whatsminer.com); no source tells of v2's.
    reboots=True,
)
CAPABILITIES: Final = Capabilities(
    family=FAMILY,
    reads=frozenset(
        {
            Field.POOLS,
            Field.MINING,
            Field.POWER_MODE,
            Field.POWER_LIMIT_W,
            Field.FIRMWARE,
            Field.ADDRESSING,
        }
    ),
    writes={
        # No source tells of a restart: the reconnect costs seconds. Ours.
        ChangeKind.SET_POOLS: msgspec.structs.replace(
            _RESTARTS, disturbance=Disturbance.RAMPS, lost_s=15.0
        ),
        ChangeKind.SET_POWER_MODE: _RESTARTS,
        # `adjust_power_limit` boots the control board (asic-devices §1).
        ChangeKind.SET_POWER_LIMIT: _REBOOTS,
        # A boot ends it (MDK), so it is not persistent; nothing has to come back.
        ChangeKind.STOP_MINING: msgspec.structs.replace(
            _RESTARTS, persistent=False, lost_s=0.0, effect_s=600.0
        ),
        ChangeKind.START_MINING: msgspec.structs.replace(
            _RESTARTS, disturbance=Disturbance.RAMPS, persistent=False
        ),
        ChangeKind.RESTART_MINING: msgspec.structs.replace(_RESTARTS, persistent=False),
        ChangeKind.REBOOT: msgspec.structs.replace(_REBOOTS, persistent=False),
    },
    settle_s=1200.0,
    max_pools=SLOTS,
    firmware=FIRMWARE,
    passwords=PASSWORDS,
    network=NETWORK,
)
