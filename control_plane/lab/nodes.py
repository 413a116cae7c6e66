"""Simulated GPU nodes: the `Node` objects of a site's declared GPU racks, for kwok to answer for."""

from __future__ import annotations

from typing import Any

from control_plane.core.fleet import Device, Site
from control_plane.core.gpu_domains import gpu_devices

FAKE = {"kwok.x-k8s.io/node": "fake"}
"""The annotation by which kwok knows its nodes."""
_CAPACITY = {"cpu": "192", "memory": "2Ti", "ephemeral-storage": "10Ti", "pods": "110"}
"""Of a common eight-GPU server; the declaration tells no more than the GPUs."""


def gpu_nodes(site: Site) -> list[dict[str, Any]]:
    """A `Node` for each managed GPU node of a site."""
    return [_node(device) for device in gpu_devices(site)]


def _node(device: Device) -> dict[str, Any]:
    gpus = str(device.type.gpus)
    capacity = {**_CAPACITY, "nvidia.com/gpu": gpus}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": device.asset,
            "annotations": FAKE,
            "labels": {
                "kubernetes.io/hostname": device.asset,
                "topology.kubernetes.io/region": device.site,
                "topology.kubernetes.io/zone": device.rack,
                "gridplane.dev/site": device.site,
                "gridplane.dev/rack": device.rack,
                "gridplane.dev/feed": device.feed,
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.count": gpus,
            },
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }
