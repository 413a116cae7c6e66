"""Every write that reached a simulated device: the oracle that tests and seeds compare against.

The ledger is on the device's side of the wire, so it also holds what a controller sent by mistake,
sent twice, or believes it never sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum

import msgspec

KEPT_WRITES = 500_000
"""Writes kept, oldest dropped first: 35 per device of a 14,000-device site."""


class Direction(StrEnum):
    """What the write asks of the permitted draw."""

    RAISE = "raise"
    LOWER = "lower"
    NONE = "none"


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One write command as it arrived."""

    asset: str
    rack: str
    at_device_s: float
    at_wire_s: float
    wall_s: float
    """Seconds since the epoch, in device time."""
    kind: str
    """The device's own name for it, e.g. `set_miner_conf` or `power_off`."""
    summary: str
    """What was asked, without secrets, e.g. `mode=1 pools=stratum+tcp://…`."""
    direction: Direction
    pools: tuple[str, ...] | None = None
    """The pool URLs that were asked for, where the write names pools."""
    peer: str = ""
    """The address of the client that sent it."""
    honoured: bool
    """False: acknowledged or refused, but nothing changed."""


class Ledger:
    """All writes of one simulation, in order of arrival."""

    __slots__ = ("_writes", "dropped", "received")

    def __init__(self, *, keep: int = KEPT_WRITES) -> None:
        self._writes: deque[Write] = deque(maxlen=keep)
        self.received = 0
        self.dropped = 0

    def add(self, write: Write) -> None:
        """Record one write."""
        if len(self._writes) == self._writes.maxlen:
            self.dropped += 1
        self.received += 1
        self._writes.append(write)

    def __len__(self) -> int:
        return len(self._writes)

    def __iter__(self) -> Iterator[Write]:
        return iter(self._writes)

    def select(
        self,
        *,
        asset: str | None = None,
        rack: str | None = None,
        direction: Direction | None = None,
        since_device_s: float | None = None,
    ) -> tuple[Write, ...]:
        """The writes that fit every given condition, oldest first."""
        return tuple(
            write
            for write in self._writes
            if (asset is None or write.asset == asset)
            and (rack is None or write.rack == rack)
            and (direction is None or write.direction is direction)
            and (since_device_s is None or write.at_device_s >= since_device_s)
        )
