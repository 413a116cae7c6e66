"""NVIDIA's Xid errors as data: what each calls for on a data centre's GPUs.

Source: NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors, 172 rows, read 2026-08) with its buckets of
immediate action for Ampere to Blackwell. The catalogue changes with driver branches: `AS_OF` says which one
this is. What it calls unused, and what came later, is not here: `fact_of` has a person look at that.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core.gpu import Rung

AS_OF: Final = "2026-08"
"""When the catalogue was read."""


class Weight(StrEnum):
    """How one event of a kind is taken."""

    ACT = "act"
    """One is enough."""
    COUNT = "count"
    """Nothing alone; many of them on one GPU, and not on the others of its node, are its fault."""
    TELL = "tell"
    """It says something about another one, and is nothing itself."""


class XidFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of one Xid."""

    xid: int
    name: str
    weight: Weight
    rung: Rung
    """The least that helps; of `COUNT`, once there were many."""
    asks: bool = False
    """A person decides before anything above `DRAIN`."""
    note: str = ""


def _act(
    rung: Rung, name: str, note: str = "", *, asks: bool = False
) -> tuple[Weight, Rung, bool, str, str]:
    return Weight.ACT, rung, asks, name, note


def _asks(name: str, note: str, rung: Rung = Rung.OBSERVE) -> tuple[Weight, Rung, bool, str, str]:
    return Weight.ACT, rung, True, name, note


def _app(name: str, note: str = "") -> tuple[Weight, Rung, bool, str, str]:
    return Weight.COUNT, Rung.OBSERVE, True, name, note or "the application is restarted"


def _tell(name: str, note: str) -> tuple[Weight, Rung, bool, str, str]:
    return Weight.TELL, Rung.OBSERVE, False, name, note


_LINK5 = "decoded by driver branch; the recovery action says whether a reset is needed"
_SMOOTHING = "power smoothing: no reset; a person weighs the swings"

