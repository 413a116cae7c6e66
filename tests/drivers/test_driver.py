"""Decoding within bounds, canonical values: what all drivers share."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.errors import OversizedReply, UnexpectedReply
from control_plane.core.observation import PoolSetting
from control_plane.drivers.driver import (
    clean,
    decode_reply,
    ends_in_nul,
    mac_of,
    number_of,
    pool_url,
    pools_of,
    positive_of,
    text_of,
    whole_of,
)


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'{"a":1}\0', {"a": 1}),
        (b'{"a":1}\0\0', {"a": 1}),
        (b'{"a"\0:1}', {"a": 1}),
        (b'{"a":[{"b":1}{"b":2}]}', {"a": [{"b": 1}, {"b": 2}]}),
        (b'{"a":nan,"b":-inf,"c":[inf,-nan]}', {"a": None, "b": None, "c": [None, None]}),
        (b'{"a":"x\ny"}', {"a": "x y"}),
        (b'{"a":"nan","b":":nan,"}', {"a": "nan", "b": ":nan,"}),
    ],
)
def test_flaws_of_honest_devices_are_mended(data: bytes, meant: object) -> None:
    assert decode_reply(data, "x") == meant


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"[1]",
        b"1",
        b"null",
        b'{"a":1',
        b'{"a":1},',
        b"<html>",
        b"\xff\xfe",
        b'{"a":"\xff"}',
    ],
)
def test_what_is_no_object_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(UnexpectedReply) as caught:
        decode_reply(data, "10.0.0.1 stats")
    assert "10.0.0.1 stats" in str(caught.value)
    assert str(caught.value).isprintable()


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_depth_is_capped_exactly_and_brackets_inside_texts_do_not_count() -> None:
    most = limits.REPLY_MAX_DEPTH
    assert decode_reply(nested(most), "x")
    with pytest.raises(OversizedReply):
        decode_reply(nested(most + 1), "x")
    assert decode_reply(json.dumps({"a": "[{" * 500, "b": '"[["'}).encode(), "x")
    assert decode_reply(json.dumps({"a": [[1], {"b": {}}] * 200}).encode(), "x")


@pytest.mark.parametrize(
    "piece", [b"[", b"{", b'{"a":', b'"[', b"]", b"}{", b"\\", b'"\\', b'["[",']
)
@pytest.mark.parametrize("start", [b"", b'{"a":["[",'], ids=["bare", "after a bracket in a text"])
def test_the_largest_hostile_reply_costs_little(start: bytes, piece: bytes) -> None:
    data = (start + piece * limits.REPLY_MAX_BYTES)[: limits.REPLY_MAX_BYTES]
    began = time.process_time()
    with pytest.raises(UnexpectedReply):
        decode_reply(data, "x")
    used_s = time.process_time() - began
    tracemalloc.start()
    with pytest.raises(UnexpectedReply):
        decode_reply(data, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used_s < 0.5
    assert peak < 64 * limits.REPLY_MAX_BYTES


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(UnexpectedReply):
        assert isinstance(decode_reply(data, "x"), dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_honest_json_means_what_it_says(value: dict[str, object]) -> None:
    try:
        data = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return
    assert decode_reply(data + b"\0", "x") == json.loads(data)


@pytest.mark.parametrize(
    ("told", "number", "positive", "whole"),
    [
        (3, 3.0, 3.0, 3),
        (3.5, 3.5, 3.5, None),
        ("3.0", 3.0, 3.0, 3),
        ("-3", -3.0, None, None),
        (-0.5, -0.5, None, None),
        (True, None, None, None),
        (None, None, None, None),
        ("", None, None, None),
        ("nan", None, None, None),
        (float("inf"), None, None, None),
        (10**400, None, None, 10**400),
        ([1], None, None, None),
    ],
)
def test_numbers(
    told: object, number: float | None, positive: float | None, whole: int | None
) -> None:
    assert number_of(told) == number
    assert positive_of(told) == positive
    assert whole_of(told) == whole


def test_texts_are_bounded_and_printable() -> None:
    assert clean("a\x1b[31mb\0c\u202ed") == "a [31mb c d"
    assert len(clean("x" * 10_000)) == 200
    assert text_of("  ") is None
    assert text_of(5) is None


@pytest.mark.parametrize(
    ("told", "mac"),
    [
        ("02:AB:00:00:00:01", "02:ab:00:00:00:01"),
        ("02-ab-00-00-00-01", "02:ab:00:00:00:01"),
        ("02ab00000001", "02:ab:00:00:00:01"),
        ("00:00:00:00:00:00", None),
        ("02:ab", None),
        ("", None),
        (None, None),
    ],
)
def test_mac_addresses(told: object, mac: str | None) -> None:
    assert mac_of(told) == mac


@pytest.mark.parametrize(
    ("told", "canonical"),
    [
        ("stratum+tcp://Pool.Example.COM:3333", "stratum+tcp://pool.example.com:3333"),
        ("pool.example.com:3333", "stratum+tcp://pool.example.com:3333"),
        ("STRATUM+SSL://a:443/", "stratum+ssl://a:443"),
        ("  stratum+tcp://a:1  ", "stratum+tcp://a:1"),
        ("stratum2+tcp://Host:3336/9auqWEzQ", "stratum2+tcp://host:3336/9auqWEzQ"),
        ("http://a:1", "http://a:1"),
        ("stratum+tcp://a", "stratum+tcp://a"),
        ("stratum+tcp://a:1/#frag", "stratum+tcp://a:1/#frag"),
    ],
)
def test_pool_urls_are_canonical_and_nothing_is_invented(told: str, canonical: str) -> None:
    assert pool_url(told) == canonical
    assert pool_url(canonical) == canonical


@given(st.text(max_size=200))
def test_a_canonical_url_stays_as_it_is(text: str) -> None:
    once = pool_url(text)
    assert pool_url(once) == once


def test_blank_slots_are_left_out_and_unreadable_ones_spoil_the_list() -> None:
    assert pools_of([("a:1", "w"), ("", ""), ("  ", "x")]) == (
        PoolSetting("stratum+tcp://a:1", "w"),
    )
    assert pools_of([]) == ()
    assert pools_of([("a:1", "w"), (None, "w")]) is None
    assert pools_of([("a:1", 5)]) is None


def test_the_framing_of_cgminer() -> None:
    told = {
        (data, eof): ends_in_nul(bytearray(data), eof)
        for data in (b"", b"{}", b"{}\0")
        for eof in (False, True)
    }
    assert [case for case, ends in told.items() if ends] == [
        (b"{}", True),
        (b"{}\0", False),
        (b"{}\0", True),
    ]
