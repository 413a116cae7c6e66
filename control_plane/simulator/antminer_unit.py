"""The state of one simulated stock Antminer beside its physics: its config, and what a write starts.

Kept in flash: config, password, network. A config write is stored, answered, and only then does the
miner restart in the background; what a read meets meanwhile differs by build (`Race`).
"""

from __future__ import annotations

import msgspec

from control_plane.simulator.antminer_builds import NORMAL, SLEEP, Build, Race
from control_plane.simulator.antminer_conf import BLANK, FACTORY, Conf, Pool
from control_plane.simulator.flash import Flash
from control_plane.simulator.machine import Machine, Phase, Sample, Step

CONTROL_BOARD = "AMLCtrl_BHB68xxx"
"""Control board and hash boards: what an image is checked against (`subtype` of `miner_type.cgi`)."""
RESTART_S = 8.0
"""Device seconds for which nothing listens on 4028 while the mining process starts. Ours."""
FIRST_S = 20.0
"""Device seconds after that start until `stats` lists the boards. Ours."""
RACE_S = 6.0
"""Device seconds after the answer to a config write until reads are true again. Ours: ARS#249 says
that an immediate read races, not for how long."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What `get_network_info` and `get_system_info` tell."""

    proto: str = "DHCP"
    """`DHCP` or `Static`."""
    ip: str = ""
    netmask: str = "255.255.0.0"
    gateway: str = ""
    dns: str = ""
    hostname: str = "Antminer"


class Unit:
    """One Antminer: its machine, its config and its build."""

    __slots__ = ("_answered_at", "_before", "blink", "build", "conf", "flash", "machine", "network")

    def __init__(self, machine: Machine, *, build: Build, conf: Conf, network: Network) -> None:
        self.machine = machine
        self.build = build
        self.conf = conf
        self.network = network
        self.blink = False
        self.flash = Flash(machine, build.compile_time)
        self._before = conf
        self._answered_at = float("-inf")
        machine.has_work = bool(conf.live_pools())
        machine.settle(self.step_of(conf))

    # -- reading ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Device seconds."""
        return self.machine.world.clock.device_s()

    def is_restarting(self, sample: Sample) -> bool:
        """Whether the mining process is not listening yet."""
        return sample.mining_uptime_s < RESTART_S

    def has_no_boards_yet(self, sample: Sample) -> bool:
        """Whether the mining process answers but has not found its boards."""
        return sample.mining_uptime_s < FIRST_S

    def race(self) -> Race | None:
        """What reads of the web server meet now because of a config write; `None` is the truth."""
        return self.build.race if 0.0 <= self.now() - self._answered_at < RACE_S else None

    def conf_as_read(self, sample: Sample) -> Conf:
        """The config as `get_miner_conf` sees it: factory values for a while after boot (ARS#260)."""
        if sample.phase is Phase.OFF or sample.uptime_s < self.build.half_boot_s:
            return FACTORY
        return self._before if self.race() is Race.STALE else self.conf

    def errors(self) -> tuple[str, ...]:
        """What is wrong now, in the words of `summary.cgi`. The wording is ours."""
        machine = self.machine
        found = machine.model.boards - len(machine.alive_boards())
        messages = [f"{found} hash board(s) not found"] if found else []
        if not machine.has_work:
            messages.append("network connection lost")
        return tuple(messages)

    # -- modes -----------------------------------------------------------------------------------

    def step_of(self, conf: Conf) -> Step:
        """Where the unit runs under a config; of a sleeping one, where it would."""
        model = self.machine.model
        nominal = nominal_index(self.machine)
        chosen = model.ladder[nominal]
        for index, step in enumerate(model.ladder):
            code = self.build.code_of(step.name, nominal_index=nominal, index=index)
            if conf.mode not in {NORMAL, SLEEP} and code == conf.mode:
                chosen = step
        share = conf.share()
        if share >= 1.0:
            return chosen
        return Step(
            name=chosen.name,
            hashrate_ths=chosen.hashrate_ths * share,
            power_w=model.standby_w + (chosen.power_w - model.standby_w) * share,
        )

    def has_code(self, code: int) -> bool:
        """Whether this type has a step for a work-mode code."""
        nominal = nominal_index(self.machine)
        return code in {NORMAL, SLEEP} or any(
            self.build.code_of(step.name, nominal_index=nominal, index=index) == code
            for index, step in enumerate(self.machine.model.ladder)
        )

    def draw_under(self, conf: Conf) -> float:
        """Watts that a config permits."""
        return self.machine.model.standby_w if conf.mode == SLEEP else self.step_of(conf).power_w

    # -- changing --------------------------------------------------------------------------------

    def write(self, conf: Conf) -> None:
        """Store a config and start the background restart that follows from it."""
        if not self.has_code(conf.mode):
            # A type without that step runs and reads back normal (asic-devices, trap 12).
            conf = msgspec.structs.replace(conf, mode=NORMAL)
        machine, build, was = self.machine, self.build, self.conf
        clock = machine.world.clock
        self._before, self.conf = was, conf
        self._answered_at = self.now() + clock.device_of(build.accept_s)
        machine.has_work = bool(conf.live_pools())
        if conf.mode == SLEEP:
            self._sleep()
            return
        step = self.step_of(conf)
        if machine.asleep:
            machine.step = step
            machine.wake()
        elif step != machine.step:
            machine.set_step(step, restart=True)
        elif not build.reloads_pools:
            machine.restart_mining()

    def stand(self, network: Network) -> None:
        """Store network settings and stand by them; mining goes on."""
        ip = self.machine.readdress(None if network.proto == "DHCP" else network.ip)
        self.network = msgspec.structs.replace(network, ip=ip)

    def _sleep(self) -> None:
        machine, build = self.machine, self.build
        if machine.asleep:
            return
        if build.sleeps_at_reboot:
            machine.sleep_at_reboot()
        else:
            machine.sleep(hold_s=build.sleep_hold_s)


def nominal_index(machine: Machine) -> int:
    """Place of the nominal step in the machine's ladder."""
    model = machine.model
    return next(
        (i for i, step in enumerate(model.ladder) if step.name == model.nominal),
        len(model.ladder) - 1,
    )


def conf_of(machine: Machine, build: Build, pools: tuple[Pool, ...]) -> Conf:
    """The config of a unit that has been running in its machine's step with these pools."""
    slots = (*pools, BLANK, BLANK, BLANK)[:3]
    nominal = nominal_index(machine)
    index = next(
        (i for i, step in enumerate(machine.model.ladder) if step.name == machine.step.name),
        nominal,
    )
    code = build.code_of(machine.step.name, nominal_index=nominal, index=index)
    return Conf(pools=(slots[0], slots[1], slots[2]), mode=SLEEP if machine.asleep else code)
