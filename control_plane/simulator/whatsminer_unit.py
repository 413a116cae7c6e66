"""The state of one simulated WhatsMiner beside its physics: what its flash holds and its API forgets.

Kept in flash: pools, mode, limit, frequency, fast boot, upfreq speed, password, network. Lost when
the mining process restarts: the percentage. Lost when the control board boots: tokens, and
`power_off`: a WhatsMiner mines again after a reboot (MDK worker documentation, `reboot`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from control_plane.simulator.flash import Flash
from control_plane.simulator.machine import Machine, Phase, Sample, mix
from control_plane.simulator.whatsminer_crypto import Credentials, TokenTable, salt_from
from control_plane.simulator.whatsminer_power import PowerSettings, step_for, timed

SLOTS = 3
RESTART_S = 8.0
"""Device seconds for which nobody listens behind the API while the mining process starts."""
SMOOTH_S = 60.0
"""Device seconds for a change without a restart, with fast boot on (WMC: about a minute)."""


class WriteApi(StrEnum):
    """What becomes of write commands."""

    OPEN = "open"
    DISABLED = "disabled"
    """Factory state: off until the password is changed and WhatsMinerTool switches it on."""
    REMOVED = "removed"
    """Firmware of 2024.11 and later: v2 reads as ever, writes are no longer understood (PYA#363)."""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One firmware build, by what clients can notice."""

    firmware: str
    api: str = "2.0.5"
    tells_limit: bool = True
    """`status` has `power_limit_set` (seen from 2024.06 on, absent in 2023.08)."""
    pairs_in_list: bool = False
    """`get_error_code` prints `["530": "…"]`, which is not JSON (PYA, API 2.0.4)."""
    joins: bool = True
    """Commands may be joined with `+`."""
    write_api: WriteApi = WriteApi.OPEN
    """Once it is switched on."""


V2023_08 = Build(firmware="20230803.11.REL", api="2.0.4", tells_limit=False, pairs_in_list=True)
V2024_06 = Build(firmware="20240624.14.Rel")
V2024_09 = Build(firmware="20240924.14.Rel")
V2025_04 = Build(firmware="20250409.15.REL", write_api=WriteApi.REMOVED)
BUILDS = {build.firmware: build for build in (V2023_08, V2024_06, V2024_09, V2025_04)}


def build_of(machine: Machine) -> Build:
    """The build that a unit runs unless told otherwise: the same in every process.

    The shares are ours. Builds without v2 writes are never drawn: a simulation names them.
    """
    draw = mix(machine.seed, 41)
    return V2023_08 if draw < 0.1 else V2024_06 if draw < 0.6 else V2024_09  # noqa: PLR2004


class Pool(msgspec.Struct, frozen=True):
    """One pool slot as the device stores it; blank where unused."""

    url: str = ""
    worker: str = ""
    password: str = ""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What `get_miner_info` and `net_config` are about."""

    proto: str = "dhcp"
    ip: str = "0.0.0.0"  # noqa: S104 — a placeholder that is printed, not bound
    netmask: str = "255.255.0.0"
    gateway: str = ""
    dns: str = "114.114.114.114"
    hostname: str = "WhatsMiner"


class Unit:
    """One WhatsMiner: its machine, its settings and its API's memory."""

    __slots__ = (
        "_boots_known",
        "_credentials",
        "_fast_boot_at",
        "_hashed",
        "_mode_was_set",
        "_percent_at",
        "build",
        "clock_skew_s",
        "flash",
        "led",
        "machine",
        "network",
        "off_at",
        "pools",
        "power",
        "tokens",
        "write_api",
    )

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...],
        network: Network,
        build: Build,
        write_api: WriteApi,
        power: PowerSettings,
        clock_skew_s: float,
    ) -> None:
        self.machine = machine
        self.pools = fill_slots(pools)
        self.network = network
        self.build = build
        self.flash = Flash(machine, build.firmware)
        self.write_api = write_api
        self.power = power
        self.clock_skew_s = clock_skew_s
        self.led = "auto"
        self.off_at: float | None = self.unix_s() if machine.asleep else None
        self.tokens = TokenTable(machine.asset)
        self._credentials: Credentials | None = None
        self._hashed = ""
        self._mode_was_set = False
        self._fast_boot_at = self._percent_at = float("-inf")
        self._boots_known = machine.boots
        self._apply_timing()

    # -- reading ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Device seconds."""
        return self.machine.world.clock.device_s()

    def unix_s(self) -> float:
        """The device's own clock, which may be wrong."""
        return self.machine.world.wall_s() + self.clock_skew_s

    def sample(self) -> Sample:
        """The state now, after what a boot or restart since the last look has undone."""
        # Before the sample: a process that is held up in between must not see a restart that was none
        # (in scaled time a moment of the wire is minutes of the device).
        now = self.now()
        sample = self.machine.sample()
        if sample.phase in {Phase.OFF, Phase.BOOTING}:
            return sample
        if self.machine.boots != self._boots_known:
            self._boots_known = self.machine.boots
            self.tokens.clear()
            if self.machine.asleep:
                self.off_at = None
                self.machine.wake()
                sample = self.machine.sample()
        # Half a second is far above rounding and far below any restart.
        if self.power.percent != 100 and now - sample.mining_uptime_s > self._percent_at + 0.5:  # noqa: PLR2004
            self.power = replace(self.power, percent=100, percent_is_fast=False)
            self.move(restart=False)
        return sample

    def credentials(self) -> Credentials:
        """The stored password; hashed anew where something outside the API changed it."""
        password = self.machine.password
        if self._credentials is None or self._hashed != password:
            self._hashed = password
            self._credentials = Credentials.of(
                password, salt_from(f"{self.machine.asset}/{password}")
            )
            self.tokens.clear()
        return self._credentials

    def is_restarting(self, sample: Sample) -> bool:
        """Whether the mining process is not listening yet."""
        return sample.mining_uptime_s < RESTART_S

    def fast_boot_is_active(self, sample: Sample) -> bool:
        """Fast boot works from the first restart after it was switched on (WMC, MDK)."""
        return self.power.fast_boot and self.now() - sample.mining_uptime_s >= self._fast_boot_at

    def mode_as_stored(self) -> str:
        """`power_mode` of `status`: empty until somebody set one."""
        return self.power.mode if self._mode_was_set else ""

    def errors(self) -> tuple[str, ...]:
        """Codes of what is wrong now.

        From MicroBT's list: 53n slot not found, 54n chip ids unreadable, 2010 no pool configured,
        202n pool connection failed.
        """
        machine = self.machine
        fitted = machine.model.boards - machine.missing_boards
        codes = [f"53{slot}" for slot in range(fitted, machine.model.boards)]
        codes += [f"54{slot}" for slot in sorted(machine.dead_boards) if slot < fitted]
        used = [slot for slot, pool in enumerate(self.pools) if pool.url]
        if not used:
            codes.append("2010")
        elif not machine.has_work:
            codes += [f"202{slot}" for slot in used]
        return tuple(codes)

    def stamp(self, unix_s: float) -> str:
        """A moment as the device prints it."""
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")

    # -- changing --------------------------------------------------------------------------------

    def draw_under(self, power: PowerSettings) -> float:
        """Watts that a mining unit would be permitted under other settings."""
        return step_for(self.machine.model, power).power_w

    def set_mode(self, mode: str) -> None:
        """Remember a mode; it shows in `status` from now on."""
        self._mode_was_set = True
        self.power = replace(self.power, mode=mode)

    def set_fast_boot(self, *, on: bool) -> None:
        """Fast boot and a raised upfreq speed exclude each other (API v2.0.5, 3.25)."""
        self._fast_boot_at = self.now()
        speed = 0 if on else self.power.upfreq_speed
        self.power = replace(self.power, fast_boot=on, upfreq_speed=speed)
        self._apply_timing()

    def set_upfreq_speed(self, speed: int) -> None:
        """Takes effect at the next restart."""
        fast_boot = self.power.fast_boot and speed == 0
        self.power = replace(self.power, upfreq_speed=speed, fast_boot=fast_boot)
        self._apply_timing()

    def set_percent(self, percent: int, *, fast: bool, over_s: float) -> None:
        """A temporary share of the watts in force, without a restart."""
        self._percent_at = self.now()
        self.power = replace(self.power, percent=percent, percent_is_fast=fast)
        self.move(restart=False, over_s=over_s)

    def move(self, *, restart: bool, over_s: float = SMOOTH_S) -> None:
        """Go where the settings point."""
        if restart:
            self.power = replace(self.power, percent=100, percent_is_fast=False)
        self._apply_timing(step_s=over_s)
        self.machine.set_step(step_for(self.machine.model, self.power), restart=restart)

    def restart(self) -> None:
        """Restart the mining process; also ends a `power_off` (MDK worker documentation)."""
        self.off_at = None
        self.machine.asleep = False
        self.move(restart=True)

    def power_off(self) -> None:
        """Stop mining; the control board stays up."""
        if not self.machine.asleep:
            self.off_at = self.unix_s()
            self.machine.sleep()

    def reboot(self) -> None:
        """Boot the control board; it mines afterwards."""
        self.off_at = None
        self.machine.asleep = False
        self.power = replace(self.power, percent=100, percent_is_fast=False)
        self._apply_timing()
        self.machine.step = step_for(self.machine.model, self.power)
        self.machine.reboot()

    def stand(self, network: Network) -> None:
        """Store network settings, boot, and stand by them."""
        ip = self.machine.readdress(None if network.proto == "dhcp" else network.ip)
        self.network = replace(network, ip=ip)
        self.reboot()

    def set_password(self, password: str) -> None:
        """Change the administrator's password; all tokens die with the old one."""
        self.machine.take_password(password)
        self.credentials()

    def set_pools(self, pools: tuple[Pool, ...]) -> None:
        """Store three slots; without any pool it draws power for nothing."""
        self.pools = fill_slots(pools)
        self.machine.has_work = any(pool.url for pool in self.pools)

    def _apply_timing(self, *, step_s: float = SMOOTH_S) -> None:
        self.machine.model = timed(
            self.machine.model,
            upfreq_speed=self.power.upfreq_speed,
            fast_boot=self.power.fast_boot,
            step_s=step_s,
        )


def fill_slots(pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """Always three, blank ones last."""
    return (pools + (Pool(),) * SLOTS)[:SLOTS]
