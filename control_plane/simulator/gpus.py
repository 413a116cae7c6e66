"""The GPUs of one host as their driver knows them: limits, errors, and what a reboot does to them.

No library and no wire: `nvml.py` is the library over it. A host that has more than GPUs ties them to the
rest of itself by `reboot`, `unload` and `load`. Cheap by intent: nothing happens while nobody looks, so
that the 4,096 GPUs of a hall are values and a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from types import MappingProxyType
from typing import Final

import msgspec

FABRIC_COMPLETED: Final = 3
CONTEXT_MIB: Final = 512
"""What a process holds before it has allocated anything: 256 to 616 are seen, by model and driver."""
RESERVED_MIB: Final = 726
"""What the driver keeps for itself; so much was seen on B200."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What of a GPU is its kind's."""

    name: str
    default_w: float
    min_w: float
    max_w: float
    links: int
    max_clock_mhz: int
    idle_w: float
    memory_mib: int
    part: str
    """Begins its serial numbers."""


MODELS: Final = MappingProxyType(
    {
        # NVIDIA data sheets: H100 and H200 SXM up to 700 W, B200 of an HGX up to 1,000 W, all with 18
        # NVLinks. Lower ends, clocks and memory as `nvidia-smi -q` prints them for these boards; idle draw:
        # DGX H100 and B200 user guides give none, so these are round figures of ours.
        "h100": Model(
            name="NVIDIA H100 80GB HBM3", default_w=700, min_w=200, max_w=700, links=18,
            max_clock_mhz=1980, idle_w=75, memory_mib=81_559, part="1654",
        ),
        "h200": Model(
            name="NVIDIA H200", default_w=700, min_w=200, max_w=700, links=18,
            max_clock_mhz=1980, idle_w=80, memory_mib=143_771, part="1650",
        ),
        "b200": Model(
            name="NVIDIA B200", default_w=1_000, min_w=200, max_w=1_000, links=18,
            max_clock_mhz=1965, idle_w=140, memory_mib=183_359, part="1653",
        ),
    }
)  # fmt: skip
"""Models of 8-GPU baseboards (HGX)."""


class Refusal(Exception):
    """The library's answer is this error code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


class Busy(Exception):
    """The driver cannot be unloaded: processes hold `/dev/nvidia*`."""


class Gpu:
    """One GPU. Attributes may be set by who plays with it; the driver's part is lost with the driver."""

    __slots__ = (
        "absent", "dead", "demand_w", "ecc", "ecc_pending", "ecc_uncorrected", "energy_j", "fabric",
        "fabric_degraded", "fabric_status", "graphics", "index", "limit_w", "links_down", "looked_s",
        "lost", "memory", "memory_left_mib", "mig", "model", "outside_w", "pci", "persistence",
        "processes", "reasons", "recovery", "remap_correctable", "remap_failed", "remap_pending",
        "remap_uncorrectable", "serial", "temperature_c", "uuid",
    )  # fmt: skip

    def __init__(self, index: int, model: Model, host: int) -> None:
        number = host * 64 + index
        self.index, self.model = index, model
        self.uuid = f"GPU-{number:08x}-6772-6964-706c-{number:012x}"
        self.serial = f"{model.part}{number:09d}"
        self.pci = f"00000000:{0x0F + index * 0x10:02X}:00.0"
        # Of the hardware, or of its flash: they outlive everything.
        self.ecc = self.ecc_pending = True
        self.remap_correctable = self.remap_uncorrectable = 0
        self.remap_pending = self.remap_failed = False
        self.outside_w: float | None = None
        """A limit set through the BMC."""
        self.dead = False
        """It does not come back by a reboot."""
        self.demand_w = model.idle_w
        self.links_down: set[int] = set()
        self.temperature_c = 34
        self.fabric, self.fabric_status, self.fabric_degraded = FABRIC_COMPLETED, 0, False
        self.mig = False
        self.looked_s = 0.0
        self.load()

    def load(self) -> None:
        """As the driver finds it: settings are at their defaults, counters at zero."""
        self.limit_w = self.model.default_w
        self.graphics: tuple[int, int] | None = None
        self.memory: tuple[int, int] | None = None
        self.persistence = False
        self.energy_j = 0.0
        self.ecc_uncorrected = 0
        self.recovery = 0
        self.reasons = 0
        self.processes = 0
        self.memory_left_mib = 1
        """In use, and by none of the processes: a little always is, more after some that were killed."""
        self.lost, self.absent = False, self.dead

    def reset(self) -> None:
        """What a reset does: a pending remap is done, and the rest as at a load."""
        self.remap_pending = False
        self.load()

    @property
    def enforced_w(self) -> float:
        """The lower one of what was asked for, and what the BMC says."""
        return self.limit_w if self.outside_w is None else min(self.limit_w, self.outside_w)

    @property
    def memory_used_mib(self) -> int:
        """What is in use, beside what the driver reserves."""
        return self.memory_left_mib + self.processes * CONTEXT_MIB

    @property
    def power_w(self) -> float:
        """What it draws now."""
        return min(self.demand_w, self.enforced_w)


