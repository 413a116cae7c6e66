"""The API server in memory: what a real one cannot be made to do on demand, and the faults of the line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.core.cluster import (
    ClusterAway,
    Event,
    Exists,
    Gone,
    Kind,
    NotFound,
    Throttled,
)
from control_plane.simulator.api_client import BOOKMARK_S, DEADLINE_S, ApiClient, Call
from control_plane.simulator.api_fields import KEYED, SETS
from control_plane.simulator.api_server import COLLECT_S, PAGE_LIFE_S, ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual

ROOT = Path(__file__).resolve().parents[2]
RACK = Kind(group="gridplane.dev", version="v1alpha1", kind="Rack", plural="racks")
MINER = Kind(group="gridplane.dev", version="v1alpha1", kind="Miner", plural="miners")
ROLE = Kind(
    group="rbac.authorization.k8s.io", version="v1", kind="ClusterRole", plural="clusterroles",
    is_namespaced=False,
)  # fmt: skip


class Bench:
    """One server, one client of it, and their time."""

    def __init__(self, loop: VirtualLoop, **options: Any) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop)
        self.server = ApiServer(self.clock, **options)
        self.client = self.another()

    def another(self) -> ApiClient:
        return ApiClient(self.server, self.clock)

    async def have(self, *names: str, kind: Kind = MINER, **meta: Any) -> list[str]:
        """Make objects; their uids."""
        made = [await self.client.create(kind, thing(name, kind, **meta)) for name in names]
        return [one.metadata.uid for one in made]

    async def names(self, kind: Kind = MINER) -> list[str]:
        return [one.metadata.name for one in (await self.client.list_page(kind)).items]


def thing(name: str, kind: Kind = MINER, **meta: Any) -> dict[str, Any]:
    where = {"namespace": "one"} if kind.is_namespaced else {}
    return {
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": name, **where, **meta}, "spec": {"slot": 1},
    }  # fmt: skip


def run(case: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    async def main(loop: VirtualLoop) -> None:
        await case(Bench(loop, **options))

    run_virtual(main, horizon_s=3_600)


def owner(name: str, uid: str) -> dict[str, Any]:
    return {"apiVersion": "gridplane.dev/v1alpha1", "kind": "Rack", "name": name, "uid": uid}


async def follow(client: ApiClient, seen: list[Event], **options: Any) -> None:
    since = str(client._server.version)
    events = client.watch(MINER, resource_version=since, **options)
    async with contextlib.aclosing(events):
        async for event in events:
            seen.append(event)  # noqa: PERF401 — what came before an error counts


# --- the server ----------------------------------------------------------------------------------


def test_lists_that_merge_are_those_of_our_crds() -> None:
    found: dict[str, tuple[str, ...]] = {}

    def look(schema: Any, name: str = "") -> None:
        if isinstance(schema, dict):
            if schema.get("x-kubernetes-list-type") == "map":
                found[name] = tuple(schema["x-kubernetes-list-map-keys"])
            assert schema.get("x-kubernetes-list-type") != "set" or name in SETS
            for key, below in schema.items():
                look(below, key)
        elif isinstance(schema, list):
            for below in schema:
                look(below, name)

    for path in (ROOT / "manifests" / "crds").glob("*.yaml"):
        look(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert found == {name: keys for name, keys in KEYED.items() if name != "ownerReferences"}


def test_the_rest_of_a_list_is_kept_for_a_while() -> None:
    async def case(bench: Bench) -> None:
        await bench.have("a", "b", "c")
        page = await bench.client.list_page(MINER, limit=1)
        await bench.clock.wire_sleep(PAGE_LIFE_S - 1)
        assert len((await bench.client.list_page(MINER, page=page.next)).items) == 2
        await bench.clock.wire_sleep(2)
        with pytest.raises(Gone):
            await bench.client.list_page(MINER, page=page.next)

    run(case)


def test_history_goes_back_so_far() -> None:
    async def case(bench: Bench) -> None:
        start = bench.server.version
        await bench.have("a", "b", "c", "d")
        with pytest.raises(Gone):
            await anext(bench.client.watch(MINER, resource_version=str(start)))
        events = bench.client.watch(MINER, resource_version=str(start + 1))
        assert [(await anext(events)).object.metadata.name for _ in range(3)] == ["b", "c", "d"]
        bench.server.compact()
        with pytest.raises(Gone):
            await anext(bench.client.watch(MINER, resource_version=str(start + 3)))
        await events.aclose()

    run(case, history=3)


def test_what_loses_its_last_owner_is_collected() -> None:
    async def case(bench: Bench) -> None:
        one, two = await bench.have("r1", "r2", kind=RACK)
        await bench.have("m1", ownerReferences=[owner("r1", one)])
        await bench.have("m2", ownerReferences=[owner("r1", one), owner("r2", two)])
        await bench.have(
            "m3", ownerReferences=[owner("m1", one)], finalizers=["gridplane.dev/open"]
        )
        await bench.client.delete(RACK, "r1", namespace="one")
        assert await bench.names() == ["m1", "m2", "m3"]
        await bench.clock.wire_sleep(COLLECT_S * 2)
        assert await bench.names() == ["m2", "m3"]
        assert (await bench.client.get(MINER, "m3", namespace="one")).metadata.deletion_timestamp

    run(case)


def test_who_names_an_owner_of_another_life_or_place_is_collected() -> None:
    async def case(bench: Bench) -> None:
        [role] = await bench.have("r", kind=ROLE)
        [rack] = await bench.have("r1", kind=RACK)
        await bench.have("before-restore", ownerReferences=[owner("r1", "gone")])
        await bench.have("of-all", ownerReferences=[owner("r", role)])
        await bench.have("here", ownerReferences=[owner("r1", rack)])
        await bench.have("elsewhere", ownerReferences=[owner("r1", rack)], namespace="two")
        await bench.clock.wire_sleep(COLLECT_S * 2)
        assert await bench.names() == ["here", "of-all"]

    run(case)


def test_without_a_controller_manager_nothing_is_collected() -> None:
    async def case(bench: Bench) -> None:
        await bench.have("m1", ownerReferences=[owner("r1", "gone")])
        await bench.clock.wire_sleep(COLLECT_S * 2)
        assert await bench.names() == ["m1"]

    run(case, collects=False)


def test_a_restore_goes_back_in_versions_too() -> None:
    async def case(bench: Bench) -> None:
        await bench.have("a")
        past, then = bench.server.snapshot(), await bench.client.list_page(MINER)
        await bench.have("b")
        bench.server.restore(past)
        assert await bench.client.list_page(MINER) == then
        await bench.have("c")
        assert await bench.names() == ["a", "c"]
        assert past[1][MINER].keys() == {"one/a"}

    run(case)


def test_a_watch_from_before_a_restore_tells_nothing() -> None:
    async def case(bench: Bench) -> None:
        past = bench.server.snapshot()
        await bench.have("a", "b", "c")
        since = str(bench.server.version)
        bench.server.restore(past)
        events = bench.client.watch(MINER, resource_version=since, timeout_s=10)
        await bench.have("d")
        assert [event async for event in events] == []
        assert bench.loop.time() == 10

    run(case)


# --- the line ------------------------------------------------------------------------------------


def test_a_quiet_watch_brings_bookmarks_and_ends_in_time() -> None:
    async def case(bench: Bench) -> None:
        seen: list[Event] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(bench.client, seen, timeout_s=BOOKMARK_S * 2.5))
            await bench.clock.wire_sleep(BOOKMARK_S * 1.5)
            await bench.have("a")
        assert [event.type for event in seen] == ["BOOKMARK", "ADDED", "BOOKMARK"]
        assert bench.loop.time() == BOOKMARK_S * 2.5
        assert seen[-1].object.metadata.resource_version == str(bench.server.version)

    run(case)


def test_nobody_answers_at_once_or_after_the_deadline() -> None:
    async def case(bench: Bench) -> None:
        bench.client.faults.away = "refused"
        with pytest.raises(ClusterAway):
            await bench.names()
        assert bench.loop.time() == 0
        bench.client.faults.away = "silent"
        with pytest.raises(ClusterAway):
            await bench.have("a")
        assert bench.loop.time() == DEADLINE_S
        assert not bench.client.calls
        bench.client.faults.away = ""
        assert await bench.names() == []

    run(case)


def test_one_client_is_cut_off_and_another_is_not() -> None:
    async def case(bench: Bench) -> None:
        other = bench.another()
        bench.client.faults.away = "refused"
        await other.create(MINER, thing("a"))
        assert len((await other.list_page(MINER)).items) == 1

    run(case)


def test_a_busy_server_says_when_to_come_again() -> None:
    async def case(bench: Bench) -> None:
        bench.client.faults.throttle_s = 5
        with pytest.raises(Throttled) as refused:
            await bench.names()
        assert refused.value.retry_after_s == 5

    run(case)


def test_latency_delays_what_goes_and_what_comes() -> None:
    async def case(bench: Bench) -> None:
        bench.client.faults.latency_s = (1.0, 1.0)
        seen: list[Event] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(bench.client, seen, timeout_s=10))
            await bench.clock.wire_sleep(3)
            await bench.have("a")
            assert (bench.loop.time(), seen) == (5, [])
            await bench.clock.wire_sleep(0.1)
            assert [event.type for event in seen] == ["ADDED"]

    run(case)


def test_an_answer_that_is_lost_was_done_all_the_same() -> None:
    async def case(bench: Bench) -> None:
        def lose(call: Call) -> None:
            raise ClusterAway(f"{call.verb}: the line broke")

        bench.client.faults.after = lose
        with pytest.raises(ClusterAway):
            await bench.have("a")
        bench.client.faults.after = None
        with pytest.raises(Exists):
            await bench.have("a")
        assert bench.client.calls["create", "Miner"] == 2

    run(case)


def test_a_request_can_be_stopped_before_it_lands() -> None:
    async def case(bench: Bench) -> None:
        seen: list[Call] = []

        def crash(call: Call) -> None:
            seen.append(call)
            if call.writes:
                raise asyncio.CancelledError

        bench.client.faults.before = crash
        with pytest.raises(asyncio.CancelledError):
            await bench.have("a")
        assert await bench.names() == []
        assert [(call.verb, call.name) for call in seen] == [("create", "a"), ("list", "")]

    run(case)


@pytest.mark.parametrize("error", [ClusterAway("the line broke"), Gone("too old"), None])
def test_watches_end_as_they_are_told_to(error: ClusterAway | Gone | None) -> None:
    async def case(bench: Bench) -> None:
        seen: list[Event] = []
        follower = asyncio.ensure_future(follow(bench.client, seen))
        await bench.clock.wire_sleep(1)
        bench.client.cut(error)
        if error is None:
            await follower
        else:
            with pytest.raises(type(error)):
                await follower
        await bench.have("a")
        assert (seen, bench.server.watches) == ([], {})

    run(case)


def test_a_watch_falls_silent_and_stays_so() -> None:
    async def case(bench: Bench) -> None:
        seen: list[Event] = []
        follower = asyncio.ensure_future(follow(bench.client, seen))
        await bench.clock.wire_sleep(1)
        bench.client.faults.silent = True
        await bench.have("a")
        await bench.clock.wire_sleep(1)
        bench.client.faults.silent = False
        await bench.have("b")
        await bench.clock.wire_sleep(1_000)
        assert (seen, follower.done()) == ([], False)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)

    run(case)


def test_an_event_is_missed() -> None:
    async def case(bench: Bench) -> None:
        seen: list[Event] = []
        bench.client.faults.loses = lambda event: event.type == "DELETED"
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(bench.client, seen, timeout_s=10))
            await bench.clock.wire_sleep(1)
            await bench.have("a")
            await bench.client.delete(MINER, "a", namespace="one")
        assert [event.type for event in seen] == ["ADDED", "BOOKMARK"]

    run(case)


def test_reads_are_of_the_past_and_a_watch_catches_up() -> None:
    async def case(bench: Bench) -> None:
        await bench.have("a")
        bench.client.faults.stale = bench.server.snapshot()
        await bench.have("b")
        await bench.client.delete(MINER, "a", namespace="one")
        page = await bench.client.list_page(MINER)
        assert [one.metadata.name for one in page.items] == ["a"]
        assert (await bench.client.get(MINER, "a", namespace="one")).metadata.name == "a"
        with pytest.raises(NotFound):
            await bench.client.get(MINER, "b", namespace="one")
        events = bench.client.watch(MINER, resource_version=page.resource_version)
        assert [(await anext(events)).type for _ in range(2)] == ["ADDED", "DELETED"]
        await events.aclose()

    run(case)
