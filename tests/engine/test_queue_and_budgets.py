"""Each key waits once, the urgent first; budgets never exceed what is declared."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.fleet import Budgets as Limits
from control_plane.core.memory import Memory
from control_plane.engine.queue import KeyedQueue, Priority
from control_plane.engine.slots import Budgets, make_slot
from tests.core.builders import CAPABILITIES, device, site


def drain(queue: KeyedQueue[str]) -> list[str]:
    found = []
    while (item := queue.pop()) is not None:
        found.append(item)
    return found


def test_a_key_waits_once_and_only_becomes_more_urgent() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.push("a", "a", Priority.FIRST_SYNC)
    queue.push("b", "b", Priority.DRIFT)
    queue.push("a", "a", Priority.SAFETY)
    queue.push("a", "a", Priority.FIRST_SYNC)
    assert len(queue) == 2
    assert drain(queue) == ["a", "b"]


def test_parked_keys_come_back_by_urgency() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.park("slow", "slow", Priority.FIRST_SYNC)
    queue.park("fast", "fast", Priority.SAFETY)
    assert drain(queue) == []
    queue.unpark(1)
    assert drain(queue) == ["fast"]
    queue.unpark(5)
    assert drain(queue) == ["slow"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(list(Priority))), max_size=40))
def test_nothing_is_lost_or_doubled(pushes: list[tuple[str, Priority]]) -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for key, priority in pushes:
        queue.push(key, key, priority)
    assert sorted(drain(queue)) == sorted({key for key, _ in pushes})


DEVICES = tuple(
    device(f"d{n:02}", rack=f"r{n % 4}", feed="pdu" if n % 2 else "pdu2") for n in range(24)
)
SITE = msgspec.structs.replace(
    site(DEVICES), budgets=Limits(in_flight_per_rack=2, in_flight_per_feed=3, in_flight_per_site=5)
)
SLOTS = [make_slot(SITE, d, Memory(asset=d.asset), None, CAPABILITIES) for d in DEVICES]


@given(st.lists(st.tuples(st.integers(0, 23), st.booleans()), max_size=80))
def test_budgets_are_never_exceeded_and_come_back_whole(moves: list[tuple[int, bool]]) -> None:
    budgets = Budgets(SITE)
    held: set[int] = set()
    for index, take in moves:
        slot = SLOTS[index]
        if take:
            if budgets.acquire(slot):
                assert index not in held
                held.add(index)
        else:
            budgets.release(slot)
            held.discard(index)
        assert budgets.total == len(held) <= 5
        for rack in {d.rack for d in DEVICES}:
            assert sum(1 for i in held if DEVICES[i].rack == rack) <= 2
        for feed in ("pdu", "pdu2"):
            assert sum(1 for i in held if DEVICES[i].feed == feed) <= 3
    for index in held:
        budgets.release(SLOTS[index])
    assert budgets.total == 0
    assert budgets.acquire(SLOTS[0])


def test_what_an_earlier_process_left_in_flight_counts_even_beyond_the_limit() -> None:
    budgets = Budgets(SITE)
    for slot in SLOTS[:8]:
        budgets.take(slot)
    assert budgets.total == 8
    assert not budgets.acquire(SLOTS[20])


def test_the_routine_turn_is_no_news() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.push("a", "a", Priority.FIRST_SYNC)
    assert not queue.has_news
    queue.push("b", "b", Priority.DRIFT)
    assert queue.has_news
