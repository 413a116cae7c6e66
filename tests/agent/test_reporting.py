"""How often the agent tells: on change, every five minutes, and every 20 s where somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from control_plane.agent.report import Sent, Turn, is_due, status_of
from control_plane.core import limits
from control_plane.core.cluster import ClusterAway
from control_plane.core.gpu import GpuSeen, GpuSettings, NodeSeen
from control_plane.core.moments import seconds_in
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml
from tests.agent.nodes import Node, on_a_node

OFTEN_S, SELDOM_S = limits.GPU_ATTENTION_S, limits.GPU_REPORT_S


def reported_s(node: Node) -> list[float]:
    """When each status was looked for."""
    times = [seconds_in(status["reportedAt"]) for status in node.told.statuses]
    return [at_s for at_s in times if at_s is not None]


async def told_in(node: Node, seconds: float) -> int:
    before = len(node.told.statuses)
    await node.wait(seconds)
    return len(node.told.statuses) - before


def test_evidence_is_told_anew_before_it_is_old() -> None:
    assert OFTEN_S * 3 <= limits.GPU_EVIDENCE_TTL_S


def test_under_attention_it_tells_every_20_s_and_not_more(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait(30)
        node.declare(gpu_w=500, attention=True)
        await node.wait(1)
        assert await told_in(node, 200) == 10
        times = reported_s(node)[-10:]
        assert {b - a for a, b in pairwise(times)} == {OFTEN_S}
        node.declare(gpu_w=500)
        await node.wait(1)
        assert await told_in(node, SELDOM_S - OFTEN_S - 10) == 0

    on_a_node(tmp_path, story)


def test_attention_is_answered_at_once_where_the_last_word_is_older(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait(100)
        node.declare(gpu_w=500, attention=True)
        assert await told_in(node, 0.1) == 1

    on_a_node(tmp_path, story)


@pytest.mark.parametrize(
    ("act", "times"),
    [
        (lambda node: node.host.fall_off(3), 10),
        (lambda node: node.host.uncorrectable(3, remap=False), 10),
        # It calls for a look alone.
        (lambda node: node.host.xid(0, 92), 0),
    ],
)
def test_an_alert_that_calls_for_more_than_a_look_is_told_as_often(
    tmp_path: Path, act: Callable[[Node], None], times: int
) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        act(node)
        await node.wait()
        assert node.told.last["alerts"]
        assert await told_in(node, 10 * OFTEN_S) == times

    on_a_node(tmp_path, story)


def test_what_fails_is_tried_again_after_a_while_and_not_at_each_look(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500, attention=True)
        await node.wait()
        node.told.error = ClusterAway("nobody answers")
        tries = node.told.tries
        await node.wait(300)
        assert node.told.tries - tries <= 10

    on_a_node(tmp_path, story)


def test_a_slow_server_is_not_asked_back_to_back(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        async def slowly() -> None:
            await node.clock.sleep(12)

        node.told.takes = slowly
        node.start()
        node.declare(gpu_w=500, attention=True)
        await node.wait(30)
        assert await told_in(node, 10 * OFTEN_S) <= 10

    on_a_node(tmp_path, story)


def test_what_is_told_is_as_old_as_the_look_that_saw_it(tmp_path: Path) -> None:
    class Hanging(HostNvml):
        looks = 0

        async def look(self, at_s: float) -> NodeSeen:
            seen = await super().look(at_s)
            self.looks += 1
            if self.looks > 3:
                await node_of.clock.sleep(1_000)
            return seen

    node_of: Node

    async def story(node: Node) -> None:
        nonlocal node_of
        node_of = node
        node.make = lambda: Hanging(NvmlLibrary(sees_all=True), deadline_s=None)
        node.start()
        node.told.error = ClusterAway("nobody answers")
        node.declare(gpu_w=500)
        await node.wait()
        looked_s = node.clock.wall_s()
        node.told.error = None
        await node.wait(60)
        assert reported_s(node)[-1] <= looked_s, "nobody has looked since"

    on_a_node(tmp_path, story)


# -- processes ------------------------------------------------------------------------------------------


def test_processes_are_counted_over_all_gpus_and_a_count_makes_no_write(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert node.told.last["processes"] == 0
        node.host.gpus[0].processes, node.host.gpus[7].processes = 2, 1
        assert await told_in(node, 6) == 1
        assert node.told.last["processes"] == 3
        for running in range(1, 30):
            node.host.gpus[0].processes = running
            assert await told_in(node, 5) == 0
        node.host.gpus[0].processes = node.host.gpus[7].processes = 0
        assert await told_in(node, 6) == 1
        assert node.told.last["processes"] == 0

    on_a_node(tmp_path, story)


def test_work_that_comes_and_goes_makes_few_writes(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        before = len(node.told.statuses)
        for look in range(60):
            node.host.gpus[0].processes = look % 2
            await node.wait(5)
        assert 60 * 5 / OFTEN_S - 2 <= len(node.told.statuses) - before <= 2 * 60 * 5 / OFTEN_S

    on_a_node(tmp_path, story)


def test_a_gpu_that_cannot_be_asked_leaves_the_node_unknown_unless_work_is_seen(
    tmp_path: Path,
) -> None:
    async def story(node: Node) -> None:
        node.host.refuses = {3}
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert "processes" not in node.told.last
        node.host.gpus[0].processes = 1
        await node.wait(OFTEN_S + 5)
        assert node.told.last["processes"] == 1
        node.host.mismatch, node.host.life = True, node.host.life + 1
        await node.wait(30)
        assert node.told.condition("GpusReadable") == ("False", "Mismatch")
        assert "processes" not in node.told.last

    on_a_node(tmp_path, story)


def test_in_a_pod_memory_tells_that_nobody_works_and_of_work_nobody_sees(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        node.host.shows_others = False
        node.make = lambda: HostNvml(NvmlLibrary(), deadline_s=None)
        node.start()
        node.declare(gpu_w=500)
        await node.wait()
        assert node.told.last["processes"] == 0
        node.host.gpus[5].processes = 1
        assert await told_in(node, 6) == 1
        assert "processes" not in node.told.last, "taken back at once"
        for running in range(2, 9):
            node.host.gpus[5].processes = running
            assert await told_in(node, 5) == 0, "how much it is, is nobody's business"
        node.host.gpus[5].processes = 0
        await node.wait(OFTEN_S + 5)
        assert node.told.last["processes"] == 0

    on_a_node(tmp_path, story)


def a_gpu(index: int = 0, **seen: Any) -> GpuSeen:
    return GpuSeen(index=index, **seen)


IDLE, BUSY = limits.GPU_IDLE_MIB - 1, limits.GPU_IDLE_MIB
FREE = a_gpu(1, memory_used_mib=0)


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        ((), None),
        ((FREE,), 0),
        ((FREE, a_gpu(memory_used_mib=IDLE)), 0),
        ((FREE, a_gpu(memory_used_mib=BUSY)), None),
        ((FREE, a_gpu()), None),
        # A count of none that memory does not bear out is none: graphics and what is hidden hold it too.
        ((FREE, a_gpu(processes=0)), 0),
        ((FREE, a_gpu(processes=0, memory_used_mib=IDLE)), 0),
        ((FREE, a_gpu(processes=0, memory_used_mib=BUSY)), None),
        # A process that is seen is one, whatever memory says.
        ((FREE, a_gpu(processes=2, memory_used_mib=0)), 2),
        ((FREE, a_gpu(processes=2), a_gpu(2)), 2),
        # Partitioned: neither says anything of the parts, and what is seen is seen.
        ((FREE, a_gpu(memory_used_mib=0, processes=0, settings=GpuSettings(mig=True))), None),
        ((FREE, a_gpu(processes=3, settings=GpuSettings(mig=True))), 3),
        ((FREE, a_gpu(memory_used_mib=0, settings=GpuSettings(mig=False))), 0),
        # One that is gone runs nothing; of one that is kept from us nobody knows; all gone: nobody looked.
        ((FREE, a_gpu(lost=True)), 0),
        ((FREE, a_gpu(lost=True), a_gpu(2, memory_used_mib=BUSY)), None),
        ((FREE, a_gpu(lost=True, refused=True)), None),
        ((a_gpu(lost=True), a_gpu(1, lost=True)), None),
    ],
)
def test_none_is_told_only_where_each_gpu_that_answers_is_known_to_have_none(
    gpus: tuple[GpuSeen, ...], told: int | None
) -> None:
    turn = Turn(seen=NodeSeen(at_s=0.0, gpus=gpus))
    assert status_of(turn, {}, generation=1, now_s=0.0).get("processes") == told


def sent(at_s: float, processes: int | None, **more: Any) -> Sent:
    status = {"driver": "595.91.07", **more}
    return Sent(
        uid="u-1",
        at_s=at_s,
        status=status if processes is None else {**status, "processes": processes},
    )


@pytest.mark.parametrize(
    ("was", "now", "after_s", "due"),
    [
        (0, 0, 19.0, False),
        (0, 1, 0.1, True),
        (0, None, 0.1, True),
        (1, 0, 19.9, False),
        (1, 0, OFTEN_S, True),
        (1, 5, 299.0, False),
        (1, 5, SELDOM_S, True),
        (1, None, 19.9, False),
        (1, None, OFTEN_S, True),
        (None, 1, 19.9, False),
        (None, 1, OFTEN_S, True),
        (None, 0, OFTEN_S, True),
        (None, None, 299.0, False),
        # A clock that was set back.
        (1, 1, -1.0, True),
    ],
)
def test_when_a_count_alone_is_worth_a_write(
    was: int | None, now: int | None, after_s: float, *, due: bool
) -> None:
    before = sent(1_000.0, was)
    status = sent(0.0, now).status
    assert is_due("u-1", status, before, at_s=1_000.0 + after_s, often=False) is due


def test_anything_else_is_told_at_once_and_a_new_object_too() -> None:
    before = sent(1_000.0, 0)
    other = {**before.status, "driver": "610.57.04"}
    assert is_due("u-1", other, before, at_s=1_001.0, often=False)
    assert is_due("u-2", before.status, before, at_s=1_001.0, often=False)
    assert is_due("u-1", before.status, None, at_s=1_001.0, often=False)
