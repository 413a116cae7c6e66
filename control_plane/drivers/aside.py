"""Calls that may never return, aside of the event loop: one at a time, in one thread, each with a deadline.

A thread that hangs in a library cannot be ended. It is left behind, and nothing waits for it: not the next
call, nor the end of the process (which is why this is no executor: those are joined at exit).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Hung(Exception):
    """The call has not returned in time, or one before it still has not."""


class Aside:
    """The thread; it is started with the first call."""

    def __init__(self, deadline_s: float) -> None:
        """With how many wire seconds a call may take."""
        self._deadline_s = deadline_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._open: asyncio.Future[Any] | None = None

    async def call(self, act: Callable[[], T]) -> T:
        """What `act` returns or raises.

        Raises:
            Hung: it did not return in time; it may still do what it was asked for.
        """
        if self._open is not None and not self._open.done():
            raise Hung
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._open = answer
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="aside", daemon=True)
            self._thread.start()
        self._calls.put(lambda: _run(act, answer, loop))
        done, _ = await asyncio.wait({answer}, timeout=self._deadline_s)
        if not done:
            raise Hung
        return answer.result()

    def end(self) -> None:
        """Let the thread end, once it has nothing to do."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _run(act: Callable[[], T], answer: asyncio.Future[T], loop: asyncio.AbstractEventLoop) -> None:
    tell: Callable[[], None]
    try:
        tell = partial(answer.set_result, act())
    except Exception as error:  # noqa: BLE001 - it is raised where the call was made
        tell = partial(answer.set_exception, error)
    _tell(loop, answer, tell)


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], tell: Callable[[], None]
) -> None:
    def now() -> None:
        if not answer.done():
            tell()

    # The loop may have ended while the library hung.
    if not loop.is_closed():
        loop.call_soon_threadsafe(now)