class GpuHost:
    """The GPUs of one host, and their driver."""

    def __init__(
        self,
        model: str | Model = "h100",
        *,
        gpus: int = 8,
        now_s: Callable[[], float] = lambda: 0.0,
        number: int = 0,
        driver: str = "595.91.07",
    ) -> None:
        """Booted, with the driver loaded.

        Args:
            model: of `MODELS`, or another.
            gpus: how many.
            now_s: device time, for energy and for who else writes.
            number: of the host; serial numbers follow from it.
            driver: its version.
        """
        kind = MODELS[model] if isinstance(model, str) else model
        self.gpus = [Gpu(index, kind, number) for index in range(gpus)]
        self.driver = driver
        self.boots = 1
        self.has_library = True
        self.loaded = True
        self.mismatch = False
        """The library on disk is of another version than what runs in the kernel."""
        self.broken: int | None = None
        """The code that every call of the library answers."""
        self.permitted = True
        """Whether this process may write (root, and no sandbox in between)."""
        self.missing: Collection[str] = ()
        """Functions that an older driver does not have."""
        self.clients = 0
        """Open sessions of the library."""
        self.shows_others = True
        """Whether the library tells its caller of processes: not of those of another PID namespace."""
        self.refuses: Collection[int] = ()
        """GPUs that it does not let this process open, as a container that was not given all of them."""
        self.counts_reserved = False
        """Whether memory in use has what is reserved in it: NVML's manual says both."""
        self.life = 0
        """Grows whenever the driver is loaded: sessions of an earlier life are void."""
        self.xids: deque[tuple[int, int]] = deque(maxlen=4_096)
        """(GPU, Xid) that were not told yet."""
        self.writes: list[tuple[int, str, object]] = []
        """What was written through the library and taken: GPU, what, to what."""
        self._now_s = now_s
        self._passed_s = -1.0
        self._other: tuple[float, float, float] | None = None

    # -- what happens to a host -----------------------------------------------------------------------

    def reboot(self) -> None:
        """Everything that the driver kept is gone; ECC modes come into force."""
        self.boots += 1
        self.clients = 0
        for gpu in self.gpus:
            gpu.ecc = gpu.ecc_pending
            gpu.remap_pending = False
        self._loaded()

    def power_cycle(self) -> None:
        """A reboot that also brings back what hung on its bus."""
        for gpu in self.gpus:
            gpu.dead = False
        self.reboot()

    def unload(self) -> None:
        """Take the driver out of the kernel.

        Raises:
            Busy: somebody has a session open, or computes.
        """
        if self.clients or any(gpu.processes for gpu in self.gpus):
            raise Busy
        self.loaded = False

    def load(self, driver: str | None = None) -> None:
        """Put it back, perhaps another version."""
        self.driver = driver or self.driver
        self._loaded()

    def _loaded(self) -> None:
        self.loaded, self.mismatch, self.life = True, False, self.life + 1
        self.xids.clear()
        for gpu in self.gpus:
            gpu.load()

    # -- what happens to a GPU --------------------------------------------------------------------------

    def xid(self, gpu: int, xid: int) -> None:
        """The driver reports an error."""
        if self.loaded:
            self.xids.append((gpu, xid))

    def fall_off(self, gpu: int, *, dead: bool = False) -> None:
        """It is gone from its bus; with `dead` also after a reboot, until power was off."""
        self.xid(gpu, 79)
        self.gpus[gpu].lost, self.gpus[gpu].dead = True, dead

    def recovery(self, gpu: int, action: int) -> None:
        """The driver asks for something."""
        self.xid(gpu, 154)
        self.gpus[gpu].recovery = action

    def uncorrectable(self, gpu: int, *, remap: bool = True) -> None:
        """An uncorrectable error of memory, and the row that is replaced for it at the next reset."""
        one = self.gpus[gpu]
        one.ecc_uncorrected += 1
        one.remap_uncorrectable += 1
        one.remap_pending = one.remap_pending or remap
        one.remap_failed = one.remap_failed or not remap
        self.xid(gpu, 48)
        self.xid(gpu, 63 if remap else 64)

    def other_writer(self, watts: float | None, *, every_s: float = 15.0) -> None:
        """Somebody else sets this limit on all GPUs, again and again; `None` ends it."""
        self._other = None if watts is None else (watts, every_s, self._now_s())

    # -- time -------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """What went on since anybody looked."""
        now_s = self._now_s()
        if now_s == self._passed_s and self._other is None:
            return  # one look is hundreds of calls
        self._passed_s = now_s
        if self._other is not None and self.loaded:
            watts, every_s, next_s = self._other
            if now_s >= next_s:
                self._other = (watts, every_s, next_s + every_s * (1 + (now_s - next_s) // every_s))
                for gpu in self.gpus:
                    gpu.limit_w = watts
        for gpu in self.gpus:
            gpu.energy_j += gpu.power_w * max(now_s - gpu.looked_s, 0.0)
            gpu.looked_s = now_s
