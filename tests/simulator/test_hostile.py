"""Whatever a client sends, a simulated device answers, waits or breaks the line: it never fails."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.simulator.antminer_builds import BUILDS, Build
from control_plane.simulator.antminer_conf import FACTORY, merge
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.meters import Gateway, SimMeter
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.wire import Device
from tests.metering import a_meter
from tests.simulator.making import LUX_S21, M60S, Web, a_machine, a_world, an_antminer

SEEDS = [
    b'{"command":"stats","new_api":true}',
    b'{"command":{"a":1}}',
    b'{"cmd":"get_miner_info","info":"ip,mac"}',
    b'{"enc":1,"data":"AAAABBBBCCCCDDDDAAAABB=="}',
    b'{"command":"summary+devs+pools","parameter":"1"}',
    b'{"command":"addpool","parameter":"a,b,c,1"}',
    b'{"command":"atmset","parameter":"abcdefgh,max_profile=+1"}',
    b'GET /cgi-bin/stats.cgi HTTP/1.1\r\nAuthorization: Digest username="root"\r\n\r\n',
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n[[[" * 3,
    b"[" * 9000,
    b'{"a":' * 5000,
    bytes.fromhex("000100000006010300004a3e0048"),
    bytes.fromhex("0001000000060103ffff007d") * 20,
    b"",
]


def devices() -> list[tuple[Device, int]]:
    world, _ = a_world()
    antminer = an_antminer(world)
    return [
        (antminer, 4028),
        (antminer, 80),
        (WhatsMiner(a_machine(world, M60S, "W-1")), 4028),
        (LuxOs(a_machine(world, LUX_S21, "L-1")), 4028),
        (Gateway(world, [SimMeter(a_meter(), world, dict)]), 502),
    ]


DEVICES = devices()


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    text = bytearray(draw(st.sampled_from(SEEDS)))
    for place, byte in draw(
        st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6)
    ):
        if text:
            text[place % len(text)] = byte
    return bytes(text)


@given(st.one_of(mangled(), st.binary(max_size=200)), st.integers(1, 64))
def test_no_bytes_make_a_device_fail(text: bytes, size: int) -> None:
    for device, port in DEVICES:
        session = device.accept(port, "127.0.0.9")
        assert session is not None
        size = max(size, len(text) // 64)
        for start in range(0, len(text), size):
            replies = session.feed(text[start : start + size])
            assert sum(len(reply.data) for reply in replies) < 65_536
            if any(reply.close or reply.reset for reply in replies):
                break


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = ("pools", "miner-mode", "bitmain-work-mode", "freq-level", "bitmain-fan-ctrl")


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@given(document=st.dictionaries(st.sampled_from(KEYS), JSON))
@example(document={"miner-mode": "²", "freq-level": "²"})
@example(document={"miner-mode": "9" * 5_000})
def test_any_json_document_leaves_a_config_that_can_be_read(
    build: Build, document: dict[str, object]
) -> None:
    _, conf, _ = merge(
        FACTORY,
        msgspec.json.encode(document),
        content_type="application/json",
        build=build,
    )
    assert len(conf.pools) == 3
    assert 0 < conf.share() <= 1.0
    assert conf.mode in {0, 1, 2, 3}


def test_a_nested_body_is_an_illegal_request() -> None:
    world, _ = a_world()
    status, text = Web(an_antminer(world)).ask("set_miner_conf", b"[" * 60_000)
    assert (status, b"M001" in text) == (200, True)
    assert len(world.ledger) == 1
