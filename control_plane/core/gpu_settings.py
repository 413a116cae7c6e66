"""Writes to a GPU's settings: which there are, what came of one, and which a declaration calls for.

Values and pure functions. MIG is not written here: the operator's MIG manager does it, by a label.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from control_plane.core.gpu import ClockRange, GpuSeen, GpuSettings


class SetGpuPowerLimit(msgspec.Struct, frozen=True, kw_only=True, tag="gpu_power_limit", gc=False):
    """Ask for a limit of one GPU."""

    gpu: str
    """Bus address, as `GpuSeen.pci`; so in all of them."""
    watts: float


class LockGpuClock(msgspec.Struct, frozen=True, kw_only=True, tag="gpu_graphics_clock", gc=False):
    """Lock its graphics clock. NVML tells nobody what a clock is locked to."""

    gpu: str
    clock: ClockRange


class LockMemoryClock(msgspec.Struct, frozen=True, kw_only=True, tag="gpu_memory_clock", gc=False):
    """Lock its memory clock."""

    gpu: str
    clock: ClockRange


class SetPersistence(msgspec.Struct, frozen=True, kw_only=True, tag="gpu_persistence", gc=False):
    """Keep the driver's state with no client open; without it every other setting is lost then."""

    gpu: str
    on: bool


class SetEcc(msgspec.Struct, frozen=True, kw_only=True, tag="gpu_ecc", gc=False):
    """ECC after the next reboot."""

    gpu: str
    on: bool


GpuWrite = SetGpuPowerLimit | LockGpuClock | LockMemoryClock | SetPersistence | SetEcc


class WriteResult(StrEnum):
    """What came of a write. Only the first two are success."""

    APPLIED = "applied"
    """It reads back as asked for; what cannot be read was acknowledged."""
    PENDING_REBOOT = "pending_reboot"
    NOT_TAKEN = "not_taken"
    """It was acknowledged, and reads back as something else."""
    NOT_PERMITTED = "not_permitted"
    OUT_OF_RANGE = "out_of_range"
    UNSUPPORTED = "unsupported"
    """The GPU, its mode, or an older driver does not do it."""
    LOST = "lost"
    """The GPU is gone."""
    IN_USE = "in_use"
    UNREADABLE = "unreadable"
    """The library could not be used: nothing was written."""
    FAILED = "failed"
    """Another error of the library; `detail` has its code."""


class GpuOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came of one write."""

    result: WriteResult
    requested_w: float | None = None
    """Limit as it reads after a write of it."""
    enforced_w: float | None = None
    """Limit in force after it: lower where something outside (a BMC) caps as well."""
    detail: str = ""

    @property
    def done(self) -> bool:
        """Whether it took, or will at the next reboot."""
        return self.result in {WriteResult.APPLIED, WriteResult.PENDING_REBOOT}


class Locked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Clocks that we locked since the driver was loaded: nobody else tells."""

    gpu: str
    graphics: ClockRange | None = None
    memory: ClockRange | None = None


def settings_writes(
    gpu: GpuSeen, declared: GpuSettings, *, locked: Locked | None, fresh: bool
) -> tuple[GpuWrite, ...]:
    """What a declaration calls for, beside the power limit (`core/gpu_cap.py` has that).

    Args:
        gpu: as it was seen. Nothing is written for what could not be read.
        declared: `None` in it leaves a setting to the driver, also after one was declared.
        locked: the clocks that were locked since the driver was loaded.
        fresh: whether the engine's grant is in force. ECC waits for one, since it is a choice for a reboot.
            The others lift nothing: the power limit stands above them.
    """
    if gpu.pci is None or gpu.lost:
        return ()
    found: list[GpuWrite] = []
    seen = gpu.settings
    if declared.persistence is not None and seen.persistence not in {None, declared.persistence}:
        found.append(SetPersistence(gpu=gpu.pci, on=declared.persistence))
    has = locked or Locked(gpu=gpu.pci)
    if declared.graphics_clock is not None and has.graphics != declared.graphics_clock:
        found.append(LockGpuClock(gpu=gpu.pci, clock=declared.graphics_clock))
    if declared.memory_clock is not None and has.memory != declared.memory_clock:
        found.append(LockMemoryClock(gpu=gpu.pci, clock=declared.memory_clock))
    if fresh and declared.ecc is not None and seen.ecc not in {None, declared.ecc}:
        found.append(SetEcc(gpu=gpu.pci, on=declared.ecc))
    return tuple(found)


def in_order(writes: Iterable[GpuWrite], limits_w: dict[str, float | None]) -> list[GpuWrite]:
    """Persistence, then every lowered limit, then clocks and ECC, and raised limits last.

    Args:
        writes: of any number of GPUs.
        limits_w: bus address → the limit that is asked for now.
    """

    def place(write: GpuWrite) -> int:
        match write:
            case SetPersistence():
                return 0
            case SetGpuPowerLimit():
                now_w = limits_w.get(write.gpu)
                return 1 if now_w is not None and write.watts < now_w else 4
            case LockGpuClock() | LockMemoryClock():
                return 2
            case SetEcc():
                return 3

    return sorted(writes, key=place)


def with_locked(locked: Locked, write: GpuWrite) -> Locked:
    """What is locked, after a write that took."""
    match write:
        case LockGpuClock():
            return msgspec.structs.replace(locked, graphics=write.clock)
        case LockMemoryClock():
            return msgspec.structs.replace(locked, memory=write.clock)
        case _:
            return locked


def needs_reboot(gpu: GpuSeen) -> bool:
    """Whether an ECC mode waits for the next reboot."""
    ecc = gpu.settings.ecc
    return ecc is not None and gpu.ecc_in_force is not None and ecc != gpu.ecc_in_force
