"""What the API server dropped is found, and what it added or left out as empty is not."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.provision.readback import pruned, said_of


@pytest.mark.parametrize(
    ("sent", "kept", "lost"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ()),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ("a.c",)),
        ({"a": {"b": {"c": 1}}}, {}, ("a.b.c",)),
        ({"a": {}}, {}, ()),
        ({"a": None, "b": "", "c": False, "d": 0, "e": []}, {}, ()),
        ({"a": True}, {}, ("a",)),
        ({"a": True}, {"a": False}, ("a",)),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ()),
        ({"a": [1, 2]}, {"a": [1]}, ("a",)),
        ({"a": [{"n": "x", "v": 1}]}, {"a": [{"n": "x"}]}, ("a[0].v",)),
        ({"a": {"b": 1}}, {"a": "text"}, ("a",)),
        ({"a": "text"}, {"a": "other"}, ("a",)),
        ({"a": 1}, {"a": 1.0}, ()),
        ({"a": b"x"}, {"a": b"x"}, ()),
    ],
)
def test_only_what_was_sent_and_is_gone_counts(sent: Any, kept: Any, lost: tuple[str, ...]) -> None:
    assert pruned(sent, kept) == lost


def test_the_sentence_names_the_object_the_fields_and_what_to_do() -> None:
    said = said_of("ClusterPolicy cluster-policy", ["spec.a", "spec.b"])
    assert said.startswith(
        "ClusterPolicy cluster-policy: the API server keeps spec.a, spec.b otherwise"
    )
    assert "upgrade the definition first" in said
