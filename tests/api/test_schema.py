"""The schemas that editors use: valid themselves, true to the example, and strict about keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from control_plane.api.schema import file_name, schema_of
from control_plane.api.v1alpha1 import DOCUMENTS, Document
from control_plane.inventory.problems import Problems
from control_plane.inventory.text import read_yaml

ROOT = Path(__file__).resolve().parent.parent.parent
INVENTORY = ROOT / "inventory"
KINDS = pytest.mark.parametrize(
    ("pattern", "kind"), DOCUMENTS, ids=[file_name(kind) for _, kind in DOCUMENTS]
)


def value_of(path: Path) -> Any:
    document = read_yaml(str(path), path.read_bytes(), Problems())
    assert document is not None
    return document.value


@KINDS
def test_a_schema_is_valid_by_its_own_dialect(pattern: str, kind: type[Document]) -> None:
    del pattern
    schema = schema_of(kind)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


@KINDS
def test_every_file_of_the_example_is_valid_by_the_schema_that_it_names(
    pattern: str, kind: type[Document]
) -> None:
    paths = list(INVENTORY.glob(pattern))
    assert paths
    for path in paths:
        named = path.read_text(encoding="utf-8").partition("\n")[0].partition("$schema=")[2]
        committed = json.loads((path.parent / named).read_text(encoding="utf-8"))
        assert committed == json.loads(json.dumps(schema_of(kind)))
        assert list(Draft202012Validator(committed).iter_errors(value_of(path))) == []


@KINDS
def test_a_key_that_nobody_knows_is_marked(pattern: str, kind: type[Document]) -> None:
    value = value_of(next(INVENTORY.glob(pattern))) | {"colour": "red"}
    told = [error.message for error in Draft202012Validator(schema_of(kind)).iter_errors(value)]
    assert len(told) == 1
    assert "colour" in told[0]
