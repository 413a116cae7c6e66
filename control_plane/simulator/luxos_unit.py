"""The state of one simulated LuxOS unit beside its physics: what it keeps, and what a boot forgets.

Kept over a boot: curtailment, always; profile, ATM, pools and groups where autosave is on (Luxor
documentation: "if autosave is disabled, the changes will be lost after a reboot"). Lost with a boot or
a restart of luxminer: the session.

ATM is a controller of its own. It moves the profile one step at a time, down near the hot temperature
and otherwise up, within its own bounds, whatever was pinned before. It has no timer here: its moves
are made up for whenever somebody looks, so a unit that nobody looks at does not move.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from control_plane.simulator.luxos_profiles import Profile, Profiles, profiles_of
from control_plane.simulator.luxos_update import Fate, Update
from control_plane.simulator.machine import Machine, Phase, Sample, Timing, mix

SESSION_S = 60.0
"""Wire seconds after the last use until a session is gone (Luxor documentation, "Session management")."""
RESTART_S = 8.0
"""Device seconds for which nothing listens while luxminer starts. Ours."""
CHIP_OVER_BOARD_C = 15.0
"""LuxOS tells board temperatures; other firmware adds about that much (Luxor documentation)."""
HOT_C, DANGEROUS_C, TARGET_C = 65.0, 70.0, 45.0
"""Board temperatures, from a `tempctrl` reply of an S21."""
_SAFE = Timing(
    # Boots and the ramp are those of the hardware, as on stock firmware; the vendor's only figures are
    # below 5 s to about 25 W, and below 10 s back in the unsafe mode.
    boot_s=(40.0, 90.0),
    gap_s=(15.0, 30.0),
    ramp_s=(180.0, 420.0),
    step_s=120.0,
    fall_s=4.0,
)
_UNSAFE = replace(_SAFE, gap_s=(1.0, 2.0), ramp_s=(6.0, 9.0))


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One firmware build, by what clients can notice."""

    version: str
    commit: str
    compiled: str
    tells_steps: bool = True
    """`atm` has `MaxProfileStep` and `MinProfileStep`; builds of 2023 and 2024 name profiles only."""

    @property
    def name(self) -> str:
        """As it stands in every `Description`."""
        return f"{self.version}-{self.commit}"


V2024_02 = Build(
    version="2024.2.19.131822",
    commit="ef17c0c4",
    compiled="Mon Feb 19 13:19:55 UTC 2024",
    tells_steps=False,
)
V2025_04 = Build(
    version="2025.4.8.220305", commit="1b2c3d4e", compiled="Tue Apr  8 22:04:11 UTC 2025"
)
V2026_04 = Build(
    version="2026.4.3.192353", commit="6ab4e5077", compiled="Fri Apr  3 19:25:01 UTC 2026"
)
BUILDS = {build.version: build for build in (V2024_02, V2025_04, V2026_04)}


def build_of(machine: Machine) -> Build:
    """The build that a unit runs unless told otherwise. The shares are ours."""
    draw = mix(machine.seed, 41)
    return V2024_02 if draw < 0.1 else V2025_04 if draw < 0.6 else V2026_04  # noqa: PLR2004


class Pool(msgspec.Struct, frozen=True):
    """One pool as the device stores it. Its id is its place in the list: ids move when one goes."""

    url: str
    worker: str
    password: str = ""
    group: int = 0
    disabled: bool = False


