"""HTTP/1.x as a device's web server takes it: requests with a length, one after the other."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from control_plane.simulator.machine import Machine
from control_plane.simulator.wire import Reply

MAX_HEAD = 16_384
MAX_BODY = 65_536
MAX_UPLOAD = 200_000_000
"""Of a firmware image; the largest of a maker are some 60 MB."""
PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
"""A parameter of a header: its name, its value in quotes, or without."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, read whole."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    is_old: bool = False
    """HTTP/1.0: knows no chunks, and closes unless it asks for more."""

    @property
    def script(self) -> str:
        """Name of the CGI script; empty for any other path."""
        path = self.target.partition("?")[0]
        if path.startswith("/cgi-bin/") and path.endswith(".cgi"):
            return path[len("/cgi-bin/") : -len(".cgi")]
        return ""

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to go on."""
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" if self.is_old else wish != "close"


class BadRequest(Exception):
    """Not HTTP, or more of it than the server takes; the status says which."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(str(status))


def take_request(buffer: bytearray, uploads: tuple[str, ...] = ()) -> Request | None:
    """Cut one whole request off the buffer; `None` while it is not complete.

    Args:
        buffer: what has come.
        uploads: how the targets begin that take `MAX_UPLOAD`, and not `MAX_BODY`.

    Raises:
        BadRequest: the bytes cannot become a request.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise BadRequest(413)
        return None
    lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    first = lines[0].split(" ")
    if len(first) != 3 or not first[2].startswith("HTTP/1."):  # noqa: PLR2004 — method target version
        raise BadRequest(400)
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400)
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or "transfer-encoding" in headers:
        raise BadRequest(400)
    most = MAX_UPLOAD if first[1].startswith(uploads) else MAX_BODY
    if len(length) > len(str(most)) or int(length) > most:
        raise BadRequest(413)
    total = end + 4 + int(length)
    if len(buffer) < total:
        return None
    body = bytes(buffer[end + 4 : total])
    del buffer[:total]
    return Request(
        method=first[0],
        target=first[1],
        headers=headers,
        body=body,
        is_old=first[2] == "HTTP/1.0",
    )


def uploaded(request: Request) -> bytes | None:
    """The first file of a form (RFC 7578); `None` where there is none, or no end of it."""
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    given = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in PAIR.finditer(rest)}
    boundary = given.get("boundary", "").encode("latin-1")
    if kind.strip().lower() != "multipart/form-data" or not boundary:
        return None
    for part in request.body.split(b"--" + boundary)[1:-1]:
        head, blank, data = part.partition(b"\r\n\r\n")
        if blank and b"filename=" in head and data.endswith(b"\r\n"):
            return data[:-2]
    return None


class HttpSession(ABC):
    """One connection to a web server; as many requests as the client likes."""

    __slots__ = ("_buffer", "_machine", "_peer", "_served")

    IDLE_S: ClassVar[float]
    """Wire seconds before the first request."""
    KEEP_ALIVE_S: ClassVar[float]
    """Wire seconds between two."""
    UPLOADS: ClassVar[tuple[str, ...]]
    """How the targets begin that take an image."""

    def __init__(self, machine: Machine, peer: str) -> None:
        self._machine = machine
        self._peer = peer
        self._buffer = bytearray()
        self._served = False

    def idle_limit_s(self) -> float | None:
        """Longer before the first request than between two."""
        return self.KEEP_ALIVE_S if self._served else self.IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer every request that is complete."""
        if not self._machine.answers():
            return (Reply(reset=True),)
        self._machine.world.peer = self._peer
        self._buffer += data
        replies: list[Reply] = []
        while True:
            try:
                request = take_request(self._buffer, self.UPLOADS)
            except BadRequest as error:
                return (*replies, Reply(data=self._bad(error.status), close=True))
            if request is None:
                return tuple(replies)
            self._served = True
            replies += self._respond(request)
            if replies[-1].close or replies[-1].reset:
                return tuple(replies)

    @abstractmethod
    def _respond(self, request: Request) -> tuple[Reply, ...]:
        """What answers one request; never empty."""

    @abstractmethod
    def _bad(self, status: int) -> bytes:
        """The response to what is no request."""
