"""The state of one simulated unit under VNish beside its physics: presets, tuning, self-protection.

Three presets are kept apart (asic-devices reference, trap 3): the *configured* one, the one that
*runs* because `preset_switcher` moved it with temperature, and the highest that the switcher may go to,
which is what the settings *permit*.

There are no timers: what the firmware would have done by itself is judged whenever somebody looks.
Kept in flash: firmware, settings, tuned presets, API keys, password. Lost with a boot: sessions,
throttle, and `stop` unless `remain_stopped_on_reboot` is set.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from control_plane.simulator import vnish_builds as builds
from control_plane.simulator.flash import Flash
from control_plane.simulator.machine import Machine, Phase, Sample, Step, mix
from control_plane.simulator.vnish_auth import Sessions
from control_plane.simulator.vnish_builds import Build
from control_plane.simulator.vnish_conf import DISABLED, Conf, Network, Pool

USUAL_C = 25.0
"""Inlet temperature at which `Machine.temperature_c` holds."""


class Unit:
    """One unit: its machine, its settings and what its firmware is doing."""

    __slots__ = (
        "_boots_known",
        "_checked_at",
        "_tune_end",
        "active_pool",
        "attempts",
        "build",
        "conf",
        "failure",
        "find",
        "flash",
        "inlet_c",
        "machine",
        "needs_restart",
        "network",
        "network_next",
        "pools_in_force",
        "running",
        "sessions",
        "since",
        "throttle",
        "tuned",
        "waits_for_water",
    )

    def __init__(
        self,
        machine: Machine,
        *,
        conf: Conf,
        network: Network,
        build: Build,
        tuned: Collection[str] | None = None,
    ) -> None:
        """A unit that has been running at its configured preset.

        Args:
            machine: its physics, identity and password.
            conf: its settings.
            network: in force, and stored.
            build: its firmware.
            tuned: presets that are; drawn by the asset's name where not given, always with the one
                that runs.
        """
        self.machine = machine
        self.build = build
        self.flash = Flash(machine, build.version)
        self.conf = conf
        self.network = network
        self.network_next: Network | None = None
        """Stored, and in force with the next boot."""
        names = [step.name for step in machine.model.ladder]
        if tuned is None:
            # How many a floor has tuned depends on its history; the share is ours.
            tuned = [n for i, n in enumerate(names) if mix(machine.seed, 500 + i) < 0.8]  # noqa: PLR2004
        self.tuned = {*tuned, conf.preset}
        self.running = conf.preset
        self.pools_in_force = conf.live_pools()
        self.active_pool = 0
        self.needs_restart = False
        self.throttle = 100
        self.find = False
        self.inlet_c = USUAL_C
        """Air or water that comes in; a fault or a test changes it."""
        self.failure: tuple[int, str] | None = None
        """Code and text; it has given up until somebody starts it."""
        self.waits_for_water = False
        self.attempts = 0
        self.since = self.now()
        """When it stopped."""
        self.sessions = Sessions(machine.asset)
        self._tune_end: float | None = None
        self._checked_at = self.now()
        self._boots_known = machine.boots
        machine.has_work = bool(self.pools_in_force)
        machine.settle(self._step())

    # -- reading ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Device seconds."""
        return self.machine.world.clock.device_s()

    def sample(self) -> Sample:
        """The state now, after all that the firmware did by itself since the last look."""
        sample = self.machine.sample()
        if sample.phase in {Phase.OFF, Phase.BOOTING}:
            return sample
        if self.machine.boots != self._boots_known:
            self._boots_known = self.machine.boots
            self._booted()
        elif self.waits_for_water and not self._is_cold():
            self.waits_for_water = False
            self.machine.wake()
        elif not self.machine.asleep:
            self._tune()
            self._switch(sample)
            self._protect(sample)
        return self.machine.sample()

    def state(self, sample: Sample) -> str:
        """`miner_state`."""
        if self.failure is not None:
            return "failure"
        if self.waits_for_water:
            return "starting"
        if self.machine.asleep:
            return "shutting-down" if sample.hashrate_ths > 0.0 else "stopped"
        if sample.hashrate_ths <= 0.0 and sample.phase is Phase.STARTING:
            return "initializing"
        if sample.phase is Phase.STARTING and sample.hashrate_ths < 0.5 * sample.target_ths:
            return "starting"
        return "mining" if self._tune_end is None else "auto-tuning"

    def state_s(self, sample: Sample) -> int:
        """`miner_state_time`: seconds in that state, as near as the firmware tells."""
        since = self.now() - self.since if self.machine.asleep else sample.mining_uptime_s
        return max(0, int(since))

    def is_restarting(self, sample: Sample) -> bool:
        """Whether the mining process cannot be asked yet."""
        return not self.machine.asleep and sample.mining_uptime_s < builds.RESTART_S

    def chip_c(self, sample: Sample, slot: int) -> float:
        """Hottest chip of a board, at the inlet temperature of now."""
        return self.machine.temperature_c(sample, slot) + self.inlet_c - USUAL_C

    def hottest_c(self, sample: Sample) -> float:
        """Hottest chip of all."""
        return max([self.chip_c(sample, slot) for slot in self.machine.alive_boards()], default=0.0)

    def presets(self) -> tuple[Step, ...]:
        """Its ladder, ascending."""
        return self.machine.model.ladder

    def names(self) -> tuple[str, ...]:
        """Names of its presets."""
        return tuple(step.name for step in self.presets())

    def permits_w(self, conf: Conf) -> float:
        """Watts that a mining unit would be permitted under other settings: the switcher's top counts."""
        watts = self._base(conf.preset).power_w
        top = conf.switcher.top_preset
        if conf.switcher.enabled and top is not None:
            watts = max(watts, self._base(top).power_w)
        return watts

    # -- changing --------------------------------------------------------------------------------

    def save(self, conf: Conf) -> None:
        """Store settings, and do what follows from them at once."""
        was, self.conf = self.conf, conf
        if conf.pools != was.pools:
            if self.build.pools_need_restart and not self.machine.asleep:
                self.needs_restart = True
            else:
                self._use_pools(conf.live_pools())
        if conf.misc != was.misc or (conf.freq, conf.volt) != (was.freq, was.volt):
            self.needs_restart = True
        if conf.preset != was.preset:
            self.run(conf.preset, restart=True)
        self._clamp(conf)

    def run(self, preset: str, *, restart: bool) -> None:
        """Go to a preset; an un-tuned one is tuned first, which takes hours."""
        self.running = preset
        self._tune_end = None
        if preset not in self.tuned:
            low, high = builds.TUNE_S
            self._tune_end = self.now() + low + (high - low) * mix(self.machine.seed, 52)
        if restart:
            self._restarted()
        self.machine.set_step(self._step(), restart=restart)

    def restart(self) -> None:
        """Restart the mining process; it also starts one that had stopped (ours)."""
        self.failure = None
        self.start()

    def start(self) -> None:
        """Start mining, unless the water is too cold."""
        self.failure = None
        self.attempts = 0
        self._restarted()
        if self._is_cold():
            self.waits_for_water = True
            self._sleep()
            return
        self.machine.step = self._step()
        self.machine.wake()

    def stop(self) -> None:
        """Stop mining; the control board stays up."""
        self.waits_for_water = False
        self._sleep()

    def set_throttle(self, percent: int) -> None:
        """A share of the preset's watts, until mining restarts."""
        self.throttle = percent
        self.machine.set_step(self._step(), restart=False)

    def set_network(self, network: Network) -> None:
        """Store network settings: in force at once, or with the next boot, by build."""
        if self.build.network_needs_boot and network != self.network:
            self.network_next = network
        else:
            self._stand(network)

    def reboot(self) -> None:
        """The control board boots; it comes up where its settings have it stand."""
        self._stand(self.network_next or self.network)
        self.machine.reboot()

    def switch_pool(self, place: int) -> None:
        """Use another of the pools in force, until mining restarts or they change."""
        self.active_pool = place

    # -- what it does by itself --------------------------------------------------------------------

    def _stand(self, network: Network) -> None:
        self.network_next = None
        if (network.dhcp, network.ip) != (self.network.dhcp, self.network.ip):
            ip = self.machine.readdress(None if network.dhcp else network.ip)
            network = replace(network, ip=ip)
        self.network = network

    def _booted(self) -> None:
        self._stand(self.network_next or self.network)
        self.sessions.end()
        self.find = False
        self.failure = None
        self.attempts = 0
        self._restarted()
        self.running = self.conf.preset
        self._tune_end = None
        if self.running not in self.tuned:
            self.run(self.running, restart=False)
        if self._step() != self.machine.step:
            self.machine.set_step(self._step(), restart=False)
        if self.machine.asleep and not self.conf.misc.remain_stopped_on_reboot:
            self.start()

    def _restarted(self) -> None:
        """What a start of the mining process does to the settings in force."""
        self.needs_restart = False
        self.throttle = 100
        self.waits_for_water = False
        self._use_pools(self.conf.live_pools())
        self._checked_at = self.now()

    def _use_pools(self, pools: tuple[Pool, ...]) -> None:
        self.pools_in_force = pools
        self.active_pool = 0
        self.machine.has_work = bool(pools)

    def _sleep(self) -> None:
        if not self.machine.asleep:
            self.since = self.now()
            self.machine.sleep()

    def _is_cold(self) -> bool:
        least = self.conf.cooling.min_startup_water_temp
        return least is not None and self.inlet_c < least

    def _tune(self) -> None:
        if self._tune_end is not None and self.now() >= self._tune_end:
            self._tune_end = None
            self.tuned.add(self.running)
            self.machine.set_step(self._step(), restart=False)

    def _switch(self, sample: Sample) -> None:
        """One step of `preset_switcher`, each `check_time`."""
        switcher = self.conf.switcher
        if not switcher.enabled or self.now() - self._checked_at < max(60, switcher.check_time):
            return
        self._checked_at = self.now()
        names = self.names()
        if self.running not in names or sample.phase is not Phase.HASHING:
            return
        here = names.index(self.running)
        low, top = self._bounds(self.conf)
        hot = self.hottest_c(sample)
        if hot >= switcher.decrease_temp and here > low:
            self.run(names[here - 1], restart=False)
        elif hot <= switcher.rise_temp and here < top:
            self.run(names[here + 1], restart=False)

    def _clamp(self, conf: Conf) -> None:
        """New bounds of the switcher hold at once."""
        names = self.names()
        if conf.switcher.enabled and self.running in names:
            low, top = self._bounds(conf)
            here = names.index(self.running)
            if not low <= here <= top:
                self.run(names[min(max(here, low), top)], restart=False)

    def _bounds(self, conf: Conf) -> tuple[int, int]:
        """Places of the lowest and highest preset that the switcher goes to."""
        names, switcher = self.names(), conf.switcher
        top = names.index(switcher.top_preset) if switcher.top_preset in names else len(names) - 1
        low = names.index(switcher.min_preset) if switcher.min_preset in names else 0
        return min(low, top), top

    def _protect(self, sample: Sample) -> None:
        """Restart what is too hot or hashes too little; give up after some tries."""
        low, high = builds.HEALTH_S
        grace_s = low + (high - low) * mix(self.machine.seed, 53)
        if sample.mining_uptime_s < grace_s:
            return
        misc = self.conf.misc
        step = self._step()
        floor = step.hashrate_ths * self.machine.hash_share * misc.restart_hashrate / 100
        if self.hottest_c(sample) >= misc.restart_temp:
            self._rescue(1001, "Chip temperature is too high")
        elif self.machine.has_work and sample.hashrate_ths < floor:
            self._rescue(1003, "Hashrate is below the restart threshold")
        else:
            self.attempts = 0

    def _rescue(self, code: int, why: str) -> None:
        self.attempts += 1
        if self.attempts > self.conf.misc.max_restart_attempts:
            self.failure = (code, why)
            self._sleep()
            return
        self._restarted()
        self.machine.step = self._step()
        self.machine.restart_mining()

    # -- presets -----------------------------------------------------------------------------------

    def _base(self, preset: str) -> Step:
        model = self.machine.model
        nominal = model.step(model.nominal) or model.ladder[-1]
        return nominal if preset == DISABLED else model.step(preset) or nominal

    def _step(self) -> Step:
        """Where it runs: the preset, less what tuning and a throttle take."""
        step = self._base(self.running)
        tuning = builds.TUNING_SHARE if self._tune_end is not None else 1.0
        share = self.throttle / 100
        standby = self.machine.model.standby_w
        return replace(
            step,
            hashrate_ths=step.hashrate_ths * tuning * share,
            power_w=standby + (step.power_w - standby) * share,
        )
