"""A cap in Git reaches GPUs: the controller grants, the agent obeys and tells; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from control_plane.api.conditions import moment
from control_plane.core import limits
from control_plane.core.cluster import Kind
from control_plane.inventory.load import load_files
from control_plane.kube.kinds import GPU_NODE, ORDER, OVERLAY
from control_plane.simulator.gpu_hall import GpuHall
from control_plane.simulator.nvml import install
from tests.kube.gpu_agents import GpuAgents
from tests.kube.test_controller import FILES, NAMESPACE, Playing, play

NODE = "lab-g1-n1"
PROFILE = "profiles/gpu-inference.yaml"
SCALE = 20.0
BOOT_S = 20.0


def capped(watts: int) -> dict[str, bytes]:
    """The declaration with another limit of each GPU."""
    found = FILES[PROFILE].replace(b"power_limit_w: 650", f"power_limit_w: {watts}".encode())
    assert watts == 650 or found != FILES[PROFILE]
    return {**FILES, PROFILE: found}


class Node:
    """One host of the lab with GPUs, and the agent on it."""

    def __init__(self, playing: Playing) -> None:
        self._playing = playing
        stage = playing.stage
        found = load_files(FILES, sites={"lab"}).fleet
        assert found is not None
        self._hall = GpuHall(
            found.sites["lab"], playing.loop, clock=stage.site.world.clock, server=playing.server,
            network=stage.site.network, boot_s=BOOT_S,
        )  # fmt: skip
        self.machine = self._hall[NODE]
        self._agents = GpuAgents(
            {NODE: self.machine}, playing.server, clock=stage.clock, namespace=NAMESPACE
        )

    def start(self) -> None:
        one = self._agents[NODE]
        one.stopped = False
        one.look()

    async def stop(self) -> None:
        await self._agents.stop()

    async def end(self) -> None:
        await self.stop()
        self._hall.stop()

    async def reboots(self) -> None:
        """It is told to by its BMC, and is up again."""
        machine, before, up = self.machine, self.machine.boot_id, asyncio.Event()
        found: list[set[float]] = []

        def look() -> None:
            if machine.boot_id != before and machine.gpus.loaded:
                found.append(self.limits_w())
                up.set()

        machine.watchers.append(look)
        machine.bmc.reset("ForceRestart")
        await up.wait()
        machine.watchers.remove(look)
        assert found == [{700}], "what was set is gone"

    def limits_w(self) -> set[float]:
        return {gpu.limit_w for gpu in self.machine.gpus.gpus}

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
            await node.end()
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
        await node.reboots()
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
        await node.reboots()
        await node.has(650)
        told = await playing.told(GPU_NODE, NODE)
        assert told["GpusAsDeclared"][:2] == ("True", "AsDeclared"), "it was renewed meanwhile"

    on_a_site(tmp_path, act, scale=SCALE)


def test_an_error_of_a_gpu_is_told_and_passes_with_it(tmp_path: Path) -> None:
    async def act(playing: Playing, node: Node) -> None:
        await _ready(playing, "True", "AsDeclared")
        node.machine.fall_off(3)
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
