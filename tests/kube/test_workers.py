"""Each key by one worker at a time, the urgent first, and no key at the cost of another."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.cluster import ClusterAway, Conflict
from control_plane.engine.queue import Priority
from control_plane.kube.workers import Handle, Workers
from control_plane.simulator.virtual import seeded
from tests.kube.running import Around, around, beside


def workers(a: Around, handle: Handle, **more: Any) -> Workers:
    return Workers(handle, clock=a.clock, rng=seeded(1), bug=a.note_bug, **more)


def test_the_urgent_first_and_each_once() -> None:
    async def case(a: Around) -> None:
        done: list[str] = []

        async def handle(key: str) -> None:
            done.append(key)

        pool = workers(a, handle, count=1)
        pool.push("first sync", Priority.FIRST_SYNC)
        pool.push("drift", Priority.DRIFT)
        pool.push("became urgent", Priority.FIRST_SYNC)
        pool.push("change", Priority.CHANGE)
        pool.push("safety", Priority.SAFETY)
        pool.push("became urgent", Priority.SAFETY)
        pool.push("safety", Priority.FIRST_SYNC)
        assert len(pool) == 5
        async with beside(pool.run()):
            await asyncio.sleep(1)
        assert done == ["safety", "became urgent", "change", "drift", "first sync"]
        assert (len(pool), pool.in_work, pool.turns, pool.failures) == (0, 0, 5, 0)

    around(case)


def test_what_is_pushed_while_it_is_worked_on_is_worked_on_again() -> None:
    async def case(a: Around) -> None:
        began: list[float] = []

        async def handle(_key: str) -> None:
            began.append(a.loop.time())
            await asyncio.sleep(10)

        pool = workers(a, handle)
        async with beside(pool.run()):
            pool.push("k", Priority.DRIFT)
            await asyncio.sleep(1)
            for _ in range(3):
                pool.push("k", Priority.DRIFT)
            await asyncio.sleep(100)
        assert began == [0.0, 10.0]

    around(case)


def test_failures_wait_longer_each_time_and_success_forgets_them() -> None:
    async def case(a: Around) -> None:
        turns: list[float] = []

        async def handle(_key: str) -> None:
            turns.append(a.loop.time())
            if len(turns) not in {12, 13}:
                raise Conflict("somebody was first")

        pool = workers(a, handle)
        pool.push("k", Priority.CHANGE)
        async with beside(pool.run()):
            await a.until(lambda: len(turns) == 11)
            assert pool.troubles == {"k": "somebody was first"}
            await a.until(lambda: len(turns) == 12)
            assert pool.troubles == {}
            gaps = [after - before for before, after in itertools.pairwise(turns)]
            longest = limits.RECONCILE_BACKOFF_MAX_S
            for n, gap in enumerate(gaps):
                most = min(limits.RECONCILE_BACKOFF_MIN_S * 2**n, longest)
                assert most / 2 <= gap <= most + 0.3
            pool.push("k", Priority.DRIFT)
            await a.until(lambda: len(turns) == 13)
            pool.push("k", Priority.DRIFT)
            await a.until(lambda: len(turns) == 15, within_s=2 * limits.RECONCILE_BACKOFF_MIN_S)
            assert pool.failures == 13

    around(case)


def test_what_the_server_asks_for_is_waited_for() -> None:
    async def case(a: Around) -> None:
        turns: list[float] = []

        async def handle(_key: str) -> None:
            turns.append(a.loop.time())
            raise ClusterAway("503", 30.0)

        pool = workers(a, handle)
        pool.push("k", Priority.CHANGE)
        async with beside(pool.run()):
            await asyncio.sleep(29)
            assert len(turns) == 1

    around(case)


def test_a_bug_in_one_key_stops_no_other() -> None:
    async def case(a: Around) -> None:
        done = Counter[str]()

        async def handle(key: str) -> None:
            done[key] += 1
            if key == "bad":
                raise KeyError("secret")

        pool = workers(a, handle, count=2)
        async with beside(pool.run()):
            for n in range(100):
                pool.push("bad", Priority.SAFETY)
                pool.push(f"k{n}", Priority.DRIFT)
                await asyncio.sleep(1)
        assert all(done[f"k{n}"] == 1 for n in range(100))
        assert {whose for whose, _ in a.bugs} == {"bad"}
        assert "KeyError at" in pool.troubles["bad"]
        assert "secret" not in pool.troubles["bad"]

    around(case)


@pytest.mark.parametrize(
    ("priority", "is_at_once"),
    [(Priority.SAFETY, True), (Priority.CHANGE, True), (Priority.DRIFT, False)],
)
def test_news_of_a_key_that_failed(priority: Priority, *, is_at_once: bool) -> None:
    """A person's change may be the cure; drift may be what the failed turn itself has written."""

    async def case(a: Around) -> None:
        turns = 0

        async def handle(_key: str) -> None:
            nonlocal turns
            turns += 1
            raise Conflict("always")

        pool = workers(a, handle)
        pool.push("k", Priority.DRIFT)
        async with beside(pool.run()):
            await a.until(lambda: turns == 8)
            pool.push("k", priority)
            await asyncio.sleep(1)
            assert (turns == 9) is is_at_once

    around(case)


