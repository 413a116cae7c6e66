"""What differs between builds of VNish, as data, and the times that all of them share.

Derived from: the swagger document of the firmware (1.2.6 and later) and replies of an S19 on 1.2.6 and
an S19j Pro on 1.2.0-rc3, as published; pyasic's and asic-rs's clients for 1.2 and 1.3; asic-rs PR#284
(an S19 Pro Hydro on 1.3.3). No live device was at hand. What no source tells says "ours".
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from control_plane.simulator.machine import Machine, mix


class Locked(StrEnum):
    """What `/summary` shows to somebody who has not unlocked.

    The swagger document lists credentials for it, and no refusal; clients read it both ways.
    """

    OPEN = "open"
    MASKED = "masked"
    """Workers are printed as `*****`."""
    REFUSED = "refused"
    """401."""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One firmware build, by what clients can notice."""

    version: str
    platform: str
    """Control board: `xil` Xilinx, `aml` Amlogic, `cv` Cvitek, `bb` BeagleBone."""
    tells_serial: bool = True
    """False: `/info` prints `N/A` (S19 on 1.2.6)."""
    empty_acks: bool = False
    """`/mining/*` answers with an empty body instead of an empty object."""
    has_throttle: bool = True
    """`/mining/throttle` and `miner_status.throttled` (1.3, asic-rs)."""
    usage_is_watts: bool = False
    """`power_usage` still means watts; later it repeats `power_efficiency` (swagger)."""
    refuses_off_ladder: bool = True
    """A preset that it does not have is a 400; else it is acknowledged and forgotten (pyasic PR#245)."""
    pools_need_restart: bool = False
    """New pools wait for a restart of the mining process, and the answer says so. Ours: the fields
    exist for it, no source tells which settings set them."""
    network_needs_boot: bool = False
    """New network settings wait for a boot, and the answer says so; else they are in force with it. Ours,
    as above."""
    summary: Locked = Locked.OPEN


V1_2_6 = Build(
    version="1.2.6",
    platform="xil",
    tells_serial=False,
    empty_acks=True,
    has_throttle=False,
    usage_is_watts=True,
    refuses_off_ladder=False,
)
V1_3_3 = Build(version="1.3.3", platform="aml")
V1_3_4 = Build(
    version="1.3.4",
    platform="cv",
    summary=Locked.MASKED,
    pools_need_restart=True,
    network_needs_boot=True,
)
BUILDS = {build.version: build for build in (V1_2_6, V1_3_3, V1_3_4)}


def build_of(machine: Machine) -> Build:
    """The build that a unit runs unless told otherwise: the same in every process. Shares are ours."""
    draw = mix(machine.seed, 51)
    return V1_2_6 if draw < 0.3 else V1_3_3 if draw < 0.8 else V1_3_4  # noqa: PLR2004


RESTART_S = 8.0
"""Device seconds after a start of the mining process in which `/summary` has no `miner`. Ours."""
TUNE_S = (3_600.0, 7_200.0)
"""Device seconds of one tuning cycle. Clients' authors say "hours"; the range is ours."""
TUNING_SHARE = 0.93
"""Share of a preset's hash that it makes while it is tuned. Ours."""
HEALTH_S = (300.0, 600.0)
"""Device seconds of mining before the health check counts (asic-devices reference §1)."""
REBOOT_AFTER_S = 3
"""Seconds from the answer to the reboot (swagger: 3 by default)."""
MIN_THROTTLE = 20
"""Per cent; 20 to 100 are taken (asic-rs)."""
