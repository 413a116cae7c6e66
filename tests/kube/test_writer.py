"""The newest status of each object gets to the server, once, at a pace that it can bear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.cluster import ClusterAway, Conflict, Object, Rejected
from control_plane.engine.queue import Priority
from control_plane.kube.cache import Cache
from control_plane.kube.writer import StatusWriter
from control_plane.simulator.api_client import ApiFaults, Call
from control_plane.simulator.virtual import seeded
from tests.kube.running import MINERS, PLACE, Around, around, beside, miner, no_bug


@dataclass(kw_only=True)
class Writing:
    """A writer, the cache that it compares with, and when it sent what."""

    a: Around
    cache: Cache
    writer: StatusWriter
    is_leader: bool = True
    sent: list[tuple[float, str]] = field(default_factory=list)

    def note(self, call: Call) -> None:
        if call.verb == "apply":
            self.sent.append((self.a.loop.time(), call.name))

    def want(self, name: str, priority: Priority = Priority.DRIFT, **status: Any) -> None:
        about = self.cache.get(f"{PLACE}/{name}")
        assert about is not None
        self.writer.want(self.cache, about, status, priority)

    def status(self, name: str) -> Any:
        return status_of(self.a.there()[f"{PLACE}/{name}"])


def status_of(each: Object) -> Any:
    return msgspec.json.decode(each.status)


@contextlib.asynccontextmanager
async def writing(a: Around, *names: str) -> AsyncIterator[Writing]:
    for name in names:
        a.put(name)
    cache = Cache(MINERS, bug=no_bug)
    reflector = a.reflector(cache)
    w: Writing
    writer = StatusWriter(
        a.client, [cache],
        manager="gridplane-status", clock=a.clock, rng=seeded(3), bug=a.note_bug,
        may_write=lambda: w.is_leader,
    )  # fmt: skip
    w = Writing(a=a, cache=cache, writer=writer)
    a.client.faults = ApiFaults(before=w.note)
    async with beside(reflector.run(), writer.run()):
        await reflector.synced.wait()
        await asyncio.sleep(1)
        yield w


def test_a_change_is_written_and_what_is_there_is_not() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            for n in range(5):
                w.want("m1", family="fam", observedGeneration=1)
                await asyncio.sleep(0.0 if n < 3 else 100.0)
            assert w.status("m1") == {"family": "fam", "observedGeneration": 1}
            assert (len(w.sent), len(w.writer)) == (1, 0)

    around(case)


def test_after_a_restart_nothing_is_written_again() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1", "m2") as w:
            for name in ("m1", "m2"):
                w.want(name, family="fam", wattsCap=3_000.0)
            await asyncio.sleep(1)
        async with writing(a) as w:
            for name in ("m1", "m2"):
                w.want(name, family="fam", wattsCap=3_000)
            assert len(w.writer) == 0
            await asyncio.sleep(100)
            assert w.sent == []
            assert (w.writer.spared, w.writer.requests) == (2, 0)

    around(case)


def test_what_is_not_wanted_any_more_goes() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            w.want("m1", family="fam", operation="reboot")
            await asyncio.sleep(1)
            w.want("m1", family="fam")
            await asyncio.sleep(limits.STATUS_SPACING_S)
            assert w.status("m1") == {"family": "fam"}

    around(case)


def test_what_flaps_is_written_once_in_a_while_and_the_last_counts() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            for n in range(601):
                w.want("m1", firmware=f"v{n}")
                await asyncio.sleep(0.5)
            await asyncio.sleep(limits.STATUS_SPACING_S)
            assert w.status("m1") == {"firmware": "v600"}
            assert 10 <= len(w.sent) <= 12

    around(case)


def test_what_came_back_before_it_was_written_costs_nothing() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            for version in ("v1", "v2", "v1"):
                w.want("m1", firmware=version)
                await asyncio.sleep(1)
            await asyncio.sleep(100)
            assert w.status("m1") == {"firmware": "v1"}
            assert len(w.sent) == 1

    around(case)


def test_an_own_write_that_the_cache_does_not_show_yet_is_known() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            a.client.faults.loses = lambda _event: True
            for version in ("v1", "v1", "v2", "v2", "v1"):
                w.want("m1", Priority.CHANGE, firmware=version)
                await asyncio.sleep(1)
                assert w.status("m1") == {"firmware": version}
            assert len(w.sent) == 3

    around(case)


def test_what_is_urgent_does_not_wait_for_the_spacing() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            w.want("m1", firmware="v1")
            await asyncio.sleep(1)
            w.want("m1", firmware="v2")
            await asyncio.sleep(1)
            assert w.status("m1") == {"firmware": "v1"}
            w.want("m1", Priority.CHANGE, firmware="v3")
            await asyncio.sleep(1)
            assert w.status("m1") == {"firmware": "v3"}
            await asyncio.sleep(100)
            assert len(w.sent) == 2

    around(case)


def test_the_pace() -> None:
    async def case(a: Around) -> None:
        names = [f"m{n:04}" for n in range(1_000)]
        async with writing(a, *names) as w:
            began_s = a.loop.time()
            for name in names:
                w.want(name, family="fam")
            w.want("m0999", Priority.SAFETY, family="other")
            assert len(w.writer) == 1_000
            await a.until(lambda: len(w.writer) == 0)
            assert a.loop.time() - began_s == pytest.approx(900 / limits.STATUS_WRITES_PER_S, 0.05)
            assert len(w.sent) == 1_000
            times = [at_s for at_s, _ in w.sent]
            for first, at_s in enumerate(times):
                within_1_s = sum(1 for other_s in times[first:] if other_s < at_s + 1.0)
                assert within_1_s <= limits.STATUS_BURST + limits.STATUS_WRITES_PER_S
            assert w.sent[0][1] == "m0999", "the urgent first"
            assert all(status_of(each)["family"] for each in a.there().values())

    around(case)


@pytest.mark.parametrize("how", ["refused", "silent", "throttled"])
def test_an_outage_costs_no_newest_value_and_no_flood(how: str) -> None:
    async def case(a: Around) -> None:
        names = [f"m{n}" for n in range(50)]
        async with writing(a, *names) as w:
            a.client.faults = ApiFaults(
                before=w.note,
                away="" if how == "throttled" else how,  # type: ignore[arg-type]
                throttle_s=20.0 if how == "throttled" else None,
            )
            for n in range(120):
                for name in names:
                    w.want(name, firmware=f"v{n}")
                await asyncio.sleep(10)
            assert len(w.writer) == len(names)
            assert len(w.sent) <= 1_200 / (limits.API_BACKOFF_MAX_S / 2) * limits.STATUS_WRITERS
            assert w.writer.trouble
            a.client.faults = ApiFaults(before=w.note)
            w.sent.clear()
            await a.until(lambda: len(w.writer) == 0, within_s=60)
            assert all(w.status(name) == {"firmware": "v119"} for name in names)
            assert len(w.sent) <= len(names) + limits.STATUS_WRITERS
            assert not w.writer.trouble

    around(case)


def test_a_value_that_comes_during_the_write_is_written_too() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            a.client.faults.latency_s = (2.0, 3.0)
            w.want("m1", Priority.CHANGE, firmware="v1")
            await asyncio.sleep(1)
            w.want("m1", Priority.CHANGE, firmware="v2")
            await a.until(lambda: len(w.writer) == 0)
            assert w.status("m1") == {"firmware": "v2"}

    around(case)


def test_what_was_deleted_is_let_go() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1", "m2") as w:
            a.client.faults.loses = lambda _event: True  # It does not get to know.
            a.drop("m1")
            w.want("m1", firmware="v1")
            w.want("m2", firmware="v1")
            await asyncio.sleep(10)
            assert set(a.there()) == {"site/m2"}
            assert (len(w.writer), len(w.sent)) == (0, 2)
            assert w.writer.troubles == {}

    around(case)


def test_another_object_of_the_name_does_not_get_it() -> None:
    async def case(a: Around) -> None:
        a.put("m1", 1)
        a.put("m1", 2)
        async with writing(a) as w:
            old = w.cache.get("site/m1")
            assert old is not None
            a.client.faults.loses = lambda _event: True
            a.drop("m1")
            a.put("m1")
            w.want("m1", observedGeneration=2)
            await asyncio.sleep(10)
            assert w.status("m1") is None, "generation 1 is not said to be 2"
            a.client.faults.loses = None
            a.client.cut(ClusterAway("broken"))
            a.put("m2")
            await asyncio.sleep(limits.RELIST_S + 600)
            assert len(w.writer) == 0
            w.writer.want(w.cache, old, {"observedGeneration": 2})
            await asyncio.sleep(10)
            assert w.status("m1") is None

    around(case)


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 2},
        {"observedGeneration": 1, "conditions": [{"type": "Ready", "observedGeneration": 2}]},
    ],
)
def test_no_status_is_ahead_of_its_object(status: dict[str, Any]) -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            with pytest.raises(ValueError, match="observedGeneration 2 of generation 1"):
                w.want("m1", **status)

    around(case)


def test_a_conflict_is_tried_again() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            times = 0

            def refuse(call: Call) -> None:
                nonlocal times
                if call.verb == "apply" and (times := times + 1) <= 3:
                    raise Conflict("somebody was first")

            a.client.faults = ApiFaults(before=refuse)
            w.want("m1", firmware="v1")
            await asyncio.sleep(0.2)
            assert w.writer.troubles == {"miners/site/m1": "somebody was first"}
            await a.until(lambda: len(w.writer) == 0, within_s=5)
            assert w.status("m1") == {"firmware": "v1"}
            assert w.writer.troubles == {}

    around(case)


def test_one_that_is_refused_holds_up_no_other() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "bad", "good") as w:

            def refuse(call: Call) -> None:
                w.note(call)
                if call.verb == "apply" and call.name == "bad":
                    raise Rejected("spec.x: unknown")

            a.client.faults = ApiFaults(before=refuse)
            w.want("bad", firmware="v1")
            w.want("good", firmware="v1")
            await asyncio.sleep(3_600)
            assert w.status("good") == {"firmware": "v1"}
            assert w.writer.troubles == {"miners/site/bad": "spec.x: unknown"}
            assert len(w.sent) <= 3_600 / (limits.RECONCILE_BACKOFF_MAX_S / 2) + 10
            a.client.faults = ApiFaults()
            await a.until(lambda: len(w.writer) == 0, within_s=limits.RECONCILE_BACKOFF_MAX_S + 1)

    around(case)


def test_a_status_that_will_never_be_taken_is_sent_once_and_said_once() -> None:
    async def case(a: Around) -> None:
        names = [f"m{n}" for n in range(50)]
        async with writing(a, *names, "good") as w:
            a.server.undeclared = {".status.firmware"}
            for _ in range(60):
                for name in names:
                    w.want(name, firmware="v1", family="fam")
                w.want("good", family="fam")
                await asyncio.sleep(60)
            assert w.status("good") == {"family": "fam"}
            assert len(w.sent) == len(names) + 1
            assert (len(w.writer), len(w.writer.refused)) == (0, len(names))
            assert w.writer.troubles == {}
            assert "field not declared in schema" in w.writer.refused["miners/site/m0"]
            [(where, words)] = a.bugs
            assert where.startswith("miners/site/m")
            assert "until it changes" in words

            w.sent.clear()
            w.want("m0", firmware="v2")
            w.want("m1", family="fam")
            a.drop("m2")
            await asyncio.sleep(60)
            assert [name for _, name in w.sent] == ["m0", "m1"]
            assert w.status("m1") == {"family": "fam"}
            assert len(w.writer.refused) == len(names) - 2
            assert len(a.bugs) == 1

    around(case)


def test_a_status_that_was_refused_may_come_back() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            a.server.undeclared = {".status.firmware"}
            w.want("m1", firmware="v1")
            await asyncio.sleep(60)
            w.want("m1", family="fam")
            await asyncio.sleep(60)
            a.server.undeclared = set()
            w.want("m1", firmware="v1")
            await asyncio.sleep(60)
            assert w.status("m1") == {"firmware": "v1"}
            assert w.writer.refused == {}

    around(case)


def test_what_others_write_beside_is_no_reason_to_write() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            w.want("m1", firmware="v1")
            await asyncio.sleep(60)
            for n in range(5):
                body = miner("m1") | {"status": {"theirs": n}}
                a.server.apply(MINERS, body, manager="agent", force=False, subresource="status")
                await asyncio.sleep(60)
                w.want("m1", firmware="v1")
            assert w.status("m1") == {"firmware": "v1", "theirs": 4}
            assert len(w.sent) == 1
            body = miner("m1") | {"status": {"firmware": "forged"}}
            a.server.apply(MINERS, body, manager="agent", force=True, subresource="status")
            await asyncio.sleep(1)
            w.want("m1", firmware="v1")
            await asyncio.sleep(1)
            assert w.status("m1")["firmware"] == "v1"

    around(case)


def test_who_is_not_the_one_that_writes_writes_nothing() -> None:
    async def case(a: Around) -> None:
        async with writing(a, "m1") as w:
            w.is_leader = False
            for n in range(100):
                w.want("m1", firmware=f"v{n}")
                await asyncio.sleep(1)
            assert w.sent == []
            w.is_leader = True
            await a.until(lambda: len(w.writer) == 0, within_s=3)
            assert w.status("m1") == {"firmware": "v99"}

    around(case)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["want", "want", "want", "drop", "put", "spec", "away", "lost", "slow", "cut", "fine"]
        ),
        st.sampled_from(["m1", "m2", "m3"]),
        st.integers(0, 4),
        st.sampled_from(list(Priority)),
        st.sampled_from([0.0, 0.1, 5.0, 40.0]),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 100))
def test_in_the_end_the_last_one_stands(
    steps: list[tuple[str, str, int, Priority, float]], seed: int
) -> None:
    async def case(a: Around) -> None:
        rng = seeded(seed)
        wanted: dict[str, tuple[str, Any]] = {}

        def lose(call: Call) -> None:
            if call.writes and rng.random() < 0.5:
                raise ClusterAway("the reply was lost")

        faults = {
            "away": ApiFaults(away="refused"), "lost": ApiFaults(after=lose),
            "slow": ApiFaults(latency_s=(0.2, 3.0)), "fine": ApiFaults(),
        }  # fmt: skip
        async with writing(a, "m1", "m2", "m3") as w:
            for what, name, number, priority, wait_s in steps:
                cached = w.cache.get(f"{PLACE}/{name}")
                match what:
                    case "want" if cached is not None:
                        generation = cached.metadata.generation
                        status = {"firmware": f"v{number}", "observedGeneration": generation}
                        w.writer.want(w.cache, cached, status, priority)
                        wanted[name] = (cached.metadata.uid, status)
                    case "drop" if f"{PLACE}/{name}" in a.there():
                        a.drop(name)
                    case "put" | "spec":
                        a.put(name, slot=number + 1)
                    case "cut":
                        a.client.cut(ClusterAway("broken"))
                    case "away" | "lost" | "slow" | "fine":
                        a.client.faults = faults[what]
                    case _:
                        pass
                await asyncio.sleep(wait_s)
            a.client.faults = ApiFaults()
            await asyncio.sleep(limits.STATUS_SPACING_S + limits.API_BACKOFF_MAX_S + 130)
            assert len(w.writer) == 0
            for name, (uid, status) in wanted.items():
                now = a.there().get(f"{PLACE}/{name}")
                if now is not None and now.metadata.uid == uid:
                    assert status_of(now) == status
            for each in a.there().values():
                seen = (status_of(each) or {}).get("observedGeneration", 0)
                assert seen <= each.metadata.generation

    around(case)
