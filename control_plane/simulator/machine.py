"""The physics that all simulated families share: power, boot, ramp, hash, heat, and writes.

A `Machine` has no task and no timer. Every command stores the moment and the course that follows
from it; `sample()` computes the state of any later moment. So one process holds 14,000 of them, and
the same code runs under a virtual clock. All times are *device* seconds unless a name says `wire`.

Sources of the time model: asic-devices reference §1–2 (stock Antminer back to full hash in
5–10 min; hash still up 60 s after an acknowledged sleep; standby watts above zero). Where no source
gives a figure the value is a plausible default, and readers may not rely on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from control_plane.simulator.ledger import Direction, Ledger, Write

if TYPE_CHECKING:
    from control_plane.simulator.wire import SimClock

_MASK = (1 << 64) - 1


def _stays(address: str | None) -> str:
    """A machine on no network."""
    return address or ""


def seed_of(text: str) -> int:
    """A 64-bit number that depends on `text` alone: equal in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def board_uuid(serial: str) -> str:
    """The UUID that a server's firmware has (SMBIOS): its BMC and its kernel tell the same one."""
    text = f"{seed_of(f'{serial}/host'):016x}" * 2
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def mix(seed: int, salt: int) -> float:
    """A number in [0, 1) that depends on both arguments alone (splitmix64's finaliser)."""
    z = (seed + (salt + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) / 2.0**64


class Phase(StrEnum):
    """What the machine does, physically."""

    OFF = "off"
    """No power, or dead: nothing answers."""
    BOOTING = "booting"
    """The control board boots: nothing answers."""
    STARTING = "starting"
    """The mining process starts or ramps."""
    HASHING = "hashing"
    SLEEPING = "sleeping"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a ladder: nameplate of a unit with all its boards."""

    name: str
    hashrate_ths: float
    power_w: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take, in device seconds; a pair is the range that units are spread over."""

    boot_s: tuple[float, float] = (40.0, 90.0)
    """From power or reboot until the control board answers."""
    gap_s: tuple[float, float] = (15.0, 30.0)
    """From a start of the mining process until chips draw power."""
    ramp_s: tuple[float, float] = (300.0, 600.0)
    """From a start of the mining process until full hash; watts lead and are full at 60 % of it."""
    step_s: float = 120.0
    """From one step to another without a restart."""
    fall_s: float = 8.0
    """From running to standby once the chips are told to stop."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What all units of one type share."""

    family: str
    make: str
    model: str
    """As the device prints it, e.g. `Antminer S21`."""
    boards: int
    chips_per_board: int
    fans: int
    """0 for hydro and immersion."""
    ladder: tuple[Step, ...]
    """Ascending in watts."""
    nominal: str
    standby_w: float
    timing: Timing = Timing()

    def step(self, name: str) -> Step | None:
        """The step of that name, if the ladder has it."""
        for step in self.ladder:
            if step.name == name:
                return step
        return None


class Sample(NamedTuple):
    """The state at one moment."""

    phase: Phase
    hashrate_ths: float
    """Without noise of the measuring window."""
    drawn_w: float
    """What a meter would show."""
    reported_w: float
    """What the device says: biased by 3–5 % per unit."""
    target_ths: float
    """What it is heading for."""
    uptime_s: float
    """Since the control board answered; 0 before."""
    mining_uptime_s: float
    """Since the mining process started; 0 before."""


class World:
    """What all machines of one simulation share: the clock, the ledger of writes, the calendar."""

    __slots__ = ("clock", "epoch_s", "ledger", "peer")

    def __init__(self, clock: SimClock, *, epoch_s: float = 1_790_000_000.0) -> None:
        self.clock = clock
        self.epoch_s = epoch_s
        self.ledger = Ledger()
        self.peer = ""
        """Who talks now: each session sets it before a device acts on its bytes."""

    def wall_s(self) -> float:
        """Seconds since the epoch, in device time: what a well-set device clock shows."""
        return self.epoch_s + self.clock.device_s()


class Machine:
    """One unit. Families hold one and translate their protocol to its commands."""

    __slots__ = (
        "_boot_end",
        "_boots",
        "_done",
        "_flashing_until",
        "_h0",
        "_h1",
        "_hold_h",
        "_hold_s",
        "_hold_w",
        "_password",
        "_password_at_s",
        "_password_next",
        "_ramp_h_s",
        "_ramp_w_s",
        "_started",
        "_t0",
        "_w0",
        "_w1",
        "asleep",
        "asset",
        "bias",
        "cut_while_flashing",
        "dead_boards",
        "has_work",
        "hash_share",
        "is_dead",
        "is_off",
        "loses_network_answer",
        "loses_password_answer",
        "lost_password",
        "mac",
        "missing_boards",
        "model",
        "obeys",
        "password_late_s",
        "rack",
        "readdress",
        "seed",
        "serial",
        "step",
        "world",
    )

    def __init__(
        self,
        *,
        world: World,
        model: Model,
        asset: str,
        rack: str,
        mac: str,
        serial: str,
        password: str,
        bin_share: float = 1.0,
        missing_boards: int = 0,
        asleep: bool = False,
        mode: str | None = None,
        age_s: float = 86_400.0,
        is_dead: bool = False,
    ) -> None:
        """A unit that has been running for `age_s` device seconds, asleep or in `mode`.

        `bin_share` is this unit's hash at a given wattage as a share of nameplate, `missing_boards`
        leaves the last slots empty, `password` is the family administrator's (faults may change
        it), and with `is_dead` the hardware never answers and draws nothing.
        """
        self.world = world
        self.model = model
        self.asset = asset
        self.rack = rack
        self.mac = mac
        self.serial = serial
        self._password = password
        self.lost_password: str | None = None
        """The one before somebody changed it who was not asked to."""
        self._password_next: str | None = None
        self._password_at_s = 0.0
        self.password_late_s = 0.0
        """Device seconds from its acknowledgement until a new password is in force."""
        self.loses_password_answer = False
        """A new password is taken, and the connection breaks before that is said."""
        self.readdress: Callable[[str | None], str] = _stays
        """Stand at this address from now on, with `None` at a leased one; where that is."""
        self.loses_network_answer = False
        """New network settings are taken, and the connection breaks before that is said."""
        self.seed = seed = seed_of(asset)
        # Devices estimate their watts. 3 to 5 % is a mild case: fleet tools put firmware readings
        # at 5 to 20 % (asic-devices §8). Sign and size belong to the unit; the mean is zero.
        self.bias = (0.03 + 0.02 * mix(seed, 2)) * (1.0 if seed & 1 else -1.0)
        self.hash_share = bin_share
        self.missing_boards = missing_boards
        self.dead_boards: frozenset[int] = frozenset()
        self.asleep = asleep
        self.step = model.step(mode or model.nominal) or model.ladder[-1]
        self.obeys = True
        """False: it acknowledges writes and ignores them."""
        self.has_work = True
        """False without a live pool: it draws power and hashes nothing (PF#663)."""
        self.is_dead = is_dead
        self.is_off = False
        self.cut_while_flashing = False
        """Whether its power ever went away while its flash was written."""
        self._boots = 0
        self._flashing_until = float("-inf")
        now = world.clock.device_s()
        self._boot_end = now - age_s
        self._started = now - age_s
        self._t0 = now - age_s
        self._done = 0.0
        self._hold_s = 0.0
        self._hold_w = self._hold_h = 0.0
        self._ramp_w_s = self._ramp_h_s = 0.001
        self._w0 = self._w1 = model.standby_w
        self._h0 = self._h1 = 0.0
        self.settle(self.step)

    def settle(self, step: Step) -> None:
        """Be as if it had been running at a step all its age; only before anything happened."""
        self.step = step
        if not self.asleep:
            self._w1, self._h1 = self._full()
            self._w0, self._h0 = self._w1, self._h1

    # -- password --------------------------------------------------------------------------------

    @property
    def password(self) -> str:
        """The one that is in force now."""
        if self._password_next is not None and self.world.clock.device_s() >= self._password_at_s:
            self._password, self._password_next = self._password_next, None
        return self._password

    @password.setter
    def password(self, new: str) -> None:
        """Another one is in force at once: not over the network."""
        self._password, self._password_next = new, None

    def take_password(self, new: str) -> None:
        """A client had another one set: in force once the machine comes to it."""
        self._password_next = new
        self._password_at_s = self.world.clock.device_s() + self.password_late_s

    # -- reading ---------------------------------------------------------------------------------

    def sample(self) -> Sample:
        """The state now."""
        now = self.world.clock.device_s()
        if self.is_off or self.is_dead:
            return Sample(Phase.OFF, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        up = now - self._boot_end
        if up < 0:
            standby = self.model.standby_w
            return Sample(Phase.BOOTING, 0.0, standby, 0.0, self._h1, 0.0, 0.0)
        watts, hashrate = self._course(now)
        if not self.has_work:
            hashrate = 0.0
        noise = mix(self.seed, int(now / 5.0)) - 0.5
        watts *= 1.0 + 0.01 * noise
        if self.asleep and self._h1 <= 0.0 and hashrate <= 0.0:
            phase = Phase.SLEEPING
        elif now < self._t0 + self._hold_s + self._ramp_h_s and self._h1 > self._h0:
            phase = Phase.STARTING
        else:
            phase = Phase.HASHING
        mining = max(0.0, now - self._started)
        reported = watts * (1.0 + self.bias)
        return Sample(phase, hashrate, watts, reported, self._h1, up, mining)

    def rate_5s(self, sample: Sample) -> float:
        """TH/s over the last 5 s: within 2 % of the course."""
        now = self.world.clock.device_s()
        return sample.hashrate_ths * (0.98 + 0.04 * mix(self.seed, int(now / 5.0) ^ 0x5EC))

    def rate_over(self, window_s: float | None = None) -> float:
        """Mean TH/s since the mining process started, or over the last `window_s` of that."""
        now = self.world.clock.device_s()
        elapsed = now - self._started
        if elapsed <= 0.0:
            return 0.0
        if window_s is None or window_s > elapsed:
            return self.work_ths_s() / elapsed
        return (self._work(now) - self._work(now - window_s)) / window_s

    def work_ths_s(self) -> float:
        """Hashes since the mining process started, in TH: what accepted shares are counted from."""
        now = self.world.clock.device_s()
        return self._work(now)

    def board_rates(self, rate_ths: float) -> tuple[float, ...]:
        """`rate_ths` shared out to the board slots, unevenly by unit; dead and missing: 0."""
        alive = self._alive()
        if not alive:
            return (0.0,) * self.model.boards
        weights = [
            0.985 + 0.03 * mix(self.seed, 100 + slot) if slot in alive else 0.0
            for slot in range(self.model.boards)
        ]
        total = sum(weights)
        return tuple(rate_ths * weight / total for weight in weights)

    def temperature_c(self, sample: Sample, slot: int) -> float:
        """Hottest chip of a board: 30 °C idle, 62–74 °C at full power."""
        full = self.model.ladder[-1].power_w
        load = min(1.0, max(0.0, (sample.drawn_w - self.model.standby_w) / full))
        return 30.0 + (32.0 + 12.0 * mix(self.seed, 200 + slot)) * load

    def fan_rpm(self, sample: Sample) -> tuple[int, ...]:
        """One figure per fan; the spread between fans is real, a stopped fan is a fault."""
        full = self.model.ladder[-1].power_w
        load = min(1.0, sample.drawn_w / full)
        return tuple(
            round((1200 + 4200 * load) * (0.98 + 0.04 * mix(self.seed, 300 + fan))) // 30 * 30
            for fan in range(self.model.fans)
        )

    def answers(self) -> bool:
        """Whether the control board answers at all."""
        return not (self.is_off or self.is_dead) and (self.world.clock.device_s() >= self._boot_end)

    @property
    def boots(self) -> int:
        """How often the control board booted since the simulation began."""
        return self._boots

    def alive_boards(self) -> frozenset[int]:
        """Board slots that are fitted and work."""
        return frozenset(self._alive())

    def permitted_w(self) -> float:
        """What the settings let it draw: standby while asleep."""
        return self.model.standby_w if self.asleep else self.step.power_w

    def note(
        self,
        kind: str,
        summary: str,
        *,
        asks_w: float | None = None,
        pools: tuple[str, ...] | None = None,
        honoured: bool = True,
    ) -> None:
        """Enter a write in the ledger. Call it *before* acting: its direction is against what is.

        Args:
            kind: the device's own name for the command.
            summary: what it asks, without secrets.
            asks_w: the draw that it would permit; `None` where it is not about power.
            pools: the pool URLs that it names.
            honoured: False where the device will not do it.
        """
        direction = Direction.NONE
        if asks_w is not None and round(asks_w) != round(self.permitted_w()):
            direction = Direction.RAISE if asks_w > self.permitted_w() else Direction.LOWER
        clock = self.world.clock
        self.world.ledger.add(
            Write(
                asset=self.asset,
                rack=self.rack,
                at_device_s=clock.device_s(),
                at_wire_s=clock.wire_s(),
                wall_s=self.world.wall_s(),
                kind=kind,
                summary=summary,
                direction=direction,
                pools=pools,
                peer=self.world.peer,
                honoured=honoured,
            )
        )

    # -- commands --------------------------------------------------------------------------------

    def sleep(self, *, hold_s: float = 0.0) -> None:
        """Stop hashing; the control board stays up. It hashes on for `hold_s` before it falls."""
        self.asleep = True
        if self._is_up():
            self._turn(self.model.standby_w, 0.0, hold_s=hold_s, over_s=self.model.timing.fall_s)

    def sleep_at_reboot(self) -> None:
        """Stop hashing by setting only: it hashes on until the next reboot (ARS#245)."""
        self.asleep = True

    def wake(self) -> None:
        """Start hashing as after a start of the mining process."""
        self.asleep = False
        self.restart_mining()

    def set_step(self, step: Step, *, restart: bool) -> None:
        """Move to a step of the ladder, or between steps; asleep it is only remembered."""
        self.step = step
        if self.asleep or not self._is_up():
            return
        if restart:
            self.restart_mining()
        else:
            watts, rate = self._full()
            self._turn(watts, rate, hold_s=0.0, over_s=self.model.timing.step_s)

    def restart_mining(self) -> None:
        """Restart the mining process: a gap without hash, then the ramp. Settings stay."""
        if self._is_up():
            self._begin(self.world.clock.device_s())

    def reboot(self) -> None:
        """Reboot the control board: nothing answers until it is up, then the ramp."""
        if self.is_off or self.is_dead:
            return
        self._boot(self.world.clock.device_s())

    def flash(self, write_s: tuple[float, float], *, survives_cut: bool) -> None:
        """Write the flash and boot: until it is up, a cut of its power is the end of it.

        With `survives_cut` there is a second bank to boot from.
        """
        now = self.world.clock.device_s()
        self._boot(now)
        self._boot_end += self._spread(write_s, 14)
        self._begin(self._boot_end)
        if not survives_cut:
            self._flashing_until = self._boot_end

    def is_flashing(self) -> bool:
        """Whether a cut of its power would be the end of it."""
        return not self.is_dead and self.world.clock.device_s() < self._flashing_until

    def power_off(self) -> None:
        """The outlet goes dark."""
        if self.is_flashing():
            self.cut_while_flashing = self.is_dead = True
        self.is_off = True

    def power_on(self) -> None:
        """The outlet comes back; settings are as they were."""
        if self.is_off:
            self.is_off = False
            self._boot(self.world.clock.device_s())

    def kill_board(self, slot: int) -> None:
        """A board stops answering; the rest hashes on after a restart of the mining process."""
        self.dead_boards |= {slot}
        if not self.asleep:
            self.restart_mining()

    def mend(self) -> None:
        """All fitted boards work again, and so does dead hardware."""
        self.dead_boards = frozenset()
        if self.is_dead:
            self.is_dead = False
            self.is_off = True
            self.power_on()
        elif not self.asleep:
            self.restart_mining()

    def _is_up(self) -> bool:
        """Whether a command takes effect now; one given while booting does at the boot's end."""
        if self.is_off or self.is_dead:
            return False
        if self.world.clock.device_s() < self._boot_end:
            self._begin(self._boot_end)
            return False
        return True

    # -- the course ------------------------------------------------------------------------------

    def _alive(self) -> list[int]:
        fitted = self.model.boards - self.missing_boards
        return [slot for slot in range(fitted) if slot not in self.dead_boards]

    def _full(self) -> tuple[float, float]:
        share = len(self._alive()) / self.model.boards if self.model.boards else 1.0
        standby = self.model.standby_w
        watts = standby + (self.step.power_w - standby) * share
        return watts, self.step.hashrate_ths * self.hash_share * share

    def _spread(self, span: tuple[float, float], salt: int) -> float:
        return span[0] + (span[1] - span[0]) * mix(self.seed, salt + 1000 * self._boots)

    def _boot(self, now: float) -> None:
        self._boots += 1
        self._boot_end = now + self._spread(self.model.timing.boot_s, 11)
        self._begin(self._boot_end)

    def _begin(self, at: float) -> None:
        """The mining process starts at `at`."""
        timing = self.model.timing
        gap = self._spread(timing.gap_s, 12)
        ramp = self._spread(timing.ramp_s, 13)
        standby = self.model.standby_w
        self._started = self._t0 = at
        self._done = 0.0
        self._hold_s, self._hold_w, self._hold_h = gap, standby, 0.0
        self._w0, self._h0 = standby, 0.0
        self._w1, self._h1 = (standby, 0.0) if self.asleep else self._full()
        self._ramp_h_s = max(0.001, ramp - gap)
        self._ramp_w_s = max(0.001, 0.6 * ramp - gap)

    def _turn(self, watts: float, rate: float, *, hold_s: float, over_s: float) -> None:
        """From the present course to another, without a restart."""
        now = self.world.clock.device_s()
        was_w, was_h = self._course(now)
        self._done = self._work(now)
        self._t0 = now
        self._hold_s, self._hold_w, self._hold_h = hold_s, was_w, was_h
        self._w0, self._h0 = was_w, was_h
        self._w1, self._h1 = watts, rate
        # Going up, watts lead hash; going down both fall together.
        self._ramp_h_s = over_s
        self._ramp_w_s = over_s * 0.6 if watts > was_w else over_s

    def _course(self, now: float) -> tuple[float, float]:
        x = now - self._t0 - self._hold_s
        if x < 0:
            return self._hold_w, self._hold_h
        watts, rate = self._w1, self._h1
        if x < self._ramp_w_s:
            watts = self._w0 + (watts - self._w0) * x / self._ramp_w_s
        if x < self._ramp_h_s:
            rate = self._h0 + (rate - self._h0) * x / self._ramp_h_s
        return watts, rate

    def _work(self, at: float) -> float:
        """TH from the start of the mining process to `at`; before the last turn, evenly spread."""
        if at <= self._t0:
            span = self._t0 - self._started
            return self._done * max(0.0, at - self._started) / span if span > 0 else 0.0
        x = at - self._t0
        work = self._done + self._hold_h * min(x, self._hold_s)
        x -= self._hold_s
        if x <= 0:
            return work
        ramped = min(x, self._ramp_h_s)
        slope = (self._h1 - self._h0) / self._ramp_h_s
        return work + ramped * (self._h0 + 0.5 * slope * ramped) + self._h1 * (x - ramped)
