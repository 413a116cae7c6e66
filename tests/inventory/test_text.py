"""YAML 1.2 core, strictly: what is read, where it stands, and that nothing makes the reader fail."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.inventory.problems import Problems
from control_plane.inventory.source import Spot
from control_plane.inventory.text import Document, read_yaml

CORE = {
    "22:30": "22:30",
    "no": "no",
    "on": "on",
    "off": "off",
    "y": "y",
    "null": None,
    "~": None,
    "true": True,
    "False": False,
    "0o17": 15,
    "017": 17,
    "0x1F": 31,
    "1_000": "1_000",
    "1e3": 1000.0,
    "-.5": -0.5,
    "1.2.3": "1.2.3",
    "2026-01-02": "2026-01-02",
    "0b11": "0b11",
    "+12": 12,
    "12e": "12e",
}


def read(text: str | bytes) -> tuple[Document | None, Problems]:
    problems = Problems()
    data = text.encode() if isinstance(text, str) else text
    return read_yaml("f.yaml", data, problems), problems


@pytest.mark.parametrize(("written", "value"), CORE.items())
def test_plain_scalars_are_of_the_core_schema(written: str, value: object) -> None:
    document, problems = read(f"key: {written}\n")
    assert document is not None
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)
    assert problems.found() == ()


@pytest.mark.parametrize("written", ["'12'", '"12"', "|-\n  12", ">-\n  12"])
def test_quotes_make_text(written: str) -> None:
    document, _ = read(f"key: {written}\n")
    assert document is not None
    assert document.value == {"key": "12"}


def test_every_key_and_value_has_its_place() -> None:
    document, _ = read("a:\n  - b: 'x y'\n    c: {d: 1}\n")
    assert document is not None
    assert document.spot("a", 0, "b") == Spot(2, 8, 5)
    assert document.key("a", 0, "b") == Spot(2, 5, 1)
    assert document.spot("a", 0, "c", "d") == Spot(3, 12, 1)
    assert document.spot("a", 0, "missing") == document.spot("a", 0)


def test_an_alias_stands_where_it_is_used() -> None:
    document, _ = read("a: &x [1, 2]\nb: *x\n")
    assert document is not None
    assert document.value == {"a": [1, 2], "b": [1, 2]}
    assert document.spot("b").line == 2


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    document, problems = read(json.dumps({"key": value}))
    assert problems.found() == ()
    assert document is not None
    assert document.value == {"key": value}


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    document, problems = read(data)
    assert document is not None or problems.errors


@given(st.lists(st.sampled_from("{}[]:,-?&*!|>'\"%@#<a1 \n\t~"), max_size=60).map("".join))
def test_no_punctuation_makes_the_reader_fail(text: str) -> None:
    document, problems = read(text)
    assert document is not None or problems.errors


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "[" * 100_000,
        "{a: " * 50_000,
        "- " * 100_000,
        "a: " + "9" * 1_000_000,
        "? " * 10_000,
        "\n".join(f"k{n}: &a{n} x" for n in range(50_000)),
        "a: !!python/object/apply:os.system ['true']",
    ],
    ids=["self", "brackets", "braces", "dashes", "digits", "questions", "anchors", "python"],
)
def test_hostile_text_is_refused_or_read_within_seconds(text: str) -> None:
    began = time.process_time()
    document, problems = read(text)
    assert time.process_time() - began < 5
    assert document is not None or problems.errors
