"""Drains: what goes, what stays, who is waited for, and that "drained" is never believed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from control_plane.core.cluster import NODE, POD, ClusterAway, Event, Object
from control_plane.core.errors import FenceLost
from control_plane.core.node_drain import DEADLINE, DETAIL, STATE, DrainState, is_fresh
from control_plane.core.node_pods import DrainPolicy, Stays
from control_plane.kube.node_drain import evidence, forget
from control_plane.simulator.api_client import Call
from control_plane.simulator.api_controllers import edit
from tests.kube.nodes import CAREFUL, FORCEFUL, JOBS, REPAIR, Hall, hall, pod_body, started

APP = {"app": "train"}


async def a_full_node(h: Hall) -> None:
    """Four that go, four that stay."""
    await h.have("n1", "n2")
    for number in range(4):
        await h.pod(f"p{number}", labels=APP)
    await h.pod("exporter", owner="DaemonSet")
    await h.pod("proxy", owner="", annotations={"kubernetes.io/config.mirror": "x"})
    await h.pod("done", owner="Job", phase="Succeeded")
    await h.pod("failed", owner="", phase="Failed")
    await h.pod("elsewhere", node="n2", labels=APP)


def test_what_has_to_go_goes_and_the_rest_stays() -> None:
    async def case(h: Hall) -> None:
        await a_full_node(h)
        await h.hold()
        began_s = h.clock.wall_s()
        done = await h.drain().run()
        assert done.state is DrainState.DRAINED
        assert h.there() == ["done", "exporter", "failed", "proxy"]
        assert h.there("n2") == ["elsewhere"]
        assert done.evidence is not None
        assert done.evidence.stays == {
            f"{JOBS}/done": Stays.ENDED,
            f"{JOBS}/exporter": Stays.DAEMON_SET,
            f"{JOBS}/failed": Stays.ENDED,
            f"{JOBS}/proxy": Stays.MIRROR,
        }
        assert done.evidence.uid == h.node().uid
        assert h.clock.wall_s() - began_s < 10.0
        # Again it ends nothing, and says so at once.
        evicted = h.client.calls["evict", "Pod"]
        assert (await h.drain().run()).state is DrainState.DRAINED
        assert h.client.calls["evict", "Pod"] == evicted == 4

    hall(case)


def test_pods_keep_their_own_grace() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("saves", grace_s=300)
        h.rest.lasts.add("saves")
        await h.hold()
        began_s = h.clock.wall_s()
        done = await h.drain().run()
        assert done.state is DrainState.DRAINED
        assert 300.0 <= h.clock.wall_s() - began_s < 310.0
        assert h.client.calls["evict", "Pod"] == 1, "asked once, and waited for"

    hall(case)


@pytest.mark.parametrize(
    ("pod", "policy", "word"),
    [
        ({"owner": ""}, DrainPolicy(force=True), "unmanaged"),
        ({"empty_dir": True}, DrainPolicy(delete_emptydir_data=True), "empty_dir"),
    ],
)
def test_a_pod_that_the_policy_spares_stops_the_whole_drain(
    pod: dict[str, object], policy: DrainPolicy, word: str
) -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("p1", labels=APP)
        body = pod_body("p2", JOBS, "n1", **pod)  # type: ignore[arg-type]
        await started(h.client, body)
        await h.hold()
        done = await h.drain().run()
        assert done.state is DrainState.WAITING_HUMAN
        assert f"{JOBS}/p2 ({word})" in done.detail
        assert h.client.calls["evict", "Pod"] == 0
        assert (await h.drain(policy).run()).state is DrainState.DRAINED

    hall(case)


def test_a_budget_is_waited_for() -> None:
    async def case(h: Hall) -> None:
        await h.have("n1", "n2")
        for name in ("p1", "p2"):
            await h.pod(name, labels=APP)
        await h.budget("b1", minAvailable=1)
        await h.hold()

        def again(gone: Object) -> None:
            body = pod_body(f"{gone.metadata.name}-new", JOBS, "n2", labels=APP)
            tasks.append(asyncio.ensure_future(started(h.client, body)))

        tasks: list[asyncio.Task[Object]] = []
        h.rest.gone = again
        done = await h.drain().run()
        assert done.state is DrainState.DRAINED
        assert h.there("n2") == ["p1-new", "p2-new"]
        await asyncio.gather(*tasks)

    hall(case)


def test_a_budget_that_never_allows_it_waits_for_a_person_and_forces_nothing() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        for name in ("p1", "p2"):
            await h.pod(name, labels=APP)
        await h.budget("b1", minAvailable=2)
        await h.hold()
        began_s = h.clock.wall_s()
        done = await h.drain(FORCEFUL, lasts_s=600.0).run()
        assert done.state is DrainState.WAITING_HUMAN
        assert done.left == (f"{JOBS}/p1", f"{JOBS}/p2")
        assert "b1 needs 2 healthy pods" in done.detail
        assert 600.0 <= h.clock.wall_s() - began_s < 640.0
        assert h.there() == ["p1", "p2"]
        # 600 s of two pods, asked after 5 s first and every minute later on.
        assert 20 <= h.client.calls["evict", "Pod"] <= 60
        node = h.node()
        assert node.annotations[STATE] == "waiting_human"
        assert f"{JOBS}/p1" in node.annotations[DETAIL]

    hall(case)


def test_past_the_deadline_unsafe_hardware_and_the_policy_together_end_a_budgets_pods() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("p1", labels=APP, grace_s=60)
        h.rest.lasts.add("p1")
        await h.budget("b1", minAvailable=1)
        await h.hold()
        for unsafe, policy in ((True, CAREFUL), (False, FORCEFUL)):
            drain = h.drain(policy, lasts_s=60.0, is_unsafe=unsafe)
            assert (await drain.run()).state is DrainState.WAITING_HUMAN
            assert h.there() == ["p1"]
        began_s = h.clock.wall_s()
        done = await h.drain(FORCEFUL, lasts_s=60.0, is_unsafe=True).run()
        assert done.state is DrainState.DRAINED
        assert h.clock.wall_s() - began_s >= 60.0, "its grace is kept"

    hall(case)


def test_a_silent_kubelet_is_never_drained() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("p1")
        h.rest.silent.add("n1")
        await h.hold()
        done = await h.drain(FORCEFUL, lasts_s=120.0, is_unsafe=True).run()
        assert done.state is DrainState.WAITING_HUMAN
        assert done.left == (f"{JOBS}/p1",)
        assert await found(h) is None

    hall(case)


async def found(h: Hall, name: str = "n1") -> object:
    return await evidence(h.client, h.clock, name, by=REPAIR, policy=DrainPolicy())


def test_an_unknown_node_is_not_drained() -> None:
    async def case(h: Hall) -> None:
        assert (await h.drain().run()).state is DrainState.UNKNOWN
        assert await found(h) is None
        # Nor is one that is empty and held by nobody: pods may come at any moment.
        await h.have()
        assert (await h.drain().run()).state is DrainState.WAITING_HUMAN
        assert await found(h) is None
        await h.hold(by="curtailment")
        assert (await h.drain().run()).state is DrainState.WAITING_HUMAN

    hall(case)


def test_evidence_is_of_one_node_and_of_a_moment() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()
        done = await h.drain().run()
        uid, now_s = h.node().uid, h.clock.wall_s()
        assert is_fresh(done.evidence, uid=uid, now_s=now_s, max_age_s=30.0)
        assert not is_fresh(done.evidence, uid=uid, now_s=now_s + 31.0, max_age_s=30.0)
        assert not is_fresh(done.evidence, uid=uid, now_s=now_s - 60.0, max_age_s=30.0)
        assert not is_fresh(done.evidence, uid="another", now_s=now_s, max_age_s=30.0)
        assert not is_fresh(None, uid=uid, now_s=now_s, max_age_s=30.0)

    hall(case)


def test_a_person_who_uncordons_in_the_middle_stops_it() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        for name in ("p1", "p2"):
            await h.pod(name, labels=APP)
        await h.budget("b1", minAvailable=2)
        await h.hold()
        running = asyncio.ensure_future(h.drain().run())
        await asyncio.sleep(30.0)
        h.cordon(whether=False)
        done = await running
        assert done.state is DrainState.WAITING_HUMAN
        assert "cordon" in done.detail
        assert h.there() == ["p1", "p2"]
        assert not h.node().is_cordoned, "what the person did stays"

    hall(case)


def test_a_person_who_cordons_in_the_middle_changes_nothing_of_it() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        h.cordon()
        await h.pod("p1")
        await h.hold()
        assert (await h.drain().run()).state is DrainState.DRAINED
        assert (await h.holds().release("n1", by=REPAIR)).is_cordoned
        await forget(h.client, "n1", may_write=lambda: True)
        node = h.node()
        assert node.is_cordoned
        assert node.annotations == {}

    hall(case)


def test_a_pod_that_comes_back_is_evicted_again_and_told_at_last() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("p1")
        await h.hold()
        tasks: list[asyncio.Task[Object]] = []

        def again(_gone: Object) -> None:
            # It tolerates everything, and its controller names the node.
            tasks.append(asyncio.ensure_future(h.pod("p1")))

        h.rest.gone = again
        done = await h.drain(lasts_s=60.0).run()
        assert done.state is DrainState.WAITING_HUMAN
        assert done.left == (f"{JOBS}/p1",)
        assert h.client.calls["evict", "Pod"] > 5
        h.rest.gone = lambda _gone: None
        await asyncio.gather(*tasks)

    hall(case)


def test_a_pod_of_the_same_name_is_not_ended_by_an_old_look() -> None:
    async def case(h: Hall) -> None:
        await h.have("n1", "n2")
        await h.pod("web-0", labels=APP)
        await h.hold()
        moved: list[Object] = []

        async def move() -> None:
            h.server.delete(POD, f"{JOBS}/web-0", grace_s=0)
            moved.append(await started(h.another(), pod_body("web-0", JOBS, "n2", labels=APP)))

        real = h.client.evict

        async def evict(name: str, *, namespace: str, uid: str = "") -> None:
            if not moved:
                await move()
            await real(name, namespace=namespace, uid=uid)

        h.client.evict = evict  # type: ignore[method-assign]
        assert (await h.drain().run()).state is DrainState.DRAINED
        there = h.server.get(POD, f"{JOBS}/web-0")
        assert there.metadata.uid == moved[0].metadata.uid
        assert not there.metadata.deletion_timestamp

    hall(case)


def test_with_the_server_away_it_waits_and_goes_on() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        for number in range(4):
            await h.pod(f"p{number}")
        await h.hold()

        def leave(call: Call) -> None:
            if call.verb == "evict" and call.name == "p2":
                h.client.faults.away = "refused"

        h.client.faults.before = leave
        running = asyncio.ensure_future(h.drain().run())
        await asyncio.sleep(120.0)
        assert not running.done()
        assert h.there() == ["p2", "p3"]
        h.client.faults.before, h.client.faults.away = None, ""
        assert (await running).state is DrainState.DRAINED

    hall(case)


def test_with_the_server_away_past_the_deadline_nothing_is_known() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.hold()
        h.client.faults.away = "silent"
        done = await h.drain(lasts_s=120.0).run()
        assert (done.state, done.evidence) == (DrainState.UNKNOWN, None)
        with pytest.raises(ClusterAway):
            await found(h)

    hall(case)


def test_who_goes_on_after_a_crash_has_the_same_deadline_and_ends_nothing_twice() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        for name in ("p1", "p2", "p3"):
            await h.pod(name, labels=APP)
        await h.budget("b1", minAvailable=1)
        await h.hold()
        began_s = h.clock.wall_s()
        for _ in range(4):
            running = asyncio.ensure_future(h.drain(lasts_s=300.0).run())
            await asyncio.sleep(40.0)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        deadline = h.node().annotations[DEADLINE]
        done = await h.drain(lasts_s=300.0).run()
        assert done.state is DrainState.WAITING_HUMAN
        assert h.clock.wall_s() - began_s < 310.0
        assert h.node().annotations[DEADLINE] == deadline
        assert h.there() == ["p3"]

    hall(case)


def test_a_leader_that_is_lost_in_the_middle_ends_nothing_more() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        for number in range(6):
            await h.pod(f"p{number}")
        await h.hold()

        def lose(call: Call) -> None:
            if call.verb == "evict" and call.name == "p2":
                h.leads = False

        h.client.faults.after = lose
        with pytest.raises(FenceLost):
            await h.drain().run()
        await asyncio.sleep(60.0)
        assert h.there() == ["p3", "p4", "p5"]
        h.client.faults.after = None
        # The next leader goes on.
        h.leads = True
        assert (await h.drain(client=h.another()).run()).state is DrainState.DRAINED

    hall(case)


def test_what_is_seen_of_it_is_written_when_it_changes() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        for number in range(50):
            await h.pod(f"p{number:02}", grace_s=10 + number)
            h.rest.lasts.add(f"p{number:02}")
        await h.hold()
        seen: list[Event] = []

        async def look() -> None:
            since = str(h.server.version)
            async for event in h.another().watch(NODE, resource_version=since):
                seen.append(event)  # noqa: PERF401

        looking = asyncio.ensure_future(look())
        assert (await h.drain().run()).state is DrainState.DRAINED
        looking.cancel()
        details = [event.object.metadata.annotations.get(DETAIL, "") for event in seen]
        assert any(f"50 to go: {JOBS}/p00, " in detail for detail in details)
        assert all(len(detail) < 300 for detail in details)
        assert len(seen) <= 12, "60 s, one word in ten"
        assert h.node().annotations[STATE] == "drained"

    hall(case)


def test_words_that_somebody_takes_away_do_not_make_it_last_for_ever() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("p1", labels=APP)
        await h.budget("b1", minAvailable=1)
        await h.hold()

        def change(body: dict[str, dict[str, dict[str, str]]]) -> None:
            words = body["metadata"]["annotations"]
            kept = {name: text for name, text in words.items() if "drain" not in name}
            body["metadata"]["annotations"] = kept

        async def take_away() -> None:
            while True:
                await asyncio.sleep(1.0)
                edit(h.server, NODE, "n1", change, manager="ann")

        taking = asyncio.ensure_future(take_away())
        began_s = h.clock.wall_s()
        assert (await h.drain(lasts_s=120.0).run()).state is DrainState.WAITING_HUMAN
        assert h.clock.wall_s() - began_s < 130.0
        taking.cancel()

    hall(case)
