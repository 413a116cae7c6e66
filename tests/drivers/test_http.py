"""HTTP towards devices: framings, digest, and answers that are not HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable

import pytest

from control_plane.core.errors import AuthRejected, UnexpectedReply, Unreachable
from control_plane.drivers.http import WebSession
from tests.drivers.scripted import TARGET, Answer, ScriptedNet

ASKS = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %b\r\nContent-Length: 2\r\n\r\nno"
DIGEST = b'Digest realm="r", nonce="n1", qop="auth"'
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def run(
    answer: Answer, play: Callable[[WebSession], Awaitable[object]], *, piece: int = 1 << 20
) -> tuple[object, ScriptedNet]:
    net = ScriptedNet(answer, piece=piece, keeps=True)

    async def main() -> object:
        return await play(WebSession(net, TARGET))

    return asyncio.run(main()), net


def guarded(challenge: bytes = DIGEST, page: bytes = FINE) -> Answer:
    return lambda _, asked: page if b"\r\nAuthorization: " in asked else ASKS % challenge


def get(session: WebSession) -> Awaitable[bytes]:
    return session.get("/cgi-bin/x.cgi")


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "page",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["length", "chunked", "continue", "1.0"],
)
def test_every_framing_gives_the_body(page: bytes, piece: int) -> None:
    body, _ = run(lambda *_: page, get, piece=piece)
    assert body == b"hello"


def test_a_body_may_end_with_the_connection() -> None:
    async def main() -> bytes:
        net = ScriptedNet(lambda *_: b"HTTP/1.1 200 OK\r\n\r\nhello", piece=3)
        return await WebSession(net, TARGET).get("/")

    assert asyncio.run(main()) == b"hello"


def field(asked: bytes, name: str) -> str:
    found = re.search(rf'[ ,]{name}="?([^",\r]*)', asked.decode())
    assert found is not None
    return found[1]


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_the_digest_is_that_of_rfc_7616_and_the_password_never_travels() -> None:
    body, net = run(guarded(DIGEST + b', opaque="o"'), get)
    assert body == b"{}"
    first, second = net.asked
    assert b"Authorization" not in first
    ha1, ha2 = md5("root:r:s3cret-password"), md5("GET:/cgi-bin/x.cgi")
    middle = f"n1:00000001:{field(second, 'cnonce')}:auth"
    assert field(second, "response") == md5(f"{ha1}:{middle}:{ha2}")
    assert field(second, "opaque") == "o"
    assert b"s3cret-password" not in b"".join(net.asked)
    assert net.connections == 1


def test_without_qop_the_digest_is_that_of_rfc_2617() -> None:
    _, net = run(guarded(b'Digest realm="r", nonce="n1"'), get)
    ha1, ha2 = md5("root:r:s3cret-password"), md5("GET:/cgi-bin/x.cgi")
    assert field(net.asked[1], "response") == md5(f"{ha1}:n1:{ha2}")
    assert b"cnonce" not in net.asked[1]


def test_the_nonce_serves_the_whole_call_and_the_write_goes_out_once() -> None:
    async def play(session: WebSession) -> object:
        await session.get("/a")
        await session.get("/b")
        await session.prepare_write()
        return await session.send("POST", "/c", b'{"a":1}', deadline_s=1.0)

    _, net = run(guarded(), play)
    assert len(net.asked) == 4
    assert [field(asked, "nc") for asked in net.asked[1:]] == ["00000001", "00000002", "00000003"]
    assert net.asked[3].endswith(b"\r\n\r\n" + b'{"a":1}')
    assert b"content-type: text/plain" in net.asked[3].lower()
    assert net.connections == 2


def test_a_stale_nonce_is_replaced_for_reads_and_told_for_writes() -> None:
    nonces = iter([b"n1", b"n2", b"n3"])
    current = [b""]

    def answer(_: int, asked: bytes) -> bytes:
        if current[0] and b'nonce="' + current[0] in asked:
            current[0] = b""
            return FINE
        current[0] = next(nonces)
        return ASKS % (b'Digest realm="r", nonce="%b", qop="auth"' % current[0])

    async def play(session: WebSession) -> object:
        assert await session.get("/a") == b"{}"
        assert await session.get("/a") == b"{}"
        await session.prepare_write()
        return (await session.send("POST", "/c", b"{}", deadline_s=1.0)).status

    status, net = run(answer, play)
    assert status == 401
    assert len(net.asked) == 5


def test_a_kept_connection_that_was_dropped_is_replaced_once_for_a_read() -> None:
    dropped = [False, True, False]

    def answer(*_: object) -> bytes | None:
        return None if dropped.pop(0) else FINE

    async def play(session: WebSession) -> object:
        await session.get("/a")
        return await session.get("/b")

    body, net = run(answer, play)
    assert body == b"{}"
    assert (len(net.asked), net.connections) == (3, 2)


def test_a_fresh_connection_that_breaks_is_not_tried_again() -> None:
    net = ScriptedNet(lambda *_: None, keeps=True)
    with pytest.raises(Unreachable):
        asyncio.run(_get(net))
    assert net.connections == 1


def test_refused_credentials_are_told_apart_after_one_try() -> None:
    net = ScriptedNet(lambda *_: ASKS % DIGEST, keeps=True)
    with pytest.raises(AuthRejected) as caught:
        asyncio.run(_get(net))
    assert len(net.asked) == 2
    assert "s3cret-password" not in str(caught.value)


async def _get(net: ScriptedNet) -> bytes:
    return await WebSession(net, TARGET).get("/")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (None, Unreachable),
        (b"", Unreachable),
        (b"\0" * 100, UnexpectedReply),
        (b'{"STATUS":"E"}\0', UnexpectedReply),
        (b"SSH-2.0-dropbear\r\n", UnexpectedReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", UnexpectedReply),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", UnexpectedReply),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", UnexpectedReply),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", UnexpectedReply),
        (ASKS % b"Basic realm=x", UnexpectedReply),
        (ASKS % b'Digest realm="r"', UnexpectedReply),
        (ASKS % b'Digest realm="r", nonce="n", algorithm=SHA-256', UnexpectedReply),
        (ASKS % b'Digest realm="r", nonce="n", qop="auth-int"', UnexpectedReply),
        (ASKS % 'Digest realm="r", nonce="ö"'.encode(), UnexpectedReply),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", UnexpectedReply),
    ],
)
def test_what_is_no_answer_is_named(reply: bytes | None, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        asyncio.run(_get(ScriptedNet(lambda *_: reply)))
    assert str(caught.value).isprintable()


def test_of_two_challenges_the_digest_is_taken() -> None:
    both = b'Digest realm="r", nonce="n1"\r\nWWW-Authenticate: Basic realm="r"'
    assert run(guarded(both), get)[0] == b"{}"
