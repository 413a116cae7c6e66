"""GPU nodes as values: what is declared of their GPUs, what was seen of them, and what is wrong with them.

Watts and limits are of one GPU, not of its node. What could not be read is `None`, never a default. Sources
of the facts: NVML through nvidia-ml-py 13.615, NVIDIA's Xid catalogue; see `docs/reference/gpu.md`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

MIG_OFF = "all-disabled"
"""The profile of the operator's MIG manager that partitions nothing."""


class ClockRange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Between which two frequencies a clock is locked."""

    min_mhz: int
    max_mhz: int


class GpuSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The settable state of each GPU of a node.

    Declared: `None` leaves it to the driver. Observed: `None` is unknown.
    """

    power_limit_w: float | None = None
    """As it was asked for; what is enforced may be lower (a limit from outside, through the BMC)."""
    graphics_clock: ClockRange | None = None
    memory_clock: ClockRange | None = None
    persistence: bool | None = None
    ecc: bool | None = None
    """As it is after the next reboot: a change is pending until then."""
    mig: bool | None = None
    """Whether a GPU is partitioned. How, is the business of the operator's MIG manager."""


class RecoveryAction(StrEnum):
    """What the driver itself asks for (field 230). Values above 4 differ between driver branches."""

    NONE = "none"
    RESET = "reset"
    REBOOT = "reboot"
    DRAIN_P2P = "drain_p2p"
    DRAIN_AND_RESET = "drain_and_reset"
    UNKNOWN = "unknown"
    """Some other: a person looks at it."""


class RowRemap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Rows of memory that the GPU replaced (Ampere and later; not readable while it is partitioned)."""

    corrected: int | None = None
    uncorrected: int | None = None
    pending: bool
    """Takes effect at the next reset."""
    failed: bool
    """No spare row was left: the GPU goes back to its maker."""


class GpuSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One look at one GPU."""

    index: int
    uuid: str | None = None
    serial: str | None = None
    pci: str | None = None
    """Bus address, `00000000:0F:00.0`."""
    name: str | None = None
    lost: bool = False
    """It does not answer: the driver says that it is no longer there, or lets nobody open it."""
    refused: bool = False
    """Of one that is lost: the driver gave another reason than that. Others may be using it."""
    settings: GpuSettings = GpuSettings()
    enforced_limit_w: float | None = None
    default_limit_w: float | None = None
    min_limit_w: float | None = None
    max_limit_w: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    """Since the driver was loaded."""
    temperature_c: float | None = None
    graphics_clock_mhz: int | None = None
    throttled_by: frozenset[str] | None = None
    """Reasons in force, of `THROTTLES`."""
    ecc_uncorrected: int | None = None
    """Since the driver was loaded."""
    ecc_in_force: bool | None = None
    remap: RowRemap | None = None
    links_down: tuple[int, ...] | None = None
    """NVLinks that should be up and are not; empty: none is down."""
    fabric: str | None = None
    """State of its registration with the NVLink fabric, of Hopper and later: `completed`, or what else."""
    recovery: RecoveryAction | None = None
    processes: int | None = None
    """Compute processes on it; `None` also where some might not be seen, and none was."""
    memory_used_mib: int | None = None
    """Memory that somebody holds, rounded up, without what the driver reserves; unlike processes, that of
    everybody, whoever asks. `None` also while it is partitioned."""


THROTTLES = frozenset({"power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "power_brake"})
"""Reasons for lower clocks that a person wants to know of."""


class XidEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One error that the driver reported."""

    at_s: float
    xid: int
    gpu: str | None = None
    """Bus address of the GPU; `None` where it was not told."""


class Trouble(StrEnum):
    """Why a node's GPUs could not be read at all."""

    NO_LIBRARY = "no_library"
    """The driver is not installed, or not visible to the process."""
    NOT_LOADED = "not_loaded"
    """The library is there, the kernel's part is not."""
    MISMATCH = "mismatch"
    """Library and kernel part are of different versions: an upgrade is half done."""
    BROKEN = "broken"
    """The library answers with an error that says nothing more."""
    HUNG = "hung"
    """It does not answer at all."""


class NodeSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One look at the GPUs of a node."""

    at_s: float
    driver: str | None = None
    """Version of the driver, `595.91.07`."""
    gpus: tuple[GpuSeen, ...] = ()
    """By index."""
    trouble: Trouble | None = None
    """`gpus` is empty then, and says nothing."""
    xids: tuple[XidEvent, ...] = ()
    """Since the look before."""


class Rung(IntEnum):
    """What is done about a fault, from the least to the most; each waits for the one below it.

    From `DRAIN` on it takes work from tenants; from `RESET_GPU` on it happens on a drained node.
    """

    OBSERVE = 0
    DRAIN = 1
    RESET_GPU = 2
    RELOAD_DRIVER = 3
    REBOOT = 4
    POWER_CYCLE = 5
    REPAIR = 6
    """Quarantine and a ticket: a person."""


class AlertKind(StrEnum):
    """What can be wrong with a node's GPUs: the condition's reason in `GpuNode`, in snake case."""

    UNREADABLE = "unreadable"
    """A whole look gave nothing (`Trouble`)."""
    GPU_LOST = "gpu_lost"
    GPU_MISSING = "gpu_missing"
    """Fewer GPUs answer than are declared."""
    XID = "xid"
    RECOVERY_ACTION = "recovery_action"
    REMAP_PENDING = "remap_pending"
    REMAP_FAILED = "remap_failed"
    ECC_UNCORRECTED = "ecc_uncorrected"
    LINK_DOWN = "link_down"
    FABRIC = "fabric"
    THERMAL = "thermal"
    POWER_BRAKE = "power_brake"
    CAP_NOT_ENFORCED = "cap_not_enforced"
    """More is enforced than was granted."""
    SECOND_WRITER = "second_writer"
    """Somebody else keeps changing what is declared."""
    UNKNOWN = "unknown"
    """What an agent of a newer release told of: no agent of this one says so."""
    HANDED_OVER = "handed_over"
    """Another remediator's word, of a node that it has handed over: no agent says so."""


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that is wrong, with what it calls for. Merged by `(kind, gpu, xid)`."""

    kind: AlertKind
    rung: Rung
    """The least that helps, as the source of `kind` says."""
    since_s: float
    gpu: str | None = None
    """Bus address; `None` where it is of the whole node."""
    xid: int | None = None
    detail: str = ""
    """For people, bounded."""
    asks: bool = False
    """A person decides: nothing above `DRAIN` is done for it without one."""
    final: bool = False
    """No lower rung can help (a failed remap): straight to `REPAIR`, once drained."""
