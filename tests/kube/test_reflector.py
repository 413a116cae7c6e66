"""A cache becomes what the server has, whatever the line does, and never at the server's cost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.cluster import (
    ClusterAway,
    ClusterError,
    Event,
    Gone,
    Metadata,
    NotFound,
    Object,
    Page,
    Rejected,
    Throttled,
    Unauthorized,
)
from control_plane.kube.cache import Cache
from control_plane.kube.reflector import Reflector
from control_plane.simulator.api_client import ApiFaults, Call
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual, seeded
from tests.kube.running import MINERS, Around, Told, around, beside, no_bug


def calls(a: Around) -> tuple[int, int]:
    return a.client.calls["list", "Miner"], a.client.calls["watch", "Miner"]


def test_it_lists_page_by_page_then_watches() -> None:
    async def case(a: Around) -> None:
        for n in range(1_100):
            a.put(f"m{n:04}")
        cache = Cache(MINERS, bug=no_bug)
        told, reflector = Told(cache), a.reflector(cache)
        async with beside(reflector.run()):
            await reflector.synced.wait()
            assert calls(a)[0] == 3
            assert len(cache) == 1_100
            a.put("m0000", slot=2)
            a.put("new")
            a.drop("m0001")
            await a.until(lambda: len(told.all) == 1_103)
            assert told.objects == a.there()
            await asyncio.sleep(limits.RELIST_S + limits.WATCH_TURN_S)
            assert reflector.lists == 2, "a watch that the server ends goes on from where it was"
            assert reflector.errors == 0
            assert calls(a)[1] <= limits.RELIST_S / limits.WATCH_TURN_S + 2

    around(case)


@pytest.mark.parametrize("error", [None, ClusterAway("broken")], ids=["ended", "broken"])
def test_a_watch_that_breaks_goes_on_without_a_list(error: ClusterError | None) -> None:
    async def case(a: Around) -> None:
        a.put("m1")
        a.put("m2")
        cache = Cache(MINERS, bug=no_bug)
        told, reflector = Told(cache), a.reflector(cache)
        async with beside(reflector.run()):
            await a.until(lambda: calls(a)[1] == 1)
            a.client.cut(error)
            a.drop("m1")
            a.put("m2", slot=2)
            await a.until(lambda: told.objects == a.there(), within_s=2.0)
            assert reflector.lists == 1
            assert len(told.all) == 4, "nothing is told twice"

    around(case)


def test_too_old_is_listed_anew_and_what_went_meanwhile_is_told() -> None:
    async def case(a: Around) -> None:
        a.put("m1")
        a.put("m2")
        cache = Cache(MINERS, bug=no_bug)
        told, reflector = Told(cache), a.reflector(cache)
        async with beside(reflector.run()):
            await a.until(lambda: calls(a)[1] == 1)
            m1, m2 = cache.get("site/m1"), cache.get("site/m2")
            told.all.clear()
            a.client.cut(Gone("in the middle of a watch"))
            a.drop("m1")
            a.put("m3")
            a.server.compact()
            await a.until(lambda: reflector.lists == 2)
            assert told.all == [(m1, None), (None, a.there()["site/m3"])]
            assert cache.get("site/m2") == m2

    around(case)


def test_a_list_whose_pages_expire_begins_anew() -> None:
    async def case(a: Around) -> None:
        for n in range(600):
            a.put(f"m{n:04}")

        def expire(call: Call) -> None:
            if call.verb == "list":
                a.client.faults.after = None
                a.server.compact()

        a.client.faults = ApiFaults(after=expire)
        cache = Cache(MINERS, bug=no_bug)
        async with beside(a.reflector(cache).run()):
            await a.until(lambda: len(cache) == 600, within_s=2.0)

    around(case)


def test_what_the_server_asks_for_is_waited_for() -> None:
    async def case(a: Around) -> None:
        a.client.faults = ApiFaults(throttle_s=17.0)
        asked: list[float] = []
        a.client.faults.before = lambda _call: asked.append(a.loop.time())
        async with beside(a.reflector(Cache(MINERS, bug=no_bug)).run()):
            await asyncio.sleep(600)
        gaps = [after - before for before, after in itertools.pairwise(asked)]
        assert min(gaps) >= 17.0
        assert len(set(gaps)) == len(gaps), "who was sent away together does not come back together"

    around(case)


def test_no_server_is_obeyed_for_a_day() -> None:
    async def case(a: Around) -> None:
        a.client.faults = ApiFaults(throttle_s=86_400.0)
        reflector = a.reflector(Cache(MINERS, bug=no_bug))
        async with beside(reflector.run()):
            await asyncio.sleep(10)
            a.client.faults = ApiFaults()
            await a.until(reflector.synced.is_set, within_s=limits.RETRY_AFTER_MAX_S)

    around(case)


def test_a_line_that_died_half_is_noticed() -> None:
    async def case(a: Around) -> None:
        cache = Cache(MINERS, bug=no_bug)
        reflector = a.reflector(cache)
        async with beside(reflector.run()):
            await asyncio.sleep(100)
            a.client.faults = ApiFaults(silent=True)
            a.put("m1")
            await asyncio.sleep(20)
            assert len(cache) == 0
            a.client.faults = ApiFaults()
            await a.until(lambda: len(cache) == 1, within_s=75.0)
            assert (reflector.errors, reflector.lists) == (1, 2)
            troubles = [reflector.trouble]
            await asyncio.sleep(100)
            troubles.append(reflector.trouble)
            assert troubles == ["silent for 70 s", ""]

    around(case)


def test_freshness_is_lost_in_an_outage_and_comes_back() -> None:
    async def case(a: Around) -> None:
        reflector = a.reflector(Cache(MINERS, bug=no_bug))
        assert not reflector.is_fresh()
        async with beside(reflector.run()):
            for _ in range(100):
                await asyncio.sleep(10)
                assert reflector.is_fresh()
                assert reflector.silent_s() <= 60.0
            a.client.faults = ApiFaults(away="silent")
            await asyncio.sleep(200)
            assert not reflector.is_fresh()
            assert reflector.silent_s() >= 140.0
            a.client.faults = ApiFaults()
            await a.until(lambda: reflector.silent_s() < 1.0, within_s=75.0)
            assert reflector.is_fresh()

    around(case)


def test_success_makes_it_impatient_again() -> None:
    async def case(a: Around) -> None:
        cache = Cache(MINERS, bug=no_bug)
        reflector = a.reflector(cache)
        async with beside(reflector.run()):
            a.client.faults = ApiFaults(away="refused")
            await asyncio.sleep(600)
            a.client.faults = ApiFaults()
            await a.until(reflector.synced.is_set, within_s=limits.API_BACKOFF_MAX_S)
            await asyncio.sleep(100)
            a.client.cut(ClusterAway("once"))
            a.put("m1")
            await a.until(lambda: len(cache) == 1, within_s=limits.API_BACKOFF_MIN_S + 0.1)

    around(case)


def test_a_store_that_was_restored_from_a_backup_is_followed_back() -> None:
    async def case(a: Around) -> None:
        a.put("kept")
        backup = a.server.snapshot()
        a.put("lost")
        cache = Cache(MINERS, bug=no_bug)
        told, reflector = Told(cache), a.reflector(cache)
        async with beside(reflector.run()):
            await a.until(lambda: len(cache) == 2)
            a.server.restore(backup)
            a.client.cut(ClusterAway("the server restarts"))
            await a.until(lambda: set(told.objects) == {"site/kept"}, within_s=75.0)
            a.put("new")
            await a.until(lambda: told.objects == a.there(), within_s=1.0)

    around(case)


class Hostile:
    """A server that does one and the same thing for ever."""

    def __init__(self, clock: VirtualClock, what: object) -> None:
        self.clock = clock
        self.what = what
        self.asked_s: list[float] = []

    async def list_page(self, _kind: Any, **_more: Any) -> Page:
        self.asked_s.append(self.clock.wire_s())
        if isinstance(self.what, tuple):
            raise self.what[0]
        if self.what == "hangs":
            await asyncio.Event().wait()
        return Page(items=(), resource_version="7")

    async def watch(self, _kind: Any, **_more: Any) -> AsyncGenerator[Event, None]:
        self.asked_s.append(self.clock.wire_s())
        if isinstance(self.what, Exception):
            raise self.what
        if self.what == "one bookmark":
            yield Event(type="BOOKMARK", object=Object(metadata=Metadata(resource_version="8")))
        elif self.what == "older and older":
            yield Event(type="BOOKMARK", object=Object(metadata=Metadata(resource_version="6")))
        elif self.what == "nonsense":
            yield Event(type="BOOKMARK", object=Object(metadata=Metadata(resource_version="x")))
        elif self.what == "nothing":
            await asyncio.Event().wait()


HOSTILE: dict[str, object] = {
    "list: away": (ClusterAway("503"),),
    "list: away, come back at once": (ClusterAway("503", 0.0),),
    "list: too much to do": (Throttled("429", 0.0),),
    "list: gone": (Gone("410"),),
    "list: who are you": (Unauthorized("401"),),
    "list: no": (Rejected("403"),),
    "list: no such kind": (NotFound("404"),),
    "list: a bug of ours": (ValueError("bug"),),
    "list: hangs": "hangs",
    "watch: away": ClusterAway("503"),
    "watch: too much to do": Throttled("429", 0.0),
    "watch: gone": Gone("410"),
    "watch: no": Rejected("403"),
    "watch: a bug of ours": ValueError("bug"),
    "watch: ends at once": "ends at once",
    "watch: one bookmark": "one bookmark",
    "watch: older and older": "older and older",
    "watch: nonsense": "nonsense",
    "watch: nothing": "nothing",
}


@pytest.mark.parametrize("what", HOSTILE.values(), ids=HOSTILE)
def test_no_server_makes_it_hot(what: object) -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        server, bugs = Hostile(clock, what), list[str]()
        reflector = Reflector(
            server,  # type: ignore[arg-type]  # the two calls that a reflector makes
            Cache(MINERS, bug=no_bug),
            clock=clock, rng=seeded(1), bug=lambda _whose, words: bugs.append(words),
        )  # fmt: skip
        async with beside(reflector.run()):
            await asyncio.sleep(3_600)
        asked = server.asked_s
        assert len(asked) == reflector.requests
        assert 40 <= len(asked) <= 500, "neither hot nor asleep"
        assert sum(1 for at_s in asked if at_s < 10) <= 12
        assert reflector.trouble or what in {"ends at once", "one bookmark"}
        assert bool(bugs) == ("ValueError" in repr(what))

    run_virtual(main, horizon_s=4_000)


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(1, 3)),
    st.tuples(st.just("drop"), st.sampled_from("abcd"), st.just(0)),
    st.tuples(st.just("cut"), st.sampled_from(["ended", "away", "gone"]), st.just(0)),
    st.tuples(st.just("fault"), st.sampled_from(["away", "silent", "throttle", "slow"]), st.just(0)),
    st.tuples(st.just("compact"), st.just(""), st.just(0)),
    st.tuples(st.just("backup"), st.just(""), st.just(0)),
    st.tuples(st.just("restore"), st.just(""), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.integers(1, 200)),
)  # fmt: skip
FAULTS = {
    "away": ApiFaults(away="refused"),
    "silent": ApiFaults(silent=True),
    "throttle": ApiFaults(throttle_s=3.0),
    "slow": ApiFaults(latency_s=(0.5, 4.0)),
}
ENDS = {"ended": None, "away": ClusterAway("cut"), "gone": Gone("cut")}


@given(st.lists(STEPS, max_size=30), st.integers(0, 1_000))
def test_in_the_end_it_is_what_the_server_has(steps: list[tuple[str, str, int]], seed: int) -> None:
    async def case(a: Around) -> None:
        cache = Cache(MINERS, bug=no_bug)
        told, reflector = Told(cache), a.reflector(cache, seed)
        backup = a.server.snapshot()
        async with beside(reflector.run()):
            for what, name, number in steps:
                match what:
                    case "put":
                        a.put(name, number)
                    case "drop" if f"site/{name}" in a.there():
                        a.drop(name)
                    case "cut":
                        a.client.cut(ENDS[name])
                    case "fault":
                        a.client.faults = FAULTS[name]
                    case "compact":
                        a.server.compact()
                    case "backup":
                        backup = a.server.snapshot()
                    case "restore":
                        a.server.restore(backup)
                        a.client.cut(ClusterAway("the server restarts"))
                    case _:
                        await asyncio.sleep(number)
            a.client.faults = ApiFaults()
            # After a restore the server gives out its numbers again: nothing but a list tells.
            await asyncio.sleep(limits.RELIST_S + limits.WATCH_TURN_S + 200)
            assert {each.key: each for each in cache} == told.objects == a.there()
            assert reflector.is_fresh()

    around(case)
