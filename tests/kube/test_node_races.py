"""Drains under all that may happen at once, from seeds: what must never be is looked for after each."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from control_plane.core.cluster import PDB, POD, ClusterAway, Object
from control_plane.core.errors import FenceLost
from control_plane.core.node_drain import Draining, DrainState
from control_plane.core.node_hold import CORDON, TAINT, hold_in, missing_in
from control_plane.core.node_pods import Pod, pod_in
from control_plane.kube.node_hold import HoldState
from control_plane.simulator.api_client import Call
from control_plane.simulator.api_pods import status_of
from tests.kube.nodes import CAREFUL, FORCEFUL, JOBS, REPAIR, Hall, hall, held, pod_body, started

SEEDS = 150
APP = {"app": "train"}
LEAST = 3
"""Of the tenants' pods that have to be ready."""


class World:
    """A node with a tenant's pods, a person, an API server that stumbles, and leaders that come and go."""

    def __init__(self, h: Hall, chance: random.Random) -> None:
        self.h, self.chance = h, chance
        self.forced = False
        self.lifted = False
        """Whether somebody let pods come to the node, while it was held."""
        self.persons = False
        """Whether a person cordoned it before anybody held it."""
        self.wrong: list[str] = []
        self.made = 0
        self.theirs: set[str] = set()
        """Taints of others."""
        self.tasks: set[asyncio.Task[object]] = set()

    # --- what there is ---------------------------------------------------------------------------

    def pods(self, node: str) -> list[Pod]:
        page = self.h.server.list_page(
            POD, lambda _each: True, limit=10_000, page="", says_remaining=False
        )
        bound = f'"nodeName":"{node}"'.encode()
        return [pod_in(pod) for pod in page.items if bound in bytes(pod.spec).replace(b" ", b"")]

    def ready(self) -> int:
        page = self.h.server.list_page(
            POD, lambda _each: True, limit=10_000, page="", says_remaining=False
        )
        return sum(
            status_of(pod).is_ready
            and not pod.metadata.deletion_timestamp
            and pod.metadata.labels == APP
            for pod in page.items
        )

    # --- what is watched -------------------------------------------------------------------------

    def sees(self, call: Call) -> None:
        """Each request before the server does."""
        if call.verb == "delete" and not self.forced:
            self.wrong.append(f"{call.name} was deleted past its budget")
        if call.writes and not self.h.leads:
            self.wrong.append(f"{call.verb} {call.name} without the fence")
        if self.chance.random() < 0.05:
            raise ClusterAway("500: etcd is slow")

    def after(self, call: Call) -> None:
        """Each request that was done; the answer may be lost."""
        if call.verb == "evict" and self.ready() < LEAST:
            self.wrong.append(f"only {self.ready()} are ready after {call.name} was evicted")
        if self.chance.random() < 0.05:
            raise ClusterAway("the line broke")

    def judge(self, done: Draining) -> None:
        """What a drain says of itself."""
        if done.state is DrainState.DRAINED:
            left = [p.key for p in self.pods("n1") if p.controller == "ReplicaSet"]
            if left:
                self.wrong.append(f"drained, and {left} is there")
            if done.evidence is None or done.evidence.uid != self.h.node().uid:
                self.wrong.append("drained without evidence")
            lost = {TAINT, CORDON} & set(missing_in(self.h.node()))
            if lost:
                self.wrong.append(f"drained without {lost}")

    # --- what happens ----------------------------------------------------------------------------

    def again(self, gone: Object) -> None:
        """A controller makes another pod for one that has ended; it is ready after a while."""
        if gone.metadata.labels != APP:
            return
        self.made += 1
        node = "n1" if self.chance.random() < 0.2 and not self.h.node().is_cordoned else "n2"
        body = pod_body(f"t{self.made}", JOBS, node, labels=APP, grace_s=self.chance.randint(1, 40))
        self.beside(self.start(body))

    async def start(self, body: dict[str, object]) -> object:
        await asyncio.sleep(self.chance.uniform(0.0, 30.0))
        return await started(self.h.another(), body)

    def beside(self, coro: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(coro)
        self.tasks.add(task)

    async def disturb(self) -> None:
        """A person and a weak network, for ever."""
        h, chance = self.h, self.chance
        while True:
            await asyncio.sleep(chance.uniform(1.0, 60.0))
            match chance.randrange(6):
                case 0:
                    if hold_in(h.node()) is not None and chance.random() < 0.3:
                        h.cordon(whether=False)
                        self.lifted = True
                case 1:
                    key = f"example.com/{len(self.theirs)}"
                    h.taint("n1", {"key": key, "effect": "NoSchedule"})
                    self.theirs.add(key)
                case 2:
                    h.client.faults.away = chance.choice(["refused", "silent"])
                    await asyncio.sleep(chance.uniform(1.0, 90.0))
                    h.client.faults.away = ""
                case 3:
                    h.leads = False
                    await asyncio.sleep(chance.uniform(0.1, 20.0))
                    h.leads = True
                case 4:
                    h.rest.stops_s = chance.uniform(0.1, 40.0)
                case _:
                    h.client.faults.latency_s = (0.0, chance.uniform(0.0, 2.0))


async def live(h: Hall, seed: int) -> World:
    chance = random.Random(seed)
    world = World(h, chance)
    await h.have("n1", "n2")
    count = chance.randint(LEAST, 8)
    for number in range(count):
        node = "n1" if chance.random() < 0.7 else "n2"
        await h.pod(f"p{number}", node, labels=APP, grace_s=chance.randint(1, 60))
    await h.pod("exporter", owner="DaemonSet")
    await h.budget("b1", minAvailable=LEAST)
    h.rest.gone = world.again
    if chance.random() < 0.3:
        h.cordon()
        world.persons = True
    await asyncio.sleep(2.0)
    h.client.faults.before, h.client.faults.after = world.sees, world.after
    world.beside(world.disturb())
    unsafe = chance.random() < 0.3
    world.forced = unsafe
    policy = FORCEFUL if unsafe else CAREFUL
    for _ in range(chance.randint(1, 4)):
        with contextlib.suppress(FenceLost, ClusterAway):
            await h.holds().hold("n1", held(h.clock))
        drain = h.drain(policy, lasts_s=chance.uniform(60.0, 900.0), is_unsafe=unsafe)
        running = asyncio.ensure_future(drain.run())
        # A process may die at any moment, and the next one goes on.
        done, _ = await asyncio.wait({running}, timeout=chance.uniform(5.0, 1_500.0))
        if not done:
            running.cancel()
        with contextlib.suppress(FenceLost, asyncio.CancelledError):
            result = await running
            # What it says is of the moment at which it said so.
            if done:
                world.judge(result)
    h.client.faults.before = h.client.faults.after = None
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_whatever_happens_beside_a_drain(first: int) -> None:
    ends: list[str] = []
    for seed in range(first, first + 25):

        async def case(h: Hall, seed: int = seed) -> None:
            world = await live(h, seed)
            assert not world.wrong, f"seed {seed}: {world.wrong}"
            h.leads, h.client.faults.away = True, ""
            h.client.faults.latency_s = (0.0, 0.0)
            was = h.node()
            ended = await h.holds().release("n1", by=REPAIR)
            assert ended.state is HoldState.FREE
            now = h.node()
            keys = {taint.key for taint in now.taints}
            assert {key for key in keys if key.startswith("example.com/")} == world.theirs
            assert TAINT not in keys
            if world.persons and not world.lifted:
                assert now.is_cordoned, f"seed {seed}: a person's cordon was undone"
            if not world.persons:
                assert not now.is_cordoned, f"seed {seed}: a cordon of ours was left"
            budget = msgspec.json.decode(h.server.get(PDB, f"{JOBS}/b1").status)
            ends.append(was.annotations.get("gridplane.dev/drain-state", "none"))
            assert budget["desiredHealthy"] == LEAST

        hall(case)
    # They are not all of one kind: something was tried.
    assert {"drained", "waiting_human"} <= set(ends)
