"""The web server of Bitmain's stock firmware: lighttpd with digest authentication before CGI scripts.

Derived from: RFC 7616 (MD5, `qop="auth"`), lighttpd's nonce life of ten minutes, and the realm by which
pyasic and asic-rs tell the make.
"""

from __future__ import annotations

import hashlib
import hmac

from control_plane.simulator.antminer_builds import Framing
from control_plane.simulator.http_in import PAIR, Request

REALM = "antMiner Configuration"
USER = "root"
NONCE_LIFE_S = 600
"""Wire seconds."""
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    413: "Payload Too Large",
}


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
    given = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in PAIR.finditer(rest)}
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
