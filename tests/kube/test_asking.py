"""A person's word to a cluster, in virtual time: said once, and what is not known is not claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane.core.cluster import ClusterAway
from control_plane.kube.asking import WAIT_S, ask
from control_plane.kube.kinds import ORDER, OVERLAY
from control_plane.simulator.api_client import Call
from tests.kube.running import PLACE, Around, around
from tests.kube.speaking import Cluster, Process, body


def play(case: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main(around_: Around) -> None:
        await case(Cluster(around_))

    around(main)


def word(cluster: Cluster, name: str, **more: Any) -> dict[str, Any]:
    spec = {
        "site": "lab", "kind": "safety", "node": "lab-r1", "owner": "ann", "reason": "fans",
        "since": cluster.now(), **more,
    }  # fmt: skip
    return body(OVERLAY, name, spec)


async def say(cluster: Cluster, *words: dict[str, Any], told: list[int] | None = None) -> Any:
    return await ask(
        cluster.kubectl,
        OVERLAY,
        words,
        namespace=PLACE,
        clock=cluster.around.clock,
        waits=(told if told is not None else []).append,
    )


def test_what_is_in_force_and_what_is_refused_is_answered() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        answers = await say(cluster, word(cluster, "good"), word(cluster, "bad", node="lab-r9"))
        assert answers["good"].is_done
        assert (answers["bad"].is_done, answers["bad"].reason) == (False, "UnknownNode")
        assert process.holds() == {"good", "bad"}
        await process.end()

    play(case)


def test_while_nobody_leads_it_is_said_and_not_claimed() -> None:
    async def case(cluster: Cluster) -> None:
        told: list[int] = []
        began_s = cluster.around.clock.wire_s()
        assert await say(cluster, word(cluster, "h"), told=told) == {}
        assert WAIT_S <= cluster.around.clock.wire_s() - began_s < WAIT_S + 2
        assert told == [1] * 5
        assert cluster.names(OVERLAY) == {"h"}

    play(case)


def test_a_failover_in_between_is_waited_for() -> None:
    async def case(cluster: Cluster) -> None:
        asking = asyncio.ensure_future(say(cluster, word(cluster, "h")))
        await asyncio.sleep(15)
        process = Process(cluster).start()
        assert (await asking)["h"].is_done
        await process.end()

    play(case)


def test_a_reply_that_was_lost_says_nothing_twice() -> None:
    async def case(cluster: Cluster) -> None:
        process = Process(cluster).start()
        lost = iter([True])

        def lose(call: Call) -> None:
            if call.verb == "create" and next(lost, False):
                raise ClusterAway("cut off")

        cluster.kubectl.faults.after = lose
        assert (await say(cluster, word(cluster, "h")))["h"].is_done
        assert cluster.names(OVERLAY) == {"h"}
        assert cluster.names(ORDER) == set()
        await process.end()

    play(case)


def test_an_api_server_that_is_away_takes_no_word() -> None:
    async def case(cluster: Cluster) -> None:
        cluster.kubectl.faults.away = "refused"
        with pytest.raises(ClusterAway):
            await say(cluster, word(cluster, "h"))

    play(case)
