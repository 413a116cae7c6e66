"""How many watts a GPU may take: the least of all caps, lowered by anybody, raised only under a fresh grant.

Pure. The engine grants, the agent on the node obeys; without contact it keeps the last grant and only lowers.
Somebody else (Dynamo's Power Agent) may write limits too: a lower one is the workload's and stays, a higher
one is lowered again, as often as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from control_plane.core import limits
from control_plane.core.gpu import GpuSeen
from control_plane.core.gpu_settings import SetGpuPowerLimit


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the engine lets each GPU of a node take."""

    gpu_w: float
    until_s: float
    """Its end. After it, it is still a cap, and allows no raise."""
    fence: int = 0
    """Of who granted it: a lower one than was seen before is a voice from the past."""


class Caps(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All that limits the GPUs of a node; `None` does not limit."""

    site_w: float | None = None
    """The site's ceiling. It does not end."""
    grant: Grant | None = None
    workload_w: float | None = None
    """What the workload asks to be kept to (`dynamo.nvidia.com/gpu-power-limit`)."""
    declared_w: float | None = None
    """Of the node's profile."""

    def least_w(self) -> float | None:
        """The least of them; `None` where there is none."""
        granted = self.grant.gpu_w if self.grant is not None else None
        known = [
            w for w in (self.site_w, granted, self.workload_w, self.declared_w) if w is not None
        ]
        return min(known, default=None)

    def is_fresh(self, now_s: float) -> bool:
        """Whether a raise is allowed at all."""
        return self.grant is not None and now_s < self.grant.until_s


class CapMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What has to be known of one GPU's limit from look to look; kept over restarts."""

    gpu: str
    ours_w: float | None = None
    """What we asked for last, and read back."""
    raised_s: tuple[float, ...] = ()
    """When somebody else had raised it above that; the last few."""


class CapState(StrEnum):
    """Why a limit is written, or not."""

    NO_CAP = "no_cap"
    """Nothing limits it: left as it is."""
    AS_CAPPED = "as_capped"
    LOWERED = "lowered"
    RAISED = "raised"
    NO_FRESH_GRANT = "no_fresh_grant"
    """It is lower than it might be, and nothing allows a raise."""
    LOWER_BY_OTHER = "lower_by_other"
    """Somebody else set it lower; it stays."""
    UNREADABLE = "unreadable"
    """The limit could not be read: no write."""
    LOST = "lost"


class CapDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be done about the limit of one GPU."""

    state: CapState
    memory: CapMemory
    cap_w: float | None = None
    """What it may take; where the GPU cannot go so low, less than `target_w`."""
    target_w: float | None = None
    """What is to be asked for: the cap within the GPU's range."""
    write: SetGpuPowerLimit | None = None


def decide_cap(
    gpu: GpuSeen, caps: Caps, memory: CapMemory, *, now_s: float, reloaded: bool = False
) -> CapDecision:
    """What is to be done about the limit of one GPU.

    Args:
        gpu: as it was seen.
        caps: of its node.
        memory: of this GPU.
        now_s: seconds since the epoch.
        reloaded: the driver was loaded since the look before: limits are its defaults, and nobody raised
            them.
    """
    cap_w, current_w = caps.least_w(), gpu.settings.power_limit_w
    if gpu.lost or gpu.pci is None:
        return CapDecision(state=CapState.LOST, memory=memory, cap_w=cap_w)
    if cap_w is None:
        return CapDecision(state=CapState.NO_CAP, memory=memory)
    target_w = _in_range(gpu, cap_w)
    if current_w is None:
        return CapDecision(state=CapState.UNREADABLE, memory=memory, cap_w=cap_w, target_w=target_w)
    if same_w(current_w, target_w):
        kept = msgspec.structs.replace(memory, ours_w=target_w)
        return CapDecision(state=CapState.AS_CAPPED, memory=kept, cap_w=cap_w, target_w=target_w)
    if current_w > target_w:
        if not reloaded and memory.ours_w is not None and current_w > memory.ours_w + _NOISE_W:
            memory = _raised(memory, now_s)
        state = CapState.LOWERED
    elif not caps.is_fresh(now_s):
        return CapDecision(
            state=CapState.NO_FRESH_GRANT, memory=memory, cap_w=cap_w, target_w=target_w
        )
    elif not _is_nobodys(gpu, memory, current_w):
        return CapDecision(
            state=CapState.LOWER_BY_OTHER, memory=memory, cap_w=cap_w, target_w=target_w
        )
    else:
        state = CapState.RAISED
    write = SetGpuPowerLimit(gpu=gpu.pci, watts=target_w)
    return CapDecision(state=state, memory=memory, cap_w=cap_w, target_w=target_w, write=write)


_NOISE_W = 1.0
"""Limits are whole milliwatts; some GPUs round to whole watts."""


def same_w(a: float, b: float) -> bool:
    """Whether two limits are the same one."""
    return abs(a - b) <= _NOISE_W


def written(memory: CapMemory, requested_w: float | None) -> CapMemory:
    """After a write that took: what is ours now, as it reads back."""
    return msgspec.structs.replace(memory, ours_w=requested_w)


def has_second_writer(memory: CapMemory, now_s: float) -> bool:
    """Whether somebody keeps raising it."""
    return len(_recent(memory.raised_s, now_s)) >= limits.GPU_RAISES_BY_OTHERS


def is_over(gpu: GpuSeen, cap_w: float | None) -> bool:
    """Whether more is enforced than is allowed; unknown is no."""
    return (
        cap_w is not None
        and not gpu.lost
        and gpu.enforced_limit_w is not None
        and gpu.enforced_limit_w > cap_w + _NOISE_W
    )


def newer(kept: Grant | None, told: Grant | None) -> Grant | None:
    """Which of two grants holds: one under an older fence never does, nor one that is not there."""
    if kept is None or told is None:
        return told or kept
    return told if told.fence >= kept.fence else kept


def reloaded_gpus(before_j: dict[str, float], gpus: Iterable[GpuSeen]) -> frozenset[str]:
    """GPUs whose counter of energy fell: their driver was loaded anew, or they were reset.

    Args:
        before_j: bus address → energy at the look before.
        gpus: as they were seen now.
    """
    return frozenset(
        gpu.pci
        for gpu in gpus
        if gpu.pci is not None
        and gpu.energy_j is not None
        and gpu.energy_j < before_j.get(gpu.pci, 0.0)
    )


def _in_range(gpu: GpuSeen, cap_w: float) -> float:
    low_w, high_w = gpu.min_limit_w, gpu.max_limit_w
    if high_w is not None:
        cap_w = min(cap_w, high_w)
    return cap_w if low_w is None else max(cap_w, low_w)


def _is_nobodys(gpu: GpuSeen, memory: CapMemory, current_w: float) -> bool:
    """Whether a limit is our own, or the driver's default, and not somebody else's wish."""
    if memory.ours_w is not None and same_w(current_w, memory.ours_w):
        return True
    return gpu.default_limit_w is not None and same_w(current_w, gpu.default_limit_w)


def _raised(memory: CapMemory, now_s: float) -> CapMemory:
    recent = (*_recent(memory.raised_s, now_s), now_s)
    return msgspec.structs.replace(memory, raised_s=recent[-limits.GPU_RAISES_BY_OTHERS :])


def _recent(times_s: tuple[float, ...], now_s: float) -> tuple[float, ...]:
    return tuple(at_s for at_s in times_s if 0 <= now_s - at_s < limits.GPU_RAISES_WITHIN_S)
