"""Hand-overs of NVSentinel as they are watched and answered: odd ones, those that go, others' answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane.core import limits
from control_plane.core.cluster import NODE, NotFound
from control_plane.core.external_remediation import REQUEST, Answer
from control_plane.core.remedy_case import Action, Attempt, Outcome, Stay, Stayed
from control_plane.core.remedy_kept import NodeKept
from control_plane.engine.store import Store
from control_plane.kube.external_remediation import ExternalRemediations
from control_plane.kube.gpu_sight import place_of
from control_plane.kube.gpu_view import NodeFacts, facts_of
from control_plane.kube.handed_over import Answers, HandOvers
from control_plane.simulator.api_client import ApiClient, Call
from control_plane.simulator.api_controllers import edit
from tests.kube.nodes import Hall, hall, node_body
from tests.kube.remedies import ONE, in_repair
from tests.kube.running import no_bug
from tests.kube.speaking import lab
from tests.kube.test_external_remediation import NAME, have, there

PLACE = place_of(lab())
WELL = {ONE: Stayed(node=ONE, reason=Stay.WELL)}


class Answering:
    """A tenure's answers, beside what watches them."""

    def __init__(self, h: Hall) -> None:
        self.h, self.store, self.said = h, Store(None), list[str]()
        self.facts: dict[str, NodeFacts] = {}

        def say(text: str, /, **_: object) -> None:
            self.said.append(text)

        self.handed = HandOvers(h.client, clock=h.clock, rng=random.Random(1), bug=no_bug, say=say)
        self.answers = Answers(
            h.client, self.handed, self.store, self.facts,
            clock=h.clock, may_act=lambda: h.leads, say=say,
        )  # fmt: skip

    def mended(self) -> None:
        """What is asked for was done, and the node has come back."""
        now_s = there(self.h).since_s + 60.0
        done = [
            Attempt(action=action, at_s=now_s, ended_s=now_s, outcome=Outcome.DONE)
            for action in (Action.REBOOT, Action.RETURN)
        ]
        self.store.put_remedies([NodeKept(asset=ONE, attempts=tuple(done))])

    def told(self) -> list[str]:
        """Events, in order."""
        return [event.text for _, event in self.store.events(limit=100)][::-1]

    async def tell(self, times: int = 1) -> None:
        """So many rounds, five seconds apart."""
        for _ in range(times):
            await self.answers.tell(PLACE, WELL)
            await asyncio.sleep(5.0)


def answering(case: Callable[[Hall, Answering], Awaitable[None]]) -> None:
    """Play a case with one node, whose requests are watched."""

    async def whole(h: Hall) -> None:
        await h.client.create(NODE, node_body(ONE))
        one = Answering(h)
        one.facts[ONE] = facts_of(h.server.get(NODE, ONE))
        watching = asyncio.ensure_future(one.handed.run())
        try:
            await asyncio.sleep(1.0)
            await case(h, one)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    hall(whole)


def test_those_of_a_node_are_known_as_long_as_they_are_open() -> None:
    async def case(h: Hall, one: Answering) -> None:
        assert one.handed.are_known
        assert one.handed.of(ONE) == ()
        await have(h, nodeName=ONE)
        await have(h, "second", nodeName=ONE)
        await have(h, "others", nodeName="n2")
        await have(h, "not-yet", nodeName=ONE, released="Unknown")
        await asyncio.sleep(1.0)
        assert [r.name for r in one.handed.of(ONE)] == [NAME, "second"]
        assert [r.name for r in one.handed.open()] == [NAME, "others", "second"]
        line = ExternalRemediations(
            ApiClient(h.server, h.clock), clock=h.clock, may_write=lambda: True
        )
        await line.failed(there(h), "broken")
        h.server.delete(REQUEST, "second")  # its janitor has still to clean up
        await asyncio.sleep(1.0)
        assert one.handed.of(ONE) == ()

    answering(case)


