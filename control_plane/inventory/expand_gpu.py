"""What documents say of GPUs → values of the core; see `expand`."""

from __future__ import annotations

from control_plane.api.v1alpha1 import ClockRangeDoc, GpuModelDoc, GpuProfileDoc
from control_plane.core.fleet import GpuIntent, GpuModel
from control_plane.core.gpu import MIG_OFF, ClockRange, GpuSettings


def gpu_model(doc: GpuModelDoc | None) -> GpuModel | None:
    """The GPUs of a type, as the core knows them."""
    if doc is None:
        return None
    return GpuModel(
        model=doc.model,
        memory_gib=doc.memory_gib,
        min_limit_w=doc.min_limit_w,
        max_limit_w=doc.max_limit_w,
    )


def gpu_intent(given: GpuProfileDoc | None) -> GpuIntent | None:
    """What a profile asks of GPUs, as the core knows it."""
    if given is None:
        return None
    return GpuIntent(
        settings=GpuSettings(
            power_limit_w=given.power_limit_w,
            graphics_clock=_clocks(given.graphics_clock),
            memory_clock=_clocks(given.memory_clock),
            persistence=given.persistence,
            ecc=given.ecc,
            mig=None if given.mig is None else given.mig != MIG_OFF,
        ),
        driver=given.driver,
        mig=given.mig,
        acts=given.remedies == "act",
        waves=given.software == "waves",
    )


def _clocks(given: ClockRangeDoc | None) -> ClockRange | None:
    return None if given is None else ClockRange(min_mhz=given.min_mhz, max_mhz=given.max_mhz)
