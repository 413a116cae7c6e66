"""What a write costs a LuxOS unit, in hashing and in time; figures with their sources."""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core.change import (
    Capabilities,
    ChangeKind,
    Disturbance,
    NetworkWays,
    SettingClass,
)
from control_plane.core.observation import Field
from control_plane.drivers.luxos_reads import FAMILY

CHECK_S: Final = 20.0
"""Device seconds after a command until a look is worth it. Ours: most take effect at once."""
RESTART_CHECK_S: Final = 30.0
BOOT_CHECK_S: Final = 60.0

_RAMPS: Final = SettingClass(
    disturbance=Disturbance.RAMPS,
    persistent=True,
    # A profile change ramps in steps of 5 MHz (`profileset` in the vendor's documentation) and hashes
    # meanwhile; no figure is given. Ours.
    lost_s=30.0,
    accept_s=15.0,
    readback_s=60.0,
    effect_s=600.0,
)
NETWORK: Final = NetworkWays(
    # At once with the answer; the rest is slack. No source tells of either, ours (`luxos_network`).
    late_s=120.0,
    reboots=False,
)
CAPABILITIES: Final = Capabilities(
    family=FAMILY,
    reads=frozenset(
        {Field.POOLS, Field.MINING, Field.POWER_MODE, Field.FIRMWARE, Field.ADDRESSING}
    ),
    writes={
        # No source tells of a restart: the reconnect costs seconds. Ours.
        ChangeKind.SET_POOLS: msgspec.structs.replace(_RAMPS, lost_s=15.0),
        ChangeKind.SET_POWER_MODE: _RAMPS,
        # Asleep within 5 s by the vendor, and that outlives a boot; nothing has to come back.
        ChangeKind.STOP_MINING: msgspec.structs.replace(
            _RAMPS, disturbance=Disturbance.RESTARTS_MINING, lost_s=0.0, effect_s=300.0
        ),
        # Waking ramps like a boot, which stock firmware on the same hardware does in 5–10 min (MinerWatch).
        ChangeKind.START_MINING: msgspec.structs.replace(_RAMPS, lost_s=240.0, effect_s=900.0),
        ChangeKind.RESTART_MINING: msgspec.structs.replace(
            _RAMPS,
            disturbance=Disturbance.RESTARTS_MINING,
            persistent=False,
            lost_s=240.0,
            readback_s=180.0,
            effect_s=900.0,
        ),
        # The same and a boot of 1–2 min; no vendor figure, ours.
        ChangeKind.REBOOT: msgspec.structs.replace(
            _RAMPS,
            disturbance=Disturbance.REBOOTS,
            persistent=False,
            lost_s=330.0,
            accept_s=30.0,
            readback_s=300.0,
            effect_s=900.0,
        ),
    },
    settle_s=900.0,
    # The device has no number; three are a failover list, and what other families hold.
    max_pools=3,
    network=NETWORK,
    # `logon` asks for no password, and pools not even for a `logon` (`api.json` of the luxos package).
    open_writes=frozenset({Field.POOLS, Field.MINING, Field.POWER_MODE, Field.ADDRESSING}),
)
