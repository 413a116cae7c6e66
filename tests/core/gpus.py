"""A GPU and a node as they are when all is well."""

from __future__ import annotations

from typing import Any

from control_plane.core.gpu import GpuSeen, GpuSettings, NodeSeen, RecoveryAction, RowRemap


def pci(index: int) -> str:
    return f"00000000:{0x0F + index * 0x10:02X}:00.0"


def a_gpu(
    index: int = 0,
    *,
    limit_w: float | None = 700.0,
    settings: GpuSettings | None = None,
    **more: Any,
) -> GpuSeen:
    well: dict[str, Any] = {
        "index": index,
        "uuid": f"GPU-{index}",
        "pci": pci(index),
        "settings": settings
        or GpuSettings(power_limit_w=limit_w, persistence=True, ecc=True, mig=False),
        "enforced_limit_w": limit_w,
        "default_limit_w": 700.0,
        "min_limit_w": 200.0,
        "max_limit_w": 700.0,
        "power_w": 90.0,
        "energy_j": 1_000.0,
        "throttled_by": frozenset(),
        "ecc_uncorrected": 0,
        "ecc_in_force": True,
        "remap": RowRemap(corrected=0, uncorrected=0, pending=False, failed=False),
        "links_down": (),
        "fabric": "completed",
        "recovery": RecoveryAction.NONE,
    }
    return GpuSeen(**{**well, **more})


def a_node(at_s: float, *gpus: GpuSeen, **more: Any) -> NodeSeen:
    return NodeSeen(at_s=at_s, driver="595.91.07", gpus=gpus or tuple(map(a_gpu, range(8))), **more)
