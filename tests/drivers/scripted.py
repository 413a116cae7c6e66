"""A device that says what a test tells it to, in pieces; no protocol of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from control_plane.core.errors import OversizedReply, Unreachable
from control_plane.core.memory import Pin
from control_plane.core.ports import Target
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin

Answer = Callable[[int, bytes], bytes | None]
"""Port and request → the reply; `None` breaks the connection."""
TARGET = Target(
    asset="A-1",
    address="10.0.0.1",
    user="root",
    password=Secret("s3cret-password"),
    pin=Pin(mac="02:00:00:00:00:01", serial=None, source="test"),
)


class StillClock:
    def wall_s(self) -> float:
        return 1000.0

    def wire_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        del seconds

    async def wire_sleep(self, seconds: float) -> None:
        del seconds

    def wire_of(self, policy_s: float) -> float:
        return policy_s


class ScriptedNet:
    """The port `Net`; closes after each reply unless `keeps`."""

    def __init__(self, answer: Answer, *, piece: int = 1 << 20, keeps: bool = False) -> None:
        self._answer, self._piece, self._keeps = answer, piece, keeps
        self.asked: list[bytes] = []
        self.fresh: list[bool] = []
        """Whether each request was the first on its connection."""
        self.connections = 0

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> ScriptedConnection:
        del address, deadline_s, tls
        self.connections += 1
        return ScriptedConnection(self, port)

    def reply(self, port: int, payload: bytes) -> tuple[list[bytes], bool]:
        self.asked.append(payload)
        data = self._answer(port, payload)
        if data is None:
            return [], False
        pieces = [data[at : at + self._piece] for at in range(0, len(data), self._piece)]
        return pieces, not self._keeps


class ScriptedConnection:
    def __init__(self, net: ScriptedNet, port: int) -> None:
        self._net, self._port = net, port
        self._closed = False
        self._used = False

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        del deadline_s
        if self._closed:
            raise Unreachable("closed")
        self._net.fresh.append(not self._used)
        self._used = True
        pieces, ends = self._net.reply(self._port, payload)
        buffer = bytearray()
        for piece in pieces:
            buffer += piece
            if len(buffer) > max_bytes:
                raise OversizedReply("too much")
            if complete(buffer, False):  # noqa: FBT003 — the port's own signature
                return bytes(buffer)
        if ends and complete(buffer, True):  # noqa: FBT003 — the same
            return bytes(buffer)
        raise Unreachable("broken")

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        raise NotImplementedError("no recorded device takes an image")

    def close(self) -> None:
        self._closed = True