def test_one_of_another_shape_is_named_and_hides_no_other() -> None:
    async def case(h: Hall, one: Answering) -> None:
        body = {
            "apiVersion": REQUEST.api_version, "kind": REQUEST.kind,
            "metadata": {"name": "odd"}, "spec": {"healthEvent": {"nodeName": [ONE]}},
        }  # fmt: skip
        await h.client.create(REQUEST, body)
        await have(h, nodeName=ONE)
        await asyncio.sleep(1.0)
        assert [r.name for r in one.handed.of(ONE)] == [NAME]
        assert sum("odd is none that we understand" in text for text in one.said) == 1

    answering(case)


def test_a_kind_that_is_uninstalled_takes_its_requests_along() -> None:
    async def case(h: Hall, one: Answering) -> None:
        await have(h, nodeName=ONE)
        await asyncio.sleep(1.0)
        asked = 0

        def gone(call: Call) -> None:
            nonlocal asked
            if call.kind == REQUEST:
                asked += 1
                raise NotFound("the server could not find the requested resource")

        h.client.faults.before = gone
        h.client.cut()
        await asyncio.sleep(2 * limits.WATCH_SILENT_S + 2 * limits.HAND_OVERS_AGAIN_S)
        assert one.handed.of(ONE) == ()
        assert one.handed.are_known, "that there are none"
        asked = 0
        await asyncio.sleep(3 * limits.HAND_OVERS_LOOK_S)
        assert asked <= 4
        h.client.faults.before = None
        await asyncio.sleep(limits.HAND_OVERS_LOOK_S + 1.0)
        assert [r.name for r in one.handed.of(ONE)] == [NAME]

    answering(case)


@pytest.mark.parametrize("answer", [Answer.DONE, Answer.FAILED])
def test_an_answer_is_given_once_and_noted_once(answer: Answer) -> None:
    async def case(h: Hall, one: Answering) -> None:
        await have(h, nodeName=ONE)
        if answer is Answer.DONE:
            one.mended()
        else:
            one.store.put_remedies([in_repair(h.clock.wall_s())])
        await asyncio.sleep(1.0)
        await one.tell(20)
        assert there(h).answer is answer
        assert h.client.calls["replace", REQUEST.kind] == 1
        assert len(one.told()) == 1
        assert one.said == []

    answering(case)


def test_somebody_elses_answer_stands_and_a_person_is_told() -> None:
    async def case(h: Hall, one: Answering) -> None:
        await have(h, nodeName=ONE)
        one.mended()
        await asyncio.sleep(1.0)
        line = ExternalRemediations(
            ApiClient(h.server, h.clock), clock=h.clock, may_write=lambda: True
        )
        request = there(h)

        def meanwhile(call: Call) -> None:
            if call.kind == REQUEST and call.verb == "get":
                h.client.faults.before = None

                def answered(body: Any) -> None:
                    [complete] = [
                        c for c in body["status"]["conditions"]
                        if c["type"] == "ExternalRemediationComplete"
                    ]  # fmt: skip
                    complete.update(status="False", reason="Broken")

                edit(h.server, REQUEST, NAME, answered, manager="ann", subresource="status")

        h.client.faults.before = meanwhile
        await one.tell(10)
        assert there(h).answer is Answer.FAILED
        [said] = one.said
        assert "a person looks at its node" in said
        assert not await line.progress(request, "x")

    answering(case)


def test_a_node_that_is_not_there_is_waited_for() -> None:
    async def case(h: Hall, one: Answering) -> None:
        await have(h, nodeName=ONE)
        one.mended()
        one.facts.clear()
        await asyncio.sleep(1.0)
        await one.tell(5)
        assert there(h).answer is Answer.NONE
        assert there(h).said.startswith("no_node: ")
        assert h.client.calls["replace", REQUEST.kind] == 1
        one.facts[ONE] = facts_of(h.server.get(NODE, ONE))
        await one.tell()
        assert there(h).answer is Answer.DONE

    answering(case)


def test_who_does_not_lead_says_nothing() -> None:
    async def case(h: Hall, one: Answering) -> None:
        await have(h, nodeName=ONE)
        one.mended()
        await asyncio.sleep(1.0)
        h.leads = False
        await one.tell(5)
        assert there(h).answer is Answer.NONE
        assert h.client.calls["replace", REQUEST.kind] == 0

    answering(case)
