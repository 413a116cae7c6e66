"""A virtual loop on which whole processes can stand still, as the operating system stops or kills them.

A process is everything that runs in a context in which `OWNER` is set: its tasks, their timers, whatever
they start. Suspended, none of it takes another step, no `except` and no `finally`; the world goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from control_plane.simulator.virtual import VirtualLoop

OWNER: ContextVar[object] = ContextVar("owner", default=None)


class SuspendingLoop(VirtualLoop):
    """The loop."""

    _ready: Any

    def __init__(self, *, horizon_s: float = float("inf")) -> None:
        super().__init__(horizon_s=horizon_s)
        self._held: dict[object, list[asyncio.Handle]] = {}

    def suspend(self, owner: object) -> None:
        """Let nothing of a process happen any more."""
        if owner in self._held:
            return
        held = self._held[owner] = []
        for index, handle in enumerate(self._ready):
            if _owner(handle) is owner:
                held.append(handle)
                # The loop has counted what it will run in this turn.
                self._ready[index] = blank = asyncio.Handle(int, (), self)
                blank.cancel()
        timers = [h for h in self._scheduled if _owner(h) is owner]
        for timer in timers:
            self._scheduled.remove(timer)
            timer._scheduled = False  # type: ignore[attr-defined]
        heapq.heapify(self._scheduled)
        held += sorted(timers)

    def resume(self, owner: object) -> None:
        """Let it go on: what came meanwhile is there at once."""
        for handle in self._held.pop(owner, ()):
            if handle.cancelled():
                continue
            if isinstance(handle, asyncio.TimerHandle) and handle.when() > self.time():
                heapq.heappush(self._scheduled, handle)
                handle._scheduled = True  # type: ignore[attr-defined]
            else:
                self._ready.append(handle)

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As ever; of a suspended process, once it goes on."""
        if self._held:
            context = context or copy_context()
            held = self._held.get(context.get(OWNER))
            if held is not None:
                handle = asyncio.Handle(callback, args, self, context)
                held.append(handle)
                return handle
        return super().call_soon(callback, *args, context=context)


def outside() -> contextvars.Context:
    """A context of the world: what happens there goes on whatever becomes of the process."""
    context = copy_context()
    context.run(OWNER.set, None)
    return context


def inside(owner: object) -> contextvars.Context:
    """A context of a process."""
    context = copy_context()
    context.run(OWNER.set, owner)
    return context


def _owner(handle: asyncio.Handle) -> object:
    return handle._context.get(OWNER)  # type: ignore[attr-defined]
