"""Agents on simulated GPU hosts, beside the API server twin, in virtual time.

    agents = GpuAgents(hall, server, clock=clock, namespace=NAMESPACE)    # one on each host
    ...
    await agents.stop()                                                   # raises what an agent died of

An agent is a pod: it ends with the kernel or the kubelet of its host, and starts with the next one; what it
keeps is on the host's disk. With `looks_s` far above `GPU_LOOK_S` a hall of hundreds is affordable: whatever
happens to a host has its agent look at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from control_plane.agent.following import Contact, Follower, Own
from control_plane.agent.kept import NOTHING, Kept, KeptFile
from control_plane.agent.loop import Agent, StaleLibrary
from control_plane.api.objects import GpuNodeSpec
from control_plane.core import limits
from control_plane.core.cluster import Event, Object
from control_plane.core.fleet import DeviceKind, Site
from control_plane.core.ports import Clock
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml
from control_plane.kube.kinds import GPU_NODE
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.gpu_host import GpuMachine
from control_plane.simulator.nvml import FakeLibrary, install
from control_plane.simulator.virtual import seeded

MANAGER = "gridplane-node-agent"
START_S = 5.0
"""From a kubelet to the agent's container."""
RESTART_S = 10.0
"""From a container that ended to the next."""


class Line:
    """What an agent asks of the API server, over the twin."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client, self._namespace = client, namespace

    async def of_node(self, node: str) -> tuple[tuple[Object, ...], str]:
        page = await self._client.list_page(
            GPU_NODE, namespace=self._namespace, fields=f"spec.nodeName={node}"
        )
        return page.items, page.resource_version

    async def watch(self, node: str, version: str) -> AsyncGenerator[Event, None]:
        async for event in self._client.watch(
            GPU_NODE, resource_version=version, namespace=self._namespace,
            fields=f"spec.nodeName={node}",
        ):  # fmt: skip
            yield event

    async def write_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        body = {
            "apiVersion": GPU_NODE.api_version, "kind": GPU_NODE.kind,
            "metadata": {"name": name, "namespace": self._namespace, "uid": uid}, "status": status,
        }  # fmt: skip
        await self._client.apply(GPU_NODE, body, manager=MANAGER, subresource="status")


class Disk(KeptFile):
    """What an agent keeps, on a simulated host's disk."""

    def __init__(self) -> None:
        super().__init__(Path("kept.json"))
        self._data = b""

    def read(self) -> Kept:
        return msgspec.json.decode(self._data, type=Kept) if self._data else NOTHING

    def write(self, kept: Kept) -> None:
        self._data = msgspec.json.encode(kept)


class HostAgent:
    """The agent of one host, whenever there is one."""

    def __init__(
        self, host: GpuMachine, library: FakeLibrary, client: ApiClient, *,
        clock: Clock, namespace: str, looks_s: float,
    ) -> None:  # fmt: skip
        self.host, self.client, self.disk = host, client, Disk()
        self.agent: Agent | None = None
        """The one that runs."""
        self.said: list[str] = []
        self.died: list[BaseException] = []
        """What it ended by, and should not have."""
        self.stopped = False
        """Whether somebody took it away: set it, and call `look`."""
        self._library, self._clock = library, clock
        self._line, self._looks_s = Line(client, namespace), looks_s
        self._heard: tuple[Contact, Own | None] = (Contact.NONE, None)
        self._task: asyncio.Task[None] | None = None
        self._life = ""
        # It has a PID namespace of its own, and the driver hides from it who is in another one.
        host.gpus.shows_others = False
        host.watchers.append(self.look)
        self.look()

    def look(self) -> None:
        """The host may be another one than before."""
        is_there = self.host.runs_pods and not self.stopped
        life = self.host.boot_id if is_there else ""
        if life != self._life:
            self._life = life
            if self._task is not None:
                self._task.cancel()
            self.agent = None
            self._task = asyncio.ensure_future(self._run()) if life else None
        elif self.agent is not None:
            self.agent.heard(*self._heard)

    async def end(self) -> None:
        """For good."""
        self.stopped = True
        task = self._task
        self.look()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await self._clock.sleep(START_S)
        while True:
            try:
                await self._once()
            except StaleLibrary as error:
                self.said.append(str(error))
            except Exception as error:
                self.died.append(error)
                raise
            await self._clock.sleep(RESTART_S)

    async def _once(self) -> None:
        nvml = NvmlLibrary(before=lambda: self._library.turn_to(self.host.gpus))
        agent = Agent(
            HostNvml(nvml, deadline_s=None), self._line, self.disk, clock=self._clock,
            boot=lambda: self.host.boot_id, say=self.said.append, interval_s=self._looks_s,
        )  # fmt: skip

        def told(contact: Contact, own: Own | None) -> None:
            self._heard = contact, own
            agent.heard(contact, own)

        follower = Follower(
            self._line, self.host.name, told=told, say=self.said.append, clock=self._clock,
            rng=seeded(self.host.name),
        )  # fmt: skip
        both = [asyncio.ensure_future(agent.run()), asyncio.ensure_future(follower.run())]
        self.agent = agent
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                if task.done():
                    task.result()
        finally:
            if self.agent is agent:
                self.agent = None
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


class GpuAgents(Mapping[str, HostAgent]):
    """Host → its agent."""

    def __init__(
        self,
        hosts: Mapping[str, GpuMachine],
        server: ApiServer,
        *,
        clock: Clock,
        namespace: str,
        looks_s: float = limits.GPU_LOOK_S,
        library: FakeLibrary | None = None,
    ) -> None:
        """They start; the library is put behind `pynvml` unless one is handed over that is there already."""
        if library is None:
            library = FakeLibrary()
            install(library)
        self._all = {
            name: HostAgent(
                host, library, ApiClient(server, clock, manager=MANAGER), clock=clock,
                namespace=namespace, looks_s=looks_s,
            )
            for name, host in hosts.items()
        }  # fmt: skip

    def __getitem__(self, name: str) -> HostAgent:
        return self._all[name]

    def __iter__(self) -> Any:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    async def stop(self) -> None:
        """End them all."""
        with contextlib.suppress(asyncio.CancelledError):
            for one in self._all.values():
                await one.end()
        died = [error for one in self._all.values() for error in one.died]
        if died:
            raise died[0]


def declare(server: ApiServer, site: Site, namespace: str, names: Iterable[str] = ()) -> None:
    """`GpuNode`s, as a controller that grants nothing writes them; of all, or of these."""
    wanted = set(names)
    for device in site.devices:
        if device.type.kind is not DeviceKind.GPU_NODE or (wanted and device.asset not in wanted):
            continue
        spec = GpuNodeSpec(
            site=device.site, rack=device.rack, node_name=device.asset, bmc=device.bmc,
            gpus=device.type.gpus or None,
        )  # fmt: skip
        body = {
            "apiVersion": GPU_NODE.api_version, "kind": GPU_NODE.kind,
            "metadata": {"name": device.asset, "namespace": namespace},
            "spec": msgspec.to_builtins(spec),
        }  # fmt: skip
        server.apply(GPU_NODE, body, manager="gridplane", force=True, subresource="")
