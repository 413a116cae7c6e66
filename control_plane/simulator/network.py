"""Who stands at which address, and what is wrong with the line to them.

Both carriers, memory and sockets, talk to `Station`s: a device behind its cable. Trouble of the
line is made here, so that it looks the same through either.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from enum import StrEnum

from control_plane.simulator.machine import seed_of
from control_plane.simulator.tls import Certificate
from control_plane.simulator.wire import Device, Reply, Session

SLOW_S = 20.0
"""Wire seconds that a slow line adds to each reply: far above any deadline of a read."""
ENDLESS = b'{"STATUS":' + b"[" * (1 << 20)
"""A reply larger and deeper than any honest one."""
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Login</html>"


class Trouble(StrEnum):
    """What is wrong with the line."""

    BLACK_HOLE = "black_hole"
    """Nothing answers, not even with a refusal."""
    REFUSE = "refuse"
    """The control board is up, its services are not."""
    HANG = "hang"
    """Connections are taken; what is sent is never read."""
    MUTE = "mute"
    """What is sent is acted upon; no answer comes back."""
    RESET = "reset"
    """What is sent is acted upon; then the connection breaks."""
    GARBAGE = "garbage"
    """Answers are noise."""
    HTML = "html"
    """Answers are a login page: something else stands at the address."""
    TRUNCATE = "truncate"
    """Answers stop half-way."""
    ENDLESS = "endless"
    """Answers do not end."""
    SLOW = "slow"
    """Answers come late."""


class Station:
    """One device behind its cable."""

    __slots__ = ("address", "asset", "certificate", "device", "trouble")

    def __init__(
        self, asset: str, address: str, device: Device, certificate: Certificate | None = None
    ) -> None:
        """`address` is the declared or leased one; it changes when DHCP deals anew, or by its settings.

        With a certificate it speaks TLS, at every port.
        """
        self.certificate = certificate
        self.asset = asset
        self.address = address
        self.device = device
        self.trouble: Trouble | None = None

    def reachable(self) -> bool:
        """False: the carrier stays silent."""
        return self.trouble is not Trouble.BLACK_HOLE and self.device.reachable()

    def accept(self, port: int, peer: str) -> Session | None:
        """A session, or `None` for a refused connection."""
        return None if self.trouble is Trouble.REFUSE else self.device.accept(port, peer)

    def hear(self, session: Session, data: bytes) -> tuple[Reply, ...]:
        """Carry bytes to the device and its replies back, through the line's trouble."""
        trouble = self.trouble
        if trouble is None:
            return session.feed(data)
        if trouble in {Trouble.HANG, Trouble.BLACK_HOLE}:
            return ()
        replies = session.feed(data)
        match trouble:
            case Trouble.MUTE:
                return ()
            case Trouble.RESET:
                return (Reply(reset=True),)
            case Trouble.GARBAGE:
                noise = seed_of(f"{self.asset}/noise").to_bytes(8, "big") * 32
                return (Reply(data=noise, close=True),)
            case Trouble.HTML:
                return (Reply(data=PAGE, close=True),)
            case Trouble.ENDLESS:
                return (Reply(data=ENDLESS),)
            case Trouble.TRUNCATE:
                return tuple(
                    Reply(data=r.data[: len(r.data) // 2], after_s=r.after_s, close=True)
                    for r in replies[:1]
                )
            case Trouble.SLOW:
                return tuple(
                    Reply(data=r.data, after_s=r.after_s + SLOW_S, close=r.close, reset=r.reset)
                    for r in replies
                )
            case Trouble.REFUSE:
                return replies


class Network:
    """Stations by address. Addresses that nobody has refuse connections."""

    __slots__ = ("_by_address",)

    def __init__(self) -> None:
        self._by_address: dict[str, list[Station]] = {}

    def add(self, station: Station) -> None:
        """Put a station at its address; of several there, the one that came last answers."""
        self._by_address.setdefault(station.address, []).append(station)

    def at(self, address: str) -> Station | None:
        """Who answers at an address."""
        there = self._by_address.get(address)
        return there[-1] if there else None

    def move(self, moves: Iterable[tuple[Station, str]]) -> None:
        """Give stations other addresses at one moment."""
        moves = list(moves)
        for station, _ in moves:
            there = self._by_address[station.address]
            there.remove(station)
            if not there:
                del self._by_address[station.address]
        for station, address in moves:
            station.address = address
            self.add(station)

    def __iter__(self) -> Iterator[Station]:
        return itertools.chain.from_iterable(self._by_address.values())

    def __len__(self) -> int:
        return sum(map(len, self._by_address.values()))
