"""Plain responses are read as h11 reads them, and odd ones are h11's to judge."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.drivers.http_framing import Exchange, NotHttp, Page, Unsendable

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue"
SEEDS = (
    PLAIN,
    b"HTTP/1.1 401\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 500 x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.0 200 OK\r\n\r\ntrue",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ntrue",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: 1\r\n B: folded\r\nContent-Length: 4\r\n\r\ntrue",
)


def framed(data: bytes, size: int) -> Page | str:
    """What our framing makes of the bytes, in pieces, until the connection ends."""
    exchange = Exchange()
    exchange.bytes_of("GET", "/", [("Host", "x")], b"")
    buffer = bytearray()
    try:
        for at in range(0, len(data), size):
            buffer += data[at : at + size]
            if exchange.is_complete(buffer, eof=False):
                return exchange.page()
        return exchange.page() if exchange.is_complete(buffer, eof=True) else "incomplete"
    except NotHttp:
        return "not HTTP"


def by_h11(data: bytes) -> tuple[int, bytes] | str:
    """Status and body as h11 alone reads them."""
    line = h11.Connection(h11.CLIENT, max_incomplete_event_size=32 * 1024)
    line.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    line.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        line.receive_data(data)
        line.receive_data(b"")
        while True:
            event = line.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return "incomplete"
    except h11.RemoteProtocolError:
        return "not HTTP"


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    text = bytearray(draw(st.sampled_from(SEEDS)))
    changes = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)
    for place, byte in draw(changes):
        text[place % len(text)] = byte
    return bytes(text[: draw(st.integers(1, 200))])


@given(mangled(), st.integers(1, 64))
def test_whatever_comes_reads_as_h11_reads_it(data: bytes, size: int) -> None:
    ours, theirs = framed(data, size), by_h11(data)
    if isinstance(ours, Page):
        assert (ours.status, ours.body) == theirs
    else:
        assert isinstance(theirs, str)


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_no_piece_size_makes_a_difference(seed: bytes, size: int) -> None:
    assert framed(seed, size) == framed(seed, len(seed))


def test_more_than_was_asked_for_ends_the_connection() -> None:
    page = framed(PLAIN + b"HTTP/1.1 200 OK", 1000)
    assert isinstance(page, Page)
    assert (page.body, page.keeps_alive) == (b"true", False)


def test_a_body_that_ends_early_is_an_error() -> None:
    assert framed(PLAIN[:-1], 1000) == "not HTTP"


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "ü€", "x\0"])
def test_what_no_header_carries_is_not_sent(value: str) -> None:
    with pytest.raises(Unsendable):
        Exchange().bytes_of("GET", "/", [("Authorization", value)], b"")
