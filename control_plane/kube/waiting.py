"""How long to wait for an API server, how long until it is asked again, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from control_plane.core import limits
from control_plane.core.cluster import ClusterAway
from control_plane.core.ports import Clock, Rng

T = TypeVar("T")
P = ParamSpec("P")


class Aside(Protocol):
    """Does what would hold up the loop: `asyncio.to_thread`, or the function itself in virtual time."""

    async def __call__(
        self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What the function returns."""
        ...


async def unless(alarm: Coroutine[Any, Any, object], doing: Coroutine[Any, Any, T]) -> T:
    """What `doing` returns; it is cancelled if `alarm` ends before.

    Raises:
        TimeoutError: the alarm ended first.
    """
    work, bell = asyncio.ensure_future(doing), asyncio.ensure_future(alarm)
    try:
        await asyncio.wait((work, bell), return_when=asyncio.FIRST_COMPLETED)
    finally:
        bell.cancel()
        work.cancel()
    # What has ended meanwhile counts: cancelling it did nothing.
    await asyncio.wait((work,))
    if work.cancelled():
        raise TimeoutError
    return work.result()


async def within(clock: Clock, limit_s: float, doing: Coroutine[Any, Any, T]) -> T:
    """What `doing` returns, within wire seconds.

    Raises:
        TimeoutError: it took longer, and was cancelled.
    """
    return await unless(clock.wire_sleep(limit_s), doing)


class Backoff:
    """Waits that double and are never twice the same, in wire seconds."""

    def __init__(self, rng: Rng, *, first_s: float, max_s: float) -> None:
        self._rng = rng
        self._first_s = first_s
        self._max_s = max_s
        self._next_s = first_s

    def next_s(self, error: BaseException | None = None) -> float:
        """The next wait; at least what the server asked for, up to RETRY_AFTER_MAX_S."""
        wait_s = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, self._max_s)
        asked_s = error.retry_after_s if isinstance(error, ClusterAway) else None
        if asked_s is None:
            return wait_s
        # All that were sent away together do not come back together.
        return min(asked_s, limits.RETRY_AFTER_MAX_S) + wait_s

    def reset(self) -> None:
        """It went well: begin anew."""
        self._next_s = self._first_s


def api_backoff(rng: Rng) -> Backoff:
    """As an API server is asked again."""
    return Backoff(rng, first_s=limits.API_BACKOFF_MIN_S, max_s=limits.API_BACKOFF_MAX_S)


class Bucket:
    """Tokens that come at a steady pace; a full bucket is a burst."""

    def __init__(self, clock: Clock, *, per_s: float, burst: int) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at_s = clock.wire_s()

    async def take(self) -> None:
        """A token, as soon as there is one; who came first has it first."""
        now_s = self._clock.wire_s()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        self._tokens -= 1
        # Below zero it is promised: the wait is until the promise is covered.
        if self._tokens < 0:
            await self._clock.wire_sleep(-self._tokens / self._per_s)
