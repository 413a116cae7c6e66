"""Requests to the API server are counted by how they ended; nothing else is changed about them."""

from __future__ import annotations

import pytest

from control_plane.core.cluster import (
    ClusterAway,
    ClusterError,
    Conflict,
    DisruptionRefused,
    Exists,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
)
from control_plane.kube.counting import Counted
from control_plane.simulator.api_client import Call
from tests.kube.running import MINERS, PLACE, Around, around, miner


def test_every_verb_is_passed_on_and_counted() -> None:
    async def case(side: Around) -> None:
        counted = Counted(side.client)
        made = await counted.create(MINERS, miner("m-1"))
        page = await counted.list_page(MINERS, namespace=PLACE)
        assert [each.key for each in page.items] == [made.key]
        assert await counted.get(MINERS, "m-1", namespace=PLACE) == made
        applied = await counted.apply(MINERS, miner("m-1", 2), manager="x")
        body = miner("m-1", 3, resourceVersion=applied.metadata.resource_version)
        await counted.replace(MINERS, body)
        watch = counted.watch(MINERS, resource_version=page.resource_version, namespace=PLACE)
        assert (await anext(watch)).type == "MODIFIED"
        await watch.aclose()
        await counted.delete(MINERS, "m-1", namespace=PLACE)
        with pytest.raises(NotFound):
            await counted.evict("p-1", namespace=PLACE)
        assert counted.results.pop(("evict", "pods", "not_found")) == 1
        verbs = ("create", "list", "get", "apply", "replace", "watch", "delete")
        assert dict(counted.results) == {(verb, "miners", "ok"): 1 for verb in verbs}

    around(case)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (DisruptionRefused("x"), "budget"),
        (Throttled("x"), "throttled"),
        (ClusterAway("x"), "away"),
        (Conflict("x"), "conflict"),
        (Exists("x"), "conflict"),
        (NotFound("x"), "not_found"),
        (Rejected("x"), "rejected"),
        (Unauthorized("x"), "unauthorized"),
    ],
)
def test_a_refusal_is_counted_by_its_kind(error: ClusterError, word: str) -> None:
    async def case(side: Around) -> None:
        def before(_call: Call) -> None:
            raise error

        side.client.faults.before = before
        counted = Counted(side.client)
        with pytest.raises(type(error)):
            await counted.get(MINERS, "m-1")
        assert dict(counted.results) == {("get", "miners", word): 1}

    around(case)
