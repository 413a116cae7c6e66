"""A site with a hall of simulated GPU hosts: controller, agents, BMCs and API server, in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from control_plane.api.conditions import moment
from control_plane.api.objects import GpuNodeStatus, OrderSpec
from control_plane.core import limits
from control_plane.core.cluster import NODE, PDB, POD, Kind
from control_plane.core.driver_upgrade import LABEL as UPGRADE
from control_plane.core.remedy_case import Action, Outcome
from control_plane.core.secret import Secret
from control_plane.drivers.redfish import RedfishBmc
from control_plane.engine.store import Store
from control_plane.inventory.load import load_files
from control_plane.kube.controller import Controller
from control_plane.kube.kinds import GPU_NODE, ORDER, OVERLAY, STATE_SHARD
from control_plane.kube.saying import order_body
from control_plane.simulator.api_client import ApiClient, Call
from control_plane.simulator.api_controllers import Controllers, edit
from control_plane.simulator.bmc_profiles import DELL, Profile
from control_plane.simulator.gpu_hall import GpuHall
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.nvml import install
from control_plane.simulator.tls import make_authority
from tests.kube.gpu_agents import GpuAgents
from tests.kube.test_controller import FILES, NAMESPACE, RACKS, FactorySecrets, Playing, play

AUTHORITY = make_authority("bmcs.example")
PROFILE, SITE, RACK = "profiles/gpu-inference.yaml", "sites/lab/site.yaml", "sites/lab/gpu/lab.yaml"
POWER = "sites/lab/power.yaml"
SET = Kind(group="apps", version="v1", kind="ReplicaSet", plural="replicasets")


class HallSecrets(FactorySecrets):
    """Those of miners, and the one of the BMCs."""

    def __init__(self, password: str) -> None:
        self._password = password

    def resolve(self, ref: str) -> Secret:
        return Secret(self._password) if "BMC" in ref else super().resolve(ref)


def declared(*, nodes: int = 2, racks: int = 1, remedies: str = "act") -> dict[str, bytes]:
    """The lab with so many GPU nodes in each rack, and BMCs that are known by who signs their certificates.

    The racks are `lab-g1`, `lab-g2` …, and there are no miners.
    """
    authority = "".join(f"    {line}\n" for line in AUTHORITY.pem.decode().splitlines())
    credentials = "{user: gridplane, secret_ref: env:BMC_PASSWORD}"
    bmc = f"bmc:\n  credentials: {credentials}\n  authority: |-\n{authority}"
    rack = b"racks:\n" + b"".join(_rack(n, nodes) for n in range(racks))
    profile = FILES[PROFILE] + f"  remedies: {remedies}\n".encode()
    return {
        **{name: text for name, text in FILES.items() if name != RACKS},
        PROFILE: profile,
        SITE: FILES[SITE] + bmc.encode(),
        RACK: rack,
        POWER: re.sub(rb"rating_kw: (\d+)", rb"rating_kw: \g<1>00", FILES[POWER]),
    }


def _rack(number: int, nodes: int) -> bytes:
    """One rack; the first is as the lab has it."""
    first = number * nodes
    return f"""
  - id: lab-g{number + 1}
    feed: lab-hall-p{(3, 4, 2, 1)[number % 4]}
    nodes: {nodes}
    owner: house
    type: gpu-hgx-h200
    profile: gpu-inference
    first_address: 10.90.2.{11 + first}
    first_bmc: 10.90.3.{21 + first}
    first_pods: 10.244.{2 + first}.0/24
