"""A cap in Git reaches GPUs: the controller grants, the agent obeys and tells; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from control_plane.agent.following import Follower
from control_plane.agent.kept import KeptFile
from control_plane.agent.loop import Agent
from control_plane.api.conditions import moment
from control_plane.core import limits
from control_plane.core.cluster import Event, Kind, Object
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml
from control_plane.kube.kinds import GPU_NODE, ORDER, OVERLAY
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.gpus import GpuHost
from control_plane.simulator.nvml import FakeLibrary, install
from tests.kube.test_controller import FILES, NAMESPACE, Playing, play

NODE = "lab-g1-n1"
PROFILE = "profiles/gpu-inference.yaml"
SCALE = 20.0
MANAGER = "gridplane-node-agent"


def capped(watts: int) -> dict[str, bytes]:
    """The declaration with another limit of each GPU."""
    found = FILES[PROFILE].replace(b"power_limit_w: 650", f"power_limit_w: {watts}".encode())
    assert watts == 650 or found != FILES[PROFILE]
    return {**FILES, PROFILE: found}


class Line:
    """What an agent asks of the API server, over the twin."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def of_node(self, node: str) -> tuple[tuple[Object, ...], str]:
        page = await self._client.list_page(GPU_NODE, namespace=NAMESPACE)
        return tuple(one for one in page.items if _is_of(one, node)), page.resource_version

    async def watch(self, node: str, version: str) -> AsyncGenerator[Event, None]:
        async for event in self._client.watch(
            GPU_NODE, resource_version=version, namespace=NAMESPACE
        ):
            if event.type == "BOOKMARK" or _is_of(event.object, node):
                yield event

    async def write_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        body = {
            "apiVersion": GPU_NODE.api_version, "kind": GPU_NODE.kind,
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid}, "status": status,
        }  # fmt: skip
        await self._client.apply(GPU_NODE, body, manager=MANAGER, subresource="status")


def _is_of(one: Object, node: str) -> bool:
    return bool(msgspec.json.decode(one.spec)["nodeName"] == node)


class Node:
    """One host with GPUs, and the agent's process on it."""

    def __init__(self, playing: Playing) -> None:
        self._playing = playing
        clock = playing.stage.clock
        self.host = GpuHost("h200", now_s=clock.wall_s)
        self._tasks: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        playing, clock = self._playing, self._playing.stage.clock
        install(FakeLibrary(self.host))
        line = Line(ApiClient(playing.server, clock, manager=MANAGER))
        agent = Agent(
            HostNvml(NvmlLibrary(sees_all=True), deadline_s=None), line,
            KeptFile(playing.folder / "kept.json"),
            clock=clock, boot=lambda: f"boot-{self.host.boots}", say=playing.said.append,
        )  # fmt: skip
        follower = Follower(
            line,
            NODE,
            told=agent.heard,
            say=playing.said.append,
            clock=clock,
            rng=playing.stage.rng,
        )
        self._tasks = [asyncio.ensure_future(agent.run()), asyncio.ensure_future(follower.run())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def limits_w(self) -> set[float]:
        return {gpu.limit_w for gpu in self.host.gpus}

    async def has(self, watts: float) -> None:
        async def is_so() -> bool:
            return self.limits_w() == {watts}

        await self._playing.until(is_so)


def on_a_site(
    tmp_path: Path,
    act: Callable[[Playing, Node], Awaitable[None]],
    mode: str = "enforce",
    scale: float = 1.0,
) -> None:
    async def whole(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        await playing.declare(FILES, mode=mode)
        node = Node(playing)
        try:
            await act(playing, node)
        finally:
            await node.stop()
            serving.cancel()

    try:
        play(tmp_path, whole, scale=scale)
    finally:
        install(None)


async def _said(playing: Playing, kind: Kind, name: str, spec: dict[str, str]) -> None:
    """`kubectl create`."""
    metadata = {"name": name, "namespace": NAMESPACE}
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
    await playing.kubectl.create(kind, body)


async def _ready(playing: Playing, status: str, reason: str) -> None:
    async def is_told() -> bool:
        return (await playing.told(GPU_NODE, NODE)).get("Ready", ("", ""))[:2] == (status, reason)

    await playing.until(is_told)


def test_a_cap_that_changes_in_git_is_enforced_and_again_after_a_reboot(tmp_path: Path) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await node.has(650)
        await _ready(playing, "True", "AsDeclared")
        await playing.declare(capped(500), mode="enforce")
        await node.has(500)
        node.host.reboot()
        assert node.limits_w() == {700}
        await node.has(500)
        await playing.declare(capped(600), mode="enforce")
        await node.has(600)
        await _ready(playing, "True", "AsDeclared")

    on_a_site(tmp_path, act)


def test_a_site_that_is_only_observed_writes_to_no_gpu(tmp_path: Path) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await _ready(playing, "True", "AsDeclared")
        assert node.limits_w() == {700}

    on_a_site(tmp_path, act, mode="observe")


def test_a_grant_goes_on_while_the_controller_lives_and_caps_when_it_is_gone(
    tmp_path: Path,
) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await node.has(650)
        await playing.stage.clock.sleep(2 * limits.GPU_GRANT_S)
        node.host.reboot()
        await node.has(650)
        told = await playing.told(GPU_NODE, NODE)
        assert told["GpusAsDeclared"][:2] == ("True", "AsDeclared"), "it was renewed meanwhile"

    on_a_site(tmp_path, act, scale=SCALE)


def test_an_error_of_a_gpu_is_told_and_passes_with_it(tmp_path: Path) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await _ready(playing, "True", "AsDeclared")
        node.host.fall_off(3)
        node.host.xid(3, 79)
        await _ready(playing, "False", "GpuLost")
        found = await playing.get(GPU_NODE, NODE)
        assert found is not None
        alerts = msgspec.json.decode(found.status)["alerts"]
        assert {("gpu_lost", "reboot"), ("xid", "reboot")} <= {
            (a["kind"], a["rung"]) for a in alerts
        }

    on_a_site(tmp_path, act)


def test_a_hold_lets_limits_go_down_and_never_up(tmp_path: Path) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await node.has(650)
        since = moment(playing.stage.clock.wall_s()).isoformat()
        hold = {
            "site": "lab", "kind": "maintenance", "node": NODE, "owner": "ann", "reason": "bench",
            "since": since,
        }  # fmt: skip
        await _said(playing, OVERLAY, "bench", hold)
        await asyncio.sleep(30)
        await playing.declare(capped(500), mode="enforce")
        await node.has(500)
        await playing.declare(capped(600), mode="enforce")
        await asyncio.sleep(300)
        assert node.limits_w() == {500}
        release = {"site": "lab", "kind": "release", "target": "bench", "by": "ann", "at": since}
        await _said(playing, ORDER, "done", release)
        await node.has(600)

    on_a_site(tmp_path, act)


def test_an_agent_that_dies_leaves_the_cap_and_is_missed(tmp_path: Path) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await node.has(650)
        await node.stop()
        assert node.limits_w() == {650}
        await _ready(playing, "Unknown", "AgentSilent")
        node.start()
        await _ready(playing, "True", "AsDeclared")

    on_a_site(tmp_path, act, scale=SCALE)
