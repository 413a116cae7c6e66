"""The runtime's parts do with a real API server what they do with the one in memory."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, Object
from control_plane.engine.queue import Priority
from control_plane.kube.cache import Cache
from control_plane.kube.elector import Elector
from control_plane.kube.lease import LEASE, LeaseSpec, body_of, spec_of
from control_plane.kube.reflector import Reflector
from control_plane.kube.writer import StatusWriter
from control_plane.simulator.virtual import VirtualClock, seeded
from tests.kube.running import Told, beside, no_bug, until
from tests.kube.sides import OURS, body, both

MINER = OURS["Miner"]
SPEC = {"site": "lab", "rack": "r1", "slot": 1}
CONDITION = {
    "type": "Ready", "status": "True", "reason": "Converged", "observedGeneration": 1,
    "lastTransitionTime": "2026-11-25T00:00:00Z",
}  # fmt: skip


def the_clock() -> VirtualClock:
    """The loop's own time, whichever loop it is."""
    return VirtualClock(asyncio.get_running_loop())


def reflector_of(cluster: Cluster, cache: Cache, namespace: str) -> Reflector:
    return Reflector(
        cluster, cache, clock=the_clock(), rng=seeded(1), bug=no_bug, namespace=namespace
    )


@both
async def test_a_cache_follows_and_knows_own_writes(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(MINER, body(MINER, "m1", namespace, spec=SPEC))
    cache = Cache(MINER, bug=no_bug)
    told, reflector = Told(cache), reflector_of(cluster, cache, namespace)
    async with beside(reflector.run()):
        await reflector.synced.wait()
        assert {key: each.metadata for key, each in told.objects.items()} == {
            made.key: made.metadata
        }
        moved = body(MINER, "m1", namespace, spec=SPEC | {"slot": 2})
        for _ in range(3):
            written = await cluster.apply(MINER, moved, manager="gridplane")
            cache.wrote(written)
            await until(lambda: not cache.is_behind(made.key))
            now = cache.get(made.key)
            assert now is not None
            assert now.metadata.resource_version == written.metadata.resource_version
        await cluster.delete(MINER, "m1", namespace=namespace)
        await until(lambda: not told.objects)
        assert (reflector.lists, reflector.errors) == (1, 0)


@both
async def test_a_lease_goes_from_hand_to_hand(cluster: Cluster, namespace: str) -> None:
    meta = {"name": "controller", "namespace": namespace}
    await cluster.create(LEASE, body_of(LeaseSpec(lease_transitions=6), meta))

    def candidate(identity: str) -> Elector:
        return Elector(
            cluster, namespace=namespace, name="controller", identity=identity,
            clock=the_clock(), rng=seeded(identity), bug=no_bug,
        )  # fmt: skip

    async def stands() -> LeaseSpec:
        return spec_of(await cluster.get(LEASE, "controller", namespace=namespace))

    first, second = candidate("a"), candidate("b")
    async with beside(second.run()):
        async with beside(first.run()):
            await until(lambda: first.is_live() or second.is_live())
            holder, other = (first, second) if first.is_live() else (second, first)
            assert (holder.fence, other.fence) == (7, None)
            await asyncio.sleep(3)
            spec = await stands()
            assert (spec.holder_identity, spec.lease_transitions) == (holder.holder, 7)
            assert spec.lease_duration_seconds == limits.LEASE_DURATION_S
            assert (spec.renew_time or "") > (spec.acquire_time or "") > ""
            assert (holder.errors, other.errors) == (0, 0)
        if holder is second:
            return
        await first.release()
        began_s = asyncio.get_running_loop().time()
        await until(second.is_live)
        assert asyncio.get_running_loop().time() - began_s < 1.0
        assert second.fence == 8
    await second.release()
    assert (await stands()).holder_identity is None


@both
async def test_a_status_gets_to_its_object_and_to_no_other(
    cluster: Cluster, namespace: str
) -> None:
    for name in ("m1", "m2"):
        await cluster.create(MINER, body(MINER, name, namespace, spec=SPEC))
    cache = Cache(MINER, bug=no_bug)
    reflector = reflector_of(cluster, cache, namespace)
    writer = StatusWriter(
        cluster, [cache], manager="gridplane-status", clock=the_clock(), rng=seeded(2), bug=no_bug
    )

    async def status(name: str) -> object:
        return msgspec.json.decode((await cluster.get(MINER, name, namespace=namespace)).status)

    def cached(name: str) -> Object:
        found = cache.get(f"{namespace}/{name}")
        assert found is not None
        return found

    wanted = {"observedGeneration": 1, "conditions": [CONDITION], "firmware": "v1"}
    async with beside(writer.run()):
        async with beside(reflector.run()):
            await reflector.synced.wait()
            for _ in range(3):
                writer.want(cache, cached("m1"), wanted, Priority.CHANGE)
                await until(lambda: not len(writer) and not cache.is_behind(cached("m1").key))
            assert await status("m1") == wanted
            assert (writer.requests, writer.spared) == (1, 2)
        # Nobody watches any more: the cache holds what was.
        await cluster.delete(MINER, "m1", namespace=namespace)
        await cluster.delete(MINER, "m2", namespace=namespace)
        await cluster.create(MINER, body(MINER, "m1", namespace, spec=SPEC))
        for name in ("m1", "m2"):
            writer.want(cache, cached(name), wanted | {"firmware": "v2"}, Priority.CHANGE)
        await until(lambda: len(writer.troubles) == 1 and len(writer) == 1)
        assert await status("m1") is None
        with pytest.raises(ClusterError):
            await cluster.get(MINER, "m2", namespace=namespace)
