"""A hall of simulated GPU hosts with agents on them: what happens to one is told of that one alone."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from control_plane.core import limits
from control_plane.kube.kinds import GPU_NODE
from control_plane.simulator.gpu_host import Mends
from tests.kube.gpu_agents import GpuAgents, declare
from tests.simulator.gpu_halls import Floor, lab, on_a_floor

NAMESPACE = "power"
NODE = "lab-g1-n1"


def told(floor: Floor, name: str = NODE) -> dict[str, Any]:
    """The status of its `GpuNode`."""
    found = floor.server.get(GPU_NODE, f"{NAMESPACE}/{name}")
    status: dict[str, Any] = msgspec.json.decode(found.status) or {}
    return status


def alerts(floor: Floor, name: str = NODE) -> set[tuple[str, str]]:
    return {(a["kind"], a["rung"]) for a in told(floor, name).get("alerts", ())}


def condition(floor: Floor, kind: str, name: str = NODE) -> str:
    (one,) = [c for c in told(floor, name)["conditions"] if c["type"] == kind]
    return str(one["status"])


def agents_of(floor: Floor, *, looks_s: float = limits.GPU_LOOK_S, nodes: int = 2) -> GpuAgents:
    declare(floor.server, lab(nodes), NAMESPACE)
    return GpuAgents(
        floor.hall, floor.server, clock=floor.clock, namespace=NAMESPACE, looks_s=looks_s,
        library=floor.library,
    )  # fmt: skip


def test_an_agent_tells_of_a_lost_gpu_until_the_reboot_that_mends_it() -> None:
    async def case(floor: Floor) -> None:
        agents = agents_of(floor)
        await asyncio.sleep(30)
        assert condition(floor, "GpusHealthy") == "True"
        host = floor.one
        host.fall_off(3, mends=Mends.REBOOT)
        await asyncio.sleep(11)
        assert alerts(floor) == {("gpu_lost", "reboot"), ("xid", "reboot")}
        assert not alerts(floor, "lab-g1-n2")

        reported = told(floor)["reportedAt"]
        host.bmc.reset("ForceRestart")
        await asyncio.sleep(limits.GPU_REPORT_S)
        assert told(floor)["reportedAt"] == reported, "nobody is there to tell"
        assert agents[NODE].agent is None
        await asyncio.sleep(100)
        assert told(floor)["reportedAt"] != reported
        assert not alerts(floor)
        assert condition(floor, "GpusReadable") == "True"
        await agents.stop()

    on_a_floor(case)


def test_a_gpu_that_no_reboot_mends_is_missed_after_it() -> None:
    async def case(floor: Floor) -> None:
        agents = agents_of(floor)
        await asyncio.sleep(30)
        floor.one.fall_off(3, mends=Mends.NEVER)
        await asyncio.sleep(11)
        floor.one.bmc.reset("ForceRestart")
        await asyncio.sleep(420)
        assert {kind for kind, _ in alerts(floor)} == {"gpu_missing"}
        assert floor.gpus() == "7"
        await agents.stop()

    on_a_floor(case)


def test_an_agent_that_was_taken_away_leaves_its_word_and_the_limits() -> None:
    async def case(floor: Floor) -> None:
        agents = agents_of(floor)
        await asyncio.sleep(30)
        agents[NODE].stopped = True
        agents[NODE].look()
        floor.one.fall_off(3)
        await asyncio.sleep(2 * limits.GPU_REPORT_S)
        assert not alerts(floor)
        assert floor.gpus() == "7", "the device plugin is another one"
        agents[NODE].stopped = False
        agents[NODE].look()
        await asyncio.sleep(30)
        # Xids of before it listened are not told to it: the kernel's log has them.
        assert alerts(floor) == {("gpu_lost", "reboot")}
        await agents.stop()

    on_a_floor(case)


def test_a_hall_of_512_costs_nothing_while_nothing_happens() -> None:
    async def case(floor: Floor) -> None:
        await asyncio.sleep(86_400)
        assert {host.bmc.next_s() for host in floor.hall.values()} == {None}, "nothing is due"
        assert {floor.gpus(name) for name in floor.hall} == {"8"}
        written = floor.server.version
        for host in floor.hall.values():
            host.bmc.lose_feed()
        await asyncio.sleep(60)
        assert {floor.ready(name) for name in floor.hall} == {"Unknown"}
        for host in floor.hall.values():
            host.bmc.regain_feed()
        await asyncio.sleep(600)
        assert {(floor.ready(name), floor.gpus(name)) for name in floor.hall} == {("True", "8")}
        writes = (floor.server.version - written) / len(floor.hall)
        assert writes == 5, "silence and its taint, ready, its end, GPUs"

    on_a_floor(case, nodes=512)


def test_agents_on_512_hosts_tell_of_the_one_that_is_ill() -> None:
    async def case(floor: Floor) -> None:
        agents = agents_of(floor, looks_s=limits.GPU_REPORT_S, nodes=512)
        await asyncio.sleep(60)
        assert {condition(floor, "GpusHealthy", name) for name in floor.hall} == {"True"}
        floor.hall["lab-g1-n400"].fall_off(1)
        await asyncio.sleep(2)
        assert [name for name in floor.hall if alerts(floor, name)] == ["lab-g1-n400"]
        await agents.stop()

    on_a_floor(case, nodes=512)
