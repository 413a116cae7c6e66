"""One BMC and the power of the host behind it, as a state machine over timestamps.

It keeps no timers: what is due is done when somebody looks, or when whoever carries it says that time has
passed (`settle`). The wire is in `bmc_web`, the resources in `bmc_tree`, trouble in `BmcFaults`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from control_plane.simulator.bmc_chassis import Chassis
from control_plane.simulator.bmc_parts import BmcFaults, Boot, Entry, Session, Task
from control_plane.simulator.bmc_profiles import Profile
from control_plane.simulator.machine import mix, seed_of
from control_plane.simulator.wire import SimClock

STANDBY_W = 25.0
LATENCY_S = 1.5
"""From a command to the relay."""
COLD_S = 10.0
"""How long a power cycle leaves the host without power."""
EPOCH_S = 1_790_000_000.0
"""The calendar at device time 0, where nobody says another."""
MAX_LOG = 512


class Bmc:
    """The state. Commands take effect after a while; `settle` lets what is due happen."""

    def __init__(
        self,
        profile: Profile,
        chassis: Chassis,
        clock: SimClock,
        *,
        user: str = "gridplane",
        password: str = "s3cret-of-this-one",  # noqa: S107 — made up
        is_on: bool = True,
        epoch_s: float = EPOCH_S,
    ) -> None:
        """A host that `is_on` has booted already; `epoch_s` is the calendar at device time 0."""
        self.profile, self.chassis, self.clock, self.epoch_s = profile, chassis, clock, epoch_s
        self.user, self.password = user, password
        self.faults = BmcFaults()
        self.power = "On" if is_on else "Off"
        self.progress = "OSRunning" if is_on else "None"
        self.boot_override = Boot()
        self.bios = dict(profile.bios)
        self.bios_pending: dict[str, object] = {}
        self.bios_scheduled = True
        self.firmware = dict(profile.firmware)
        self.staged: dict[str, str] = {}
        self.cap_w: float | None = None
        self.image: str | None = None
        self.is_lit = False
        self.log: list[Entry] = []
        self.tasks: dict[str, Task] = {}
        self.sessions: dict[str, Session] = {}
        self.logins = 0
        """Passwords that were ever sent, right or wrong."""
        self.boot_log: list[str] = []
        """What each boot booted from."""
        self.resets: list[str] = []
        """Resets that were asked for."""
        self.power_losses = 0
        """How often the host was without power."""
        self.away_until_s = 0.0
        self.wake: Callable[[], None] | None = None
        """Called when something else is due than before: see `bmc_pulse`."""
        self._comes_back = False
        self._wrong = 0
        self._locked_until_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._generation = 0
        self._numbers = itertools.count(1)
        self._now_s = clock.device_s()
        if is_on and not chassis.is_on:
            chassis.boot()

    # -- time ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Do what is due, each at its time."""
        now_s = self.clock.device_s()
        while self._due and self._due[0][0] <= now_s:
            self._now_s, _, act = heapq.heappop(self._due)
            act()
        self._now_s = now_s

    def next_s(self) -> float | None:
        """Device time at which something is due; `None`: nothing is."""
        return self._due[0][0] if self._due else None

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have something happen, of the BMC or of the host behind it: there is one order for both."""
        heapq.heappush(self._due, (self._now_s + delay_s, next(self._order), act))
        if self.wake is not None:
            self.wake()

    @property
    def wall_s(self) -> float:
        """Since the epoch, by the BMC's clock."""
        return self.epoch_s + self._now_s

    @property
    def is_silent(self) -> bool:
        """Whether it does not even refuse."""
        return self.faults.no_power or self.faults.dead

    def answers(self) -> bool:
        """Whether its services are up."""
        self.settle()
        return not self.is_silent and self._now_s >= self.away_until_s

    # -- logins ----------------------------------------------------------------------------------

    def log_in(self, user: object, password: object) -> Session | None:
        """A session; `None` for a wrong password, and for any one while it is locked."""
        self.logins += 1
        locked = self._now_s < self._locked_until_s or self.faults.lockout
        if locked or (user, password) != (self.user, self.password):
            self._wrong += 1
            if self._wrong >= self.profile.lockout_after:
                self._locked_until_s = self._now_s + self.profile.lockout_s
            self._note("Warning", "Login failed.")
            return None
        self._wrong = 0
        number = next(self._numbers)
        token = f"{seed_of(f'{self.chassis.serial}/token/{number}'):032x}"
        session = Session(id=str(number), token=token, used_s=self.clock.wire_s())
        self.sessions[token] = session
        return session

    def session_of(self, token: str) -> Session | None:
        """Whose token it is, if it did not lapse."""
        session = self.sessions.get(token)
        now_s = self.clock.wire_s()
        if session is None or now_s - session.used_s > self.profile.idle_limit_s:
            self.sessions.pop(token, None)
            return None
        session.used_s = now_s
        return session

    # -- power -----------------------------------------------------------------------------------

    def reset(self, kind: str) -> None:
        """`ComputerSystem.Reset`, of a kind that the profile has."""
        self.settle()
        self.resets.append(kind)
        self._note("OK", f"Reset {kind} was requested.")
        if self.faults.ignores_resets:
            return
        if kind == "On":
            if self.power == "Off":
                self.power = "PoweringOn"
                self.later(LATENCY_S, self._power_on)
        elif self.power == "Off":
            if kind in {"PowerCycle", "ForceRestart", "GracefulRestart"}:
                self.later(LATENCY_S, self._power_on)
        elif kind == "ForceOff":
            self.later(LATENCY_S, self._power_off)
        elif kind in {"GracefulShutdown", "PushPowerButton", "GracefulRestart"}:
            self._press_button(restarts=kind == "GracefulRestart")
        elif kind == "ForceRestart":
            self.later(LATENCY_S, self._restart)
        elif kind == "PowerCycle":
            self.later(LATENCY_S, self._power_off)
            self.later(LATENCY_S + COLD_S, self._power_on)

    def _press_button(self, *, restarts: bool) -> None:
        if not (self.chassis.is_on and self.chassis.hears_button):
            self._note("Warning", "The operating system did not answer the power button.")
            return
        if not restarts:
            self.power = "PoweringOff"
        self._by_system(self._restart if restarts else self._power_off, self.profile.shutdown_s)

    def _by_system(self, act: Callable[[], None], after_s: float) -> None:
        """What the operating system that runs now does in the end, unless it is cut short."""
        generation = self._generation
        self.later(after_s, lambda: act() if generation == self._generation else None)

    def lose_feed(self) -> None:
        """The feed of both is gone; `regain_feed` brings it back, and the host with it where it was on."""
        self.settle()
        if self.faults.no_power:
            return
        was_on = self.power in {"On", "PoweringOn"}
        self._power_off()
        self.faults.no_power, self._comes_back = True, was_on
        self.sessions.clear()

    def regain_feed(self) -> None:
        """See `lose_feed`. The BMC itself takes a while, too."""
        self.settle()
        if not self.faults.no_power:
            return
        self.faults.no_power = False
        self.away_until_s = self._now_s + self.profile.bmc_reset_s
        if self._comes_back:
            self.later(LATENCY_S, self._power_on)

    def restart_host(self, *, after_s: float) -> None:
        """The operating system restarts the host by itself."""
        self._by_system(self._restart, after_s)

    def _power_off(self) -> None:
        self._generation += 1
        self.power_losses += 1
        self.chassis.cut()
        self.power, self.progress = "Off", "None"
        self._note("OK", "Power is off.")

    def _power_on(self) -> None:
        if self.faults.no_power or self.power == "On":
            return
        self.power = "On"
        self._note("OK", "Power is on.")
        self._start()

    def _restart(self) -> None:
        if self.power in {"Off", "PoweringOn"}:
            return  # it lost its power meanwhile
        self.power = "On"
        self.chassis.cut()
        self._start()

    def _start(self) -> None:
        """Firmware takes over what is pending, boots what is asked for, and hands over."""
        self._generation += 1
        generation = self._generation
        self.progress = "MemoryInitializationStarted"
        if self.faults.stuck_post:
            return
        if self.bios_pending and self.bios_scheduled:
            self.bios.update(self.bios_pending)  # type: ignore[arg-type]  # checked when it was set
            self.bios_pending = {}
            self._note("OK", "BIOS settings were applied.")
        for id_, version in self.staged.items():
            self.firmware[id_] = version
        self.staged = {}
        self.boot_log.append(self.boot_override.target)
        if self.boot_override.enabled == "Once":
            self.boot_override = Boot()

        def os_starts() -> None:
            if generation == self._generation:
                self.progress = "OSBootStarted"

        def os_runs() -> None:
            if generation == self._generation:
                self.progress = "OSRunning"
                self.chassis.boot()

        self.later(self.profile.post_s, os_starts)
        self.later(self.profile.post_s + self.profile.os_s, os_runs)

    def draw_w(self) -> float:
        """What a meter at the plug shows."""
        if self.faults.no_power:
            return 0.0
        if self.power in {"Off", "PoweringOn"}:
            return STANDBY_W
        watts = self.chassis.draw_w()
        return watts if self.cap_w is None else min(watts, self.cap_w)

    # -- BIOS, firmware --------------------------------------------------------------------------

    def set_bios(self, attributes: dict[str, object], *, scheduled: bool) -> None:
        """Have attributes at the next boot."""
        self.bios_pending.update(attributes)
        self.bios_scheduled = scheduled or not self.profile.bios_wants_apply_time

    def update(self, image: str, targets: list[str]) -> Task:
        """Fetch an image and write it. Its name says which firmware and version it is: `ID_VERSION.bin`."""
        task = Task(id=str(next(self._numbers)))
        self.tasks[task.id] = task
        name = image.rpartition("/")[2].removesuffix(".bin")
        id_, _, version = name.rpartition("_")
        ids = targets or [id_]
        task_s = self.profile.task_s * (self.faults.task_slower or 1.0)
        for step in range(1, 11):
            self.later(task_s * step / 10, self._stepper(task, step, ids, version))
        return task

    def _stepper(self, task: Task, step: int, ids: list[str], version: str) -> Callable[[], None]:
        def act() -> None:
            at = self.faults.task_stuck_at
            if task.state != "Running" or (at is not None and step * 10 > at):
                return
            task.percent = step * 10
            if step == 5 and (self.faults.task_fails or not set(ids) <= set(self.firmware)):  # noqa: PLR2004 — half-way
                task.state, task.status = "Exception", "Critical"
                task.messages.append("The image does not fit a component of this system.")
            elif step == 10:  # noqa: PLR2004 — the last one
                self._install(task, ids, version)

        return act

    def _install(self, task: Task, ids: list[str], version: str) -> None:
        task.state = "Completed"
        task.messages.append("The update completed.")
        for id_ in ids:
            if id_ == self.profile.bios_firmware and self.power != "Off":
                self.staged[id_] = version
                task.messages.append("It takes effect at the next boot.")
            else:
                self.firmware[id_] = version
        if self.profile.bmc_firmware in ids:
            self._restart_bmc()

    def _restart_bmc(self) -> None:
        """The host runs on; whoever is logged in is not any more."""
        self.away_until_s = self._now_s + self.profile.bmc_reset_s
        self.sessions.clear()
        if not self.profile.tasks_survive:
            self.tasks.clear()

    # ----------------------------------------------------------------------------------------------

    def _note(self, severity: str, message: str) -> None:
        self.log.append(Entry(str(next(self._numbers)), self.wall_s, severity, message))
        del self.log[:-MAX_LOG]

    def noise(self) -> bytes:
        """What a broken web server says."""
        return f"{mix(seed_of(self.chassis.serial), 7):.17f}".encode() * 9
