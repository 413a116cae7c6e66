"""Our kinds as the port names them; the schemas are in `api/objects.py`."""

from __future__ import annotations

from control_plane.api.objects import GROUP, KINDS, VERSION
from control_plane.core.cluster import Kind

_ALL = {
    kind.name: Kind(group=GROUP, version=VERSION, kind=kind.name, plural=kind.plural)
    for kind in KINDS
}
FLEET_REVISION = _ALL["FleetRevision"]
SITE = _ALL["Site"]
RACK = _ALL["Rack"]
MINER = _ALL["Miner"]
GPU_NODE = _ALL["GpuNode"]
ROLLOUT = _ALL["Rollout"]
DEVICE_OPERATION = _ALL["DeviceOperation"]
OVERLAY = _ALL["Overlay"]
ORDER = _ALL["Order"]
STATE_SHARD = _ALL["StateShard"]

# Not ours.
JOB = Kind(group="batch", version="v1", kind="Job", plural="jobs")
CONFIG_MAP = Kind(group="", version="v1", kind="ConfigMap", plural="configmaps")