class Group(msgspec.Struct, frozen=True):
    """A share of the hash, for pools that are tried from top to bottom."""

    name: str
    quota: float = 1.0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What `config` tells of it."""

    dhcp: bool = True
    ip: str = ""
    netmask: str = "255.255.0.0"
    gateway: str = ""
    dns: str = ""
    hostname: str = "LuxOS"


class Atm(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of Advanced Thermal Management."""

    enabled: bool = False
    startup_minutes: int = 15
    post_ramp_minutes: int = 15
    temp_window_c: float = 5.0
    min_step: int | None = None
    """`None`: unbounded."""
    max_step: int | None = 0


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What autosave writes to flash."""

    step: int
    atm: Atm
    pools: tuple[Pool, ...]
    groups: tuple[Group, ...]


class Unit:
    """One LuxOS unit: its machine, its settings and its API's memory."""

    __slots__ = (
        "_boots_known",
        "_flash",
        "_logons",
        "_moved_at",
        "_reset_at",
        "_session_at",
        "_slept_in_boot",
        "autosave",
        "build",
        "heat_c",
        "kept",
        "led",
        "machine",
        "network",
        "profiles",
        "session",
        "update",
    )

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...],
        network: Network,
        build: Build,
        step: int,
        atm: Atm,
        autosave: bool,
    ) -> None:
        """A unit at the profile `step`; `Unit` gives the machine its times."""
        machine.model = replace(machine.model, timing=_SAFE)
        self.machine = machine
        self.network = network
        self.build = build
        self.autosave = autosave
        self.led = "auto"
        self.heat_c = 0.0
        """How much warmer its boards are than on an ordinary day: weather, a dirty filter."""
        self.profiles: Profiles = profiles_of(machine.model, machine.seed)
        self.kept = Kept(step=step, atm=atm, pools=pools, groups=(Group("default"),))
        self._flash = self.kept
        self.update = Update()
        self.session = ""
        self._session_at = float("-inf")
        self._logons = 0
        self._boots_known = machine.boots
        self._reset_at = self._moved_at = float("-inf")
        self._slept_in_boot = -1
        machine.has_work = bool(pools)
        machine.settle(self.profile.as_step())

    # -- reading ---------------------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """The profile in force."""
        return self.profiles[self.kept.step]

    @property
    def pools(self) -> tuple[Pool, ...]:
        """As `pools` lists them."""
        return self.kept.pools

    def now(self) -> float:
        """Device seconds."""
        return self.machine.world.clock.device_s()

    def unix_s(self) -> float:
        """The device's clock."""
        return self.machine.world.wall_s()

    def sample(self) -> Sample:
        """The state now, after what a boot undid and ATM did since the last look."""
        self._boot_from_image()
        sample = self.machine.sample()
        if sample.phase in {Phase.OFF, Phase.BOOTING}:
            return sample
        if self.machine.boots != self._boots_known:
            self._boots_known = self.machine.boots
            self._end_session()
            self._moved_at = self.now() - sample.uptime_s
            if self.kept != self._flash:
                self.kept = self._flash
                self.machine.has_work = self._has_work()
                self.machine.set_step(self.profile.as_step(), restart=False)
        if self._atm_moves(sample):
            sample = self.machine.sample()
        return sample

    def uptime_s(self, sample: Sample) -> float:
        """Since luxminer started; it goes on through sleep."""
        return max(0.0, min(sample.uptime_s, self.now() - self._reset_at))

    def is_restarting(self, sample: Sample) -> bool:
        """Whether luxminer is not listening yet."""
        return self.uptime_s(sample) < RESTART_S

    def board_c(self, sample: Sample, slot: int) -> float:
        """The hottest sensor of a board."""
        return max(20.0, self.machine.temperature_c(sample, slot) - CHIP_OVER_BOARD_C + self.heat_c)

    def active_pools(self) -> frozenset[int]:
        """The pool of each group that work comes from: its first one in use."""
        found: dict[int, int] = {}
        for place, pool in enumerate(self.pools):
            if not pool.disabled:
                found.setdefault(pool.group, place)
        return frozenset(found.values())

    # -- the session -----------------------------------------------------------------------------

    def logon(self) -> str | None:
        """A new session; `None` while another one lives."""
        if self.session_now():
            return None
        self._logons += 1
        draw = int(mix(self.machine.seed, 7000 + self._logons) * 36**8)
        self.session = "".join(
            "0123456789abcdefghijklmnopqrstuvwxyz"[draw // 36**n % 36] for n in range(8)
        )
        self._touch()
        return self.session

    def session_now(self) -> str:
        """The session that lives; blank where none does."""
        wire_s = self.machine.world.clock.wire_s()
        if self.session and wire_s - self._session_at > SESSION_S:
            self._end_session()
        return self.session

    def uses(self, session: str) -> bool:
        """Whether it is the session that lives; using it makes it live on."""
        if not session or session != self.session_now():
            return False
        self._touch()
        return True

    def end_session(self) -> None:
        """Drop it."""
        self._end_session()

    def _touch(self) -> None:
        self._session_at = self.machine.world.clock.wire_s()

    def _end_session(self) -> None:
        self.session = ""

    # -- changing --------------------------------------------------------------------------------

    def keep(self, kept: Kept) -> None:
        """Settings as they are from now on; on flash too where autosave is on."""
        self.kept = kept
        if self.autosave:
            self._flash = kept

    def set_profile(self, step: int) -> None:
        """Go to a profile, without a restart; asleep it is only remembered."""
        self.keep(replace(self.kept, step=step))
        self._moved_at = self.now()
        self.machine.set_step(self.profile.as_step(), restart=False)

    def set_pools(self, pools: tuple[Pool, ...]) -> None:
        """Store pools; without one in use it draws power for nothing."""
        self.keep(replace(self.kept, pools=pools))
        self.machine.has_work = self._has_work()

    def sleep(self) -> None:
        """Hash boards and power supply off."""
        self._slept_in_boot = self.machine.boots
        self.machine.sleep()

    def wake(self, *, unsafe: bool) -> None:
        """Ramp as after a boot; at once in the unsafe mode, which a boot in sleep takes away."""
        fast = unsafe and self._slept_in_boot == self.machine.boots
        self.machine.model = replace(self.machine.model, timing=_UNSAFE if fast else _SAFE)
        self._moved_at = self.now()
        self.machine.wake()
        self.machine.model = replace(self.machine.model, timing=_SAFE)

    def restart(self) -> None:
        """The mining program, luxminer, starts anew; a unit that sleeps sleeps on."""
        self._reset_at = self._moved_at = self.now()
        self._end_session()
        self.machine.restart_mining()

    def reboot(self) -> None:
        """The control board boots; a unit that sleeps sleeps on."""
        self.machine.reboot()

    def stand(self, network: Network) -> None:
        """Store network settings and stand by them; mining goes on."""
        if (network.dhcp, network.ip) != (self.network.dhcp, self.network.ip):
            ip = self.machine.readdress(None if network.dhcp else network.ip)
            network = replace(network, ip=ip)
        self.network = network

    def _has_work(self) -> bool:
        return any(not pool.disabled for pool in self.pools)

    def _boot_from_image(self) -> None:
        """Come up with other firmware once it is written; settings stay."""
        image = None if self.machine.is_off else self.update.take(self.machine)
        if image is None:
            return
        self.build = replace(self.build, version=image.version, commit=image.commit)
        self.machine.reboot()
        if image.fate is Fate.DEAD:
            self.machine.is_dead = True
        elif image.fate is Fate.NO_HASH:
            self.machine.has_work = False

    # -- ATM -------------------------------------------------------------------------------------

    def _atm_moves(self, sample: Sample) -> bool:
        """Make up for the moves of ATM since the last look; whether there was one."""
        atm = self.kept.atm
        if not atm.enabled or self.machine.asleep:
            return False
        start = self.now() - self.uptime_s(sample) + 60.0 * atm.startup_minutes
        began = max(start, self._moved_at + 60.0 * atm.post_ramp_minutes)
        if self.now() < began:
            return False
        every = max(60.0, 60.0 * atm.post_ramp_minutes)
        moves = 1 + int((self.now() - began) / every)
        step = self.kept.step
        hottest = max([self.board_c(sample, slot) for slot in self.machine.alive_boards()] or [0.0])
        if hottest >= HOT_C - atm.temp_window_c:
            floor = min(self.profiles) if atm.min_step is None else atm.min_step
            step = max(min(step, floor), step - 1)  # One: cooler by then, it may stay there.
        else:
            top = max(self.profiles) if atm.max_step is None else atm.max_step
            step = min(top, step + moves)
        if step == self.kept.step:
            return False
        self.set_profile(step)
        return True
