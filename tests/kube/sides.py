"""The two sides of the port `Cluster`: each case of a suite runs on both, and the real one arbitrates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane.api.objects import GROUP, KINDS, VERSION
from control_plane.core.cluster import Cluster, Kind
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual

Case = Callable[[Cluster, str], Awaitable[None]]
"""Of the cluster, and a namespace that nobody else uses."""

CONFIG_MAP = Kind(group="", version="v1", kind="ConfigMap", plural="configmaps")
LEASE = Kind(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")
CLUSTER_ROLE = Kind(
    group="rbac.authorization.k8s.io", version="v1", kind="ClusterRole", plural="clusterroles",
    is_namespaced=False,
)  # fmt: skip
OURS = {
    kind.name: Kind(group=GROUP, version=VERSION, kind=kind.name, plural=kind.plural)
    for kind in KINDS
}
HORIZON_S = 3_600.0


def on_twin(case: Case) -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        await case(ApiClient(ApiServer(clock), clock), "one")

    run_virtual(main, horizon_s=HORIZON_S)


def both(case: Case) -> Callable[..., None]:
    """A test of each side."""

    @pytest.mark.parametrize("side", ["twin"])
    def test(side: str) -> None:
        on_twin(case)

    test.__name__ = test.__qualname__ = case.__name__
    return test


def body(kind: Kind, name: str, namespace: str, **more: Any) -> dict[str, Any]:
    """An object to send; `meta` goes into its metadata."""
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("meta", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **more}