""".encode()


class Floor:
    """The hall, and who is in it."""

    def __init__(
        self, playing: Playing, files: dict[str, bytes], *, looks_s: float, profile: Profile
    ) -> None:
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
            profile=profile,
        )
        playing.secrets = HallSecrets(self.hall.password)
        playing.bmc = RedfishBmc(MemoryNet(self.hall.network), playing.stage.clock)
        self.agents = GpuAgents(
            self.hall, playing.server, clock=playing.stage.clock, namespace=NAMESPACE,
            looks_s=looks_s,
        )  # fmt: skip
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

    def die(self, name: str) -> None:
        """A controller is cut off: it asks nothing and hears nothing of the API server any more."""
        line = self.controllers[name][1]
        line.faults.away = "refused"
        line.cut()

    @property
    def store(self) -> Store:
        """That of whoever leads."""
        tenures = [one.tenure for one, _ in self.controllers.values() if one.elector.is_live()]
        (tenure,) = [one for one in tenures if one is not None]
        return tenure.said

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

    async def why(self, name: str) -> str:
        """The one word for what is done to it, or why nothing is."""
        told = await self.told(name)
        return next((told[c][1] for c in ("Stalled", "Reconciling") if c in told), "")

    async def comes_to(self, name: str, why: str, *, within_s: float = 300.0) -> None:
        """Wait for that word."""

        async def has_come() -> bool:
            return await self.why(name) == why

        await self.playing.until(has_come, within_s=within_s)

    async def pass_time(self, seconds: float) -> None:
        """Let policy time go by."""
        await self.playing.stage.clock.sleep(seconds)

    # --- people and operators ----------------------------------------------------------------------

    def edit(self, name: str, change: Callable[[Any], None], *, manager: str = "kubectl") -> None:
        """Edit a `Node`, as `kubectl edit` does."""
        edit(self.playing.server, NODE, name, change, manager=manager)

    def cordon(self, name: str, *, cordoned: bool = True) -> None:
        """`kubectl cordon` and `uncordon`."""
        self.edit(name, lambda node: node["spec"].update(unschedulable=cordoned))

    def upgrade(self, name: str, state: str) -> None:
        """The label of NVIDIA's operator."""

        def change(node: Any) -> None:
            node["metadata"].setdefault("labels", {})[UPGRADE] = state

        self.edit(name, change, manager="gpu-operator")

    async def say(self, name: str, node: str, *, kind: str = "safety") -> None:
        """A hold or a freeze of a person, in force."""
        overlay = {
            "apiVersion": OVERLAY.api_version, "kind": OVERLAY.kind,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "site": "lab", "kind": kind, "node": node, "owner": "ann",
                "reason": "hands in it", "since": "2026-11-01T10:00:00Z",
                **({"expires": "2036-11-01T10:00:00Z"} if kind == "freeze" else {}),
            },
        }  # fmt: skip
        await self.playing.kubectl.create(OVERLAY, overlay)

        async def is_in_force() -> bool:
            return (await self.playing.told(OVERLAY, name)).get("Ready", ("",))[0] == "True"

        await self.playing.until(is_in_force)

    async def release(self, name: str) -> None:
        """Its owner ends a hold."""
        order = {
            "apiVersion": ORDER.api_version, "kind": ORDER.kind,
            "metadata": {"name": f"release-{name}", "namespace": NAMESPACE},
            "spec": {
                "site": "lab", "kind": "release", "target": name, "by": "ann",
                "at": "2026-11-01T11:00:00Z",
            },
        }  # fmt: skip
        await self.playing.kubectl.create(ORDER, order)

    def once_kept(self, node: str, action: Action, then: Callable[[], None]) -> None:
        """Have something happen when an attempt is durable, before it leaves."""
        line = next(line for one, line in self.controllers.values() if one.elector.is_live())

        def after(call: Call) -> None:
            if call.kind != STATE_SHARD or not call.writes or not line.faults.after:
                return
            kept = self.store.remedy(node)
            if kept is not None and any(
                a.action is action and a.outcome is Outcome.OPEN for a in kept.attempts
            ):
                line.faults.after = None
                then()

        line.faults.after = after

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

    async def order(self, order: str, kind: str, target: str, **more: Any) -> None:
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
        """A tenant's pod that runs on a node; with no controller nobody makes it again."""
        made: dict[str, Any] = {
            "apiVersion": SET.api_version, "kind": controller,
            "metadata": {"name": f"of-{name}", "namespace": "tenants"},
        }  # fmt: skip
        owner = self.playing.server.create(SET, made, manager="tenant") if controller else None
        self.playing.server.create(
            POD,
            {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": "tenants", "labels": {"app": name, **labels},
                    "ownerReferences": [
                        {"apiVersion": SET.api_version, "kind": controller, "controller": True,
                         "name": owner.metadata.name, "uid": owner.metadata.uid}
                    ] if owner else [],
                },
                "spec": {"nodeName": node, "containers": [{"name": "work"}]},
            },
            manager="scheduler",
        )  # fmt: skip

        def runs(pod: Any) -> None:
            pod["status"] = {
                "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            }  # fmt: skip

        edit(
            self.playing.server, POD, f"tenants/{name}", runs, manager="kubelet",
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

    def keep_up(self, name: str) -> None:
        """A budget that lets none of the pods of a name go."""
        self.put_budget(name, {"app": name})

    def resets(self, name: str) -> list[str]:
        """What its BMC was asked for."""
        return self.hall[name].bmc.resets

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
    looks_s: float = limits.GPU_LOOK_S,
    profile: Profile = DELL,
) -> None:
    """Play a case; agents look so often, and at once where something happens to their host."""

    async def whole(playing: Playing) -> None:
        floor = Floor(playing, files or declared(), looks_s=looks_s, profile=profile)
        try:
            await case(floor)
        finally:
            await floor.close()

    play(tmp_path, whole)
