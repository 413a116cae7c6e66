"""HTTP/1.1 towards a device: h11 frames it, digest authentication (RFC 7616) opens the door.

One `WebSession` per call of a driver. It keeps its connection while the device does, and its nonce
for the whole call, so that a write goes out with credentials and its body travels once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Final

import h11
import msgspec

from control_plane.core import limits
from control_plane.core.errors import AuthRejected, UnexpectedReply, Unreachable
from control_plane.drivers.driver import excerpt

if TYPE_CHECKING:
    from control_plane.core.ports import Connection, Net, Target

_PAIR: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]+))')
_OK, _UNAUTHORIZED = 200, 401


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One response, read whole."""

    status: int
    headers: dict[str, str]
    """Names in lower case; of several with one name the first digest challenge, else the last."""
    body: bytes
    keeps_alive: bool


class _Challenge(msgspec.Struct, frozen=True, kw_only=True):
    realm: str
    nonce: str
    has_qop: bool
    opaque: str | None


class WebSession:
    """Requests to one device as one user. Close it."""

    def __init__(self, net: Net, target: Target, port: int = 80) -> None:
        self._net = net
        self._target = target
        self._port = port
        self._connection: Connection | None = None
        self._challenge: _Challenge | None = None
        self._uses = 0

    async def get(self, path: str) -> bytes:
        """The body of a page that changes nothing.

        Raises:
            Unreachable: no complete answer in time.
            AuthRejected: the credentials were refused.
            UnexpectedReply: not HTTP, or another status than 200.
            OversizedReply: more than the cap.
        """
        page = await self._read(path)
        if page.status == _UNAUTHORIZED:
            self._take_challenge(page)
            page = await self._read(path)
            if page.status == _UNAUTHORIZED:
                raise AuthRejected(f"{self._target.address}: refuses user {self._target.user}")
        if page.status != _OK:
            raise UnexpectedReply(f"{self._target.address}{path}: status {page.status}")
        return page.body

    async def prepare_write(self) -> None:
        """Open a fresh connection, so that nothing of a write is lost in one that the device dropped.

        Raises:
            Unreachable: refused or silent. Nothing was written.
        """
        self.close()
        await self._open()

    async def send(self, method: str, path: str, body: bytes, *, deadline_s: float) -> Page:
        """Send what changes something: once, on a prepared connection, without a second try.

        Raises: as `get`; whatever it is, the request may have arrived. Any status is returned.
        """
        return await self._ask(method, path, body, deadline_s=deadline_s)

    def close(self) -> None:
        """Close the connection; the nonce stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ----------------------------------------------------------------------------------------------

    async def _open(self) -> Connection:
        if self._connection is None:
            self._connection = await self._net.connect(
                self._target.address, self._port, deadline_s=limits.CONNECT_DEADLINE_S
            )
        return self._connection

    async def _read(self, path: str) -> Page:
        kept = self._connection is not None
        try:
            return await self._ask("GET", path)
        except Unreachable:
            if not kept:
                raise
        # A device may drop a connection that it kept, without a word; reading twice harms nothing.
        return await self._ask("GET", path)

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        deadline_s: float = limits.REPLY_DEADLINE_S,
    ) -> Page:
        connection = await self._open()
        exchange = _Exchange()
        try:
            await connection.request(
                exchange.bytes_of(method, path, self._headers(method, path, body), body),
                complete=exchange.is_complete,
                deadline_s=deadline_s,
                max_bytes=limits.REPLY_MAX_BYTES,
            )
            page = exchange.page()
        except h11.LocalProtocolError:
            self.close()
            raise AuthRejected(f"user {self._target.user!r} cannot be sent in a header") from None
        except h11.RemoteProtocolError as error:
            self.close()
            # h11 quotes what it could not read, which may be a config without a head.
            why = str(error).partition(":")[0]
            raise UnexpectedReply(f"{self._target.address}{path}: not HTTP: {why}") from None
        except BaseException:
            self.close()
            raise
        if not page.keeps_alive:
            self.close()
        return page

    def _headers(self, method: str, path: str, body: bytes) -> list[tuple[str, str]]:
        headers = [("Host", self._target.address), ("Accept", "*/*")]
        if self._challenge is not None:
            headers.append(("Authorization", self._authorization(self._challenge, method, path)))
        if body:
            # Some builds honour nothing but text/plain (MinerWatch, S19 XP); a CGI script reads its
            # input whatever the type says.
            headers.append(("Content-Type", "text/plain"))
        if body or method == "POST":
            headers.append(("Content-Length", str(len(body))))
        return headers

    def _take_challenge(self, page: Page) -> None:
        told = page.headers.get("www-authenticate", "")
        kind, _, rest = told.partition(" ")
        given = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PAIR.finditer(rest)}
        algorithm = given.get("algorithm", "MD5").upper()
        qops = {qop.strip() for qop in given.get("qop", "").split(",")} - {""}
        if (
            kind.lower() != "digest"
            or not told.isascii()
            or algorithm != "MD5"
            or not {"realm", "nonce"} <= given.keys()
            or (qops and "auth" not in qops)
        ):
            raise UnexpectedReply(
                f"{self._target.address}: asks for other credentials than a digest: "
                f"{excerpt(told.encode('utf-8', 'replace'))}"
            )
        self._uses = 0
        self._challenge = _Challenge(
            realm=given["realm"],
            nonce=given["nonce"],
            has_qop=bool(qops),
            opaque=given.get("opaque"),
        )

    def _authorization(self, asked: _Challenge, method: str, path: str) -> str:
        self._uses += 1
        user = self._target.user
        ha1 = _md5(f"{user}:{asked.realm}:{self._target.password.reveal()}")
        ha2 = _md5(f"{method}:{path}")
        quoted = user.replace("\\", r"\\").replace('"', r"\"")
        parts = [f'username="{quoted}"', f'realm="{asked.realm}"', f'nonce="{asked.nonce}"']
        parts.append(f'uri="{path}"')
        if asked.has_qop:
            count, ours = f"{self._uses:08x}", secrets.token_hex(8)
            answer = _md5(f"{ha1}:{asked.nonce}:{count}:{ours}:auth:{ha2}")
            parts += ["qop=auth", f"nc={count}", f'cnonce="{ours}"']
        else:
            answer = _md5(f"{ha1}:{asked.nonce}:{ha2}")
        parts.append(f'response="{answer}"')
        if asked.opaque is not None:
            parts.append(f'opaque="{asked.opaque}"')
        return "Digest " + ", ".join(parts)


class _Exchange:
    """Makes the bytes of one request, then frames its response piece by piece."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=32 * 1024)
        self._read = 0
        self._head: h11.Response | None = None
        self._body = bytearray()

    def bytes_of(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> bytes:
        """The request.

        Raises:
            LocalProtocolError: something in it cannot be sent as a header.
        """
        raw = [(name.encode(), value.encode()) for name, value in headers]
        head = self._h11.send(h11.Request(method=method, target=path, headers=raw)) or b""
        piece = self._h11.send(h11.Data(data=body)) or b"" if body else b""
        return head + piece + (self._h11.send(h11.EndOfMessage()) or b"")

    def is_complete(self, buffer: bytearray, eof: bool) -> bool:  # noqa: FBT001 — the port's signature
        """Whether the response has ended.

        Raises:
            RemoteProtocolError: this is not HTTP, or it was cut short.
        """
        if len(buffer) > self._read:
            self._h11.receive_data(bytes(buffer[self._read :]))
            self._read = len(buffer)
        if eof:
            if not buffer:
                return False
            self._h11.receive_data(b"")
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.EndOfMessage):
                return True
            if isinstance(event, h11.Response):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return False

    def page(self) -> Page:
        """The response."""
        assert self._head is not None  # noqa: S101 — h11 ends no message without its head
        headers: dict[str, str] = {}
        for name, value in self._head.headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            if key != "www-authenticate" or not headers.get(key, "").lower().startswith("digest"):
                headers[key] = text
        return Page(
            status=self._head.status_code,
            headers=headers,
            body=bytes(self._body),
            keeps_alive=self._h11.their_state is h11.DONE,
        )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
