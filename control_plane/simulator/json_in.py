"""JSON from a stranger: an object, or nothing."""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def object_in(data: bytes) -> dict[str, Any] | None:
    """The JSON object that the bytes are; `None` for anything else, however deep."""
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
