"""A site with a hall of simulated GPU hosts: controller, agents, BMCs and API server, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from control_plane.api.conditions import moment
from control_plane.api.objects import GpuNodeStatus, OrderSpec
from control_plane.core.cluster import NODE, PDB, POD
from control_plane.core.secret import Secret
from control_plane.drivers.redfish import RedfishBmc
from control_plane.inventory.load import load_files
from control_plane.kube.controller import Controller
from control_plane.kube.kinds import CONFIG_MAP, GPU_NODE, ORDER
from control_plane.kube.saying import order_body
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_controllers import Controllers
from control_plane.simulator.gpu_hall import GpuHall
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.nvml import install
from control_plane.simulator.tls import make_authority
from tests.kube.gpu_agents import GpuAgents
from tests.kube.test_controller import FILES, NAMESPACE, FactorySecrets, Playing, play

AUTHORITY = make_authority("bmcs.example")
PROFILE, SITE, RACK = "profiles/gpu-inference.yaml", "sites/lab/site.yaml", "sites/lab/gpu/lab.yaml"


class HallSecrets(FactorySecrets):
    """Those of miners, and the one of the BMCs."""

    def __init__(self, password: str) -> None:
        self._password = password

    def resolve(self, ref: str) -> Secret:
        return Secret(self._password) if "BMC" in ref else super().resolve(ref)


def declared(*, nodes: int = 2, remedies: str = "act") -> dict[str, bytes]:
    """The lab with so many GPU nodes, and BMCs that are known by who signs their certificates."""
    authority = "".join(f"    {line}\n" for line in AUTHORITY.pem.decode().splitlines())
    credentials = "{user: gridplane, secret_ref: env:BMC_PASSWORD}"
    bmc = f"bmc:\n  credentials: {credentials}\n  authority: |-\n{authority}"
    rack = FILES[RACK].replace(b"nodes: 2", f"nodes: {nodes}".encode())
    profile = FILES[PROFILE] + f"  remedies: {remedies}\n".encode()
    return {
        **FILES,
        PROFILE: profile,
        SITE: FILES[SITE] + bmc.encode(),
        RACK: rack,
    }


class Floor:
    """The hall, and who is in it."""

    def __init__(self, playing: Playing, files: dict[str, bytes]) -> None:
        fleet = load_files(files, sites={"lab"}).fleet
        assert fleet is not None
        self.playing, self.files = playing, files
        self.rest = Controllers(playing.server)
        self.hall = GpuHall(
            fleet.sites["lab"],
            playing.loop,
            server=playing.server,
            rest=self.rest,
            authority=AUTHORITY,
        )
        playing.secrets = HallSecrets(self.hall.password)
        playing.bmc = RedfishBmc(MemoryNet(self.hall.network), playing.stage.clock)
        self.agents = GpuAgents(
            self.hall, playing.server, clock=playing.stage.clock, namespace=NAMESPACE
        )
        self.controllers: dict[str, tuple[Controller, ApiClient]] = {}
        """By name, each with its line to the API server."""
        self._serving: list[asyncio.Future[None]] = []

    async def serve(self, name: str = "one", **site: Any) -> None:
        """Run a controller on what is declared."""
        self.join(name)
        await self.playing.declare(self.files, **{"mode": "enforce", **site})

    def join(self, name: str) -> None:
        """Run one more controller."""
        self.controllers[name] = self.playing.controller(name)
        self._serving.append(asyncio.ensure_future(self.controllers[name][0].run()))

    async def close(self) -> None:
        """End everything."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        try:
            await self.agents.stop()
        finally:
            self.hall.stop()
            install(None)

    # --- looking -----------------------------------------------------------------------------------

    def node(self, name: str) -> dict[str, Any]:
        """Its `Node`."""
        found: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode(self.playing.server.get(NODE, name))
        )
        return found

    def is_held(self, name: str) -> bool:
        """Whether no work is placed on it, by us."""
        node = self.node(name)
        by = node["metadata"].get("annotations", {}).get("gridplane.dev/hold-by")
        return bool(by == "gridplane-remedies" and node["spec"].get("unschedulable"))

    async def status(self, name: str) -> dict[str, Any]:
        """Of its `GpuNode`."""
        found = await self.playing.get(GPU_NODE, name)
        status: dict[str, Any] = msgspec.json.decode(found.status) if found is not None else {}
        return status

    async def told(self, name: str) -> dict[str, tuple[str, str, str]]:
        """Conditions of its `GpuNode`."""
        return await self.playing.told(GPU_NODE, name)

    async def is_well(self, name: str) -> bool:
        """Whether it is in service, as declared."""
        return (await self.told(name)).get("Ready", ("",))[0] == "True" and not self.is_held(name)

    async def at_the_bench(self, name: str) -> None:
        """People put another GPU in, and have it run well for a while."""
        host, clock = self.hall[name], self.playing.stage.clock
        host.bmc.reset("ForceOff")
        await clock.sleep(60.0)
        host.replace_gpu(3)
        host.bmc.reset("On")
        await clock.sleep(1_200.0)

    def in_repair(self, name: str) -> Callable[[], Awaitable[bool]]:
        """Whether it is told to wait for a person with its ticket."""

        async def is_it() -> bool:
            return (await self.told(name)).get("Ready", ("", ""))[1] == "InRepair"

        return is_it

    async def say(self, order: str, kind: str, target: str, **more: Any) -> None:
        """An `Order` of a person."""
        at = moment(self.playing.stage.clock.wall_s())
        spec = OrderSpec(site="lab", kind=kind, target=target, by="ann", at=at, **more)  # type: ignore[arg-type]
        body = order_body(spec, name=order, namespace=NAMESPACE)
        self.playing.server.create(ORDER, body, manager="kubectl")

    async def obeyed(self, order: str) -> str:
        """Wait until an order is; what was answered."""

        async def is_it() -> bool:
            return (await self.playing.told(ORDER, order)).get("Ready", ("",))[0] == "True"

        await self.playing.until(is_it)
        return (await self.playing.told(ORDER, order))["Ready"][2]

    async def all_well(self) -> None:
        """Wait until every node is."""

        async def are() -> bool:
            return all([await self.is_well(name) for name in self.hall])

        await self.playing.until(are)

    async def processes(self, name: str) -> int | None:
        """Those that its agent tells of."""
        found = await self.playing.get(GPU_NODE, name)
        assert found is not None
        return msgspec.json.decode(found.status, type=GpuNodeStatus).processes

    def put_pod(
        self,
        name: str,
        node: str,
        *,
        controller: str = "ReplicaSet",
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """A tenant's pod that runs on a node."""
        # Its owner has to be there, or the pod is collected: of which kind it is, nobody looks up.
        owner = self.playing.server.create(
            CONFIG_MAP,
            {
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": f"owner-of-{name}", "namespace": "tenants"},
            },
            manager="tenant",
        )  # fmt: skip
        self.playing.server.create(
            POD,
            {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": "tenants", "labels": dict(labels),
                    "ownerReferences": [
                        {"apiVersion": "apps/v1", "kind": controller, "name": "set",
                         "uid": owner.metadata.uid, "controller": True}
                    ],
                },
                "spec": {"nodeName": node, "containers": [{"name": "work"}]},
            },
            manager="scheduler",
        )  # fmt: skip
        ready = {"type": "Ready", "status": "True"}
        self.playing.server.apply(
            POD,
            {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "tenants"},
                "status": {"phase": "Running", "conditions": [ready]},
            },
            manager="kubelet",
            force=True,
            subresource="status",
        )  # fmt: skip

    def put_budget(self, name: str, labels: Mapping[str, str]) -> None:
        """One of the pods with these labels has to stay."""
        self.playing.server.create(
            PDB,
            {
                "apiVersion": PDB.api_version, "kind": PDB.kind,
                "metadata": {"name": name, "namespace": "tenants"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": dict(labels)}},
            },
            manager="tenant",
        )  # fmt: skip

    def pods(self, node: str) -> list[str]:
        """Names of the pods on a node."""
        page = self.playing.server.list_page(
            POD, lambda _each: True, limit=1_000, page="", says_remaining=False
        )
        return [p.metadata.name for p in page.items if f'"{node}"'.encode() in bytes(p.spec)]


def on_a_floor(
    tmp_path: Path,
    case: Callable[[Floor], Awaitable[None]],
    *,
    files: dict[str, bytes] | None = None,
) -> None:
    """Play a case."""

    async def whole(playing: Playing) -> None:
        floor = Floor(playing, files or declared())
        try:
            await case(floor)
        finally:
            await floor.close()

    play(tmp_path, whole)
