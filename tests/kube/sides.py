"""The two sides of the port `Cluster`: each case of a suite runs on both, and the real one arbitrates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.api.objects import GROUP, KINDS, VERSION
from control_plane.core.cluster import Cluster, Gone, Kind, Throttled
from control_plane.kube.client import connect, kubeconfig
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_controllers import Controllers
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual
from tests.lab.cluster import Cluster as Kubectl

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
_READY: set[Path] = set()
"""Kubeconfigs of servers that have settled."""


def on_twin(case: Case) -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        server = ApiServer(clock, undeclared={".spec.nosuch", ".status.nosuch"})
        Controllers(server)
        await case(ApiClient(server, clock), "one")

    run_virtual(main, horizon_s=HORIZON_S)


def on_server(case: Case, kubectl: Kubectl) -> None:
    async def main() -> None:
        async with connect(kubeconfig(kubectl.kubeconfig)) as client:
            await _ready(client, kubectl.kubeconfig)
            await case(client, kubectl.namespace)

    asyncio.run(main())


async def _ready(client: Cluster, server: Path) -> None:
    """A server that has learned a kind only now refuses to watch it, or what it just listed, for a moment."""
    if server not in _READY:
        await asyncio.gather(*(_watched(client, kind) for kind in (CONFIG_MAP, *OURS.values())))
        _READY.add(server)


async def _watched(client: Cluster, kind: Kind) -> None:
    for _ in range(100):
        since = (await client.list_page(kind, limit=1)).resource_version
        try:
            async for _ in client.watch(kind, resource_version=since, timeout_s=1):
                pass
        except (Throttled, Gone):
            await asyncio.sleep(0.1)
        else:
            return
    pytest.fail(f"the server does not let watch {kind.plural}")


def both(case: Case) -> Callable[..., None]:
    """A test of each side."""

    @pytest.mark.parametrize("side", ["twin", pytest.param("server", marks=pytest.mark.lab)])
    def test(side: str, request: pytest.FixtureRequest) -> None:
        if side == "twin":
            on_twin(case)
        else:
            on_server(case, request.getfixturevalue("cluster"))

    test.__name__ = test.__qualname__ = case.__name__
    return test


def body(kind: Kind, name: str, namespace: str, **more: Any) -> dict[str, Any]:
    """An object to send; `meta` goes into its metadata."""
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("meta", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **more}
