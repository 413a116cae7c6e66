"""Predicates and rules, as Python reads them; what an API server makes of the same is in tests/stacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.provision.predicates import (
    AtLeast,
    Both,
    Either,
    Empty,
    Every,
    KeysUnlike,
    Never,
    OnlyListed,
    Predicate,
    Unlike,
    Without,
    Zero,
)
from tests.provision.cases import CASES, Case

POOLS = ("stratum+tcp://pool.example.com:3333",)
URL = r"stratum2?\+[a-z]+://[^\s\"',\\]+"


@pytest.mark.parametrize(
    ("predicate", "value", "holds"),
    [
        (AtLeast("a.b", 1), {"a": {"b": 1}}, True),
        (AtLeast("a.b", 1), {"a": {"b": 0}}, False),
        (AtLeast("a.b", 1), {"a": 3}, False),
        (AtLeast("a.b", 1), {}, False),
        (Zero("a"), {}, True),
        (Zero("a"), {"a": 1}, False),
        (Never("a.b"), {"a": {"b": False}}, True),
        (Never("a.b"), {}, True),
        (Never("a.b"), {"a": {"b": True}}, False),
        (Empty("a"), {"a": ""}, True),
        (Empty("a"), {"a": "x"}, False),
        (Unlike("name", "(?i)token$"), {"name": "API_TOKEN"}, False),
        (Unlike("name", "(?i)token$"), {"name": "TOKENS"}, True),
        (Without("data"), {"data": {}}, True),
        (Without("data"), {"data": {"a": "b"}}, False),
        (KeysUnlike("data", "^pass"), {"data": {"password": ""}}, False),
        (KeysUnlike("data", "^pass"), {}, True),
        (OnlyListed("v", URL, POOLS), {"v": "x stratum+tcp://pool.example.com:3333 y"}, True),
        (OnlyListed("v", URL, POOLS), {"v": '["stratum+tcp://evil.example.com:3333"]'}, False),
        (
            OnlyListed("m", URL, POOLS, is_mapping=True),
            {"m": {"k": "stratum+ssl://pool.example.com:1"}},
            False,
        ),
        (Every(("a", "b"), Never("x")), {"a": [{}], "b": [{"x": True}]}, False),
        (Every(("a", "b"), Never("x")), {"a": [{}]}, True),
        (Both((Never("a"), Never("b"))), {"b": True}, False),
        (Either((Never("a"), Never("b"))), {"b": True}, True),
    ],
)
def test_a_predicate_reads_what_is_missing_as_empty(
    predicate: Predicate, value: Mapping[str, Any], holds: bool
) -> None:
    assert predicate.holds(value) is holds


def test_a_path_is_plain_names_and_nothing_of_cel() -> None:
    with pytest.raises(ValueError, match="no path of plain names"):
        Never('a["b"]').cel("object")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_table_finds_what_it_is_for(case: Case) -> None:
    assert case.broken() == case.breaks
