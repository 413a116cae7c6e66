"""The web server of Bitmain's stock firmware: lighttpd with digest authentication before CGI scripts.

Derived from: RFC 7616 (MD5, `qop="auth"`), lighttpd's nonce life of ten minutes and its keep-alive
idle time of 5 s, and the realm by which pyasic and asic-rs tell the make.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import msgspec

from control_plane.simulator.antminer_builds import Framing

REALM = "antMiner Configuration"
USER = "root"
NONCE_LIFE_S = 600
"""Wire seconds."""
KEEP_ALIVE_S = 5.0
MAX_HEAD = 16_384
MAX_BODY = 65_536
_PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    413: "Payload Too Large",
}


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


def take_request(buffer: bytearray) -> Request | None:
    """Cut one whole request off the buffer; `None` while it is not complete.

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
    if len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
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


def response(
    status: int,
    body: bytes,
    *,
    framing: Framing,
    content_type: str = "application/json",
    challenge: str = "",
) -> tuple[bytes, bool]:
    """One response, and whether the server closes after it."""
    head = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Type: {content_type}",
        "Server: lighttpd/1.4.32",
    ]
    if challenge:
        head.append(f"WWW-Authenticate: {challenge}")
    if framing is Framing.LENGTH or status != 200:  # noqa: PLR2004 — its own pages have a length
        head.append(f"Content-Length: {len(body)}")
        closes = framing is Framing.CLOSE
    elif framing is Framing.CHUNKED:
        head.append("Transfer-Encoding: chunked")
        piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        body = piece + b"0\r\n\r\n"
        closes = False
    else:
        closes = True
    if closes:
        head.append("Connection: close")
    return "\r\n".join((*head, "", "")).encode("latin-1") + body, closes


def make_nonce(secret: str, wire_s: float) -> str:
    """A nonce that carries its time, so that the server remembers none."""
    stamp = f"{int(wire_s):x}"
    return f"{stamp}:{_md5(f'{stamp}:{secret}')}"


def challenge(secret: str, wire_s: float, *, stale: bool = False) -> str:
    """The `WWW-Authenticate` header."""
    text = f'Digest realm="{REALM}", nonce="{make_nonce(secret, wire_s)}", qop="auth"'
    return f"{text}, stale=true" if stale else text


def is_authorised(
    request: Request, *, password: str, secret: str, wire_s: float
) -> tuple[bool, bool]:
    """Whether the digest fits, and whether it fitted but for an old nonce."""
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "digest":
        return False, False
    given = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PAIR.finditer(rest)}
    if given.get("username") != USER or given.get("realm") != REALM:
        return False, False
    if given.get("uri") != request.target:
        return False, False
    nonce = given.get("nonce", "")
    stamp = nonce.partition(":")[0]
    try:
        made_s = int(stamp, 16)
    except ValueError:
        return False, False
    if make_nonce(secret, made_s) != nonce:
        return False, False
    ha1 = _md5(f"{USER}:{REALM}:{password}")
    ha2 = _md5(f"{request.method}:{request.target}")
    if "qop" in given:
        middle = f"{nonce}:{given.get('nc', '')}:{given.get('cnonce', '')}:{given['qop']}"
    else:
        middle = nonce
    if not hmac.compare_digest(_md5(f"{ha1}:{middle}:{ha2}"), given.get("response", "")):
        return False, False
    fresh = wire_s - made_s <= NONCE_LIFE_S
    return fresh, not fresh


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
