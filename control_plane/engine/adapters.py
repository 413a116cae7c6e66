"""The real clock, behind the port of core."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Real time; with a scale above 1 policy time runs faster than wire time, for simulations only.

    Args:
        scale: policy seconds per real second.
        epoch_s: the real moment at which both read the same: every process of one simulation uses
            the same pair, so that their policy times agree.
    """

    def __init__(self, *, scale: float = 1.0, epoch_s: float = 0.0) -> None:
        self._scale = scale
        self._epoch_s = epoch_s

    @property
    def scale(self) -> float:
        """Policy seconds per real second."""
        return self._scale

    def wall_s(self) -> float:
        """Policy seconds since the epoch."""
        now = time.time()
        return now if self._scale == 1.0 else self._epoch_s + (now - self._epoch_s) * self._scale

    def wire_s(self) -> float:
        """Monotonic wire seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep policy seconds."""
        await asyncio.sleep(seconds / self._scale)

    async def wire_sleep(self, seconds: float) -> None:
        """Sleep wire seconds."""
        await asyncio.sleep(seconds)

    def wire_of(self, policy_s: float) -> float:
        """Wire seconds of a stretch of policy time."""
        return policy_s / self._scale
