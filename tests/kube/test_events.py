"""Events: at their own pace, dropped rather than tried for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from control_plane.core import limits
from control_plane.core.cluster import ClusterAway, ClusterError, Metadata, Object, Rejected
from control_plane.kube.events import EVENT, EventWriter
from control_plane.simulator.api_client import Call
from control_plane.simulator.virtual import seeded
from tests.kube.running import MINERS, Around, around, beside, no_bug

ABOUT = Object(metadata=Metadata(name="m-1", namespace="site", uid="u-1"))


def writer(side: Around) -> EventWriter:
    return EventWriter(
        side.client,
        namespace="site",
        identity="pod-1",
        clock=side.clock,
        rng=seeded(1),
        bug=no_bug,
    )


def count(side: Around) -> int:
    page = side.server.list_page(EVENT, lambda _: True, limit=10_000, page="", says_remaining=False)
    return len(page.items)


def refused(side: Around, error: ClusterError | None) -> None:
    def before(_call: Call) -> None:
        if error is not None:
            raise error

    side.client.faults.before = before


def test_an_event_has_what_the_api_server_asks_for() -> None:
    bodies: list[Mapping[str, Any]] = []

    async def case(side: Around) -> None:
        events, create = writer(side), side.client.create

        async def record(kind: Any, body: Any) -> Object:
            bodies.append(body)
            return await create(kind, body)

        side.client.create = record  # type: ignore[method-assign]
        async with beside(events.run()):
            events.post(MINERS, ABOUT, "Halted", "wave 2", warns=True)
            events.post(MINERS, ABOUT, "Halted", "x" * 5_000)
            await side.until(lambda: events.written == 2)

    around(case)
    first, second = bodies
    assert first["regarding"] == {
        "apiVersion": "gridplane.dev/v1alpha1", "kind": "Miner", "namespace": "site",
        "name": "m-1", "uid": "u-1",
    }  # fmt: skip
    assert (first["type"], first["reason"], first["note"]) == ("Warning", "Halted", "wave 2")
    assert second["type"] == "Normal"
    assert len(second["note"]) <= 1_024
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first["eventTime"].endswith("Z")
    assert all(first[key] for key in ("action", "reportingController", "reportingInstance"))


def test_a_storm_is_written_at_the_events_own_pace() -> None:
    async def case(side: Around) -> None:
        events = writer(side)
        async with beside(events.run()):
            for _ in range(200):
                events.post(MINERS, ABOUT, "R", "n")
            await asyncio.sleep(0.5)
            assert count(side) <= limits.EVENT_BURST + 0.5 * limits.EVENTS_PER_S + 1
            await asyncio.sleep(150 / limits.EVENTS_PER_S + 1)
            assert count(side) == events.written == 200

    around(case)


def test_an_outage_loses_old_events_and_no_new_ones() -> None:
    async def case(side: Around) -> None:
        events = writer(side)
        refused(side, ClusterAway("no"))
        async with beside(events.run()):
            events.post(MINERS, ABOUT, "Old", "n")
            await asyncio.sleep(2 * limits.EVENT_AGE_MAX_S)
            assert (events.written, events.dropped, len(events)) == (0, 1, 0)
            events.post(MINERS, ABOUT, "New", "n")
            await asyncio.sleep(limits.API_BACKOFF_MAX_S)
            refused(side, None)
            await side.until(lambda: events.written == 1)

    around(case)


def test_what_is_refused_is_not_tried_again() -> None:
    async def case(side: Around) -> None:
        events, tries = writer(side), 0

        def before(_call: Call) -> None:
            nonlocal tries
            tries += 1
            raise Rejected("403")

        side.client.faults.before = before
        async with beside(events.run()):
            events.post(MINERS, ABOUT, "R", "n")
            await asyncio.sleep(600)
        assert (tries, events.dropped) == (1, 1)

    around(case)


def test_while_the_server_is_away_memory_is_bounded() -> None:
    async def case(side: Around) -> None:
        events = writer(side)
        refused(side, ClusterAway("no"))
        async with beside(events.run()):
            await asyncio.sleep(0)
            for _ in range(3 * limits.EVENTS_WAITING_MAX):
                events.post(MINERS, ABOUT, "R", "n")
            assert len(events) == limits.EVENTS_WAITING_MAX
            assert events.dropped == 2 * limits.EVENTS_WAITING_MAX

    around(case)
