"""JSON Schema (2020-12) of the documents, made from their classes."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from control_plane.api.v1alpha1 import API_VERSION, Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def schema_of(kind: type[Document]) -> dict[str, Any]:
    """The schema of one kind of file; for editors, and to enumerate all that is wrong with a file."""
    schema = msgspec.json.schema(kind)
    title = kind.__name__.removesuffix("Doc")
    return {
        "$schema": DIALECT,
        "$id": f"https://gridplane.dev/schema/{API_VERSION.rpartition('/')[2]}/{file_name(kind)}",
        "title": title,
        **schema,
    }


def file_name(kind: type[Document]) -> str:
    """The schema's file: `OwnerDoc` → `owner.json`."""
    name = kind.__name__.removesuffix("Doc")
    dashed = "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")
    return f"{dashed}.json"
