"""HTTP/1.1 towards a device: `HttpLine` sends and reads it, `WebSession` adds digest (RFC 7616).

One `WebSession` per call of a driver. It keeps its connection while the device does, and its nonce
for the whole call, so that a write goes out with credentials and its body travels once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from control_plane.core import limits
from control_plane.core.errors import AuthRejected, UnexpectedReply, Unreachable
from control_plane.drivers.driver import excerpt, pieces_of
from control_plane.drivers.http_framing import Exchange, NotHttp, Page, Unsendable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from control_plane.core.ports import Connection, ImageFile, Net, Target
    from control_plane.core.tls import TlsPin

_PAIR: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]+))')
_OK, _UNAUTHORIZED = 200, 401


class _Challenge(msgspec.Struct, frozen=True, kw_only=True):
    realm: str
    nonce: str
    has_qop: bool
    opaque: str | None


class Form:
    """A firmware image as multipart form data (RFC 7578), sent piece by piece."""

    def __init__(self, file: ImageFile, *, field: str, deadline_s: float) -> None:
        """`field` is the form's name for it; `deadline_s` are wire seconds for all of it."""
        self._file = file
        self.deadline_s = deadline_s
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; '
            f'filename="{file.image.file}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return len(self._head) + self._file.image.size_bytes + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """In order."""
        yield self._head
        yield from pieces_of(self._file)
        yield self._tail


class HttpLine:
    """Requests to one device; the connection is kept while the device keeps it. Close it."""

    def __init__(
        self,
        net: Net,
        address: str,
        port: int = 80,
        *,
        tls: TlsPin | None = None,
        connect_s: float = limits.CONNECT_DEADLINE_S,
        max_bytes: int = limits.REPLY_MAX_BYTES,
    ) -> None:
        self._net = net
        self._address = address
        self._port = port
        self._tls = tls
        self._connect_s = connect_s
        self._max_bytes = max_bytes
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Be connected.

        Raises:
            Unreachable: refused or silent. Nothing was sent.
            WrongIdentity, UnexpectedReply: with a pin, as the port `Net`. Nothing was sent.
        """
        if self._connection is None:
            self._connection = await self._net.connect(
                self._address, self._port, deadline_s=self._connect_s, tls=self._tls
            )

    async def ask(
        self,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        deadline_s: float = limits.REPLY_DEADLINE_S,
        form: Form | None = None,
    ) -> Page:
        """One request, sent once, and its response, whatever the status.

        Args:
            method: the verb.
            path: from the root.
            headers: with the length of the body, or of the form.
            body: held at once.
            deadline_s: wire seconds for the answer; with a form, from its last byte on.
            form: instead of a body, what is too large to hold.

        Raises:
            Unreachable: no complete answer in time; the request may have arrived.
            AuthRejected: something in the headers cannot be sent; nothing was.
            UnexpectedReply: not HTTP.
            OversizedReply: more than the cap.
        """
        await self.open()
        connection = self._connection
        assert connection is not None  # noqa: S101 — it was just opened
        exchange = Exchange()
        try:
            first = exchange.bytes_of(method, path, headers, body)
            if form is not None:
                await connection.send(chain([first], form.pieces()), deadline_s=form.deadline_s)
                first = b""
            await connection.request(
                first,
                complete=exchange.is_complete,
                deadline_s=deadline_s,
                max_bytes=self._max_bytes,
            )
            page = exchange.page()
        except Unsendable:
            self.close()
            raise AuthRejected(f"{self._address}: credentials that no header can carry") from None
        except NotHttp as why:
            self.close()
            raise UnexpectedReply(f"{self._address}{path}: not HTTP: {why}") from None
        except BaseException:
            self.close()
            raise
        if not page.keeps_alive:
            self.close()
        return page

    async def read(
        self,
        path: str,
        headers: Callable[[], list[tuple[str, str]]],
        *,
        deadline_s: float = limits.REPLY_DEADLINE_S,
    ) -> Page:
        """One GET, asked again on a fresh connection where a kept one had been dropped.

        A device may drop a connection that it kept, without a word; reading twice harms nothing.

        Raises: as `ask`.
        """
        kept = self._connection is not None
        try:
            return await self.ask("GET", path, headers(), deadline_s=deadline_s)
        except Unreachable:
            if not kept:
                raise
        return await self.ask("GET", path, headers(), deadline_s=deadline_s)

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class WebSession:
    """Requests to one device as one user, with digest authentication. Close it."""

    def __init__(self, net: Net, target: Target, port: int = 80) -> None:
        self._line = HttpLine(net, target.address, port)
        self._target = target
        self._challenge: _Challenge | None = None
        self._uses = 0

    @property
    def was_asked(self) -> bool:
        """Whether the device wanted a login: a page that everybody gets proves none."""
        return self._challenge is not None

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
        await self._line.open()

    async def send(self, method: str, path: str, body: bytes, *, deadline_s: float) -> Page:
        """Send what changes something: once, on a prepared connection, without a second try.

        Raises: as `get`; whatever it is, the request may have arrived. Any status is returned.
        """
        headers = self._headers(method, path, body)
        return await self._line.ask(method, path, headers, body, deadline_s=deadline_s)

    async def upload(self, path: str, form: Form, *, deadline_s: float) -> Page:
        """POST a form, as `send` does; `deadline_s` are wire seconds from its last byte to the answer.

        Raises: as `send`.
        """
        headers = [
            *self._headers("POST", path, b"")[:-1],
            ("Content-Type", form.content_type),
            ("Content-Length", str(form.size_bytes)),
        ]
        return await self._line.ask("POST", path, headers, deadline_s=deadline_s, form=form)

    def close(self) -> None:
        """Close the connection; the nonce stays."""
        self._line.close()

    # ----------------------------------------------------------------------------------------------

    async def _read(self, path: str) -> Page:
        return await self._line.read(path, lambda: self._headers("GET", path, b""))

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


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
