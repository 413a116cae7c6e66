"""What a write costs under VNish, in hashing and in time; figures with their sources."""

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
from control_plane.drivers.vnish_conf import SLOTS
from control_plane.drivers.vnish_reads import FAMILY

RESTART_CHECK_S: Final = 10.0
"""Device seconds until the mining process can be asked again after a restart; no source, ours."""
BOOT_CHECK_S: Final = 60.0

_RESTARTS: Final = SettingClass(
    disturbance=Disturbance.RESTARTS_MINING,
    persistent=True,
    # 5 to 10 min to full hash as on stock firmware (MinerWatch, S19 XP), half of it lost.
    lost_s=240.0,
    # `POST /settings` took 14 ms; `/mining/*` waits for the mining process. As the others: ours.
    accept_s=45.0,
    readback_s=180.0,
    effect_s=900.0,
)
FIRMWARE: Final = FirmwareWays(
    # Ours: 30 MB over a poor link within five minutes.
    bytes_per_s=100_000.0,
    check_s=120.0,
    can_roll_back=False,
)
PASSWORDS: Final = PasswordWays(
    # Ours, and narrow: the swagger document gives no bounds.
    pattern=r"[A-Za-z0-9_.-]{1,32}",
    means="1 to 32 letters, digits, `_`, `.` and `-`",
    # Stored with the answer. Ours.
    late_s=120.0,
)
NETWORK: Final = NetworkWays(
    # A boot of 1 to 2 min, and slack. Ours.
    late_s=300.0,
    # Where the device says that it wants one (`reboot_required`); which builds do, no source tells.
    reboots=True,
)
CAPABILITIES: Final = Capabilities(
    family=FAMILY,
    reads=frozenset(
        {Field.POOLS, Field.MINING, Field.POWER_MODE, Field.FIRMWARE, Field.ADDRESSING}
    ),
    writes={
        # The mining process reconnects; where a build wants a restart for it, it says so. Ours.
        ChangeKind.SET_POOLS: msgspec.structs.replace(
            _RESTARTS, disturbance=Disturbance.RAMPS, lost_s=15.0
        ),
        # A tuned preset restarts mining and shows within 15 min. One that is not is tuned first, "for
        # hours" (clients' authors): three are ours. `lost_s` is of the tuned one.
        ChangeKind.SET_POWER_MODE: msgspec.structs.replace(
            _RESTARTS, disturbance=Disturbance.RETUNES, effect_s=10_800.0
        ),
        # Ends with a boot unless `remain_stopped_on_reboot` is set, so it is not persistent.
        ChangeKind.STOP_MINING: msgspec.structs.replace(
            _RESTARTS, persistent=False, lost_s=0.0, effect_s=600.0
        ),
        # Not long enough for a start at an un-tuned preset: a unit that does not start must be known
        # sooner than that, and one that tunes says so.
        ChangeKind.START_MINING: msgspec.structs.replace(
            _RESTARTS, disturbance=Disturbance.RAMPS, persistent=False
        ),
        ChangeKind.RESTART_MINING: msgspec.structs.replace(_RESTARTS, persistent=False),
        # The same and a boot of 1 to 2 min, some seconds after the answer; ours.
        ChangeKind.REBOOT: msgspec.structs.replace(
            _RESTARTS,
            disturbance=Disturbance.REBOOTS,
            persistent=False,
            lost_s=330.0,
            readback_s=300.0,
        ),
    },
    settle_s=900.0,
    max_pools=SLOTS,
    firmware=FIRMWARE,
    passwords=PASSWORDS,
    network=NETWORK,
)
