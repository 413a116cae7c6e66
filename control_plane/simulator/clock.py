"""Clocks of the simulated devices: device time may run faster, wire time never does."""

from __future__ import annotations

import asyncio
import time


class RealSimClock:
    """Real time; device time runs `time_scale` times as fast, from 0 at creation."""

    __slots__ = ("_origin", "time_scale")

    def __init__(self, time_scale: float = 1.0) -> None:
        if time_scale <= 0:
            msg = f"time_scale {time_scale} must be above 0"
            raise ValueError(msg)
        self.time_scale = time_scale
        self._origin = time.monotonic()

    def device_s(self) -> float:
        """Device seconds since creation."""
        return (time.monotonic() - self._origin) * self.time_scale

    def wire_s(self) -> float:
        """Wire seconds since creation."""
        return time.monotonic() - self._origin

    def device_of(self, wire_s: float) -> float:
        """Device seconds in a stretch of wire time."""
        return wire_s * self.time_scale


class LoopSimClock:
    """The event loop's own time, for a virtual-time loop: wire time; device time is scaled from it."""

    __slots__ = ("_loop", "time_scale")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, time_scale: float = 1.0) -> None:
        self._loop = loop
        self.time_scale = time_scale

    def device_s(self) -> float:
        """Seconds of the loop, scaled."""
        return self._loop.time() * self.time_scale

    def wire_s(self) -> float:
        """Seconds of the loop."""
        return self._loop.time()

    def device_of(self, wire_s: float) -> float:
        """Device seconds in a stretch of wire time."""
        return wire_s * self.time_scale


class ManualSimClock:
    """Time that a test moves by hand."""

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def device_s(self) -> float:
        """The hand's position."""
        return self.now

    def wire_s(self) -> float:
        """The hand's position."""
        return self.now

    def device_of(self, wire_s: float) -> float:
        """The same number."""
        return wire_s

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds
