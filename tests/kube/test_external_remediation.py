"""NVSentinel's hand-overs: which are ours, how they are answered, and that a failure keeps the node out."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from control_plane.core.errors import FenceLost
from control_plane.core.external_remediation import (
    COMPLETE,
    RELEASED,
    REQUEST,
    Answer,
    Request,
    request_in,
)
from control_plane.kube.external_remediation import AnsweredOtherwise, ExternalRemediations
from control_plane.simulator.api_client import Call
from control_plane.simulator.api_controllers import edit
from tests.kube.nodes import Hall, hall

NAME = "extrr-66f0"


def condition(kind: str, status: str, reason: str) -> dict[str, Any]:
    # `janitor` writes numbers of 64 bits as text, as protobuf's JSON has them.
    return {
        "type": kind, "status": status, "reason": reason, "message": "m", "observedGeneration": "1",
        "lastTransitionTime": "2026-11-01T10:00:00Z",
    }  # fmt: skip


async def have(h: Hall, name: str = NAME, *, released: str = "True", **event: Any) -> Request:
    """A request as NVSentinel makes it, and as `janitor` has seen it."""
    about = {
        "nodeName": "n1", "recommendedAction": "RESTART_BM", "checkName": "SysLogsXIDError",
        "errorCode": ["79"], "message": "GPU fell off the bus", "isFatal": True, **event,
    }  # fmt: skip
    body = {
        "apiVersion": REQUEST.api_version, "kind": REQUEST.kind,
        "metadata": {"name": name, "finalizers": ["nvsentinel.dgxc.nvidia.com/cleanup"]},
        "spec": {"healthEvent": about},
    }  # fmt: skip
    made = await h.client.create(REQUEST, body)
    status = {
        "conditions": [
            condition(RELEASED, released, "ReleaseTaintApplied"),
            condition(COMPLETE, "Unknown", "AwaitingExternalSystem"),
        ],
        "startTime": "2026-11-01T10:00:00Z",
    }
    meta = {"name": name, "resourceVersion": made.metadata.resource_version}
    told = {**body, "metadata": meta, "status": status}
    return request_in(h.server.replace(REQUEST, told, manager="janitor", subresource="status"))


def still_open(h: Hall) -> list[Request]:
    page = h.server.list_page(
        REQUEST, lambda _each: True, limit=1_000, page="", says_remaining=False
    )
    return [one for one in map(request_in, page.items) if one.is_open]


def there(h: Hall, name: str = NAME) -> Request:
    return request_in(h.server.get(REQUEST, name))


def answers(h: Hall) -> ExternalRemediations:
    return ExternalRemediations(h.client, clock=h.clock, may_write=lambda: h.leads)


def test_only_what_was_released_and_not_answered_is_ours() -> None:
    async def case(h: Hall) -> None:
        assert still_open(h) == []
        mine = await have(h)
        await have(h, "not-yet", released="Unknown")
        await have(h, "no-such-node", released="False")
        await have(h, "nobodys", nodeName="")
        await have(h, "done")
        await answers(h).succeeded(there(h, "done"), "ok")
        await have(h, "going")
        h.server.delete(REQUEST, "going")
        found = still_open(h)
        assert [one.name for one in found] == [NAME]
        assert found[0] == mine
        assert (mine.node, mine.action, mine.codes) == ("n1", "RESTART_BM", ("79",))

    hall(case)


@pytest.mark.parametrize(
    ("verb", "answer", "reason"),
    [
        ("succeeded", Answer.DONE, "RemediationSucceeded"),
        ("failed", Answer.FAILED, "RemediationFailed"),
    ],
)
def test_an_answer_keeps_all_the_rest_of_the_status(verb: str, answer: Answer, reason: str) -> None:
    async def case(h: Hall) -> None:
        mine = await have(h)
        await asyncio.sleep(10.0)
        assert await getattr(answers(h), verb)(mine, "rebooted, burnt in")
        now = there(h)
        assert (now.answer, now.reason, now.said) == (answer, reason, "rebooted, burnt in")
        [released, complete] = now.status["conditions"]
        assert released == condition(RELEASED, "True", "ReleaseTaintApplied")
        assert complete["lastTransitionTime"] != "2026-11-01T10:00:00Z"
        assert now.status["startTime"] == "2026-11-01T10:00:00Z"
        # Again, and in other words: nothing is written.
        for words in ("rebooted, burnt in", "other words"):
            assert await getattr(answers(h), verb)(mine, words)
        assert h.client.calls["replace", REQUEST.kind] == 1

    hall(case)


def test_an_answer_is_final() -> None:
    async def case(h: Hall) -> None:
        mine = await have(h)
        await answers(h).failed(mine, "the board is broken")
        with pytest.raises(AnsweredOtherwise, match="RemediationFailed"):
            await answers(h).succeeded(mine, "ok")
        assert there(h).answer is Answer.FAILED
        assert not await answers(h).progress(mine, "again")
        # The node stays out: the request stands, and nothing of ours was given up for it.
        assert still_open(h) == []

    hall(case)


def test_that_somebody_is_at_it_is_seen_and_no_answer() -> None:
    async def case(h: Hall) -> None:
        mine = await have(h)
        for _ in range(2):
            assert await answers(h).progress(mine, "power cycle, attempt 1")
        now = there(h)
        assert (now.answer, now.said, now.is_open) == (Answer.NONE, "power cycle, attempt 1", True)
        complete = now.status["conditions"][-1]
        assert complete["lastTransitionTime"] == "2026-11-01T10:00:00Z", "it did not change"
        assert h.client.calls["replace", REQUEST.kind] == 1

    hall(case)


@pytest.mark.parametrize("what", ["gone", "another", "taken back"])
def test_a_request_that_is_not_there_any_more_is_not_answered(what: str) -> None:
    async def case(h: Hall) -> None:
        mine = await have(h)
        h.server.delete(REQUEST, NAME)
        if what != "taken back":

            def change(body: Any) -> None:
                body["metadata"]["finalizers"] = []

            edit(h.server, REQUEST, NAME, change, manager="janitor")
        if what == "another":
            await have(h)
        assert not await answers(h).succeeded(mine, "ok")
        if what == "another":
            assert there(h).answer is Answer.NONE

    hall(case)


def test_who_writes_in_between_loses_nothing() -> None:
    async def case(h: Hall) -> None:
        mine = await have(h)

        def between(call: Call) -> None:
            if call.verb == "replace":
                h.client.faults.before = None
                now = there(h)
                status = {**now.status, "completionTime": None, "startTime": "2026-11-02T10:00:00Z"}
                body = {
                    "apiVersion": REQUEST.api_version, "kind": REQUEST.kind,
                    "metadata": {"name": NAME, "resourceVersion": now.version}, "status": status,
                }  # fmt: skip
                h.server.replace(REQUEST, body, manager="janitor", subresource="status")

        h.client.faults.before = between
        assert await answers(h).succeeded(mine, "ok")
        assert there(h).status["startTime"] == "2026-11-02T10:00:00Z"
        assert there(h).answer is Answer.DONE

    hall(case)


def test_without_the_fence_nothing_is_answered() -> None:
    async def case(h: Hall) -> None:
        mine = await have(h)
        h.leads = False
        with pytest.raises(FenceLost):
            await answers(h).succeeded(mine, "ok")
        assert there(h).answer is Answer.NONE

    hall(case)


def test_one_of_another_shape_is_left_alone() -> None:
    async def case(h: Hall) -> None:
        body = {
            "apiVersion": REQUEST.api_version, "kind": REQUEST.kind,
            "metadata": {"name": "odd"}, "spec": {"healthEvent": {"nodeName": ["n1"]}},
        }  # fmt: skip
        mine = await have(h)
        made = await h.client.create(REQUEST, body)
        with pytest.raises(msgspec.ValidationError):
            request_in(made)
        assert not await answers(h).succeeded(msgspec.structs.replace(mine, name="odd"), "ok")
        assert h.client.calls["replace", REQUEST.kind] == 0

    hall(case)
