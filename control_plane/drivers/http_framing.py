"""Framing of HTTP/1.1: the bytes of a request, and where its response ends.

What nearly every device sends (a head, a length, a body) is cut here, in a tenth of the time that h11
takes for it; whatever else comes (chunks, no length, 1.0, interim responses, nonsense) is h11's to judge.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    import h11

_MAX_HEAD: Final = 32 * 1024
_OK, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
"""The cap on bytes is far below."""
_SENDABLE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PLAIN: Final = re.compile(
    rb"HTTP/1\.1 (\d{3})(?: [\t\x20-\x7e]*)?((?:\r\n[!#-'*+.0-9A-Z^-z|~-]+:[\t\x20-\x7e\x80-\xff]*)*)"
)


class NotHttp(Exception):
    """The bytes are no HTTP response, or it was cut short. Quotes nothing of them: they may be a config."""


class Unsendable(Exception):
    """Something of the request cannot be sent as a header."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One response, read whole."""

    status: int
    headers: dict[str, str]
    """Names in lower case; of several with one name the first digest challenge, else the last."""
    body: bytes
    keeps_alive: bool


class Exchange:
    """Makes the bytes of one request, then frames its response piece by piece."""

    def __init__(self) -> None:
        self._request: tuple[str, str, list[tuple[str, str]]] = ("", "", [])
        self._page: Page | None = None
        self._headers: dict[str, str] = {}
        self._status = 0
        self._start = 0
        self._end = 0
        """Of the body in the buffer; 0 until the head is there."""
        self._odd: _Odd | None = None

    def bytes_of(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> bytes:
        """The request.

        Raises:
            Unsendable: something in it cannot be sent as a header.
        """
        self._request = (method, path, headers)
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in headers:
            if not _SENDABLE.fullmatch(value) or value != value.strip():
                raise Unsendable(name)
            lines.append(f"{name}: {value}")
        lines += ("", "")
        return "\r\n".join(lines).encode("latin-1") + body

    def is_complete(self, buffer: bytearray, eof: bool) -> bool:  # noqa: FBT001 — the port's signature
        """Whether the response has ended.

        Raises:
            NotHttp: this is not HTTP, or it was cut short.
        """
        if self._odd is None and self._end == 0:
            self._read_head(buffer, eof=eof)
        if self._odd is not None:
            return self._odd.is_complete(buffer, eof=eof)
        if self._end == 0 or len(buffer) < self._end:
            if eof and buffer:
                raise NotHttp("cut short")
            return False
        self._page = Page(
            status=self._status,
            headers=self._headers,
            body=bytes(buffer[self._start : self._end]),
            # What comes behind the end was not asked for: nothing more is read from there.
            keeps_alive=len(buffer) == self._end
            and self._headers.get("connection", "").lower() != "close",
        )
        return True

    def page(self) -> Page:
        """The response."""
        page = self._page if self._odd is None else self._odd.page()
        assert page is not None  # noqa: S101 — it is complete
        return page

    def _read_head(self, buffer: bytearray, *, eof: bool) -> None:
        """Read the head, where it is there and plain; else leave it to h11."""
        end = buffer.find(b"\r\n\r\n")
        if (
            end < 0
            and not eof
            and len(buffer) <= _MAX_HEAD
            and buffer.startswith(b"HTTP/1.1"[: len(buffer)])
        ):
            return
        match = _PLAIN.fullmatch(buffer, 0, end) if end > 0 else None
        if match is None:
            self._odd = _Odd(*self._request)
            return
        told, length = [], None
        for line in match[2].decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            told.append((name, value))
            if name == "transfer-encoding" or (name == "content-length" and length is not None):
                length = ""
            elif name == "content-length":
                length = value
        status = int(match[1])
        if (
            length is None
            or not _LENGTH.fullmatch(length)
            or status < _OK
            or status in {_NO_CONTENT, _NOT_MODIFIED}
        ):
            self._odd = _Odd(*self._request)
            return
        self._status, self._headers = status, _joined(told)
        self._start = end + 4
        self._end = self._start + int(length)


class _Odd:
    """A response that h11 frames."""

    def __init__(self, method: str, path: str, headers: list[tuple[str, str]]) -> None:
        # Loaded with the first device that needs it.
        import h11  # noqa: PLC0415

        self._h11 = h11
        self._line = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        raw = [(n.encode(), v.encode("latin-1")) for n, v in headers if n != "Content-Length"]
        # Only what the response's framing hangs on: the request itself has left already.
        self._line.send(h11.Request(method=method, target=path, headers=raw))
        self._line.send(h11.EndOfMessage())
        self._read = 0
        self._head: h11.Response | None = None
        self._body = bytearray()

    def is_complete(self, buffer: bytearray, *, eof: bool) -> bool:
        """As `Exchange.is_complete`."""
        try:
            return self._has_ended(buffer, eof=eof)
        except self._h11.RemoteProtocolError as error:
            # It quotes what it could not read behind a colon.
            raise NotHttp(str(error).partition(":")[0]) from None

    def _has_ended(self, buffer: bytearray, *, eof: bool) -> bool:
        if len(buffer) > self._read:
            self._line.receive_data(bytes(buffer[self._read :]))
            self._read = len(buffer)
        if eof:
            if not buffer:
                return False
            self._line.receive_data(b"")
        while True:
            event = self._line.next_event()
            if isinstance(event, self._h11.EndOfMessage):
                return True
            if isinstance(event, self._h11.Response):
                self._head = event
            elif isinstance(event, self._h11.Data):
                self._body += event.data
            elif event is self._h11.NEED_DATA or isinstance(event, self._h11.ConnectionClosed):
                return False

    def page(self) -> Page:
        """The response."""
        assert self._head is not None  # noqa: S101 — h11 ends no message without its head
        told = [(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in self._head.headers]
        return Page(
            status=self._head.status_code,
            headers=_joined(told),
            body=bytes(self._body),
            keeps_alive=self._line.their_state is self._h11.DONE,
        )


def _joined(told: list[tuple[str, str]]) -> dict[str, str]:
    """Headers by name: of several with one name the first digest challenge, else the last."""
    headers: dict[str, str] = {}
    for name, value in told:
        if name != "www-authenticate" or not headers.get(name, "").lower().startswith("digest"):
            headers[name] = value
    return headers
