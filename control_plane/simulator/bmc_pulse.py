"""Lets what is due at a BMC happen although nobody asks: its host goes dark by itself. On any event loop."""

from __future__ import annotations

import asyncio

from control_plane.simulator.bmc import Bmc

_LEAST_S = 0.001
"""Wire seconds: a clock that rounds the other way than the loop's is asked once more."""


class Pulse:
    """One timer for one BMC, set for what is due next."""

    def __init__(self, bmc: Bmc, loop: asyncio.AbstractEventLoop) -> None:
        self._bmc, self._loop = bmc, loop
        self._timer: asyncio.TimerHandle | None = None
        bmc.wake = self._set
        self._set()

    def stop(self) -> None:
        """Leave it to whoever asks."""
        self._bmc.wake = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        due_s = self._bmc.next_s()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_s is not None:
            clock = self._bmc.clock
            wire_s = (due_s - clock.device_s()) / clock.device_of(1.0)
            self._timer = self._loop.call_later(max(_LEAST_S, wire_s), self._beat)

    def _beat(self) -> None:
        self._timer = None
        self._bmc.settle()
        self._set()
