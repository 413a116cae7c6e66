"""Objects of a site beside the in-memory API server: what it will never take is asked for once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from control_plane.core.cluster import Rejected
from control_plane.core.memory import Memory, Pin
from control_plane.core.world import World
from control_plane.kube.cache import Cache
from control_plane.kube.kinds import GPU_NODE, MINER, RACK, SITE
from control_plane.kube.projector import Projector
from control_plane.kube.reflector import Reflector
from control_plane.kube.writer import StatusWriter
from control_plane.simulator.api_client import ApiFaults, Call
from control_plane.simulator.virtual import seeded
from tests.kube.running import PLACE, Around, around, beside, no_bug
from tests.kube.snapshots import converged, lab, snapshot

LAB = lab()
FIRST, UNPINNED = "lab-r1-s1", "lab-r1-s2"
_ALL = converged(LAB)
WORLD = msgspec.structs.replace(
    _ALL, memories={a: m for a, m in _ALL.memories.items() if a != UNPINNED}
)
PINNED = set(WORLD.memories)


@dataclass(kw_only=True)
class Showing:
    """A projector, and the specs that it sent, by kind."""

    a: Around
    projector: Projector
    caches: dict[str, Cache]
    sent: Counter[str] = field(default_factory=Counter)

    async def passes(self, count: int, world: World = WORLD) -> None:
        seen = snapshot(LAB, world)
        for _ in range(count):
            await self.projector.show(seen)
            await asyncio.sleep(5)

    def names(self, kind: str) -> set[str]:
        return {one.metadata.name for one in self.caches[kind]}


@contextlib.asynccontextmanager
async def showing(a: Around) -> AsyncIterator[Showing]:
    kinds = (SITE, RACK, MINER, GPU_NODE)
    caches = {kind.plural: Cache(kind, bug=no_bug) for kind in kinds}
    reflectors = [
        Reflector(a.client, cache, clock=a.clock, rng=seeded(n), bug=no_bug)
        for n, cache in enumerate(caches.values())
    ]
    writer = StatusWriter(
        a.client, caches.values(), manager="gridplane", clock=a.clock, rng=seeded(9), bug=no_bug
    )
    projector = Projector(
        a.client, caches, writer, namespace=PLACE, clock=a.clock, may_write=lambda: True
    )
    s = Showing(a=a, projector=projector, caches=caches)

    def note(call: Call) -> None:
        if call.verb == "apply" and not call.subresource:
            s.sent[call.kind.plural] += 1

    a.client.faults = ApiFaults(before=note)
    async with beside(writer.run(), *(reflector.run() for reflector in reflectors)):
        for reflector in reflectors:
            await reflector.synced.wait()
        yield s


def test_a_spec_that_will_never_be_taken_is_sent_once_and_the_others_stand() -> None:
    async def case(a: Around) -> None:
        async with showing(a) as s:
            a.server.undeclared = {".spec.pin"}
            await s.passes(5)
            assert s.sent["miners"] == len(PINNED) + 1, "each once, in five passes"
            assert s.names("miners") == {UNPINNED}
            assert s.names("racks"), "kinds that have nothing to do with it stand"
            assert s.projector.refused == len(PINNED)
            assert ".spec.pin: field not declared in schema" in s.projector.trouble

    around(case)


def test_a_spec_is_sent_again_once_it_is_another_one() -> None:
    async def case(a: Around) -> None:
        async with showing(a) as s:
            a.server.undeclared = {".spec.pin"}
            await s.passes(2)
            a.server.undeclared = set()
            s.sent.clear()
            pin = Pin(mac="02:00:00:00:00:01", serial=None, source="bob")
            memories = {**WORLD.memories, FIRST: Memory(asset=FIRST, pin=pin)}
            await s.passes(3, msgspec.structs.replace(WORLD, memories=memories))
            assert s.sent == {"miners": 1}
            assert s.names("miners") == {UNPINNED, FIRST}
            assert s.projector.refused == len(PINNED) - 1

    around(case)


def test_a_role_that_is_missing_is_asked_about_again() -> None:
    async def case(a: Around) -> None:
        async with showing(a) as s:

            def refuse(call: Call) -> None:
                if call.verb == "apply" and call.kind == MINER:
                    s.sent["refused"] += 1
                    raise Rejected("403 Forbidden: miners")

            a.client.faults = ApiFaults(before=refuse)
            await s.passes(2)
            assert s.sent["refused"] == 2 * (len(PINNED) + 1)
            assert s.projector.refused == 0
            a.client.faults = ApiFaults()
            await s.passes(2)
            assert FIRST in s.names("miners")
            assert s.projector.trouble == ""

    around(case)
