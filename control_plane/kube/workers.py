"""Works off keys: the urgent first, each key by one worker at a time, failures with growing patience.

A key is a reason to look, nothing more: what to do is read from the caches at its turn, so that pushing it
ten times is as good as once. One that is pushed while it is worked on is worked on again.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError
from control_plane.core.ports import Clock, Rng
from control_plane.engine.bugs import in_words
from control_plane.engine.queue import KeyedQueue, Priority
from control_plane.kube.cache import Bug
from control_plane.kube.waiting import Backoff

Handle = Callable[[str], Awaitable[float | None]]
"""One turn of a key; what it returns are the wire seconds after which it wants another one."""

_TICK_S = 0.25
"""A key that is due waits at most that much longer."""
_INSTANT_S = 0.001
_BEHIND_S = 0.2
"""A key whose own write is not in the cache yet is looked at again after that: no request is made."""


class Workers:
    """`run` never ends by itself; what is in work when it is cancelled is cancelled too."""

    def __init__(
        self,
        handle: Handle,
        *,
        clock: Clock,
        rng: Rng,
        bug: Bug,
        is_behind: Callable[[str], bool] = lambda _key: False,
        count: int = limits.RECONCILE_WORKERS,
    ) -> None:
        self.turns = 0
        """Turns that ended, well or badly."""
        self.failures = 0
        """Turns that ended badly."""
        self.troubles: dict[str, str] = {}
        """Why the last turn of a key failed, in words."""
        self._handle = handle
        self._clock = clock
        self._rng = rng
        self._bug = bug
        self._is_behind = is_behind
        self._room = asyncio.Semaphore(count)
        self._queue: KeyedQueue[tuple[str, Priority]] = KeyedQueue()
        self._in_work: set[str] = set()
        self._again: dict[str, Priority] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._later: dict[str, tuple[float, Priority]] = {}
        self._alarms: list[tuple[float, str]] = []
        self._has_alarm = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait, for their turn or for their time."""
        return len(self._queue) + len(self._later)

    @property
    def in_work(self) -> int:
        """Keys that are worked on at this moment."""
        return len(self._in_work)

    def push(self, key: str, priority: Priority) -> None:
        """Let a key have its turn: soon, or again where it has one just now.

        One that failed keeps its back-off, unless a person or safety wants it: what it wrote itself
        before it failed may be the news.
        """
        if key in self._in_work:
            self._again[key] = min(priority, self._again.get(key, priority))
            return
        later = self._later.get(key)
        if later is not None:
            if key in self._backoffs and priority >= Priority.DRIFT:
                self._later[key] = (later[0], min(priority, later[1]))
                return
            del self._later[key]
            priority = min(priority, later[1])
        self._queue.push(key, (key, priority), priority)

    def push_after(self, key: str, priority: Priority, *, after_s: float) -> None:
        """Let a key have a turn after wire seconds, unless it has one before."""
        self._wait(key, priority, after_s)

    async def run(self) -> None:
        """Give turns for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ring())
            while True:
                await self._room.acquire()
                while (next_one := self._queue.pop()) is None:
                    await self._queue.wait()
                key, priority = next_one
                self._in_work.add(key)
                group.create_task(self._turn(key, priority))

    async def _turn(self, key: str, priority: Priority) -> None:
        after_s: float | None
        try:
            if self._is_behind(key):
                after_s = _BEHIND_S
            else:
                after_s = await self._handle(key)
                self.turns += 1
                self._backoffs.pop(key, None)
                self.troubles.pop(key, None)
                # It was served: another turn that it asked for itself is routine.
                priority = Priority.DRIFT
        except ControlPlaneError as error:
            after_s = self._failed(key, str(error), error)
        except Exception as bug:  # noqa: BLE001 - a bug of ours costs one key its turn, not the others
            words = in_words(bug)
            self._bug(key, words)
            after_s = self._failed(key, words, bug)
        finally:
            self._in_work.discard(key)
            self._room.release()
        again = self._again.pop(key, None)
        if after_s is not None:
            self._wait(key, priority, after_s)
        if again is not None:
            self.push(key, again)

    def _failed(self, key: str, words: str, error: Exception) -> float:
        self.turns += 1
        self.failures += 1
        self.troubles[key] = words
        backoff = self._backoffs.get(key)
        if backoff is None:
            backoff = self._backoffs[key] = Backoff(
                self._rng,
                first_s=limits.RECONCILE_BACKOFF_MIN_S,
                max_s=limits.RECONCILE_BACKOFF_MAX_S,
            )
        return backoff.next_s(error)

    def _wait(self, key: str, priority: Priority, after_s: float) -> None:
        due_s = self._clock.wire_s() + after_s
        later = self._later.get(key)
        if later is not None and later[0] <= due_s:
            self._later[key] = (later[0], min(priority, later[1]))
            return
        self._later[key] = (due_s, priority)
        heapq.heappush(self._alarms, (due_s, key))
        self._has_alarm.set()

    async def _ring(self) -> None:
        """Push what is due."""
        while True:
            if not self._alarms:
                self._has_alarm.clear()
                await self._has_alarm.wait()
                continue
            due_s, key = self._alarms[0]
            left_s = due_s - self._clock.wire_s()
            if left_s >= _INSTANT_S:
                await self._clock.wire_sleep(min(left_s, _TICK_S))
                continue
            heapq.heappop(self._alarms)
            later = self._later.get(key)
            if later is not None and later[0] == due_s:
                del self._later[key]
                self.push(key, later[1])