def test_a_handler_that_writes_and_fails_is_not_hot() -> None:
    async def case(a: Around) -> None:
        turns = 0
        pool: Workers

        async def handle(key: str) -> None:
            nonlocal turns
            turns += 1
            pool.push(key, Priority.DRIFT)  # the event of what it wrote
            raise Conflict("and then it failed")

        pool = workers(a, handle)
        pool.push("k", Priority.DRIFT)
        async with beside(pool.run()):
            await asyncio.sleep(3_600)
        assert turns <= 3_600 / (limits.RECONCILE_BACKOFF_MAX_S / 2) + 10

    around(case)


def test_another_turn_when_it_asks_for_one_or_before() -> None:
    async def case(a: Around) -> None:
        turns: list[float] = []

        async def handle(_key: str) -> float:
            turns.append(round(a.loop.time()))
            return 30.0

        pool = workers(a, handle)
        pool.push("k", Priority.DRIFT)
        async with beside(pool.run()):
            await asyncio.sleep(70)
            pool.push("k", Priority.DRIFT)
            await asyncio.sleep(65)
            assert turns == [0, 30, 60, 70, 100, 130]

    around(case)


def test_a_key_that_is_behind_its_own_write_waits() -> None:
    async def case(a: Around) -> None:
        turns: list[float] = []

        async def handle(_key: str) -> None:
            turns.append(a.loop.time())

        pool = workers(a, handle, is_behind=lambda key: key == "k" and a.loop.time() < 5.0)
        pool.push("k", Priority.SAFETY)
        pool.push("other", Priority.DRIFT)
        async with beside(pool.run()):
            await asyncio.sleep(10)
        assert turns == [0.0, pytest.approx(5.0, abs=0.5)]
        assert pool.failures == 0

    around(case)


PUSHES = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from(list(Priority)),
        st.floats(0.0, 3.0),
        st.sampled_from(["works", "fails", "has a bug", "wants more", "is slow"]),
    ),
    max_size=60,
)


@given(PUSHES, st.integers(1, 3))
def test_one_at_a_time_and_none_forgotten(
    pushes: list[tuple[str, Priority, float, str]], count: int
) -> None:
    async def case(a: Around) -> None:
        in_work: set[str] = set()
        pushed_s: dict[str, float] = {}
        served_s: dict[str, float] = {}
        mood = "works"

        async def handle(key: str) -> float | None:
            assert key not in in_work
            in_work.add(key)
            assert len(in_work) <= count
            began_s = a.loop.time()
            try:
                await asyncio.sleep(2.0 if mood == "is slow" else 0.01)
                if mood == "fails":
                    raise Conflict("no")
                if mood == "has a bug":
                    raise KeyError("no")
                served_s[key] = began_s
                return 50.0 if mood == "wants more" else None
            finally:
                in_work.remove(key)

        pool = workers(a, handle, count=count)
        async with beside(pool.run()):
            for key, priority, wait_s, next_mood in pushes:
                mood = next_mood
                pool.push(key, priority)
                pushed_s[key] = a.loop.time()
                await asyncio.sleep(wait_s)
            mood = "works"
            await asyncio.sleep(limits.RECONCILE_BACKOFF_MAX_S + 60)
        assert all(served_s[key] >= at_s for key, at_s in pushed_s.items())
        assert (len(pool), pool.troubles) == (0, {})

    around(case)


def test_many_keys_have_each_a_turn() -> None:
    """15,000 keys: at most 64 at once, and none of them twice."""

    async def case(a: Around) -> None:
        done, most = Counter[str](), 0

        async def handle(key: str) -> None:
            nonlocal most
            most = max(most, pool.in_work)
            await asyncio.sleep(0.01)
            done[key] += 1

        pool = workers(a, handle)
        for n in range(15_000):
            pool.push(f"k{n}", Priority.FIRST_SYNC)
        async with beside(pool.run()):
            await a.until(lambda: len(pool) == 0)
            await asyncio.sleep(1)
        assert len(done) == 15_000
        assert set(done.values()) == {1}
        assert most == limits.RECONCILE_WORKERS

    around(case)
