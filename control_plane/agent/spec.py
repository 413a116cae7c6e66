"""What a `GpuNode` grants and declares, in the words of core. Pure."""

from __future__ import annotations

from control_plane.api.objects import ClockRangePart, GpuNodeSpec
from control_plane.core.gpu import ClockRange, GpuSettings
from control_plane.core.gpu_cap import Caps, Grant


def caps_of(spec: GpuNodeSpec) -> Caps:
    """What an object allows."""
    cap = spec.power_cap
    return Caps(
        site_w=spec.ceiling_gpu_w,
        workload_w=spec.workload_gpu_w,
        grant=None
        if cap is None
        else Grant(gpu_w=cap.gpu_w, until_s=cap.granted_until.timestamp(), fence=cap.fence),
    )


def settings_of(spec: GpuNodeSpec) -> GpuSettings:
    """What an object declares of each GPU, beside its limit."""
    part = spec.settings
    if part is None:
        return GpuSettings()
    return GpuSettings(
        graphics_clock=_clock_range(part.graphics_clock),
        memory_clock=_clock_range(part.memory_clock),
        persistence=part.persistence,
        ecc=part.ecc,
    )


def _clock_range(part: ClockRangePart | None) -> ClockRange | None:
    return None if part is None else ClockRange(min_mhz=part.min_mhz, max_mhz=part.max_mhz)
