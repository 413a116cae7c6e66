"""A queue of keys: each key waits at most once, the most urgent first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """Why a key waits; smaller goes first."""

    SAFETY = 0
    CHANGE = 1
    DRIFT = 2
    FIRST_SYNC = 3


class KeyedQueue(Generic[T]):
    """Deduplicating priority queue with a side room for keys whose budget is spent."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._waiting: dict[str, tuple[int, T]] = {}
        self._parked: dict[str, tuple[Priority, T]] = {}
        self._numbers = itertools.count()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for their turn, parked ones not counted."""
        return len(self._waiting)

    @property
    def has_news(self) -> bool:
        """Whether anything waits but the routine turn of the slow hand."""
        return any(priority < Priority.FIRST_SYNC for priority, _ in self._waiting.values())

    @property
    def parked(self) -> int:
        """Keys that wait for a budget."""
        return len(self._parked)

    def push(self, key: str, item: T, priority: Priority) -> None:
        """Let a key wait; a key that waits already only becomes more urgent."""
        current = self._waiting.get(key)
        if current is not None and current[0] <= priority:
            return
        self._parked.pop(key, None)
        self._waiting[key] = (priority, item)
        heapq.heappush(self._heap, (priority, next(self._numbers), key))
        self._news.set()

    def park(self, key: str, item: T, priority: Priority) -> None:
        """Set a key aside until `unpark`."""
        if key not in self._waiting:
            self._parked[key] = (priority, item)

    def unpark(self, count: int) -> None:
        """Let up to `count` parked keys wait again, the most urgent first, in order of arrival."""
        if not self._parked or count <= 0:
            return
        chosen = sorted(self._parked.items(), key=lambda entry: entry[1][0])[:count]
        for key, (priority, item) in chosen:
            del self._parked[key]
            self.push(key, item, priority)

    def pop(self) -> T | None:
        """The most urgent item, or `None` if nothing waits."""
        while self._heap:
            priority, _, key = heapq.heappop(self._heap)
            entry = self._waiting.get(key)
            if entry is not None and entry[0] == priority:
                del self._waiting[key]
                return entry[1]
        self._news.clear()
        return None

    async def wait(self) -> None:
        """Until something waits."""
        await self._news.wait()