_ROWS: Final = {
    8: _app("GPU stopped processing"),
    11: _app("invalid push buffer"),
    13: _app(
        "graphics engine exception", "an application's fault, unless one GPU alone repeats it"
    ),
    14: _tell("injected error", "made by a test"),
    25: _app("invalid push buffer"),
    31: _app("memory page fault", "an application's fault, unless one GPU alone repeats it"),
    32: _app("corrupted push buffer", "the quality of the PCIe link, if it repeats"),
    37: _app("driver firmware error", "counted"),
    38: _app("driver firmware watchdog", "counted"),
    **{n: _app(f"copy engine {n - 39}") for n in (39, 40, 41)},
    43: _app("channel stopped", "a fault of software; the GPU stays healthy"),
    44: _app("fault in a context switch", "counted"),
    45: _app("preemptive cleanup", "follows another Xid, or a process that was ended"),
    46: _act(Rung.RESET_GPU, "GPU stopped processing"),
    48: _act(
        Rung.RESET_GPU, "uncorrectable ECC error", "with the SRAM threshold flag: field diagnostics"
    ),
    54: _asks("auxiliary power missing", "a hand at the machine", Rung.DRAIN),
    60: _app("video processor exception"),
    62: _act(Rung.RESET_GPU, "power micro-controller halted"),
    63: _app("row remapped", "takes effect at the next reset: `remap_pending` asks for it"),
    64: _act(Rung.RESET_GPU, "row remap failed", "`remap_failed`, if it stays: back to the maker"),
    66: _app("illegal access by the driver", "counted"),
    67: _app("illegal access by the driver", "counted"),
    68: _app("video decoder 0"),
    69: _app("graphics engine class error"),
    **{n: _app(f"copy engine {n - 67}") for n in (70, 71, 72)},
    74: _act(
        Rung.RESET_GPU,
        "NVLink error",
        "Hopper and older: a person decodes the registers",
        asks=True,
    ),
    **{n: _app(f"copy engine {n - 69}") for n in (75, 76, 77)},
    78: _asks("vGPU did not start", "software or firmware is to be updated"),
    79: _act(Rung.REBOOT, "GPU has fallen off the bus", "a link, a riser, power or the GPU itself"),
    80: _app("corrupted data sent to the GPU"),
    82: _app("JPEG decoder 0"),
    83: _app("video decoder 1"),
    84: _app("video decoder 2"),
    85: _app("copy engine 9"),
    86: _app("optical flow engine"),
    88: _app("video decoder 3"),
    89: _app("video decoder 4"),
    92: _asks("many single-bit ECC errors", "the maker's support"),
    93: _app("wear limit of the InfoROM", "counted"),
    94: _app("contained memory error", "one application died; a reset when it suits"),
    95: _act(Rung.RESET_GPU, "uncontained memory error"),
    **{n: _app(f"video decoder {n - 91}") for n in (96, 97, 98)},
    **{n: _app(f"JPEG decoder {n - 98}") for n in range(99, 106)},
    106: _tell("test message", "made by a test"),
    107: _tell("test message", "made by a test"),
    108: _tell("remote translation", "unused"),
    109: _act(Rung.RESET_GPU, "context switch timeout"),
    110: _act(Rung.RESET_GPU, "security fault"),
    119: _act(Rung.RESET_GPU, "GSP did not answer", "a power cycle, if it comes back"),
    120: _act(Rung.RESET_GPU, "GSP error", "a power cycle, if it comes back"),
    121: _app("C2C link error", "corrected; a reset in a service window trains the link anew"),
    **{n: _app(f"copy engine {n - 116}") for n in range(126, 136)},
    136: _act(Rung.RESET_GPU, "link training failed"),
    137: _app("NVLink privilege error", "an application's fault, unless one GPU alone repeats it"),
    139: _app("optical flow engine 1"),
    140: _act(Rung.RESET_GPU, "uncorrectable ECC error escaped"),
    141: _app("CUDA fast path error", "counted"),
    142: _asks("video encoder 3", "the maker's support"),
    143: _act(Rung.RESET_GPU, "GPU did not initialise"),
    **{
        n: _act(Rung.RESET_GPU, f"NVLink 5 {part}", _LINK5, asks=True)
        for n, part in enumerate(("SAW", "RLW", "TLW", "TREX", "NVLPW", "NETIR", "MSE"), start=144)
    },
    151: _asks("key rotation", "confidential computing: the virtual machine is restarted"),
    154: _tell("recovery action changed", "the action itself is read (field 230)"),
    155: _act(Rung.RESET_GPU, "NVLink taken down by software"),
    156: _act(Rung.RESET_GPU, "resource retired"),
    157: _asks("resource not retired", "work goes on and it may come back: the maker's support"),
    158: _act(Rung.RESET_GPU, "GPU fatal timeout"),
    159: _asks("CHI error without data", "of GPUs on a C2C link, with other Xids"),
    160: _app("channel retired", "counted"),
    161: _app("channel not retired", "counted"),
    162: _tell("power smoothing is back", "good news"),
    **{
        n: _asks(f"power smoothing {what}", _SMOOTHING)
        for n, what in ((163, "is off"), (164, "is near its end"), (165, "is worn out"))
    },
    166: _asks("traffic before encryption", "confidential computing"),
    167: _asks("PCIe fatal timeout", "without a bucket yet", Rung.DRAIN),
    168: _asks("less memory than there is", "with ECC off"),
    169: _asks("security micro-controller halted", "without a bucket yet", Rung.DRAIN),
    170: _asks("interrupt in confidential computing", "confidential computing"),
    171: _tell("detail of 48: DRAM", "48 says what to do"),
    172: _tell("detail of 48: SRAM", "48 says what to do"),
}

FACTS: Final = {
    xid: XidFact(xid=xid, weight=weight, rung=rung, asks=asks, name=name, note=note)
    for xid, (weight, rung, asks, name, note) in sorted(_ROWS.items())
}
"""Xid → what is known of it."""

RECOVERY_XID: Final = 154
"""Announces another recovery action."""


def fact_of(xid: int) -> XidFact:
    """What is known of an Xid; of one that is not in the table, that a person has to look."""
    known = FACTS.get(xid)
    if known is not None:
        return known
    return XidFact(
        xid=xid, name="not in the table", weight=Weight.ACT, rung=Rung.OBSERVE, asks=True,
        note=f"not in the catalogue of {AS_OF}, or unused there",
    )  # fmt: skip
