"""The seam between a simulated device and whatever carries its bytes (a socket, or memory).

A device hands out one `Session` per connection; the carrier feeds it bytes and plays its replies.
The device keeps no tasks and no timers: its state at a moment is computed from timestamps, so that
one process serves 14,000 of them and the same code runs under a virtual clock.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a device sends back, in order; several may follow one request."""

    data: bytes = b""
    after_s: float = 0.0
    """Wire seconds to wait before sending, counted from the previous reply."""
    close: bool = False
    """Close the connection after sending."""
    reset: bool = False
    """Break the connection instead of closing it."""


class Session(Protocol):
    """One connection to one device."""

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Take the client's bytes; an empty tuple keeps the client waiting."""
        ...

    def idle_limit_s(self) -> float | None:
        """Wire seconds without bytes from the client after which the device closes, if it does."""
        ...


class Device(Protocol):
    """One simulated device, as a network sees it."""

    def accept(self, port: int, peer: str) -> Session | None:
        """A session, or `None` where the device refuses the connection (port closed, still booting).

        Args:
            port: the family's true port (80, 4028, …), whatever port the carrier listens on.
            peer: the client's IP address: some families count clients.
        """
        ...

    def reachable(self) -> bool:
        """False where nothing at all answers: black-holed, or no power. The carrier then stays silent."""
        ...


class SimClock(Protocol):
    """Device time, scaled, and wire time, not scaled; both monotonic seconds."""

    def device_s(self) -> float:
        """Scaled."""
        ...

    def wire_s(self) -> float:
        """As on the wall."""
        ...

    def device_of(self, wire_s: float) -> float:
        """Device seconds in a stretch of wire time."""
        ...
